"""The journal in one SQLite file: WAL, synced in full, one writer thread that commits in groups."""

import asyncio
import contextlib
import fcntl
import queue
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from gateway import event as events
from gateway.delivery import Verdict
from gateway.event import Event, FieldValue
from gateway.journal.entry import Entry, JournalUnavailable, Overloaded, Recorded, Stored

APPLICATION_ID = 0x50474A31  # "PGJ1": tells our file from any other SQLite database.
SCHEMA_VERSION = 1
BATCH = 200
MAX_WAITING = 2_000
_COMPRESS_ABOVE = 512
_NO_END = 2**63 - 1

_SCHEMA = """
CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    event TEXT NOT NULL,
    received_at REAL NOT NULL,
    outcome TEXT NOT NULL,
    reasons TEXT NOT NULL,
    headers TEXT NOT NULL,
    query TEXT NOT NULL,
    compressed INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX deliveries_by_id ON deliveries (source, delivery_id);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    delivery INTEGER NOT NULL REFERENCES deliveries (seq),
    identity BLOB NOT NULL UNIQUE,
    received_at REAL NOT NULL,
    kind TEXT NOT NULL,
    fields TEXT NOT NULL
) STRICT;
"""


class JournalError(Exception):
    """The journal cannot be opened; one sentence says why and what to do."""


class _Waiting(Struct, frozen=True):
    entry: Entry
    answer: "asyncio.Future[Stored]"


class SqliteJournal:
    """Opens or creates the file. Raises JournalError.

    `append` is called on the event loop given to `start`; the writer thread alone touches the
    database from then on, apart from `events` and `last_event`, which read on connections of their
    own, in any thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = _locked(path)
        try:
            self._connection = _opened(path)
        except BaseException:
            self._lock.close()
            raise
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._waiting = 0
        self._healthy = True
        self._listener: Callable[[Iterable[Stored]], None] = lambda _batch: None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def healthy(self) -> bool:
        return self._healthy

    def follow(self, listener: Callable[[Iterable[Stored]], None]) -> None:
        self._listener = listener

    def start(self) -> None:
        """Starts the writer; called once, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write, name="journal")
        self._thread.start()

    def close(self) -> None:
        """Commits what waits, then lets go of the file."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        self._connection.close()
        self._lock.close()

    async def append(self, entry: Entry) -> Stored:
        if self._loop is None:
            raise JournalUnavailable("the journal is not started")
        if self._waiting >= MAX_WAITING:
            raise Overloaded(f"{self._waiting} deliveries wait already")
        answer: asyncio.Future[Stored] = self._loop.create_future()
        self._waiting += 1
        self._queue.put(_Waiting(entry, answer))
        # Shielded: the commit happens, and is folded, even where its sender has gone.
        return await asyncio.shield(answer)

    def events(self, until: int | None = None) -> Iterator[Recorded]:
        with self._reader() as reader:
            yield from recorded(reader, until)

    def last_event(self) -> int:
        with self._reader() as reader:
            return last_recorded(reader)

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        try:
            address = f"file:{self._path}?mode=ro"
            with contextlib.closing(sqlite3.connect(address, uri=True)) as reader:
                yield reader
        except sqlite3.Error as error:
            raise JournalUnavailable(f"the journal: {error}") from error

    # The writer thread

    def _write(self) -> None:
        closing = False
        while not closing:
            batch: list[_Waiting] = []
            item = self._queue.get()
            while True:
                if item is None:
                    closing = True
                    break
                batch.append(item)
                if len(batch) >= BATCH:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[_Waiting]) -> None:
        results: list[Stored] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = [_store(self._connection, waiting.entry) for waiting in batch]
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            self._tell(self._failed, batch, JournalUnavailable(f"the journal: {error}"))
        except Exception as error:  # noqa: BLE001  # A bug; raised again to whoever waits.
            self._roll_back()
            self._tell(self._failed, batch, error)
        else:
            self._tell(self._committed, batch, results)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                # A failed rollback leaves the transaction to the next BEGIN, which then fails too:
                # the journal stays unavailable rather than half written.
                return

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits for it.
                self._loop.call_soon_threadsafe(callback, *arguments)

    # Back on the event loop

    def _committed(self, batch: list[_Waiting], results: list[Stored]) -> None:
        self._healthy = True
        self._waiting -= len(batch)
        self._listener(results)
        for waiting, stored in zip(batch, results, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(stored)

    def _failed(self, batch: list[_Waiting], error: Exception) -> None:
        self._healthy = False
        self._waiting -= len(batch)
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)


_FIELDS = msgspec.json.Decoder(dict[str, FieldValue])


def recorded(reader: sqlite3.Connection, until: int | None = None) -> Iterator[Recorded]:
    """All events in the order they were committed, or those up to a place in this order."""
    for kind, fields, received_at, source in reader.execute(
        "SELECT kind, fields, events.received_at, source FROM events "
        "JOIN deliveries ON deliveries.seq = events.delivery "
        "WHERE events.seq <= ? ORDER BY events.seq",
        (_NO_END if until is None else until,),
    ):
        yield Recorded(Event(kind, _FIELDS.decode(fields)), received_at, source)


def last_recorded(reader: sqlite3.Connection) -> int:
    """The place of the last event in this order, 0 where there is none."""
    (last,) = reader.execute("SELECT max(seq) FROM events").fetchone()
    return last or 0


def _store(connection: sqlite3.Connection, entry: Entry) -> Stored:
    """Writes an entry within the open transaction, unless it is known already."""
    known = [
        outcome
        for (outcome,) in connection.execute(
            "SELECT outcome FROM deliveries WHERE source = ? AND delivery_id = ?",
            (entry.source, entry.delivery_id),
        )
    ]
    # What was once ignored or dead-lettered may be sent again after its mapping was mended.
    if Verdict.ACCEPTED in known or (known and entry.verdict is not Verdict.ACCEPTED):
        return Stored(Verdict.DUPLICATE, (), entry.received_at, entry.source)
    new = _unknown(connection, entry.events)
    if entry.events and not new:
        return Stored(Verdict.DUPLICATE, (), entry.received_at, entry.source)
    seq = _insert_delivery(connection, entry)
    connection.executemany(
        "INSERT INTO events (delivery, identity, received_at, kind, fields) VALUES (?, ?, ?, ?, ?)",
        [
            (
                seq,
                identity,
                entry.received_at,
                event.kind,
                msgspec.json.encode(event.fields).decode(),
            )
            for identity, event in new.items()
        ],
    )
    last = 0
    if new:
        (last,) = connection.execute("SELECT max(seq) FROM events").fetchone()
    return Stored(entry.verdict, tuple(new.values()), entry.received_at, entry.source, last)


def _unknown(connection: sqlite3.Connection, found: Iterable[Event]) -> dict[bytes, Event]:
    by_identity = {events.identity(event): event for event in found}
    return {
        identity: event
        for identity, event in by_identity.items()
        if connection.execute("SELECT 1 FROM events WHERE identity = ?", (identity,)).fetchone()
        is None
    }


def _insert_delivery(connection: sqlite3.Connection, entry: Entry) -> int | None:
    compressed = len(entry.body) > _COMPRESS_ABOVE
    return connection.execute(
        "INSERT INTO deliveries (source, delivery_id, event, received_at, outcome, reasons, headers,"
        " query, compressed, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            entry.source,
            entry.delivery_id,
            entry.event,
            entry.received_at,
            entry.verdict,
            msgspec.json.encode(entry.reasons).decode(),
            msgspec.json.encode(entry.headers).decode(),
            msgspec.json.encode(entry.query).decode(),
            compressed,
            zlib.compress(entry.body, 1) if compressed else entry.body,
        ),
    ).lastrowid


def _locked(path: Path) -> IO[bytes]:
    """Holds a lock beside the file: two gateways on one file would each show half of the series."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = lock_path.open("wb")
    except OSError as error:
        raise JournalError(f"cannot write the journal {path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        message = (
            f"the journal {path} is in use by another gateway; give this one its own --journal"
        )
        raise JournalError(message) from error
    return lock


def _opened(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2)
    except sqlite3.Error as error:
        raise JournalError(f"cannot open the journal {path}: {error}") from error
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise JournalError(f"cannot open the journal {path}: {error}") from error
    except JournalError:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Makes the file a durable journal, once it is known to be one or to be new."""
    # First of all: nothing is written into a file that is not ours.
    tables = recognised(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if mode != "wal" or synchronous != 2:
        raise JournalError(f"the journal {path} cannot be made durable on this file system")
    if not tables:
        connection.executescript(
            f"BEGIN; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
            f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )


def recognised(connection: sqlite3.Connection, path: Path) -> int:
    """How many tables the file has: none where it is new. Raises JournalError for another's file."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application not in (0, APPLICATION_ID) or (tables and not application):
        raise JournalError(f"{path} is a database of another program; name another --journal")
    if version > SCHEMA_VERSION:
        message = (
            f"the journal {path} was written by a newer gateway (schema {version}, "
            f"this one knows {SCHEMA_VERSION}); use that gateway"
        )
        raise JournalError(message)
    return int(tables)
