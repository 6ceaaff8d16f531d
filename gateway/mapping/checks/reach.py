"""The check of what a mapping reads against deliveries that its source is known to send."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.mapping import samples
from gateway.mapping.checks.view import Findings, MappingView, warning
from gateway.mapping.reads import Mention, Place
from gateway.mapping.samples import Path

Node = Mapping[str, Any]


def not_in_samples(view: MappingView) -> Findings:
    """An expression reads a name that no sample has, though some have what it would be part of. It is
    often misspelt; a fallback beside it would hide that for ever.

    Samples are the payloads and headers of the cases beside a mapping, and those given by `--samples`.
    A mapping that extends another and has no cases of its own is held against those of the other. Where
    the sender does send the name at times, add a case that shows it.
    """
    own = view.places.span().file
    for path, place in view.reads.walk():
        if len(path) < 2 or path[0] not in ("body", "headers") or path[-1] == samples.ITEM:
            continue
        parents = list(samples.values(view.samples, path[:-1]))
        if not any(isinstance(one, dict) for one in parents) or any(
            isinstance(one, dict) and path[-1] in one for one in parents
        ):
            continue
        for mention in sorted(place.mentions, key=lambda one: one.offset):
            # What is inherited is reported where it comes from.
            if view.places.span(*mention.where).file == own:
                yield from _missing(view, path, place, mention)


def _missing(view: MappingView, path: Path, place: Place, mention: Mention) -> Findings:
    text = view.expressions[mention.where].text
    missing, (whole, end) = len(path) - 1, _continued(text, path, place, mention)
    shown = samples.text(whole)
    written = _written(text, mention.offset, end)
    if written != shown:
        shown = f"{written}` (`{shown}`)" if written else f"{shown}`"
    else:
        shown += "`"
    known = [one for one in view.samples if path[0] in one.scope]
    noun = "sample" if len(known) == 1 else "samples"
    message = f"`{shown} resolved in 0 of {len(known)} {noun}"
    expression = view.expressions[mention.where]
    if _has_fallback(expression.tree, mention.offset):
        message += ", and the fallback hides it"
    nearest = samples.nearest(known, whole, missing)
    mend = "if it is sent at times, add a case that shows it"
    if nearest is not None:
        mend = f"nearest: `{samples.text(nearest)}`; {mend}"
    width = len(_name_at(text, mention.offset))
    span = view.places.within(mention.where, mention.offset, width)
    yield warning(not_in_samples, span, message, mend)


_NAME = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z_][A-Za-z0-9_]*')
_READING_ON = re.compile(r"(?:\s*\[[\d*:-]*\])*\s*\.\s*")
_READ_BEFORE = re.compile(r'(?:(?:"(?:[^"\\]|\\.)*"|[A-Za-z_]\w*)(?:\[[\d*:-]*\])*\.)*$')


def _name_at(text: str, offset: int) -> str:
    found = _NAME.match(text, offset)
    return found[0] if found else ""


def _continued(text: str, path: Path, place: Place, mention: Mention) -> tuple[Path, int]:
    """The path that is read from a mention on, and where it ends in the text."""
    end = mention.offset + len(_name_at(text, mention.offset))
    further = _READING_ON.match(text, end)
    if further:
        for more, below in place.walk():
            for other in below.mentions:
                at_once = other.where == mention.where and other.offset == further.end()
                if at_once and not any(name != samples.ITEM for name in more[:-1]):
                    return _continued(text, (*path, *more), below, other)
    return path, end


def _written(text: str, offset: int, end: int) -> str:
    """The path up to `end` as the expression writes it."""
    before = _READ_BEFORE.search(text, 0, offset)
    return text[before.start() : end] if before else ""


def _has_fallback(node: Any, offset: int) -> bool:
    """Whether something else is taken where the name at an offset finds nothing."""
    if not isinstance(node, Mapping):
        return False
    children = node["children"]
    is_choice = node["type"] == "or_expression" or node.get("value") == "not_null"
    if is_choice and any(offset in _ends(child) for child in children[:-1]):
        return True
    return any(_has_fallback(child, offset) for child in children)


def _ends(node: Node) -> Iterator[int]:
    """Where the names stand that decide what an expression finds."""
    children = node["children"]
    match node["type"]:
        case "field":
            yield node["start"]
        case "subexpression" | "index_expression" | "pipe" | "or_expression":
            for child in children:
                yield from _ends(child)


CHECKS = (not_in_samples,)
