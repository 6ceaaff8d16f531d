"""What the journal promises, under power cuts and faults: acknowledged is on disk, and nothing is silent.

What takes long is short where these are not set: `GATEWAY_TEST_CUTS`, the power cuts in each mode (500);
`GATEWAY_TEST_FLIPS`, the flipped bits (300); `GATEWAY_TEST_LOCKED`, the seconds that another process
holds the file (3).
"""

import asyncio
import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from gateway.delivery import Verdict
from gateway.event import Event
from gateway.journal import writer
from gateway.journal.archive import Archive
from gateway.journal.batch import DeliveryRow, candidate
from gateway.journal.entry import Entry, JournalError, JournalUnavailable
from gateway.journal.sqlite import SqliteFile, SqliteStore
from gateway.journal.writer import Writer
from tests import samples
from tests.faults import Error, Faults, failing, flip_bit
from tests.harness import Answer, Gateway, eventually, require_program, running
from tests.powercut import Linked, Mode, Rig, SyncFailed, Written, memory_folder, recording

CUTS = int(os.environ.get("GATEWAY_TEST_CUTS", "500"))
FLIPS = int(os.environ.get("GATEWAY_TEST_FLIPS", "300"))
LOCKED = float(os.environ.get("GATEWAY_TEST_LOCKED", "3"))
RUNS = 5
"""The cuts are spread over that many recordings."""
DELIVERIES = 200
FILE = "journal.sqlite"


def _entry(number: int, seed: int = 0) -> Entry:
    """A delivery of its own, with a body of some random size and up to two events."""
    chance = random.Random(f"{seed}/{number}")
    return Entry(
        source="shop",
        delivery_id=f"d-{number}",
        event="push",
        received_at=1_790_000_000.5 + number,
        verdict=Verdict.ACCEPTED,
        reasons=(),
        events=tuple(
            Event("deploytime", {"app": "shop", "commit": f"c-{number}-{one}", "timestamp": number})
            for one in range(chance.randint(0, 2))
        ),
        headers={"x-event": "push"},
        query={},
        body=chance.randbytes(chance.randint(20, 1_500)).hex().encode(),
    )


def _kept(entry: Entry) -> dict[str, bytes]:
    """What there must be of a delivery: it and its events, each under a name of its own."""
    return {
        entry.delivery_id: entry.body,
        **{str(event.fields["commit"]): b"an event" for event in entry.events},
    }


def _read(path: Path) -> Iterator[tuple[str, bytes]]:
    """What a journal holds once it was opened as `gateway serve` opens it, each row as it was written."""
    with closing(SqliteStore(path)) as store:
        for recorded in store.events():
            yield str(recorded.event.fields["commit"]), b"an event"
    file = SqliteFile(path)
    damage = next((one for one in Archive(file).verify() if one is not None), None)
    assert damage is None, damage
    with file.reader() as query:
        columns = ", ".join(DeliveryRow._fields)
        for row in map(DeliveryRow._make, query(f"SELECT {columns} FROM deliveries", ())):
            yield row.delivery_id, zlib.decompress(row.body) if row.compressed else row.body


def _sent(entries: list[Entry]) -> dict[str, bytes]:
    return {name: body for entry in entries for name, body in _kept(entry).items()}


# Power cuts


class Run:
    """A gateway's life on a recorded disk: deliveries come in crowds, some of them twice, and it is
    restarted on the way. `pragma` is what its connection is told against the journal's will."""

    def __init__(self, seed: int, *, pragma: str = "", bad_syncs: float = 0.0) -> None:
        self.entries = [_entry(number, seed) for number in range(DELIVERIES)]
        self._chance = random.Random(seed)
        self._pragma = pragma
        self._bad_syncs = bad_syncs
        self._waiting = list(self.entries)
        with memory_folder() as folder, recording(folder) as recorder:
            self._recorder = recorder
            while self._waiting:
                self._live(folder / FILE)
        self.log = recorder.log

    def _live(self, path: Path) -> None:
        self._recorder.sync_fails = lambda: False
        store = SqliteStore(path, vfs=self._recorder.vfs_name)
        assert store._connection is not None
        # Often enough for a short run to have many.
        store._connection.wal_autocheckpoint(25)
        store._connection.execute(self._pragma)
        syncs = random.Random(len(self._waiting))
        self._recorder.sync_fails = lambda: syncs.random() < self._bad_syncs
        asyncio.run(self._serve(Writer(store)))

    async def _serve(self, journal: Writer) -> None:
        chance = self._chance
        journal.start()
        try:
            for _ in range(12):
                size = min(chance.randint(1, 12), len(self._waiting))
                crowd = [self._waiting.pop() for _ in range(size)]
                again = crowd[: chance.choice([0, 0, 1])]
                await asyncio.gather(*(self._deliver(journal, entry) for entry in crowd + again))
                # Long enough for the writer to find itself idle: then it checkpoints.
                await asyncio.sleep(chance.choice([0, 0, 3 * writer.TICK]))
                await asyncio.to_thread(self._look, journal)
        finally:
            await asyncio.to_thread(journal.close)

    def _look(self, journal: Writer) -> None:
        """A reader keeps a checkpoint from finishing, and may be the last to close the file."""
        try:
            list(journal.events())
        except (JournalUnavailable, apsw.Error):
            # An exception of a VFS in Python goes where SQLite itself passes over the error.
            assert self._bad_syncs

    async def _deliver(self, journal: Writer, entry: Entry) -> None:
        """As a sender does: again until it is acknowledged."""
        for _ in range(100):
            try:
                stored = await journal.append(entry)
            except JournalUnavailable:
                assert self._bad_syncs
                continue
            assert stored.verdict in {Verdict.ACCEPTED, Verdict.DUPLICATE}
            for name in _kept(entry):
                self._recorder.acknowledge(name)
            return
        pytest.fail("the journal does not recover")

    def rig(self, keep: Path) -> Rig:
        (main,) = {link.file for link in self.log if isinstance(link, Linked) and link.name == FILE}
        written = [record.file for record in self.log if isinstance(record, Written)]
        assert written.count(main or 0) > 100, "too tame: hardly anything was checkpointed"
        return Rig(self.log, FILE, _read, _sent(self.entries), keep)


@pytest.fixture
def _short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle after 10 ms: what an idle writer does is then among what is cut."""
    monkeypatch.setattr(writer, "TICK", 0.01)


@pytest.mark.usefixtures("_short_ticks")
def test_no_power_cut_loses_what_was_acknowledged(tmp_path: Path) -> None:
    """At random moments, whatever becomes of what was not synced: no delivery and no event is lost, there
    twice or altered, and the file is sound."""
    for seed in range(RUNS):
        for mode, tally in Run(seed).rig(tmp_path).cut(CUTS // RUNS, seed).items():
            print(f"run {seed}, {mode}: {tally}")
            assert (tally.losing, tally.corrupting) == (0, 0), f"run {seed}, {mode}: {tally}"


@pytest.mark.usefixtures("_short_ticks")
def test_nor_does_one_after_syncs_that_failed(tmp_path: Path) -> None:
    """What a failed sync should have written is gone for good, and was not acknowledged or is written
    again."""
    run = Run(100, bad_syncs=0.3)
    assert sum(isinstance(record, SyncFailed) for record in run.log) > 5
    for mode, tally in run.rig(tmp_path).cut(CUTS // RUNS, 100).items():
        assert (tally.losing, tally.corrupting) == (0, 0), f"{mode}: {tally}"


@pytest.mark.usefixtures("_short_ticks")
def test_the_same_cuts_find_a_journal_that_does_not_sync_every_commit(tmp_path: Path) -> None:
    """Were the journal opened with less, the tests above would say so."""
    tallies = Run(200, pragma="PRAGMA synchronous = NORMAL").rig(tmp_path).cut(50, 200)
    for mode in (Mode.DROPPED, Mode.REORDERED, Mode.TORN):
        assert tallies[mode].losing > 5, f"{mode}: {tallies[mode]}"


# Calls that fail


def _commit(store: SqliteStore, entry: Entry) -> bool:
    """Whether it was acknowledged."""
    try:
        (stored,) = store.commit([candidate(entry)])
    except JournalUnavailable:
        return False
    assert stored.verdict in {Verdict.ACCEPTED, Verdict.DUPLICATE}
    return True


def _life(path: Path, faults: Faults, acknowledged: list[Entry]) -> bool:
    """A journal from its opening to its close, each delivery sent up to three times. Whether it opened."""
    try:
        store = SqliteStore(path, vfs=faults.vfs_name)
    except JournalError as said:
        assert str(path) in str(said)
        return False
    for number in range(4):
        entry = _entry(number)
        if any(_commit(store, entry) for _ in range(3)):
            acknowledged.append(entry)
        with contextlib.suppress(JournalUnavailable):
            store.tend()
        with contextlib.suppress(JournalUnavailable):
            list(store.events())
    store.close()
    return True


def _sound(path: Path, acknowledged: list[Entry]) -> None:
    found = list(_read(path))
    assert len(dict(found)) == len(found)
    assert _sent(acknowledged).items() <= dict(found).items()
    for entry in acknowledged:
        with closing(SqliteStore(path)) as store:
            (stored,) = store.commit([candidate(entry)])
            assert stored.verdict is Verdict.DUPLICATE


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("error", Error)
def test_whichever_call_fails_nothing_acknowledged_is_missing(error: Error, lasting: bool) -> None:
    """Once or from then on, hardware or space: every failure is said in the journal's own errors, and
    where only one call fails, the delivery is kept when it is sent again."""
    for index in itertools.count():
        acknowledged: list[Entry] = []
        with memory_folder() as folder, failing() as faults:
            path = folder / FILE
            faults.arm(index, error=error, lasting=lasting)
            opened = _life(path, faults, acknowledged)
            faults.disarm()
            if not faults.failed:
                assert len(acknowledged) == 4
                break
            where = f"call {index} failed: {faults.failed[0]}"
            assert lasting or not opened or len(acknowledged) == 4, where
            try:
                _sound(path, acknowledged)
            except BaseException as problem:
                problem.add_note(where)
                raise
    assert index > 20


# Bits that flip


def _says(path: Path) -> str:
    """What a journal that is opened, read and verified says of being damaged; nothing where it is content."""
    try:
        with closing(SqliteStore(path)) as store:
            if store.missing:
                return f"{store.missing} are missing"
            list(store.events())
            if store.damaged:
                return f"{store.damaged} are damaged"
        found = [one for one in Archive(SqliteFile(path)).verify() if one is not None]
        with SqliteFile(path).reader() as query:
            # An index knows no hashes; that it fits its table is all that there is to check of it.
            (sound,) = next(query("PRAGMA integrity_check(1)", ()))
        if sound != "ok":
            return str(sound)
    except (JournalError, JournalUnavailable) as said:
        return str(said)
    return str(found[0]) if found else ""


def _copy(folder: Path, copy: Path) -> None:
    """What a crash at this moment leaves of a journal."""
    for suffix in ("", "-wal", ".lock"):
        if (folder / (FILE + suffix)).exists():
            shutil.copy(folder / (FILE + suffix), copy)


@pytest.mark.parametrize("name", [FILE, f"{FILE}-wal"])
def test_a_flipped_bit_is_said_or_changes_nothing(tmp_path: Path, name: str) -> None:
    """In the file, and in the log that a crash left behind, where SQLite ends its recovery in silence:
    what is not said to be damaged is all there as it was sent, and a redelivery is still a duplicate."""
    entries = [_entry(number) for number in range(60)]
    with memory_folder() as folder:
        with closing(SqliteStore(folder / FILE)) as store:
            assert all(_commit(store, entry) for entry in entries)
            if name != FILE:
                _copy(folder, tmp_path)
        if name == FILE:
            _copy(folder, tmp_path)
    said = 0
    for number in range(FLIPS):
        with memory_folder() as folder:
            path = folder / FILE
            shutil.copytree(tmp_path, folder, dirs_exist_ok=True)
            where = flip_bit(folder / name, random.Random(number))
            try:
                if _says(path):
                    said += 1
                    continue
                _sound(path, entries)
            except BaseException as problem:
                problem.add_note(where)
                raise
    assert said > FLIPS / 5


# Files that go


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_acknowledged_into_a_file_that_is_gone(
    tmp_path: Path, suffix: str, replaced: bool
) -> None:
    """Deleted or replaced under the journal's feet, it would be written on, and all of that be gone."""
    path = tmp_path / FILE
    with closing(SqliteStore(path)) as store:
        assert _commit(store, _entry(1))
        victim = path.with_name(FILE + suffix)
        content = victim.read_bytes()
        victim.unlink()
        if replaced:
            victim.with_name("other").write_bytes(content)
            victim.with_name("other").rename(victim)
        with pytest.raises(JournalUnavailable, match="removed, replaced or emptied"):
            store.commit([candidate(_entry(2))])
        with pytest.raises(JournalUnavailable, match="removed, replaced or emptied"):
            store.tend()


def test_a_journal_that_went_between_two_starts_is_a_new_one_and_missed(tmp_path: Path) -> None:
    """Deliveries are taken; how many are gone is known."""
    path = tmp_path / FILE
    with closing(SqliteStore(path)) as store:
        assert store.missing == 0
        assert all(_commit(store, _entry(number)) for number in range(3))
    path.unlink()
    with closing(SqliteStore(path)) as store:
        assert store.missing == 3
        assert _commit(store, _entry(1))


# Through the process


def _push(gateway: Gateway, number: int) -> Answer:
    """A delivery of about 20 kB; its id and its commit have the number."""
    push = samples.github_push("octo/shop", f"{number:040x}", 1_790_000_000 + number)
    padding = random.Random(number).randbytes(10_000).hex()
    return gateway.github("push", {**push, "padding": padding}, f"d-{number}")


def _shown(gateway: Gateway) -> set[str]:
    return set(re.findall(r'commit_timestamp\{.*commit="(\w+)"', "\n".join(gateway.samples())))


def test_a_lock_held_by_another_process_is_waited_out(gateway: Gateway) -> None:
    """Every delivery meanwhile is a 503 well within what senders wait for; scrapes go on; and when the
    lock goes, deliveries are taken again without a restart."""
    path = gateway.folder / "data" / "journal.sqlite"
    program = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        end = time.monotonic() + LOCKED
        while time.monotonic() < end:
            begin = time.monotonic()
            answer = _push(gateway, 1)
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) > 0
            assert time.monotonic() - begin < 8, "a sender has given up by now"
            assert gateway.get("/-/ready").status == 503
            assert gateway.get("/metrics").status == 200
        holder.communicate()
    eventually(lambda: gateway.get("/-/ready").status == 200)
    assert _push(gateway, 1).json()["outcome"] == "accepted"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = require_program("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("whoever runs this may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run([require_program("umount"), str(folder)], check=True)


@pytest.mark.parametrize("least", [0, 2])
def test_a_full_disk_is_a_503_until_there_is_room(
    tmp_path: Path, small_disk: Path, least: int
) -> None:
    """Whether the gateway stops at what must be left free or at the very end of the disk: never another
    answer than 202 or 503, scrapes go on, and with room again so do deliveries, without a restart."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(3 << 20))
    flags = ("--journal", f"sqlite:///{small_disk / FILE}", "--min-free", str(least))
    with running(tmp_path, *flags, "--scrape-interval", "0") as gateway:
        acknowledged = []
        refused = 0
        for number in range(2_000):
            status = _push(gateway, number).status
            assert status in {202, 503}
            if status == 202:
                acknowledged.append(number)
            else:
                refused += 1
            if refused == 20:
                break
        assert len(acknowledged) > 20
        assert refused == 20, "the disk did not fill"
        if least:
            free = os.statvfs(small_disk)
            assert free.f_bavail * free.f_frsize > (least - 1) << 20
        assert gateway.get("/-/ready").status == 503
        assert gateway.get("/metrics").status == 200
        ballast.unlink()
        eventually(lambda: gateway.get("/-/ready").status == 200)
        assert _push(gateway, 5_000).json()["outcome"] == "accepted"
        acknowledged.append(5_000)
        assert _shown(gateway) >= {f"{number:040x}" for number in acknowledged}
        gateway.stop(signal.SIGKILL)
        gateway.start()
        assert _shown(gateway) >= {f"{number:040x}" for number in acknowledged}
        gateway.stop()


def test_a_journal_that_is_deleted_while_it_serves_is_said(gateway: Gateway) -> None:
    """503, not ready, and the reason in the log; scrapes show what was there."""
    assert _push(gateway, 1).status == 202
    (gateway.folder / "data" / "journal.sqlite").unlink()
    assert _push(gateway, 2).status == 503
    assert gateway.get("/-/ready").status == 503
    assert _shown(gateway) == {f"{1:040x}"}
    assert "journal.sqlite was removed, replaced or emptied" in gateway.output
