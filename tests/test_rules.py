"""The rules that we ship: each is tested by promtool, and gives the right numbers in a real Prometheus."""

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import samples
from tests.harness import Gateway, eventually, require_program, running
from tests.prometheus import OUR_RULES, RULES, Prometheus, scraping

RULE_FILES = ("recording-rules.yaml", "alerts.yaml", "pelorus-rules.yaml")
TEST_FILES = ("rules.test.yaml", "alerts.test.yaml")


def rules(name: str) -> list[Any]:
    """The rules of a file, with their groups' names as `group`."""
    groups = yaml.safe_load((RULES / name).read_text())["groups"]
    return [{**rule, "group": group["name"]} for group in groups for rule in group["rules"]]


def promtool(*arguments: str) -> str:
    """The output of a run that succeeds."""
    run = subprocess.run(
        [require_program("promtool"), *arguments],
        cwd=RULES,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize("name", RULE_FILES)
def test_promtool_takes_the_rules(name: str) -> None:
    assert f"{len(rules(name))} rules found" in promtool("check", "rules", "--lint-fatal", name)


@pytest.mark.parametrize("name", TEST_FILES)
def test_promtool_finds_the_numbers_right(name: str) -> None:
    """Row 35 of the table in docs/explanation/security.md."""
    assert "SUCCESS" in promtool("test", "rules", name)


def test_every_rule_is_tested() -> None:
    """Each recorded series is expected with a value, and each alert with its texts."""
    cases = [
        case for name in TEST_FILES for case in yaml.safe_load((RULES / name).read_text())["tests"]
    ]
    recorded = {
        sample["labels"].partition("{")[0]
        for case in cases
        for test in case.get("promql_expr_test", [])
        for sample in test.get("exp_samples", [])
    }
    fired = {
        test["alertname"]
        for case in cases
        for test in case.get("alert_rule_test", [])
        if test.get("exp_alerts")
    }
    found = [rule for name in RULE_FILES for rule in rules(name)]
    assert {rule["record"] for rule in found if "record" in rule} == recorded
    assert {rule["alert"] for rule in found if "alert" in rule} == fired


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in rules("alerts.yaml"):
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]
        assert rule["for"], rule["alert"]


def test_the_windows_differ_in_their_length_alone() -> None:
    """The bands stand over 30 days only."""
    by_group: dict[str, list[tuple[str, str]]] = {"dora-30d": [], "dora-7d": []}
    for rule in rules("recording-rules.yaml"):
        if ":band_" not in rule["record"]:
            by_group[rule["group"]].append((rule["record"], rule["expr"]))
    shortened = [
        (name.replace("30d", "7d"), expression.replace("30d", "7d").replace("/ 30", "/ 7"))
        for name, expression in by_group["dora-30d"]
    ]
    assert shortened == by_group["dora-7d"]


# In a real Prometheus

MINUTE, HOUR, DAY = 60, 3600, 86400
SHOP, PAY, LEGACY = "/octo/shop/", "/group/pay/", "/legacy/"
FIRST, SECOND, THIRD = "a" * 40, "b" * 40, "c" * 40

# What `before_the_restart` and `after_the_restart` send, worked out by hand. The first image of the
# shop is deployed twice: two deployments of one change.
NUMBERS: dict[str, dict[str, float]] = {
    "dora_deployments:count": {SHOP: 4, PAY: 1, LEGACY: 1, "": 6},
    "dora_deployments:per_day": {SHOP: 4 / 30, PAY: 1 / 30, LEGACY: 1 / 30, "": 6 / 30},
    "dora_joined_deployments:count": {SHOP: 4, PAY: 1, LEGACY: 0, "": 5},
    "dora_joined_deployments:ratio": {SHOP: 1, PAY: 1, LEGACY: 0, "": 5 / 6},
    "dora_lead_time_seconds:mean": {
        SHOP: (80 + 60 + 40) * MINUTE / 3,
        PAY: 3 * HOUR,
        "": (80 + 60 + 40 + 180) * MINUTE / 4,
    },
    "dora_lead_time_seconds:median": {SHOP: HOUR, PAY: 3 * HOUR, "": (60 + 80) * MINUTE / 2},
    "dora_failures:count": {SHOP: 2, PAY: 0, LEGACY: 0, "": 2},
    "dora_failed_deployments:count": {SHOP: 1, PAY: 0, LEGACY: 0, "": 1},
    "dora_failed_deployments:ratio": {SHOP: 1 / 4, PAY: 0, LEGACY: 0, "": 1 / 6},
    "dora_time_to_restore_seconds:mean": {SHOP: 25 * MINUTE, "": 25 * MINUTE},
    "dora_time_to_restore_seconds:median": {SHOP: 25 * MINUTE, "": 25 * MINUTE},
}


def before_the_restart(g: Gateway, now: int) -> None:
    """Deployments first, commits of the shop not at all; its failures come with the second one, as
    far as is known."""
    s = samples
    for answer in (
        g.github("deployment_status", s.github_deployment("octo/shop", FIRST, now - 100 * MINUTE)),
        g.github("deployment_status", s.github_deployment("octo/shop", SECOND, now - HOUR)),
        g.github("deployment_status", s.github_deployment("octo/shop", FIRST, now - 10 * MINUTE)),
        g.github("issues", s.github_issue("octo/shop", 1, "opened", now - 40 * MINUTE)),
        g.github("issues", s.github_issue("octo/shop", 2, "opened", now - 45 * MINUTE)),
        g.gitlab(s.gitlab_push("group/pay", FIRST, now - 3 * HOUR)),
        g.gitlab(s.gitlab_deployment("group/pay", FIRST, now)),
        g.pelorus("deploytime", s.pelorus_deployment("legacy", s.IMAGE, now)),
    ):
        assert answer.status == 202, answer


def after_the_restart(g: Gateway, now: int) -> None:
    """The commits; a deployment between the second one and the failures, which were thus its own; and
    the end of the failures."""
    s = samples
    for answer in (
        g.github("push", s.github_push("octo/shop", FIRST, now - 3 * HOUR)),
        g.github("push", s.github_push("octo/shop", SECOND, now - 2 * HOUR)),
        g.github("deployment_status", s.github_deployment("octo/shop", THIRD, now - 50 * MINUTE)),
        g.github("push", s.github_push("octo/shop", THIRD, now - 90 * MINUTE)),
        g.github(
            "issues",
            s.github_issue("octo/shop", 1, "closed", now - 40 * MINUTE, now - 10 * MINUTE),
        ),
        g.github(
            "issues",
            s.github_issue("octo/shop", 2, "closed", now - 45 * MINUTE, now - 25 * MINUTE),
        ),
    ):
        assert answer.status == 202, answer


def recorded(prometheus: Prometheus) -> dict[str, dict[str, float]]:
    """What our rules say, in the form of `NUMBERS`."""
    return {name: prometheus.query(f"app:{name}_30d or global:{name}_30d") for name in NUMBERS}


def rounded(numbers: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        name: {app: round(value, 6) for app, value in of_apps.items()}
        for name, of_apps in numbers.items()
    }


def test_a_real_prometheus_records_the_right_numbers(tmp_path: Path) -> None:
    """With commits that come later than a moment sees back, a redeployment, a failure that changes
    hands, a restart, everything sent twice, and two jobs that scrape the same gateway."""
    now = int(time.time())
    with running(tmp_path, "--scrape-interval", "1") as gateway:
        with scraping(
            tmp_path,
            gateway.internal,
            "--query.lookback-delta=4s",
            rules=OUR_RULES,
            jobs=("gateway", "again"),
        ) as prometheus:
            before_the_restart(gateway, now)
            failed = "app:dora_failed_deployments:count_30d"
            eventually(lambda: prometheus.query(failed).get(SHOP) == 1)
            eventually(lambda: not prometheus.query(f'deploy_timestamp{{app="{PAY}"}}'))

            gateway.stop()
            gateway.start()
            after_the_restart(gateway, now)
            before_the_restart(gateway, now)
            expected = rounded(NUMBERS)
            eventually(lambda: recorded(prometheus) == expected, every=0.5)
            prometheus.let_scrape()
            assert recorded(prometheus) == expected
            assert prometheus.unhealthy_rules() == []
            assert prometheus.trouble() == []
