"""The checks of rules: what they emit, and which fields they map."""

from collections.abc import Sequence

from gateway.diagnostic import did_you_mean
from gateway.fieldtype import FieldType, parse_offset
from gateway.mapping import grammar
from gateway.mapping.checks.view import Findings, MappingView, finding, warning
from gateway.mapping.document import Scalar
from gateway.mapping.shape import Path
from gateway.mapping.unparse import unparse


def no_rules(view: MappingView) -> Findings:
    """The mapping has no rules, so every delivery would be ignored."""
    if not view.mapping.rules and view.places.is_list("rules"):
        yield finding(no_rules, view.places.span("rules"), "there are no rules")


def duplicate_rule(view: MappingView) -> Findings:
    """Two rules have the same name, so a reason that names the rule would not say which."""
    seen: dict[str, int] = {}
    for index, rule in enumerate(view.mapping.rules):
        place = view.places.text("rules", index, "name")
        if place is None:
            continue
        if rule.name in seen:
            first = view.places.span("rules", seen[rule.name], "name").line
            message = f"the rule of line {first} has the same name"
            yield finding(duplicate_rule, place.span, message, "give each rule its own name")
        seen.setdefault(rule.name, index)


def unknown_kind(view: MappingView) -> Findings:
    """A rule emits a kind of event that no model describes."""
    for index, rule in enumerate(view.mapping.rules):
        place = view.places.text("rules", index, "emit")
        if place is not None and rule.emit not in view.models:
            message = f"there is no kind `{rule.emit}`"
            mend = did_you_mean(rule.emit, view.models)
            yield finding(unknown_kind, place.span, message, mend)


def unknown_field(view: MappingView) -> Findings:
    """A rule maps a field that the model of its kind does not have."""
    for index, rule in enumerate(view.mapping.rules):
        model = view.models.get(rule.emit)
        for name in rule.fields if model else ():
            if model and name not in model.fields:
                span = view.places.key("rules", index, "fields", name)
                message = f"`{rule.emit}` has no field `{name}`"
                yield finding(unknown_field, span, message, did_you_mean(name, model.fields))


def field_not_mapped(view: MappingView) -> Findings:
    """A rule does not map a field that the model of its kind requires."""
    for index, rule in enumerate(view.mapping.rules):
        model = view.models.get(rule.emit)
        if model is None or not view.places.is_table("rules", index, "fields"):
            continue
        span = view.places.key("rules", index, "fields")
        for name, field in model.fields.items():
            if field.required and name not in rule.fields:
                message = f"`{rule.emit}` requires the field `{name}`"
                yield finding(field_not_mapped, span, message, field.description)
        for group in model.require_one_of:
            if not any(name in rule.fields for name in group):
                message = f"`{rule.emit}` requires one of the fields {', '.join(group)}"
                yield finding(field_not_mapped, span, message)


def wrong_offset(view: MappingView) -> Findings:
    """`offset:` is not an offset from UTC, or the field is no timestamp."""
    for index, rule in enumerate(view.mapping.rules):
        model = view.models.get(rule.emit)
        for name, field in rule.fields.items():
            if not isinstance(field, grammar.MappedField) or not field.offset:
                continue
            span = view.places.span("rules", index, "fields", name, "offset")
            if parse_offset(field.offset) is None:
                message = f"`{field.offset}` is no offset from UTC"
                yield finding(wrong_offset, span, message, "write `+02:00`, `-0800` or `UTC`")
            elif (
                model
                and name in model.fields
                and model.fields[name].type is not FieldType.TIMESTAMP
            ):
                yield finding(wrong_offset, span, f"`{name}` is no timestamp", "remove it")


def repeated_rule(view: MappingView) -> Findings:
    """Two rules say the same under two names, so the second adds nothing: each event comes twice and
    counts once.

    Rules are the same where they emit the same kind with the same expressions, however those are
    spaced.
    """
    written: dict[str | int, list[tuple[Path, Scalar]]] = {}
    for path, node in view.places.nodes.items():
        if path[:1] == ("rules",) and len(path) > 2 and isinstance(node, Scalar):
            written.setdefault(path[1], []).append((path, node))
    seen: dict[object, int] = {}
    for index, rule in enumerate(view.mapping.rules):
        meaning = _meaning(view, written.get(index, []))
        if meaning is None:
            continue
        # Of two rules of one name, that is what is said.
        if meaning in seen and view.mapping.rules[seen[meaning]].name != rule.name:
            first = view.places.span("rules", seen[meaning]).line
            message = f"the rule of line {first} says the same"
            mend = "remove one of the two, or change what it asks for"
            span = view.places.span("rules", index, "name")
            yield warning(repeated_rule, span, message, mend)
        seen.setdefault(meaning, index)


def _meaning(view: MappingView, written: Sequence[tuple[Path, Scalar]]) -> object:
    """All that the parts of a rule say, in one spelling; None where one of them is not known."""
    parts: dict[tuple[str, ...], str] = {}
    for path, node in written:
        key = tuple(map(str, path[2:]))
        if key == ("name",):
            continue
        expression = view.expressions.get(path)
        if expression is None and key[-1] not in ("emit", "offset"):
            return None
        # The long form of a field without an offset says no more than the short one.
        key = key[:-1] if key[-1] == "value" and len(key) == 3 else key
        parts[key] = unparse(expression.tree) if expression else str(node.value)
    return frozenset(parts.items()) if len(parts) > 1 else None


CHECKS = (
    no_rules,
    duplicate_rule,
    repeated_rule,
    unknown_kind,
    unknown_field,
    field_not_mapped,
    wrong_offset,
)
