"""YAML text into nodes that know where they stand; the YAML of mappings is YAML 1.2's core schema.

Anchors, aliases, tags and duplicate keys are refused: they make a mapping say something else than
what its reader sees. The text is read event by event with a bound on size and depth, so that no
file can exhaust the stack or the memory.
"""

import re
from collections.abc import Iterator

import yaml
from msgspec import Struct

from gateway.diagnostic import Diagnostic, Span

MAX_BYTES = 1024 * 1024  # A ConfigMap's own limit.
MAX_DEPTH = 64

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


class _Unreadable(Exception):
    def __init__(self, finding: Diagnostic) -> None:
        self.finding = finding


def parse(file: str, text: str) -> tuple[Node | None, list[Diagnostic]]:
    """The document of a file and what is wrong with it as YAML; no node where it cannot be read."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        return None, [Diagnostic(Span(file), "too-large", "the file is larger than 1 MiB")]
    reader = _Reader(file, text)
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
    except (ValueError, OverflowError) as error:
        # PyYAML lets what int() and chr() say of hostile escapes through as it is.
        return None, [*reader.findings, Diagnostic(Span(file), "yaml-syntax", str(error))]


class _Reader:
    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.lines = text.split("\n")
        self.findings: list[Diagnostic] = []
        # The pure-Python loader: libyaml's crashes the process on deep nesting.
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)

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
                self._finding(following, "several-documents", "a file holds one document only")
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
                self._finding(event, "tag-not-allowed", message, "quote the value to make it text")
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
                self.findings.append(Diagnostic(key.span, "wrong-type", "a key must be a word"))
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
        if any("\ud800" <= char <= "\udfff" for char in event.value):
            self.findings.append(self._finding(event, "yaml-syntax", "half a surrogate pair"))
        plain = event.style is None and not event.tag
        value = _core_schema(event.value) if plain else event.value
        return Scalar(value, span, self._starts(event) if isinstance(value, str) else ())

    def _starts(self, event: yaml.ScalarEvent) -> tuple[tuple[int, int], ...]:
        """The place of each character, or nothing where escapes or folding leave it unclear."""
        first, last = _marks(event)
        quoted = event.style in ("'", '"')
        if event.style is not None and not quoted:
            return self._block_starts(event)
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
                part = part.rstrip(" \t\r")
            found.append(part)
            places += [(number + 1, start + index + 1) for index in range(len(part))]
        return tuple(places) if "".join(found) == event.value else ()

    def _block_starts(self, event: yaml.ScalarEvent) -> tuple[tuple[int, int], ...]:
        places: list[tuple[int, int]] = []
        found: list[str] = []
        first, last = _marks(event)
        body = self.lines[first.line + 1 : last.line + 1]
        lines = event.value.rstrip("\n").split("\n") if event.style == "|" else []
        for offset, (line, text) in enumerate(zip(body, lines, strict=False)):
            indent = line.find(text) if text else 0
            number = first.line + 2 + offset
            places += [(number, indent + index + 1) for index in range(len(text) + 1)]
            found.append(text)
        return tuple(places) if lines and found == lines else ()

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
        return Diagnostic(span, "yaml-syntax", error.problem or "not YAML", error.context or "")


def _marks(event: yaml.Event) -> tuple[yaml.Mark, yaml.Mark]:
    """Where an event starts and ends; the stubs call both optional, the pure-Python loader sets both."""
    start, end = event.start_mark, event.end_mark
    if not isinstance(start, yaml.Mark) or not isinstance(end, yaml.Mark):
        raise TypeError("the YAML reader gave an event without a place")
    return start, end


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
