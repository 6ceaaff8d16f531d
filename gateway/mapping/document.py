"""YAML text into nodes that know where they stand; the YAML of mappings is YAML 1.2's core schema.

Anchors, aliases, tags and duplicate keys are refused: they make a mapping say something else than
what its reader sees. The text is read event by event with a bound on size and depth, so that no
file can exhaust the stack or the memory.
"""

import contextlib
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import repeat
from typing import Any

import yaml
from msgspec import Struct

from gateway.diagnostic import Diagnostic, Span

MAX_BYTES = 1024 * 1024  # A ConfigMap's own limit.
MAX_DEPTH = 64
REMEMBERED = 8 * 1024
"""Characters; a longer text is read anew each time, because its nodes fill much memory."""

Plain = None | bool | int | float | str


class Scalar(Struct, frozen=True):
    """`value` after YAML 1.2's core schema; `starts` holds the place of each character of the text
    where that is known, so that a column inside an expression can be named."""

    value: Plain
    span: Span
    starts: tuple[tuple[int, int], ...] = ()


class Sequence(Struct, frozen=True):
    items: tuple["Node", ...]
    span: Span


class Table(Struct, frozen=True):
    """A YAML mapping; called a table because "mapping" means something else here."""

    entries: tuple[tuple[Scalar, "Node"], ...]
    span: Span

    def get(self, key: str) -> "Node | None":
        return next((node for name, node in self.entries if name.value == key), None)


Node = Scalar | Sequence | Table


_FAST: Any = getattr(yaml, "CSafeLoader", None)
"""The reader of libyaml, where PyYAML was built with it: thirty times faster than the one in Python. It
is only asked for events, never to build documents, where it would crash on deep nesting."""


class _Unreadable(Exception):
    def __init__(self, finding: Diagnostic) -> None:
        self.finding = finding


def parse(file: str, text: str) -> tuple[Node | None, list[Diagnostic]]:
    """The document of a file and what is wrong with it as YAML; no node where it cannot be read."""
    if len(text) > REMEMBERED:
        return _parsed(file, text)
    node, findings = _remembered(file, text)
    return node, list(findings)


def _parsed(file: str, text: str) -> tuple[Node | None, list[Diagnostic]]:
    if len(text.encode(errors="replace")) > MAX_BYTES:
        mend = "a ConfigMap takes no more either; split the file"
        return None, [Diagnostic(Span(file), "too-large", "the file is larger than 1 MiB", mend)]
    # It takes tabs where the other, and YAML's words for them, do not.
    if _FAST is not None and "\t" not in text:
        fast = _Reader(file, text, _FAST)
        # What it finds fault with, in whatever way, the other reader words.
        with contextlib.suppress(_Unreadable, yaml.YAMLError, ValueError, OverflowError):
            node = fast.document()
            if not fast.findings:
                return node, []
    reader = _Reader(file, text, yaml.SafeLoader)
    try:
        return reader.document(), reader.findings
    except _Unreadable as error:
        return None, [*reader.findings, error.finding]
    except yaml.MarkedYAMLError as error:
        return None, [*reader.findings, reader.syntax_error(error)]
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        message = f"the character U+{ord(text[error.position]):04X} is not allowed in YAML"
        return None, [
            *reader.findings,
            Diagnostic(Span(file, line, column), "yaml-syntax", message),
        ]
    except (ValueError, OverflowError):
        # PyYAML lets what chr() says of an escape such as "\UFFFFFFFF" through as it is.
        message = "an escape in a quoted text stands for no character"
        return None, [*reader.findings, Diagnostic(Span(file), "yaml-syntax", message)]


# A reload changes few files of many, and reading YAML is half of what it costs.
_remembered = lru_cache(maxsize=256)(_parsed)


class _Reader:
    def __init__(self, file: str, text: str, loader: Any) -> None:
        self.file = file
        self.lines = _LINE_BREAK.split(text)
        self.findings: list[Diagnostic] = []
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=loader)

    def document(self) -> Node:
        next(self.events)
        if isinstance(next(self.events), yaml.StreamEndEvent):
            raise _Unreadable(
                Diagnostic(Span(self.file), "empty-document", "the file holds no document")
            )
        node = self._node(next(self.events), 0)
        next(self.events)
        following = next(self.events)
        if not isinstance(following, yaml.StreamEndEvent):
            raise _Unreadable(
                self._finding(
                    following,
                    "several-documents",
                    "a file holds one document only",
                    "move what follows to a file of its own",
                )
            )
        return node

    def _node(self, event: yaml.Event, depth: int) -> Node:
        if depth > MAX_DEPTH:
            message = f"nested deeper than {MAX_DEPTH} levels"
            raise _Unreadable(self._finding(event, "too-deep", message))
        if isinstance(event, yaml.AliasEvent):
            message = f"the alias `*{event.anchor}` is not allowed"
            raise _Unreadable(
                self._finding(event, "anchor-not-allowed", message, "write the value out")
            )
        self._refuse_decorations(event)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, depth)
        return self._table(event, depth)

    def _refuse_decorations(self, event: yaml.Event) -> None:
        anchor = getattr(event, "anchor", None)
        if anchor:
            message = f"the anchor `&{anchor}` is not allowed"
            self.findings.append(
                self._finding(event, "anchor-not-allowed", message, "write the value out")
            )
        tag = getattr(event, "tag", None)
        if tag:
            message = f"the tag `{tag.replace('tag:yaml.org,2002:', '!!')}` is not allowed"
            self.findings.append(
                self._finding(
                    event, "tag-not-allowed", message, "quote the whole value to make it text"
                )
            )

    def _sequence(self, start: yaml.Event, depth: int) -> Sequence:
        items = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return Sequence(tuple(items), self._span(start))

    def _table(self, start: yaml.Event, depth: int) -> Table:
        entries: list[tuple[Scalar, Node]] = []
        seen: dict[Plain, Span] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self.events), depth + 1)
            if not isinstance(key, Scalar):
                mend = "quote the whole value where it is meant as text"
                self.findings.append(
                    Diagnostic(key.span, "wrong-type", "a key must be a word", mend)
                )
            elif key.value in seen:
                message = f"`{key.value}` is already set in line {seen[key.value].line}"
                self.findings.append(
                    Diagnostic(key.span, "duplicate-key", message, "keep one of the two")
                )
            else:
                seen[key.value] = key.span
                entries.append((key, value))
        return Table(tuple(entries), self._span(start))

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        span = self._span(event)
        text = event.value
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            self.findings.append(self._finding(event, "yaml-syntax", "half a surrogate pair"))
            # Nothing that is shown may hold one: it could not be printed.
            text = text.encode(errors="replace").decode()
        # No style is None to one reader and empty to the other.
        plain = not event.style and not event.tag
        value = _core_schema(text) if plain else text
        if event.tag and event.tag.startswith("!"):
            # What YAML takes for a tag was meant as text: `!body.draft`.
            value = f"{event.tag} {text}".strip()
        return Scalar(value, span, self._starts(event) if isinstance(value, str) else ())

    def _starts(self, event: yaml.ScalarEvent) -> tuple[tuple[int, int], ...]:
        """The place of each character, or nothing where escapes or folding leave it unclear."""
        if event.style in ("|", ">"):
            return self._block_starts(event)
        first, last = _marks(event)
        quoted = event.style in ("'", '"')
        if first.line == last.line:
            start = first.column + quoted
            if self.lines[first.line][start : last.column - quoted] == event.value:
                # As nearly all texts are: in one line, and written as they are meant.
                columns = range(start + 1, start + 1 + len(event.value))
                return tuple(zip(repeat(first.line + 1), columns, strict=False))
        written = _WRITTEN.get(event.style or "", _ANY)
        places: list[tuple[int, int]] = []
        found: list[str] = []
        for number in range(first.line, last.line + 1):
            line = self.lines[number]
            start = first.column + quoted if number == first.line else 0
            end = last.column - quoted if number == last.line else len(line)
            part = line[start:end]
            if number != first.line:
                start += len(part) - len(part.lstrip(" \t"))
                part = part.lstrip(" \t")
                # A line break folds into one space; its place is the end of the line before.
                places.append((number, len(self.lines[number - 1]) + 1))
                found.append(" ")
            if number != last.line:
                part = part.rstrip(" \t")
            for char in written.finditer(part):
                found.append(char[0][-1])
                places.append((number + 1, start + char.start() + 1))
        return tuple(places) if "".join(found) == event.value else ()

    def _block_starts(self, event: yaml.ScalarEvent) -> tuple[tuple[int, int], ...]:
        """The same for a block; blank lines within a folded one leave it unclear."""
        first, last = _marks(event)
        value = event.value.rstrip("\n")
        places: list[tuple[int, int]] = []
        found = before = ""
        indent = -1
        for number in range(first.line + 1, last.line + 1):
            line = self.lines[number]
            if indent < 0 and line.strip():
                indent = len(line) - len(line.lstrip(" "))
            text = line[max(indent, 0) :]
            if number > first.line + 1:
                folds = event.style == ">" and not (before + " ")[0].isspace()
                found += " " if folds and not (text + " ")[0].isspace() else "\n"
                places.append((number, indent + len(before) + 1))
            found += text
            places += [(number + 1, indent + index + 1) for index in range(len(text))]
            before = text
            if len(found) >= len(value):
                break
        return tuple(places) if found == value else ()

    def _span(self, event: yaml.Event) -> Span:
        start, end = _marks(event)
        width = end.column - start.column if start.line == end.line else 0
        if start.line != end.line and isinstance(event, yaml.ScalarEvent):
            width = len(self.lines[start.line].rstrip()) - start.column
        return Span(self.file, start.line + 1, start.column + 1, max(1, width))

    def _finding(self, event: yaml.Event, name: str, message: str, mend: str = "") -> Diagnostic:
        return Diagnostic(self._span(event), name, message, mend)

    def syntax_error(self, error: yaml.MarkedYAMLError) -> Diagnostic:
        mark = error.problem_mark or error.context_mark
        span = Span(self.file, mark.line + 1, mark.column + 1) if mark else Span(self.file)
        message, mend = _explained(error.problem or "not YAML", error.context or "")
        if mark and error.context_mark and "unexpected end of stream" in message:
            # An unclosed quote is found at the end of the file; it is where it opens that matters.
            opening = error.context_mark
            span = Span(self.file, opening.line + 1, opening.column + 1)
            message = "the quote is never closed"
        return Diagnostic(span, "yaml-syntax", message, mend)


_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What PyYAML ends a line at; its line numbers count them."""
_ANY = re.compile(".", re.DOTALL)
_WRITTEN = {
    "'": re.compile("''|."),
    '"': re.compile(r'\\["\\/]|.'),
}
"""What stands for one character between quotes; its last character is the one meant."""

_QUOTE = "quote the whole value, or write it as a block after `>-`"
_EXPLANATIONS = (
    (
        "mapping values are not allowed here",
        "a `:` where no key can stand",
        "end each key with `:`, indent alike, and write a value that holds `: ` after `>-`",
    ),
    ("could not find expected ':'", "a key without `:`", ""),
    ("character '\\t'", "a tab where spaces must stand", "YAML is indented by spaces"),
    ("character '`'", "a value cannot begin with a backtick", _QUOTE),
    ("character '@'", "a value cannot begin with `@`", _QUOTE),
    ("character '%'", "a value cannot begin with `%`", _QUOTE),
    ("scanning an anchor", "`&` names an anchor here", _QUOTE),
    ("scanning an alias", "`*` names an alias here", _QUOTE),
    ("scanning a tag", "`!` names a tag here", _QUOTE),
    ("scanning a block scalar", "`|` and `>` begin a block of text here", _QUOTE),
    (
        "unknown escape",
        "an escape that does not exist",
        "double the backslash, or use single quotes",
    ),
    ("found '<scalar>'", "text behind a quoted value", _QUOTE),
    ("found '}'", "the `}` closes nothing", ""),
    ("found ']'", "the `]` closes nothing", ""),
    ("expected <block end>", "this does not line up with the lines above", "indent it like them"),
    ("expected ',' or", "the `[` or `{` before this is not closed", ""),
)
"""For what PyYAML says: the same in an author's words, and the mend."""


def _explained(problem: str, context: str) -> tuple[str, str]:
    said = f"{problem}, {context}" if context else problem
    for words, message, mend in _EXPLANATIONS:
        if words in said:
            return message, mend
    return said, ""


def _marks(event: yaml.Event) -> tuple[Any, Any]:
    """Where an event starts and ends, with `line` and `column` from 0; each reader has its own class."""
    return event.start_mark, event.end_mark


_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def _core_schema(text: str) -> Plain:
    """A plain scalar after YAML 1.2: `on`, `12:30` and dates are text, `010` is ten."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if len(text) > 40:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
