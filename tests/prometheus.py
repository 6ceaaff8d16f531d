"""A real Prometheus that scrapes a gateway, with recording rules equivalent to Pelorus's."""

import contextlib
import json
import signal
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.harness import eventually, free_port, request, require_program

SCRAPE_SECONDS = 1

# Written from what Pelorus's rules compute: lead time joins on the app and the image and carries the
# commit's labels over; time to restore looks five years back for the creation.
RULES = """
groups:
  - name: pelorus-equivalents
    interval: 1s
    rules:
      - record: lead_time:by_commit
        expr: |
          min by (app, commit, commit_link, image_sha) (
            deploy_timestamp - on (app, image_sha) group_left (commit, commit_link) commit_timestamp
          )
      - record: lead_time:by_app
        expr: avg by (app) (lead_time:by_commit)
      - record: lead_time:global
        expr: avg(lead_time:by_commit)
      - record: time_to_restore:by_issue
        expr: |
          failure_resolution_timestamp
            - on (app, issue_number)
          max by (app, issue_number) (max_over_time(failure_creation_timestamp{app!="unknown"}[5y]))
      - record: time_to_restore:by_app
        expr: avg by (app) (time_to_restore:by_issue)
      - record: change_failure_rate:by_app
        expr: |
          count by (app) (failure_creation_timestamp) / count by (app) (lead_time:by_commit)
"""
CONFIG = """
global: {{scrape_interval: {seconds}s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: gateway
    static_configs:
      - targets: ['127.0.0.1:{port}']
"""
TROUBLE = ("out-of-order", "out of order", "duplicate", "too old", "out of bounds", "failed")


class Prometheus:
    """The process and its query API."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log

    def query(self, expression: str) -> dict[str, float]:
        """An instant query: `app` (or the empty string) to value."""
        text = urllib.parse.urlencode({"query": expression})
        answer = request(self.port, "GET", f"/api/v1/query?{text}").json()
        assert answer["status"] == "success", answer
        return {
            one["metric"].get("app", ""): round(float(one["value"][1]), 6)
            for one in answer["data"]["result"]
        }

    def unhealthy_rules(self) -> list[str]:
        """The rules that failed when they were last evaluated, with their errors."""
        groups: list[Any] = request(self.port, "GET", "/api/v1/rules").json()["data"]["groups"]
        return [
            f"{rule['name']}: {rule.get('lastError')}"
            for group in groups
            for rule in group["rules"]
            if rule["health"] != "ok"
        ]

    def trouble(self) -> list[str]:
        """What its log says about samples that it did not take."""
        return [
            line
            for line in self._log.read_text().splitlines()
            if "level=info" not in line and any(word in line.lower() for word in TROUBLE)
        ]


@contextlib.contextmanager
def scraping(folder: Path, target: int) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the port every second, for the length of a block."""
    program = require_program("prometheus")
    rules, config, log = folder / "rules.yml", folder / "prometheus.yml", folder / "prometheus.log"
    rules.write_text(RULES)
    config.write_text(
        CONFIG.format(seconds=SCRAPE_SECONDS, rules=json.dumps(str(rules)), port=target)
    )
    port = free_port()
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: _is_ready(port))
        prometheus = Prometheus(port, log)
        # The first scrape comes some seconds after the start.
        eventually(lambda: prometheus.query("up == 1"), timeout=30)
        yield prometheus
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError):
        return request(port, "GET", "/-/ready").status == 200
    return False
