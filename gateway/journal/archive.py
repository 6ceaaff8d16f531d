"""A journal read beside its writer: which deliveries it keeps, and each of them whole."""

import zlib
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from gateway.delivery import Delivery, Reason, Verdict
from gateway.event import Event
from gateway.journal import reading
from gateway.journal.batch import DeliveryRow, EventRow
from gateway.journal.entry import JournalError, Recorded
from gateway.journal.reading import Database

LEAST_PREFIX = 4
"""Characters of an id that may stand for the whole of it."""


class Kept(Struct, frozen=True, kw_only=True):
    """A delivery in the journal. `number` counts deliveries from 1, in the order they were committed.
    `outcome` and `reasons` are those of its last replay, `replays` how often it was replayed, `events`
    how many new ones it brought in all; `received_at` is epoch seconds."""

    number: int
    delivery: str
    source: str
    event: str
    outcome: Verdict
    received_at: float
    events: int
    reasons: tuple[Reason, ...]
    replays: int = 0


class Selection(Struct, frozen=True, kw_only=True):
    """Which deliveries are wanted: those that fit every one of these; times in epoch seconds. `after`
    is a number: only those that came later in the journal's order. `settled` takes in dead letters
    that were accepted when they were sent again."""

    source: str = ""
    outcomes: tuple[str, ...] = ()
    event: str = ""
    since: float = 0.0
    until: float = 0.0
    limit: int = 20
    numbers: tuple[int, ...] = ()
    after: int = 0
    settled: bool = True


class Damage(Struct, frozen=True):
    """A row that is not what was written."""

    table: str
    number: int


_LATEST = (
    "coalesce((SELECT {0} FROM deliveries AS replay WHERE replay.replay_of = deliveries.seq "
    "ORDER BY replay.seq DESC LIMIT 1), {0})"
)
_OUTCOME = _LATEST.format("outcome")
_COLUMNS = (
    f"seq, delivery_id, source, event, {_OUTCOME}, received_at, "  # noqa: S608  # Fixed words.
    "(SELECT count(*) FROM events WHERE events.delivery = deliveries.seq "
    "OR events.delivery IN (SELECT seq FROM deliveries AS replay WHERE replay.replay_of = deliveries.seq)), "
    f"{_LATEST.format('reasons')}, "
    "(SELECT count(*) FROM deliveries AS replay WHERE replay.replay_of = deliveries.seq)"
)

_SETTLED = (
    "EXISTS (SELECT 1 FROM deliveries AS other WHERE other.source = deliveries.source AND "
    "other.delivery_id = deliveries.delivery_id AND other.outcome = 'accepted')"
)


class Archive:
    """Reads a journal, whether or not a gateway writes it. Every method raises JournalError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def latest(self, wanted: Selection) -> list[Kept]:
        """The latest deliveries of a selection, the newest first."""
        where, values = _where(wanted)
        query = f"SELECT {_COLUMNS} FROM deliveries WHERE {where} ORDER BY seq DESC LIMIT ?"  # noqa: S608  # Fixed words; values are bound.
        with self._database.reader() as rows:
            return [_kept(row) for row in rows(query, (*values, wanted.limit))]

    def oldest(self, wanted: Selection) -> list[Kept]:
        """The first deliveries of a selection, in the order in which they came."""
        where, values = _where(wanted)
        query = f"SELECT {_COLUMNS} FROM deliveries WHERE {where} ORDER BY seq LIMIT ?"  # noqa: S608  # As above.
        with self._database.reader() as rows:
            return [_kept(row) for row in rows(query, (*values, wanted.limit))]

    def count(self, wanted: Selection) -> int:
        """How many deliveries fit a selection, whatever its limit."""
        where, values = _where(wanted)
        query = f"SELECT count(*) FROM deliveries WHERE {where}"  # noqa: S608  # As above.
        with self._database.reader() as rows:
            return int(next(iter(rows(query, values)))[0])

    def find(self, name: str, source: str = "") -> list[Kept]:
        """The deliveries of an id, or of the beginning of one, the newest first; several where it was
        sent again after it had failed, where sources share it, or where the beginning fits more."""
        fits, values = "delivery_id = ?", [name]
        if len(name) >= LEAST_PREFIX:
            fits, values = "(delivery_id = ? OR substr(delivery_id, 1, length(?)) = ?)", [name] * 3
        query = (
            f"SELECT {_COLUMNS} FROM deliveries WHERE {fits} AND (? = '' OR source = ?) "  # noqa: S608  # As above.
            "AND replay_of IS NULL ORDER BY delivery_id = ? DESC, seq DESC LIMIT 50"
        )
        with self._database.reader() as rows:
            found = [_kept(row) for row in rows(query, (*values, source, source, name))]
        exact = [one for one in found if one.delivery == name]
        return exact or found

    def load(self, number: int) -> Delivery:
        """A delivery as it came, without the headers that carried secrets."""
        with self._database.reader() as rows:
            found = list(rows(f"{_WHOLE} WHERE seq = ?", (number,)))
        if not found:
            raise JournalError(f"delivery {number} is not kept any more")
        row = DeliveryRow._make(found[0])
        if reading.is_damaged(row):
            raise JournalError(f"delivery {number} is damaged: it is not what was written")
        return Delivery(
            source=row.source,
            headers=_TEXTS.decode(row.headers),
            query=_TEXTS.decode(row.query),
            body=zlib.decompress(row.body) if row.compressed else bytes(row.body),
            received_at=row.received_at,
        )

    def events_of(self, number: int) -> list[Event]:
        """The events that a delivery brought, those of its replays among them."""
        query = (
            "SELECT kind, fields FROM events WHERE delivery = ? OR delivery IN "
            "(SELECT seq FROM deliveries WHERE replay_of = ?) ORDER BY seq"
        )
        with self._database.reader() as rows:
            return [Event(kind, _FIELDS.decode(text)) for kind, text in rows(query, (number,) * 2)]

    def known(self, identities: list[bytes]) -> set[bytes]:
        """Those of these events that the journal has."""
        query = "SELECT 1 FROM events WHERE identity = ?"
        with self._database.reader() as rows:
            return {one for one in identities if list(rows(query, (one,)))}

    def events(self, until: int) -> Iterator[Recorded]:
        """All events up to a place in the order they were committed, apart from damaged ones."""
        with self._database.reader() as rows:
            for row in reading.event_rows(rows, 0, until):
                recorded = reading.recorded(row)
                if recorded is not None:
                    yield recorded

    def last_event(self) -> int:
        """The place of the last event in this order, 0 where there is none."""
        with self._database.reader() as rows:
            return reading.last_event(rows)

    def size(self) -> tuple[int, int]:
        """How many deliveries and events are kept."""
        with self._database.reader() as rows:
            (deliveries,) = next(iter(rows("SELECT count(*) FROM deliveries", ())))
            (events,) = next(iter(rows("SELECT count(*) FROM events", ())))
        return int(deliveries), int(events)

    def verify(self) -> Iterator[Damage | None]:
        """Every row in turn: its damage, or nothing where it is what was written."""
        every_event = f"SELECT {', '.join(EventRow._fields)} FROM events ORDER BY seq"  # noqa: S608  # Fixed words.
        with self._database.reader() as rows:
            for table, query in (("deliveries", f"{_WHOLE} ORDER BY seq"), ("events", every_event)):
                for row in rows(query, ()):
                    yield Damage(table, row[0]) if reading.is_damaged(row) else None


def _where(wanted: Selection) -> tuple[str, list[Any]]:
    conditions, values = ["replay_of IS NULL", "received_at >= ?"], [wanted.since]  # type: list[str], list[Any]
    for condition, value in (
        ("received_at < ?", wanted.until),
        ("seq > ?", wanted.after),
        ("source = ?", wanted.source),
        ("event = ?", wanted.event),
    ):
        if value:
            conditions.append(condition)
            values.append(value)
    for column, among in ((_OUTCOME, wanted.outcomes), ("seq", wanted.numbers)):
        if among:
            conditions.append(f"{column} IN ({', '.join('?' * len(among))})")
            values += among
    if not wanted.settled:
        conditions.append(f"NOT {_SETTLED}")
    return " AND ".join(conditions), values


_WHOLE = f"SELECT {', '.join(DeliveryRow._fields)} FROM deliveries"  # noqa: S608  # Fixed words.
_TEXTS = msgspec.json.Decoder(dict[str, str])
_FIELDS = msgspec.json.Decoder(dict[str, str | int | float])
_REASONS = msgspec.json.Decoder(tuple[Reason, ...])


def _kept(row: tuple[Any, ...]) -> Kept:
    number, delivery, source, event, outcome, received_at, events, reasons, replays = row
    return Kept(
        number=number,
        delivery=delivery,
        source=source,
        event=event,
        outcome=Verdict(outcome),
        received_at=received_at,
        events=events,
        reasons=_REASONS.decode(reasons),
        replays=replays,
    )
