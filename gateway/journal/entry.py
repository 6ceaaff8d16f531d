"""What the journal is given of a delivery, and what it says of it."""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct

from gateway.delivery import Reason, Verdict
from gateway.event import Event


class Entry(Struct, frozen=True, kw_only=True):
    """A delivery with its outcome, as the journal keeps it. Times are epoch seconds.

    `receipt` names this one receipt of it, so that a commit whose reply was lost can be told again.
    `replay_of` is the number of a delivery of the journal that is mapped again: its body is not kept
    twice.
    """

    source: str
    delivery_id: str
    event: str
    received_at: float
    verdict: Verdict
    reasons: tuple[Reason, ...]
    events: tuple[Event, ...]
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    receipt: str = ""
    replay_of: int = 0


class Recorded(NamedTuple):
    """An event of the journal, with the epoch seconds of its receipt, the source that told it first,
    and its place in the journal's order, which counts from 1."""

    event: Event
    received_at: float
    source: str
    place: int


class Stored(Struct, frozen=True):
    """What the journal did with an entry: its verdict, which may have become a duplicate, and the
    events that it did not know before."""

    verdict: Verdict
    new_events: tuple[Recorded, ...] = ()


class JournalUnavailable(Exception):
    """The journal cannot commit now; nothing was kept, and the sender must try again."""


class Overloaded(JournalUnavailable):
    """More deliveries wait than the journal takes."""


class JournalError(Exception):
    """The journal cannot be opened or read; one sentence says why and what to do."""
