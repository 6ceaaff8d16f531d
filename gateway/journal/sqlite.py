"""The journal in one SQLite file: WAL, synced in full, one connection that writes and checkpoints.

SQLite comes with the package apsw, current and the same on every system: what Linux distributions and
images of Python carry may corrupt a file that two connections write at once.
"""

import fcntl
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import apsw
import msgspec
from msgspec import Struct

from gateway.journal import reading
from gateway.journal.batch import (
    SIZE_IN_SQL,
    Candidate,
    Copies,
    DeliveryRow,
    EventRow,
    Head,
    Judged,
    judge,
)
from gateway.journal.entry import JournalError, JournalUnavailable, Recorded, Stored
from gateway.journal.reading import UNREADABLE, Query
from gateway.journal.retention import KEEP_ALL, Retention, removal

APPLICATION_ID = 0x50474A31  # "PGJ1": tells our file from any other SQLite database.
BUSY_TIMEOUT = 2_000
"""Milliseconds that a batch waits for whoever else holds the file."""
_CHUNK = 64 * 1024
"""Bytes; SQLite writes no more than 128 KiB at once."""
WAL_LIMIT = 16 * 1024 * 1024
"""Bytes; a longer log, which a long reader has caused, is cut when it may be."""

log = logging.getLogger("gateway")

_SCHEMA = """
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    deliveries INTEGER NOT NULL,
    events INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
INSERT INTO head VALUES (1, 0, 0, 0);
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
    replay_of INTEGER,
    body BLOB NOT NULL,
    hash BLOB
) STRICT;
CREATE INDEX deliveries_by_id ON deliveries (source, delivery_id);
CREATE INDEX deliveries_replayed ON deliveries (replay_of) WHERE replay_of IS NOT NULL;
CREATE INDEX deliveries_dead ON deliveries (replay_of) WHERE outcome = 'dead_lettered';
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    delivery INTEGER NOT NULL,
    identity BLOB NOT NULL UNIQUE,
    received_at REAL NOT NULL,
    kind TEXT NOT NULL,
    fields TEXT NOT NULL,
    source TEXT NOT NULL,
    hash BLOB
) STRICT;
CREATE INDEX events_by_delivery ON events (delivery);
"""

_MIGRATIONS = {
    1: """
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    deliveries INTEGER NOT NULL,
    events INTEGER NOT NULL
) STRICT;
INSERT INTO head VALUES (
    1, (SELECT coalesce(max(seq), 0) FROM deliveries), (SELECT coalesce(max(seq), 0) FROM events)
);
ALTER TABLE deliveries ADD COLUMN replay_of INTEGER;
ALTER TABLE deliveries ADD COLUMN hash BLOB;
CREATE INDEX deliveries_replayed ON deliveries (replay_of) WHERE replay_of IS NOT NULL;
CREATE INDEX deliveries_dead ON deliveries (replay_of) WHERE outcome = 'dead_lettered';
ALTER TABLE events ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN hash BLOB;
UPDATE events SET source = (SELECT source FROM deliveries WHERE deliveries.seq = events.delivery);
CREATE INDEX events_by_delivery ON events (delivery);
""",
    2: f"""
ALTER TABLE head ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE head SET bytes = (SELECT coalesce(sum({SIZE_IN_SQL}), 0) FROM deliveries);
""",  # noqa: S608  # Fixed words.
}
"""What makes a file of one version one of the next."""
SCHEMA_VERSION = len(_MIGRATIONS) + 1


ROWS = (64, 16, 4, 1)
"""How many rows one statement inserts. Between two statements the interpreter is given away, and is to
be had again only when the event loop pauses."""


class _Insert:
    """Rows put into a table by as few statements as can be."""

    def __init__(self, table: str, columns: Sequence[str]) -> None:
        marks = f"({', '.join('?' * len(columns))})"
        start = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608  # Fixed words.
        self._statements = {size: start + ", ".join([marks] * size) for size in ROWS}

    def __call__(self, connection: apsw.Connection, rows: Sequence[Sequence[Any]]) -> None:
        done = 0
        for size, statement in self._statements.items():
            while len(rows) - done >= size:
                connection.execute(statement, list(chain(*rows[done : done + size])))
                done += size


_insert_deliveries = _Insert("deliveries", DeliveryRow._fields)
_insert_events = _Insert("events", EventRow._fields)

_NAMED = """
FROM json_each(?) AS named CROSS JOIN deliveries
ON source = named.value ->> 0 AND delivery_id = named.value ->> 1
"""
_IDENTIFIED = "identity IN (SELECT unhex(value) FROM json_each(?))"
_ACCEPTED = (
    f"SELECT source, delivery_id, max(outcome = 'accepted') {_NAMED} GROUP BY source, delivery_id"
)
_KNOWN = f"SELECT identity FROM events WHERE {_IDENTIFIED}"  # noqa: S608  # Fixed words.
_BODIES_NAMED = f"SELECT source, delivery_id, compressed, body {_NAMED} WHERE replay_of IS NULL"
_TELLERS = f"""
SELECT identity, events.seq, coalesce(telling.replay_of, telling.seq)
FROM events JOIN deliveries AS telling ON telling.seq = events.delivery WHERE {_IDENTIFIED}
"""  # noqa: S608  # As above.
_BODY = "SELECT seq, compressed, body FROM deliveries WHERE seq = ?"


class SqliteStore:
    """Opens or creates the file; `close` lets go of it. `commit`, `tend` and `close` are for one thread
    at a time. A worker writes under the lock of the process that started it. Raises JournalError."""

    def __init__(
        self,
        path: Path,
        retention: Retention = KEEP_ALL,
        *,
        vfs: str = "",
        workers: bool = False,
        lock: "Lock | None" = None,
    ) -> None:
        self._file = SqliteFile(path, vfs)
        self._path = path
        self._retention = retention
        self.lock = lock or Lock.take(path)
        self._turn = _Turn(path) if workers else None
        self._damaged: set[int] = set()
        self._connection: apsw.Connection | None = None
        self._is_suspect = False
        self._written = 0
        self.is_shared = workers
        try:
            self._connection = self._file.open_writer()
            self._identity = _identity(path)
            self._log_identity = _identity(log_path(path))
            self._has_content = False
            self.missing = _lacking(self.lock, self._file)
        except BaseException:
            if self._connection is not None:
                _close(self._connection)
            self.lock.release()
            raise

    @property
    def damaged(self) -> int:
        return len(self._damaged)

    def commit(self, batch: Sequence[Candidate]) -> list[Stored]:
        with self._in_turn(), self._working() as connection:
            connection.execute("BEGIN IMMEDIATE")
            judged = _judged(connection, batch)
            if not judged.deliveries:
                connection.execute("ROLLBACK")
                return judged.results
            _write(connection, judged)
            connection.execute("COMMIT")
            self.lock.acknowledge(judged.head.deliveries)
        self._written += len(judged.deliveries)
        return judged.results

    def _in_turn(self) -> AbstractContextManager[None, None]:
        return self._turn or nullcontext()

    @contextmanager
    def _working(self) -> Iterator[apsw.Connection]:
        """The connection, where a commit through it is a commit into the journal's file. Raises
        JournalUnavailable, and then nothing of the block is kept."""
        try:
            self._check_file()
            self._check_disk()
            yield self._connection or self._open_again()
        except JournalUnavailable:
            self._is_suspect = True
            raise
        except JournalError as error:
            self._is_suspect = True
            raise JournalUnavailable(str(error)) from error
        except apsw.Error as error:
            self._give_up(error)
            raise JournalUnavailable(f"the journal {self._path}: {_words(error)}") from error
        except BaseException:
            self._give_up(None)
            raise
        self._is_suspect = False

    def _open_again(self) -> apsw.Connection:
        connection = self._connection = self._file.open_writer()
        self._log_identity = _identity(log_path(self._path))
        return connection

    def _give_up(self, error: apsw.Error | None) -> None:
        """Rolls back; after anything worse than a lock or a full disk, begins anew next time."""
        self._is_suspect = True
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except apsw.Error:
            error = None
        if not isinstance(error, apsw.BusyError | apsw.LockedError | apsw.FullError):
            self._connection = None
            _abandon(connection)

    def _check_file(self) -> None:
        if self._is_another():
            raise JournalUnavailable(
                f"the journal {self._path} was removed, replaced or emptied while it was in use; put it "
                "back, or start again with what is there now"
            )
        if _identity(lock_path(self._path)) != self.lock.identity:
            raise JournalUnavailable(
                f"the lock {lock_path(self._path)} was removed or replaced while it was in use, so that "
                "another gateway could take the journal; start again"
            )

    def _is_another(self) -> bool:
        log_identity = _identity(log_path(self._path)) if self._connection else self._log_identity
        if (_identity(self._path), log_identity) != (self._identity, self._log_identity):
            return True
        # A new file has no content before its first checkpoint.
        is_empty = not self._path.stat().st_size
        self._has_content |= not is_empty
        return is_empty and self._has_content

    def _check_disk(self) -> None:
        least = self._retention.min_free
        if not least:
            return
        found = os.statvfs(self._path.parent)
        free = found.f_bavail * found.f_frsize
        if free < least:
            raise JournalUnavailable(
                f"the disk of the journal {self._path} has {free >> 20} MiB left, less than the "
                f"{least >> 20} MiB of --min-free; make room"
            )

    def tend(self) -> bool:
        more = False
        with self._in_turn(), self._working() as connection:
            if self._is_suspect:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            more = self._prune(connection)
            if self._written and not more:
                _checkpoint(connection, self._path)
                self._written = 0
        return more

    def _prune(self, connection: apsw.Connection) -> bool:
        kept, now = self._retention, time.time()
        removed = 0
        if kept.deliveries:
            removed += _remove(connection, "deliveries", now, now - kept.deliveries)
        if kept.events:
            removed += _remove(connection, "events", now, now - kept.events)
        if kept.size and _is_full(connection, kept.size):
            removed += _remove(connection, "deliveries", math.inf, math.inf)
        if removed:
            connection.execute("PRAGMA incremental_vacuum(2000)").fetchall()
            self._written += removed
        return removed > 0

    def watch(self, news: Callable[[], None]) -> None:
        """Nobody tells: whoever shares the file looks for what others committed."""

    def events(self, after: int = 0, until: int | None = None) -> Iterator[Recorded]:
        try:
            with self._file.reader() as query:
                for row in reading.event_rows(query, after, until):
                    recorded = reading.recorded(row)
                    if recorded is not None:
                        yield recorded
                    elif row.seq not in self._damaged:
                        self._damaged.add(row.seq)
                        log.error("the journal %s: event %d is damaged", self._path, row.seq)
        except JournalError as error:
            raise JournalUnavailable(str(error)) from error

    def last_event(self) -> int:
        try:
            with self._file.reader() as query:
                return reading.last_event(query)
        except JournalError as error:
            raise JournalUnavailable(str(error)) from error

    def close(self) -> None:
        if self._connection is not None:
            _close(self._connection)
        if self._turn is not None:
            self._turn.close()
        self.lock.release()


def _judged(connection: apsw.Connection, batch: Sequence[Candidate]) -> Judged:
    """What is to be written of a batch, by what the journal knows in this transaction."""
    names = _listed(list({one.name for one in batch}))
    identities = _listed([key.hex() for one in batch for key in one.events])
    accepted = {(row[0], row[1]): bool(row[2]) for row in _rows(connection, _ACCEPTED, names)}
    known = {row[0] for row in _rows(connection, _KNOWN, identities)}
    return judge(
        batch,
        Head._make(_rows(connection, "SELECT deliveries, events FROM head")[0]),
        accepted,
        known,
        _copies(connection, Copies(batch, accepted, known)),
    )


def _copies(connection: apsw.Connection, copies: Copies) -> Copies:
    """With all that they may be copies of compared, one body at a time."""
    if copies.names:
        for source, name, *body in connection.execute(
            _BODIES_NAMED, (_listed(list(copies.names)),)
        ):
            copies.compare_named((source, name), *body)
    if copies.identities:
        told = _listed([identity.hex() for identity in copies.identities])
        for number in copies.tellers(_rows(connection, _TELLERS, told)):
            for row in connection.execute(_BODY, (number,)):
                copies.compare_told(*row)
    return copies


def _listed(values: Sequence[object]) -> str:
    return msgspec.json.encode(values).decode()


def _rows(connection: apsw.Connection, statement: str, *values: str | float) -> list[Any]:
    return connection.execute(statement, values).fetchall()


def _write(connection: apsw.Connection, judged: Judged) -> None:
    _insert_deliveries(connection, judged.deliveries)
    _insert_events(connection, judged.events)
    connection.execute(
        "UPDATE head SET deliveries = ?, events = ?, bytes = bytes + ?", (*judged.head, judged.size)
    )


def _remove(connection: apsw.Connection, table: str, by: float, before: float) -> int:
    """Removes a few of the oldest rows; how many."""
    connection.execute("BEGIN IMMEDIATE")
    removed = _rows(connection, removal(table), by, before)
    if removed:
        freed = sum(int(one) for (one,) in removed)
        connection.execute("UPDATE head SET bytes = bytes - ?", (freed,))
    connection.execute("COMMIT" if removed else "ROLLBACK")
    return len(removed)


def _is_full(connection: apsw.Connection, most: int) -> bool:
    """Whether more bytes of the file are in use, and deliveries take more than half as many: fewer of them,
    beside many events, would go as soon as they come, and make no room."""
    pages = _number(connection, "PRAGMA page_count") - _number(connection, "PRAGMA freelist_count")
    used = pages * _number(connection, "PRAGMA page_size")
    return used > most and 2 * _number(connection, "SELECT bytes FROM head") > most


def _checkpoint(connection: apsw.Connection, path: Path) -> None:
    """Brings the log's pages into the file, as far as readers let it; a later one brings the rest."""
    try:
        length = log_path(path).stat().st_size
    except OSError:
        length = 0
    mode = apsw.SQLITE_CHECKPOINT_PASSIVE
    if length > WAL_LIMIT:
        mode = apsw.SQLITE_CHECKPOINT_TRUNCATE
    # Who reads for long, such as a backup, is not waited for: deliveries would wait, too.
    connection.set_busy_timeout(0)
    try:
        connection.wal_checkpoint(mode=mode)
    except (apsw.BusyError, apsw.LockedError):
        return
    finally:
        connection.set_busy_timeout(BUSY_TIMEOUT)


def _abandon(connection: apsw.Connection) -> None:
    """Closes after a failure, and leaves the log as it is: the next to open the file writes it again
    before anything relies on it."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    _close(connection)


def _close(connection: apsw.Connection) -> None:
    try:
        connection.close()
    except apsw.Error:
        # What could not be checkpointed stays in the log, which the next to open it reads.
        return


def log_path(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one of its name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _words(error: apsw.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class SqliteFile:
    """A journal's file, opened to be read or to be written."""

    def __init__(self, path: Path, vfs: str = "") -> None:
        self._path = path
        self._vfs = vfs or None

    def __str__(self) -> str:
        return str(self._path)

    @contextmanager
    def reader(self) -> Iterator[Query]:
        """A connection that sees one state of the journal and changes nothing. Raises JournalError."""
        path = self._path
        connection = None
        try:
            if not path.is_file():
                raise JournalError(f"there is no journal {path}; name it with --journal")
            connection = apsw.Connection(str(path), apsw.SQLITE_OPEN_READONLY, self._vfs)
            connection.set_busy_timeout(BUSY_TIMEOUT)
            version = _recognised(connection, path)
            if version != SCHEMA_VERSION:
                raise JournalError(
                    f"the journal {path} is empty"
                    if version is None
                    else f"the journal {path} is of an older gateway; start `gateway serve` with it once"
                )
            yield partial(_read, connection)
        except apsw.Error as error:
            raise JournalError(f"cannot read the journal {path}: {_words(error)}") from error
        except PermissionError as error:
            raise JournalError(f"cannot read the journal {path}: {error.strerror}") from error
        finally:
            if connection is not None:
                _close(connection)

    def open_writer(self) -> apsw.Connection:
        """The one connection that writes: durable, once the file is known to be a journal or new.
        Raises JournalError."""
        path = self._path
        connection = None
        try:
            connection = apsw.Connection(
                str(path), apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, self._vfs
            )
            connection.set_busy_timeout(BUSY_TIMEOUT)
            self._prepare(connection)
        except apsw.Error as error:
            if connection is not None:
                _abandon(connection)
            mend = ""
            if isinstance(error, apsw.ReadOnlyError):
                mend = "; give the file and its folder to the user that runs the gateway"
            raise JournalError(f"cannot open the journal {path}: {_words(error)}{mend}") from error
        except BaseException:
            if connection is not None:
                _abandon(connection)
            raise
        return connection

    def _prepare(self, connection: apsw.Connection) -> None:
        # First of all: nothing is written into a file that is not ours.
        version = _recognised(connection, self._path)
        if version is None:
            # What is removed can be given back to the disk; this is decided before there are tables.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchall()[0]
        connection.execute("PRAGMA synchronous = FULL")
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchall()[0]
        if mode != "wal" or synchronous != 2:
            raise JournalError(
                f"the journal {self._path} cannot be made durable on this file system; keep it on a local "
                "disk or a block device"
            )
        self._write_log_again(connection)
        # A copy that was restored has no log before it is read in its new mode; another log than the one
        # of now would be taken for a replaced journal.
        connection.execute("PRAGMA schema_version").fetchall()
        if version is None:
            _define(connection, _SCHEMA)
            return
        for step in range(version, SCHEMA_VERSION):
            log.info("the journal %s: schema %d becomes %d", self._path, step, step + 1)
            _define(connection, _MIGRATIONS[step], step + 1)

    def _write_log_again(self, connection: apsw.Connection) -> None:
        """A sync that failed, of this process or of one before, has thrown away what it should have
        written, while the log still reads as if it were on disk, and a later sync succeeds. So what is
        read of it is written once more, and synced, before anyone is told that it is kept."""
        path = log_path(self._path)
        if not path.exists():
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            flags = [apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_WAL, 0]
            log_file = apsw.VFSFile(self._vfs or "", str(path.resolve()), flags)
            try:
                size = log_file.xFileSize()
                for start in range(0, size, _CHUNK):
                    content = log_file.xRead(min(_CHUNK, size - start), start)
                    log_file.xWrite(content, start)
                if size:
                    log_file.xSync(apsw.SQLITE_SYNC_NORMAL)
            finally:
                log_file.xClose()
        finally:
            connection.execute("ROLLBACK")


def _read(
    connection: apsw.Connection, statement: str, values: Sequence[Any]
) -> Iterator[tuple[Any, ...]]:
    rows = connection.execute(statement, tuple(values))
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except UnicodeDecodeError:
            # A flipped bit in a text. The rows that follow can be read.
            yield UNREADABLE


def _define(connection: apsw.Connection, schema: str, version: int = SCHEMA_VERSION) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(schema)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}")
    connection.execute("COMMIT")


def _recognised(connection: apsw.Connection, path: Path) -> int | None:
    """The version of the file's schema, None where it is new. Raises JournalError for another's file."""
    version = _number(connection, "PRAGMA user_version")
    application = _number(connection, "PRAGMA application_id")
    tables = _number(connection, "SELECT count(*) FROM sqlite_master")
    if application not in (0, APPLICATION_ID) or (tables and not application):
        raise JournalError(f"{path} is a database of another program; name another --journal")
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"the journal {path} was written by a newer gateway (schema {version}, this one knows "
            f"{SCHEMA_VERSION}); use that gateway"
        )
    return version if tables else None


def _number(connection: apsw.Connection, statement: str) -> int:
    """The first value of the first row."""
    return int(str(connection.execute(statement).fetchall()[0][0]))


# Who may write


_NOTHING = b"%019d\n" % 0
_TRIES, _PAUSE = 10, 0.02
"""For the lock; seconds."""


class Lock:
    """Held beside the file by the gateway that has it: two of them would each show half of the series.

    The lock's file says how many deliveries were acknowledged. It is not synced, so it never tells of
    one that the journal may have lost to a power cut; but where the journal's file was damaged, cut or
    put back from a copy, it tells that some are missing.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        """For a worker, which inherits it."""

    @classmethod
    def take(cls, path: Path) -> "Lock":
        """Raises JournalError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise JournalError(f"cannot write the journal {path}: {error.strerror}") from error
        try:
            _lock(descriptor)
            if not os.fstat(descriptor).st_size:
                # Later ones need no room on the disk.
                os.pwrite(descriptor, _NOTHING, 0)
        except BlockingIOError as error:
            os.close(descriptor)
            raise JournalError(
                f"the journal {path} is in use by another gateway; give this one its own --journal"
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise JournalError(f"cannot write the journal {path}: {error.strerror}") from error
        return cls(descriptor)

    @property
    def identity(self) -> tuple[int, int]:
        """What tells the file from another one of its name."""
        found = os.fstat(self.descriptor)
        return found.st_dev, found.st_ino

    def acknowledged(self) -> int:
        text = os.pread(self.descriptor, len(_NOTHING), 0)
        return int(text) if text.strip().isdigit() else 0

    def acknowledge(self, deliveries: int) -> None:
        # What is committed is kept, whether or not this can be noted.
        with suppress(OSError):
            os.pwrite(self.descriptor, b"%019d\n" % deliveries, 0)

    def release(self) -> None:
        os.close(self.descriptor)


def lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError where a gateway has it. Who only looks has it for a moment."""
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise
            time.sleep(_PAUSE)
        else:
            return


class _Turn(AbstractContextManager[None, None]):
    """One worker at a time, in the order in which they come. SQLite's own lock is asked for again and
    again with pauses between, in which nobody writes."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(
            path.with_name(path.name + ".turn"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
        self._mutex = threading.Lock()

    def __enter__(self) -> None:
        self._mutex.acquire()
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._mutex.release()

    def close(self) -> None:
        os.close(self._descriptor)


def in_use(path: Path) -> bool:
    """Whether a gateway has this journal. Raises JournalError where this user may not know."""
    try:
        descriptor = os.open(lock_path(path), os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise JournalError(f"cannot read {lock_path(path)}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def backup(path: Path, copy: Path) -> None:
    """Writes one state of a journal into a new file, whether or not a gateway writes it meanwhile. Only
    its user may read that, as it tells what vendors sent. Raises JournalError."""
    draft = draft_path(copy)
    try:
        if copy.exists():
            raise JournalError(f"{copy} exists; name a new file")
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise JournalError(f"cannot write {copy}: {error.strerror}") from error
    try:
        with SqliteFile(path).reader() as query:
            for _ in query("VACUUM INTO ?", (str(draft),)):
                pass
        _sync(draft)
        draft.rename(copy)
        _sync(copy.parent)
    except OSError as error:
        raise JournalError(f"cannot write {copy}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def draft_path(copy: Path) -> Path:
    """What a copy is called until it is whole."""
    return copy.with_name(f".{copy.name}.part")


class Facts(Struct, frozen=True):
    """What is said of a journal's file: bytes that it takes with its log, the version of its schema,
    and of the SQLite that reads it."""

    size: int
    schema: int
    sqlite: str


def facts(path: Path) -> Facts:
    """Raises JournalError."""
    with SqliteFile(path).reader() as query:
        (version,) = next(iter(query("PRAGMA user_version", ())))
    files = (path, path.with_name(path.name + "-wal"))
    size = sum(file.stat().st_size for file in files if file.exists())
    return Facts(size, int(version), apsw.sqlite_lib_version())


def missing(path: Path) -> int:
    """How many deliveries were acknowledged that a journal does not have, as far as is noted beside it;
    a gateway that has begun to write since knows of more. Raises JournalError."""
    try:
        descriptor = os.open(lock_path(path), os.O_RDONLY)
    except OSError:
        return 0
    try:
        return _lacking(Lock(descriptor), SqliteFile(path))
    finally:
        os.close(descriptor)


def _lacking(lock: Lock, file: SqliteFile) -> int:
    """How many deliveries were acknowledged that a file does not have."""
    # First of all: whoever writes meanwhile commits before it notes that.
    acknowledged = lock.acknowledged()
    with file.reader() as query:
        (head,) = query("SELECT deliveries FROM head", ())
    return max(0, acknowledged - int(head[0]))


def faults(path: Path) -> list[str]:
    """What SQLite finds wrong with the structure of a journal's file. Raises JournalError."""
    with SqliteFile(path).reader() as query:
        return [str(line) for (line,) in query("PRAGMA integrity_check", ()) if line != "ok"]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
