"""A compiled mapping applied to one delivery: pure, the same delivery always gives the same reading."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timezone
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from msgspec import Struct

from gateway import body
from gateway.delivery import (
    Accepted,
    DeadLetter,
    Delivery,
    Greeting,
    Ignored,
    Malformed,
    Outcome,
    Reading,
    Reason,
)
from gateway.event import Event
from gateway.model import Model

Evaluate = Callable[[Mapping[str, Any]], Any]
Condition = Callable[[Mapping[str, Any]], bool]
Scope = dict[str, Any]

MAX_EVENTS = 10_000
"""Events of one delivery; the longest list that a vendor sends holds about two thousand."""
MAX_IDENTIFIER = 200


class Rule(Struct, frozen=True, kw_only=True):
    """A rule ready to evaluate. `when_each` says that `when` is asked of every item; `events` are the
    names that an event must have for `when` to hold, None where it may have any."""

    name: str
    events: frozenset[str] | None
    model: Model
    when: Condition | None
    when_each: bool
    each: Evaluate | None
    fields: Mapping[str, Evaluate]
    offsets: Mapping[str, timezone]


class Handshake(Struct, frozen=True, kw_only=True):
    """A handshake ready to evaluate. `hosts` are patterns of the hosts that may be visited."""

    when: Condition
    answer: Evaluate | None
    visit: Evaluate | None
    hosts: tuple[re.Pattern[str], ...]


class Plan(Struct, frozen=True, kw_only=True):
    """A mapping ready to run. `read_headers` are the header names that its expressions read, and
    `decode` builds as much of a payload as they do. `named_rules` are the rules that may apply to an
    event of a name, `other_rules` those for any other name."""

    source: str
    title: str
    params: Mapping[str, Any]
    rules: tuple[Rule, ...]
    named_rules: Mapping[str, tuple[Rule, ...]]
    other_rules: tuple[Rule, ...]
    delivery_id: Evaluate | None
    event: Evaluate | None
    handshakes: tuple[Handshake, ...]
    media_types: frozenset[str]
    on_invalid: Literal["keep", "reject"]
    read_headers: frozenset[str]
    decode: body.Decode

    def read(self, delivery: Delivery) -> Reading:
        """What the delivery means. Never fails: what cannot be read is an outcome too."""
        scope, malformed = self.scope(delivery)
        greeting = None if malformed or not self.handshakes else self._greeting(scope)
        outcome: Outcome
        if malformed or isinstance(greeting, DeadLetter):
            outcome = malformed or cast("DeadLetter", greeting)
        else:
            outcome = Ignored() if greeting else self._outcome(scope)
        return Reading(
            delivery_id=_identifier(_quietly(self.delivery_id, scope)),
            event=_identifier(scope["event"]),
            outcome=outcome,
            greeting=greeting if isinstance(greeting, Greeting) else None,
        )

    def _greeting(self, scope: Scope) -> Greeting | DeadLetter | None:
        """What the delivery asks for, where it is a handshake; a dead letter where that is refused."""
        for handshake in self.handshakes:
            try:
                if not evaluate(handshake.when, scope):
                    continue
                answer = evaluate(handshake.answer, scope) if handshake.answer else None
                visit = evaluate(handshake.visit, scope) if handshake.visit else ""
            except ExpressionFailed as error:
                return DeadLetter((Reason(f"the handshake cannot be read: {error}"),))
            if handshake.visit and not _may_visit(visit, handshake.hosts):
                shown = str(visit)[:200]
                return DeadLetter((Reason(f"the handshake names no URL of its hosts: `{shown}`"),))
            return Greeting(answer=answer, visit=visit)
        return None

    def scope(self, delivery: Delivery) -> tuple[Scope, Malformed | None]:
        """What the expressions are asked of; without a body, and with the reason, where that is not
        JSON."""
        scope: Scope = {
            "headers": delivery.headers,
            "query": delivery.query,
            "body": None,
            "params": self.params,
            "event": None,
            "each": None,
            "received_at": delivery.received_at,
        }
        try:
            content_type = delivery.headers.get("content-type", "")
            scope["body"] = body.read(delivery.body, content_type, self.decode)
        except body.NotJSON as error:
            return scope, Malformed(error.message, error.line, error.column)
        scope["event"] = _quietly(self.event, scope)
        return scope, None

    def _outcome(self, scope: Scope) -> Outcome:
        events: list[Event] = []
        reasons: list[Reason] = []
        event = scope["event"]
        rules = self.named_rules.get(event) if isinstance(event, str) else None
        for rule in self.other_rules if rules is None else rules:
            for result in _apply(rule, scope):
                if isinstance(result, Event):
                    events.append(result)
                else:
                    reasons += result
            if len(events) > MAX_EVENTS:
                reasons.append(Reason(f"more than {MAX_EVENTS} events in one delivery", rule.name))
                break
        if reasons:
            return DeadLetter(tuple(reasons))
        return Accepted(tuple(events)) if events else Ignored()


def _may_visit(url: Any, hosts: Iterable[re.Pattern[str]]) -> bool:
    """Whether a URL is one of HTTPS on its usual port, of one of these hosts, and no other's."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
        usual = parts.port in (None, 443)
    except ValueError:
        return False
    host = parts.hostname or ""
    has_user = "@" in parts.netloc
    return (
        parts.scheme == "https"
        and usual
        and not has_user
        and any(pattern.fullmatch(host) for pattern in hosts)
    )


class ExpressionFailed(Exception):
    """An expression met a value of a type that it cannot take."""


def _apply(rule: Rule, scope: Scope) -> Iterator[Event | list[Reason]]:
    """The events of one rule, or the reasons why one of them is none."""
    part = "when"
    try:
        if not rule.when_each and not _holds(rule, scope):
            return
        part = "each"
        for item_scope in items(rule, scope):
            part = "when"
            if rule.when_each and not _holds(rule, item_scope):
                continue
            yield _event(rule, item_scope)
            part = "each"
    except ExpressionFailed as error:
        yield [Reason(str(error), rule.name, part)]


def items(rule: Rule, scope: Scope) -> Iterator[Scope]:
    """The scope of each item that a rule yields an event for. Raises ExpressionFailed."""
    if rule.each is None:
        yield scope
        return
    found = evaluate(rule.each, scope)
    if found is None:
        return
    if not isinstance(found, list):
        raise ExpressionFailed(f"expected a list, got {type(found).__name__}")
    for item in found[: MAX_EVENTS + 1]:
        yield scope | {"each": item}


def _holds(rule: Rule, scope: Scope) -> bool:
    return rule.when is None or bool(evaluate(rule.when, scope))


def _event(rule: Rule, scope: Scope) -> Event | list[Reason]:
    raw: dict[str, Any] = {}
    failed: list[Reason] = []
    for name, expression in rule.fields.items():
        try:
            raw[name] = evaluate(expression, scope)
        except ExpressionFailed as error:
            failed.append(Reason(str(error), rule.name, name))
    if failed:
        return failed
    return rule.model.read(raw, rule.offsets, rule.name)


def evaluate(expression: Evaluate, scope: Scope) -> Any:
    """What the expression finds. Raises ExpressionFailed."""
    try:
        return expression(scope)
    except Exception as error:
        # Whatever an expression raises is about this payload: besides its own errors JMESPath lets
        # TypeError, ValueError, OverflowError and RecursionError of built-in operations through.
        text = " ".join(str(error).split()) or type(error).__name__
        raise ExpressionFailed(text[:300]) from error


def _quietly(expression: Evaluate | None, scope: Scope) -> Any:
    """The value, or nothing where it cannot be had: a delivery needs no name."""
    if expression is None:
        return None
    try:
        return evaluate(expression, scope)
    except ExpressionFailed:
        return None


def _identifier(value: Any) -> str:
    """Text of bounded length: a sender's own words where they fit, a digest where they do not."""
    if value is None or isinstance(value, bool | list | dict):
        return ""
    text = str(value) if not isinstance(value, int) or abs(value) < 10**40 else "huge"
    if len(text) > MAX_IDENTIFIER or not text.isprintable():
        return hashlib.sha256(text.encode(errors="replace")).hexdigest()
    return text
