"""How long what is kept: the oldest deliveries and events go, a few at a time, and nothing else does."""

import random
import time
from pathlib import Path

import apsw
import msgspec
import pytest

from gateway.delivery import Verdict
from gateway.journal.archive import Archive, Selection
from gateway.journal.batch import candidate
from gateway.journal.entry import Entry
from gateway.journal.retention import PRUNE, Retention
from gateway.journal.sqlite import SqliteFile, SqliteStore
from tests.harness import Gateway, eventually, running
from tests.journals import Home, entry

DAY = 86_400.0
ALL = Selection(limit=100_000)


def _aged(number: int, age: float) -> Entry:
    """An entry that was received so many seconds ago."""
    return msgspec.structs.replace(entry(number), received_at=time.time() - age)


def _filled(path: Path, retention: Retention, *entries: Entry) -> SqliteStore:
    store = SqliteStore(path, retention)
    store.commit([candidate(one) for one in entries])
    return store


def _tend(store: SqliteStore) -> int:
    """Removes until nothing is left to remove; how often that took."""
    times = 1
    while store.tend():
        times += 1
    return times


def _kept(path: Path) -> list[str]:
    return [one.delivery for one in Archive(SqliteFile(path)).oldest(ALL)]


def test_deliveries_go_by_age_and_their_events_stay(tmp_path: Path) -> None:
    """So the series are what they were, and a redelivery of what went is still a duplicate."""
    path = tmp_path / "journal.sqlite"
    old, new = _aged(1, 31 * DAY), _aged(2, 29 * DAY)
    store = _filled(path, Retention(deliveries=30 * DAY), old, new)
    _tend(store)
    assert _kept(path) == ["d-2"]
    assert [one.event for one in store.events()] == [*old.events, *new.events]
    (again,) = store.commit([candidate(msgspec.structs.replace(old, delivery_id="anew"))])
    assert again.verdict is Verdict.DUPLICATE
    store.close()


def test_events_go_by_age(tmp_path: Path) -> None:
    """A restart then shows what the rest shows; places go on from where they were."""
    path = tmp_path / "journal.sqlite"
    store = _filled(path, Retention(events=100 * DAY), _aged(1, 101 * DAY), _aged(2, 99 * DAY))
    _tend(store)
    assert [one.place for one in store.events()] == [2]
    assert store.last_event() == 2
    store.close()
    store = SqliteStore(path)
    (stored,) = store.commit([candidate(_aged(3, 0))])
    assert [one.place for one in stored.new_events] == [3]
    store.close()


def test_numbers_go_on_where_all_deliveries_went(tmp_path: Path) -> None:
    """A number means one delivery for ever."""
    path = tmp_path / "journal.sqlite"
    store = _filled(path, Retention(deliveries=DAY), _aged(1, 2 * DAY), _aged(2, 2 * DAY))
    _tend(store)
    assert _kept(path) == []
    store.commit([candidate(_aged(3, 0))])
    assert [one.number for one in Archive(SqliteFile(path)).oldest(ALL)] == [3]
    store.close()
    # What went because it was old is not taken for lost.
    store = SqliteStore(path)
    assert store.missing == 0
    store.close()


def test_the_oldest_go_where_the_journal_is_too_large(tmp_path: Path) -> None:
    """Until it fits; the disk gets the room back."""
    path = tmp_path / "journal.sqlite"
    noise = random.Random(1)
    entries = [
        msgspec.structs.replace(_aged(number, 0), body=noise.randbytes(6_000))
        for number in range(3 * PRUNE)
    ]
    limit = 6 * 1024 * 1024
    store = _filled(path, Retention(size=limit), *entries)
    _tend(store)
    kept = _kept(path)
    assert kept == [f"d-{number}" for number in range(3 * PRUNE - len(kept), 3 * PRUNE)]
    assert len(list(store.events())) == 3 * PRUNE
    store.close()
    assert 0 < len(kept) < 3 * PRUNE
    assert path.stat().st_size <= limit


def test_deliveries_stay_where_it_is_events_that_make_the_journal_large(tmp_path: Path) -> None:
    """Were they to go, they would go as soon as they come, and make no room."""
    path = tmp_path / "journal.sqlite"
    entries = [msgspec.structs.replace(_aged(number, 0), body=b"{}") for number in range(9 * PRUNE)]
    store = _filled(path, Retention(size=1024 * 1024, deliveries=DAY), *entries)
    _tend(store)
    assert path.stat().st_size > 1024 * 1024
    left = len(_kept(path))
    assert left > PRUNE
    store.commit([candidate(_aged(10 * PRUNE, 0))])
    _tend(store)
    assert len(_kept(path)) == left + 1
    store.close()


def test_a_clock_that_was_ahead_keeps_nothing_from_going(home: Home) -> None:
    """What came then stays until its time has come, or until the journal is too large."""
    noise = random.Random(1)

    def body() -> bytes:
        return noise.randbytes(4_000)

    ahead = [_aged(number, -100 * DAY) for number in range(PRUNE + 1)]
    old = [_aged(number, 2 * DAY) for number in range(PRUNE + 1, PRUNE + 4)]
    entries = [msgspec.structs.replace(one, body=body()) for one in (*ahead, *old)]
    for retention, left in (
        (Retention(deliveries=DAY), PRUNE + 1),
        (Retention(size=1024 * 1024), PRUNE // 2 + 1),
    ):
        store = home.store(retention)
        store.commit([candidate(one) for one in entries])
        while store.tend():
            pass
        store.close()
        archive = Archive(home.database())
        assert archive.count(ALL) <= left
        assert archive.oldest(ALL)[0].received_at > time.time()
        entries = []


def test_a_little_is_removed_at_a_time(tmp_path: Path) -> None:
    """Deliveries wait for no more than that."""
    path = tmp_path / "journal.sqlite"
    entries = [_aged(number, 2 * DAY) for number in range(2 * PRUNE + 1)]
    store = _filled(path, Retention(deliveries=DAY), *entries)
    assert store.tend() is True
    assert len(_kept(path)) == PRUNE + 1
    assert _tend(store) == 3
    assert _kept(path) == []
    store.close()


@pytest.mark.parametrize(
    "retention", [Retention(), Retention(deliveries=40 * DAY, events=40 * DAY)]
)
def test_what_is_young_enough_stays(tmp_path: Path, retention: Retention) -> None:
    """Without limits, everything does."""
    path = tmp_path / "journal.sqlite"
    store = _filled(path, retention, _aged(1, 39 * DAY), _aged(2, 0))
    assert store.tend() is False
    assert _kept(path) == ["d-1", "d-2"]
    assert len(list(store.events())) == 2
    store.close()


def test_a_gateway_removes_what_it_was_told_to_keep_no_longer(tmp_path: Path) -> None:
    """While it serves, by its flags."""
    journal = tmp_path / "data" / "journal.sqlite"
    journal.parent.mkdir()
    _filled(journal, Retention(), _aged(1, 3 * DAY), _aged(2, DAY)).close()

    def kept(gateway: Gateway) -> int:
        assert gateway.process is not None
        with SqliteFile(journal).reader() as query:
            ((count,),) = query("SELECT count(*) FROM deliveries", ())
        return int(count)

    with running(tmp_path, "--keep-deliveries", "2") as gateway:
        eventually(lambda: kept(gateway) == 1)
        gateway.stop()
    connection = apsw.Connection(str(journal))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
