"""An explanation as text for a person: what held, what was found, and what to look at first."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import structs

from gateway.authoring.explanation import Attempt, Condition, Explanation, FieldStep, RuleStep
from gateway.event import FieldValue
from gateway.fieldtype import FieldType

_WIDTH = 76
_MARKS = {True: "yes", False: "no ", None: "-  "}
MAX_ATTEMPTS = 5
"""Items of one rule that are shown in full; those that failed come first."""


def narrate(explanation: Explanation) -> str:
    """The text; it ends without a newline."""
    lines = [f"source          {explanation.source}"]
    if explanation.authentication:
        lines.append(f"authentication  {explanation.authentication}")
    if explanation.delivery:
        lines.append(f"delivery        {explanation.delivery}")
    if explanation.event:
        lines.append(f"event           {explanation.event}")
    elif explanation.event_at:
        lines.append(f"event           none: {explanation.event_at} finds nothing")
    if explanation.handshake:
        lines.append(f"handshake       {explanation.handshake}")
    if explanation.malformed:
        lines += ["", f"the body is not JSON: {explanation.malformed}"]
    applied = [step for step in explanation.rules if step.applies]
    silent = [step for step in explanation.rules if not step.applies]
    for step in applied:
        is_open = step.when is not None and step.when.holds is None
        lines += ["", *_rule(step, "cannot be judged" if is_open else "applies")]
    nearest = next((step for step in silent if step.rule == explanation.nearest), None)
    if nearest is not None:
        lines += ["", *_rule(nearest, "the nearest rule, does not apply")]
    others = [step for step in silent if step is not nearest]
    if others:
        lines += ["", f"{'other ' if applied or nearest else ''}rules that do not apply"]
        width = max(len(step.rule) for step in others)
        lines += [f"  {step.rule:<{width}}  {_why_not(step)}" for step in others]
    return "\n".join([*lines, "", *_outcome(explanation)])


def _outcome(explanation: Explanation) -> list[str]:
    lines = [f"outcome         {explanation.outcome}"]
    for number, event in enumerate(explanation.events):
        kind, *fields = event.items()
        lines.append(
            f"  {kind[1]}  " + "  ".join(f"{name}={_value(value)}" for name, value in fields)
        )
        if explanation.doubts and explanation.doubts[number]:
            lines.append(f"    {explanation.doubts[number]}")
    for name, app in explanation.apps.items():
        if app is None:
            lines.append(f"  no table of apps knows {_value(name)}; the app keeps this name")
        elif app != name:
            lines.append(f"  {_value(name)} is the app {_value(app)}, by the table of apps")
    lines += [f"  {reason}" for reason in explanation.reasons]
    return lines


def _rule(step: RuleStep, headline: str) -> list[str]:
    lines = [f"rule `{step.rule}`: {headline}"]
    if step.when is not None:
        lines += [f"  {line}" for line in _condition(step.when)]
    if step.items is not None:
        lines.append(f"  each  {step.each}: {step.items} item{'s' * (step.items != 1)}")
    # What went wrong is what a person came for.
    shown = sorted(step.attempts, key=lambda one: not one.reasons)[:MAX_ATTEMPTS]
    for attempt in shown:
        lines += [f"  {line}" for line in _attempt(attempt, step.emits)]
    left = (step.items or len(step.attempts)) - len(shown)
    if left > 0:
        lines.append(f"  and {left} more item{'s' * (left != 1)}")
    lines += [f"  {reason.field}: {reason.message}" for reason in step.reasons]
    return lines


def _why_not(step: RuleStep) -> str:
    """The part of the condition that decided against the rule."""
    if step.when is not None:
        return f"no  {_told(_decisive(step.when))}"
    if step.items == 0:
        return f"`{step.each}` found no items"
    return f"no item of `{step.each}` fits"


def _decisive(condition: Condition) -> Condition:
    if condition.joined == "and":
        failed = next((part for part in condition.parts if not part.holds), None)
        return _decisive(failed) if failed else condition
    return condition


def _condition(condition: Condition) -> Iterator[str]:
    """One line for each part, indented below what joins it."""
    if not condition.parts:
        yield f"{_MARKS[condition.holds]}  {_told(condition)}"
        return
    if condition.joined == "and":
        for part in condition.parts:
            yield from _condition(part)
        return
    words = {"or": "one of these", "not": "not"}
    yield f"{_MARKS[condition.holds]}  {words[condition.joined]}"
    for part in condition.parts:
        yield from (f"       {line}" for line in _condition(part))


def _told(condition: Condition) -> str:
    """A part of a condition with what it compared, where its text does not say it all."""
    says_all = condition.holds and any(
        condition.expression == f"{found.expression} == {_literal(found.value)}"
        for found in condition.values
    )
    told = [condition.error, "" if says_all else _values(condition)]
    values = "; ".join(filter(None, told))
    return condition.expression + (f"    {values}" if values else "")


def _literal(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else f"`{_value(value)}`"


def _values(condition: Condition) -> str:
    found = {one.expression: one.value for _, leaf in condition.leaves() for one in leaf.values}
    return ", ".join(f"{name} = {_value(value)}" for name, value in found.items())


def _attempt(attempt: Attempt, kind: str) -> Iterator[str]:
    if attempt.item is not None:
        yield f"item {attempt.item}"
        yield from (f"  {line}" for line in _attempt(structs.replace(attempt, item=None), kind))
        return
    if attempt.when is not None:
        yield from _condition(attempt.when)
    if not attempt.fields:
        return
    verdict = "emits" if attempt.event else "does not become"
    yield f"{verdict} {kind}"
    width = max(len(step.field) for step in attempt.fields)
    for step in attempt.fields:
        yield from (f"  {line}" for line in _field(step, width))
    yield from (f"  {one.message}" for one in attempt.reasons if not one.field)


def _field(step: FieldStep, width: int) -> Iterator[str]:
    found = "nothing" if step.found is None else _value(step.found)
    if step.error:
        told = f"WRONG  {step.error}"
        if step.found is not None and found not in step.error:
            told += f"; found {found}"
    elif step.value is None:
        told = f"found {found}, left out"
    else:
        told = _value(step.value)
        if step.type == FieldType.TIMESTAMP:
            told += f" ({_moment(float(step.value))})"
        if step.value != step.found:
            told += f", from {found}"
    yield f"{step.field:<{width}}  {told}"
    margin = " " * (width + 4)
    yield f"{margin}{step.expression}  ({step.type})"
    if step.hint and (step.error or step.value is None):
        yield f"{margin}{step.hint}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _value(value: FieldValue | Any) -> str:
    """A JSON value on one line, cut where it is long."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
