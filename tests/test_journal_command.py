"""`gateway journal`: copies are whole, what is damaged is found, and journals of older gateways go on."""

import contextlib
import itertools
import json
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from gateway.event import Event, identity
from gateway.journal.sqlite import APPLICATION_ID, SCHEMA_VERSION
from tests.harness import run_cli
from tests.shop import MENDED, PATHS, TIME, Run, Shop, delivery, mapping

FIRST_SCHEMA = f"""
CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    event TEXT NOT NULL,
    received_at REAL NOT NULL,
    outcome TEXT NOT NULL,
    reasons TEXT NOT NULL,
    headers TEXT NOT NULL,
    query TEXT NOT NULL,
    compressed INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX deliveries_by_id ON deliveries (source, delivery_id);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    delivery INTEGER NOT NULL REFERENCES deliveries (seq),
    identity BLOB NOT NULL UNIQUE,
    received_at REAL NOT NULL,
    kind TEXT NOT NULL,
    fields TEXT NOT NULL
) STRICT;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = 1;
"""
"""What the gateway made before rows had hashes and replays existed."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A journal with five accepted deliveries, which no gateway has."""
    shop = Shop(tmp_path_factory.mktemp("journal"))
    shop.write(mapping(MENDED))
    shop.gateway.start()
    for number in range(5):
        assert shop.send(delivery(number)) == "accepted"
    shop.gateway.stop()
    return shop


@pytest.fixture
def copied(made: Shop, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    path = tmp_path / "journal.sqlite"
    shutil.copy(made.journal, path)
    return path


def _journal(path: Path, *arguments: str) -> Run:
    url = f"sqlite:///{path}"
    done = run_cli("journal", *arguments, "--journal", url, cwd=path.parent, environment=PATHS)
    return Run(done.returncode, done.stdout, done.stderr)


def _spoil(path: Path, statement: str) -> None:
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute(statement)
        assert connection.changes() == 1


# Info


def test_info_tells_of_a_journal(made: Shop) -> None:
    found = _journal(made.journal, "info", "--format", "json").json()
    assert found["deliveries"] == found["events"] == 5
    assert found["dead_letters"] == 0
    assert found["oldest"] < found["newest"] <= time.time()
    assert found["size"] >= made.journal.stat().st_size
    assert found["schema"] == SCHEMA_VERSION
    assert found["sqlite"] == apsw.sqlite_lib_version()
    assert found["in_use"] is False
    text = _journal(made.journal, "info")
    assert f"journal       {made.journal}" in text.lines
    assert "dead letters  0 open" in text.lines
    assert "in use        no" in text.lines


def test_a_journal_without_deliveries_is_told_of(tmp_path: Path) -> None:
    """While a gateway has it, too."""
    shop = Shop(tmp_path)
    shop.gateway.start()
    try:
        text = shop.run("journal", "info")
    finally:
        shop.gateway.stop(signal.SIGKILL)
    assert text.code == 0, text
    assert "oldest        none" in text.lines
    assert "in use        by a gateway" in text.lines


# Verify


def test_a_whole_journal_is_found_whole(made: Shop) -> None:
    done = _journal(made.journal, "verify")
    assert (done.code, done.out) == (0, "10 rows, all as they were written\n")


@pytest.mark.parametrize(
    ("statement", "culprit"),
    [
        ("UPDATE events SET fields = replace(fields, 'app-2', 'app-3') WHERE seq = 3", "events 3"),
        ("UPDATE deliveries SET headers = headers || ' ' WHERE seq = 2", "deliveries 2"),
        (
            "UPDATE deliveries SET body = CAST(replace(body, 'app-4', 'app-5') AS BLOB) WHERE seq = 5",
            "deliveries 5",
        ),
    ],
)
def test_a_row_that_is_not_what_was_written_is_found(
    copied: Path, statement: str, culprit: str
) -> None:
    _spoil(copied, statement)
    done = _journal(copied, "verify")
    assert done.code == 1
    assert done.lines == [f"{culprit}: not what was written", "10 rows, faults: 1"]
    table, number = culprit.split()
    found = _journal(copied, "verify", "--format", "json").json()
    assert found == {
        "rows": 10,
        "damaged": [{"table": table, "number": int(number)}],
        "faults": [],
    }


def test_a_damaged_structure_is_found(copied: Path) -> None:
    """What SQLite itself finds wrong with an index."""
    with contextlib.closing(apsw.Connection(str(copied))) as connection:
        ((root,),) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'deliveries_by_id'"
        )
        ((size,),) = connection.execute("PRAGMA page_size")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    raw = bytearray(copied.read_bytes())
    raw[(root - 1) * size : root * size] = b"\xff" * size
    copied.write_bytes(raw)
    done = _journal(copied, "verify")
    assert done.code == 1, done
    assert " rows, faults: " in done.lines[-1]


def test_a_file_that_is_no_journal_cannot_be_examined(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database" * 100)
    for name in ("text", "missing"):
        for action in ("verify", "info"):
            done = _journal(tmp_path / name, action)
            assert done.code == 2
            assert name in done.err


# Backup


def test_a_copy_under_load_holds_all_that_was_acknowledged_before(tmp_path: Path) -> None:
    """It is whole, and a gateway goes on with it."""
    shop = Shop(tmp_path)
    shop.write(mapping(MENDED))
    shop.gateway.start()
    acknowledged: list[int] = []
    over = threading.Event()

    def send() -> None:
        for number in itertools.count():
            if over.is_set():
                return
            assert shop.send(delivery(number)) == "accepted"
            acknowledged.append(number)

    sender = threading.Thread(target=send)
    sender.start()
    copy = tmp_path / "copy" / "journal.sqlite"
    copy.parent.mkdir()
    try:
        while len(acknowledged) < 50:
            time.sleep(0.01)
        before = len(acknowledged)
        done = shop.run("journal", "backup", str(copy))
        after = len(acknowledged)
    finally:
        over.set()
        sender.join()
    assert done.code == 0, done
    assert done.out.startswith(f"wrote {copy}, ")
    assert copy.stat().st_mode & 0o777 == 0o600, "it tells what vendors sent"
    assert after > before
    assert [path.name for path in copy.parent.iterdir()] == ["journal.sqlite"]
    assert _journal(copy, "verify").code == 0
    found = _journal(copy, "info", "--format", "json").json()
    assert before <= found["deliveries"] <= len(acknowledged)
    shop.gateway.stop()
    shutil.copy(copy, shop.journal)
    for name in ("-wal", "-shm"):
        shop.journal.with_name(shop.journal.name + name).unlink(missing_ok=True)
    shop.gateway.start()
    try:
        assert len(shop.gateway.samples()) == found["events"]
        assert shop.send(delivery(before - 1)) == "duplicate"
        assert shop.send(delivery(len(acknowledged) + 1)) == "accepted"
    finally:
        shop.gateway.stop()


def test_what_cannot_be_backed_up_is_said(made: Shop, tmp_path: Path) -> None:
    """Nothing is written over, and nothing is left behind."""
    there = tmp_path / "there"
    there.write_text("precious")
    for arguments, words in (
        ((str(there),), "exists; name a new file"),
        (
            (str(tmp_path / "no" / "copy"),),
            f"cannot write {tmp_path / 'no' / 'copy'}: No such file",
        ),
        ((), "backup needs a FILE"),
    ):
        done = _journal(made.journal, "backup", *arguments)
        assert done.code == 2
        assert words in done.err
    assert there.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [there]
    assert _journal(tmp_path / "missing", "backup", str(tmp_path / "copy")).code == 2
    assert "too many" in _journal(made.journal, "info", "file").err


def test_postgresql_is_backed_up_with_its_own_tools(tmp_path: Path) -> None:
    url = "postgresql://gateway:secret@db/gateway"
    done = run_cli("journal", "backup", str(tmp_path / "copy"), "--journal", url)
    assert done.returncode == 2
    assert "pg_dump" in done.stderr
    assert "secret" not in done.stderr


# Journals of other gateways


def _write_first(path: Path) -> None:
    """A journal as the first gateway wrote it: an accepted delivery and a dead letter."""
    path.parent.mkdir(parents=True)
    event = Event("deploytime", {"app": "app-1", "commit": f"{1:040x}", "timestamp": TIME + 1})
    received = time.time() - 60
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute(FIRST_SCHEMA)
        for number, outcome in ((1, "accepted"), (2, "dead_lettered")):
            body = json.dumps(delivery(number)).encode()
            row = ("shop", f"delivery-{number:04}", "deployment", received, outcome)
            connection.execute(
                "INSERT INTO deliveries VALUES (?, ?, ?, ?, ?, ?, '[]', '{}', '{}', 0, ?)",
                (number, *row, body),
            )
        fields = msgspec.json.encode(event.fields).decode()
        values: tuple[Any, ...] = (identity(event), received, event.kind, fields)
        connection.execute("INSERT INTO events VALUES (1, 1, ?, ?, ?, ?)", values)


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Shop]:
    """A shop with a journal of the first gateway, and with a mapping that reads its dead letter."""
    shop = Shop(tmp_path)
    shop.write(mapping(MENDED))
    _write_first(shop.journal)
    try:
        yield shop
    finally:
        shop.gateway.stop(signal.SIGKILL)


def test_an_older_journal_becomes_one_of_now(first: Shop) -> None:
    """Its series are unchanged, what it knew is known, and its deliveries can be replayed."""
    assert "start `gateway serve` with it once" in first.run("journal", "info").err
    first.gateway.start()
    ((name, (value, at)),) = first.gateway.samples().items()
    assert name.startswith('deploy_timestamp{app="/app-1/"')
    assert value == TIME + 1
    ((received,),) = first.rows("SELECT received_at FROM events")
    assert at == round(received * 1000)
    assert first.send(delivery(1)) == "duplicate"
    done = first.run("replay", "--yes")
    assert done.lines[-1] == "1 delivery: 1 change, 1 new event"
    assert first.gateway.samples().keys() > {name}
    assert first.gateway.samples()[name] == (value, at)
    first.gateway.stop()
    assert _journal(first.journal, "info", "--format", "json").json()["schema"] == SCHEMA_VERSION
    assert _journal(first.journal, "verify").code == 0


def test_an_older_journal_can_be_replayed_at_once(first: Shop) -> None:
    """Without a gateway that makes it one of now before."""
    assert first.run("replay", "--yes").lines[-1] == "1 delivery: 1 change, 1 new event"
    assert first.outcomes() == [("accepted", None), ("dead_lettered", None), ("accepted", 2)]


def test_a_newer_journal_is_refused(first: Shop) -> None:
    """By every command, and nothing is written into it."""
    _set_version(first.journal, SCHEMA_VERSION + 1)
    raw = first.journal.read_bytes()
    for arguments in (
        ("journal", "info"),
        ("journal", "verify"),
        ("journal", "backup", "copy"),
        ("dead-letters",),
        ("replay", "--yes"),
        ("replay", "--dry-run"),
    ):
        done = first.run(*arguments)
        assert done.code == 2, arguments
        assert "written by a newer gateway" in done.err
    assert first.journal.read_bytes() == raw


def _set_version(path: Path, version: int) -> None:
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
