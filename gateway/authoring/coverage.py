"""What the cases of a mapping leave untried: rules, branches of their conditions, and fields. Pure.

Of each part of a `when`, one case must find it true and one false, where it is asked at all. Of each
field, one case must find a value; where an expression is alternatives, `a || b` or `not_null(a, b)`,
each of them must be the one that is taken once.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

from msgspec import Struct

from gateway import plan
from gateway.authoring import explanation
from gateway.delivery import Delivery
from gateway.diagnostic import Span
from gateway.mapping.closures import Node, closure, is_false
from gateway.mapping.compiler import CompiledMapping
from gateway.mapping.document import Sequence, Table
from gateway.mapping.expression import Expression
from gateway.mapping.unparse import unparse
from gateway.plan import ExpressionFailed, Scope


class What(StrEnum):
    """What is counted."""

    RULE = "rule"
    BRANCH = "branch"
    FIELD = "field"


class Item(Struct, frozen=True, kw_only=True):
    """One thing to try. `lacking` says how it was not: `never true`; empty where it was tried.
    `text` is the part of an expression that it is about, empty where it is the whole."""

    what: What
    rule: str
    place: Span
    field: str = ""
    text: str = ""
    lacking: str = ""


class Coverage(Struct, frozen=True):
    """All that a mapping's cases should try."""

    items: tuple[Item, ...] = ()

    def count(self, what: What | None = None) -> tuple[int, int]:
        """How many things of one sort, or of all, were tried, and how many there are."""
        chosen = [item for item in self.items if what is None or item.what is what]
        return sum(not item.lacking for item in chosen), len(chosen)

    @property
    def percent(self) -> float:
        """Of all things, 100 where there are none."""
        tried, total = self.count()
        return 100 * tried / total if total else 100.0

    @property
    def lacking(self) -> tuple[Item, ...]:
        """What was not tried. Of a rule that no case reaches, the fields are not named one by one."""
        idle = {item.rule for item in self.items if item.what is What.RULE and item.lacking}
        return tuple(
            item
            for item in self.items
            if item.lacking and not (item.what is What.FIELD and item.rule in idle)
        )

    def __add__(self, other: "Coverage") -> "Coverage":
        return Coverage(self.items + other.items)


def cover(mapping: CompiledMapping, asked: Iterable[tuple[CompiledMapping, Delivery]]) -> Coverage:
    """What deliveries try of a mapping; each comes with the mapping as it was asked of it, which may
    have other params. Rules that the mapping inherits are another mapping's, and do not count."""
    tried = _Tried()
    for one, delivery in asked:
        tried.note(one, delivery)
    return Coverage(tuple(_items(mapping, tried)))


class _Tried:
    """What was seen of all deliveries: rules that applied, the answers of conditions' parts, and
    which alternative of a field gave its value; by the number of the rule."""

    def __init__(self) -> None:
        self.rules: set[int] = set()
        self.answers: dict[tuple[int, tuple[int, ...]], set[bool]] = {}
        self.fields: set[tuple[int, str, int]] = set()

    def note(self, mapping: CompiledMapping, delivery: Delivery) -> None:
        scope, _ = mapping.plan.scope(delivery)
        steps = explanation.explain(mapping, delivery).rules
        for number, step in enumerate(steps):
            if step.applies:
                self.rules.add(number)
            conditions = [step.when, *(attempt.when for attempt in step.attempts)]
            for condition in filter(None, conditions):
                for place, leaf in condition.leaves():
                    if leaf.holds is not None:
                        self.answers.setdefault((number, place), set()).add(leaf.holds)
            if any(attempt.fields for attempt in step.attempts):
                scopes = list(plan.items(mapping.plan.rules[number], scope))
                for attempt in step.attempts:
                    for field in attempt.fields:
                        if field.value is None:
                            continue
                        found = _expression(mapping, number, field.field)
                        taken = _taken(found.tree, scopes[attempt.item or 0])
                        self.fields.add((number, field.field, taken))


def _items(mapping: CompiledMapping, tried: _Tried) -> Iterator[Item]:
    rules = mapping.document.get("rules")
    nodes = rules.items if isinstance(rules, Sequence) else ()
    for number, (rule, node) in enumerate(zip(mapping.plan.rules, nodes, strict=True)):
        if node.span.file != mapping.document.span.file:
            continue
        yield Item(
            what=What.RULE,
            rule=rule.name,
            place=node.span,
            lacking="" if number in tried.rules else "never applies",
        )
        when = mapping.expressions.get(("rules", number, "when"))
        for place, text in explanation.parts(when.tree) if when else ():
            answers = tried.answers.get((number, place), set())
            for holds, lacking in ((True, "never true"), (False, "never false")):
                yield Item(
                    what=What.BRANCH,
                    rule=rule.name,
                    place=_place(node, "when"),
                    text=text,
                    lacking="" if holds in answers else lacking if answers else "never asked",
                )
        for name in rule.fields:
            tree = _expression(mapping, number, name).tree
            options = _alternatives(tree)
            for index, option in enumerate(options):
                yield Item(
                    what=What.FIELD,
                    rule=rule.name,
                    place=_place(node, "fields", name),
                    field=name,
                    text=unparse(option) if len(options) > 1 else "",
                    lacking=""
                    if (number, name, index) in tried.fields
                    else "never taken"
                    if len(options) > 1
                    else "never found",
                )


def _place(node: Any, *keys: str) -> Span:
    span: Span = node.span
    for key in keys:
        node = node.get(key) if isinstance(node, Table) else None
        if node is None:
            break
        span = node.span
    return span


def _expression(mapping: CompiledMapping, number: int, field: str) -> Expression:
    path = ("rules", number, "fields", field)
    return mapping.expressions.get((*path, "value")) or mapping.expressions[path]


# Alternatives of a field


def _alternatives(tree: Node) -> list[Node]:
    """What a field takes one of, in order; the whole expression where it is no such choice. A bare
    null at the end is no value, and none to be found."""
    if tree["type"] == "or_expression":
        found = [one for child in tree["children"] for one in _operands(child)]
    elif tree["type"] == "function_expression" and tree["value"] == "not_null":
        found = list(tree["children"])
    else:
        return [tree]
    return [one for one in found if one["type"] != "literal" or one["value"] is not None]


def _operands(tree: Node) -> list[Node]:
    if tree["type"] != "or_expression":
        return [tree]
    return [one for child in tree["children"] for one in _operands(child)]


def _taken(tree: Node, scope: Scope) -> int:
    """The number of the alternative that gives the value of an expression that found one."""
    options = _alternatives(tree)
    for index, option in enumerate(options):
        try:
            found = plan.evaluate(closure(option), scope)
        except ExpressionFailed:
            continue
        is_taken = (
            found is not None if tree["type"] == "function_expression" else not is_false(found)
        )
        if is_taken:
            return index
    return len(options) - 1
