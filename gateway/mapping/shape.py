"""Does a document have the shape of a grammar type? All disagreements, each at its place.

The document and the type are walked side by side, so every finding has a position and none hides
another. Where a part is wrong, a placeholder stands in for it and the rest is read all the same.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar

from msgspec import UNSET, inspect

from gateway.diagnostic import Diagnostic, Span, did_you_mean
from gateway.mapping import grammar
from gateway.mapping.document import Node, Scalar, Sequence, Table

Path = tuple[str | int, ...]
T = TypeVar("T")


class Places:
    """Where each part of a document stands: nodes by path, and the keys that lead to them."""

    def __init__(self, root: Node) -> None:
        self.nodes: dict[Path, Node] = {(): root}
        self.keys: dict[Path, Span] = {}

    def span(self, *path: str | int) -> Span:
        """The place of a value, or of the nearest thing around it that is written down."""
        while path not in self.nodes:
            path = path[:-1]
        return self.nodes[path].span

    def key(self, *path: str | int) -> Span:
        """The place of the key that leads to a value."""
        return self.keys.get(path) or self.span(*path)

    def is_table(self, *path: str | int) -> bool:
        """Whether keys and values are written down at a path."""
        return isinstance(self.nodes.get(path), Table)

    def is_list(self, *path: str | int) -> bool:
        """Whether a list is written down at a path."""
        return isinstance(self.nodes.get(path), Sequence)

    def text(self, *path: str | int) -> Scalar | None:
        """The scalar at a path, where it is written down and is text."""
        node = self.nodes.get(path)
        return node if isinstance(node, Scalar) and isinstance(node.value, str) else None

    def within(self, path: Path, offset: int, width: int = 1) -> Span:
        """The place of a character of a text, or of its start where the exact column is unknown."""
        node = self.nodes[path]
        if isinstance(node, Scalar) and node.starts:
            # An offset just behind the text is the place where something is missing.
            line, column = node.starts[min(offset, len(node.starts) - 1)]
            behind = int(offset >= len(node.starts))
            return Span(node.span.file, line, column + behind, 1 if behind else width)
        return node.span


def read(node: Node, grammar: type[T]) -> tuple[T, Places, list[Diagnostic]]:
    """The document as a value of the grammar type, with its places and all disagreements."""
    reader = _Reader(node)
    value = reader.read(node, _type_info(grammar), ())
    return value, reader.places, reader.findings


# Taking a type apart costs more than reading a document as it.
_type_info: Callable[[Any], inspect.Type] = cache(inspect.type_info)


def plain(node: Node) -> Any:
    """The node as Python values; keys as text, as JSON has them."""
    match node:
        case Table():
            return {str(key.value): plain(value) for key, value in node.entries}
        case Sequence():
            return [plain(item) for item in node.items]
        case Scalar():
            return node.value


class _Reader:
    def __init__(self, root: Node) -> None:
        self.places = Places(root)
        self.findings: list[Diagnostic] = []

    def read(self, node: Node, declared: inspect.Type, path: Path) -> Any:
        self.places.nodes[path] = node
        expected = _bare(declared)
        if isinstance(expected, inspect.UnionType):
            before = len(self.findings)
            member = self._member(node, expected)
            if member is None:
                if len(self.findings) == before:
                    self._disagree(node, declared)
                return _placeholder(expected)
            declared, expected = member, _bare(member)
        match expected, node:
            case inspect.AnyType(), _:
                return plain(node)
            case inspect.StructType(), Table():
                return self._struct(node, expected, path)
            case inspect.DictType(), Table():
                return self._dict(node, expected, path)
            case inspect.ListType(), Sequence():
                return [
                    self.read(item, expected.item_type, (*path, index))
                    for index, item in enumerate(node.items)
                ]
            case _, Scalar() if not isinstance(
                expected, inspect.StructType | inspect.DictType | inspect.ListType
            ):
                return self._scalar(node, declared)
        self._disagree(node, declared)
        return _placeholder(expected)

    def _struct(self, node: Table, expected: inspect.StructType, path: Path) -> Any:
        fields = {field.encode_name: field for field in expected.fields}
        tag_field = expected.tag_field
        values: dict[str, Any] = {}
        for key, child in node.entries:
            name = str(key.value)
            self.places.keys[*path, name] = key.span
            if name == tag_field:
                continue
            field = fields.get(name)
            if field is None:
                known = [*fields, *([tag_field] if tag_field else [])]
                self.findings.append(
                    Diagnostic(
                        key.span, "unknown-key", f"unknown key `{name}`", did_you_mean(name, known)
                    )
                )
                continue
            values[field.name] = self.read(child, field.type, (*path, name))
        for name, field in fields.items():
            if field.required and field.name not in values:
                self.findings.append(
                    Diagnostic(
                        node.span,
                        "missing-key",
                        f"the key `{name}` is missing",
                        _description(field.type),
                    )
                )
                values[field.name] = _placeholder(_bare(field.type))
        return expected.cls(**values)

    def _dict(self, node: Table, expected: inspect.DictType, path: Path) -> dict[str, Any]:
        values = {}
        for key, child in node.entries:
            self.places.keys[*path, str(key.value)] = key.span
            if not isinstance(key.value, str):
                message = f"the key `{key.value}` is not text"
                self.findings.append(Diagnostic(key.span, "wrong-type", message, "quote it"))
                continue
            values[key.value] = self.read(child, expected.value_type, (*path, key.value))
        return values

    def _scalar(self, node: Scalar, declared: inspect.Type) -> Any:
        value = node.value
        expected = _bare(declared)
        match expected:
            case inspect.StrType() if isinstance(value, str):
                if problem := _text_problem(value, expected):
                    self.findings.append(
                        Diagnostic(node.span, "wrong-value", problem, _description(declared))
                    )
                return value
            case inspect.BoolType() if isinstance(value, bool):
                return value
            case inspect.IntType() if isinstance(value, int) and not isinstance(value, bool):
                if problem := _number_problem(value, expected):
                    self.findings.append(Diagnostic(node.span, "wrong-value", problem))
                    return expected.ge or 0
                return value
            case inspect.FloatType() if isinstance(value, int | float) and not isinstance(
                value, bool
            ):
                return value
            case inspect.LiteralType() | inspect.EnumType():
                choices = _choices(expected)
                if value in choices:
                    return expected.cls(value) if isinstance(expected, inspect.EnumType) else value
                mend = did_you_mean(str(value), choices)
                message = f"`{value}` is not one of the values allowed here"
                self.findings.append(Diagnostic(node.span, "wrong-value", message, mend))
                return _placeholder(expected)
        self._disagree(node, declared)
        return _placeholder(expected)

    def _member(self, node: Node, union: inspect.UnionType) -> inspect.Type | None:
        """The member of a union that a node is meant to be."""
        members = [one for one in union.types if not isinstance(one, inspect.CustomType)]
        bare = [_bare(one) for one in members]
        match node:
            case Table():
                structs = [one for one in bare if isinstance(one, inspect.StructType)]
                tagged = [one for one in structs if one.tag_field]
                if tagged:
                    return self._tagged(node, tagged)
                return structs[0] if structs else None
            case Sequence():
                return next((one for one in bare if isinstance(one, inspect.ListType)), None)
            case Scalar():
                fitting = (one for one in members if _fits(node.value, _bare(one)))
                return next(fitting, None)

    def _tagged(self, node: Table, members: list[inspect.StructType]) -> inspect.StructType | None:
        """The struct that a table names; none is guessed, it would lack keys that nobody meant."""
        tag_field = str(members[0].tag_field)
        by_tag = {str(member.tag): member for member in members}
        tag = node.get(tag_field)
        if tag is None:
            self.findings.append(
                Diagnostic(
                    node.span,
                    "missing-key",
                    f"the key `{tag_field}` is missing",
                    "known: " + ", ".join(sorted(by_tag)),
                )
            )
            return None
        name = str(tag.value) if isinstance(tag, Scalar) else ""
        if name not in by_tag:
            self.findings.append(
                Diagnostic(
                    tag.span,
                    "wrong-value",
                    f"unknown {tag_field} `{name}`",
                    did_you_mean(name, by_tag),
                )
            )
        return by_tag.get(name)

    def _disagree(self, node: Node, declared: inspect.Type) -> None:
        message = f"expected {_described(_bare(declared))}, got {_found(node)}"
        self.findings.append(Diagnostic(node.span, "wrong-type", message, _mend(node, declared)))


def _mend(node: Node, declared: inspect.Type) -> str:
    """How to write what was probably meant."""
    members = [declared]
    if isinstance(union := _bare(declared), inspect.UnionType):
        members = list(union.types)
    structs = [one for one in map(_bare, members) if isinstance(one, inspect.StructType)]
    match node:
        case Scalar(value=bool() | int() | float() as value) if any(map(_is_expression, members)):
            shown = str(value).lower() if isinstance(value, bool) else value
            return f'an expression is text; for the value itself write "`{shown}`"'
        case Table() | Sequence() if any(map(_is_expression, members)):
            return "quote an expression that begins with `[` or `{`"
        case Scalar(value=bool() | int() | float()) if isinstance(
            _bare(members[-1]), inspect.StrType
        ):
            return "quote it to make it text"
        case Scalar() | Sequence() if structs and structs[0].tag_field:
            tags = ", ".join(sorted(str(one.tag) for one in structs))
            return f"begin with the key `{structs[0].tag_field}`, one of {tags}"
        case Scalar() | Sequence() if structs:
            return "known keys: " + ", ".join(field.encode_name for field in structs[0].fields)
        case Scalar() | Table() if isinstance(_bare(declared), inspect.ListType):
            return "a list is written `[a, b]`, or with `- ` before each item"
    return ""


_EXPRESSION: Final = inspect.type_info(grammar.Expression)


def _is_expression(declared: inspect.Type) -> bool:
    """Whether a text is an expression: a description of its own leaves it the examples of one."""
    return bool(_extra(declared).get("examples") == _extra(_EXPRESSION)["examples"])


def _extra(declared: inspect.Type) -> dict[str, Any]:
    """What the grammar says about a type for its readers, the outermost word first."""
    said: dict[str, Any] = {}
    while isinstance(declared, inspect.Metadata):
        said = {**(declared.extra_json_schema or {}), **said}
        declared = declared.type
    return said


def _description(declared: inspect.Type) -> str:
    text = str(_extra(declared).get("description", ""))
    return text[:1].lower() + text[1:].rstrip(".")


def _bare(expected: inspect.Type) -> inspect.Type:
    while isinstance(expected, inspect.Metadata):
        expected = expected.type
    return expected


def _fits(value: Any, expected: inspect.Type) -> bool:
    match expected:
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.FloatType():
            return isinstance(value, float)
        case inspect.LiteralType():
            return value in expected.values
    return False


def _choices(expected: inspect.Type) -> list[str]:
    if isinstance(expected, inspect.EnumType):
        return [str(member.value) for member in expected.cls]
    return [str(value) for value in getattr(expected, "values", ())]


def _text_problem(value: str, expected: inspect.StrType) -> str:
    if expected.pattern and not re.fullmatch(expected.pattern, value):
        return f"`{value}` does not have the form `{expected.pattern}`"
    if expected.min_length and len(value) < expected.min_length:
        return "the text is empty"
    if expected.max_length and len(value) > expected.max_length:
        return f"longer than {expected.max_length} characters"
    return ""


def _number_problem(value: int, expected: inspect.IntType) -> str:
    if expected.ge is not None and value < expected.ge:
        return f"{value} is less than {expected.ge}"
    if expected.le is not None and value > expected.le:
        return f"{value} is more than {expected.le}"
    return ""


def _described(expected: inspect.Type) -> str:
    match expected:
        case inspect.StructType() | inspect.DictType():
            return "keys and values"
        case inspect.ListType():
            return "a list"
        case inspect.IntType():
            return "a whole number"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType() | inspect.EnumType():
            choices = _choices(expected)
            return f"one of {', '.join(choices)}" if len(choices) > 1 else f"`{choices[0]}`"
        case inspect.FloatType():
            return "a number"
        case inspect.UnionType():
            members = [one for one in expected.types if not isinstance(one, inspect.CustomType)]
            *others, last = dict.fromkeys(_described(_bare(one)) for one in members)
            return f"{', '.join(others)} or {last}" if others else last
    return "text"


def _found(node: Node) -> str:
    match node:
        case Table():
            return "keys and values"
        case Sequence():
            return "a list"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=str()):
            return "text"
        case Scalar(value=bool() as value):
            return str(value).lower()
        case Scalar():
            return f"the number {node.value}"


def _placeholder(expected: inspect.Type) -> Any:
    match expected:
        case inspect.StructType():
            return expected.cls(
                **{
                    field.name: _placeholder(_bare(field.type))
                    for field in expected.fields
                    if field.required
                }
            )
        case inspect.DictType():
            return {}
        case inspect.ListType():
            return []
        case inspect.UnionType():
            members = [_bare(one) for one in expected.types]
            return _placeholder(
                next((m for m in members if not isinstance(m, inspect.CustomType)), members[0])
            )
        case inspect.LiteralType():
            return expected.values[0]
        case inspect.EnumType():
            return next(iter(expected.cls))
        case inspect.StrType():
            return ""
        case inspect.BoolType():
            return False
        case inspect.IntType() | inspect.FloatType():
            return 0
    return UNSET
