"""Kinds that users declare: the model and mapping of the guide, at a real gateway and Prometheus."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import documentation
from tests.documentation import DOCS
from tests.harness import Answer, Gateway, eventually, run_cli, running
from tests.prometheus import Prometheus, scraping

GUIDE = DOCS / "how-to" / "add-a-kind.md"
SECRET = "a test secret for lighthouse"
BUOY, TIDE = "/harbour-works/buoy/", "/harbour-works/tide-table/"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the files of the guide, as they stand there."""
    for fence in documentation.fences(GUIDE.read_text(encoding="utf-8")):
        for mark in fence.marks:
            if mark.startswith("file: "):
                path = tmp_path / mark.removeprefix("file: ")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(fence.text)
    return tmp_path


@pytest.fixture
def gateway(files: Path) -> Iterator[Gateway]:
    """A gateway that serves them."""
    arguments = ("--mappings", "mappings", "--schemas", "schemas", "--scrape-interval", "1")
    environment = {"LIGHTHOUSE_WEBHOOK_SECRET": SECRET}
    with running(files, *arguments, environment=environment) as started:
        yield started


def report(files: Path) -> dict[str, Any]:
    """The sample of the guide."""
    sample: dict[str, Any] = json.loads((files / "report.json").read_text())
    return sample


def deliver(gateway: Gateway, payload: Any, secret: str = SECRET) -> Answer:
    """A report as the guide's system posts it."""
    headers = {"Authorization": f"Bearer {secret}"}
    return gateway.post("/hooks/lighthouse", json.dumps(payload).encode(), headers)


def of_buoy(payload: dict[str, Any], number: int, reached: float) -> dict[str, Any]:
    """A report on another service, which has one objective."""
    objective = {**payload["objectives"][0], "reached": reached}
    return {
        **payload,
        "report": f"buoy-{number}",
        "service": "harbour-works/buoy",
        "until": f"2026-03-0{number}T10:00:00Z",
        "objectives": [objective],
    }


def test_error_budgets_are_what_prometheus_makes_of_reports(files: Path, gateway: Gateway) -> None:
    """The rule of the guide, over two services, a later report, redeliveries and a restart."""
    rules = yaml.safe_load((files / "slo.rules.yml").read_text())
    rule = rules["groups"][0]["rules"][0]["expr"]

    def left(prometheus: Prometheus, objective: str) -> dict[str, float]:
        return prometheus.query(rule.replace("ratio[", f'ratio{{objective="{objective}"}}['))

    sample = report(files)
    with scraping(files, gateway.internal) as prometheus:
        assert deliver(gateway, sample).json()["outcome"] == "accepted"
        assert deliver(gateway, of_buoy(sample, 1, 1)).json()["outcome"] == "accepted"
        eventually(
            lambda: left(prometheus, "availability") == {TIDE: 0.5, BUOY: 1}, timeout=30, every=0.5
        )
        eventually(lambda: left(prometheus, "latency") == {TIDE: -0.5}, every=0.5)

        assert deliver(gateway, of_buoy(sample, 2, 0.998)).json()["outcome"] == "accepted"
        eventually(
            lambda: left(prometheus, "availability") == {TIDE: 0.5, BUOY: -1}, timeout=30, every=0.5
        )
        before = gateway.samples()
        gateway.stop()
        gateway.start()
        assert gateway.samples() == before
        # The first report again, under its own id and under a new one: it is known, and the later
        # report stays the last word.
        first = of_buoy(sample, 1, 1)
        for again in (first, {**first, "report": "the same as buoy-1"}):
            assert deliver(gateway, again).json()["outcome"] == "duplicate"
        assert gateway.samples() == before
        assert left(prometheus, "availability") == {TIDE: 0.5, BUOY: -1}
        assert prometheus.trouble() == []


def test_equal_levels_of_two_days_are_two_samples(files: Path, gateway: Gateway) -> None:
    """Because the kind has a time of its own."""
    sample = report(files)
    for number in (1, 2):
        answer = deliver(gateway, of_buoy(sample, number, 0.9995))
        assert answer.json()["outcome"] == "accepted"
        assert len(answer.json()["events"]) == 2


def test_the_kind_decides_what_reaches_a_metric(files: Path, gateway: Gateway) -> None:
    """What does not fit its field is kept with the reason, and changes no series."""
    sample = report(files)
    deliver(gateway, sample)
    before = gateway.samples()
    wrong = of_buoy(sample, 1, 1)
    wrong["objectives"][0] |= {"reached": "n/a", "window": "a very long window of time"}
    answer = deliver(gateway, wrong).json()
    assert answer["outcome"] == "dead_lettered"
    assert {(reason["rule"], reason["field"]) for reason in answer["reasons"]} == {
        ("what is promised", "window"),
        ("what was reached", "window"),
        ("what was reached", "ratio"),
    }
    assert gateway.samples() == before
    assert deliver(gateway, sample, secret="not the secret").status == 401


def test_a_metric_that_is_added_later_shows_what_came_before(files: Path, gateway: Gateway) -> None:
    """As the guide says: the journal is read again at the start."""
    deliver(gateway, report(files))
    gateway.stop()
    model = files / "schemas/slo.yaml"
    model.write_text(
        model.read_text().replace(
            "labels: {app: app, objective: objective, window: window}", "labels: {level: objective}"
        )
        + "  - {name: slo_other, help: None of them, value: ratio, labels: {app: app}}\n"
    )
    gateway.start()
    found = {series: value for series, (value, _) in gateway.samples().items()}
    assert found == {
        'slo_target_ratio{level="availability"}': 0.999,
        'slo_target_ratio{level="latency"}': 0.99,
        'slo_reached_ratio{level="availability"}': 0.9995,
        'slo_reached_ratio{level="latency"}': 0.985,
    }


@pytest.mark.parametrize(
    ("file", "old", "new", "name", "mend"),
    [
        ("mappings/lighthouse.yaml", "emit: slo", "emit: sol", "unknown-kind", "`slo`"),
        ("mappings/lighthouse.yaml", "ratio: each", "raito: each", "unknown-field", "`ratio`"),
        ("mappings/lighthouse.yaml", "      window: each.window\n", "", "field-not-mapped", ""),
        ("schemas/slo.yaml", "{measure: target}", "{measure: goal}", "wrong-choice", "reached"),
        ("schemas/slo.yaml", "app: app,", "app: ap,", "unknown-model-field", "`app`"),
        ("schemas/slo.yaml", "type: number", "type: numbre", "wrong-value", "`number`"),
        ("schemas/slo.yaml", "value: ratio", "value: window", "value-not-a-number", "ratio"),
    ],
)
def test_a_slip_in_the_files_of_the_guide_is_found_before_they_are_served(
    files: Path, file: str, old: str, new: str, name: str, mend: str
) -> None:
    """With the mend, where there is one."""
    path = files / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    checked = run_cli("check", "schemas", "mappings", cwd=files)
    assert checked.returncode == 1
    assert f"error[{name}]" in checked.stdout
    assert mend in checked.stdout
