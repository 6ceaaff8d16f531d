"""`gateway journal`: the journal backed up, verified, or told of: how large and how old it is."""

import argparse
import contextlib
import threading
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.cli import journals, shared
from gateway.cli.progress import Progress
from gateway.journal import sqlite
from gateway.journal.archive import OPEN, Archive, Damage, Selection
from gateway.journal.entry import JournalError
from gateway.settings import MIB, SettingsError

BACKUP, VERIFY, INFO = "backup", "verify", "info"
_EVERY = 0.1
"""Seconds between two looks at how far a copy has come."""


class Info(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is told of a journal; times in epoch seconds, `size` in bytes. What a file alone has is left
    out of another."""

    journal: str
    deliveries: int
    events: int
    dead_letters: int
    oldest: float | None = None
    newest: float | None = None
    size: int | None = None
    schema: int | None = None
    sqlite: str = ""
    in_use: bool | None = None


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=[BACKUP, VERIFY, INFO],
        help="backup writes a copy, verify reads every row and checks it, info tells of the journal",
    )
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="for backup: the new file to write"
    )
    journals.define(parser)
    shared.define_format(parser, "one object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0; 1 where something is damaged. Raises SettingsError."""
    if options.action == BACKUP:
        return _backup(options)
    if options.file is not None:
        raise SettingsError(f"`{options.file}` is one argument too many for {options.action}")
    return _verify(options) if options.action == VERIFY else _info(options)


# Backup


def _backup(options: argparse.Namespace) -> int:
    url, copy = journals.url(options), options.file
    if copy is None:
        raise SettingsError("backup needs a FILE to write")
    if str(copy) == "-":
        raise SettingsError("a backup cannot be written to standard output; name a FILE")
    path = url.path
    if path is None:
        raise SettingsError(
            "a journal in PostgreSQL is backed up with PostgreSQL's own tools: pg_dump, or the backups "
            "of your server"
        )
    total = journals.reading(lambda: sqlite.facts(path).size)
    failures: list[str] = []

    def work() -> None:
        try:
            sqlite.backup(path, copy)
        except JournalError as error:
            failures.append(str(error))

    # A thread of its own, which does not keep a command that is interrupted.
    thread = threading.Thread(target=work, name="backup", daemon=True)
    thread.start()
    _watch(thread, sqlite.draft_path(copy), total)
    if failures:
        raise SettingsError(failures[0])
    size = copy.stat().st_size
    if options.format == "json":
        print(msgspec.json.encode({"file": str(copy), "size": size}).decode())
    else:
        print(f"wrote {copy}, {_mib(size)}")
    return 0


def _watch(thread: threading.Thread, draft: Path, total: int) -> None:
    """Shows how far a copy has come until it is done; one that is interrupted is removed."""
    progress = Progress(max(1, total // MIB), "MiB")
    try:
        while thread.is_alive():
            thread.join(_EVERY)
            # It is not there yet, or cannot be; then the copy says why.
            with contextlib.suppress(OSError):
                progress.update(draft.stat().st_size // MIB)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        progress.done()


# Verify


class Verified(Struct, frozen=True):
    """What verifying found: rows that are not what was written, and what else is wrong, in words."""

    rows: int
    damaged: list[Damage]
    faults: list[str]

    @property
    def is_whole(self) -> bool:
        return not self.damaged and not self.faults


def _verify(options: argparse.Namespace) -> int:
    url, archive = journals.url(options), journals.archive(options)
    # What cannot even be opened cannot be examined; whatever fails from here on is damage.
    journals.reading(archive.last)
    found = _examined(archive, url.path)
    if options.format == "json":
        print(msgspec.json.encode(found).decode())
        return 0 if found.is_whole else 1
    for fault in found.faults:
        print(fault)
    for damage in found.damaged:
        print(f"{damage.table} {damage.number}: not what was written")
    count = len(found.damaged) + len(found.faults)
    print(f"{found.rows:,} rows, {f'faults: {count:,}' if count else 'all as they were written'}")
    return 0 if found.is_whole else 1


def _examined(archive: Archive, path: Path | None) -> Verified:
    found = Verified(0, [], [])
    rows = 0
    progress = Progress(None, "rows verified")
    try:
        if path is not None:
            found.faults.extend(sqlite.faults(path))
        progress = Progress(sum(archive.size()), "rows verified")
        for rows, damage in enumerate(archive.verify(), 1):
            if damage is not None:
                found.damaged.append(damage)
            progress.update(rows)
    except JournalError as error:
        found.faults.append(str(error))
    finally:
        progress.done()
    return msgspec.structs.replace(found, rows=rows)


# Info


def _info(options: argparse.Namespace) -> int:
    found = journals.reading(lambda: _gathered(options))
    if options.format == "json":
        print(msgspec.json.encode(found).decode())
        return 0
    rows = [
        ("journal", found.journal),
        ("deliveries", f"{found.deliveries:,}"),
        ("events", f"{found.events:,}"),
        ("dead letters", f"{found.dead_letters:,} open"),
        ("oldest", journals.moment(found.oldest) if found.oldest is not None else "none"),
        ("newest", journals.moment(found.newest) if found.newest is not None else "none"),
    ]
    if found.size is not None:
        rows += [
            ("size", _mib(found.size)),
            ("schema", str(found.schema)),
            ("SQLite", found.sqlite),
            ("in use", "by a gateway" if found.in_use else "no"),
        ]
    print("\n".join(f"{name:<12}  {value}" for name, value in rows))
    return 0


def _gathered(options: argparse.Namespace) -> Info:
    """Raises JournalError and SettingsError."""
    url, archive = journals.url(options), journals.archive(options)
    one = Selection(limit=1)
    oldest, newest = archive.oldest(one), archive.latest(one)
    _, events = archive.size()
    info = Info(
        journal=str(url),
        deliveries=archive.count(one),
        events=events,
        dead_letters=archive.count(OPEN),
        oldest=oldest[0].received_at if oldest else None,
        newest=newest[0].received_at if newest else None,
    )
    if url.path is None:
        return info
    facts = sqlite.facts(url.path)
    return msgspec.structs.replace(
        info,
        size=facts.size,
        schema=facts.schema,
        sqlite=facts.sqlite,
        in_use=sqlite.in_use(url.path),
    )


def _mib(size: int) -> str:
    return f"{size / MIB:,.1f} MiB"
