"""A month of an organisation: webhooks of five apps from four systems become the four keys, exactly."""

import http.client
import math
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.harness import Answer, Gateway, eventually, require_program, run_process
from tests.organisation import APPS_TABLE, Delivery, FourKeys, Organisation, four_keys
from tests.prometheus import OUR_RULES, Prometheus, scraping

WINDOW = 10
RULES = {
    "deployments": "app:dora_deployments:count_30d",
    "joined": "app:dora_joined_deployments:count_30d",
    "lead_time_mean": "app:dora_lead_time_seconds:mean_30d",
    "lead_time_median": "app:dora_lead_time_seconds:median_30d",
    "failed_deployments": "app:dora_failed_deployments:count_30d",
    "change_failure_rate": "app:dora_failed_deployments:ratio_30d",
    "restore_mean": "app:dora_time_to_restore_seconds:mean_30d",
    "restore_median": "app:dora_time_to_restore_seconds:median_30d",
}
"""The rules that record the four keys, by their names in `FourKeys`."""


class KeptAlive(Gateway):
    """A gateway that is spoken to on one connection, for as long as it lives."""

    is_to_die = False

    def start(self) -> "KeptAlive":
        self.connection = http.client.HTTPConnection("127.0.0.1", self.public, timeout=20)
        super().start()
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.connection.close()
        return super().stop(number)

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        given = {"Content-Type": "application/json", **(headers or {})}
        self.connection.request("POST", path, body, given)
        if self.is_to_die:
            # Without an answer a sender cannot know whether it was kept, and sends again.
            self.is_to_die = False
            self.stop(signal.SIGKILL)
            self.start()
            self.connection.request("POST", path, body, given)
        return Answer(self.connection.getresponse())

    def deliver(self, deliveries: Iterable[Delivery]) -> Counter[str]:
        """Sends them in this order; how many had which outcome."""
        # An idle connection may have been closed at the other end.
        self.connection.close()
        outcomes: Counter[str] = Counter()
        for one in deliveries:
            match one.source:
                case "github":
                    answer = self.github(one.event, one.payload, one.id)
                case "gitlab":
                    answer = self.gitlab(one.payload, one.id)
                case "jira":
                    answer = self.jira(one.payload, one.id)
                case _:
                    answer = self.pelorus(one.event, one.payload)
            assert answer.status in (200, 202), (one, answer)
            outcomes[answer.json()["outcome"] if one.source != "pelorus" else "pelorus"] += 1
        return outcomes


@contextmanager
def serving(folder: Path) -> Iterator[KeptAlive]:
    (folder / "apps.yaml").write_text(APPS_TABLE)
    gateway = KeptAlive(
        folder,
        *("--mappings", "apps.yaml"),
        *("--window", str(WINDOW), "--scrape-interval", "2"),
    )
    try:
        yield gateway.start()
    finally:
        if gateway.process is not None:
            gateway.stop(signal.SIGKILL)


def recorded(prometheus: Prometheus) -> dict[str, FourKeys]:
    """What our rules say of each app; not a number where they say nothing."""
    answers = {key: prometheus.query(rule) for key, rule in RULES.items()}
    apps = answers["deployments"]
    return {
        app.strip("/"): FourKeys(**{key: answers[key].get(app, math.nan) for key in RULES})  # type: ignore[arg-type]  # Counts are whole floats.
        for app in apps
    }


def differences(prometheus: Prometheus, expected: Mapping[str, FourKeys]) -> list[str]:
    """Where Prometheus says something else; it is read to the microsecond."""
    found = recorded(prometheus)
    return [
        f"{app}: {key} is {getattr(found.get(app), key, None)}, expected {value}"
        for app, keys in expected.items()
        for key, value in asdict(keys).items()
        if getattr(found.get(app), key, None) != pytest.approx(value, rel=0, abs=2e-6)
    ] + [f"{app} is no app" for app in found.keys() - expected.keys()]


def settled(
    prometheus: Prometheus, expected: Mapping[str, FourKeys], seconds: float = 30
) -> list[str]:
    """The differences that are left after a while, if any."""
    deadline = time.monotonic() + seconds
    while (left := differences(prometheus, expected)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def test_a_month_of_an_organisation(tmp_path: Path) -> None:
    """Most of the month is received while no Prometheus runs, over a restart and a kill -9, and is
    back-filled; the rest is scraped, and completes, corrects and repeats what was before it."""
    promtool = require_program("promtool")
    require_program("prometheus")
    organisation = Organisation(int(time.time()), seed=4)
    deliveries = organisation.deliveries()
    expected = {app.name: four_keys(app) for app in organisation.apps}
    assert len(deliveries) >= 2_000
    third, most = len(deliveries) // 3, len(deliveries) * 9 // 10
    with serving(tmp_path) as gateway:
        outcomes = gateway.deliver(deliveries[:third])
        gateway.is_to_die = True
        outcomes += gateway.deliver(deliveries[third : 2 * third])
        gateway.stop()
        gateway.start()
        outcomes += gateway.deliver(deliveries[2 * third : most])

        # What Prometheus is not shown any more when it starts, it gets as blocks.
        eventually(lambda: not gateway.samples(), timeout=WINDOW + 20)
        labels = ("--label", "job=gateway", "--label", f"instance=127.0.0.1:{gateway.internal}")
        done = run_process(
            *("export", "--output", "month.om", "--mappings", "apps.yaml", *labels), cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        # promtool reads the file once for each block: a few large ones are made the faster.
        command = ["tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=720h"]
        subprocess.run(
            [promtool, *command, "month.om", "tsdb"],
            cwd=tmp_path,
            check=True,
            timeout=120,
            capture_output=True,
        )
        retention = "--storage.tsdb.retention.time=1y"
        with scraping(tmp_path, gateway.internal, retention, rules=OUR_RULES) as prometheus:
            outcomes += gateway.deliver(deliveries[most:])
            assert settled(prometheus, expected) == []
            again = gateway.deliver(deliveries[most:])
            assert set(again) <= {"duplicate", "ignored", "pelorus"}
            prometheus.let_scrape()
            assert differences(prometheus, expected) == []
            assert prometheus.unhealthy_rules() == []
            assert prometheus.trouble() == []
            assert_counted(gateway, organisation, expected)
    assert outcomes["duplicate"] >= len(deliveries) / 40
    assert outcomes["dead_lettered"] == 0


def assert_counted(
    gateway: Gateway, organisation: Organisation, expected: Mapping[str, FourKeys]
) -> None:
    """The gateway's own metrics say what could not be right."""
    apps = len(organisation.apps)
    for reason in ("future", "deployed_before_commit", "resolved_before_created"):
        assert gateway.counter(f'gateway_suspect_events{{reason="{reason}"}}') == apps
    assert gateway.counter("gateway_conflicting_commits") == organisation.late_claims > 0
    for name, keys in expected.items():
        joined = gateway.counter(f'gateway_deployments{{app="/{name}/",joined="true"}}')
        assert joined == keys.joined
