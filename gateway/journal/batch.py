"""A batch of entries judged: what of it is new, and the rows that this becomes. Pure.

Both of the journal's homes commit a batch in one transaction that nobody else's can come between. So
what is known is asked once for the whole batch, and places in the journal's order are given here.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from isal import isal_zlib
from msgspec import Struct

from gateway import event as events
from gateway.delivery import Verdict
from gateway.event import Event
from gateway.journal.entry import Entry, Recorded, Stored

COMPRESS_ABOVE = 512
"""Bytes; a shorter body does not get shorter."""
_LEVEL = 1

Name = tuple[str, str]
"""A delivery as its sender names it: source and id."""


class Head(NamedTuple):
    """The number of the last delivery, and the place of the last event."""

    deliveries: int
    events: int


class DeliveryRow(NamedTuple):
    """A row of `deliveries`, in the order of its columns."""

    seq: int
    source: str
    delivery_id: str
    event: str
    received_at: float
    outcome: str
    reasons: str
    headers: str
    query: str
    compressed: int
    replay_of: int | None
    body: bytes
    hash: bytes = b""


class EventRow(NamedTuple):
    """A row of `events`, in the order of its columns."""

    seq: int
    delivery: int
    identity: bytes
    received_at: float
    kind: str
    fields: str
    source: str
    hash: bytes = b""


class Candidate(Struct, frozen=True):
    """An entry with what costs time made ready, before the transaction begins."""

    entry: Entry
    events: Mapping[bytes, Event]
    body: bytes
    compressed: bool

    @property
    def name(self) -> Name:
        return self.entry.source, self.entry.delivery_id


class Judged(NamedTuple):
    """What is to be written of a batch, and what is to be said of each of its entries. `receipts` are
    those of the delivery rows."""

    head: Head
    deliveries: list[DeliveryRow]
    receipts: list[str]
    events: list[EventRow]
    results: list[Stored]


def candidate(entry: Entry) -> Candidate:
    compressed = len(entry.body) > COMPRESS_ABOVE
    return Candidate(
        entry,
        {events.identity(event): event for event in entry.events},
        isal_zlib.compress(entry.body, _LEVEL) if compressed else entry.body,
        compressed,
    )


def judge(
    candidates: Sequence[Candidate],
    head: Head,
    accepted: Mapping[Name, bool],
    known: Collection[bytes],
) -> Judged:
    """`accepted` says of each delivery of the batch that the journal knows whether it was accepted;
    `known` are those identities of its events that the journal has."""
    accepted, seen = dict(accepted), set(known)
    judged = Judged(head, [], [], [], [])
    delivery, place = head
    for one in candidates:
        entry, verdict = one.entry, one.entry.verdict
        new = {identity: event for identity, event in one.events.items() if identity not in seen}
        if entry.replay_of:
            # It settles what became of the delivery, also where its events came another way.
            verdict = Verdict.DUPLICATE if entry.events and not new else verdict
        elif _is_duplicate(entry, accepted.get(one.name), new):
            judged.results.append(Stored(Verdict.DUPLICATE))
            continue
        delivery += 1
        judged.deliveries.append(_delivery_row(delivery, one, verdict))
        judged.receipts.append(entry.receipt)
        recorded = []
        for identity, event in new.items():
            place += 1
            judged.events.append(_event_row(place, delivery, identity, event, entry))
            recorded.append(Recorded(event, entry.received_at, entry.source, place))
        seen.update(new)
        accepted[one.name] = accepted.get(one.name, False) or verdict is Verdict.ACCEPTED
        judged.results.append(Stored(verdict, tuple(recorded)))
    return judged._replace(head=Head(delivery, place))


def _is_duplicate(entry: Entry, known: bool | None, new: Collection[bytes]) -> bool:  # noqa: FBT001  # A value of a mapping.
    """`known` is None for a delivery that is not known, else whether it was accepted."""
    # What was once ignored or dead-lettered may be sent again after its mapping was mended.
    if known or (known is not None and entry.verdict is not Verdict.ACCEPTED):
        return True
    return bool(entry.events) and not new


def _delivery_row(seq: int, one: Candidate, verdict: Verdict) -> DeliveryRow:
    entry = one.entry
    row = DeliveryRow(
        seq,
        entry.source,
        entry.delivery_id,
        entry.event,
        entry.received_at,
        verdict.value,
        _json(entry.reasons),
        _json(entry.headers),
        _json(entry.query),
        int(one.compressed),
        entry.replay_of or None,
        one.body,
    )
    return row._replace(hash=digest(row))


def _event_row(seq: int, delivery: int, identity: bytes, event: Event, entry: Entry) -> EventRow:
    fields = _json(event.fields)
    row = EventRow(seq, delivery, identity, entry.received_at, event.kind, fields, entry.source)
    return row._replace(hash=digest(row))


def digest(row: Sequence[Any]) -> bytes:
    """What a row's last column must be, of the others: a flipped bit is found when it is read."""
    return hashlib.blake2b(_ENCODER.encode(row[:-1]), digest_size=8).digest()


def _json(value: object) -> str:
    return _JSON.encode(value).decode()


_ENCODER = msgspec.msgpack.Encoder()
_JSON = msgspec.json.Encoder()
