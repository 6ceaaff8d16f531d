"""The power-cut rig bites: a writer that syncs loses nothing, and one that does not is found out."""

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw

from tests.powercut import (
    Acknowledged,
    DirectorySynced,
    Disk,
    Linked,
    Mode,
    Record,
    Recorder,
    Rig,
    Synced,
    SyncFailed,
    Truncated,
    Written,
    memory_folder,
    recording,
)

CUTS = 500


def _bodies(count: int, seed: int) -> dict[str, bytes]:
    chance = random.Random(seed)
    return {f"d-{number}": chance.randbytes(chance.randint(50, 5_000)) for number in range(count)}


def _write(recorder: Recorder, path: Path, synchronous: str, bodies: dict[str, bytes]) -> None:
    """Commits in groups and acknowledges each, checkpoints often, and opens the file anew now and then.
    A reader that holds its snapshot for a while keeps checkpoints from finishing."""
    chance = random.Random(7)
    waiting = list(bodies.items())
    while waiting:
        with (
            closing(apsw.Connection(str(path), vfs=recorder.vfs_name)) as writer,
            closing(apsw.Connection(str(path), vfs=recorder.vfs_name)) as reader,
        ):
            writer.pragma("synchronous", synchronous)
            writer.pragma("journal_mode", "wal")
            writer.wal_autocheckpoint(20)
            writer.execute("CREATE TABLE IF NOT EXISTS d (id TEXT UNIQUE, body BLOB) STRICT")
            for _ in range(15):
                group = [waiting.pop() for _ in range(min(chance.randint(1, 8), len(waiting)))]
                with writer:
                    writer.executemany("INSERT INTO d VALUES (?, ?)", group)
                for delivery, _body in group:
                    recorder.acknowledge(delivery)
                if chance.random() < 0.2:
                    reader.execute("COMMIT" if reader.in_transaction else "BEGIN")
                assert reader.execute("SELECT count(*) FROM d").get


def _read(path: Path) -> Iterator[tuple[str, bytes]]:
    with closing(apsw.Connection(str(path))) as connection:
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'd'").get:
            yield from connection.execute("SELECT id, body FROM d NOT INDEXED")


def _rig(folder: Path, synchronous: str) -> tuple[Rig, list[Record]]:
    bodies = _bodies(300, seed=1)
    with memory_folder() as memory, recording(memory) as recorder:
        _write(recorder, memory / "journal", synchronous, bodies)
    return Rig(recorder.log, "journal", _read, bodies, keep=folder), recorder.log


def test_a_writer_that_syncs_in_full_loses_nothing(tmp_path: Path) -> None:
    """Whatever becomes of what was not synced, and with checkpoints and openings among the cuts."""
    rig, log = _rig(tmp_path, "FULL")
    assert sum(isinstance(record, Acknowledged) for record in log) == 300
    files = {record.file for record in log if isinstance(record, Linked)}
    assert len(files - {None}) >= 3
    for mode, tally in rig.cut(CUTS, seed=1).items():
        assert (tally.cuts, tally.losing, tally.corrupting) == (CUTS, 0, 0), f"{mode}: {tally}"


def test_a_writer_that_syncs_only_at_checkpoints_is_found_to_lose(tmp_path: Path) -> None:
    """What it lost was acknowledged; the database as such is sound."""
    rig, _ = _rig(tmp_path, "NORMAL")
    tallies = rig.cut(100, seed=2)
    assert tallies[Mode.DROPPED].losing > 20
    assert tallies[Mode.REORDERED].losing > 20
    assert tallies[Mode.TORN].losing > 20
    assert tallies[Mode.KEPT].losing == 0
    assert all(tally.corrupting == 0 for tally in tallies.values())
    folder = Path(tallies[Mode.DROPPED].first.rpartition(" in ")[2])
    assert (folder / "journal").is_file()


def test_a_writer_that_never_syncs_is_found_to_corrupt(tmp_path: Path) -> None:
    """Pages of the database reach the disk before what they depend on."""
    rig, log = _rig(tmp_path, "OFF")
    assert not any(isinstance(record, Synced | DirectorySynced) for record in log)
    tallies = rig.cut(100, seed=3)
    assert tallies[Mode.REORDERED].corrupting > 20
    assert tallies[Mode.TORN].corrupting > 20
    assert tallies[Mode.KEPT].corrupting == 0


def test_what_was_synced_is_there_and_what_was_not_may_be(tmp_path: Path) -> None:
    """Of a file as of the directory: the model of the disk, by hand."""
    disk = Disk()
    for record in (
        Linked("a", 1),
        DirectorySynced(),
        Written(1, 0, b"x" * 1024),
        Synced(1),
        Written(1, 0, b"y" * 1024),
        Truncated(1, 512),
        Linked("b", 2),
    ):
        disk.play(record)
    chance = random.Random(1)
    assert disk.after_cut(Mode.DROPPED, chance) == {"a": b"x" * 1024}
    assert disk.after_cut(Mode.KEPT, chance) == {"a": b"y" * 512, "b": b""}
    reordered = {disk.after_cut(Mode.REORDERED, chance).get("a") for _ in range(200)}
    assert reordered == {b"x" * 1024, b"x" * 512, b"y" * 1024, b"y" * 512}
    torn = {disk.after_cut(Mode.TORN, chance).get("a") for _ in range(200)}
    assert torn > reordered - {b"y" * 1024}
    assert {b"x" * 512 + b"y" * 512, b"y" * 512 + b"x" * 512} <= torn
    disk.play(SyncFailed(1))
    disk.play(Synced(1))
    assert disk.after_cut(Mode.KEPT, chance) == {"a": b"x" * 1024, "b": b""}
    disk.play(Linked("a", None))
    assert {"a" in disk.after_cut(Mode.REORDERED, chance) for _ in range(50)} == {True, False}
    assert "a" in disk.after_cut(Mode.DROPPED, chance)
    disk.play(DirectorySynced())
    assert disk.after_cut(Mode.DROPPED, chance).keys() == {"b"}
