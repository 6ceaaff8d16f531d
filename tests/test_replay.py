"""Replay: what a mapping got wrong is mapped again, counts once, at the time of the replay."""

import asyncio
import contextlib
import hashlib
import itertools
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import replay
from gateway.app.replayer import Replayer
from gateway.delivery import Verdict
from gateway.event import Event
from gateway.journal.archive import Archive
from gateway.journal.entry import Entry
from gateway.journal.sqlite import SqliteFile, SqliteStore
from gateway.journal.writer import Writer
from gateway.mapping import library
from gateway.mapping.compiler import SourceFile, compile_files
from gateway.pipeline import Pipeline
from gateway.replay import Asked, Began, Ended, Failed, Message, Replayed
from gateway.series import Series, Window
from gateway.telemetry import Telemetry
from tests.harness import Gateway, free_port
from tests.shop import BROKEN, COMMITS, MENDED, PATHS, TIME, Shop, ask, delivery, mapping, messages


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A gateway whose mapping of the shop is broken."""
    made = Shop(tmp_path)
    made.gateway.start()
    try:
        yield made
    finally:
        made.gateway.stop(signal.SIGKILL)


def _dead(shop: Shop, *numbers: int) -> None:
    for number in numbers:
        assert shop.send(delivery(number)) == "dead_lettered"


def _fresh(shop: Shop, folder: Path) -> dict[str, tuple[float, int]]:
    """What another gateway shows that begins with a copy of the journal."""
    (folder / "data").mkdir(parents=True)
    copied = shop.run("journal", "backup", str(folder / "data" / "journal.sqlite"))
    assert copied.code == 0, copied
    other = Gateway(folder, "--watch", "0", environment={}).start()
    try:
        return other.samples()
    finally:
        other.stop()


# At a running gateway


def test_what_a_mended_mapping_makes_of_dead_letters_counts(shop: Shop, tmp_path: Path) -> None:
    """At the time of the replay, so that Prometheus takes it; a restart, and another gateway that begins
    with a copy of the journal, show the same."""
    _dead(shop, 1, 2, 3)
    assert shop.gateway.samples() == {}
    shop.adopt(mapping(MENDED))
    before = time.time()
    done = shop.run("replay", "--yes")
    assert done.code == 0, done
    assert done.lines[-1] == "3 deliveries: 3 change, 3 new events"
    shown = shop.gateway.samples()
    assert {value for value, _ in shown.values()} == {TIME + 1, TIME + 2, TIME + 3}
    assert all(before * 1000 - 1 <= at <= time.time() * 1000 for _, at in shown.values())
    assert shop.gateway.counter('gateway_events_total{kind="deploytime"}') == 3
    replayed = 'gateway_replayed_total{outcome="accepted",source="shop"}'
    assert shop.gateway.counter(replayed) == 3
    assert _fresh(shop, tmp_path / "fresh") == shown
    shop.gateway.stop()
    shop.gateway.start()
    assert shop.gateway.samples() == shown
    kept = shop.run("deliveries", "--format", "json").objects()
    assert [one["outcome"] for one in kept] == ["accepted"] * 3
    assert [(one["events"], one["replays"]) for one in kept] == [(1, 1)] * 3


def test_open_dead_letters_are_counted(shop: Shop) -> None:
    """At the start, and after a replay."""
    gauge = 'gateway_dead_letters{source="shop"}'
    _dead(shop, 1, 2)
    shop.gateway.stop()
    shop.gateway.start()
    assert shop.gateway.counter(gauge) == 2
    shop.adopt(mapping(MENDED))
    assert shop.run("replay", "--yes", "delivery-0001").code == 0
    assert shop.gateway.counter(gauge) == 1
    assert shop.run("replay", "--yes").code == 0
    assert f"{gauge} 0.0" in shop.gateway.get("/metrics").body.decode()


def test_deliveries_go_on_during_a_replay(shop: Shop) -> None:
    """Each is answered and counts once, whichever way it came; a restart shows the same."""
    _dead(shop, *range(120))
    shop.adopt(mapping(MENDED))
    outcomes: list[str] = []
    over = threading.Event()

    def send() -> None:
        for number in itertools.count(1_000):
            if over.is_set():
                return
            outcomes.append(shop.send(delivery(number)))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        done = shop.run("replay", "--yes")
    finally:
        over.set()
        sender.join()
    assert done.code == 0, done
    assert done.lines[-1] == "120 deliveries: 120 change, 120 new events"
    assert set(outcomes) == {"accepted"}
    shown = shop.gateway.samples()
    assert len(shown) == 120 + len(outcomes)
    shop.gateway.stop()
    shop.gateway.start()
    assert shop.gateway.samples() == shown


def test_a_replay_tells_of_each_delivery_by_http(shop: Shop) -> None:
    """A line of JSON each, between how many there are and what came of all."""
    _dead(shop, 1, 2)
    shop.adopt(mapping(MENDED))
    answer = ask(shop.gateway, {"source": "shop"})
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/jsonl")
    began, one, two, ended = messages(answer)
    assert began == {"type": "began", "deliveries": 2}
    assert (one["number"], two["number"]) == (1, 2)
    assert (one["before"], one["after"]) == ("dead_lettered", "accepted")
    assert one["new"][0]["fields"]["app"] == "app-1"
    assert ended == {
        "type": "ended",
        "deliveries": 2,
        "changed": 2,
        "dead_letters": 0,
        "problems": 0,
        "events": 2,
    }
    assert messages(ask(shop.gateway, b"")) == [
        {"type": "began", "deliveries": 0},
        {**ended, "deliveries": 0, "changed": 0, "events": 0},
    ]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A gateway that several tests share, which change nothing."""
    made = Shop(tmp_path_factory.mktemp("served"))
    made.gateway.start()
    try:
        yield made
    finally:
        made.gateway.stop(signal.SIGKILL)


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        (b"{}}", 400, "JSON is malformed"),
        (b'{"sources": ["shop"]}', 400, "unknown field `sources`"),
        (b'{"outcomes": ["dead"]}', 400, "Invalid enum value 'dead'"),
        ({"ids": ["nobody"]}, 404, "the journal holds no delivery `nobody`"),
        ({"source": "shopp"}, 404, "there is no source `shopp`; did you mean `shop`?"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_words(
    served: Shop, asked: Any, status: int, words: str
) -> None:
    answer = ask(served.gateway, asked)
    assert answer.status == status
    assert words in answer.json()["detail"]


def test_a_gateway_that_does_not_answer_is_said(served: Shop) -> None:
    """With the mend; nothing is written beside a gateway that has the journal."""
    done = served.run("replay", "--yes", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.code == 2
    assert "name its internal listener with --url" in done.err
    done = served.run("replay", "--yes", "--url", f"http://127.0.0.1:{served.gateway.public}")
    assert done.code == 2
    assert "404" in done.err
    done = served.run("replay", "--yes", "--source", "shopp")
    assert done.code == 2
    assert "did you mean `shop`" in done.err


# Without a gateway


def test_a_journal_is_replayed_without_a_gateway(shop: Shop, tmp_path: Path) -> None:
    """By the mappings that the flags name, and no secret is needed; the next start shows the series."""
    _dead(shop, 1, 2)
    shop.gateway.stop()
    secret = "authenticate: {scheme: token, header: X-Token, secret: {env: SHOP_SECRET}}"
    shop.write(mapping(MENDED).replace("authenticate: none", secret))
    before = time.time()
    done = shop.run("replay", "--yes")
    assert done.code == 0, done
    assert done.lines[-1] == "2 deliveries: 2 change, 2 new events"
    assert shop.outcomes()[2:] == [("accepted", 1), ("accepted", 2)]
    shop.write(mapping(MENDED))
    shop.gateway.start()
    shown = shop.gateway.samples()
    assert {value for value, _ in shown.values()} == {TIME + 1, TIME + 2}
    assert all(at >= before * 1000 - 1 for _, at in shown.values())
    assert shop.send(delivery(1)) == "duplicate"
    assert _fresh(shop, tmp_path / "fresh") == shown


def test_a_dry_run_writes_nothing(shop: Shop) -> None:
    """At a gateway or without one; it tells what a replay would do."""
    _dead(shop, 1)
    shop.adopt(mapping(MENDED))
    at_gateway = shop.run("replay", "--dry-run")
    assert shop.gateway.samples() == {}
    shop.gateway.stop()
    digest = hashlib.sha256(shop.journal.read_bytes()).digest()
    offline = shop.run("replay", "--dry-run", "--yes")
    assert hashlib.sha256(shop.journal.read_bytes()).digest() == digest
    assert shop.outcomes() == [("dead_lettered", None)]
    assert at_gateway.code == offline.code == 0
    assert at_gateway.out == offline.out
    head, new, last = offline.lines
    assert head.startswith("delivery-0001  ")
    assert head.endswith("  shop  deployment: dead_lettered -> accepted")
    assert new == f"  + deploytime app=app-1 commit={1:040x} timestamp={TIME + 1}"
    assert last == "1 delivery: 1 would change, 1 new event; nothing was written"


def test_a_second_replay_changes_nothing(shop: Shop) -> None:
    """Of dead letters there are none any more; of accepted deliveries nothing is new."""
    _dead(shop, 1, 2)
    shop.gateway.stop()
    shop.write(mapping(MENDED))
    assert shop.run("replay", "--yes").code == 0
    rows = shop.outcomes()
    again = shop.run("replay", "--yes")
    assert (again.code, again.out) == (0, "nothing to replay\n")
    again = shop.run("replay", "--yes", "--outcome", "accepted", "--outcome", "dead_lettered")
    assert (again.code, again.out) == (0, "2 deliveries: 0 change, 0 new events\n")
    again = shop.run("replay", "--yes", "delivery-0001")
    assert (again.code, again.out) == (0, "1 delivery: 0 change, 0 new events\n")
    assert shop.outcomes() == rows


def test_what_is_still_wrong_stays_a_dead_letter(shop: Shop) -> None:
    """Nothing is written of it, its reasons are told, and the exit code says so."""
    assert shop.send(delivery(1, at="yesterday", name="shop")) == "dead_lettered"
    _dead(shop, 2)
    shop.gateway.stop()
    shop.write(mapping(MENDED))
    done = shop.run("replay", "--yes")
    assert done.code == 1
    assert "shop  deployment: still dead_lettered" in done.out
    assert "rule `a deployment`, field `timestamp`" in done.out
    assert done.lines[-1] == "2 deliveries: 1 change, 1 new event, 1 dead letter left"
    assert shop.outcomes()[2:] == [("accepted", 2)]


def test_a_dead_letter_whose_events_came_another_way_is_settled(shop: Shop) -> None:
    """It becomes a duplicate, and no dead letter is left."""
    _dead(shop, 1)
    shop.adopt(mapping(MENDED))
    assert shop.send(delivery(1, id="another")) == "accepted"
    done = shop.run("replay", "--yes")
    assert done.code == 0, done
    assert "dead_lettered -> duplicate" in done.lines[0]
    assert done.lines[1].startswith("  = deploytime app=app-1")
    assert shop.run("replay", "--yes").out == "nothing to replay\n"


def test_what_was_sent_again_with_success_is_no_open_dead_letter(shop: Shop) -> None:
    _dead(shop, 1, 2)
    shop.adopt(mapping(MENDED))
    assert shop.send(delivery(1)) == "accepted"
    done = shop.run("replay", "--yes", "--format", "json")
    assert [one["delivery"] for one in done.objects()[1:-1]] == ["delivery-0002"]


def test_what_was_ignored_counts_once_there_is_a_rule(shop: Shop) -> None:
    shop.adopt(mapping(MENDED))
    assert shop.send(delivery(1, what="commit")) == "ignored"
    assert shop.send(delivery(2, what="nothing")) == "ignored"
    shop.adopt(mapping(MENDED, COMMITS))
    done = shop.run("replay", "--yes", "--outcome", "ignored")
    assert done.code == 0, done
    assert done.lines[-1] == "2 deliveries: 1 change, 1 new event"
    (name,) = shop.gateway.samples()
    assert name.startswith('commit_timestamp{app="/app-1/"')


def test_what_was_told_before_stays(shop: Shop) -> None:
    """A mapping that gives another event adds it; the old one is shown as gone, and is not."""
    shop.adopt(mapping(MENDED))
    assert shop.send(delivery(1)) == "accepted"
    shop.adopt(mapping("join('-', ['new', body.name])"))
    done = shop.run("replay", "--yes", "--outcome", "accepted")
    assert done.code == 0, done
    _, new, gone, last = done.lines
    assert new.startswith("  + deploytime app=new-app-1 ")
    assert gone.startswith("  - deploytime app=app-1 ")
    assert gone.endswith("(told before, and stays)")
    assert last == "1 delivery: 1 change, 1 new event"
    assert len(shop.gateway.samples()) == 2
    shop.adopt(mapping(BROKEN))
    done = shop.run("replay", "--yes", "--outcome", "accepted")
    assert done.code == 1
    assert "accepted -> dead_lettered" in done.lines[0]
    assert len(shop.gateway.samples()) == 2


def test_several_deliveries_that_yield_one_event_count_it_once(shop: Shop) -> None:
    """Also in a dry run, which has nothing in the journal to know it by."""
    for name in ("one", "two"):
        assert shop.send(delivery(1, id=name)) == "dead_lettered"
    shop.adopt(mapping(MENDED))
    dry = shop.run("replay", "--dry-run")
    done = shop.run("replay", "--yes")
    assert [line.partition(" app")[0] for line in done.lines if line.startswith("  ")] == [
        "  + deploytime",
        "  = deploytime",
    ]
    assert dry.lines[:-1] == done.lines[:-1]
    assert [row[0] for row in shop.outcomes()] == ["dead_lettered"] * 2 + ["accepted", "duplicate"]


# Which ones


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("delivery-0002",), [2]),
        (("delivery-0002", "delivery-0001"), [1, 2]),
        (("--since", "1h"), [1, 2, 3]),
        (("--until", "1h"), []),
        (("--source", "other"), [3]),
        (("--source", "shop", "--outcome", "dead_lettered"), [1, 2]),
        (("--outcome", "rejected"), []),
        (("--outcome", "ignored"), [4]),
    ],
)
def test_deliveries_are_chosen(
    chosen: Shop, arguments: tuple[str, ...], expected: list[int]
) -> None:
    """By id, or by source, outcome and time together."""
    done = chosen.run("replay", "--dry-run", "--format", "json", *arguments)
    assert [one["number"] for one in done.objects()[1:-1]] == expected


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A journal with dead letters of two sources and an ignored delivery."""
    shop = Shop(tmp_path_factory.mktemp("chosen"))
    shop.write(mapping(BROKEN, source="other"), "other")
    shop.gateway.start()
    _dead(shop, 1, 2)
    assert shop.send(delivery(3), "other") == "dead_lettered"
    assert shop.send(delivery(4, what="nothing")) == "ignored"
    shop.gateway.stop()
    return shop


def test_an_id_that_fits_several_is_refused(chosen: Shop) -> None:
    done = chosen.run("replay", "--dry-run", "delivery")
    assert done.code == 2
    assert "`delivery` fits 4 deliveries" in done.err
    done = chosen.run("replay", "--dry-run", "delivery", "--source", "other")
    assert done.code == 1
    assert "still dead_lettered" in done.out


def test_without_a_terminal_somebody_must_have_agreed(chosen: Shop) -> None:
    done = chosen.run("replay")
    assert done.code == 2
    assert "--yes" in done.err
    assert "--dry-run" in done.err


def test_there_must_be_a_journal(chosen: Shop) -> None:
    """None is made by a replay."""
    away = chosen.folder / "away.sqlite"
    shutil.move(chosen.journal, away)
    try:
        for flag in ("--yes", "--dry-run"):
            done = chosen.run("replay", flag)
            assert done.code == 2
            assert "there is no journal" in done.err
        assert not chosen.journal.exists()
    finally:
        shutil.move(away, chosen.journal)


def test_a_wrong_mapping_replays_nothing(shop: Shop) -> None:
    _dead(shop, 1)
    shop.gateway.stop()
    shop.write(mapping("body.name ||"))
    done = shop.run("replay", "--yes")
    assert done.code == 2
    assert "shop.yaml" in done.err
    assert shop.outcomes() == [("dead_lettered", None)]


# What cannot be mapped at all


def test_a_source_without_a_mapping_is_said_and_the_others_are_replayed(shop: Shop) -> None:
    shop.write(mapping(BROKEN, source="other"), "other")
    shop.adopt(mapping(BROKEN))
    assert shop.send(delivery(1), "other") == "dead_lettered"
    _dead(shop, 2)
    (shop.mappings / "other.yaml").unlink()
    shop.adopt(mapping(MENDED))
    done = shop.run("replay", "--yes")
    assert done.code == 1
    assert "    there is no mapping of the source `other`" in done.lines
    assert done.lines[-1] == "2 deliveries: 1 change, 1 new event, 1 cannot be mapped"
    failed = 'gateway_replayed_total{outcome="failed",source="other"}'
    assert shop.gateway.counter(failed) == 1


def test_a_damaged_delivery_is_said_and_the_others_are_replayed(shop: Shop) -> None:
    _dead(shop, 1, 2)
    shop.gateway.stop()
    shop.rows("UPDATE deliveries SET body = CAST(replace(body, 'app-1', 'app-9') AS BLOB)")
    shop.write(mapping(MENDED))
    done = shop.run("replay", "--yes")
    assert done.code == 1
    assert "    delivery 1 is damaged: it is not what was written" in done.lines
    assert done.lines[-1] == "2 deliveries: 1 change, 1 new event, 1 cannot be mapped"


def test_a_delivery_that_is_kept_no_longer_is_said(shop: Shop) -> None:
    _dead(shop, 1, 2)
    shop.gateway.stop()
    shop.rows("DELETE FROM deliveries WHERE seq = 1")
    shop.write(mapping(MENDED))
    done = shop.run("replay", "--yes", "delivery-0001")
    assert done.code == 2
    assert "the journal holds no delivery `delivery-0001`" in done.err
    assert shop.run("replay", "--yes").lines[-1] == "1 delivery: 1 change, 1 new event"


# At a terminal


@pytest.mark.parametrize(("answer", "code", "rows"), [("y", 0, 2), ("n", 1, 1), ("", 1, 1)])
def test_at_a_terminal_it_asks(shop: Shop, answer: str, code: int, rows: int) -> None:
    """After what would change was shown."""
    _dead(shop, 1)
    shop.gateway.stop()
    shop.write(mapping(MENDED))
    mine, its = pty.openpty()
    flags = ("--journal", f"sqlite:///{shop.journal}", "--mappings", str(shop.mappings))
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "replay", *flags],
        cwd=shop.folder,
        env={**os.environ, **PATHS},
        stdin=its,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.close(its)
    os.write(mine, f"{answer}\n".encode())
    output, _ = process.communicate(timeout=60)
    os.close(mine)
    assert process.returncode == code, output
    asked = output.partition("replay 1 delivery? [y]es, [n]o: ")
    assert "+ deploytime app=app-1" in asked[0]
    assert "nothing was written" in asked[0]
    assert bool(asked[2].strip()) == (answer == "y")
    assert len(shop.outcomes()) == rows


# In one process


def _entry(number: int) -> Entry:
    return Entry(
        source="shop",
        delivery_id=f"delivery-{number:04}",
        event="deployment",
        received_at=TIME + 10_000.0 + number,
        verdict=Verdict.DEAD_LETTERED,
        reasons=(),
        events=(),
        headers={},
        query={},
        body=msgspec.json.encode(delivery(number)),
    )


@contextlib.asynccontextmanager
async def _replayer(path: Path, number: int) -> Any:
    """A replayer over a journal with dead letters, which a mended mapping can read."""
    files = [*library.bundled_files(), SourceFile("shop.yaml", mapping(MENDED), 1)]
    compilation = compile_files(files)
    plans = {name: one.plan for name, one in compilation.mappings.items()}
    journal = Writer(SqliteStore(path))
    new_series = partial(Series, window=Window(length=2_700_000, spacing=0))
    pipeline = Pipeline({}, compilation.models, new_series, journal, Telemetry("test"))
    journal.start()
    try:
        await pipeline.shown.begin()
        for one in range(number):
            await journal.append(_entry(one))
        yield Replayer(pipeline, Archive(SqliteFile(path)), lambda: plans), pipeline
    finally:
        journal.close()


async def _all(lines: Any) -> list[Message]:
    return [replay.decoded(line) async for line in lines]


def _run(path: Path, number: int, work: Callable[[Replayer, Pipeline], Any]) -> None:
    async def whole() -> None:
        async with _replayer(path, number) as (replayer, pipeline):
            await work(replayer, pipeline)

    asyncio.run(whole())


def test_one_replay_at_a_time(tmp_path: Path) -> None:
    """A second one is told so; a dry run may go beside it, and the next one afterwards."""

    async def work(replayer: Replayer, _: Pipeline) -> None:
        first = await replayer.lines(Asked(), lambda: True)
        second = await replayer.lines(Asked(), lambda: True)
        dry = await replayer.lines(Asked(dry_run=True), lambda: True)
        assert replay.decoded(await anext(first)) == Began(3)
        (refused,) = await _all(second)
        assert isinstance(refused, Failed)
        assert "another replay" in refused.detail
        assert isinstance((await _all(dry))[-1], Ended)
        assert (await _all(first))[-1] == Ended(deliveries=3, changed=3, events=3)
        third = await _all(await replayer.lines(Asked(), lambda: True))
        assert third == [Began(0), Ended()]

    _run(tmp_path / "journal.sqlite", 3, work)


def test_a_replay_that_nobody_follows_any_more_ends_and_another_may_begin(tmp_path: Path) -> None:
    """What it had committed is shown and not replayed again."""

    async def work(replayer: Replayer, pipeline: Pipeline) -> None:
        left = await replayer.lines(Asked(), lambda: True)
        assert replay.decoded(await anext(left)) == Began(replay.GROUP + 5)
        assert isinstance(replay.decoded(await anext(left)), Replayed)
        await left.aclose()
        del left
        for _ in range(3):
            await asyncio.sleep(0)
        rest = await _all(await replayer.lines(Asked(), lambda: True))
        assert rest[-1] == Ended(deliveries=5, changed=5, events=5)
        assert pipeline.series.counts()["deploy_timestamp"] == replay.GROUP + 5

    _run(tmp_path / "journal.sqlite", replay.GROUP + 5, work)


def test_a_gateway_that_stops_ends_a_replay(tmp_path: Path) -> None:
    async def work(replayer: Replayer, _: Pipeline) -> None:
        found = await _all(await replayer.lines(Asked(), lambda: False))
        assert isinstance(found[-1], Failed)
        assert "stops" in found[-1].detail

    _run(tmp_path / "journal.sqlite", 3, work)


def test_deliveries_that_come_during_a_replay_are_not_its(tmp_path: Path) -> None:
    """Else it would not end where they come faster than it goes."""

    async def work(replayer: Replayer, pipeline: Pipeline) -> None:
        lines = await replayer.lines(Asked(), lambda: True)
        await pipeline.journal.append(_entry(99))
        found = await _all(lines)
        assert found[-1] == Ended(deliveries=2, changed=2, events=2)

    _run(tmp_path / "journal.sqlite", 2, work)


def test_replays_come_in_the_order_of_their_deliveries(tmp_path: Path) -> None:
    async def work(replayer: Replayer, pipeline: Pipeline) -> None:
        found = await _all(await replayer.lines(Asked(), lambda: True))
        told = [one.number for one in found if isinstance(one, Replayed)]
        assert told == list(range(1, 121))
        events: list[Event] = [one.event for one in pipeline.journal.events()]
        assert [event.number("timestamp") for event in events] == [
            TIME + number for number in range(120)
        ]

    _run(tmp_path / "journal.sqlite", 120, work)
