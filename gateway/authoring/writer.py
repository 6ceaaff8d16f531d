"""Nodes as YAML text again, readable, with a note behind each line; what is written reads back the same.

Plain, quoted or block is not decided by rules of YAML: a form is taken where the reader of mappings
gets the same value out of it, and YAML 1.1, which other tools read, does too.
"""

from collections.abc import Callable, Iterator

import yaml
from msgspec import Struct

from gateway.diagnostic import Span
from gateway.mapping import document
from gateway.mapping.document import Node, Plain, Scalar, Sequence, Table

Path = tuple[str | int, ...]
Note = Callable[[Path, Span], str]
"""What to say of the part at a path, given the place where it was written."""

_WIDTH = 88
_NOTES_AT_MOST = 72
"""Notes stand in one column behind lines up to this long; those of longer lines follow directly."""


class _Line(Struct, frozen=True):
    text: str
    note: str = ""


def write(node: Table, note: Note) -> str:
    """The table as a YAML document that ends with a newline."""
    lines = list(_table(node, (), "", note))
    lengths = [len(line.text) for line in lines if line.note]
    column = max((length for length in lengths if length <= _NOTES_AT_MOST), default=0)
    return "".join(
        (f"{line.text:<{column}}  # {_printable(line.note)}" if line.note else line.text) + "\n"
        for line in lines
    )


def scalar(value: Plain) -> str:
    """A value, in the plainest form that reads back the same."""
    return _written(value, _VALUE)


class _Context(Struct, frozen=True):
    """A document with room for one form, and where in it the form is read back."""

    document: str
    find: Callable[[Table], Node]


_VALUE = _Context("k: {}\n", lambda read: read.entries[0][1])
_KEY = _Context("{}: x\n", lambda read: read.entries[0][0])
_ITEM = _Context(
    "k: [{}]\n",
    lambda read: (
        items.items[0]
        if isinstance(items := read.entries[0][1], Sequence) and len(items.items) == 1
        else items
    ),
)


def _written(value: Plain, context: _Context) -> str:
    if not isinstance(value, str):
        return _other(value)
    if _is_text(value) and _reads_as(value, value, context):
        return value
    escaped = "".join(map(_escaped, value))
    single = value.replace("'", "''")
    if escaped != value and _reads_as(f"'{single}'", value, context):
        return f"'{single}'"
    return f'"{escaped}"'


def _table(node: Table, path: Path, indent: str, note: Note) -> Iterator[_Line]:
    for key, value in node.entries:
        head = f"{indent}{_written(key.value, _KEY)}:"
        yield from _entry(head, value, (*path, str(key.value)), key.span, indent, note)


def _entry(
    head: str, value: Node, path: Path, place: Span, indent: str, note: Note
) -> Iterator[_Line]:
    """A value behind its key or its hyphen."""
    said = note(path, place)
    match value:
        case Table(entries=()):
            yield _Line(f"{head} {{}}", said)
        case Table():
            yield _Line(head, said)
            yield from _table(value, path, indent + "  ", note)
        case Sequence() if flow := _flow(value, len(head)):
            yield _Line(f"{head} {flow}", said)
        case Sequence():
            yield _Line(head, said)
            for index, item in enumerate(value.items):
                if index and isinstance(item, Table):
                    yield _Line("")
                yield from _item(item, (*path, index), indent + "  ", note)
        case Scalar():
            header, *block = _block(value) or [scalar(value.value)]
            yield _Line(f"{head} {header}", said)
            for line in block:
                yield _Line(f"{indent}  {line}" if line else "")


def _item(item: Node, path: Path, indent: str, note: Note) -> Iterator[_Line]:
    if isinstance(item, Table) and item.entries:
        first, *others = _table(item, path, indent + "  ", note)
        yield _Line(f"{indent}- {first.text.lstrip(' ')}", first.note)
        yield from others
    else:
        yield from _entry(f"{indent}-", item, path, item.span, indent, note)


def _flow(node: Sequence, before: int) -> str:
    """A short list in brackets, where its items were written in one line; empty where it is none."""
    if not node.items:
        return "[]"
    values = [item.value for item in node.items if isinstance(item, Scalar)]
    lines = {item.span.line for item in node.items}
    if len(values) < len(node.items) or len(lines) > 1:
        return ""
    text = "[" + ", ".join(_written(value, _ITEM) for value in values) + "]"
    return text if before + len(text) < _WIDTH else ""


def _block(node: Scalar) -> list[str]:
    """A text of several lines as its author broke it: the block's header and lines, none where the
    text is one line or no block holds it."""
    value = node.value
    if not isinstance(value, str):
        return []
    forms = [
        *((header, _as_broken(node, value)) for header in (">-", ">")),
        *((header, value.removesuffix("\n").split("\n")) for header in ("|-", "|")),
    ]
    for header, lines in forms:
        if len(lines) > 1 and _reads_as("\n  ".join([header, *lines]), value, _VALUE):
            return [header, *lines]
    return []


def _as_broken(node: Scalar, value: str) -> list[str]:
    """The lines that a text was written in; a break stands for a space or for itself."""
    lines = [""]
    before = 0
    for char, (line, _) in zip(value, node.starts, strict=False):
        if before and line > before:
            # The last character before the break is the one that the break stands for.
            lines[-1] = lines[-1][:-1]
            lines.append("")
        lines[-1] += char
        before = line
    return lines


def _reads_as(form: str, value: str, context: _Context) -> bool:
    # A line separator, or what turns the direction of a line, is shown as what it is.
    if not form.replace("\n", "").isprintable():
        return False
    read, findings = document.parse("", context.document.replace("{}", form))
    if findings or not isinstance(read, Table) or len(read.entries) != 1:
        return False
    found = context.find(read)
    return isinstance(found, Scalar) and found.value == value


_RESOLVER = yaml.resolver.Resolver()


def _is_text(form: str) -> bool:
    """Whether a plain form is text in YAML 1.1 too, where `on` and `12:30` are not."""
    tag = _RESOLVER.resolve(yaml.ScalarNode, form, (True, False))  # type: ignore[no-untyped-call]  # The stubs of PyYAML do not annotate it.
    return bool(tag == "tag:yaml.org,2002:str")


def _other(value: Plain) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    # An exponent too large is how a file says infinity: the core schema's own word is text here.
    return repr(value).replace("inf", "1e999")


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    short = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char)
    return short or (f"\\u{ord(char):04X}" if ord(char) < 0x10000 else f"\\U{ord(char):08X}")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
