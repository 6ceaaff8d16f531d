"""A start with a long history, from the command to the first delivery that could be taken, and to when
all of it is shown."""

import asyncio
import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import msgspec

from gateway import settings
from gateway.delivery import Verdict
from gateway.event import Event
from gateway.journal.entry import Entry
from gateway.journal.sqlite import SqliteStore
from gateway.journal.writer import Writer
from tests.benchmarks.load import SERVER_CORE, pinned
from tests.benchmarks.report import Bar, Options, Row
from tests.benchmarks.scrapes import history
from tests.harness import GITHUB_SECRET, ROOT, Gateway

JOURNAL = Path(settings.DEFAULT_JOURNAL.removeprefix("sqlite:///"))
OF_DELIVERY = 4
"""Events."""
AT_ONCE = 200
"""Deliveries that wait for the journal together."""


def rows(options: Options) -> Iterator[Row]:
    count = 2_000 if options.quick else 1_000_000
    long, empty = [], []
    for _ in range(options.rounds):
        empty.append(_start(None))
        long.append(_start(_journal(options.folder, count)))
    ready, ready_empty = (median(taken for taken, _ in runs) for runs in (long, empty))
    shown = median(shown for _, shown in long)
    yield Row(
        subject="ready after a start with many events in the journal",
        against="with an empty journal",
        ratio=ready / ready_empty,
        bar=Bar(first=5, goal=2, better="less", unit="s"),
        seconds=ready,
        details=f"{ready:.2f} s with {count:,} events against {ready_empty:.2f} s; shown after {shown:.0f} s",
    )


def _start(journal: Path | None) -> tuple[float, float]:
    """Seconds until a gateway with this journal, or with an empty one, is ready, and until it shows
    all that is in it."""
    with tempfile.TemporaryDirectory(prefix="gateway-benchmark-") as name:
        folder = Path(name)
        if journal is not None:
            shutil.copytree(journal, folder / JOURNAL.parent)
        environment = {"GITHUB_WEBHOOK_SECRET": GITHUB_SECRET}
        program = (*pinned(SERVER_CORE), sys.executable, "-m", "gateway")
        gateway = Gateway(folder, environment=environment, program=program)
        gateway.patience, gateway.every = 300, 0.01
        started = time.perf_counter()
        try:
            gateway.start()
            taken = time.perf_counter() - started
            while not (body := gateway.get("/metrics").body).count(b"\ngateway_history_folded 1"):
                time.sleep(0.1)
            shown = time.perf_counter() - started
            if (b"\ngateway_deployments{" in body) != (journal is not None):
                raise RuntimeError(f"the gateway did not read the journal {journal}")
            return taken, shown
        finally:
            gateway.stop()


def _journal(folder: Path, count: int) -> Path:
    """The folder of a journal with so many events, made by the journal's own code, once for each
    version of that."""
    code = hashlib.sha256()
    for path in sorted((ROOT / "gateway" / "journal").glob("*.py")):
        code.update(path.read_bytes())
    made = folder / f"journal-{count}-{code.hexdigest()[:12]}"
    if not made.exists():
        unfinished = made.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        asyncio.run(_fill(unfinished / JOURNAL.name, count))
        unfinished.rename(made)
    return made


async def _fill(path: Path, count: int) -> None:
    journal = Writer(SqliteStore(path))
    journal.start()
    try:
        entries = _entries(count)
        while some := list(islice(entries, AT_ONCE)):
            await asyncio.gather(*(journal.append(entry) for entry in some))
    finally:
        journal.close()


def _entries(count: int) -> Iterator[Entry]:
    events = history(count)
    while some := list(islice(events, OF_DELIVERY)):
        yield _entry(tuple(event for event, _ in some), some[-1][1] / 1000)


def _entry(events: tuple[Event, ...], received_at: float) -> Entry:
    body = msgspec.json.encode([event.fields for event in events])
    return Entry(
        source="github",
        delivery_id=hashlib.md5(body).hexdigest(),
        event="push",
        received_at=received_at,
        verdict=Verdict.ACCEPTED,
        reasons=(),
        events=events,
        headers={"content-type": "application/json", "x-github-event": "push"},
        query={},
        body=body,
    )
