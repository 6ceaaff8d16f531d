"""A real Prometheus that scrapes a gateway and evaluates rules that we ship, every second."""

import contextlib
import json
import re
import signal
import subprocess
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.harness import ROOT, eventually, free_port, request, require_program

SCRAPE_SECONDS = 1

RULES = ROOT / "docs/prometheus"
PELORUS_RULES = ("pelorus-rules.yaml",)
OUR_RULES = ("recording-rules.yaml", "alerts.yaml")
CONFIG = """
global: {{scrape_interval: {seconds}s, evaluation_interval: 1s}}
rule_files: {rules}
scrape_configs:
"""
JOB = """
  - job_name: {name}
    metrics_path: {path}
    static_configs:
      - targets: ['127.0.0.1:{port}']
    {more}
"""
TROUBLE = ("out-of-order", "out of order", "duplicate", "too old", "out of bounds", "failed")


class Prometheus:
    """The process and its query API."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log

    def query(self, expression: str) -> dict[str, float]:
        """An instant query: `app` (or the empty string) to value."""
        return {
            one["metric"].get("app", ""): round(float(one["value"][1]), 6)
            for one in self.vector(expression)
        }

    def vector(self, expression: str) -> list[Any]:
        """What an instant query gives: `metric` (labels) and `value` of each series."""
        text = urllib.parse.urlencode({"query": expression})
        answer = request(self.port, "GET", f"/api/v1/query?{text}").json()
        assert answer["status"] == "success", answer
        result: list[Any] = answer["data"]["result"]
        return result

    def names(self) -> set[str]:
        """The metrics that it has."""
        answer = request(self.port, "GET", "/api/v1/label/__name__/values").json()
        return set(answer["data"])

    def let_scrape(self) -> None:
        """Waits until three more scrapes have succeeded."""

        def scrapes() -> float:
            return max(self.query("count_over_time(up[1h])").values())

        until = scrapes() + 3
        eventually(lambda: scrapes() >= until, every=0.5)

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
def scraping(
    folder: Path,
    target: int,
    *arguments: str,
    rules: Sequence[str] = PELORUS_RULES,
    jobs: Sequence[str] = ("gateway",),
    path: str = "/metrics",
    more: str = "",
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the port every second, in each of the jobs, for the length of a
    block; `path` is what it asks for, and `more` another setting of each job. The rules are those of
    these files, ours by their names and others by their paths, evaluated every second whatever they
    say."""
    program = require_program("prometheus")
    config, log = folder / "prometheus.yml", folder / "prometheus.log"
    files = [folder / Path(name).name for name in rules]
    for name, file in zip(rules, files, strict=True):
        text = (RULES / name).read_text()
        file.write_text(re.sub(r"interval: \w+", "interval: 1s", text))
    config.write_text(
        CONFIG.format(seconds=SCRAPE_SECONDS, rules=json.dumps([str(file) for file in files]))
        + "".join(JOB.format(name=name, port=target, path=path, more=more) for name in jobs)
    )
    port = free_port()
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                *arguments,
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: _is_ready(port))
        prometheus = Prometheus(port, log)
        # The first scrape comes some seconds after the start.
        eventually(lambda: prometheus.query("up == 1"))
        yield prometheus
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError):
        return request(port, "GET", "/-/ready").status == 200
    return False
