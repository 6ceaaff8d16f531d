"""The mappings, models, cases and tables of apps that stand as examples in a Markdown page, each at its lines."""

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from gateway.diagnostic import Diagnostic, Span

MAX_FENCES = 100
"""Examples of one page; each may need a compilation of its own."""

_FENCE = re.compile(r"(?P<indent>[ ]*)(?P<mark>`{3,}|~{3,})(?P<info>[^`]*)")
_MARKER = re.compile(r"\s*<!--\s*check:\s*(?P<switch>on|off)\s*-->\s*")
_BEGINNING = re.compile(
    r"(?:[ \t]*(?:#.*|---[ \t]*)?\n)*(?P<indent>[ ]*)(?P<key>source|kind|extends|apps):"
)
_LANGUAGES = ("yaml", "yml")


class Fence(Struct, frozen=True):
    """An example. `name` is the page and the line of its first line; `text` has as many empty lines
    before it, so that its places are those of the page. `what` is `source`, `kind`, `cases` or
    `apps`, and `key` the source or kind that it describes."""

    name: str
    text: str
    what: str
    key: str


def fences(page: str, text: str) -> tuple[list[Fence], list[Diagnostic]]:
    """The examples of a page that are mappings, models, cases or tables of apps: those that begin with
    their key.

    Nothing is read between `<!-- check: off -->` and `<!-- check: on -->`, or the end of the page.
    """
    found: list[Fence] = []
    for line, written in _yaml(text):
        fence = _example(page, line, written)
        if fence is None:
            continue
        if len(found) == MAX_FENCES:
            message = f"the page has more than {MAX_FENCES} examples"
            return found, [Diagnostic(Span(page, line), "too-large", message, "split the page")]
        found.append(fence)
    return found, []


def editions(found: Sequence[Fence]) -> Iterator[list[Fence]]:
    """The examples in sets of which none describes a source or kind twice: a page may show a mapping,
    and then how it goes on. A set holds the latest of what it does not show anew."""
    shown: dict[tuple[str, str], list[Fence]] = {}
    for fence in found:
        shown.setdefault((fence.what, fence.key), []).append(fence)
    for number in range(max(map(len, shown.values()), default=0)):
        yield [of_one[min(number, len(of_one) - 1)] for of_one in shown.values()]


def _yaml(text: str) -> Iterator[tuple[int, str]]:
    """The YAML of each fence, with the number of the line where it begins."""
    is_on, mark, first, lines = True, "", 0, list[str]()
    is_yaml = False
    for number, line in enumerate(text.split("\n"), start=1):
        if mark:
            closing = line.strip()
            if set(closing) == {mark[0]} and len(closing) >= len(mark):
                if is_yaml:
                    yield first, "\n".join([*lines, ""])
                mark = ""
            else:
                lines.append(line.rstrip("\r"))
            continue
        marker, opening = _MARKER.fullmatch(line), _FENCE.fullmatch(line.rstrip())
        if marker:
            is_on = marker["switch"] == "on"
        elif opening:
            mark, first, lines = opening["mark"], number + 1, []
            words = opening["info"].split()
            is_yaml = is_on and bool(words) and words[0].lower() in _LANGUAGES
    if mark and is_yaml:
        yield first, "\n".join([*lines, ""])


def _example(page: str, line: int, text: str) -> Fence | None:
    beginning = _BEGINNING.match(text)
    if beginning is None or _key("apiVersion", beginning["indent"], text) is not None:
        # Kubernetes calls its documents kinds as well.
        return None
    source, kind = (_key(key, beginning["indent"], text) for key in ("source", "kind"))
    what = "source" if source is not None else "kind"
    if _key("cases", beginning["indent"], text) is not None:
        what = "cases"
    if beginning["key"] == "apps":
        what = "apps"
    return Fence(f"{page}:{line}", "\n" * (line - 1) + text, what, source or kind or "")


def _key(key: str, indent: str, text: str) -> str | None:
    """What stands behind a key of the top level, or None where there is no such key."""
    found = re.search(rf"^{indent}{key}:[ \t]*[\"']?([\w-]*)", text, re.MULTILINE)
    return found[1] if found else None
