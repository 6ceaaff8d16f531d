"""A journal read beside its writer: which deliveries it keeps, and each of them whole."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from gateway.delivery import Delivery, Reason, Verdict
from gateway.event import Event
from gateway.journal import reading
from gateway.journal.batch import DeliveryRow, EventRow, body_of
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


OPEN = Selection(outcomes=(Verdict.DEAD_LETTERED.value,), settled=False)
"""The open dead letters: neither replayed with success nor accepted when they were sent again."""


class NotFound(JournalError):
    """The journal does not hold what is asked for."""


class Arrivals(Struct, frozen=True):
    """How many deliveries of a source are kept, and when the first and the last of them were received,
    in epoch seconds."""

    count: int
    first: float
    last: float


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

_EVER_DEAD = (
    "seq IN (SELECT coalesce(replay_of, seq) FROM deliveries AS dead "
    "WHERE dead.outcome = 'dead_lettered')"
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
            return [_kept(row) for row in rows(query, (*values, wanted.limit)) if row]

    def oldest(self, wanted: Selection) -> list[Kept]:
        """The first deliveries of a selection, in the order in which they came."""
        where, values = _where(wanted)
        query = f"SELECT {_COLUMNS} FROM deliveries WHERE {where} ORDER BY seq LIMIT ?"  # noqa: S608  # As above.
        with self._database.reader() as rows:
            return [_kept(row) for row in rows(query, (*values, wanted.limit)) if row]

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
            found = [_kept(row) for row in rows(query, (*values, source, source, name)) if row]
        exact = [one for one in found if one.delivery == name]
        return exact or found

    def only(self, name: str, source: str = "") -> Kept:
        """The one delivery of an id, or of the beginning of one; the last where it came several times.
        Raises NotFound, also where the beginning fits several."""
        found = self.find(name, source)
        if not found:
            among = f" of the source `{source}`" if source else ""
            raise NotFound(
                f"the journal holds no delivery `{name}`{among}; `gateway deliveries` lists the latest"
            )
        ids = sorted({(one.source, one.delivery) for one in found})
        if len(ids) > 1:
            listing = ", ".join(f"{delivery} of {source}" for source, delivery in ids[:5])
            raise NotFound(
                f"`{name}` fits {len(ids)} deliveries: {listing}; give more of the id, or --source"
            )
        return found[0]

    def open_dead_letters(self) -> dict[str, int]:
        """How many dead letters of each source are open."""
        where, values = _where(OPEN)
        query = f"SELECT source, count(*) FROM deliveries WHERE {where} GROUP BY source"  # noqa: S608  # As above.
        with self._database.reader() as rows:
            return {source: int(count) for source, count in rows(query, values)}

    def last(self) -> int:
        """The number of the last delivery, 0 where there is none."""
        with self._database.reader() as rows:
            for (number,) in rows("SELECT deliveries FROM head", ()):
                return int(number)
        return 0

    def load(self, number: int) -> Delivery:
        """A delivery as it came, without the headers that carried secrets."""
        with self._database.reader() as rows:
            found = list(rows(f"{_WHOLE} WHERE seq = ?", (number,)))
        if not found:
            raise NotFound(f"delivery {number} is not kept any more")
        damaged = f"delivery {number} is damaged: it is not what was written"
        if not found[0] or reading.is_damaged(found[0]):
            raise JournalError(damaged)
        row = DeliveryRow._make(found[0])
        body = body_of(row.compressed, row.body)
        if body is None:
            # Rows of a time before rows had a hash are found out here.
            raise JournalError(damaged)
        try:
            return Delivery(
                source=row.source,
                headers=_TEXTS.decode(row.headers),
                query=_TEXTS.decode(row.query),
                body=body,
                received_at=row.received_at,
            )
        except msgspec.DecodeError as error:
            raise JournalError(damaged) from error

    def events_of(self, number: int) -> list[Event]:
        """The events that a delivery brought, those of its replays among them, apart from damaged ones."""
        query = (
            f"{_EVENTS} WHERE delivery = ? OR delivery IN "  # noqa: S608  # As above.
            "(SELECT seq FROM deliveries WHERE replay_of = ?) ORDER BY seq"
        )
        with self._database.reader() as rows:
            found = [reading.recorded(EventRow._make(row)) for row in rows(query, (number,) * 2)]
        return [recorded.event for recorded in found if recorded is not None]

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

    def arrivals(self) -> dict[str, Arrivals]:
        """By source; one of which nothing is kept is left out."""
        # By an index alone, as bodies lie between the rows themselves.
        query = (
            "SELECT source, count(*), min(seq), max(seq) FROM deliveries "
            "WHERE seq NOT IN (SELECT seq FROM deliveries WHERE replay_of IS NOT NULL) GROUP BY source"
        )
        time_of = "SELECT received_at FROM deliveries WHERE seq = ?"
        with self._database.reader() as rows:
            found = {}
            for source, count, *ends in list(rows(query, ())):
                first, last = (next(iter(rows(time_of, (end,))))[0] for end in ends)
                found[source] = Arrivals(int(count), float(first), float(last))
            return found

    def verify(self, newest: int | None = None) -> Iterator[Damage | None]:
        """Every row in turn, or only so many of the newest of each table: its damage, or nothing where
        it is what was written."""
        with self._database.reader() as rows:
            ends = next(iter(rows("SELECT deliveries, events FROM head", ())))
            for table, query, last in zip(
                ("deliveries", "events"), (_WHOLE, _EVENTS), ends, strict=True
            ):
                number = 0 if newest is None else max(0, int(last) - newest)
                for row in rows(f"{query} WHERE seq > ? ORDER BY seq", (number,)):
                    number = row[0] if row else number + 1
                    yield Damage(table, number) if not row or reading.is_damaged(row) else None


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
    if wanted.outcomes == OPEN.outcomes:
        # What follows from the above, by an index of the few.
        conditions.append(_EVER_DEAD)
    if not wanted.settled:
        conditions.append(f"NOT {_SETTLED}")
    return " AND ".join(conditions), values


_WHOLE = f"SELECT {', '.join(DeliveryRow._fields)} FROM deliveries"  # noqa: S608  # Fixed words.
_EVENTS = f"SELECT {', '.join(EventRow._fields)} FROM events"  # noqa: S608  # Fixed words.
_TEXTS = msgspec.json.Decoder(dict[str, str])
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
