"""What the journal is given of a delivery, and what it says of it."""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct

from gateway.delivery import Reason, Verdict
from gateway.event import Event


class Entry(Struct, frozen=True, kw_only=True):
    """A delivery with its outcome, as the journal keeps it. Times are epoch seconds."""

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


class Recorded(NamedTuple):
    """An event of the journal, with the epoch seconds of its receipt and the source that told it
    first."""

    event: Event
    received_at: float
    source: str


class Stored(Struct, frozen=True):
    """What the journal did with an entry: its verdict, which may have become a duplicate, and the
    events that it did not know before. `last_event` is the place of the last of them in the
    journal's order, 0 where there is none."""

    verdict: Verdict
    new_events: tuple[Event, ...]
    received_at: float
    source: str
    last_event: int = 0


class JournalUnavailable(Exception):
    """The journal cannot commit now; nothing was kept, and the sender must try again."""


class Overloaded(JournalUnavailable):
    """More deliveries wait than the journal takes."""
