"""The expectation of a case written anew in its file, everything else byte for byte. Pure.

As little as possible is replaced: a value where only that differs, an event where it has other fields,
the whole expectation where nothing of it remains. So comments and style stay wherever their subject does.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml
from msgspec import UNSET, Struct

from gateway.authoring import cases, writer
from gateway.authoring.cases import Case, CaseFile, Expectation
from gateway.mapping import document, shape

_KEY = "expect"
_SERIES = "series"
_WIDTH = 100


class CannotRevise(Exception):
    """The text cannot be changed in place, and was not."""


class _Series(str):
    """The text of series, which is written as its lines."""

    __slots__ = ()


class _Edit(Struct, frozen=True, order=True):
    """Characters to replace, by their offsets in the text."""

    start: int
    end: int
    text: str


class _Spot(Struct, frozen=True):
    """Where a value stands: the column of its key, and whether within braces or brackets."""

    column: int
    in_flow: bool


def revised(file: str, text: str, index: int, wanted: Expectation) -> str:
    """The text of a case file in which the case of this number expects something else; it reads back
    as that, and all other cases as before. Raises CannotRevise."""
    node, _ = document.parse(file, text)
    root = _composed(text)
    if node is None or root is None:
        raise CannotRevise(f"{file} cannot be read; write the expectation by hand")
    case = _value(_value(root, "cases"), index)
    current = shape.plain(node)["cases"][index].get(_KEY, UNSET)
    members = _members(wanted)
    if current is UNSET:
        edits = [_inserted(text, case, members)]
    else:
        spot = _Spot(case.start_mark.column, _is_flow(case))
        edits = list(_edits(text, _value(case, _KEY), current, members, spot))
    newline = "\r\n" if "\r\n" in text else "\n"
    result = text
    for edit in sorted(edits, reverse=True):
        written = edit.text.replace("\n", newline)
        result = result[: edit.start] + written + result[edit.end :]
    if not _says(file, text, result, index, wanted):
        message = "the expectation cannot be written in place; write it by hand"
        raise CannotRevise(f"{file}:{case.start_mark.line + 1}: {message}")
    return result


def _composed(text: str) -> yaml.Node | None:
    """The nodes of a text with their places; None where PyYAML's own reader does not take what
    libyaml, which mappings are read with where it is there, does."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return None


def _says(file: str, before: str, after: str, index: int, wanted: Expectation) -> bool:
    """Whether the new text says what it should, and nothing else."""
    was, _ = cases.read(file, before)
    now, _ = cases.read(file, after)
    if was is None or now is None:
        return False
    expected = list(was.cases)
    expected[index] = msgspec.structs.replace(expected[index], expect=wanted)
    return _comparable(now) == _comparable(msgspec.structs.replace(was, cases=expected))


def _comparable(file: CaseFile) -> list[Case]:
    return [
        msgspec.structs.replace(case, expect=case.expect.comparable())
        if isinstance(case.expect, Expectation)
        else case
        for case in file.cases
    ]


def _members(wanted: Expectation) -> dict[str, Any]:
    members: dict[str, Any] = {"outcome": wanted.outcome}
    if wanted.events:
        members["events"] = wanted.events
    if wanted.fields:
        members["fields"] = wanted.fields
    if isinstance(wanted.series, str):
        members[_SERIES] = _Series(wanted.series)
    return members


# Where to change what


def _edits(text: str, node: yaml.Node, current: Any, wanted: Any, spot: _Spot) -> Iterator[_Edit]:
    """What makes a part of an expectation say something else."""
    if (isinstance(wanted, _Series) and _lines(current) == _lines(wanted)) or current == wanted:
        return
    inner = spot.in_flow or _is_flow(node)
    match node, current, wanted:
        case yaml.MappingNode(), dict(), dict() if current.keys() == wanted.keys():
            for key, child in node.value:
                below = _Spot(key.start_mark.column, inner)
                yield from _edits(text, child, current[key.value], wanted[key.value], below)
        case yaml.SequenceNode(), list(), list() if len(current) == len(wanted):
            for child, was, value in zip(node.value, current, wanted, strict=True):
                below = _Spot(node.start_mark.column, inner)
                yield from _edits(text, child, was, value, below)
        case _:
            yield _whole(text, node, wanted, spot)


def _whole(text: str, node: yaml.Node, wanted: Any, spot: _Spot) -> _Edit:
    start, end = node.start_mark.index, _end(text, node)
    if isinstance(node, yaml.CollectionNode) and not _is_flow(node):
        return _Edit(start, end, _indented(_block(wanted), node.start_mark.column))
    room = _WIDTH - node.start_mark.column
    is_scalar = not isinstance(wanted, dict | list | _Series)
    if spot.in_flow or is_scalar or _is_short(wanted, room):
        # Nothing stands behind a colon where the value is null.
        gap = " " if start == end else ""
        return _Edit(start, end, gap + _flow(wanted))
    if isinstance(wanted, _Series):
        return _Edit(start, end, _indented(_literal(wanted), spot.column))
    # From one line to several: a comment behind the one stays behind the key.
    comment = re.compile(r"[ \t]*(#[^\r\n]*)?").match(text, end)
    said = f"  {comment[1]}" if comment and comment[1] else ""
    start -= len(text[:start]) - len(text[:start].rstrip(" \t"))
    column = spot.column + 2
    lines = _indented(["", *_block(wanted)], column)
    return _Edit(start, comment.end() if comment else end, said + lines)


def _inserted(text: str, case: yaml.Node, wanted: Any) -> _Edit:
    """The expectation behind all that a case says."""
    end = _end(text, case.value[-1][1])
    if _is_flow(case):
        return _Edit(end, end, f", {_KEY}: {_flow(wanted)}")
    line = re.compile(r"[^\r\n]*").match(text, end)
    end = line.end() if line else end
    column = case.start_mark.column
    if _is_short(wanted, _WIDTH - column):
        return _Edit(end, end, _indented(["", f"{_KEY}: {_flow(wanted)}"], column))
    lines = ["", f"{_KEY}:", *(f"  {line}" for line in _block(wanted))]
    return _Edit(end, end, _indented(lines, column))


def _value(node: yaml.Node, key: str | int) -> yaml.Node:
    if isinstance(node, yaml.MappingNode):
        found: yaml.Node = next(value for name, value in node.value if name.value == key)
    else:
        found = node.value[key]
    return found


def _is_flow(node: yaml.Node) -> bool:
    return isinstance(node, yaml.CollectionNode) and node.flow_style is True


def _end(text: str, node: yaml.Node) -> int:
    """Where the last character of a node stands; what YAML calls the end of a block is the beginning
    of what follows."""
    if isinstance(node, yaml.CollectionNode) and node.value and not _is_flow(node):
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    end: int = node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return len(text[:end].rstrip())
    return end


def _lines(series: Any) -> list[str]:
    return [line.strip() for line in str(series).splitlines() if line.strip()]


# Values as text


def _is_short(value: Any, room: int) -> bool:
    """Whether a value reads well on one line: no events, and within the width."""
    members = list(value.values()) if isinstance(value, dict) else [value]
    nested = any(isinstance(item, dict) for one in members if isinstance(one, list) for item in one)
    several = any(isinstance(one, _Series) and "\n" in one for one in members)
    return not nested and not several and len(_flow(value)) < room


def _block(value: Any) -> list[str]:
    """A table or a list of tables in lines."""
    if isinstance(value, list):
        return [line for one in value for line in _item(one)]
    lines = []
    for name, member in value.items():
        head = f"{_scalar(name)}:"
        if isinstance(member, list) and any(isinstance(one, dict) for one in member):
            lines += [head, *(f"  {line}" for line in _block(member))]
        elif isinstance(member, _Series) and member:
            first, *rest = _literal(member)
            lines += [f"{head} {first}", *rest]
        else:
            lines.append(f"{head} {_flow(member)}")
    return lines


def _item(value: Any) -> list[str]:
    if not isinstance(value, dict):
        return [f"- {_flow(value)}"]
    first, *rest = _block(value)
    return [f"- {first}", *(f"  {line}" for line in rest)]


def _literal(value: str) -> list[str]:
    return ["|", *(f"  {line}" for line in value.splitlines())]


def _indented(lines: list[str], column: int) -> str:
    """The lines, all but the first moved to a column."""
    return ("\n" + " " * column).join(lines)


def _flow(value: Any) -> str:
    match value:
        case dict():
            members = (f"{_scalar(name)}: {_flow(member)}" for name, member in value.items())
            return "{" + ", ".join(members) + "}"
        case list():
            return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """A value in a form that every reader takes for the same, between braces too."""
    form = writer.scalar(value)
    within = f"[{form}, {{k: {form}}}]"
    read, findings = document.parse("", within)
    if findings or read is None or shape.plain(read) != [value, {"k": value}]:
        return _quoted(value)
    return form if _composed(within) is not None else _quoted(value)


def _quoted(value: Any) -> str:
    doubled = str(value).replace("'", "''")
    return f"'{doubled}'"
