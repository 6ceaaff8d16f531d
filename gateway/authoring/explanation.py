"""A delivery read through a mapping with every step noted: why it became what it became. Pure.

The steps are taken by the parts that `Plan.read` is made of, only slower and with everything kept; so
an explanation tells of the delivery what serving it would do.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gateway import plan
from gateway.apps import NO_TABLE, Apps, fields_of
from gateway.correlation.fold import Suspicion, suspicion
from gateway.delivery import Accepted, DeadLetter, Delivery, Greeting, Malformed, Reason
from gateway.diagnostic import did_you_mean
from gateway.event import Event, FieldValue
from gateway.fieldtype import FieldError
from gateway.mapping.closures import Node, closure, is_false
from gateway.mapping.compiler import CompiledMapping
from gateway.mapping.expression import Expression
from gateway.mapping.unparse import unparse
from gateway.plan import ExpressionFailed, Plan, Rule, Scope

MAX_ITEMS = 50
"""Items of an `each` that an explanation follows; a delivery may hold thousands of the same kind."""


class Found(Struct, frozen=True):
    """What a part of an expression came to."""

    expression: str
    value: Any


class Condition(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A condition or a part of one. `holds` is None where it was never asked, because another part
    had decided already; `parts` are what `joined` (`and`, `or`, `not`) joins, and a part without
    parts of its own tells the values that it compared."""

    expression: str
    holds: bool | None
    error: str = ""
    joined: str = ""
    parts: tuple["Condition", ...] = ()
    values: tuple[Found, ...] = ()

    def leaves(self, *place: int) -> Iterator[tuple[tuple[int, ...], "Condition"]]:
        """The parts that have none themselves, each with where it stands among the others."""
        if not self.parts:
            yield place, self
        for number, part in enumerate(self.parts):
            yield from part.leaves(*place, number)


class FieldStep(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A field: what its expression found, and what the model made of it."""

    field: str
    expression: str
    type: str
    found: Any
    value: FieldValue | None = None
    error: str = ""
    hint: str = ""


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event that a rule tried to yield; `item` counts from 0 in a rule with `each`."""

    item: int | None = None
    when: Condition | None = None
    fields: tuple[FieldStep, ...] = ()
    event: Event | None = None
    reasons: tuple[Reason, ...] = ()


class RuleStep(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule: whether it applies, and what it made. `items` is how many its `each` found."""

    rule: str
    emits: str
    applies: bool
    when: Condition | None = None
    each: str = ""
    items: int | None = None
    attempts: tuple[Attempt, ...] = ()
    reasons: tuple[Reason, ...] = ()


class Explanation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`outcome` is what `Plan.read` says; `nearest` names the rule that lacked least, where none
    applies. `event_at` is the expression of `event` where it found nothing. `apps` are the names of
    apps in the events, each with what the table of apps makes of it, None where it does not know it;
    empty without a table. `doubts` say of events, in their order, why they will not be shown, empty
    texts of the others; there are none where all will be. `authentication` is for whoever knows of it
    to say."""

    source: str
    outcome: str
    delivery: str = ""
    event: str = ""
    event_at: str = ""
    authentication: str = ""
    malformed: str = ""
    handshake: str = ""
    nearest: str = ""
    rules: tuple[RuleStep, ...] = ()
    events: tuple[dict[str, FieldValue], ...] = ()
    reasons: tuple[Reason, ...] = ()
    apps: dict[str, str | None] = {}
    doubts: tuple[str, ...] = ()


def explain(mapping: CompiledMapping, delivery: Delivery, apps: Apps = NO_TABLE) -> Explanation:
    """Follows a delivery through a mapping."""
    served = mapping.plan
    reading = served.read(delivery)
    # A person wants to see all that came, where serving builds only what is read.
    scope, malformed = msgspec.structs.replace(served, decode=msgspec.json.decode).scope(delivery)
    if malformed and not isinstance(reading.outcome, Malformed):
        scope, malformed = served.scope(delivery)
    steps: tuple[RuleStep, ...] = ()
    if malformed is None and reading.greeting is None:
        steps = tuple(
            _rule(rule, index, mapping.expressions, scope)
            for index, rule in enumerate(served.rules)
        )
    outcome, events, reasons = _outcome(served, reading.outcome)
    event_at = mapping.expressions.get(("event",))
    doubts = tuple(doubt(event, delivery.received_at) for event in events)
    return Explanation(
        source=served.source,
        delivery=reading.delivery_id,
        event=reading.event,
        event_at=event_at.text if event_at and not reading.event else "",
        outcome=outcome,
        malformed=(
            f"line {malformed.line}, column {malformed.column}: {malformed.message}"
            if malformed
            else ""
        ),
        handshake=_handshake(reading.greeting),
        nearest=_nearest(steps),
        rules=steps,
        events=events,
        reasons=reasons,
        apps=_apps(served, reading.outcome, apps) if apps.teams else {},
        doubts=doubts if any(doubts) else (),
    )


_DOUBTS = {
    Suspicion.FUTURE: "its time is more than a day after its receipt",
    Suspicion.BEFORE_2000: "its time is before the year 2000",
}


def doubt(event: Mapping[str, FieldValue], received_at: float) -> str:
    """Why an event, its kind among its fields, will not be shown; empty where nothing is wrong with
    its time."""
    fields = {name: value for name, value in event.items() if name != "kind"}
    reason = suspicion(Event(str(event.get("kind", "")), fields), received_at)
    return f"{_DOUBTS[reason]}: it is counted as suspect and not shown" if reason else ""


def _handshake(greeting: Greeting | None) -> str:
    if greeting is None:
        return ""
    if greeting.visit:
        return f"confirmed by a visit to {greeting.visit}"
    return f"answered with {msgspec.json.encode(greeting.answer).decode()}"


def _outcome(
    served: Plan, outcome: Any
) -> tuple[str, tuple[dict[str, FieldValue], ...], tuple[Reason, ...]]:
    match outcome:
        case Accepted(events):
            return "accepted", tuple({"kind": one.kind, **one.fields} for one in events), ()
        case DeadLetter(reasons):
            return ("rejected" if served.on_invalid == "reject" else "dead_lettered"), (), reasons
        case Malformed():
            return "dead_lettered", (), ()
    return "ignored", (), ()


def _apps(served: Plan, outcome: Any, table: Apps) -> dict[str, str | None]:
    """What the table makes of the names of apps in the events."""
    if not isinstance(outcome, Accepted):
        return {}
    models = {rule.model.kind: rule.model for rule in served.rules}
    names = [
        event.text(field)
        for event in outcome.events
        for field in fields_of(models.get(event.kind))
        if event.text(field)
    ]
    return {name: table.find(served.source, name) for name in names}


# Rules


def _rule(
    rule: Rule, index: int, expressions: Mapping[tuple[str | int, ...], Expression], scope: Scope
) -> RuleStep:
    def written(*path: str) -> Expression | None:
        return expressions.get(("rules", index, *path))

    when, each = written("when"), written("each")
    condition = None
    if when is not None and not rule.when_each:
        condition = follow(when.tree, scope)
        if not condition.holds:
            failed = _failed(condition, rule, "when")
            return RuleStep(
                rule=rule.name,
                emits=rule.model.kind,
                applies=bool(failed),
                when=condition,
                reasons=failed,
            )
    attempts: list[Attempt] = []
    reasons: tuple[Reason, ...] = ()
    count: int | None = None
    try:
        scopes = list(plan.items(rule, scope))
    except ExpressionFailed as error:
        scopes, reasons = [], (Reason(str(error), rule.name, "each"),)
    if each is not None:
        count = len(scopes)
    for number, item in enumerate(scopes[:MAX_ITEMS]):
        place = None if each is None else number
        asked = follow(when.tree, item) if when is not None and rule.when_each else None
        if asked is not None and not asked.holds:
            failed = _failed(asked, rule, "when")
            attempts.append(Attempt(item=place, when=asked, reasons=failed))
            if failed:
                # An error ends the rule: what it can yield of the others is not known.
                break
        else:
            attempts.append(_attempt(rule, place, asked, item, written))
    return RuleStep(
        rule=rule.name,
        emits=rule.model.kind,
        applies=bool(reasons) or any(one.event or one.reasons for one in attempts),
        when=condition,
        each=each.text if each else "",
        items=count,
        attempts=tuple(attempts),
        reasons=reasons,
    )


def _failed(condition: Condition, rule: Rule, part: str) -> tuple[Reason, ...]:
    errors = [leaf.error for _, leaf in condition.leaves() if leaf.error]
    return tuple(Reason(error, rule.name, part) for error in errors[:1])


def _attempt(
    rule: Rule, place: int | None, asked: Condition | None, scope: Scope, written: Any
) -> Attempt:
    steps = []
    raw: dict[str, Any] = {}
    failed: list[Reason] = []
    for name, expression in rule.fields.items():
        source = written("fields", name, "value") or written("fields", name)
        field = rule.model.fields[name]
        value, error = None, ""
        try:
            raw[name] = plan.evaluate(expression, scope)
        except ExpressionFailed as problem:
            error = str(problem)
            failed.append(Reason(error, rule.name, name))
        else:
            try:
                value = field.value(raw[name], rule.offsets.get(name))
            except FieldError as problem:
                error = str(problem)
        found = raw.get(name)
        steps.append(
            FieldStep(
                field=name,
                expression=source.text,
                type=str(field.type),
                found=found,
                value=value,
                error=error,
                hint=hint(source.tree, scope) if found is None else "",
            )
        )
    if failed:
        return Attempt(item=place, when=asked, fields=tuple(steps), reasons=tuple(failed))
    result = rule.model.read(raw, rule.offsets, rule.name)
    return Attempt(
        item=place,
        when=asked,
        fields=tuple(steps),
        event=result if isinstance(result, Event) else None,
        reasons=() if isinstance(result, Event) else tuple(result),
    )


# Conditions

_JOINED = {"and_expression": "and", "or_expression": "or", "not_expression": "not"}


def follow(tree: Node, scope: Scope) -> Condition:
    """A condition with its parts, each asked only where the others leave it open."""
    joined = _JOINED.get(tree["type"], "")
    if not joined or _is_leaf(tree):
        return _leaf(tree, scope)
    parts: list[Condition] = []
    holds: bool | None = None
    for child in _operands(tree):
        if holds is (joined == "or") and parts:
            parts.append(Condition(expression=unparse(child), holds=None))
            continue
        part = follow(child, scope)
        parts.append(part)
        if _is_broken(part):
            # An error ends it: what stands behind is never asked.
            rest = _operands(tree)[len(parts) :]
            parts += [Condition(expression=unparse(one), holds=None) for one in rest]
            return Condition(
                expression=unparse(tree), holds=None, joined=joined, parts=tuple(parts)
            )
        holds = not part.holds if joined == "not" else part.holds
    return Condition(expression=unparse(tree), holds=holds, joined=joined, parts=tuple(parts))


def parts(tree: Node, *place: int) -> Iterator[tuple[tuple[int, ...], str]]:
    """All parts of a condition that have none themselves, each with its text, at the same places as
    `Condition.leaves` gives where each of them is asked."""
    if tree["type"] not in _JOINED or _is_leaf(tree):
        yield place, unparse(tree)
        return
    for number, child in enumerate(_operands(tree)):
        yield from parts(child, *place, number)


def _is_leaf(tree: Node) -> bool:
    """`!body.deleted` reads best as one part."""
    return bool(tree["type"] == "not_expression" and tree["children"][0]["type"] not in _JOINED)


def _operands(tree: Node) -> list[Node]:
    """What one sign joins, however it is nested: `a && b && c` has three parts."""
    if tree["type"] == "not_expression":
        return list(tree["children"])
    found: list[Node] = []
    for child in tree["children"]:
        found += _operands(child) if child["type"] == tree["type"] else [child]
    return found


def _is_broken(condition: Condition) -> bool:
    return any(leaf.error for _, leaf in condition.leaves())


def _leaf(tree: Node, scope: Scope) -> Condition:
    text = unparse(tree)
    values = tuple(_values(tree, scope))
    try:
        holds = not is_false(plan.evaluate(closure(tree), scope))
    except ExpressionFailed as error:
        return Condition(expression=text, holds=None, error=str(error), values=values)
    return Condition(expression=text, holds=holds, values=values)


def _values(tree: Node, scope: Scope) -> Iterator[Found]:
    """What the paths in an expression find, in reading order."""
    seen: set[str] = set()
    for part in _paths(tree):
        text = unparse(part)
        if text not in seen:
            seen.add(text)
            try:
                yield Found(text, plan.evaluate(closure(part), scope))
            except ExpressionFailed:
                continue


def _paths(tree: Node) -> Iterator[Node]:
    match tree["type"]:
        case "literal" | "expref" | "current" | "identity":
            return
        case (
            "comparator" | "not_expression" | "or_expression" | "and_expression"
            | "function_expression" | "multi_select_list" | "multi_select_dict" | "key_val_pair"
        ):  # fmt: skip
            for child in tree["children"]:
                yield from _paths(child)
        case _:
            yield tree


# What a reader would ask next


def hint(tree: Node, scope: Scope) -> str:
    """For a path that finds nothing: how far it gets, and what stands there instead."""
    names = _names(tree)
    value: Any = scope
    for depth, name in enumerate(names):
        if not isinstance(value, dict):
            path = ".".join(names[:depth])
            return f"`{path}` is {kind(value)}, and has no members"
        if name not in value:
            path = ".".join(names[:depth]) or "the scope"
            if not value:
                return f"`{path}` is empty"
            return f"`{path}` has no `{name}`; {did_you_mean(name, list(value)[:30], 30)}"
        value = value[name]
    return ""


def _names(tree: Node) -> list[str]:
    """The names of a plain path, `body.repository.name`; none for anything else."""
    if tree["type"] == "field":
        return [tree["value"]]
    if tree["type"] != "subexpression":
        return []
    parts = [_names(child) for child in tree["children"]]
    return [name for part in parts for name in part] if all(parts) else []


_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


def kind(value: Any) -> str:
    """A JSON value's type in words."""
    return _KINDS.get(type(value), type(value).__name__)


def _nearest(steps: tuple[RuleStep, ...]) -> str:
    """The rule that got furthest through its condition, where none applies and one got anywhere."""
    if not steps or any(step.applies for step in steps):
        return ""
    best = max(steps, key=_progress)
    return best.rule if _progress(best) > 0 else ""


def _progress(step: RuleStep) -> float:
    conditions = [step.when] if step.when else [one.when for one in step.attempts if one.when]
    return max((_share(condition) for condition in conditions), default=0.0)


def _share(condition: Condition) -> float:
    """How much of a condition holds, from 0 to 1: an alternative counts by its best part."""
    if condition.holds or not condition.parts:
        return float(bool(condition.holds))
    shares = [_share(part) for part in condition.parts]
    if condition.joined == "or":
        return max(shares)
    return sum(shares) / len(shares) if condition.joined == "and" else 0.0
