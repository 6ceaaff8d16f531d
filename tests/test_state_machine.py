"""The whole promise at once: whatever happens in whatever order, what was acknowledged is kept and shown.

A machine of random operations drives the real parts, from the HTTP route to the file on a recorded disk,
and beside them a plain model of what has to come of it. Its process is one only in name: a crash takes the
disk as it is at some moment of the operation before, and begins anew with that.
"""

import asyncio
import contextlib
import hashlib
import io
import json
import logging
import os
import random
import re
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, redirect_stderr
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure, FlakyStrategyDefinition
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import Struct
from prometheus_client import parser as prometheus_parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from gateway.app import edge
from gateway.app.edge import Edge, Limits
from gateway.app.hooks import Hooks
from gateway.app.internal import Part, scrape
from gateway.apps import Naming
from gateway.cli import wiring
from gateway.cli.wiring import Library, Refused, Served
from gateway.delivery import Verdict
from gateway.history import View
from gateway.journal import writer
from gateway.journal.archive import Archive
from gateway.journal.batch import DeliveryRow
from gateway.journal.entry import JournalUnavailable
from gateway.journal.retention import Retention
from gateway.journal.sqlite import SqliteFile, SqliteStore, lock_path
from gateway.journal.writer import Writer
from gateway.mapping import library
from gateway.mapping.compiler import SourceFile, compile_files
from gateway.pipeline import Pipeline
from gateway.replay import Asked, Ended, Replayed, prepare, replay
from gateway.series import Series, Window
from gateway.telemetry import Telemetry
from tests import samples
from tests.harness import GITHUB_SECRET, hub_signature
from tests.powercut import (
    Acknowledged,
    Disk,
    Mode,
    Record,
    certain,
    memory_folder,
    recording,
    write,
)

T = TypeVar("T")

EXAMPLES = int(os.environ.get("GATEWAY_TEST_EXAMPLES", "200"))
STEPS = 50

HOUR, MIB = 3_600, 1024 * 1024
NOON = 1_790_000_000
LENGTH, SPACING = 24 * HOUR + HOUR // 2, 30
"""Seconds. The clock jumps by whole hours, and all steps together take less than half of one: so nothing
comes to lie so close to the window's edge that its spacing would matter there."""

# What may be in force

MENDED = """
source: github
extends: github
rules:
  - name: a star is a failure
    when: event == 'star'
    emit: failure
    fields:
      app: body.repository.full_name
      event: "'created'"
      issue_number: body.issue.number
      timestamp: body.opened
  - name: a failure was reported
    when: event == 'issues' && body.action == 'opened'
    emit: failure
    fields:
      app: body.repository.full_name
      event: "'created'"
      issue_number: body.issue.number
      timestamp: not_null(body.issue.created_at, body.opened)
"""
"""Knows what to make of what is ignored or a dead letter without it."""

RENAMED = """
kind: failure
title: A failure
fields:
  app: {type: app}
  event: {type: choice, choices: [created, resolved]}
  issue_number: {type: text}
  timestamp: {type: timestamp}
metrics:
  - name: incident_timestamp
    help: Time at which an incident began
    when: {event: created}
    value: timestamp
    labels: {app: app, issue_number: issue_number}
"""

TABLE = """
apps:
  - {app: shop, names: {github: [octo/web, octo/api]}}
"""

WRONG = "source: github\nextends: github\nrules: [{name: none, when: 'event ==', emit: nothing}]"


class Config(Struct, frozen=True):
    """What a mapping, the models and the table of apps mean for the model."""

    served: Served
    is_mended: bool = False
    is_renamed: bool = False
    has_table: bool = False


def _library(*texts: str) -> Library:
    files = [SourceFile(f"{number}.yaml", text, 1) for number, text in enumerate(texts)]
    files = [*library.bundled_files(("github",)), *files]
    return Library(tuple(files), compile_files(files))


def _served(found: Library) -> Served:
    secrets = {"GITHUB_WEBHOOK_SECRET": GITHUB_SECRET}
    return wiring.served(found, secrets, Path("/nonexistent"), new_secrets=False)


@cache
def _configs() -> tuple[Config, ...]:
    return (
        Config(_served(_library())),
        Config(_served(_library(MENDED)), is_mended=True),
        Config(_served(_library(TABLE)), has_table=True),
        Config(_served(_library(RENAMED)), is_renamed=True),
        Config(
            _served(_library(MENDED, TABLE, RENAMED)),
            is_mended=True,
            is_renamed=True,
            has_table=True,
        ),
    )


@cache
def _wrong() -> Library:
    return _library(WRONG)


# What is sent


class Told(NamedTuple):
    """An event, in as many words as tell it from others. `name` is a commit or an issue."""

    kind: str
    app: str
    name: str
    at: int


class Sent(NamedTuple):
    """A delivery. `tells` are its events; where the mapping has to be mended for them,
    `needs_mending` is what becomes of it before."""

    id: str
    event: str
    body: bytes
    tells: tuple[Told, ...] = ()
    needs_mending: Verdict | None = None
    is_malformed: bool = False

    @property
    def other_id(self) -> str:
        """What it is called where another delivery has its id."""
        return f"{self.id}~{hashlib.blake2b(self.body, digest_size=8).hexdigest()}"

    def read(self, config: Config) -> tuple[Verdict, tuple[Told, ...]]:
        if self.is_malformed:
            return Verdict.DEAD_LETTERED, ()
        if self.needs_mending and not config.is_mended:
            return self.needs_mending, ()
        return (Verdict.ACCEPTED, self.tells) if self.tells else (Verdict.IGNORED, ())


REPOSITORIES = ("octo/web", "octo/api", "octo/pay")
LONG_AGO = NOON - 300 * 24 * HOUR
"""No clock of a machine gets there, so no event is ever of its future."""


def _commit(number: int) -> str:
    return f"{number:x}" * 40


def _push(repository: str, numbers: Sequence[int]) -> tuple[str, Any, tuple[Told, ...]]:
    payload = samples.github_push(repository, *_args(numbers))
    tells = [Told("commit", repository, _commit(number), LONG_AGO) for number in numbers]
    return "push", payload, tuple(dict.fromkeys(tells))


def _args(numbers: Sequence[int]) -> tuple[Any, ...]:
    shas = [_commit(number) for number in numbers]
    return (shas[0], LONG_AGO, *shas[1:])


def _deployment(repository: str, number: int, hours: int) -> tuple[str, Any, tuple[Told, ...]]:
    at = LONG_AGO + hours * HOUR
    payload = samples.github_deployment(repository, _commit(number), at)
    return "deployment_status", payload, (Told("deployment", repository, _commit(number), at),)


def _failure(repository: str, number: int, hours: int) -> tuple[str, Any, tuple[Told, ...]]:
    """Created at one time always, and resolved so many hours later, where that is not 0."""
    kind, at = ("resolved" if hours else "created"), LONG_AGO + hours * HOUR
    action, closed = ("closed", at) if hours else ("opened", None)
    payload = samples.github_issue(repository, number, action, LONG_AGO, closed)
    return "issues", payload, (Told(kind, repository, str(number), at),)


def _mendable(event: str, repository: str, number: int) -> tuple[str, Any, tuple[Told, ...]]:
    """What only the mended mapping makes something of."""
    payload = samples.github_issue(repository, number, "opened", LONG_AGO)
    payload["issue"]["created_at"] = None
    payload["opened"] = samples.iso(LONG_AGO + number)
    return event, payload, (Told("created", repository, str(number), LONG_AGO + number),)


_repositories = st.sampled_from(REPOSITORIES)
_numbers = st.integers(1, 5)
_hours = st.integers(0, 3)
_pushes = st.builds(_push, _repositories, st.lists(_numbers, min_size=1, max_size=3))
_deployments = st.builds(_deployment, _repositories, _numbers, _hours)
_failures = st.builds(_failure, _repositories, _numbers, _hours)
_ignored = st.builds(partial(_mendable, "star"), _repositories, _numbers)
_invalid = st.builds(partial(_mendable, "issues"), _repositories, _numbers)
_malformed = st.builds(lambda number: ("push", b'{"a": %d' % number, ()), _numbers)
_outcomes = st.lists(
    st.sampled_from([Verdict.ACCEPTED, Verdict.IGNORED, Verdict.DEAD_LETTERED]),
    min_size=1,
    unique=True,
)
_messages = _pushes | _deployments | _failures | _ignored | _invalid | _malformed


# What has to come of it


class Row(NamedTuple):
    """A delivery in the journal. `replays` is the number of the one that it replays."""

    id: str
    verdict: Verdict
    body: bytes
    replays: int | None = None


class Model:
    """What has to be in the journal, in its order, and what of it is shown."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.sent: list[Sent] = []
        """Of each row."""
        self.events: list[tuple[Told, float]] = []
        """With the epoch seconds of their receipts."""
        self.tellers: dict[Told, int] = {}
        """The numbers of the deliveries that told them."""
        self.accepted: dict[str, bool] = {}

    def verdict(self, sent: Sent, config: Config) -> Verdict:
        """What would become of a delivery."""
        return self._judged(sent, config)[0]

    def _judged(self, sent: Sent, config: Config) -> tuple[Verdict, bool]:
        """The same, and whether it would be kept."""
        verdict, tells = sent.read(config)
        known = self.accepted.get(sent.id)
        is_known = known or (known is False and verdict is not Verdict.ACCEPTED)
        if not is_known and not (tells and not self._new(tells)):
            return verdict, True
        if self._is_copy(sent, tells):
            return Verdict.DUPLICATE, False
        return Verdict.DUPLICATE if known or verdict is Verdict.ACCEPTED else verdict, True

    def _is_copy(self, sent: Sent, tells: tuple[Told, ...]) -> bool:
        names = sent.id, sent.other_id
        named = [row.body for row in self.rows if row.replays is None and row.id in names]
        telling = [self.rows[self.tellers[one] - 1].body for one in tells if one in self.tellers]
        return sent.body in (*named, *telling)

    def take(self, sent: Sent, config: Config, received_at: float) -> Verdict:
        """What becomes of a delivery."""
        verdict, is_kept = self._judged(sent, config)
        if is_kept:
            _, tells = sent.read(config)
            is_duplicate = verdict is Verdict.DUPLICATE
            # What was not accepted before may be accepted under the same id.
            has_other_id = sent.id in self.accepted and verdict is not Verdict.ACCEPTED
            row = Row(sent.other_id if has_other_id else sent.id, verdict, sent.body)
            self._keep(row, sent, [] if is_duplicate else self._new(tells), received_at)
        return verdict

    def replay(
        self, outcomes: Sequence[Verdict], config: Config, received_at: float
    ) -> list[tuple[str, Verdict]]:
        """Which deliveries of these outcomes become something else when they are mapped again."""
        outcome = {row.replays or number: row.verdict for number, row in enumerate(self.rows, 1)}
        changed = []
        for number, before in sorted(outcome.items()):
            if before not in outcomes:
                continue
            sent, name = self.sent[number - 1], self.rows[number - 1].id
            verdict, tells = sent.read(config)
            new = self._new(tells)
            if tells and not new:
                verdict = before if before is Verdict.ACCEPTED else Verdict.DUPLICATE
            if new or verdict is not before:
                self._keep(Row(name, verdict, b"", number), sent, new, received_at)
                changed.append((name, verdict))
        return changed

    def _new(self, tells: tuple[Told, ...]) -> list[Told]:
        return [told for told in tells if told not in self.tellers]

    def _keep(self, row: Row, sent: Sent, new: list[Told], received_at: float) -> None:
        self.rows.append(row)
        self.sent.append(sent)
        self.events += [(told, received_at) for told in new]
        self.tellers |= dict.fromkeys(new, row.replays or len(self.rows))
        self.accepted[row.id] = self.accepted.get(row.id, False) or row.verdict is Verdict.ACCEPTED

    def shown(self, config: Config, now: float) -> set[tuple[str, str, str]]:
        """The series within the window: the metric, the app, and the commit or the issue."""
        samples_of = _Samples()
        seen = set()
        commits = set()
        for told, receipt in self.events:
            received_at = round(receipt, 3)
            app = "shop" if config.has_table and told.app != "octo/pay" else told.app
            # A commit's link has its repository's name in it, whatever the app is called.
            same = (told._replace(app=app), told.app if told.kind == "commit" else "")
            metric = _metric(told.kind, config)
            if same in seen or not metric:
                continue
            seen.add(same)
            key = (metric, app, told.name)
            commit = ("commit_timestamp", app, told.name)
            if told.kind == "commit":
                commits.add(commit)
                samples_of.put(commit, received_at)
                continue
            at = samples_of.put_spaced(key, received_at)
            if told.kind == "deployment" and commit in commits:
                samples_of.put(commit, at)
        return {key for key, times in samples_of.times.items() if _is_within(times, round(now, 3))}


def _metric(kind: str, config: Config) -> str:
    if config.is_renamed and kind in ("created", "resolved"):
        return "incident_timestamp" if kind == "created" else ""
    return {
        "commit": "commit_timestamp",
        "deployment": "deploy_timestamp",
        "created": "failure_creation_timestamp",
        "resolved": "failure_resolution_timestamp",
    }[kind]


def _is_within(times: list[float], now: float) -> bool:
    return any(now - LENGTH < at <= now for at in times)


class _Samples:
    """The times of the samples of each series. Those that count are spaced, so that each is scraped."""

    def __init__(self) -> None:
        self.times: dict[tuple[str, str, str], list[float]] = defaultdict(list)

    def put(self, key: tuple[str, str, str], at: float) -> None:
        times = self.times[key]
        if not times or times[-1] < at:
            times.append(at)

    def put_spaced(self, key: tuple[str, str, str], at: float) -> float:
        times = self.times[key]
        at = max(at, times[-1] + SPACING) if times else at
        times.append(at)
        return at


# The real parts


class Clock:
    """What the gateway takes for the time, in epoch seconds."""

    def __init__(self) -> None:
        self.now = float(NOON)
        self.perf_counter = time.perf_counter

    def time(self) -> float:
        return self.now


class Space:
    """What is left of the disk: as the operating system tells it, and in writes that still fit."""

    def __init__(self) -> None:
        self.free()

    @property
    def is_short(self) -> bool:
        return self._writes is not None or self._is_low

    def free(self) -> None:
        self._is_low = False
        self._writes: int | None = None
        self._lasts = 0

    def fill(self, lasts: int, writes: int | None) -> None:
        """For as many deliveries; with no number of writes there is less left than is wanted."""
        self._lasts, self._writes, self._is_low = lasts, writes, writes is None

    def pass_by(self) -> None:
        """Somebody makes room in the end."""
        self._lasts -= 1
        if self._lasts < 0:
            self.free()

    def is_full(self) -> bool:
        if self._writes is None:
            return False
        self._writes -= 1
        return self._writes < 0

    def statvfs(self, _path: object) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=0 if self._is_low else 1_000_000, f_frsize=4096)


class Answered(NamedTuple):
    status: int
    verdict: Verdict | None


WINDOW = Window(length=LENGTH * 1000, spacing=SPACING * 1000)
LIMITS = Limits(body=MIB, in_flight=100 * MIB, body_timeout=60, answer_timeout=60)


class Process:
    """One life of a gateway, from opening the journal on. Its event loop is the machine's."""

    def __init__(self, path: Path, vfs: str, config: Config, clock: Clock) -> None:
        served, compiled = config.served, config.served.library.compilation
        self.store = SqliteStore(path, Retention(min_free=MIB), vfs=vfs)
        assert self.store._connection is not None
        # The writer's own checkpoints are enough. SQLite passes over an error in one of its own, but through
        # apsw it is raised out of the commit, which then looks as if it had failed.
        self.store._connection.wal_autocheckpoint(0)
        self.journal = Writer(self.store)
        self.pipeline = Pipeline(
            served.sources.live,
            compiled.models,
            partial(Series, window=WINDOW),
            self.journal,
            Telemetry("test"),
            compiled.apps,
        )
        self.pipeline.shown._clock = clock.time
        self.pipeline.telemetry.sources(served.sources.live, [])
        self.counters: dict[Any, float] = {}
        self._hooks = Hooks(Edge(self.pipeline, LIMITS))

    async def deliver(self, sent: Sent) -> Answered:
        """As GitHub posts it."""
        headers = {
            "content-type": "application/json",
            "x-github-event": sent.event,
            "x-github-delivery": sent.id,
            "x-hub-signature-256": hub_signature(sent.body, GITHUB_SECRET),
        }
        scope: Any = {
            "type": "http",
            "method": "POST",
            "raw_path": b"/hooks/github",
            "client": ("192.0.2.1", 40_000),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": sent.body, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        await self._hooks(scope, receive, send)
        status = messages[0]["status"]
        answer = json.loads(b"".join(message.get("body", b"") for message in messages))
        return Answered(status, Verdict(answer["outcome"]) if status == 202 else None)

    async def replay(
        self, path: Path, asked: Asked, now: Callable[[], float]
    ) -> list[tuple[str, Verdict]]:
        """Kept deliveries mapped again by what is in force: those that make a difference."""
        archive, sources = Archive(SqliteFile(path)), self.pipeline.sources
        plans = {name: source.plan for name, source in sources.items()}
        append = None if asked.dry_run else self.journal.append
        work = prepare(archive, plans, asked)
        messages = [one async for one in replay(work, archive, plans, append, now)]
        assert isinstance(messages[-1], Ended), messages[-1]
        those = [one for one in messages if isinstance(one, Replayed)]
        assert not any(one.problem for one in those)
        return [(one.delivery, one.after) for one in those if one.changes]

    def close(self) -> None:
        following = self.pipeline.shown._following
        if following is not None:
            following.cancel()
        self.journal.close()


FILE = "journal.sqlite"


class Machine(RuleBasedStateMachine):
    """Operations on a gateway, and what holds after each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = self.stack.enter_context(memory_folder())
        self.path = self.folder / FILE
        self.recorder = self.stack.enter_context(recording(self.folder))
        self.clock, self.space = Clock(), Space()
        self.recorder.is_full = self.space.is_full
        self.stack.enter_context(patch.object(edge, "time", self.clock))
        self.stack.enter_context(patch.object(os, "statvfs", self.space.statvfs))
        # It says a word about each delivery.
        self.stack.enter_context(redirect_stderr(io.StringIO()))
        self.runner = self.stack.enter_context(asyncio.Runner())
        self.config = _configs()[0]
        self.model = Model()
        self.everything: list[Sent] = []
        self.latest = 0.0
        self._open()
        self._show_history()

    def teardown(self) -> None:
        self.process.close()
        self.stack.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    # Lives and deaths

    def _open(self) -> None:
        self.process = Process(self.path, self.recorder.vfs_name, self.config, self.clock)
        self.received_at = 0.0
        assert self.process.store.missing == 0
        self._run(_do(self.process.journal.start))

    def _show_history(self) -> None:
        self._run(self.process.pipeline.shown.begin())

    @rule()
    def restart(self) -> None:
        """In order, as a new version is rolled out; the disk is as full as it was."""
        self.process.close()
        self._open()
        self._show_history()

    @rule(
        messages=st.lists(_messages, max_size=6),
        moment=st.floats(0, 1),
        mode=st.sampled_from(Mode),
        seed=st.integers(0, 2**32),
        waits=st.booleans(),
    )
    def die(self, messages: list[Any], moment: float, mode: Mode, seed: int, waits: bool) -> None:
        """While deliveries are under way: killed, where all that was written is kept, or by a power cut,
        where what was not synced is at its mercy. It may be that the history is shown only later."""
        log, lock = len(self.recorder.log), lock_path(self.path).read_bytes()
        under_way = [self._sent(message) for message in messages]
        half = len(messages) // 2
        receipts = [*self._deliver(under_way[:half])[0], *self._deliver(under_way[half:])[0]]
        place = log + round(moment * (len(self.recorder.log) - log))
        self.process.close()
        played = self.recorder.log[:place]
        image = _after(played, mode, random.Random(seed))
        for path in self.folder.iterdir():
            path.unlink()
        write(image, self.folder)
        if mode is Mode.KEPT:
            lock_path(self.path).write_bytes(lock)
            self.recorder.resume(played)
        else:
            self.recorder.resume(certain(image))
        self.space.free()
        self._open()
        self._find_survivors(under_way, receipts, played[log:])
        if not waits:
            self._show_history()

    def _find_survivors(
        self, under_way: Sequence[Sent], receipts: Sequence[float], record: Sequence[Record]
    ) -> None:
        """Of what was under way some is kept, and among that is all that was acknowledged."""
        kept = [row.id for row in _rows(self.path)]
        for sent, received_at in zip(under_way, receipts, strict=True):
            if kept[len(self.model.rows) :][:1] in ([sent.id], [sent.other_id]):
                self.model.take(sent, self.config, received_at)
        acknowledged = {one.what for one in record if isinstance(one, Acknowledged)}
        for sent in under_way:
            if sent.id in acknowledged:
                assert self.model.verdict(sent, self.config) is Verdict.DUPLICATE, "lost"

    @precondition(lambda self: not self.process.pipeline.shown.is_complete)
    @rule()
    def show_history(self) -> None:
        self._show_history()

    # Deliveries

    def _sent(self, message: tuple[str, Any, tuple[Told, ...]], name: str = "") -> Sent:
        event, payload, tells = message
        malformed = isinstance(payload, bytes)
        body = payload if malformed else json.dumps(payload).encode()
        needs_mending = None
        if not malformed and "opened" in payload:
            needs_mending = Verdict.IGNORED if event == "star" else Verdict.DEAD_LETTERED
        sent = Sent(
            name or f"d-{len(self.everything)}",
            event,
            body,
            tells,
            needs_mending,
            is_malformed=malformed,
        )
        self.everything.append(sent)
        return sent

    def _deliver(self, those: Sequence[Sent]) -> tuple[list[float], list[Answered]]:
        """The receipts of deliveries that come at once, and their answers."""
        self.clock.now += 1
        self.space.pass_by()
        receipts = []
        for _ in those:
            now, last = self.clock.now, self.received_at
            self.received_at = last + 1e-6 if now <= last < now + edge.SET_BACK else now
            receipts.append(self.received_at)
        self.latest = max(self.latest, self.clock.now, *receipts)

        async def deliver(sent: Sent) -> Answered:
            answered = await self.process.deliver(sent)
            if answered.status != 503:
                self.recorder.acknowledge(sent.id)
            return answered

        async def at_once() -> list[Answered]:
            return await asyncio.gather(*map(deliver, those))

        return receipts, self._run(at_once())

    def _send(self, those: Sequence[Sent]) -> None:
        was_short = self.space.is_short
        for sent, received_at, (status, verdict) in zip(those, *self._deliver(those), strict=True):
            if status == 503:
                assert was_short
                continue
            expected = self.model.take(sent, self.config, received_at)
            if sent.is_malformed:
                assert status == 400
            else:
                assert (status, verdict) == (202, expected)

    @rule(messages=st.lists(_messages, min_size=1, max_size=3), index=st.integers(0, 10_000))
    def send_under_an_id_that_another_has(self, messages: list[Any], index: int) -> None:
        """As where a mapping takes for the id what several deliveries share."""
        name = self.everything[index % len(self.everything)].id if self.everything else "shared"
        self._send([self._sent(message, name) for message in messages])

    @rule(messages=st.lists(_messages, min_size=1, max_size=8))
    def send(self, messages: list[Any]) -> None:
        """At once, so that they are committed together."""
        self._send([self._sent(message) for message in messages])

    @precondition(lambda self: self.everything)
    @rule(which=st.integers(0, 1_000), fresh=st.booleans(), twice=st.booleans())
    def resend(self, which: int, fresh: bool, twice: bool) -> None:
        """One of before, as it was or as a new delivery; and that twice at once."""
        sent = self.everything[which % len(self.everything)]
        if fresh:
            sent = sent._replace(id=f"d-{len(self.everything)}")
            self.everything.append(sent)
        self._send([sent, sent] if twice else [sent])

    @precondition(lambda self: not self.space.is_short)
    @rule(outcomes=_outcomes, dry=st.booleans())
    def replay(self, outcomes: list[Verdict], dry: bool) -> None:
        """Deliveries of before, mapped by what is in force now; and then once more, for nothing."""
        self.clock.now += 1
        self.latest = max(self.latest, self.clock.now)
        asked = Asked(outcomes=tuple(outcomes), source="github", dry_run=dry)
        model = deepcopy(self.model) if dry else self.model
        expected = model.replay(outcomes, self.config, self.clock.now)
        assert self._replay(asked) == expected
        if not dry:
            assert self._replay(asked) == []

    def _replay(self, asked: Asked) -> list[tuple[str, Verdict]]:
        return self._run(self.process.replay(self.path, asked, self.clock.time))

    # What is in force

    @rule(config=st.sampled_from(range(len(_configs()))))
    def reload(self, config: int) -> None:
        """Another mapping, other models, another table of apps."""
        self._run(self._adopt(_configs()[config]))
        self.config = _configs()[config]

    async def _adopt(self, config: Config) -> None:
        served = config.served
        compiled = served.library.compilation
        await self.process.pipeline.adopt(served.sources.live, compiled.models, compiled.apps)

    @rule()
    def reload_what_is_wrong(self) -> None:
        """It is refused before anything changes."""
        with pytest.raises(Refused):
            _served(_wrong())

    @rule(config=st.sampled_from(range(len(_configs()))))
    def reload_where_the_journal_cannot_be_read(self, config: int) -> None:
        """What needs another fold of it is refused, and what was served is served on."""
        away = self.path.with_suffix(".away")
        self.path.rename(away)
        try:
            self._run(self._adopt(_configs()[config]))
        except JournalUnavailable:
            pass
        else:
            self.config = _configs()[config]
        finally:
            away.rename(self.path)

    # Disk and clock

    @precondition(lambda self: not self.space.is_short)
    @rule(lasts=st.integers(1, 2), writes=st.none() | st.integers(0, 12))
    def fill_the_disk(self, lasts: int, writes: int | None) -> None:
        """For some deliveries: so many writes still fit; or there is less left than is wanted."""
        self.space.fill(lasts, writes)

    @precondition(lambda self: self.space.is_short)
    @rule()
    def make_room(self) -> None:
        self.space.free()

    @rule(hours=st.integers(-72, 72))
    def set_the_clock(self, hours: int) -> None:
        self.clock.now += hours * HOUR

    @rule()
    def be_idle(self) -> None:
        """Long enough for the writer to look after its file."""
        time.sleep(3 * writer.TICK)

    # What holds

    @rule(openmetrics=st.booleans())
    def scrape(self, openmetrics: bool) -> None:
        """It parses, has no series twice, and no counter that went back."""
        self.latest = max(self.latest, self.clock.now)
        now = round(self.clock.now * 1000)
        render = scrape(self.process.pipeline, now, Part.ALL, openmetrics=openmetrics)
        text = render(compressed=False).decode()
        parse = openmetrics_parser if openmetrics else prometheus_parser
        seen = set()
        for family in parse.text_string_to_metric_families(text):
            for sample in family.samples:
                series = (sample.name, *sorted(sample.labels.items()))
                assert series not in seen
                seen.add(series)
                if sample.name.endswith(("_total", "_count", "_sum", "_bucket")):
                    assert sample.value >= self.process.counters.get(series, 0)
                    self.process.counters[series] = sample.value

    @invariant()
    def the_journal_has_what_was_acknowledged(self) -> None:
        """In the order of the answers, once, with the bodies that were sent; and nothing else."""
        assert _rows(self.path) == self.model.rows
        assert list(filter(None, Archive(SqliteFile(self.path)).verify())) == []

    @invariant()
    def what_was_good_last_is_in_force(self) -> None:
        assert self.process.pipeline.sources is self.config.served.sources.live

    @invariant()
    def the_series_are_those_of_the_journal(self) -> None:
        """Those of a fresh fold, sample by sample; and for the model as many as it knows of."""
        self.latest = max(self.latest, self.clock.now)
        if not self.process.pipeline.shown.is_complete:
            assert not any(family.lines for family in self.process.pipeline.series.families())
            return
        now = round(self.latest * 1000)
        compiled = self.config.served.library.compilation
        fresh = View(Series(compiled.models, WINDOW), Naming(compiled.apps, compiled.models))
        fresh.take(self.process.store.events())
        fresh.series.advance(now)
        self.process.pipeline.series.advance(now)
        shown = _lines(self.process.pipeline.series)
        assert shown == _lines(fresh.series)
        keys = [_key(line) for line in shown if not line.startswith("dora_")]
        assert len(keys) == len(set(keys))
        assert set(keys) == self.model.shown(self.config, self.latest)


async def _do(work: Callable[[], None]) -> None:
    work()


def _after(record: Sequence[Record], mode: Mode, chance: random.Random) -> dict[str, bytes]:
    disk = Disk()
    for one in record:
        disk.play(one)
    return disk.after_cut(mode, chance)


def _rows(path: Path) -> list[Row]:
    """The deliveries of a journal in their order."""
    columns = ", ".join(DeliveryRow._fields)
    with SqliteFile(path).reader() as query:
        found = map(DeliveryRow._make, query(f"SELECT {columns} FROM deliveries ORDER BY seq", ()))
        return [
            Row(
                row.delivery_id,
                Verdict(row.outcome),
                zlib.decompress(row.body) if row.compressed else row.body,
                row.replay_of,
            )
            for row in found
        ]


def _lines(series: Series) -> list[str]:
    return sorted(line.text for family in series.families() for line in family.lines)


_SERIES = re.compile(r'(\w+)\{app="/([^"]*)/",(?:commit|image_sha|issue_number)="([^"]*)"')


def _key(line: str) -> tuple[str, str, str]:
    found = _SERIES.match(line)
    assert found, line
    return found[1], found[2], found[3]


# The tests


@pytest.fixture(autouse=True)
def _quick_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle soon, so that what an idle writer does is among what is cut; and without a word for each
    delivery that the full disk turns away."""
    monkeypatch.setattr(writer, "TICK", 0.005)
    monkeypatch.setattr(logging.getLogger("gateway"), "disabled", True)


def _work(machine: type[Machine], examples: int, **more: Any) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **more,
        ),
    )


def test_whatever_happens_what_was_acknowledged_is_kept_and_shown() -> None:
    """The operations of the machine in any order."""
    _work(Machine, EXAMPLES)


class Careless(Machine):
    """Its journal is told to sync at checkpoints alone."""

    def _open(self) -> None:
        super()._open()
        connection = self.process.store._connection
        assert connection is not None
        connection.execute("PRAGMA synchronous = NORMAL")


def test_the_machine_finds_a_journal_that_does_not_sync_every_commit() -> None:
    """Were the journal opened with less, the test above would say so."""
    with pytest.raises((AssertionError, FlakyFailure)):
        _search(Careless)


def _search(machine: type[Machine]) -> None:
    """Looks for steps after which something is wrong, and not for the fewest."""
    for _ in range(5):
        # What a power cut finds unsynced depends on the writer's thread, so the same steps may pass the next
        # time; and where that makes other steps of them, the search begins anew.
        with contextlib.suppress(FlakyStrategyDefinition):
            _work(machine, 100, database=None, phases=[Phase.generate], report_multiple_bugs=False)


@pytest.mark.parametrize("moment", range(0, 101, 4))
def test_what_a_killed_writer_left_is_certain_once_it_is_found(moment: int) -> None:
    """Also where its sync was not reached: it is shown and known from then on, whatever cuts the power."""
    machine = Machine()
    try:
        machine.die([_push("octo/web", [1])], moment / 100, Mode.KEPT, seed=1, waits=False)
        machine.resend(0, fresh=False, twice=False)
        machine.the_journal_has_what_was_acknowledged()
        machine.die([], 1, Mode.DROPPED, seed=1, waits=False)
        machine.the_journal_has_what_was_acknowledged()
        machine.the_series_are_those_of_the_journal()
    finally:
        machine.teardown()
