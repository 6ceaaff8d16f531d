"""What events say never makes a scrape unreadable or large: nasty values in every field, and apps without end.

`GATEWAY_TEST_APPS` is how many apps there are; the figures are printed with `pytest -s`.
"""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gateway.fieldtype import FieldType
from gateway.telemetry import MAX_APPS
from tests import inprocess, mutation
from tests.harness import Gateway, require_program, running
from tests.inprocess import InProcess
from tests.load.measures import memory
from tests.prometheus import scraping
from tests.test_bundled_mappings import compilation

APPS = int(os.environ.get("GATEWAY_TEST_APPS", "20000"))
OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0"}
KINDS = ("committime", "build", "deploytime", "failure")
VALUES = {
    FieldType.APP: "octo/shop",
    FieldType.CHOICE: "created",
    FieldType.GIT_SHA: "c0ffee" * 6,
    FieldType.IMAGE_DIGEST: "sha256:" + "ab" * 32,
    FieldType.NAMESPACE: "production",
    FieldType.TEXT: "a text",
    FieldType.URL: "https://git.example/octo/shop",
    FieldType.NUMBER: 0.5,
}
"""A value that a field of this type takes."""
OTHERS: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**53,
    2**64 - 1,
    10**400,
    1e308,
    5e-324,
    [],
    {},
    ["a"],
)

LEVEL = r"""
kind: level
title: A kind that has a label for whatever can be one
fields:
  app: {type: app}
  text: {type: text, required: false}
  url: {type: url, required: false, max_length: 200}
  sort: {type: choice, choices: ['a"b', 'a\b', 'é ✓', created], required: false}
  value: {type: number}
  timestamp: {type: timestamp}
metrics:
  - name: poisoned_level
    help: "Of \"quotes\", \\backslashes\\n,\n# EOF\n and {braces}"
    value: value
    labels: {app: app, text: text, url: url, sort: sort}
"""


def _mapping() -> str:
    """A mapping that takes every field of every kind as it comes, from anyone."""
    rules = [
        {
            "name": f"any {kind}",
            "when": f"body.kind == '{kind}'",
            "emit": kind,
            "fields": {name: f"body.{name}" for name in fields},
        }
        for kind, fields in _fields().items()
    ]
    return json.dumps({"source": "poison", "authenticate": "none", "rules": rules})


def _fields() -> dict[str, dict[str, FieldType]]:
    known = compilation().models
    found = {kind: {one.name: one.type for one in known[kind].fields.values()} for kind in KINDS}
    found["level"] = {
        "app": FieldType.APP,
        "text": FieldType.TEXT,
        "url": FieldType.URL,
        "sort": FieldType.CHOICE,
        "value": FieldType.NUMBER,
        "timestamp": FieldType.TIMESTAMP,
    }
    return found


def _events() -> Iterator[dict[str, Any]]:
    """Each kind with each nasty value in each of its fields, all else being right."""
    now = time.time() - 3_000
    number = 0
    for kind, fields in _fields().items():
        for poisoned in fields:
            for nasty in (*mutation.NASTY, *OTHERS, 'a"b', "a\\b", "é ✓"):
                number += 1
                event = {
                    name: VALUES.get(type_, now + number / 1_000) for name, type_ in fields.items()
                }
                yield {"kind": kind, **event, poisoned: nasty}


class Poisoned(Struct, frozen=True):
    """A gateway, and the events that it made of what it was sent."""

    gateway: Gateway
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Poisoned]:
    """A gateway that was sent all of them."""
    folder = tmp_path_factory.mktemp("poison")
    (folder / "level.yaml").write_text(LEVEL)
    (folder / "poison.yaml").write_text(_mapping())
    files = ("--schemas", "level.yaml", "--mappings", "poison.yaml")
    with running(folder, *files) as gateway:
        events = []
        for event in _events():
            answer = gateway.post("/hooks/poison", json.dumps(event).encode())
            assert answer.status == 202, (event, answer)
            events += answer.json()["events"]
        yield Poisoned(gateway, events)


@pytest.mark.xdist_group("poison")
def test_no_value_is_taken_that_a_scrape_cannot_show(poisoned: Poisoned) -> None:
    """promtool and the parsers of Prometheus's own client read what came of it, in both formats.
    Rows 29, 30 and 31 of the table in docs/explanation/security.md."""
    promtool = require_program("promtool")
    text = poisoned.gateway.get("/metrics").body
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    plain = _samples(text_string_to_metric_families(text.decode()))
    other = poisoned.gateway.get("/metrics", OPENMETRICS).body
    assert plain
    families = openmetrics.text_string_to_metric_families(other.decode())  # type: ignore[no-untyped-call]
    assert plain == _samples(families)
    told = {event["text"] for event in poisoned.events if "text" in event}
    assert len(told) > 20
    assert {labels["text"] for labels in plain if labels.get("text")} == told


def _samples(families: Iterable[Metric]) -> list[dict[str, str]]:
    """The labels of what events became, in order."""
    return [
        sample.labels
        for family in families
        if not family.name.startswith(("gateway_", "process_", "python_"))
        for sample in family.samples
    ]


@pytest.mark.xdist_group("poison")
def test_a_real_prometheus_takes_it_all(poisoned: Poisoned, tmp_path: Path) -> None:
    """Its target is up, and every value is there as it was sent. Row 29."""
    with scraping(tmp_path, poisoned.gateway.internal) as prometheus:
        prometheus.let_scrape()
        assert prometheus.query("min_over_time(up[1h])") == {"": 1}
        assert prometheus.trouble() == []
        told = {event["text"] for event in poisoned.events if "text" in event}
        series = prometheus.vector("last_over_time(poisoned_level[1h])")
        assert {one["metric"].get("text", "") for one in series} - {""} == told
        shown = len(poisoned.gateway.samples())
        assert prometheus.query('count(last_over_time({app!=""}[1h]))')[""] >= shown


def test_apps_without_end_are_shown_up_to_a_limit(
    tmp_path: Path,
) -> None:
    """A sender that makes up an app for each commit and deployment gets no more series than the limit, the
    most recent ones; a scrape stays as large as it was. Row 32."""
    lines = asyncio.run(_endless_apps(tmp_path))
    print("", *lines, sep="\n  ")


PAIRS = 50
"""Apps of one delivery: each has a commit and a deployment."""


async def _endless_apps(folder: Path) -> list[str]:
    limit = min(50_000, APPS // 4)
    sizes, times, resident = [], [], []
    async with inprocess.gateway(folder, "--max-series", str(limit)) as gateway:
        for share in range(4):
            await _send_apps(gateway, range(share * APPS // 4, (share + 1) * APPS // 4))
            counts = gateway.pipeline.series.counts()
            assert sum(counts.values()) <= limit, counts
            answer = await gateway.metrics()
            assert answer.status == 200
            lines = [line for line in answer.body.splitlines() if b'app="' in line]
            # Beside the series, the deployments of the latest thousand apps are counted.
            assert len(lines) <= limit + 2 * MAX_APPS
            begun = time.perf_counter()
            await gateway.metrics()
            times.append(time.perf_counter() - begun)
            sizes.append(len(answer.body))
            resident.append(memory(os.getpid()))
    assert sizes[3] < sizes[1] * 1.05
    # What is remembered of an app, a commit and a deployment, for good.
    assert resident[3] - resident[1] < 32 + APPS // 2 * REMEMBERED / 1024**2
    return [
        f"{APPS} apps, a commit and a deployment of each, at most {limit} series",
        f"a scrape is {sizes[3] / 1024**2:.1f} MB; a second one takes {times[3] * 1000:.0f} ms",
        f"memory after each quarter {', '.join(f'{one:.0f}' for one in resident)} MB",
    ]


REMEMBERED = 1_500
"""Bytes of an app that has one commit and one deployment, at most."""


async def _send_apps(gateway: InProcess, numbers: range) -> None:
    source = gateway.pipeline.sources["generic"]
    now = time.time() - 60
    for first in range(numbers.start, numbers.stop, PAIRS):
        events = []
        for number in range(first, min(first + PAIRS, numbers.stop)):
            commit = {"app": f"made-up/{number}", "commit": f"{number:040x}", "timestamp": now}
            events += [{"event": "commit", **commit}, {"event": "deployment", **commit}]
        body = json.dumps(events).encode()
        headers = {"content-type": "application/json", **source.authentication.sign(body, now)}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        answer = await inprocess.call(gateway.public, "POST", b"/hooks/generic", raw, body)
        assert answer.status == 202, answer
