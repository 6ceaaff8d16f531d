"""Handshakes: what a sender wants to be answered, or to have visited, before it sends."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.delivery import DeadLetter, Delivery, Greeting, Ignored
from gateway.mapping import library
from gateway.mapping.compiler import SourceFile, compile_files
from gateway.plan import Plan
from tests.harness import Gateway, run_cli, running

MAPPING = """\
source: shop
authenticate: {scheme: token, header: X-Token, secret: {env: SHOP_SECRET}}
media_types: [text/plain]
handshakes:
  - when: body.type == 'challenge'
    answer: body.challenge
  - when: body.type == 'echo'
    answer: "{echo: body.value}"
  - when: body.type == 'confirm'
    visit: body.url
    hosts: [confirm.*.example.com]
rules:
  - name: a deployment
    when: body.type == 'deployed'
    emit: deploytime
    fields: {app: body.app, commit: body.sha, timestamp: received_at}
"""


@pytest.fixture(scope="module")
def plan() -> Plan:
    files = [*library.bundled_files(()), SourceFile("shop.yaml", MAPPING, 1)]
    compilation = compile_files(files)
    assert not compilation.diagnostics
    return compilation.mappings["shop"].plan


def _reading(plan: Plan, body: bytes) -> Any:
    return plan.read(Delivery(source="shop", headers={}, query={}, body=body, received_at=1.8e9))


def test_a_handshake_is_asked_of_no_rule(plan: Plan) -> None:
    reading = _reading(plan, b'{"type": "challenge", "challenge": "c3"}')
    assert reading.greeting == Greeting(answer="c3")
    assert reading.outcome == Ignored()
    deployed = _reading(plan, b'{"type": "deployed", "app": "shop", "sha": "0ddba11c0ffee"}')
    assert deployed.greeting is None
    assert len(deployed.outcome.events) == 1


@pytest.mark.parametrize(
    ("url", "is_visited"),
    [
        ("https://confirm.eu-1.example.com/?Token=2&Action=x", True),
        ("https://confirm.eu-1.example.com:443/", True),
        ("https://CONFIRM.eu.example.com/", True),
        ("http://confirm.eu-1.example.com/", False),
        ("https://confirm.eu-1.example.com:8443/", False),
        ("https://confirm.eu.west.example.com/", False),
        ("https://confirm.eu-1.example.com.evil.example/", False),
        ("https://confirm.eu-1.example.com@evil.example/", False),
        ("https://user@confirm.eu-1.example.com/", False),
        ("https://evil.example/confirm.eu-1.example.com", False),
        ("https://evil.example\\\\@confirm.eu-1.example.com/", False),
        ("https://127.0.0.1/", False),
        ("https://[::1]/", False),
        ("https://confirm.eu-1.example.com:x/", False),
        ("file:///etc/passwd", False),
        ("", False),
        (None, False),
    ],
)
def test_only_the_hosts_of_the_mapping_are_visited(plan: Plan, url: Any, is_visited: bool) -> None:
    """Over HTTPS, on its usual port, and whatever the URL pretends."""

    reading = _reading(plan, json.dumps({"type": "confirm", "url": url}).encode())
    if is_visited:
        assert reading.greeting == Greeting(visit=url)
    else:
        assert reading.greeting is None
        assert isinstance(reading.outcome, DeadLetter)


def _post(gateway: Gateway, body: bytes, kind: str = "text/plain; charset=UTF-8") -> Any:
    headers = {"X-Token": "a secret of the shop", "Content-Type": kind}
    return gateway.post("/hooks/shop", body, headers)


def test_a_running_gateway_answers_a_challenge(tmp_path: Path) -> None:
    """In the words that the sender waits for, whatever content type it claims; kept as ignored."""
    (tmp_path / "shop.yaml").write_text(MAPPING)
    environment = {"SHOP_SECRET": "a secret of the shop"}
    with running(tmp_path, "--mappings", "shop.yaml", environment=environment) as gateway:
        answer = _post(gateway, b'{"type": "challenge", "challenge": "c3"}')
        assert (answer.status, answer.body) == (200, b"c3")
        assert answer.headers["content-type"].startswith("text/plain")
        answer = _post(gateway, b'{"type": "echo", "value": [1]}', "application/json")
        assert (answer.status, answer.json()) == (200, {"echo": [1]})
        # The host does not exist, so the sender is asked to try again.
        confirm = b'{"type": "confirm", "url": "https://confirm.nowhere.example.com/"}'
        assert _post(gateway, confirm).status == 502
        assert _post(gateway, b"{}", "text/html").status == 415
        wrong = gateway.post("/hooks/shop", b'{"type": "challenge"}', {"X-Token": "wrong"})
        assert wrong.status == 401
        listed = run_cli("deliveries", cwd=tmp_path).stdout
        assert listed.count("ignored") == 3


def test_try_tells_of_a_handshake(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(MAPPING)
    payload = '{"type": "challenge", "challenge": "c3"}'
    run = run_cli("try", "shop", "-", "--mappings", "shop.yaml", cwd=tmp_path, stdin=payload)
    assert 'handshake       answered with "c3"' in run.stdout
