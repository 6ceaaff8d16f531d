"""What the commands that read a journal share: which one, and how they say times."""

import argparse
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

from gateway import settings
from gateway.journal.archive import Archive
from gateway.journal.entry import JournalError
from gateway.journal.reading import Database
from gateway.journal.retention import KEEP_ALL, Retention
from gateway.journal.sqlite import Lock, SqliteFile, SqliteStore
from gateway.journal.writer import Store
from gateway.settings import JournalUrl, Settings, SettingsError

_VARIABLE = "GATEWAY_JOURNAL"
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
T = TypeVar("T")


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--journal",
        default=os.environ.get(_VARIABLE, settings.DEFAULT_JOURNAL),
        metavar="URL",
        help=f"the journal, as for serve (default: {settings.DEFAULT_JOURNAL}) [{_VARIABLE}]",
    )


def archive(options: argparse.Namespace) -> Archive:
    """The journal that the flags name. Raises SettingsError."""
    return Archive(database(url(options)))


def url(options: argparse.Namespace) -> JournalUrl:
    """Raises SettingsError."""
    return settings.journal_url(options.journal, "--journal")


def database(url: JournalUrl) -> Database:
    """A journal to read. Raises SettingsError."""
    if url.path is None:
        with _postgresql():
            from gateway.journal.postgres import PostgresServer  # noqa: PLC0415  # See there.
        return reading(lambda: PostgresServer(url.url))
    return SqliteFile(url.path)


def lock_of(store: Store) -> int:
    """The descriptor of a journal's lock, for workers to inherit; -1 where it has none."""
    return store.lock.descriptor if isinstance(store, SqliteStore) else -1


def store(settings: Settings, lock: Lock | None = None) -> Store:
    """A journal to write, with what is kept in it; a worker writes under the lock of the process that
    started it, which alone removes what is kept no longer. Raises JournalError and SettingsError."""
    retention = Retention(
        deliveries=settings.keep_deliveries,
        events=settings.keep_events,
        size=settings.keep_size,
        min_free=settings.min_free,
    )
    if lock is not None:
        retention = Retention(min_free=settings.min_free)
    return opened(settings.journal, retention, workers=settings.workers > 1, lock=lock)


def opened(
    url: JournalUrl,
    retention: Retention = KEEP_ALL,
    *,
    workers: bool = False,
    lock: Lock | None = None,
) -> Store:
    """A journal to write. Raises JournalError and SettingsError."""
    if url.path is None:
        with _postgresql():
            from gateway.journal.postgres import PostgresServer, PostgresStore  # noqa: PLC0415  # See there.
        return PostgresStore(PostgresServer(url.url), retention)
    return SqliteStore(url.path, retention, workers=workers, lock=lock)


@contextmanager
def _postgresql() -> Iterator[None]:
    """Where what talks to PostgreSQL is imported: it is large, and installed only where it is wanted.
    Raises SettingsError."""
    try:
        yield
    except ImportError as error:
        raise SettingsError(
            f"a journal in PostgreSQL needs psycopg ({error}): pip install 'pelorus-gateway[postgresql]'"
        ) from error


def reading(read: Callable[[], T]) -> T:
    """What is read of a journal. Raises SettingsError where it cannot be."""
    try:
        return read()
    except JournalError as error:
        raise SettingsError(str(error)) from error


def moment(seconds: float) -> str:
    """A time in the zone of whoever reads it, to the second."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")


def since(text: str, name: str) -> float:
    """Epoch seconds of `2h`, `3d`, or of an ISO time. Raises SettingsError."""
    age = re.fullmatch(r"(\d{1,9})([smhdw])", text)
    if age:
        return time.time() - int(age[1]) * _UNITS[age[2]]
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError) as error:
        raise SettingsError(
            f"{name} is `{text}`, expected an age such as 90m, 6h or 3d, or a time such as 2026-03-01"
        ) from error
