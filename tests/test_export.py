"""`gateway export`: samples at their own times, which promtool makes blocks of and Prometheus reads."""

import os
import pty
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.backfill import Backfill, Span, Wanted
from gateway.event import Event
from gateway.mapping import library
from gateway.mapping.compiler import SourceFile, compile_files
from tests import samples
from tests.harness import Gateway, request, require_program, run_cli, running
from tests.prometheus import scraping

DAY, HOUR, MINUTE = 86_400, 3_600, 60
START = 1_780_000_000
RECEIVED = 1_790_000_000.0
MODEL = """
kind: level
title: A level, measured
fields:
  app: {type: app}
  metres: {type: number}
  gauge: {type: text}
  measured_at: {type: timestamp, required: false}
metrics:
  - {name: level_metres, help: A level, value: metres, labels: {app: app}}
"""
MODELS = compile_files([*library.bundled_files(), SourceFile("level.yaml", MODEL, 1)]).models
FIRST, SECOND = "a" * 40, "b" * 40
IMAGE = "sha256:" + "1" * 64


def event(kind: str, at: float, **more: Any) -> Event:
    return Event(kind, {"app": "shop", "timestamp": START + at, **more})


def commit(sha: str, at: float, **more: Any) -> Event:
    return event("committime", at, commit=sha, **more)


def deployment(at: float, **more: Any) -> Event:
    return event("deploytime", at, **more)


def failure(what: str, at: float, issue: str = "1") -> Event:
    return event("failure", at, event=what, issue_number=issue)


def level(metres: float, gauge: str, **more: Any) -> Event:
    return Event("level", {"app": "quay", "metres": metres, "gauge": gauge, **more})


def text(events: Iterable[Event], wanted: Wanted | None = None, received: float = RECEIVED) -> str:
    """The export of these events, all received at one time."""
    backfill = Backfill(MODELS, wanted or Wanted())
    for one in events:
        backfill.fold(one, received)
    return "".join(backfill.lines())


def standing(events: Iterable[Event], name: str, received: float = RECEIVED) -> list[Any]:
    """Value and time of the samples of a metric; times count from START."""
    found = []
    for line in text(events, received=received).splitlines():
        if line.startswith(name + "{"):
            _, value, at = line.rsplit(" ", 2)
            counted = float(value) - START if float(value) >= START else float(value)
            found.append((counted, round(float(at) - START, 3)))
    return found


# Where samples stand


def test_a_lead_time_stands_at_its_deployment_whatever_came_last() -> None:
    """And the commit there too, as rules that look at one moment want it."""
    events = [commit(FIRST, 100), deployment(500, commit=FIRST), deployment(900, commit=FIRST)]
    for order in (events, events[::-1]):
        assert standing(order, "deploy_timestamp") == [(500, 500), (900, 900)]
        assert standing(order, "dora_lead_time_seconds") == [(400, 500), (800, 900)]
        assert standing(order, "commit_timestamp") == [(100, 100), (100, 500), (100, 900)]


def test_a_commit_does_not_stand_at_a_deployment_before_it() -> None:
    events = [commit(FIRST, 100), deployment(50, commit=FIRST)]
    assert standing(events, "commit_timestamp") == [(100, 100)]
    assert standing(events, "deploy_timestamp") == [(50, 50)]
    assert standing(events, "dora_lead_time_seconds") == []


def test_an_earlier_time_of_a_commit_holds_for_all_of_its_samples() -> None:
    """Known last, it is said everywhere, in one series for an image: two would stop a join."""
    link = "https://example.com/commit"
    events = [
        commit(FIRST, 100),
        deployment(500, commit=FIRST),
        commit(FIRST, 90, commit_link=link),
        deployment(700, commit=FIRST),
    ]
    assert standing(events, "commit_timestamp") == [(90, 90), (90, 500), (90, 700)]
    assert link not in text(events)


def test_a_restoration_stands_at_its_resolution() -> None:
    events = [failure("created", 100), failure("resolved", 160)]
    for order in (events, events[::-1]):
        assert standing(order, "dora_time_to_restore_seconds") == [(60, 160)]
        assert standing(order, "failure_creation_timestamp") == [(100, 100)]
        assert standing(order, "failure_resolution_timestamp") == [(160, 160)]


def test_a_failed_deployment_is_one_sample_at_that_deployment() -> None:
    """Also where it took the failure over from the one before, which leaves no trace."""
    first, second = deployment(100, commit=FIRST), deployment(200, commit=SECOND)
    for order in (
        [first, second, failure("created", 250)],
        [first, failure("created", 250), second],
        [failure("created", 250), failure("created", 260, "2"), first, second],
    ):
        assert standing(order, "dora_failed_deployments") == [(1, 200)]


def test_what_lies_ahead_of_its_receipt_stands_at_the_receipt() -> None:
    """A clock that is an hour fast; what lies a day ahead is not shown at all."""
    received = RECEIVED - START
    assert standing([deployment(received + HOUR, commit=FIRST)], "deploy_timestamp") == [
        (received + HOUR, received)
    ]
    assert standing([deployment(received + 2 * DAY, commit=FIRST)], "deploy_timestamp") == []


def test_a_kind_of_ones_own_stands_at_its_time_or_at_its_receipt() -> None:
    events = [level(1, "north", measured_at=START + 7), level(2, "south")]
    assert standing(events, "level_metres") == [(1, 7), (2, RECEIVED - START)]


def test_two_samples_of_a_series_at_one_time_stand_apart() -> None:
    """Both count, and Prometheus takes both."""
    at = START + 7.001
    events = [
        level(1, "north", measured_at=at),
        level(2, "south", measured_at=at),
        level(3, "west", measured_at=at + 0.002),
    ]
    assert standing(events, "level_metres") == [(1, 7.001), (2, 7.003), (3, 7.005)]


def test_the_span_takes_samples_by_where_they_stand() -> None:
    events = [deployment(at, commit=FIRST) for at in (100, 200, 300)]
    found = text(events, Wanted(standing=Span(START + 200, START + 300)))
    assert f" {START + 200}.000\n" in found
    assert f" {START + 100}.000\n" not in found
    assert f" {START + 300}.000\n" not in found


def test_a_gap_is_filled_with_what_was_received_in_it() -> None:
    """What was received before is known and not shown again; what came after is none of it."""
    wanted = Wanted(received=Span(RECEIVED, RECEIVED + 10))
    backfill = Backfill(MODELS, wanted)
    for number, one in enumerate(
        [
            commit(FIRST, 100),
            deployment(500, commit=SECOND),
            failure("created", 700),
            deployment(600, commit=FIRST),
            commit(SECOND, 200),
            deployment(800, commit=FIRST),
        ]
    ):
        backfill.fold(one, RECEIVED - 25 + 10 * number)
    lines = [one for one in backfill.lines() if not one.startswith(("#", "commit_timestamp"))]
    assert [(one.partition("{")[0], *one.split()[1:]) for one in lines] == [
        ("deploy_timestamp", f"{START + 600}", f"{START + 600}.000"),
        ("dora_failed_deployments", "1", f"{START + 600}.000"),
        ("dora_failed_deployments", "-1", f"{START + 500}.000"),
        ("dora_lead_time_seconds", "500", f"{START + 600}.000"),
    ]


def test_without_events_there_is_nothing_but_the_end() -> None:
    assert text([]) == "# EOF\n"


def test_every_family_stands_together_and_every_series_in_the_order_of_time(
    tmp_path: Path,
) -> None:
    """promtool makes blocks of it; odd labels and close times do it no harm."""
    program = require_program("promtool")
    events = [
        *(commit(f"{number:040x}", number) for number in range(50)),
        *(deployment(5_000 - 7.001 * number, commit=f"{number:040x}") for number in range(50)),
        *(deployment(9_000 + number / 500, image_sha=IMAGE) for number in range(50)),
        Event("failure", {**failure("created", 1).fields, "issue_number": 'a\\b"c'}),
        failure("created", 9_999),
    ]
    written = text(events)
    assert written.count("# TYPE deploy_timestamp gauge\n") == 1
    file = tmp_path / "export.om"
    file.write_text(written)
    done = subprocess.run(
        [program, "tsdb", "create-blocks-from", "openmetrics", file, tmp_path / "blocks"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    taken = sum(int(line.split()[4]) for line in done.stdout.splitlines()[1:])
    assert taken == sum(not line.startswith("#") for line in written.splitlines())


# The command


def test_it_reads_beside_a_running_gateway(gateway: Gateway) -> None:
    """And takes what is wanted by where it stands and by when it was received."""
    now = int(time.time())
    for age in (3, 2):
        payload = samples.pelorus_deployment("shop", samples.IMAGE, now - age * DAY)
        assert gateway.pelorus("deploytime", payload).status == 202

    def stand(*arguments: str) -> list[float]:
        done = run_cli("export", *arguments, cwd=gateway.folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("# EOF\n")
        lines = [one for one in done.stdout.splitlines() if not one.startswith("#")]
        assert f"wrote {len(lines)} samples" in done.stderr
        return [now - float(one.rsplit(" ", 1)[1]) for one in lines]

    assert stand() == [3 * DAY, 2 * DAY]
    assert stand("--since", samples.iso(now - 2 * DAY)) == [2 * DAY]
    assert stand("--until", samples.iso(now - 2 * DAY)) == [3 * DAY]
    for flag, before in (("--received-before", True), ("--received-since", False)):
        assert stand(flag, samples.iso(now - 60)) == ([] if before else [3 * DAY, 2 * DAY])
        assert stand(flag, samples.iso(now + 60)) == ([3 * DAY, 2 * DAY] if before else [])


def test_it_writes_a_file(gateway: Gateway) -> None:
    payload = samples.pelorus_deployment("shop", samples.IMAGE, time.time() - DAY)
    assert gateway.pelorus("deploytime", payload).status == 202
    done = run_cli("export", "--output", "month.om", cwd=gateway.folder)
    assert (done.returncode, done.stdout) == (0, "")
    assert (gateway.folder / "month.om").read_text() == run_cli("export", cwd=gateway.folder).stdout
    done = run_cli("export", "--output", "nowhere/month.om", cwd=gateway.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot write nowhere/month.om" in done.stderr


def test_series_carry_the_labels_of_the_scrape(gateway: Gateway) -> None:
    """So that Prometheus goes on with the same series."""
    payload = samples.pelorus_deployment("shop", samples.IMAGE, time.time() - DAY)
    assert gateway.pelorus("deploytime", payload).status == 202
    given = ("--label", "job=gateway", "--label", 'instance=a "b"')
    done = run_cli("export", *given, cwd=gateway.folder)
    assert ',job="gateway",instance="a \\"b\\""} ' in done.stdout


def test_apps_have_the_names_of_the_table(gateway: Gateway) -> None:
    folder = gateway.folder / "mappings"
    folder.mkdir()
    (folder / "apps.yaml").write_text("apps: [{app: shop, names: {pelorus: till}}]\n")
    payload = samples.pelorus_deployment("till", samples.IMAGE, time.time() - DAY)
    assert gateway.pelorus("deploytime", payload).status == 202
    done = run_cli("export", "--mappings", "mappings", cwd=gateway.folder)
    assert 'deploy_timestamp{app="/shop/"' in done.stdout


def test_at_a_terminal_it_says_how_far_it_is(gateway: Gateway) -> None:
    payload = samples.pelorus_deployment("shop", samples.IMAGE, time.time() - DAY)
    assert gateway.pelorus("deploytime", payload).status == 202
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "gateway", "export", "--output", "month.om"]
    subprocess.run(command, cwd=gateway.folder, stderr=its, check=True, timeout=60)
    os.close(its)
    with os.fdopen(ours, "rb") as terminal:
        shown = terminal.read1().decode()
    assert shown.startswith("\rread 0 of 1 events\rread 1 events")
    assert shown.endswith("wrote 1 samples\r\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--since", "yesterday"), "--since is `yesterday`, expected an age"),
        (("--journal", "sqlite:///none.sqlite"), "there is no journal none.sqlite"),
        (("--mappings", "none"), "none"),
        (("--label", "job"), "--label is `job`, expected a name and a value"),
        (("--label", "job=a", "--label", "job=b"), "--label names `job` twice"),
        (("--label", "__x=y"), "names that begin with two underscores are Prometheus's own"),
        (("--label", "app=shop"), "metrics have a label `app` already"),
        (("--output", "nowhere/month.om"), "there is no journal"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run_cli("export", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_wrong_model_is_reported(tmp_path: Path) -> None:
    (tmp_path / "level.yaml").write_text(MODEL.replace("type: number", "type: numbre"))
    done = run_cli("export", "--schemas", "level.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "level.yaml:6" in done.stderr


# In a real Prometheus


def days(port: int, expression: str, first: float, last: float) -> dict[str, dict[float, float]]:
    """A range query with a step of a day: by app and by the day's end."""
    given = {"query": expression, "start": first, "end": last, "step": DAY}
    path = f"/api/v1/query_range?{urllib.parse.urlencode(given)}"
    return {
        one["metric"]["app"]: {at: float(value) for at, value in one["values"]}
        for one in request(port, "GET", path).json()["data"]["result"]
    }


def test_prometheus_answers_for_last_month(tmp_path: Path) -> None:
    """Forty days ago to ten days ago, by day, from blocks; scraped is a gateway that knows nothing."""
    program = require_program("promtool")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    counts: dict[str, dict[float, float]] = {}
    means: dict[str, dict[float, float]] = {}
    with running(tmp_path) as gateway:
        for day in range(40, 10, -1):
            midnight = today - day * DAY
            for app, often in (("octo/shop", day % 3), ("octo/pay", 1)):
                took = []
                for number in range(often):
                    sha = f"{day:02}{number}{app.encode().hex()}".ljust(40, "0")
                    deployed = midnight + (9 + number) * HOUR
                    took.append((day + 10 * number) * MINUTE)
                    gateway.github(
                        "deployment_status", samples.github_deployment(app, sha, deployed)
                    )
                    gateway.github("push", samples.github_push(app, sha, deployed - took[-1]))
                if took:
                    counts.setdefault(f"/{app}/", {})[midnight + DAY] = often
                    means.setdefault(f"/{app}/", {})[midnight + DAY] = sum(took) / often
        done = run_cli("export", "--output", "month.om", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    command = ["tsdb", "create-blocks-from", "openmetrics", "month.om", "served/tsdb"]
    (tmp_path / "served").mkdir()
    subprocess.run([program, *command], cwd=tmp_path, check=True, timeout=60, capture_output=True)
    (tmp_path / "empty").mkdir()
    with running(tmp_path / "empty") as empty:
        with scraping(
            tmp_path / "served", empty.internal, "--storage.tsdb.retention.time=1y", rules=()
        ) as prometheus:
            first, last = today - 45 * DAY, today
            deployments = "sum by (app) (count_over_time(deploy_timestamp[1d]))"
            lead_time = (
                "sum by (app) (sum_over_time(dora_lead_time_seconds[1d]))"
                " / sum by (app) (count_over_time(dora_lead_time_seconds[1d]))"
            )
            assert days(prometheus.port, deployments, first, last) == counts
            assert days(prometheus.port, lead_time, first, last) == means
            assert prometheus.trouble() == []
