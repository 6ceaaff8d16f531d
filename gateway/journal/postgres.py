"""The journal in PostgreSQL, which several gateways share: who commits holds one row, so all have one order.

Nothing is kept in a session, so a pooler may give every transaction another one. A commit whose answer
is lost is looked for by its receipts, and is done again only where it is not there.
"""

import itertools
import logging
import math
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo
from psycopg.abc import PQGen
from psycopg.errors import Diagnostic

from gateway.journal import reading
from gateway.journal.batch import Candidate, Copies, DeliveryRow, EventRow, Head, Judged, judge
from gateway.journal.entry import JournalError, JournalUnavailable, Recorded, Stored
from gateway.journal.reading import Query
from gateway.journal.retention import KEEP_ALL, Retention, removal

SCHEMA = "pelorus_gateway"
"""The database's schema that holds the journal's tables, and the channel on which commits are told."""
SCHEMA_VERSION = 1
LEAST_SERVER = 12

DEADLINE = 5.0
"""Seconds within which a commit is tried again where its connection broke."""
CONNECT_TIMEOUT = 2
"""Seconds for each host of the URL."""
PATIENCE = 10.0
"""Seconds that a gateway waits for rows it reads."""
POLL = 1.0
"""Seconds after which others are looked for that nobody told of."""
PRUNE_EVERY = 60.0
"""Seconds."""
PAGE = 2_000
"""Rows that are fetched at once of a long answer."""
BODIES = 10
"""The same of rows with bodies."""

log = logging.getLogger("gateway")

_LOCK = 0x50474A31
"""The advisory lock of whoever creates the tables; the next one is that of whoever removes rows."""

_TABLES = f"""
CREATE TABLE head (
    one integer PRIMARY KEY CHECK (one = 1),
    version integer NOT NULL,
    deliveries bigint NOT NULL,
    events bigint NOT NULL,
    bytes bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO head VALUES (1, {SCHEMA_VERSION}, 0, 0, 0);
CREATE TABLE deliveries (
    seq bigint PRIMARY KEY,
    source text NOT NULL,
    delivery_id text NOT NULL,
    event text NOT NULL,
    received_at double precision NOT NULL,
    outcome text NOT NULL,
    reasons text NOT NULL,
    headers text NOT NULL,
    query text NOT NULL,
    compressed integer NOT NULL,
    replay_of bigint,
    body bytea NOT NULL,
    hash bytea NOT NULL,
    receipt text NOT NULL
);
ALTER TABLE deliveries ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX deliveries_by_id ON deliveries (source, delivery_id);
CREATE INDEX deliveries_replayed ON deliveries (replay_of) WHERE replay_of IS NOT NULL;
CREATE INDEX deliveries_dead ON deliveries (replay_of) WHERE outcome = 'dead_lettered';
CREATE TABLE events (
    seq bigint PRIMARY KEY,
    delivery bigint NOT NULL,
    identity bytea NOT NULL UNIQUE,
    received_at double precision NOT NULL,
    kind text NOT NULL,
    fields text NOT NULL,
    source text NOT NULL,
    hash bytea NOT NULL
);
CREATE INDEX events_by_delivery ON events (delivery);
"""  # noqa: S608  # Fixed words.

_PATH = f"SET LOCAL search_path = {SCHEMA}, pg_temp;"
_BEGIN = f"""
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
{_PATH}
SET LOCAL lock_timeout = '4s';
SET LOCAL idle_in_transaction_session_timeout = '3s';
SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') <> 'remote_apply';
"""
"""Whoever stops in the midst of a commit holds up the others for no longer than three seconds."""

_BEGIN_READING = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_PATH}"

_ASK = """
SELECT version, deliveries, events FROM head FOR UPDATE;
SELECT source, delivery_id, bool_or(outcome = 'accepted')
    FROM unnest(%(sources)s::text[], %(ids)s::text[]) AS named (source, delivery_id)
    JOIN deliveries USING (source, delivery_id) GROUP BY 1, 2;
SELECT identity FROM events WHERE identity = ANY(%(identities)s::bytea[]);
SELECT receipt FROM deliveries WHERE seq = %(doubtful)s;
"""

_BODIES_NAMED = """
SELECT source, delivery_id, compressed, body
FROM unnest(?::text[], ?::text[]) AS named (source, delivery_id) JOIN deliveries USING (source, delivery_id)
WHERE replay_of IS NULL
"""
_TELLERS = """
SELECT identity, events.seq, coalesce(telling.replay_of, telling.seq)
FROM events JOIN deliveries AS telling ON telling.seq = events.delivery
WHERE identity = ANY(?::bytea[])
"""
_BODIES = "SELECT seq, compressed, body FROM deliveries WHERE seq = ANY(?::bigint[])"

_TYPES = {
    "seq": "bigint",
    "received_at": "double precision",
    "compressed": "integer",
    "replay_of": "bigint",
    "delivery": "bigint",
    "identity": "bytea",
    "body": "bytea",
    "hash": "bytea",
}
_NUMBERS = {"seq", "compressed", "replay_of", "delivery"}


def _insert(table: str, columns: Sequence[str]) -> str:
    """A statement that takes a list for each column."""
    marks = ", ".join(
        # Texts and bytes go as they are: a list of them as text is mostly backslashes to put in and out.
        f"%{'s' if column in _NUMBERS else 'b'}::{_TYPES.get(column, 'text')}[]"
        for column in columns
    )
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM unnest({marks})"  # noqa: S608  # Fixed words.


_INSERT_DELIVERIES = _insert("deliveries", (*DeliveryRow._fields, "receipt"))
_INSERT_EVENTS = _insert("events", EventRow._fields)
_MOVE_HEAD = "UPDATE head SET deliveries = %s, events = %s, bytes = bytes + %s"


# The server

T = TypeVar("T")


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for no answer beyond a moment: a network that is cut is an error in time."""

    until = math.inf
    """By the monotonic clock."""
    patience = math.inf
    """Seconds for each answer."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        left = min(self.patience, self.until - time.monotonic())
        if timeout is not None or left == math.inf:
            return super().wait(gen, interval, timeout)
        end = time.monotonic() + left
        try:
            return super().wait(gen, interval, max(0.0, left))
        except psycopg.OperationalError as error:
            if time.monotonic() < end:
                raise
            self.close()
            raise psycopg.OperationalError("the server does not answer") from error

    def run_all(self, statements: str, values: Any = None) -> list[list[tuple[Any, ...]]]:
        """Executes several statements in one message; the rows of each that has some."""
        cursor = psycopg.ClientCursor(self)
        cursor.execute(statements, values)
        return [one.fetchall() for one in cursor.results() if one.description]


class PostgresServer:
    """A journal's database, by its URL; as text without the password. Raises JournalError where the URL
    cannot be one."""

    def __init__(self, url: str) -> None:
        try:
            given = conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            option = _UNKNOWN_OPTION.search(str(error))
            if option and "?" in url.rpartition("@")[2]:
                raise JournalError(
                    f"the URL of the journal has an option `{option[1]}`, which PostgreSQL does not know"
                ) from None
            given = {"host": "@"}
        if "@" in f"{given.get('host')}{given.get('dbname')}":
            # Without a cause: the parser quotes what it took for a host, which may be half a password.
            raise JournalError(
                "the URL of the journal cannot be read; it is postgresql://USER:PASSWORD@HOST/DATABASE, "
                "with %40 for @ and %2F for / in a name or password"
            ) from None
        self._password = str(given.get("password") or "")
        self._name = f"postgresql://{given.get('host', '')}/{given.get('dbname', '')}"
        self._parameters: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "fallback_application_name": "pelorus-gateway",
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 2,
            "tcp_user_timeout": 6_000,
            **given,
            "client_encoding": "UTF8",
        }

    def __str__(self) -> str:
        return self._name

    def words(self, error: Exception) -> str:
        """An error in one line that tells no secret."""
        text = " ".join(str(error).split()) or type(error).__name__
        return text.replace(self._password, "***") if self._password else text

    def connect(self, *, writing: bool = False) -> _Connection:
        """Raises psycopg.Error."""
        parameters = dict(self._parameters)
        if writing:
            parameters.setdefault("target_session_attrs", "read-write")
        # Statements that are prepared, or a transaction begun unasked, would be of a session.
        return _Connection.connect(autocommit=True, prepare_threshold=None, **parameters)

    def open_writer(self, *, create: bool = False) -> _Connection:
        """A connection to a server that is durable, and has the journal's tables. Raises JournalError
        and psycopg.Error."""
        connection = self.connect(writing=True)
        try:
            connection.until = time.monotonic() + DEADLINE
            self._examine(connection)
            if self._version(connection) is None:
                if not create:
                    raise self._refusal(
                        "its tables were removed while it was in use", "put them back"
                    )
                self._create(connection)
            connection.until = math.inf
        except BaseException:
            connection.close()
            raise
        return connection

    def examined(self) -> int | None:
        """The version of the journal's tables, None where there are none yet, of a server that is durable.
        Raises JournalError."""
        try:
            with self.connect(writing=True) as connection:
                self._examine(connection)
                return self._version(connection)
        except psycopg.Error as error:
            raise JournalError(f"cannot open the journal {self}: {self.words(error)}") from error

    def _examine(self, connection: _Connection) -> None:
        names = (
            "server_version_num",
            "server_encoding",
            "fsync",
            "full_page_writes",
            "synchronous_commit",
        )
        settings = ", ".join(f"current_setting('{name}', true)" for name in names)
        values = connection.execute(f"SELECT pg_is_in_recovery(), {settings}").fetchone()
        standby, version, encoding, fsync, full_pages, synchronous = values or (None,) * 6
        if int(version or 0) < LEAST_SERVER * 10_000:
            raise self._refusal(
                f"PostgreSQL {LEAST_SERVER} is the oldest that serves", "upgrade it"
            )
        if standby:
            raise self._refusal("it is a standby, which takes no writes", "name the primary")
        if encoding not in ("UTF8", None):
            raise self._refusal(
                f"its encoding is {encoding}", "create the database with ENCODING 'UTF8'"
            )
        for setting, value in (
            ("fsync", fsync),
            ("full_page_writes", full_pages),
            ("synchronous_commit", synchronous),
        ):
            if value == "off":
                raise self._refusal(
                    f"{setting} is off, so that a crash may lose what was acknowledged",
                    "set it to on, for the server, the database and the role",
                )

    def _refusal(self, what: str, mend: str) -> JournalError:
        return JournalError(f"the journal {self}: {what}; {mend}")

    def _version(self, connection: _Connection) -> int | None:
        """The version of the journal's tables, None where there are none. Raises JournalError where they
        are another program's, or a newer gateway's."""
        ((tables, ours),) = connection.execute(
            "SELECT count(DISTINCT c.oid), count(a.attname) FROM pg_class AS c "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN pg_attribute AS a "
            "ON a.attrelid = c.oid AND c.relname = 'head' AND a.attname = 'version' "
            "WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v')",
            (SCHEMA,),
        ).fetchall()
        if not tables:
            return None
        if not ours:
            raise self._refusal(
                f"the schema {SCHEMA} holds tables of another program", "name another database"
            )
        ((version,),) = connection.execute(f"SELECT version FROM {SCHEMA}.head").fetchall()  # noqa: S608  # Fixed words.
        self._check(version)
        return int(version)

    def _check(self, version: int) -> None:
        if version != SCHEMA_VERSION:
            raise JournalError(
                f"the journal {self} was written by a newer gateway (schema {version}, this one knows "
                f"{SCHEMA_VERSION}); use that gateway"
            )

    def _create(self, connection: _Connection) -> None:
        """Creates the tables, where nobody else was the first to."""
        connection.run_all(f"{_BEGIN} SELECT pg_advisory_xact_lock({_LOCK})")
        if self._version(connection) is None:
            if not connection.execute(
                "SELECT 1 FROM pg_namespace WHERE nspname = %s", (SCHEMA,)
            ).fetchall():
                connection.execute(f"CREATE SCHEMA {SCHEMA}")
            connection.run_all(_TABLES)
        connection.execute("COMMIT")

    @contextmanager
    def reader(self) -> Iterator[Query]:
        """A connection that sees one state of the journal and changes nothing. Raises JournalError."""
        try:
            with self.connect() as connection:
                if self._version(connection) is None:
                    raise JournalError(f"the journal {self} is empty")
                begin(connection)
                yield partial(rows, connection)
        except psycopg.Error as error:
            raise JournalError(f"cannot read the journal {self}: {self.words(error)}") from error

    def check(self, version: int) -> None:
        """Raises JournalUnavailable where a newer gateway has changed the tables since the start."""
        try:
            self._check(version)
        except JournalError as error:
            raise JournalUnavailable(str(error)) from error


def begin(connection: _Connection) -> None:
    """Begins to see one state of the journal."""
    connection.run_all(_BEGIN_READING)


def rows(
    connection: _Connection, statement: str, values: Sequence[Any], page: int = PAGE
) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement with `?` for its values, fetched as they are asked for, a page at a time."""
    with connection.cursor(f"rows_{next(_COUNTER)}", binary=True) as cursor:
        cursor.itersize = page
        cursor.execute(_marked(statement), values)
        yield from cursor


def _marked(statement: str) -> str:
    """A statement as psycopg takes it."""
    return statement.replace("%", "%%").replace("?", "%s")


_COUNTER = itertools.count()
_UNKNOWN_OPTION = re.compile(r'invalid URI query parameter: "(\w+)"')


# The store


class PostgresStore:
    """Opens the journal, creating its tables where they are missing. `commit`, `tend` and `close` are for
    one thread at a time. Raises JournalError."""

    is_shared = True

    def __init__(self, server: PostgresServer, retention: Retention = KEEP_ALL) -> None:
        self._server = server
        self._retention = retention
        self._damaged: set[int] = set()
        self._works = True
        self._pruned = -math.inf
        self._head = Head(0, 0)
        self.missing = 0
        """How many deliveries the database lost since the start."""
        self._token = secrets.token_hex(8)
        self._idle: deque[_Connection] = deque()
        self._listener: _Listener | None = None
        try:
            self._connection: _Connection | None = server.open_writer(create=True)
        except psycopg.Error as error:
            raise JournalError(
                f"cannot open the journal {server}: {server.words(error)}"
            ) from error

    @property
    def damaged(self) -> int:
        return len(self._damaged)

    def commit(self, batch: Sequence[Candidate]) -> list[Stored]:
        # As long as all went well, a restart or failover is waited for. Afterwards nobody waits twice.
        work = _Commit(self._server, batch, self._token)
        results = self._done(work, patient=self._works)
        lost = self._head.deliveries - work.before.deliveries
        if lost > 0:
            self.missing += lost
            log.error(
                "the journal %s ends %d deliveries before what was acknowledged: the database lost them; "
                "restart every gateway, so that what it shows is what is kept",
                self._server,
                lost,
            )
        self._head = work.after
        return results

    def tend(self) -> bool:
        kept = self._retention
        due = time.monotonic() - self._pruned >= PRUNE_EVERY
        if not due or not (kept.deliveries or kept.events or kept.size):
            self._done(self._probe, patient=False)
            return False
        more = self._done(self._prune, patient=False)
        self._pruned = -math.inf if more else time.monotonic()
        return more

    def _done(self, work: Callable[[_Connection], T], *, patient: bool) -> T:
        """Work done through a connection, with another one where it breaks. Raises JournalUnavailable."""
        until, pause = time.monotonic() + DEADLINE, 0.05
        while True:
            try:
                connection = self._connection = self._connection or self._server.open_writer()
                connection.until = until
                result = work(connection)
            except (psycopg.Error, JournalError) as error:
                self._drop()
                if not patient or not _passes(error) or time.monotonic() + pause > until:
                    self._works = False
                    raise JournalUnavailable(self._told(error)) from error
                time.sleep(pause)
                pause = min(2 * pause, 0.5)
            except BaseException:
                self._works = False
                self._drop()
                raise
            else:
                self._works = True
                return result

    def _told(self, error: Exception) -> str:
        if isinstance(error, JournalError):
            return str(error)
        return f"the journal {self._server}: {self._server.words(error)}"

    def _drop(self) -> None:
        """After any failure the next one begins anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _probe(self, connection: _Connection) -> None:
        ((version, standby),) = connection.execute(
            f"SELECT version, pg_is_in_recovery() FROM {SCHEMA}.head"  # noqa: S608  # Fixed words.
        ).fetchall()
        self._server.check(version)
        if standby:
            raise JournalError(f"the journal {self._server} is a standby now")

    def _prune(self, connection: _Connection) -> bool:
        """Removes a few rows, where no other gateway does."""
        kept, now, removed = self._retention, time.time(), 0
        *_, ((mine,),), ((size,),) = connection.run_all(
            f"{_BEGIN} SELECT pg_try_advisory_xact_lock({_LOCK + 1}); SELECT bytes FROM head"  # noqa: S608  # Fixed words.
        )
        if mine and kept.events:
            statement = _marked(removal("events"))
            removed += connection.execute(statement, (now, now - kept.events)).rowcount
        by, before = now, now - kept.deliveries if kept.deliveries else -math.inf
        if kept.size and size > kept.size:
            by = before = math.inf
        if mine and before > -math.inf:
            statement = (
                f"WITH gone AS ({_marked(removal('deliveries'))}) "  # noqa: S608  # Fixed words.
                "SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM gone"
            )
            ((gone, size),) = connection.execute(statement, (by, before)).fetchall()
            removed += gone
            if gone:
                connection.execute("UPDATE head SET bytes = bytes - %s", (size,))
        connection.execute("COMMIT" if removed else "ROLLBACK")
        return removed > 0

    def watch(self, news: Callable[[], None]) -> None:
        self._listener = _Listener(self._server, self._token, news)
        self._listener.start()

    def events(self, after: int = 0, until: int | None = None) -> Iterator[Recorded]:
        with self._reader() as query:
            if until is not None and (last := reading.last_event(query)) < until:
                # Whoever waits for it tries again; what is missing would never be asked for later.
                raise JournalUnavailable(
                    f"the journal {self._server}: it was read as far as event {last} of {until}"
                )
            for row in reading.event_rows(query, after, until):
                recorded = reading.recorded(row)
                if recorded is not None:
                    yield recorded
                elif row.seq not in self._damaged:
                    self._damaged.add(row.seq)
                    log.error("the journal %s: event %d is damaged", self._server, row.seq)

    def last_event(self) -> int:
        with self._reader() as query:
            return reading.last_event(query)

    @contextmanager
    def _reader(self) -> Iterator[Query]:
        """As that of the server, through a connection that is kept for the next one."""
        connection = None
        try:
            connection = self._reading()
            yield partial(rows, connection)
            connection.execute("COMMIT")
            self._idle.append(connection)
            connection = None
        except psycopg.Error as error:
            raise JournalUnavailable(self._told(error)) from error
        finally:
            if connection is not None:
                connection.close()

    def _reading(self) -> _Connection:
        with suppress(IndexError, psycopg.OperationalError):
            connection = self._idle.pop()
            begin(connection)
            return connection
        # Never a standby, which may be behind what was committed.
        connection = self._server.connect(writing=True)
        connection.patience = PATIENCE
        begin(connection)
        return connection

    def close(self) -> None:
        if self._listener is not None:
            self._listener.stop()
        self._drop()
        while self._idle:
            self._idle.pop().close()


class _Commit:
    """A batch on its way. Where the answer of a try is lost, the next one finds out what became of it."""

    def __init__(self, server: PostgresServer, batch: Sequence[Candidate], token: str) -> None:
        self._server = server
        self._batch = batch
        self._token = token
        self._doubtful: Judged | None = None
        self.before = self.after = Head(0, 0)

    def __call__(self, connection: _Connection) -> list[Stored]:
        asked = list({one.name for one in self._batch})
        *_, ((version, *head),), names, identities, receipts = connection.run_all(
            _BEGIN + _ASK,
            {
                "sources": [source for source, _ in asked],
                "ids": [name for _, name in asked],
                "identities": [identity for one in self._batch for identity in one.events],
                "doubtful": self._doubtful.deliveries[0].seq if self._doubtful else -1,
            },
        )
        self._server.check(version)
        self.before = self.after = Head._make(head)
        if self._doubtful and receipts == [(self._doubtful.receipts[0],)]:
            # That try holds the row of `head` no longer, so it is decided, and whole. What it wrote is as
            # durable as what is written now.
            with _committing(connection):
                connection.execute("UPDATE head SET bytes = bytes")
            return self._doubtful.results
        accepted = {(source, name): was_accepted for source, name, was_accepted in names}
        known = {one for (one,) in identities}
        copies = _copies(connection, Copies(self._batch, accepted, known))
        judged = judge(self._batch, self.before, accepted, known, copies)
        if not judged.deliveries:
            connection.execute("ROLLBACK")
            return judged.results
        self._doubtful = _receipted(judged)
        _write(connection, self._doubtful, self._token)
        self.after = judged.head
        return judged.results


def _copies(connection: _Connection, copies: Copies) -> Copies:
    """With all that they may be copies of compared."""
    if copies.names:
        names = [list(column) for column in zip(*copies.names, strict=True)]
        for source, name, *body in rows(connection, _BODIES_NAMED, names, BODIES):
            copies.compare_named((source, name), *body)
    if copies.identities:
        numbers = copies.tellers(rows(connection, _TELLERS, (list(copies.identities),)))
        for row in rows(connection, _BODIES, (numbers,), BODIES):
            copies.compare_told(*row)
    return copies


def _receipted(judged: Judged) -> Judged:
    """With a receipt for each row, as what is mapped again has none."""
    return judged._replace(receipts=[one or secrets.token_hex(16) for one in judged.receipts])


def _write(connection: _Connection, judged: Judged, token: str) -> None:
    with _committing(connection):
        columns = [*zip(*judged.deliveries, strict=True), judged.receipts]
        connection.execute(_INSERT_DELIVERIES, [list(column) for column in columns])
        if judged.events:
            columns = list(zip(*judged.events, strict=True))
            connection.execute(_INSERT_EVENTS, [list(column) for column in columns])
            connection.execute("SELECT pg_notify(%s, %s)", (SCHEMA, token))
        connection.execute(_MOVE_HEAD, (*judged.head, judged.size))


@contextmanager
def _committing(connection: _Connection) -> Iterator[None]:
    """Commits what a block executes, all in one message. Raises psycopg.Error where it is not known to be
    durable."""
    warnings: list[str] = []

    def note(notice: Diagnostic) -> None:
        # That a synchronous standby has not confirmed is no error to PostgreSQL.
        if notice.severity_nonlocalized == "WARNING":
            warnings.append(notice.message_primary or "a warning")

    connection.add_notice_handler(note)
    with connection.pipeline():
        yield
        committed = connection.execute("COMMIT")
    connection.remove_notice_handler(note)
    if warnings or committed.statusmessage != "COMMIT":
        raise psycopg.OperationalError("; ".join(warnings) or "the commit was rolled back")


def _passes(error: Exception) -> bool:
    """Whether another try may succeed soon: the connection broke, the server starts or stops, another
    server took over, or others were in the way."""
    state = getattr(error, "sqlstate", None)
    return state is None or state in ("25P03", "25006", "55P03") or state[:2] in ("08", "40", "57")


class _Listener(threading.Thread):
    """Hears of commits of others, by a session that listens, and looks for them itself each second."""

    def __init__(self, server: PostgresServer, token: str, news: Callable[[], None]) -> None:
        super().__init__(name="journal news")
        self._server = server
        self._token = token
        self._news = news
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.is_set():
            with suppress(psycopg.Error), self._server.connect(writing=True) as connection:
                connection.execute(f"LISTEN {SCHEMA}")
                self._news()
                self._hear(connection)
            self._news()
            self._stopped.wait(POLL)

    def _hear(self, connection: _Connection) -> None:
        while not self._stopped.is_set():
            tokens = [heard.payload for heard in connection.notifies(timeout=POLL, stop_after=1)]
            if not tokens or any(token != self._token for token in tokens):
                self._news()

    def stop(self) -> None:
        self._stopped.set()
        self.join()
