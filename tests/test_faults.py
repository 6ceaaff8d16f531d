"""The fault rig bites: every call of a plain writer can be made to fail, and SQLite says so or mends it."""

import itertools
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from tests.faults import Error, Faults, failing, flip_bit
from tests.powercut import memory_folder


def _write(path: Path, vfs: str) -> Iterator[int]:
    """Commits numbers one by one with a checkpoint after each few, and gives each that was committed."""
    with closing(apsw.Connection(str(path), vfs=vfs)) as connection:
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.wal_autocheckpoint(4)
        connection.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER, body BLOB)")
        for number in range(6):
            connection.execute("INSERT INTO t VALUES (?, zeroblob(3000))", (number,))
            yield number


def _numbers(path: Path) -> set[int]:
    with closing(apsw.Connection(str(path))) as connection:
        assert connection.pragma("integrity_check") == "ok"
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 't'").get:
            return set()
        return {number for (number,) in connection.execute("SELECT n FROM t")}


def _attempt(path: Path, faults: Faults) -> set[int]:
    committed = set()
    try:
        for number in _write(path, faults.vfs_name):
            committed.add(number)
    except apsw.Error:
        pass
    finally:
        faults.disarm()
    return committed


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("error", Error)
def test_whichever_call_fails_what_was_committed_is_there(error: Error, lasting: bool) -> None:
    """Once or from then on: a writer hears of it, or need not."""
    befallen = set()
    for index in itertools.count():
        with memory_folder() as folder, failing() as faults:
            faults.arm(index, error=error, lasting=lasting)
            committed = _attempt(folder / "t", faults)
            assert committed <= _numbers(folder / "t"), f"after {index} calls: {faults.failed}"
        if not faults.failed:
            assert len(committed) == 6
            break
        befallen.add(faults.failed[0])
    assert {"open t-wal", "write t", "write t-wal", "map t"} <= befallen
    if error is Error.IO:
        assert {"sync t", "sync t-wal", "truncate t", "lock t", "maplock t", "size t"} <= befallen


def test_a_checkpoint_that_fails_behind_a_commit_fails_no_commit(tmp_path: Path) -> None:
    """As with a real disk: the commit is in the log already."""
    with failing() as faults:
        with closing(apsw.Connection(str(tmp_path / "t"), vfs=faults.vfs_name)) as connection:
            connection.pragma("journal_mode", "wal")
            connection.wal_autocheckpoint(1)
            connection.execute("CREATE TABLE t (n)")
            calls = len(faults.calls)
            connection.execute("INSERT INTO t VALUES (1)")
            into_database = faults.calls[calls:].index("write t")
            faults.arm(into_database)
            connection.execute("INSERT INTO t VALUES (2)")
            assert faults.failed == ["write t"]
            assert connection.execute("SELECT count(*) FROM t").get == 2


def test_the_vfs_is_as_before_afterwards(tmp_path: Path) -> None:
    """The name is free again, and one of that name fails nothing of itself."""
    for _ in range(3):
        with failing() as faults:
            assert faults.vfs_name in apsw.vfs_names()
            assert len(list(_write(tmp_path / "t", faults.vfs_name))) == 6
        assert faults.vfs_name not in apsw.vfs_names()


def test_a_flipped_bit_is_one_bit(tmp_path: Path) -> None:
    """And the offset from which on it may be is kept."""
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    flip_bit(path, random.Random(1), start=50)
    assert path.read_bytes()[:50] == bytes(50)
    assert int.from_bytes(path.read_bytes()).bit_count() == 1
