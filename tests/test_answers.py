"""What no answer tells, and to whom none is made."""

import json
from http import HTTPStatus
from typing import Any, cast

from gateway.app.problems import problem_response
from tests import samples
from tests.harness import GITHUB_SECRET as SECRET
from tests.harness import Gateway, hub_signature, request

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
        request(port, method, path, body, {**ORIGIN, **proof, "Accept": accept})
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


def test_a_bug_tells_its_sender_nothing() -> None:
    """A status and its phrase; what went wrong is in the log alone. Row 53."""
    response = problem_response(cast("Any", None), KeyError("/run/secrets/token"))
    assert response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert json.loads(response.content) == {"title": "Internal Server Error", "status": 500}
