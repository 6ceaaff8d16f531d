"""A batch of entries judged: what of it is new, and the rows that this becomes. Pure.

Both of the journal's homes commit a batch in one transaction that nobody else's can come between. So
what is known is asked once for the whole batch, and places in the journal's order are given here.

What a mapping takes for a duplicate may be another delivery: a wrong `delivery_id` is the same for all
of them. So a duplicate is dropped only where its very body is kept already.
"""

import hashlib
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
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
ROW = 200
"""Bytes that a delivery counts for beside its texts."""
_MARK = 8
"""Bytes that tell a body from another one of the same id."""

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

    @property
    def size(self) -> int:
        """What it counts for, in bytes."""
        texts = len(self.headers) + len(self.query) + len(self.reasons)
        return len(self.body) + texts + ROW


SIZE_IN_SQL = f"length(body) + length(headers) + length(query) + length(reasons) + {ROW}"
"""The same of a row that is kept, in SQL."""


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

    @property
    def other_name(self) -> Name:
        """What it is called where another delivery has its id."""
        mark = hashlib.blake2b(self.entry.body, digest_size=_MARK).hexdigest()
        return self.entry.source, f"{self.entry.delivery_id}~{mark}"


class Copies:
    """Those of a batch whose very body is kept already, found by comparing it with the bodies of those
    deliveries that have its name, and of the one that told the last of its events: where it is a copy,
    all of them were known once that one had come. `names` and `identities` are what to ask for."""

    def __init__(
        self,
        batch: Sequence[Candidate],
        names: Collection[Name],
        identities: Collection[bytes],
    ) -> None:
        """`names` and `identities` are those of the batch that the journal knows."""
        self.names: dict[Name, list[Candidate]] = {}
        self.identities: set[bytes] = set()
        self._known: list[Candidate] = []
        self._told_by: dict[int, list[Candidate]] = {}
        self._found: set[int] = set()
        for one in batch:
            if one.entry.replay_of:
                continue
            if one.name in names:
                self.names.setdefault(one.name, []).append(one)
                self.names.setdefault(one.other_name, []).append(one)
            if one.events and all(identity in identities for identity in one.events):
                self.identities.update(one.events)
                self._known.append(one)

    def __contains__(self, one: Candidate) -> bool:
        return id(one) in self._found

    def compare_named(self, name: Name, compressed: int, body: bytes) -> None:
        """Takes in the body of a delivery of one of the names."""
        self._compare(self.names.get(name, ()), compressed, body)

    def tellers(self, told: Iterable[tuple[bytes, int, int]]) -> list[int]:
        """The numbers of the deliveries whose bodies are to be compared; `told` are the identities, each
        with the place of its event and the number of the delivery that told it."""
        by_identity = {identity: where for identity, *where in told}
        for one in self._known:
            found = [by_identity[identity] for identity in one.events if identity in by_identity]
            if found:
                _, last = max(found)
                self._told_by.setdefault(last, []).append(one)
        return list(self._told_by)

    def compare_told(self, number: int, compressed: int, body: bytes) -> None:
        """Takes in the body of one of those."""
        self._compare(self._told_by[number], compressed, body)

    def _compare(self, suspects: Collection[Candidate], compressed: int, body: bytes) -> None:
        if suspects:
            whole = body_of(compressed, body)
            self._found.update(id(one) for one in suspects if one.entry.body == whole)


def body_of(compressed: int, body: bytes) -> bytes | None:
    """The body of a row as it came; None where it is damaged."""
    try:
        return zlib.decompress(body) if compressed else bytes(body)
    except zlib.error:
        return None


class Judged(NamedTuple):
    """What is to be written of a batch, and what is to be said of each of its entries. `receipts` are
    those of the delivery rows."""

    head: Head
    deliveries: list[DeliveryRow]
    receipts: list[str]
    events: list[EventRow]
    results: list[Stored]

    @property
    def size(self) -> int:
        """What its deliveries count for, in bytes."""
        return sum(row.size for row in self.deliveries)


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
    copies: Copies,
) -> Judged:
    """`accepted` says of each delivery of the batch that the journal knows whether it was accepted;
    `known` are those identities of its events that the journal has."""
    accepted, seen, kept = dict(accepted), set(known), _Bodies()
    judged = Judged(head, [], [], [], [])
    delivery, place = head
    for one in candidates:
        entry, verdict, name = one.entry, one.entry.verdict, one.name
        new = {identity: event for identity, event in one.events.items() if identity not in seen}
        if entry.replay_of:
            # It settles what became of the delivery, also where its events came another way.
            verdict = Verdict.DUPLICATE if entry.events and not new else verdict
        elif _is_duplicate(entry, accepted.get(name), new):
            if one in copies or one in kept:
                judged.results.append(Stored(Verdict.DUPLICATE))
                continue
            if entry.verdict is Verdict.ACCEPTED or accepted.get(name):
                verdict, new = Verdict.DUPLICATE, {}
            name = one.other_name if name in accepted else name
        delivery += 1
        judged.deliveries.append(_delivery_row(delivery, one, name, verdict))
        judged.receipts.append(entry.receipt)
        recorded = []
        for identity, event in new.items():
            place += 1
            judged.events.append(_event_row(place, delivery, identity, event, entry))
            recorded.append(Recorded(event, entry.received_at, entry.source, place))
        kept.add(one, new)
        seen.update(new)
        accepted[name] = accepted.get(name, False) or verdict is Verdict.ACCEPTED
        judged.results.append(Stored(verdict, tuple(recorded)))
    return judged._replace(head=Head(delivery, place))


class _Bodies:
    """The bodies of a batch that are to be kept, by the names of their deliveries and the events that these
    told."""

    def __init__(self) -> None:
        self._by: dict[Name | bytes, list[bytes]] = {}

    def __contains__(self, one: Candidate) -> bool:
        keys: list[Name | bytes] = [one.name, *one.events]
        return any(one.entry.body in self._by.get(key, ()) for key in keys)

    def add(self, one: Candidate, told: Collection[bytes]) -> None:
        if not one.entry.replay_of:
            keys: list[Name | bytes] = [one.name, *told]
            for key in keys:
                self._by.setdefault(key, []).append(one.entry.body)


def _is_duplicate(entry: Entry, known: bool | None, new: Collection[bytes]) -> bool:  # noqa: FBT001  # A value of a mapping.
    """`known` is None for a delivery that is not known, else whether it was accepted."""
    # What was once ignored or dead-lettered may be sent again after its mapping was mended.
    if known or (known is not None and entry.verdict is not Verdict.ACCEPTED):
        return True
    return bool(entry.events) and not new


def _delivery_row(seq: int, one: Candidate, name: Name, verdict: Verdict) -> DeliveryRow:
    entry = one.entry
    row = DeliveryRow(
        seq,
        *name,
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
