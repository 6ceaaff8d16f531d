"""A case put to its mapping: signed, authenticated and read, against what it expects. Pure.

A case's delivery takes the whole way that a request takes before the journal, with a test secret in
place of the source's own and the clock stopped.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gateway.authentication import Authentication, authentication
from gateway.delivery import Accepted, DeadLetter, Delivery, Ignored, Malformed, Outcome
from gateway.mapping.cases import Case, Expectation
from gateway.mapping.compiler import CompiledMapping
from gateway.plan import Plan

_KEY = b"a secret for tests, and for nothing else"


class Trial(Struct, frozen=True, kw_only=True):
    """What came of a case. `fired` names the rules that had something to say about it."""

    case: Case
    actual: Expectation
    fired: frozenset[str]

    @property
    def passed(self) -> bool:
        return self.actual == _comparable(self.case.expect)


def run(mapping: CompiledMapping, case: Case) -> Trial:
    """Puts a case to its mapping."""
    checked = authentication(mapping.scheme, (_KEY,), b"test")
    plan = msgspec.structs.replace(mapping.plan, params={**mapping.plan.params, **case.params})
    delivery = _delivery(plan, case, checked)
    headers = [(name.encode(), value.encode("latin-1")) for name, value in delivery.headers.items()]
    if not checked.verify(headers, delivery.body, case.received_at):
        return Trial(case=case, actual=Expectation(outcome="unauthorized"), fired=frozenset())
    return Trial(
        case=case,
        actual=_expectation(plan, plan.read(delivery).outcome),
        fired=frozenset(_fired(plan, delivery)),
    )


def _delivery(plan: Plan, case: Case, checked: Authentication) -> Delivery:
    body = case.body()
    return Delivery(
        source=plan.source,
        headers=_headers(case, checked.sign(body, case.received_at)),
        query={},
        body=body,
        received_at=case.received_at,
    )


def _headers(case: Case, signature: Mapping[str, str]) -> dict[str, str]:
    """The headers of a case's request, names in lower case; the case's own are the last word."""
    sent = [("Content-Type", "application/json"), *signature.items(), *case.headers.items()]
    return {name.lower(): value for name, value in sent}


def _fired(plan: Plan, delivery: Delivery) -> Iterable[str]:
    for rule in plan.rules:
        alone = msgspec.structs.replace(plan, rules=(rule,))
        if not isinstance(alone.read(delivery).outcome, Ignored):
            yield rule.name


def _expectation(plan: Plan, outcome: Outcome) -> Expectation:
    match outcome:
        case Accepted(events):
            return Expectation(
                outcome="accepted",
                events=[{"kind": event.kind, **event.fields} for event in events],
            )
        case Ignored():
            return Expectation(outcome="ignored")
        case DeadLetter(reasons):
            word = "rejected" if plan.on_invalid == "reject" else "dead_lettered"
            return Expectation(outcome=word, fields=[one.field for one in reasons if one.field])
        case Malformed():
            return Expectation(outcome="dead_lettered")


def _comparable(expected: Expectation) -> Expectation:
    # YAML writes a whole number of seconds with or without a fraction; both are the same time.
    return msgspec.structs.replace(
        expected,
        events=[{name: _number(value) for name, value in one.items()} for one in expected.events],
    )


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def document(expectation: Expectation) -> str:
    """An expectation as the text that a person compares: one member a line."""
    members: dict[str, object] = {"outcome": expectation.outcome}
    if expectation.events:
        members["events"] = expectation.events
    if expectation.fields:
        members["fields"] = expectation.fields
    return msgspec.json.format(msgspec.json.encode(members), indent=2).decode()
