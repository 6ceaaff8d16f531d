"""How many deliveries a second the journal keeps in PostgreSQL, as a ratio to SQLite in the same run.

    python -m tests.benchmarks.journals [DELIVERIES]

Clients in a closed loop append to the writer, without HTTP; each delivery is of 2 KB and brings one event. The
server, like the file, is on this machine and syncs every commit. The homes take turns, five times; the
figures are medians. Two writers are two processes with one database, each with half of the clients.
"""

import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from gateway.delivery import Verdict
from gateway.event import Event, FieldValue
from gateway.journal.entry import Entry
from gateway.journal.postgres import PostgresServer, PostgresStore
from gateway.journal.sqlite import SqliteStore
from gateway.journal.writer import Store, Writer
from tests.postgres import Server, server

ROUNDS = 5
CLIENTS = (16, 64, 256)
BODY = os.urandom(1_024).hex().encode()


def _entry(number: int) -> Entry:
    fields: dict[str, FieldValue] = {
        "app": f"app-{number % 50}",
        "commit": f"{number:040x}",
        "timestamp": number,
    }
    return Entry(
        source="github",
        delivery_id=f"{number:032x}",
        event="push",
        received_at=1_790_000_000.5 + number,
        verdict=Verdict.ACCEPTED,
        reasons=(),
        events=(Event("committime", fields),),
        headers={"x-github-event": "push", "content-type": "application/json"},
        query={},
        body=BODY,
        receipt=f"{number:032x}",
    )


def _load(store: Store, clients: int, first: int, count: int) -> float:
    """Seconds that so many deliveries take."""
    journal = Writer(store)

    async def whole() -> float:
        journal.start()
        numbers = iter(range(first, first + count))

        async def client() -> None:
            for number in numbers:
                await journal.append(_entry(number))

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return time.perf_counter() - started

    try:
        return asyncio.run(whole())
    finally:
        journal.close()


def _in_sqlite(clients: int, count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return count / _load(SqliteStore(Path(folder) / "journal.sqlite"), clients, 0, count)


def _in_postgres(url: str, clients: int, first: int, count: int) -> float:
    return _load(PostgresStore(PostgresServer(url)), clients, first, count)


def _by_writers(postgres: Server, writers: int, clients: int, count: int) -> float:
    """Deliveries a second of one or several processes with one database."""
    name = postgres.create()
    url, share = postgres.url(name), count // writers
    work = [(url, clients // writers, number * share, share) for number in range(writers)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(writers) as pool:
        # Whoever is imported and connected first waits for nobody.
        pool.starmap(_in_postgres, [(url, 1, count + number, 1) for number in range(writers)])
        seconds = max(pool.starmap(_in_postgres, work, chunksize=1))
    postgres.drop(name)
    return writers * share / seconds


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    print("| clients | SQLite/s | PostgreSQL/s | ratio | PostgreSQL, two writers/s | ratio |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    with server() as postgres:
        for clients in CLIENTS:
            rounds = [
                [
                    _in_sqlite(clients, count),
                    _by_writers(postgres, 1, clients, count),
                    _by_writers(postgres, 2, clients, count),
                ]
                for _ in range(ROUNDS)
            ]
            sqlite, one, two = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(
                f"| {clients} | {sqlite:,.0f} | {one:,.0f} | {one / sqlite:.2f}x "
                f"| {two:,.0f} | {two / sqlite:.2f}x |",
                flush=True,
            )


if __name__ == "__main__":
    main()
