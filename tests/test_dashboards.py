"""The dashboards that we ship: each panel explains itself, and each query gives data in a real Prometheus."""

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import documentation, samples
from tests.harness import ROOT, Gateway, eventually, running
from tests.prometheus import OUR_RULES, RULES, Prometheus, scraping
from tests.test_rules import after_the_restart, before_the_restart

FOLDER = ROOT / "docs/grafana"
NAMES = ("four-keys", "gateway")
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
VARIABLES = {
    "$app": ".*",
    "$instance": ".*",
    "$window": "30d",
    "${window}": "30d",
    "$__range": "1h",
    "$__rate_interval": "1m",
}
# One of the apps that the deliveries name, so that it has a team, and the others are unknown.
TABLE = "apps: [{app: octo/shop, team: sales}]"
METRIC = re.compile(r"\b(?:(?:app|global):[\w:]+|(?:gateway|dora)_\w+|\w+_timestamp)\b")


def dashboard(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def panels(name: str) -> list[Any]:
    """The panels that show something, whatever row they stand in."""
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def targets() -> Iterator[tuple[str, str, str]]:
    """Of each query: where it stands, its expression as Grafana sends it, and its legend."""
    for name in NAMES:
        for panel in panels(name):
            for target in panel["targets"]:
                expression = target["expr"]
                for variable, value in VARIABLES.items():
                    expression = expression.replace(variable, value)
                yield f"{name}: {panel['title']}", expression, target.get("legendFormat", "")


@pytest.mark.parametrize("name", NAMES)
def test_each_panel_explains_itself_and_asks_the_chosen_data_source(name: str) -> None:
    shown = dashboard(name)
    assert len({panel["id"] for panel in shown["panels"]}) == len(shown["panels"])
    declared = {variable["name"] for variable in shown["templating"]["list"]}
    for variable in shown["templating"]["list"]:
        assert variable["type"] != "query" or variable["datasource"] == DATA_SOURCE
    for panel in panels(name):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"] == DATA_SOURCE, panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == DATA_SOURCE, panel["title"]
            used = set(re.findall(r"\$\{?(\w+)", target["expr"]))
            assert {one for one in used if not one.startswith("__")} <= declared, panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_panels_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard(name)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_dashboards_are_told_apart_and_link_to_each_other() -> None:
    uids = {dashboard(name)["uid"] for name in NAMES}
    assert len(uids) == len(NAMES)
    linked = re.findall(r'"/d/([\w-]+)', "".join(json.dumps(dashboard(name)) for name in NAMES))
    assert set(linked) == uids


def bad_deliveries(gateway: Gateway, now: int) -> None:
    """A dead letter, and a delivery that somebody else has signed."""
    payload = samples.github_deployment("octo/shop", "no SHA", now)
    answer = gateway.github("deployment_status", payload)
    assert answer.json()["outcome"] == "dead_lettered"
    assert gateway.github("deployment_status", payload, secret="another").status == 401


def test_every_query_gives_data(tmp_path: Path) -> None:
    """And each metric that a panel, a rule or an alert names is there."""
    now = int(time.time())
    table = tmp_path / "apps.yaml"
    table.write_text(TABLE)
    with running(tmp_path, "--scrape-interval", "1", "--mappings", str(table)) as gateway:
        with scraping(tmp_path, gateway.internal, rules=OUR_RULES) as prometheus:
            before_the_restart(gateway, now)
            after_the_restart(gateway, now)
            bad_deliveries(gateway, now)
            last = "app:dora_time_to_restore_seconds:median_30d"
            eventually(lambda: prometheus.query(last))
            prometheus.let_scrape()
            assert without_data(prometheus) == []
            for query in documented():
                assert prometheus.vector(query), query
            files = [*(FOLDER / f"{name}.json" for name in NAMES), *(RULES / n for n in OUR_RULES)]
            for file in files:
                named = set(METRIC.findall(file.read_text().replace("${window}", "30d")))
                assert not named - prometheus.names(), file.name
            assert prometheus.unhealthy_rules() == []


def documented() -> list[str]:
    """The queries of the page on the four keys."""
    found = documentation.fences((ROOT / "docs/how-to/see-the-four-keys.md").read_text())
    return [fence.text for fence in found if fence.language == "promql"]


def without_data(prometheus: Prometheus) -> list[str]:
    """The queries that give no number, or a series without the labels of its legend."""
    lacking = []
    for place, expression, legend in targets():
        found = prometheus.vector(expression)
        labels = set(re.findall(r"{{(\w+)}}", legend))
        numbers = [one for one in found if not math.isnan(float(one["value"][1]))]
        if not numbers or not all(labels <= one["metric"].keys() for one in found):
            lacking.append(f"{place}: {expression}")
    return lacking
