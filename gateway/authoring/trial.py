"""A case put to its mapping: signed, authenticated and read, against what it expects. Pure.

A case's delivery takes the whole way that a request takes before the journal, with a test secret in
place of the source's own and the clock stopped. From which address it comes is not asked.
"""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import UNSET, Struct

from gateway.authentication import (
    Authentication,
    Bearer,
    Oidc,
    Scheme,
    SecretReference,
    authentication,
)
from gateway.authoring import proof
from gateway.authoring.cases import Case, Expectation
from gateway.delivery import Accepted, DeadLetter, Delivery, Ignored, Malformed, Outcome
from gateway.event import Event, identity
from gateway.mapping.compiler import CompiledMapping
from gateway.model import Model
from gateway.plan import Plan
from gateway.series import Series, Window

_KEY = b"a secret for tests, and for nothing else"

WINDOW = 2_700_000
SPACING = 60_000
"""Milliseconds: what `serve` takes for both where nothing is set."""


class Trial(Struct, frozen=True, kw_only=True):
    """What came of a case. `asked` are the mapping, with the params of the case, and the delivery
    that it was asked of; nothing where the delivery was refused before."""

    case: Case
    actual: Expectation
    asked: tuple[CompiledMapping, Delivery] | None

    @property
    def passed(self) -> bool:
        return self.actual == self.expected

    @property
    def expected(self) -> Expectation | None:
        """What the case expects, as it is compared: None where it does not say."""
        if not isinstance(self.case.expect, Expectation):
            return None
        return self.case.expect.comparable()


def run(mapping: CompiledMapping, case: Case) -> Trial:
    """Puts one case to its mapping; its series know of no other model than the mapping's, and of no
    earlier case."""
    models = {rule.model.kind: rule.model for rule in mapping.plan.rules}
    return run_all(mapping, models, [case])[0]


def run_all(
    mapping: CompiledMapping, models: Mapping[str, Model], cases: Iterable[Case]
) -> tuple[Trial, ...]:
    """Puts the cases of a file to their mapping, in order. Series stand in the order of the models."""
    trials: list[Trial] = []
    received: dict[str, _Received] = {}
    for case in cases:
        trial, events = _run(mapping, case)
        one = _Received(case, events)
        before = _before(case, received)
        if isinstance(case.expect, Expectation) and case.expect.series is not UNSET:
            lines = "\n".join(_lines(models, [*before, one]))
            actual = msgspec.structs.replace(trial.actual, series=lines)
            trial = msgspec.structs.replace(trial, actual=actual)
        received[case.name] = one
        trials.append(trial)
    return tuple(trials)


def ready(scheme: Scheme | None) -> Authentication:
    """The scheme made ready with test secrets. Where an issuer alone can sign, one text stands for a
    token of its."""
    if isinstance(scheme, Oidc):
        scheme = Bearer(secret=SecretReference())
    return authentication(scheme, (_KEY,), b"test")


class _Received(Struct, frozen=True):
    """A case and the events that it came to."""

    case: Case
    events: tuple[Event, ...]


def _run(mapping: CompiledMapping, case: Case) -> tuple[Trial, tuple[Event, ...]]:
    checked = ready(mapping.scheme)
    plan = msgspec.structs.replace(mapping.plan, params={**mapping.plan.params, **case.params})
    delivery = _delivery(plan, case, checked)
    if not proof.verify(checked, delivery):
        return Trial(case=case, actual=Expectation(outcome="unauthorized"), asked=None), ()
    outcome = plan.read(delivery).outcome
    trial = Trial(
        case=case,
        actual=_expectation(plan, outcome),
        asked=(msgspec.structs.replace(mapping, plan=plan), delivery),
    )
    return trial, outcome.events if isinstance(outcome, Accepted) else ()


def _delivery(plan: Plan, case: Case, checked: Authentication) -> Delivery:
    body = case.body()
    return Delivery(
        source=plan.source,
        headers=_headers(case, checked.sign(body, case.received_at)),
        query={**checked.parameters, **case.query},
        body=body,
        received_at=case.received_at,
    )


def _headers(case: Case, signature: Mapping[str, str]) -> dict[str, str]:
    """The headers of a case's request, names in lower case; the case's own are the last word."""
    sent = [("Content-Type", "application/json"), *signature.items(), *case.headers.items()]
    return {name.lower(): value for name, value in sent}


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


# Series


def _before(case: Case, received: Mapping[str, _Received]) -> list[_Received]:
    """The cases that came before a case, and before those in turn, in the order of the file."""
    names = set(case.after)
    found = []
    for one in reversed(list(received.values())):
        if one.case.name in names:
            names |= set(one.case.after)
            found.append(one)
    return found[::-1]


def _lines(models: Mapping[str, Model], received: Iterable[_Received]) -> list[str]:
    """The samples that a scrape shows when the last case has been received."""
    series = Series(models, Window(WINDOW, SPACING))
    known: set[bytes] = set()
    now = 0
    for one in received:
        now = round(one.case.received_at * 1000)
        for event in one.events:
            # The journal keeps an event once.
            if identity(event) not in known:
                known.add(identity(event))
                series.fold(event, now)
    series.advance(now)
    return [line.text.strip() for family in series.families() for line in family.lines]


def document(expectation: Expectation) -> str:
    """An expectation as the text that a person compares: one member a line, series as they are."""
    members: dict[str, object] = {"outcome": expectation.outcome}
    if expectation.events:
        members["events"] = expectation.events
    if expectation.fields:
        members["fields"] = expectation.fields
    text = msgspec.json.format(msgspec.json.encode(members), indent=2).decode()
    if isinstance(expectation.series, str):
        text += "\n" + "\n".join(["series:", *expectation.series.splitlines()])
    return text
