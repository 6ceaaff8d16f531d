"""Power cuts without cutting the power: what SQLite does to its files is recorded, and played up to any point.

A recording VFS passes every call on to the real files and notes what changes them. The disk is then
thought of as a machine that keeps for certain only what was synced: at a cut, what was written to a file
since its last sync may be there or not, in any order, and in part. So far as SQLite relies on it, the
directory is modelled in the same way: a file that was created or deleted since the directory was last
synced may be missing, or there again.

A sync can be made to fail. It then throws away what it should have written, as Linux does: the writer goes
on reading it, a later sync succeeds, and the disk never has it.

What is not modelled: disks that lie about a sync, and damage to what was synced long ago (`tests.faults`
has bits that flip). The index of the WAL in shared
memory, `-shm`, is not on this disk: whoever opens the files first after a cut makes it anew.
"""

import enum
import random
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import apsw

T = TypeVar("T")

SECTOR = 512
"""The bytes that a disk writes whole or not at all."""

_NEW_IN_DIRECTORY = (
    apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
)
"""The files with whose first sync SQLite syncs their directory, too."""


# What is recorded. A file is known by a number: its name may pass to another.


class Written(NamedTuple):
    file: int
    offset: int
    data: bytes


class Truncated(NamedTuple):
    file: int
    size: int


class Synced(NamedTuple):
    file: int


class SyncFailed(NamedTuple):
    file: int


class Linked(NamedTuple):
    """A name of the directory stands for a file from now on, or for none: it was deleted."""

    name: str
    file: int | None


class DirectorySynced(NamedTuple):
    pass


class Acknowledged(NamedTuple):
    """Not SQLite's: a writer's caller was told that this is on disk."""

    what: str


Record = Written | Truncated | Synced | SyncFailed | Linked | DirectorySynced | Acknowledged


class Recorder(apsw.VFS):
    """A VFS under a name of its own that records what is done to the files of one folder.

    The folder holds no database yet. Connections name this VFS; any thread may use them, and may
    acknowledge.
    """

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, "unix")
        self.vfs_name = name
        self.log: list[Record] = []
        self.sync_fails: Callable[[], bool] = lambda: False
        """Asked at every sync."""
        self._folder = folder.resolve()
        self._files: dict[str, int] = {}
        self._count = 0
        self._lock = threading.Lock()
        self.is_full: Callable[[], bool] = lambda: False
        """Asked at every write that makes a file longer: whether there is no room for it."""

    def resume(self, log: Sequence[Record]) -> None:
        """Goes on from this record, where the folder was brought to what it says. No file is open."""
        links = [record for record in log if isinstance(record, Linked)]
        with self._lock:
            self.log = list(log)
            self._files = {}
            _link(self._files, links)
            self._count = max((link.file or 0 for link in links), default=0)

    def acknowledge(self, what: str) -> None:
        self.record(Acknowledged(what))

    def record(self, *records: Record) -> None:
        with self._lock:
            self.log.extend(records)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = Path((name if isinstance(name, str) else name.filename()) if name else "")
        if path.parent != self._folder:
            return apsw.VFSFile("unix", name, flags)
        opened = _RecordedFile(self, name, flags)
        opened.number = self._number(path.name)
        return opened

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        path = Path(filename)
        if path.parent == self._folder and self._files.pop(path.name, None) is not None:
            self.record(Linked(path.name, None))
        if syncdir:
            self.record(DirectorySynced())

    def _number(self, name: str) -> int:
        """The number of the file that has this name; one that nobody knew was created just now."""
        with self._lock:
            if name not in self._files:
                self._count += 1
                self._files[name] = self._count
                self.log.append(Linked(name, self._count))
            return self._files[name]


class _RecordedFile(apsw.VFSFile):
    """One opening of a file. Shared memory and locks are the base's, inherited unseen."""

    def __init__(
        self, recorder: Recorder, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        self.number = 0
        self._recorder = recorder
        self._syncs_directory = bool(
            flags[0] & _NEW_IN_DIRECTORY and flags[0] & apsw.SQLITE_OPEN_CREATE
        )
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if offset + len(data) > self.xFileSize() and self._recorder.is_full():
            raise apsw.exception_for(apsw.SQLITE_FULL)
        super().xWrite(data, offset)
        self._recorder.record(Written(self.number, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._recorder.record(Truncated(self.number, newsize))

    def xSync(self, flags: int) -> None:
        if self._recorder.sync_fails():
            self._recorder.record(SyncFailed(self.number))
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)
        self._recorder.record(Synced(self.number))
        if self._syncs_directory:
            self._recorder.record(DirectorySynced())
            self._syncs_directory = False


@contextmanager
def recording(folder: Path, name: str = "recorder") -> Iterator[Recorder]:
    """A recorder for the files of a folder, its VFS registered for the length of a block."""
    recorder = Recorder(name, folder)
    try:
        yield recorder
    finally:
        recorder.unregister()


# What is left of it


class Mode(enum.StrEnum):
    """What becomes, at a cut, of that which was not synced."""

    DROPPED = "dropped"
    KEPT = "kept"
    REORDERED = "reordered"
    TORN = "torn"


class Disk:
    """What is on disk for certain, and what is on its way, as a record is played."""

    def __init__(self) -> None:
        self._synced: dict[int, bytearray] = {}
        self._unsynced: dict[int, list[Written | Truncated]] = {}
        self._directory: dict[str, int] = {}
        self._links: list[Linked] = []

    def play(self, record: Record) -> None:
        match record:
            case Written(file) | Truncated(file):
                self._unsynced.setdefault(file, []).append(record)
            case Synced(file):
                _apply(self._content(file), self._unsynced.pop(file, ()))
            case SyncFailed(file):
                self._unsynced.pop(file, None)
            case Linked():
                self._links.append(record)
            case DirectorySynced():
                _link(self._directory, self._links)
                self._links.clear()
            case Acknowledged():
                pass

    def after_cut(self, mode: Mode, chance: random.Random) -> dict[str, bytes]:
        """The files that are found when the power is back, each name with its content."""
        directory = dict(self._directory)
        _link(directory, _surviving_links(self._links, mode, chance))
        return {
            name: self._surviving_content(file, mode, chance)
            for name, file in sorted(directory.items())
        }

    def _content(self, file: int) -> bytearray:
        return self._synced.setdefault(file, bytearray())

    def _surviving_content(self, file: int, mode: Mode, chance: random.Random) -> bytes:
        content = bytearray(self._content(file))
        _apply(content, _surviving(self._unsynced.get(file, ()), mode, chance))
        return bytes(content)


def certain(image: Mapping[str, bytes]) -> list[Record]:
    """The record of a disk that has these files, and has them for certain."""
    log: list[Record] = []
    for number, (name, content) in enumerate(image.items(), 1):
        log += [Linked(name, number), Written(number, 0, content), Synced(number)]
    return [*log, DirectorySynced()]


def _surviving(
    unsynced: Sequence[Written | Truncated], mode: Mode, chance: random.Random
) -> list[Written | Truncated]:
    """What reaches the disk of that which was on its way to one file, in the order it does."""
    match mode:
        case Mode.DROPPED:
            return []
        case Mode.KEPT:
            return list(unsynced)
        case Mode.REORDERED:
            return _some(unsynced, chance)
        case Mode.TORN:
            survivors = _some(unsynced, chance) or list(unsynced[-1:])
            if survivors:
                torn = chance.randrange(len(survivors))
                survivors[torn : torn + 1] = _some(_sectors(survivors[torn]), chance)
            return survivors


def _some(those: Sequence[T], chance: random.Random) -> list[T]:
    """A random number of them, in random order."""
    return chance.sample(those, chance.randint(0, len(those)))


def _sectors(change: Written | Truncated) -> list[Written | Truncated]:
    """A write as the writes to each sector that it touches. Nothing else can be torn."""
    if isinstance(change, Truncated):
        return [change]
    file, start, data = change
    edges = [start, *range(start - start % SECTOR + SECTOR, start + len(data), SECTOR)]
    ends = [*edges[1:], start + len(data)]
    return [
        Written(file, edge, data[edge - start : end - start])
        for edge, end in zip(edges, ends, strict=True)
    ]


def _surviving_links(
    links: Sequence[Linked], mode: Mode, chance: random.Random
) -> Iterator[Linked]:
    """Names are independent of each other; what happened to one of them happens in its order."""
    names = sorted({link.name for link in links})
    for name in names:
        those = [link for link in links if link.name == name]
        match mode:
            case Mode.DROPPED:
                continue
            case Mode.KEPT:
                yield from those
            case Mode.REORDERED | Mode.TORN:
                yield from those[: chance.randint(0, len(those))]


def _apply(content: bytearray, changes: Iterable[Written | Truncated]) -> None:
    for change in changes:
        size = change.size if isinstance(change, Truncated) else change.offset
        if size > len(content):
            content.extend(bytes(size - len(content)))
        if isinstance(change, Truncated):
            del content[size:]
        else:
            content[size : size + len(change.data)] = change.data


def _link(directory: dict[str, int], links: Iterable[Linked]) -> None:
    for name, file in links:
        if file is None:
            directory.pop(name, None)
        else:
            directory[name] = file


# What it is worth

Read = Callable[[Path], Iterable[tuple[str, bytes]]]
"""Opens a database and gives the deliveries in it, each the id with the body."""


class Damage(NamedTuple):
    """What is wrong with a database: which deliveries are lost, and how it is corrupt, if it is."""

    lost: tuple[str, ...] = ()
    corrupt: str = ""


def examined(
    path: Path, read: Read, acknowledged: Iterable[str], sent: Mapping[str, bytes]
) -> Damage:
    """Reads a database as its owner does. Whatever was acknowledged must be in it, once, with the body
    that was sent, and whatever else is in it must have been sent, too."""
    try:
        found = list(read(path))
        with closing(apsw.Connection(str(path))) as connection:
            complaints = [row for (row,) in connection.execute("PRAGMA integrity_check")]
    except Exception as error:
        return Damage(corrupt=f"{type(error).__name__}: {error}")
    bodies = dict(found)
    if complaints != ["ok"]:
        return Damage(corrupt="; ".join(complaints))
    if len(bodies) < len(found):
        return Damage(corrupt="a delivery is there twice")
    for delivery, body in found:
        if sent.get(delivery) != body:
            return Damage(corrupt=f"another body than was sent: {delivery}")
    return Damage(lost=tuple(one for one in acknowledged if one not in bodies))


class Tally:
    """Cuts of one mode, and those among them that did damage. The first stays on disk to be looked at."""

    def __init__(self) -> None:
        self.cuts = 0
        self.losing = 0
        self.corrupting = 0
        self.first = ""

    def __str__(self) -> str:
        counts = f"{self.cuts} cuts, {self.losing} lost, {self.corrupting} corrupt"
        return f"{counts}; first: {self.first}" if self.first else counts


class Rig:
    """Cuts the power at random points of what was recorded, and examines what is left.

    A cut depends on nothing but the log, its place, its mode and the seed. `name` is that of the
    database; the first image of each mode that shows damage is left below `keep`.
    """

    def __init__(
        self, log: Sequence[Record], name: str, read: Read, sent: Mapping[str, bytes], keep: Path
    ) -> None:
        self._log = log
        self._name = name
        self._read = read
        self._sent = sent
        self._keep = keep

    def cut(self, count: int, seed: int, modes: Iterable[Mode] = tuple(Mode)) -> dict[Mode, Tally]:
        """That many cuts in each mode, each right after some record."""
        tallies = {mode: Tally() for mode in modes}
        places = random.Random(seed).choices(range(1, len(self._log) + 1), k=count)
        disk, played = Disk(), 0
        acknowledged: list[str] = []
        for number, place in enumerate(sorted(places)):
            for record in self._log[played:place]:
                disk.play(record)
                if isinstance(record, Acknowledged):
                    acknowledged.append(record.what)
            played = place
            for mode, tally in tallies.items():
                label = f"{mode}-{seed}-{number}-{place}"
                image = disk.after_cut(mode, random.Random(label))
                self._count(tally, image, acknowledged, label)
        return tallies

    def _count(
        self, tally: Tally, image: Mapping[str, bytes], acknowledged: Sequence[str], label: str
    ) -> None:
        with memory_folder() as folder:
            write(image, folder)
            damage = examined(folder / self._name, self._read, acknowledged, self._sent)
        tally.cuts += 1
        tally.losing += bool(damage.lost)
        tally.corrupting += bool(damage.corrupt)
        if damage != Damage() and not tally.first:
            what = damage.corrupt or f"{len(damage.lost)} lost, such as {damage.lost[0]}"
            tally.first = f"{what}, in {self._keep / label}"
            write(image, self._keep / label)


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder for a while, in memory where the machine offers it: there a sync costs nothing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def write(image: Mapping[str, bytes], folder: Path) -> None:
    """Files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in image.items():
        (folder / name).write_bytes(content)
