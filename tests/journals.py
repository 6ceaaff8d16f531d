"""The homes that a journal may have, for tests that hold in each of them."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import apsw
import msgspec
import psycopg

from gateway.delivery import Verdict
from gateway.event import Event
from gateway.journal.entry import Entry, Recorded, Stored
from gateway.journal.postgres import SCHEMA, PostgresServer, PostgresStore
from gateway.journal.reading import Database
from gateway.journal.retention import KEEP_ALL, Retention
from gateway.journal.sqlite import SqliteFile, SqliteStore
from gateway.journal.writer import Store, Writer

T = TypeVar("T")


class Home(Protocol):
    """Where a test keeps its journal."""

    @property
    def url(self) -> str:
        """What `--journal` takes."""
        ...

    def store(self, retention: Retention = KEEP_ALL) -> Store: ...

    def database(self) -> Database: ...

    def locked(self) -> AbstractContextManager[None]:
        """Somebody else commits, and does not come to an end of it, for the length of a block."""
        ...

    def change(self, statement: str) -> None:
        """Changes tables behind the gateway's back."""
        ...


class SqliteHome:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def store(self, retention: Retention = KEEP_ALL) -> Store:
        return SqliteStore(self.path, retention)

    def database(self) -> Database:
        return SqliteFile(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        with closing(apsw.Connection(str(self.path))) as other:
            other.execute("BEGIN IMMEDIATE")
            yield

    def change(self, statement: str) -> None:
        with closing(apsw.Connection(str(self.path))) as other:
            other.execute(statement)


class PostgresHome:
    def __init__(self, url: str) -> None:
        self.url = url

    def store(self, retention: Retention = KEEP_ALL) -> Store:
        return PostgresStore(PostgresServer(self.url), retention)

    def database(self) -> Database:
        return PostgresServer(self.url)

    @contextmanager
    def locked(self) -> Iterator[None]:
        with psycopg.connect(self.url) as other:
            other.execute(f"SELECT 1 FROM {SCHEMA}.head FOR UPDATE")
            yield

    def change(self, statement: str) -> None:
        with psycopg.connect(self.url) as other:
            other.execute(f"SET search_path = {SCHEMA}")
            other.execute(statement.encode())


def event(number: int) -> Event:
    return Event("deploytime", {"app": "shop", "commit": f"{number:040x}", "timestamp": number})


def entry(number: int, **changes: Any) -> Entry:
    entry = Entry(
        source="github",
        delivery_id=f"d-{number}",
        event="push",
        received_at=1_790_000_000.5 + number,
        verdict=Verdict.ACCEPTED,
        reasons=(),
        events=(event(number),),
        headers={"x-github-event": "push"},
        query={},
        body=b'{"a": 1}' * 100,
    )
    return msgspec.structs.replace(entry, **changes)


def run(journal: Writer, work: Coroutine[Any, Any, T]) -> T:
    """Runs work on a loop of its own with the journal's writer started, and closes the journal."""

    async def whole() -> T:
        journal.start()
        return await work

    try:
        return asyncio.run(whole())
    finally:
        journal.close()


def append(home: Home, *entries: Entry) -> list[Stored]:
    journal = Writer(home.store())

    async def work() -> list[Stored]:
        return [await journal.append(entry) for entry in entries]

    return run(journal, work())


def events(home: Home) -> list[Recorded]:
    journal = Writer(home.store())
    try:
        return list(journal.events())
    finally:
        journal.close()
