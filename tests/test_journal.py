"""The journal: what got a 2xx is there afterwards, once, whatever happens to the process."""

import asyncio
import contextlib
import json
import sqlite3
import zlib
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec
import pytest

from gateway.delivery import Reason, Verdict
from gateway.event import Event
from gateway.journal.entry import (
    Entry,
    JournalError,
    JournalUnavailable,
    Overloaded,
    Recorded,
    Stored,
)
from gateway.journal.sqlite import APPLICATION_ID, SqliteStore
from gateway.journal.writer import MAX_WAITING, Writer
from tests import samples
from tests.harness import Gateway

T = TypeVar("T")


def _event(number: int) -> Event:
    return Event("deploytime", {"app": "shop", "commit": f"{number:040x}", "timestamp": number})


def _entry(number: int, **changes: Any) -> Entry:
    entry = Entry(
        source="github",
        delivery_id=f"d-{number}",
        event="push",
        received_at=1_790_000_000.5 + number,
        verdict=Verdict.ACCEPTED,
        reasons=(),
        events=(_event(number),),
        headers={"x-github-event": "push"},
        query={},
        body=b'{"a": 1}' * 100,
    )
    return msgspec.structs.replace(entry, **changes)


def _run(journal: Writer, work: Coroutine[Any, Any, T]) -> T:
    """Runs work on a loop of its own with the journal's writer started, and closes the journal."""

    async def whole() -> T:
        journal.start()
        return await work

    try:
        return asyncio.run(whole())
    finally:
        journal.close()


def _append(path: Path, *entries: Entry) -> list[Stored]:
    journal = Writer(SqliteStore(path))

    async def work() -> list[Stored]:
        return [await journal.append(entry) for entry in entries]

    return _run(journal, work())


def _events(path: Path) -> list[Recorded]:
    journal = Writer(SqliteStore(path))
    try:
        return list(journal.events())
    finally:
        journal.close()


def test_what_was_appended_is_there_after_reopening(tmp_path: Path) -> None:
    """Events come back in the order of their commits, with the times of their receipt and their sources."""
    path = tmp_path / "journal.sqlite"
    stored = _append(path, _entry(1), _entry(2))
    assert [one.verdict for one in stored] == [Verdict.ACCEPTED, Verdict.ACCEPTED]
    assert _events(path) == [
        Recorded(_event(1), 1_790_000_001.5, "github", 1),
        Recorded(_event(2), 1_790_000_002.5, "github", 2),
    ]


def test_a_delivery_is_kept_whole(tmp_path: Path) -> None:
    """Body, headers, outcome and reasons, ready for a replay."""
    path = tmp_path / "journal.sqlite"
    reason = Reason("expected a git SHA", "a rule", "commit")
    _append(path, _entry(1, verdict=Verdict.DEAD_LETTERED, events=(), reasons=(reason,)))
    with contextlib.closing(sqlite3.connect(path)) as database:
        row = database.execute(
            "SELECT source, delivery_id, outcome, reasons, headers, compressed, body FROM deliveries"
        ).fetchone()
    assert row[:3] == ("github", "d-1", "dead_lettered")
    assert json.loads(row[3])[0]["field"] == "commit"
    assert json.loads(row[4]) == {"x-github-event": "push"}
    assert (zlib.decompress(row[6]) if row[5] else row[6]) == b'{"a": 1}' * 100


def test_a_known_id_or_only_known_events_are_a_duplicate(tmp_path: Path) -> None:
    """Nothing more is kept of them."""
    path = tmp_path / "journal.sqlite"
    stored = _append(path, _entry(1), _entry(1), _entry(1, delivery_id="another"))
    assert [one.verdict for one in stored] == [
        Verdict.ACCEPTED,
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
    ]
    assert stored[1].new_events == stored[2].new_events == ()
    assert len(_events(path)) == 1


def test_only_the_new_events_of_a_delivery_are_new(tmp_path: Path) -> None:
    """A push that repeats a commit and adds one is accepted for the one."""
    path = tmp_path / "journal.sqlite"
    both = (_event(1), _event(2), _event(2))
    stored = _append(path, _entry(1), _entry(2, events=both))
    assert stored[1].verdict is Verdict.ACCEPTED
    assert [new.event for new in stored[1].new_events] == [_event(2)]


def test_a_redelivery_after_a_mapping_was_mended_counts(tmp_path: Path) -> None:
    """What was ignored or a dead letter when it first came is no duplicate once it can be mapped."""
    path = tmp_path / "journal.sqlite"
    failed = _entry(1, verdict=Verdict.DEAD_LETTERED, events=())
    stored = _append(path, failed, failed, _entry(1), _entry(1), failed)
    assert [one.verdict for one in stored] == [
        Verdict.DEAD_LETTERED,
        Verdict.DUPLICATE,
        Verdict.ACCEPTED,
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
    ]


def test_commits_are_told_in_order_before_they_are_answered(tmp_path: Path) -> None:
    """Whoever folds the events hears of them in the journal's order, also of many at once."""
    journal = Writer(SqliteStore(tmp_path / "journal.sqlite"))
    heard: list[float] = []

    def listen(batch: Sequence[Recorded]) -> None:
        heard.extend(recorded.received_at for recorded in batch)

    async def work() -> None:
        async def one(number: int) -> None:
            stored = await journal.append(_entry(number))
            assert stored.new_events[0].received_at in heard

        await asyncio.gather(*(one(number) for number in range(500)))

    journal.follow(listen)
    _run(journal, work())
    assert heard == [one.received_at for one in _events(tmp_path / "journal.sqlite")]


def test_a_sender_that_goes_away_changes_nothing(tmp_path: Path) -> None:
    """A cancelled append is committed and folded all the same."""
    journal = Writer(SqliteStore(tmp_path / "journal.sqlite"))
    heard: list[Recorded] = []
    journal.follow(heard.extend)

    async def work() -> None:
        task = asyncio.ensure_future(journal.append(_entry(1)))
        await asyncio.sleep(0)
        task.cancel()
        await journal.append(_entry(2))

    _run(journal, work())
    assert len(heard) == 2


def test_too_many_waiting_deliveries_are_turned_away(tmp_path: Path) -> None:
    """The queue is bounded: beyond it nothing is promised."""
    path = tmp_path / "journal.sqlite"
    journal = Writer(SqliteStore(path))

    async def work() -> None:
        with contextlib.closing(apsw.Connection(str(path))) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = [
                asyncio.ensure_future(journal.append(_entry(number)))
                for number in range(MAX_WAITING + 10)
            ]
            await asyncio.sleep(0)
            turned_away = [one for one in waiting if one.done()]
            assert len(turned_away) == 10
            assert all(isinstance(one.exception(), Overloaded) for one in turned_away)
        await asyncio.gather(*waiting, return_exceptions=True)

    _run(journal, work())


def test_a_journal_that_cannot_commit_says_so_and_recovers(tmp_path: Path) -> None:
    """Another process holds the write lock: nothing is acknowledged, and later appends work."""
    path = tmp_path / "journal.sqlite"
    journal = Writer(SqliteStore(path))

    async def work() -> None:
        with contextlib.closing(apsw.Connection(str(path))) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalUnavailable):
                await journal.append(_entry(1))
            assert not journal.healthy
        await journal.append(_entry(2))
        assert journal.healthy

    _run(journal, work())
    assert _events(path) == [Recorded(_event(2), 1_790_000_002.5, "github", 1)]


def test_one_gateway_at_a_time(tmp_path: Path) -> None:
    """A second one on the same file is refused in words."""
    path = tmp_path / "journal.sqlite"
    journal = Writer(SqliteStore(path))
    try:
        with pytest.raises(JournalError, match="in use by another gateway"):
            SqliteStore(path)
    finally:
        journal.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("CREATE TABLE t (x)", "another program"),
        ("PRAGMA application_id = 1", "another program"),
        (f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 99", "newer gateway"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, words: str) -> None:
    """Nothing is written into another program's database, nor into that of a newer gateway."""
    path = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(content)
    with pytest.raises(JournalError, match=words):
        SqliteStore(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """With SQLite's own word for it."""
    path = tmp_path / "text.sqlite"
    path.write_text("not a database, but long enough to be taken for one" * 20)
    with pytest.raises(JournalError, match="not a database"):
        SqliteStore(path)


# Through the process


def test_a_locked_journal_is_a_503_and_the_gateway_recovers(gateway: Gateway) -> None:
    """503 with Retry-After, nothing acknowledged; scrapes go on; readiness follows."""
    path = gateway.folder / "data" / "journal.sqlite"
    with contextlib.closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = gateway.github(
            "push", samples.github_push("octo/locked", samples.SHA, 1_790_000_000)
        )
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["content-type"] == "application/problem+json"
        assert gateway.get("/-/ready").status == 503
        assert gateway.get("/metrics").status == 200
        assert gateway.samples() == {}
    answer = gateway.github("push", samples.github_push("octo/locked", samples.SHA, 1_790_000_000))
    assert answer.json()["outcome"] == "accepted"
    assert gateway.get("/-/ready").status == 200


def test_a_restart_gives_the_same_series(gateway: Gateway) -> None:
    """Samples, values and times, and a redelivery afterwards is still a duplicate."""
    push = samples.github_push("octo/restart", samples.SHA, 1_790_000_000)
    gateway.github("push", push, "d-1")
    deployment = samples.github_deployment("octo/restart", samples.SHA, 1_790_000_900)
    gateway.github("deployment_status", deployment, "d-2")
    before = gateway.samples()
    assert len(before) == 3
    gateway.stop()
    gateway.start()
    assert gateway.samples() == before
    assert gateway.github("push", push, "d-1").json()["outcome"] == "duplicate"
    assert gateway.samples() == before
