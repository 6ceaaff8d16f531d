"""The journal: what got a 2xx is there afterwards, once, whatever happens to the process."""

import asyncio
import contextlib
import fcntl
import random
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import apsw
import pytest

from gateway.delivery import Reason, Verdict
from gateway.journal import sqlite
from gateway.journal.archive import Archive, Selection
from gateway.journal.batch import candidate
from gateway.journal.entry import (
    JournalError,
    JournalUnavailable,
    Overloaded,
    Recorded,
    Stored,
)
from gateway.journal.sqlite import (
    APPLICATION_ID,
    WAL_LIMIT,
    SqliteFile,
    SqliteStore,
    in_use,
    lock_path,
    log_path,
)
from gateway.journal.writer import MAX_WAITING, Writer
from tests import samples
from tests.harness import Gateway
from tests.journals import Home, append, entry, event, events, run


def test_what_was_appended_is_there_after_reopening(home: Home) -> None:
    """Events come back in the order of their commits, with the times of their receipt and their sources."""
    stored = append(home, entry(1), entry(2))
    assert [one.verdict for one in stored] == [Verdict.ACCEPTED, Verdict.ACCEPTED]
    assert events(home) == [
        Recorded(event(1), 1_790_000_001.5, "github", 1),
        Recorded(event(2), 1_790_000_002.5, "github", 2),
    ]


def test_a_delivery_is_kept_whole(home: Home) -> None:
    """Body, headers, outcome and reasons, ready for a replay."""
    reason = Reason("expected a git SHA", "a rule", "commit")
    append(home, entry(1, verdict=Verdict.DEAD_LETTERED, events=(), reasons=(reason,)))
    archive = Archive(home.database())
    (kept,) = archive.latest(Selection())
    assert (kept.source, kept.delivery, kept.outcome) == ("github", "d-1", "dead_lettered")
    assert kept.reasons == (reason,)
    delivery = archive.load(kept.number)
    assert delivery.headers == {"x-github-event": "push"}
    assert delivery.body == b'{"a": 1}' * 100
    assert delivery.received_at == 1_790_000_001.5


def test_a_known_id_or_only_known_events_are_a_duplicate(home: Home) -> None:
    """Nothing more is kept of them."""
    stored = append(home, entry(1), entry(1), entry(1, delivery_id="another"))
    assert [one.verdict for one in stored] == [
        Verdict.ACCEPTED,
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
    ]
    assert stored[1].new_events == stored[2].new_events == ()
    assert len(events(home)) == 1


@pytest.mark.parametrize("at_once", [False, True])
def test_a_duplicate_with_another_body_is_kept(home: Home, at_once: bool) -> None:
    """As where the mapping takes for an id, or for an event, what several deliveries share: none of them
    is lost, and each once, however often it comes."""
    named = [entry(1, body=b"%d" % number, events=(event(number),)) for number in (1, 2, 3)]
    telling = [entry(4 + number, body=b"%d" % number, events=(event(1),)) for number in (1, 2)]
    sent = [*named, *telling, *named, *telling]
    journal = Writer(home.store())

    async def work() -> list[Stored]:
        if at_once:
            return await asyncio.gather(*map(journal.append, sent))
        return [await journal.append(one) for one in sent]

    outcomes = [one.verdict for one in run(journal, work())]
    assert outcomes == [Verdict.ACCEPTED] + [Verdict.DUPLICATE] * 9
    assert [one.event for one in events(home)] == [event(1)]
    archive = Archive(home.database())
    kept = [(one.delivery, archive.load(one.number).body) for one in archive.oldest(Selection())]
    assert [(name.partition("~")[0], body) for name, body in kept] == [
        ("d-1", b"1"),
        ("d-1", b"2"),
        ("d-1", b"3"),
        ("d-6", b"2"),
    ]
    assert len({name for name, _ in kept}) == 4


def test_a_large_push_that_is_known_holds_nobody_up(home: Home) -> None:
    """However many events it has, one body is compared; none where it tells something new."""
    whole = tuple(event(number) for number in range(2_000))
    body = b"2 MiB of it " * 180_000
    sent = [
        entry(1, events=whole, body=body),
        entry(2, events=whole, body=body),
        entry(3, events=whole, body=body[1:]),
        entry(4, events=(*whole, event(2_000)), body=body[2:]),
    ]
    assert [one.verdict for one in append(home, *sent)] == [
        Verdict.ACCEPTED,
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
        Verdict.ACCEPTED,
    ]
    kept = Archive(home.database()).oldest(Selection())
    assert [one.delivery for one in kept] == ["d-1", "d-3", "d-4"]


def test_an_id_that_several_share_hides_no_dead_letter(home: Home) -> None:
    """As long as none of them was accepted, each is what it is."""
    failed = [
        entry(1, body=b"%d" % number, verdict=Verdict.DEAD_LETTERED, events=())
        for number in (1, 2, 1, 2)
    ]
    assert [one.verdict for one in append(home, *failed)] == [
        Verdict.DEAD_LETTERED,
        Verdict.DEAD_LETTERED,
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
    ]
    assert Archive(home.database()).open_dead_letters() == {"github": 2}


def test_only_the_new_events_of_a_delivery_are_new(home: Home) -> None:
    """A push that repeats a commit and adds one is accepted for the one."""
    both = (event(1), event(2), event(2))
    stored = append(home, entry(1), entry(2, events=both))
    assert stored[1].verdict is Verdict.ACCEPTED
    assert [new.event for new in stored[1].new_events] == [event(2)]


def test_a_redelivery_after_a_mapping_was_mended_counts(home: Home) -> None:
    """What was ignored or a dead letter when it first came is no duplicate once it can be mapped."""
    failed = entry(1, verdict=Verdict.DEAD_LETTERED, events=())
    stored = append(home, failed, failed, entry(1), entry(1), failed)
    assert [one.verdict for one in stored] == [
        Verdict.DEAD_LETTERED,
        Verdict.DUPLICATE,
        Verdict.ACCEPTED,
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
    ]


def test_commits_are_told_in_order_before_they_are_answered(home: Home) -> None:
    """Whoever folds the events hears of them in the journal's order, also of many at once."""
    journal = Writer(home.store())
    heard: list[float] = []

    def listen(batch: Sequence[Recorded]) -> None:
        heard.extend(recorded.received_at for recorded in batch)

    async def work() -> None:
        async def one(number: int) -> None:
            stored = await journal.append(entry(number))
            assert stored.new_events[0].received_at in heard

        await asyncio.gather(*(one(number) for number in range(500)))

    journal.follow(listen)
    run(journal, work())
    assert heard == [one.received_at for one in events(home)]


def test_a_sender_that_goes_away_changes_nothing(home: Home) -> None:
    """A cancelled append is committed and folded all the same."""
    journal = Writer(home.store())
    heard: list[Recorded] = []
    journal.follow(heard.extend)

    async def work() -> None:
        task = asyncio.ensure_future(journal.append(entry(1)))
        await asyncio.sleep(0)
        task.cancel()
        await journal.append(entry(2))

    run(journal, work())
    assert len(heard) == 2


def test_too_many_waiting_deliveries_are_turned_away(home: Home) -> None:
    """The queue is bounded: beyond it nothing is promised."""
    journal = Writer(home.store())

    async def work() -> None:
        with home.locked():
            waiting = [
                asyncio.ensure_future(journal.append(entry(number)))
                for number in range(MAX_WAITING + 10)
            ]
            await asyncio.sleep(0)
            turned_away = [one for one in waiting if one.done()]
            assert len(turned_away) == 10
            assert all(isinstance(one.exception(), Overloaded) for one in turned_away)
        await asyncio.gather(*waiting, return_exceptions=True)

    run(journal, work())


def test_a_journal_that_cannot_commit_says_so_and_recovers(home: Home) -> None:
    """Another process holds the write lock: nothing is acknowledged, and later appends work."""
    journal = Writer(home.store())

    async def work() -> None:
        with home.locked():
            with pytest.raises(JournalUnavailable):
                await journal.append(entry(1))
            assert not journal.healthy
        await journal.append(entry(2))
        assert journal.healthy

    run(journal, work())
    assert events(home) == [Recorded(event(2), 1_790_000_002.5, "github", 1)]


def test_one_gateway_at_a_time(tmp_path: Path) -> None:
    """A second one on the same file is refused in words."""
    path = tmp_path / "journal.sqlite"
    journal = Writer(SqliteStore(path))
    try:
        with pytest.raises(JournalError, match="in use by another gateway"):
            SqliteStore(path)
    finally:
        journal.close()


def test_who_only_looks_keeps_no_gateway_from_starting(tmp_path: Path) -> None:
    """It has the lock for a moment, and a start waits for that."""
    path = tmp_path / "journal.sqlite"
    SqliteStore(path).close()
    assert not in_use(path)
    with lock_path(path).open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.05, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        store = SqliteStore(path)
    assert in_use(path)
    store.close()


def test_who_reads_for_long_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup, or a history that is folded, keeps a long log from being cut, and keeps no delivery waiting."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 60_000)
    path = tmp_path / "journal.sqlite"
    store = SqliteStore(path)
    store.commit([candidate(entry(0)), candidate(entry(1))])
    store.tend()
    noise = random.Random(1)
    with SqliteFile(path).reader() as query:
        reading = query("SELECT seq FROM deliveries", ())
        next(reading)
        for first in range(2, 1_002, 50):
            numbers = range(first, first + 50)
            store.commit([candidate(entry(one, body=noise.randbytes(20_000))) for one in numbers])
        assert log_path(path).stat().st_size > WAL_LIMIT
        started = time.monotonic()
        store.tend()
        assert time.monotonic() - started < 30
        assert next(reading)
    store.tend()
    assert log_path(path).stat().st_size > WAL_LIMIT
    store.commit([candidate(entry(2_000))])
    store.tend()
    assert log_path(path).stat().st_size < WAL_LIMIT
    store.close()


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
