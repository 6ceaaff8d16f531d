"""What no answer tells, and to whom none is made."""

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.app.problems import problem_response
from tests import samples
from tests.harness import GITHUB_SECRET as SECRET
from tests.harness import Gateway, hub_signature, request, running

SCRIPT = '"><script>alert(1)</script>'
ORIGIN = {"Origin": "https://attacker.example"}


def test_no_answer_is_for_a_browser(shared_gateway: Gateway) -> None:
    """No HTML, no cookie, no leave for other origins, on either listener, though markup is in the payload.
    Rows 50 and 51 of the table in docs/explanation/security.md."""
    payload = samples.github_push(SCRIPT, samples.SHA, 1_790_000_000)
    payload["ref"] = SCRIPT
    body = json.dumps(payload).encode()
    proof = {"X-Hub-Signature-256": hub_signature(body, SECRET), "X-GitHub-Event": "push"}
    answers = [
        request(port, method, path, body, {**origin, **proof, "Accept": accept})
        for origin in ({}, ORIGIN)
        for port in (shared_gateway.public, shared_gateway.internal)
        for method in ("GET", "POST", "OPTIONS")
        for path in (
            "/hooks/github",
            f"/hooks/{SCRIPT.replace(' ', '')}",
            "/metrics",
            "/try/github",
            "/-/ready",
        )
        for accept in ("text/html", "text/plain", "*/*")
    ]
    for answer in answers:
        assert "html" not in answer.headers.get("content-type", ""), answer
        assert not [
            name
            for name in answer.headers
            if name.startswith("access-control-") or "cookie" in name
        ]
    explained = [one for one in answers if one.status == 200 and b"alert(1)" in one.body]
    assert {one.headers["content-type"].partition(";")[0] for one in explained} == {
        "application/json",
        "text/plain",
    }
    assert all(one.headers["x-content-type-options"] == "nosniff" for one in explained)


FORBIDDEN = {
    "another origin": ("GET", "127.0.0.1", ORIGIN),
    "an origin that is hidden": ("GET", "127.0.0.1", {"Origin": "null"}),
    "another port of this host": ("POST", "127.0.0.1:18081", {"Origin": "http://127.0.0.1:3000"}),
    "a form of another site": ("POST", "127.0.0.1", {"Sec-Fetch-Site": "cross-site"}),
    "a form of another host of the site": ("POST", "localhost", {"Sec-Fetch-Site": "same-site"}),
    "a name that resolves to this machine": ("GET", "evil.example:18081", {}),
    "that name, and its own origin": (
        "POST",
        "evil.example:18081",
        {"Origin": "http://evil.example:18081", "Sec-Fetch-Site": "same-origin"},
    ),
    "a name that begins like another": ("GET", "localhost.evil.example", {}),
    "a name that begins like an address": ("GET", "127.0.0.1.evil.example:18081", {}),
}
ALLOWED = {
    "an address": ("127.0.0.1:18081", {}),
    "an address of another kind": ("[::1]:18081", {}),
    "an address without a port": ("[::1]", {}),
    "localhost": ("localhost:18081", {}),
    "localhost without a port": ("LOCALHOST", {}),
    "what a person enters": ("localhost:18081", {"Sec-Fetch-Site": "none"}),
    "its own origin": ("localhost:1", {"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-origin"}),
    "its own origin behind TLS": ("localhost:1", {"Origin": "https://localhost:1"}),
}  # fmt: skip
ASKED = {
    "GET": ("/metrics", "/-/ready", "/nowhere"),
    "POST": ("/-/reload", "/-/replay", "/try/github"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_page_of_another_site_asks_the_internal_listener_nothing(
    shared_gateway: Gateway, name: str
) -> None:
    """403, and counted, whatever its host's name resolves to. Row 50."""
    method, host, headers = FORBIDDEN[name]
    series = 'gateway_refused_total{reason="browser",source=""}'
    before = shared_gateway.counter(series)
    for path in ASKED[method]:
        answer = request(shared_gateway.internal, method, path, b"{}", {"Host": host, **headers})
        assert (answer.status, answer.headers["connection"]) == (403, "close")
        assert answer.headers["content-type"] == "application/problem+json"
    assert shared_gateway.counter(series) == before + len(ASKED[method])


@pytest.mark.parametrize("name", ALLOWED)
def test_programs_of_the_machine_ask_the_internal_listener(
    shared_gateway: Gateway, name: str
) -> None:
    """By any address, and by the one name that is always this machine."""
    host, headers = ALLOWED[name]
    for method, path in (("GET", "/metrics"), ("POST", "/-/reload"), ("POST", "/try/github")):
        answer = request(shared_gateway.internal, method, path, b"{}", {"Host": host, **headers})
        assert answer.status == 200


def test_where_other_machines_ask_any_name_is_taken(tmp_path: Path) -> None:
    """Prometheus knows the listener by the name of a service; a page is told by its origin alone."""
    with running(tmp_path) as gateway:
        gateway.stop()
        gateway.arguments = ("--internal-listen", f"0.0.0.0:{gateway.internal}")
        gateway.start()
        named = {"Host": "gateway-internal.pelorus.svc:8081"}
        assert gateway.get("/metrics", named).status == 200
        assert gateway.get("/metrics", {**named, **ORIGIN}).status == 403


def test_a_bug_tells_its_sender_nothing() -> None:
    """A status and its phrase; what went wrong is in the log alone. Row 53."""
    response = problem_response(cast("Any", None), KeyError("/run/secrets/token"))
    assert response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert json.loads(response.content) == {"title": "Internal Server Error", "status": 500}
