"""Real payloads of every bundled source, posted to a running gateway as their vendors would."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import (
    GITHUB_SECRET,
    GITLAB_SECRET,
    JIRA_SECRET,
    PELORUS_SECRET,
    Answer,
    Gateway,
    hub_signature,
    require_corpus,
    require_program,
)

SOURCES = ("github", "gitlab", "jira", "pelorus")

UNMAPPABLE: dict[str, str] = {}
"""Payloads that are refused or become dead letters, each with the reason why that is right."""

YIELDING = {
    "github/deployment_status.success.json": ["deploytime"],
    "github/issues.labeled-bug.json": ["failure created"],
    "github/issues.opened-bug.json": ["failure created"],
    "github/package.published-docker.json": ["build"],
    "github/push.argocd-master.json": ["committime"],
    "github/push.form-encoded.body": ["committime"],
    "github/push.new-branch-one-commit.json": ["committime"],
    "github/push.no-username-committer.json": ["committime"],
    "github/push.simple.json": ["committime"],
    "github/registry_package.published-docker.json": ["build"],
    "gitlab/merge_request.merge.json": ["committime"],
    "gitlab/push.branch-create.json": ["committime"],
    "gitlab/push.simple.json": ["committime"],
    "gitlab/push.two-of-four.json": ["committime", "committime"],
    "gitlab/system.push.json": ["committime"],
    "jira/issue_updated.server-closed.json": ["failure resolved"],
    "pelorus/committime.json": ["committime"],
    "pelorus/deploytime.json": ["deploytime"],
    "pelorus/failure.created.json": ["failure created"],
}
"""The payloads that mean something, with their events; every other one must be ignored."""


class Payload:
    """One payload of the corpus: its bytes, and the headers that the vendor sends with them."""

    def __init__(self, meta_path: Path) -> None:
        meta = json.loads(meta_path.read_text())
        beside = meta_path.name.replace(".meta.json", ".json")
        path = meta_path.with_name(meta.get("body_file") or beside)
        self.source = path.parent.name
        self.name = f"{self.source}/{path.name}"
        self.body = path.read_bytes()
        self.headers = {**meta["headers"], **self._own_headers()}

    def _own_headers(self) -> dict[str, str]:
        """A delivery id of its own, because the corpus repeats them, and a signature that holds."""
        match self.source:
            case "github":
                signature = hub_signature(self.body, GITHUB_SECRET)
                return {"X-GitHub-Delivery": self.name, "X-Hub-Signature-256": signature}
            case "gitlab":
                return {"Idempotency-Key": self.name, "X-Gitlab-Token": GITLAB_SECRET}
            case "jira":
                return {
                    "X-Atlassian-Webhook-Identifier": self.name,
                    "X-Hub-Signature": hub_signature(self.body, JIRA_SECRET),
                }
        return {"X-Hub-Signature-256": hub_signature(self.body, PELORUS_SECRET)}


def payloads(source: str) -> Iterator[Payload]:
    for path in sorted((require_corpus() / source).glob("*.meta.json")):
        yield Payload(path)


@pytest.fixture(scope="module")
def answers(shared_gateway: Gateway) -> dict[str, Answer]:
    """What the gateway answers to every payload."""
    return {
        payload.name: shared_gateway.post(f"/hooks/{source}", payload.body, payload.headers)
        for source in SOURCES
        for payload in payloads(source)
    }


@pytest.mark.parametrize("source", SOURCES)
def test_the_corpus_has_payloads_of_every_source(answers: dict[str, Answer], source: str) -> None:
    assert any(name.startswith(f"{source}/") for name in answers)


def test_every_payload_is_taken(answers: dict[str, Answer]) -> None:
    expected = {"accepted", "ignored", "duplicate"}
    refused = {
        name: answer
        for name, answer in answers.items()
        if answer.status != 202 or answer.json()["outcome"] not in expected
    }
    assert refused.keys() == UNMAPPABLE.keys(), refused


def test_payloads_yield_the_events_that_they_mean(answers: dict[str, Answer]) -> None:
    found = {name: _kinds(answer) for name, answer in answers.items()}
    assert {name: kinds for name, kinds in found.items() if kinds} == YIELDING


def _kinds(answer: Answer) -> list[str]:
    return [
        " ".join(filter(None, (event["kind"], event.get("event"))))
        for event in answer.json()["events"]
    ]


def test_an_answer_names_the_delivery_as_its_vendor_does(answers: dict[str, Answer]) -> None:
    named = {name: answer for name, answer in answers.items() if not name.startswith("pelorus/")}
    assert {name: answer.json()["delivery"] for name, answer in named.items()} == {
        name: name for name in named
    }


def test_the_route_of_pelorus_takes_its_payloads(
    shared_gateway: Gateway, answers: dict[str, Answer]
) -> None:
    for payload in payloads("pelorus"):
        answer = shared_gateway.post("/pelorus/webhook", payload.body, payload.headers)
        assert answer.status == 202, payload.name
        assert answer.json() == {
            "http_response": "Webhook Received",
            "http_response_code": 200,
        }


def test_the_scrape_shows_every_metric(shared_gateway: Gateway, answers: dict[str, Answer]) -> None:
    shown = {series.partition("{")[0] for series in shared_gateway.samples()}
    assert shown >= {
        "commit_timestamp",
        "deploy_timestamp",
        "failure_creation_timestamp",
        "failure_resolution_timestamp",
    }


def test_the_scrape_is_prometheus_text(shared_gateway: Gateway, answers: dict[str, Answer]) -> None:
    promtool = require_program("promtool")
    scrape = shared_gateway.get("/metrics").body
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=scrape, capture_output=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stderr.decode()


def test_the_scrape_in_openmetrics_has_its_end(
    shared_gateway: Gateway, answers: dict[str, Answer]
) -> None:
    answer = shared_gateway.get("/metrics", {"Accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"\n# EOF\n")
