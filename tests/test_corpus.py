"""Real payloads of every bundled source: what each means, and that a running gateway takes it."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.authentication import Authentication, Basic, Shared, authentication
from gateway.delivery import Accepted, Delivery, Ignored
from gateway.mapping import library
from gateway.mapping.compiler import CompiledMapping, compile_files
from gateway.plan import Plan
from tests.harness import (
    CORPUS,
    PELORUS_SECRET,
    Answer,
    Gateway,
    hub_signature,
    require_corpus,
    require_program,
    running,
)

EXPECTED = Path(__file__).parent / "corpus.json"
"""What each payload that is accepted means, event by event; every other one is ignored."""

FOLDERS = {"bitbucket-cloud": "bitbucket", "harness-cd": "harness"}
"""The source of a folder that is not called by it."""

WITHOUT_SOURCE = {
    "appveyor": "no bundled source",
    "honeycomb": "no bundled source",
}
SECRET = b"a test secret for every source"
RECEIVED = 1_790_000_000.0


class Payload:
    """One payload of the corpus: its bytes, and the headers that the vendor sends with them."""

    def __init__(self, meta_path: Path) -> None:
        meta = json.loads(meta_path.read_text())
        beside = meta_path.name.replace(".meta.json", ".json")
        path = meta_path.with_name(meta.get("body_file") or beside)
        self.source = FOLDERS.get(path.parent.name, path.parent.name)
        self.name = f"{path.parent.name}/{path.name}"
        self.body = path.read_bytes()
        # What a user chooses is named in angle brackets, and an ellipsis stands where a value was cut.
        self.headers = {
            name: text.replace("…", "...")
            for name, text in meta["headers"].items()
            if re.fullmatch(r"[A-Za-z0-9-]+", name)
        }
        if "content-type" not in {name.lower() for name in self.headers}:
            self.headers = {"Content-Type": "application/json", **self.headers}
        if "form_variant" in meta:
            # The corpus holds the fields of the form.
            self.body = urlencode(json.loads(self.body)).encode()

    def signed(self, checked: Authentication, now: float) -> dict[str, str]:
        """The headers with a proof that holds in place of the vendor's own."""
        proof = checked.sign(self.body, now)
        replaced = {name.lower() for name in proof} | checked.headers
        kept = {name: text for name, text in self.headers.items() if name.lower() not in replaced}
        return {**kept, **proof}


def payloads() -> Iterator[Payload]:
    folder = CORPUS
    for path in sorted(folder.glob("*/*.meta.json")):
        if path.parent.name not in WITHOUT_SOURCE:
            yield Payload(path)


PAYLOADS = list(payloads()) if CORPUS.is_dir() else []


@cache
def mappings() -> dict[str, CompiledMapping]:
    compilation = compile_files(library.bundled_files())
    assert not compilation.diagnostics
    return dict(compilation.mappings)


def means(plan: Plan, payload: Payload) -> list[dict[str, Any]] | str:
    """The events of a payload, or what else becomes of it."""
    delivery = Delivery(
        source=plan.source,
        headers={name.lower(): text for name, text in payload.headers.items()},
        query={},
        body=payload.body,
        received_at=RECEIVED,
    )
    match plan.read(delivery).outcome:
        case Accepted(events):
            return [{"kind": one.kind, **one.fields} for one in events]
        case Ignored():
            return []
        case other:
            return repr(other)


def test_every_payload_means_what_a_person_found_it_to_mean() -> None:
    require_corpus()
    found = {one.name: means(mappings()[one.source].plan, one) for one in PAYLOADS}
    accepted = {name: events for name, events in found.items() if events}
    if os.environ.get("UPDATE_GOLDEN"):
        EXPECTED.write_text(json.dumps(accepted, indent=1, ensure_ascii=False) + "\n")
    assert accepted == json.loads(EXPECTED.read_text())


def test_every_folder_of_the_corpus_has_a_source() -> None:
    folders = {path.name for path in require_corpus().iterdir() if path.is_dir()}
    sources = {FOLDERS.get(name, name) for name in folders - WITHOUT_SOURCE.keys()}
    assert sources <= mappings().keys()
    assert folders >= WITHOUT_SOURCE.keys()


def scheme_of(source: str) -> Shared:
    """How a bundled source authenticates: all by a secret that is shared."""
    scheme = mappings()[source].scheme
    assert isinstance(scheme, Shared), source
    return scheme


def environment() -> dict[str, str]:
    """A secret, and a user name where one is wanted, for every source."""
    found: dict[str, str] = {}
    for mapping in mappings().values():
        scheme = scheme_of(mapping.plan.source)
        secrets = scheme.secret if isinstance(scheme.secret, list) else [scheme.secret]
        found |= {one.env: SECRET.decode() for one in secrets if one.env}
        if isinstance(scheme, Basic):
            found[scheme.username.env] = "user"
    return found | {"PELORUS_WEBHOOK_SECRET": PELORUS_SECRET}


def checked(source: str) -> Authentication:
    key = PELORUS_SECRET.encode() if source == "pelorus" else SECRET
    return authentication(scheme_of(source), (key,), b"user")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that serves every source."""
    require_corpus()
    with running(tmp_path_factory.mktemp("corpus"), environment=environment()) as found:
        yield found


def post(gateway: Gateway, payload: Payload) -> Answer:
    proof = checked(payload.source)
    query = urlencode(proof.parameters)
    path = f"/hooks/{payload.source}{'?' * bool(query)}{query}"
    return gateway.post(path, payload.body, payload.signed(proof, time.time()))


@pytest.fixture(scope="module")
def answers(gateway: Gateway) -> dict[str, Answer]:
    """What the gateway answers to every payload."""
    return {payload.name: post(gateway, payload) for payload in PAYLOADS}


def test_every_payload_is_taken(answers: dict[str, Answer]) -> None:
    """None is refused, and none is a dead letter; the corpus repeats ids, so some are duplicates."""
    expected = {"accepted", "ignored", "duplicate"}
    wrong = {
        name: answer
        for name, answer in answers.items()
        if answer.status != 202 or answer.json()["outcome"] not in expected
    }
    # The host that it names to be visited does not answer here.
    confirmation = wrong.pop("aws-sns/SubscriptionConfirmation.json", None)
    assert confirmation is None or confirmation.status == 502
    assert not wrong


@pytest.mark.parametrize(
    "source", sorted(path.stem for path in library.yaml_files(library.bundled("mappings")))
)
def test_a_payload_without_its_proof_is_refused(gateway: Gateway, source: str) -> None:
    """Missing, and made with another secret. Row 1 of the table in docs/explanation/security.md."""
    proof = authentication(scheme_of(source), (b"another secret than that",), b"user")
    query = urlencode(proof.parameters)
    assert gateway.post(f"/hooks/{source}", b"{}").status == 401
    forged = proof.sign(b"{}", time.time())
    assert gateway.post(f"/hooks/{source}?{query}", b"{}", forged).status == 401


@pytest.mark.parametrize(
    "source", sorted(path.stem for path in library.yaml_files(library.bundled("mappings")))
)
def test_a_secret_of_before_fits_while_secrets_rotate(source: str) -> None:
    """Both the new one and the old one; none that is neither. Row 12 of the table in
    docs/explanation/security.md."""
    scheme = scheme_of(source)
    old, new, other = (
        f"{word} secret of the source".encode() for word in ("the old", "a new", "an")
    )
    rotating = authentication(scheme, (new, old), b"user")
    for key, fits in ((new, True), (old, True), (other, False)):
        sender = authentication(scheme, (key,), b"user")
        headers = [
            (name.lower().encode(), text.encode())
            for name, text in sender.sign(b"{}", RECEIVED).items()
        ]
        query = urlencode(sender.parameters).encode()
        assert rotating.verify(headers, b"{}", RECEIVED, query) is fits


def test_the_route_of_pelorus_takes_its_payloads(gateway: Gateway) -> None:
    for payload in PAYLOADS:
        if payload.source == "pelorus":
            signature = hub_signature(payload.body, PELORUS_SECRET)
            headers = {**payload.headers, "X-Hub-Signature-256": signature}
            answer = gateway.post("/pelorus/webhook", payload.body, headers)
            assert answer.status == 202, payload.name
            assert answer.json() == {
                "http_response": "Webhook Received",
                "http_response_code": 200,
            }


def test_the_scrape_shows_every_metric(gateway: Gateway, answers: dict[str, Answer]) -> None:
    shown = {series.partition("{")[0] for series in gateway.samples()}
    assert shown >= {
        "commit_timestamp",
        "deploy_timestamp",
        "failure_creation_timestamp",
        "failure_resolution_timestamp",
    }


def test_the_scrape_is_prometheus_text(gateway: Gateway, answers: dict[str, Answer]) -> None:
    promtool = require_program("promtool")
    scrape = gateway.get("/metrics").body
    done = subprocess.run(
        [promtool, "check", "metrics"], input=scrape, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_the_scrape_in_openmetrics_has_its_end(
    gateway: Gateway, answers: dict[str, Answer]
) -> None:
    answer = gateway.get("/metrics", {"Accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"\n# EOF\n")
