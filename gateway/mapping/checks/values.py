"""The checks of values that are certain before any delivery: of arguments, lists and fields."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import UNSET, Struct

from gateway import fieldtype
from gateway.fieldtype import FieldError, FieldType, parse_offset
from gateway.mapping import certainty, functions, grammar
from gateway.mapping.checks.view import Findings, MappingView, code, finding
from gateway.mapping.expression import Expression
from gateway.mapping.extent import Extents
from gateway.mapping.functions.entry import NotLiteral
from gateway.mapping.shape import Path

Node = Mapping[str, Any]

_SHOWN = {
    "string": "text",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "nothing",
}
_TAKEN: Mapping[FieldType, frozenset[str]] = {
    FieldType.APP: frozenset({"string", "number"}),
    FieldType.TEXT: frozenset({"string", "number"}),
    FieldType.NAMESPACE: frozenset({"string", "number"}),
    FieldType.URL: frozenset({"string"}),
    FieldType.TIMESTAMP: frozenset({"string", "number"}),
    FieldType.NUMBER: frozenset({"string", "number"}),
    FieldType.CHOICE: frozenset({"string"}),
    FieldType.GIT_SHA: frozenset({"string"}),
    FieldType.IMAGE_DIGEST: frozenset({"string"}),
}
"""The JSON types that each field type can make something of."""


def shown(types: frozenset[str]) -> str:
    """Types in an author's words."""
    words = [words for name, words in _SHOWN.items() if name in types]
    return " or ".join(words)


def wrong_argument(view: MappingView) -> Findings:
    """A function is given what it never takes: a number where it takes text, a list in the place of
    the text between its items, a pattern that is none.

    Each delivery that comes to this call would be kept as a dead letter. Only what is certain is
    reported: constants, and what comparisons and functions come to.
    """
    for path, expression in view.expressions.items():
        for call in _calls(expression.tree):
            signature = functions.SIGNATURES.get(call["value"])
            given = call["children"]
            if signature is None or not signature.arity.takes(len(given)):
                continue
            wrong = _misuse(view, call, path)
            if wrong is None:
                continue
            index, message = wrong
            extents = Extents(expression.text, expression.tree)
            extent = extents.arguments(call["start"])[index]
            mend = f"it is called as `{signature}`"
            if signature.parameter(index).types == ("expref",):
                mend = f"write {code('&' + extents.text[extent.offset : extent.end])}"
            span = view.places.within(path, extent.offset, extent.width)
            yield finding(wrong_argument, span, f"`{call['value']}()`: {message}", mend)


def _misuse(view: MappingView, call: Node, path: Path) -> tuple[int, str] | None:
    """The argument with which a call always fails, and why."""
    given = call["children"]
    constants = [certainty.constant(child) for child in given]
    misuse = functions.misuse(call["value"], constants)
    if misuse is not None:
        return misuse.argument, misuse.message
    signature = functions.SIGNATURES[call["value"]]
    for index, child in enumerate(given):
        parameter = signature.parameter(index)
        taken = frozenset(one.partition("-")[0] for one in parameter.types)
        found = _types(view, child)
        if constants[index] is not NotLiteral.VALUE or not taken or taken == {"expref"}:
            continue
        if not taken & found:
            return index, f"`{parameter.name}` takes {parameter.words}, not {shown(found)}"
    return None


def _types(view: MappingView, node: Node) -> certainty.Types:
    """The types of an argument; a param keeps the type that the mapping gives it."""
    if node["type"] == "subexpression":
        names = [child.get("value") for child in node["children"] if child["type"] == "field"]
        if len(names) == len(node["children"]) == 2 and names[0] == "params":
            value = view.mapping.params.get(str(names[1]))
            if value is not None:
                return frozenset({certainty.type_of(value)})
    # What it is asked of may be nothing: it may stand behind a pipe.
    return certainty.types(node, present=False)


def _calls(node: Any) -> Iterator[Node]:
    if isinstance(node, Mapping):
        if node["type"] == "function_expression":
            yield node
        for child in node["children"]:
            yield from _calls(child)


def each_without_items(view: MappingView) -> Findings:
    """`each:` finds something that is never a list, so there is nothing to yield an event for.

    Each delivery that the rule applies to would be kept as a dead letter.
    """
    for index, rule in enumerate(view.mapping.rules):
        path: Path = ("rules", index, "each")
        expression = view.expressions.get(path)
        if rule.each is UNSET or expression is None:
            continue
        found = certainty.types(expression.tree)
        if not found & {"array", "null"}:
            span = view.places.within(path, 0, len(expression.text))
            message = f"`each` needs a list, and this is {shown(found)}"
            mend = (
                f"for one item write {code(f'[{expression.text}]')}; for one event leave `each` out"
            )
            yield finding(each_without_items, span, message, mend)


def refused_value(view: MappingView) -> Findings:
    """A field's expression comes to a value that the field's type refuses: a fallback such as
    `'unknown'` for a SHA, a list where one value is needed, true or false from a comparison.

    Such a delivery is kept as a dead letter, so a fallback of this kind saves nothing. A field that is
    optional may find nothing: leave the fallback out.
    """
    for index, rule in enumerate(view.mapping.rules):
        model = view.models.get(rule.emit)
        for name, written in rule.fields.items():
            field = model.fields.get(name) if model else None
            long = isinstance(written, grammar.MappedField)
            path: Path = ("rules", index, "fields", name, *(("value",) if long else ()))
            expression = view.expressions.get(path)
            if model is None or field is None or expression is None:
                continue
            offset = written.offset if isinstance(written, grammar.MappedField) else ""
            yield from _refused_type(view, path, expression, name, field)
            target = _Target(name, field, offset, any(name in one for one in model.require_one_of))
            yield from _refused_literals(view, path, expression, target)


class _Target(Struct, frozen=True):
    """A field that an expression is for, with the offset of its times; `is_one_of` where an event
    needs it or another."""

    name: str
    field: grammar.ModelField
    offset: str
    is_one_of: bool


def _refused_type(
    view: MappingView, path: Path, expression: Expression, name: str, field: grammar.ModelField
) -> Findings:
    found = certainty.types(expression.tree) - {"null"}
    if not found or found & _TAKEN[field.type] or expression.tree["type"] == "literal":
        return
    message = f"`{name}` is of the type `{field.type}`, and this is {shown(found)}"
    mend = "find one value"
    if found == {"array"}:
        one = code(f"({expression.text.strip()})[0]")
        mend = f"take one item: {one}; for an event of each, use `each:`"
    span = view.places.within(path, 0, len(expression.text))
    yield finding(refused_value, span, message, mend)


def _refused_literals(
    view: MappingView,
    path: Path,
    expression: Expression,
    target: _Target,
) -> Findings:
    field = target.field
    if field.type is FieldType.CHOICE and not field.choices:
        return
    length = None if field.max_length is UNSET else field.max_length
    read = fieldtype.reader(field.type, length, tuple(field.choices))
    for literal in certainty.endings(expression.tree):
        value = literal["value"]
        if value is None or (value == "" and not field.required):
            continue
        try:
            read(value, parse_offset(target.offset))
        except FieldError as error:
            extent = Extents(expression.text, expression.tree).of(literal)
            span = view.places.within(path, extent.offset, extent.width)
            message = f"`{target.name}` is of the type `{field.type}`: {error}"
            mend = _literal_mend(target, is_alone=literal is expression.tree)
            yield finding(refused_value, span, message, mend)


def _literal_mend(target: _Target, *, is_alone: bool) -> str:
    if is_alone:
        return "write an expression that finds it in `body`"
    if target.field.required or target.is_one_of:
        return "leave the fallback out: the dead letter then says what was missing"
    return "leave the fallback out: the field is optional"


CHECKS = (
    wrong_argument,
    each_without_items,
    refused_value,
)
