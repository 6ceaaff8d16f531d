"""The doctor at the journal: can it be read, is it whole, has it room, and what waits in it?"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from gateway.doctor.chain import Chain
from gateway.doctor.finding import Finding, Unchecked, age, ok, problem, warning
from gateway.journal import sqlite
from gateway.journal.archive import Selection
from gateway.journal.entry import JournalError
from gateway.settings import MIB

NEWEST = 1_000
"""Rows of each table that are compared with what was written."""
NETWORKS = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "lustre", "nfs", "nfs4"),
        *("smb2", "smb3", "smbfs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
    )
)
"""File systems of which several machines may write a file, as Linux calls them: SQLite's log needs memory
that all who have the file share."""
_MOUNTS = Path("/proc/self/mountinfo")
_BACKUP = "put a backup back: docs/how-to/back-up-and-restore.md"


def opens(chain: Chain) -> Iterator[Finding]:
    """The journal can be read, and is of a schema that this version knows; in PostgreSQL, the server
    answers, and its settings let no crash lose what was acknowledged."""
    journal = chain.settings.journal
    if isinstance(chain.database, str):
        yield problem(chain.database, "mend --journal, or install what it needs")
        return
    if journal.path is None:
        yield _server(chain)
        return
    try:
        is_new = chain.is_new
    except PermissionError as error:
        yield problem(
            f"{error.filename} cannot be read: {error.strerror}",
            "examine the chain as the user that the gateway runs as",
        )
        return
    if is_new:
        yield _new(chain)
        return
    try:
        last = chain.archive.last()
        facts = sqlite.facts(journal.path)
    except JournalError as error:
        yield problem(str(error), f"name the right --journal, or {_BACKUP}")
        return
    if chain.running is not None and not chain.is_in_use:
        yield warning(
            f"the gateway that answers does not write {journal}",
            "examine it with the --journal that it was started with, on its own machine",
        )
    yield ok(f"the journal {journal} can be read: schema {facts.schema}, {last} deliveries ever")


def _new(chain: Chain) -> Finding:
    journal = chain.settings.journal
    if chain.running is not None:
        return problem(
            f"there is no journal {journal}, though a gateway runs",
            "examine it with the --journal that it was started with, from the same folder",
        )
    return warning(
        f"there is no journal {journal} yet", "`gateway serve` creates it when it first starts"
    )


def _server(chain: Chain) -> Finding:
    # Installed only where it is wanted; and it is, as the journal's database was made.
    from gateway.journal.postgres import PostgresServer  # noqa: PLC0415  # See above.

    server = PostgresServer(chain.settings.journal.url)
    try:
        version = server.examined()
    except JournalError as error:
        return problem(str(error), "docs/how-to/run-several-replicas.md says what it needs")
    if version is None:
        return warning(
            f"the journal {server} has no tables yet",
            "`gateway serve` creates them when it first starts",
        )
    return ok(f"{server} answers and is durable; the journal's schema is {version}")


def whole(chain: Chain) -> Iterator[Finding]:
    """The newest 1,000 deliveries and events are what was written, and the running gateway has come upon
    no damaged event. `gateway journal verify` looks at every row."""
    found = [one for one in chain.archive.verify(NEWEST) if one is not None]
    damaged = chain.running.value("gateway_journal_damaged_events") if chain.running else 0
    mend = f"`gateway journal verify` names every damaged row; {_BACKUP}"
    if found:
        first = found[0]
        yield problem(
            f"{len(found)} of the newest rows of the journal are damaged, the first in {first.table}: "
            f"{first.number}",
            mend,
        )
    elif damaged:
        yield problem(f"the gateway left out {damaged:.0f} damaged events of the journal", mend)
    else:
        yield ok(f"the newest rows of the journal, up to {NEWEST:,} of each table, are undamaged")


def complete(chain: Chain) -> Iterator[Finding]:
    """The journal has every delivery that was acknowledged."""
    path = chain.settings.journal.path
    missing = 0
    if chain.running is not None:
        missing = int(chain.running.value("gateway_journal_missing_deliveries") or 0)
    elif path is None:
        raise Unchecked("no gateway answers, and only it can know of a journal in PostgreSQL")
    if path is not None and chain.archive:
        missing = max(missing, sqlite.missing(path))
    if missing:
        yield problem(
            f"the journal lacks {missing} deliveries that were acknowledged: its file was damaged, cut, or "
            "put back from a copy",
            "have the senders send them again: `gateway redeliver github` for GitHub",
        )
    else:
        yield ok("the journal has every delivery that was acknowledged")


def size(chain: Chain) -> Iterator[Finding]:
    """The journal is below `--keep-size`; how large and how old it is."""
    oldest = chain.archive.oldest(Selection(limit=1))
    since = (
        f", the oldest delivery is {age(chain.now - oldest[0].received_at)} old" if oldest else ""
    )
    path = chain.settings.journal.path
    if path is None:
        yield ok(f"the journal is in PostgreSQL{since}")
        return
    taken, most = sqlite.facts(path).size, chain.settings.keep_size
    if most and taken >= most:
        yield warning(
            f"the journal takes {_mib(taken)}, which is all of --keep-size{since}",
            "deliveries go before their --keep-deliveries; allow more, if the disk has it",
        )
    else:
        yield ok(f"the journal takes {_mib(taken)}{since}")


def room(chain: Chain) -> Iterator[Finding]:
    """The journal's disk has more than `--min-free`, and room for the journal to grow to `--keep-size`."""
    settings = chain.settings
    folder = _folder(chain)
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield problem(f"the disk of {folder} cannot be asked: {error.strerror}", "mend --journal")
        return
    path = settings.journal.path
    taken = path.stat().st_size if path is not None and path.exists() else 0
    growth = max(0, settings.keep_size - taken)
    if free < settings.min_free:
        yield problem(
            f"the journal's disk has {_mib(free)} left, less than --min-free ({_mib(settings.min_free)}): "
            "deliveries are answered 503",
            "make room on it, or lower --keep-size or --keep-deliveries",
        )
    elif free - growth < settings.min_free:
        yield warning(
            f"the journal's disk has {_mib(free)} left, and the journal may grow by {_mib(growth)}",
            "lower --keep-size to what the disk has, so that the oldest deliveries go before it is full",
        )
    else:
        yield ok(f"the journal's disk has {_mib(free)} left")


def local(chain: Chain) -> Iterator[Finding]:
    """The journal's file is on a disk of this machine, or a block device: over a network's file system
    SQLite cannot be durable."""
    folder = _folder(chain)
    try:
        kind = file_system(folder.resolve(), _MOUNTS.read_text())
    except OSError:
        raise Unchecked("this system does not tell its file systems") from None
    if kind in NETWORKS:
        yield problem(
            f"{folder} is on a network's file system ({kind}), where SQLite may lose or damage the journal",
            "keep it on a local disk or a block device, or in PostgreSQL",
        )
    else:
        yield ok(f"{folder} is on a file system of this machine ({kind})")


def file_system(path: Path, mounts: str) -> str:
    """The kind of the file system that a path is on, by the text of Linux's `mountinfo`."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        # Spaces in a name are written as octal escapes.
        point = before.split()[4].encode().decode("unicode_escape")
        # Of several mounts on one point, the last one is seen.
        if path.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), after.split()[0]
    return kind


def dead_letters(chain: Chain) -> Iterator[Finding]:
    """No delivery waits for a mended mapping."""
    waiting = chain.archive.open_dead_letters()
    for source, count in sorted(waiting.items()):
        letters = "1 dead letter" if count == 1 else f"{count} dead letters"
        yield warning(
            f"{letters} of `{source}` wait: nothing of them counts yet",
            f"`gateway dead-letters --source {source}` says why; mend the mapping, then `gateway replay`",
        )
    if not waiting:
        yield ok("no dead letters wait")


def _folder(chain: Chain) -> Path:
    """The folder of the journal's file, or the one that it would be created in. Raises Unchecked."""
    path = chain.settings.journal.path
    if path is None:
        raise Unchecked("the journal is in PostgreSQL")
    folder = Path(os.path.abspath(path)).parent  # noqa: PTH100  # Not resolved: it is shown.
    while not folder.exists():
        folder = folder.parent
    return folder


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f} MiB" if size >= 10 * MIB else f"{size / MIB:,.1f} MiB"


CHECKS = (opens, whole, complete, size, room, local, dead_letters)
