"""What is read of a journal beside its writer, in whichever database it lives: SQL that both know."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec

from gateway.event import Event, FieldValue
from gateway.journal.batch import EventRow, digest
from gateway.journal.entry import Recorded

Query = Callable[[str, Sequence[Any]], Iterator[tuple[Any, ...]]]
"""Rows of a statement with `?` for its values, some of which may be `UNREADABLE`."""

UNREADABLE: tuple[Any, ...] = ()
"""In place of a row that cannot be read, because it is damaged."""

_NO_END = 2**63 - 1
_EVENT_COLUMNS = ", ".join(EventRow._fields)


class Database(Protocol):
    """A journal's database, as it is read: whether or not a gateway writes it."""

    def reader(self) -> AbstractContextManager[Query]:
        """A connection for the length of a block. Raises JournalError."""
        ...


def event_rows(query: Query, after: int = 0, until: int | None = None) -> Iterator[EventRow]:
    """The rows of events in their order, from behind a place up to another one; for one that cannot be
    read, one that is damaged."""
    place = after
    for row in query(
        f"SELECT {_EVENT_COLUMNS} FROM events WHERE seq > ? AND seq <= ? ORDER BY seq",  # noqa: S608  # Fixed words.
        (after, _NO_END if until is None else until),
    ):
        place = row[0] if row else place + 1
        yield EventRow._make(row) if row else EventRow(place, 0, b"", 0.0, "", "", "")


def recorded(row: EventRow) -> Recorded | None:
    """The event of a row; None where the row is not what was written."""
    if is_damaged(row):
        return None
    return Recorded(
        Event(row.kind, _FIELDS.decode(row.fields)), row.received_at, row.source, row.seq
    )


def is_damaged(row: Sequence[Any]) -> bool:
    """Whether a row is not what was written. One of a time before rows had a hash cannot be told."""
    return row[-1] is not None and digest(row) != row[-1]


def last_event(query: Query) -> int:
    """The place of the last event ever, 0 where there is none."""
    for (last,) in query("SELECT events FROM head", ()):
        return int(last)
    return 0


_FIELDS = msgspec.json.Decoder(dict[str, FieldValue])
