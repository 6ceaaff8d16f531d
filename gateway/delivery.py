"""One webhook delivery, and what a mapping made of it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct

from gateway.event import Event


class Delivery(Struct, frozen=True, kw_only=True):
    """One authentic request as it came.

    `headers` are lower case, several of one name joined by a comma; `query` holds the first value
    of each parameter; `received_at` is epoch seconds.
    """

    source: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    received_at: float


class Reason(Struct, frozen=True, omit_defaults=True):
    """Why a delivery could not become an event: which rule, which field, and what was wrong."""

    message: str
    rule: str = ""
    field: str = ""

    def __str__(self) -> str:
        where = [f"rule `{self.rule}`"] if self.rule else []
        where += [f"field `{self.field}`"] if self.field else []
        return f"{', '.join(where)}: {self.message}" if where else self.message


class Accepted(Struct, frozen=True, tag="accepted"):
    """At least one rule applied and all its events are valid."""

    events: tuple[Event, ...]


class Ignored(Struct, frozen=True, tag="ignored"):
    """No rule has anything to say about this delivery."""


class DeadLetter(Struct, frozen=True, tag="dead_lettered"):
    """A rule applied and could not yield a valid event; kept, to be mapped again later."""

    reasons: tuple[Reason, ...]


class Malformed(Struct, frozen=True, tag="malformed"):
    """The body is not JSON; `line` and `column` count from 1. Kept as a dead letter."""

    message: str
    line: int
    column: int


Outcome = Accepted | Ignored | DeadLetter | Malformed


class Greeting(Struct, frozen=True, kw_only=True):
    """What a handshake asks for: an answer, JSON or text; or a URL to visit."""

    answer: Any = None
    visit: str = ""


class Reading(Struct, frozen=True, kw_only=True):
    """A delivery read through a mapping. `delivery_id` is empty where the sender names none; `greeting`
    is what a handshake asks for, which no rule is asked of."""

    delivery_id: str
    event: str
    outcome: Outcome
    greeting: Greeting | None = None


class Verdict(StrEnum):
    """What became of a delivery, as answers, metrics and the journal name it."""

    ACCEPTED = "accepted"
    IGNORED = "ignored"
    DUPLICATE = "duplicate"
    DEAD_LETTERED = "dead_lettered"
    REJECTED = "rejected"
