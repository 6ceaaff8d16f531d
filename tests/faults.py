"""What a disk does wrong, on demand: calls that fail, and bits that flip.

The failing calls are those of a VFS as SQLite's C sees it: its tables of functions are copied, with our own
in place of some. An `apsw.VFS` would not do. There an error is an exception, which reaches the statement even
where SQLite itself passes over the error, as it does when a checkpoint fails behind a commit that
succeeded; and shared memory does not go through it.
"""

import ctypes
import enum
import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    byref,
    c_char_p,
    c_int,
    c_int64,
    c_void_p,
    cast,
)
from pathlib import Path
from typing import Any

import apsw

from tests.powercut import SECTOR, memory_folder


class Error(enum.Enum):
    """What goes wrong: the hardware, or the space runs out."""

    IO = "input/output error"
    FULL = "no space left"


_ERRORS = {
    "open": apsw.SQLITE_CANTOPEN,
    "delete": apsw.SQLITE_IOERR_DELETE,
    "access": apsw.SQLITE_IOERR_ACCESS,
    "read": apsw.SQLITE_IOERR_READ,
    "write": apsw.SQLITE_IOERR_WRITE,
    "truncate": apsw.SQLITE_IOERR_TRUNCATE,
    "sync": apsw.SQLITE_IOERR_FSYNC,
    "size": apsw.SQLITE_IOERR_FSTAT,
    "lock": apsw.SQLITE_IOERR_LOCK,
    "reserved": apsw.SQLITE_IOERR_CHECKRESERVEDLOCK,
    "map": apsw.SQLITE_IOERR_SHMMAP,
    "maplock": apsw.SQLITE_IOERR_SHMLOCK,
}
"""Which calls can fail, and with what the operating system's EIO reaches SQLite. Giving things back,
as `unlock` and `close` do, cannot: SQLite ignores what they say."""

_FULL = {
    "open": apsw.SQLITE_CANTOPEN,
    "write": apsw.SQLITE_FULL,
    "map": apsw.SQLITE_IOERR_SHMSIZE,
}
"""The calls that need space, and what they say where there is none."""


class Faults:
    """Makes calls fail from one on, and counts them. Calls that were made so far are in `calls`, each as
    what it does and to which file, such as `sync journal.sqlite-wal`."""

    def __init__(self, name: str) -> None:
        self.vfs_name = name
        self.calls: list[str] = []
        self.failed: list[str] = []
        self._codes: dict[str, int] = {}
        self._at = 0
        self._lasting = False

    def arm(self, after: int = 0, *, lasting: bool = False, error: Error = Error.IO) -> None:
        """Lets so many more calls through, of those that this error can befall, and fails the next: it
        alone, or from then on all."""
        self._codes = _ERRORS if error is Error.IO else _FULL
        self._at = after
        self._lasting = lasting

    def disarm(self) -> None:
        self._codes = {}

    def verdict(self, call: str, file: str) -> int:
        """Notes a call; the error that it ends with instead of being made, or 0."""
        label = f"{call} {file}"
        self.calls.append(label)
        code = self._codes.get(call, 0)
        if not code:
            return 0
        self._at -= 1
        if self._at >= 0:
            return 0
        if not self._lasting:
            self.disarm()
        self.failed.append(label)
        return code


@contextmanager
def failing(name: str = "failing") -> Iterator[Faults]:
    """A VFS of that name for the length of a block. It does what the default one does until it is armed.
    All connections to it must be closed within the block."""
    faults = Faults(name)
    with _registered(name) as (own, base):
        table = _Vfs(faults, own, base)
        try:
            yield faults
        finally:
            table.restore()


def flip_bit(path: Path, chance: random.Random, start: int = 0) -> str:
    """Flips one random bit of a file, at or after an offset; says which."""
    content = bytearray(path.read_bytes())
    place = chance.randrange(start, len(content))
    bit = chance.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place} of {path.name}"


# SQLite's tables of functions. Pointers are as large as each other, and copied whatever they point to.


class _Sqlite3Vfs(Structure):
    """Up to what is of interest here."""

    _fields_ = (
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        ("xOpen", c_void_p),
        ("xDelete", c_void_p),
        ("xAccess", c_void_p),
    )


class _Sqlite3File(Structure):
    _fields_ = (("pMethods", c_void_p),)


class _Sqlite3IoMethods(Structure):
    _fields_ = (
        ("iVersion", c_int),
        ("xClose", c_void_p),
        ("xRead", c_void_p),
        ("xWrite", c_void_p),
        ("xTruncate", c_void_p),
        ("xSync", c_void_p),
        ("xFileSize", c_void_p),
        ("xLock", c_void_p),
        ("xUnlock", c_void_p),
        ("xCheckReservedLock", c_void_p),
        ("xFileControl", c_void_p),
        ("xSectorSize", c_void_p),
        ("xDeviceCharacteristics", c_void_p),
        ("xShmMap", c_void_p),
        ("xShmLock", c_void_p),
        ("xShmBarrier", c_void_p),
        ("xShmUnmap", c_void_p),
        ("xFetch", c_void_p),
        ("xUnfetch", c_void_p),
    )


_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_DELETE = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_ACCESS = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int, c_void_p)
_TRANSFER = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)

_OF_A_FILE: dict[str, tuple[str, Any]] = {
    "xRead": ("read", _TRANSFER),
    "xWrite": ("write", _TRANSFER),
    "xTruncate": ("truncate", CFUNCTYPE(c_int, c_void_p, c_int64)),
    "xSync": ("sync", CFUNCTYPE(c_int, c_void_p, c_int)),
    "xFileSize": ("size", CFUNCTYPE(c_int, c_void_p, c_void_p)),
    "xLock": ("lock", CFUNCTYPE(c_int, c_void_p, c_int)),
    "xCheckReservedLock": ("reserved", CFUNCTYPE(c_int, c_void_p, c_void_p)),
    "xShmMap": ("map", CFUNCTYPE(c_int, c_void_p, c_int, c_int, c_int, c_void_p)),
    "xShmLock": ("maplock", CFUNCTYPE(c_int, c_void_p, c_int, c_int, c_int)),
}
"""Each method of a file that may fail: what it is called here, and its type in C."""

_SHM_UNLOCK = 1


@contextmanager
def _registered(name: str) -> Iterator[tuple[_Sqlite3Vfs, _Sqlite3Vfs]]:
    """A VFS newly registered, and the default one, as structures in SQLite's own memory."""
    plain = apsw.VFS(name, "unix")
    try:
        with memory_folder() as folder:
            yield _structure(folder, name), _structure(folder, "unix")
    finally:
        plain.unregister()


def _structure(folder: Path, name: str) -> _Sqlite3Vfs:
    found = c_void_p()
    with closing(apsw.Connection(str(folder / name), vfs=name)) as connection:
        connection.file_control("main", apsw.SQLITE_FCNTL_VFS_POINTER, ctypes.addressof(found))
    return cast(found, POINTER(_Sqlite3Vfs)).contents


class _Vfs:
    """Puts our functions into a VFS, until it is told to restore it. They end as `faults` says, or as
    those of the base do."""

    def __init__(self, faults: Faults, own: _Sqlite3Vfs, base: _Sqlite3Vfs) -> None:
        self._faults = faults
        self._own = own
        self._base = byref(base)
        self._before = bytes(own)
        self._names: dict[int, str] = {}
        # What C points to must not be collected.
        self._kept: list[object] = []
        self._tables: dict[int, _Sqlite3IoMethods] = {}
        own.szOsFile = base.szOsFile
        self._base_open = _OPEN(base.xOpen)
        self._base_delete = _DELETE(base.xDelete)
        self._base_access = _ACCESS(base.xAccess)
        own.xOpen = self._address(_OPEN(self._open))
        own.xDelete = self._address(_DELETE(self._delete))
        own.xAccess = self._address(_ACCESS(self._access))

    def restore(self) -> None:
        ctypes.memmove(byref(self._own), self._before, len(self._before))

    def _address(self, function: Any) -> int | None:
        self._kept.append(function)
        return cast(function, c_void_p).value

    def _open(self, _vfs: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        label = Path((ctypes.string_at(name) if name else b"temporary").decode()).name
        opened = cast(file, POINTER(_Sqlite3File)).contents
        opened.pMethods = None
        code = self._faults.verdict("open", label)
        if code:
            return code
        code = self._base_open(self._base, name, file, flags, out)
        if opened.pMethods:
            self._names[file] = label
            opened.pMethods = self._methods(opened.pMethods)
        return int(code)

    def _delete(self, _vfs: int, name: bytes, sync: int) -> int:
        code = self._faults.verdict("delete", Path(name.decode()).name)
        return code or int(self._base_delete(self._base, name, sync))

    def _access(self, _vfs: int, name: bytes, flags: int, out: int) -> int:
        code = self._faults.verdict("access", Path(name.decode()).name)
        return code or int(self._base_access(self._base, name, flags, out))

    def _methods(self, base: int) -> int:
        """The address of a table of methods with ours in it, one for each table of the base."""
        if base not in self._tables:
            original = cast(base, POINTER(_Sqlite3IoMethods)).contents
            table = _Sqlite3IoMethods.from_buffer_copy(original)
            for name, (call, kind) in _OF_A_FILE.items():
                if getattr(original, name):
                    method = self._method(call, kind(getattr(original, name)))
                    setattr(table, name, self._address(kind(method)))
            self._tables[base] = table
        return ctypes.addressof(self._tables[base])

    def _method(self, call: str, base: Callable[..., int]) -> Callable[..., int]:
        def method(file: int, *arguments: Any) -> int:
            if call == "maplock" and arguments[2] & _SHM_UNLOCK:
                return base(file, *arguments)
            code = self._faults.verdict(call, self._names[file])
            if code and call == "write":
                data, amount, offset = arguments
                base(file, data, min(amount, SECTOR), offset)
            return code or base(file, *arguments)

        return method
