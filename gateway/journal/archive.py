"""A journal read beside its writer: which deliveries it keeps, and each of them whole."""

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.delivery import Delivery, Reason, Verdict
from gateway.journal.entry import Recorded
from gateway.journal.sqlite import JournalError, last_recorded, recognised, recorded

LEAST_PREFIX = 4
"""Characters of an id that may stand for the whole of it."""


class Kept(Struct, frozen=True, kw_only=True):
    """A delivery in the journal. `number` counts deliveries from 1, in the order they were committed;
    `events` is how many new ones it brought, `received_at` epoch seconds."""

    number: int
    delivery: str
    source: str
    event: str
    outcome: Verdict
    received_at: float
    events: int
    reasons: tuple[Reason, ...]


class Selection(Struct, frozen=True, kw_only=True):
    """Which deliveries are wanted: those that fit every one of these; `since` in epoch seconds."""

    source: str = ""
    outcomes: tuple[str, ...] = ()
    event: str = ""
    since: float = 0.0
    limit: int = 20


_COLUMNS = (
    "seq, delivery_id, source, event, outcome, received_at, "
    "(SELECT count(*) FROM events WHERE events.delivery = deliveries.seq), reasons"
)


class Archive:
    """Reads the journal file of a path, whether or not a gateway writes it. Every method raises
    JournalError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def latest(self, wanted: Selection) -> list[Kept]:
        """The latest deliveries of a selection, the newest first."""
        conditions, values = ["received_at >= ?"], [wanted.since]  # type: list[str], list[Any]
        if wanted.source:
            conditions.append("source = ?")
            values.append(wanted.source)
        if wanted.event:
            conditions.append("event = ?")
            values.append(wanted.event)
        if wanted.outcomes:
            conditions.append(f"outcome IN ({', '.join('?' * len(wanted.outcomes))})")
            values += wanted.outcomes
        query = (
            f"SELECT {_COLUMNS} FROM deliveries WHERE {' AND '.join(conditions)} "  # noqa: S608  # Fixed words; values are bound.
            "ORDER BY seq DESC LIMIT ?"
        )
        with self._reader() as reader:
            return [_kept(row) for row in reader.execute(query, (*values, wanted.limit))]

    def find(self, name: str, source: str = "") -> list[Kept]:
        """The deliveries of an id, or of the beginning of one, the newest first; several where it was
        sent again after it had failed, where sources share it, or where the beginning fits more."""
        fits = "delivery_id = ?1"
        if len(name) >= LEAST_PREFIX:
            fits = "(delivery_id = ?1 OR substr(delivery_id, 1, length(?1)) = ?1)"
        query = (
            f"SELECT {_COLUMNS} FROM deliveries WHERE {fits} AND (?2 = '' OR source = ?2) "  # noqa: S608  # As above.
            "ORDER BY delivery_id = ?1 DESC, seq DESC LIMIT 50"
        )
        with self._reader() as reader:
            found = [_kept(row) for row in reader.execute(query, (name, source))]
        exact = [one for one in found if one.delivery == name]
        return exact or found

    def load(self, number: int) -> Delivery:
        """A delivery as it came, without the headers that carried secrets."""
        query = (
            "SELECT source, headers, query, compressed, body, received_at FROM deliveries "
            "WHERE seq = ?"
        )
        with self._reader() as reader:
            source, headers, parameters, compressed, body, received_at = reader.execute(
                query, (number,)
            ).fetchone()
        return Delivery(
            source=source,
            headers=_TEXTS.decode(headers),
            query=_TEXTS.decode(parameters),
            body=zlib.decompress(body) if compressed else body,
            received_at=received_at,
        )

    def events(self, until: int) -> Iterator[Recorded]:
        """All events up to a place in the order they were committed."""
        with self._reader() as reader:
            yield from recorded(reader, until)

    def last_event(self) -> int:
        """The place of the last event in this order, 0 where there is none."""
        with self._reader() as reader:
            return last_recorded(reader)

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        if not self._path.is_file():
            raise JournalError(f"there is no journal {self._path}; name it with --journal")
        try:
            reader = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)
            try:
                if not recognised(reader, self._path):
                    raise JournalError(f"the journal {self._path} is empty")
                yield reader
            finally:
                reader.close()
        except sqlite3.Error as error:
            raise JournalError(f"cannot read the journal {self._path}: {error}") from error


_TEXTS = msgspec.json.Decoder(dict[str, str])
_REASONS = msgspec.json.Decoder(tuple[Reason, ...])


def _kept(row: tuple[Any, ...]) -> Kept:
    number, delivery, source, event, outcome, received_at, events, reasons = row
    return Kept(
        number=number,
        delivery=delivery,
        source=source,
        event=event,
        outcome=Verdict(outcome),
        received_at=received_at,
        events=events,
        reasons=_REASONS.decode(reasons),
    )
