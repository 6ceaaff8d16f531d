"""The public listener over real sockets: every row of the HTTP contract, and bad input of every kind."""

import contextlib
import gzip
import json
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests import samples
from tests.harness import (
    GITHUB_SECRET,
    GITLAB_SECRET,
    Answer,
    Gateway,
    eventually,
    hub_signature,
    request,
    running,
)

NOW = 1_790_000_000


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with small limits, and sources of its own."""
    folder = tmp_path_factory.mktemp("strict")
    (folder / "pipeline.yaml").write_text(
        "source: pipeline\n"
        "authenticate: {scheme: token, header: X-Token, secret: {env: PIPELINE_SECRET}}\n"
        'delivery_id: headers."x-id"\n'
        "on_invalid: reject\n"
        "rules:\n"
        "  - name: a deployment\n"
        "    emit: deploytime\n"
        "    fields: {app: body.app, commit: body.commit, timestamp: received_at}\n"
    )
    (folder / "open.yaml").write_text(
        "source: open\nauthenticate: none\nrules:\n"
        "  - {name: a deployment, emit: deploytime, when: body.app,\n"
        "     fields: {app: body.app, commit: body.commit, timestamp: body.at}}\n"
    )
    limits = ("--body-timeout", "1", "--max-body", "0.1", "--max-in-flight", "1")
    arguments = ("--mappings", str(folder), *limits)
    secrets = {"GITHUB_WEBHOOK_SECRET": GITHUB_SECRET, "PIPELINE_SECRET": "a pipeline's secret"}
    with running(folder, *arguments, environment=secrets) as gateway:
        yield gateway


def _works(gateway: Gateway) -> None:
    """The next delivery is taken: nothing that came before has harmed the gateway."""
    answer = gateway.github("ping", {"zen": "Keep it simple."})
    assert (answer.status, answer.json()["outcome"]) == (202, "ignored")


def _problem(answer: Answer, status: int) -> dict[str, object]:
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = answer.json()
    assert document["status"] == status
    assert document["title"]
    return document


# What is taken


def test_a_mapped_delivery_is_accepted_with_its_events(shared_gateway: Gateway) -> None:
    """202, and the JSON of the answer is the contract's."""
    payload = samples.github_push("octo/hello", samples.SHA, NOW)
    answer = shared_gateway.github("push", payload, delivery="d-1")
    assert answer.status == 202
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "source": "github",
        "delivery": "d-1",
        "outcome": "accepted",
        "events": [
            {
                "kind": "committime",
                "app": "octo/hello",
                "commit": samples.SHA,
                "timestamp": NOW,
                "commit_link": f"https://github.com/octo/hello/commit/{samples.SHA}",
            }
        ],
        "reasons": [],
    }


def test_a_failure_event_says_what_happened_to_the_failure(shared_gateway: Gateway) -> None:
    """`event` is `created` or `resolved`, `issue_number` is text."""
    answer = shared_gateway.github("issues", samples.github_issue("octo/hello", 7, "opened", NOW))
    assert answer.json()["events"] == [
        {
            "kind": "failure",
            "app": "octo/hello",
            "event": "created",
            "issue_number": "7",
            "timestamp": NOW,
        }
    ]


def test_a_form_is_read_as_its_json_and_signed_as_it_was_sent(shared_gateway: Gateway) -> None:
    """GitHub's other content type: the JSON in `payload`, the signature over the raw form."""
    payload = samples.github_push("octo/form", samples.SHA, NOW)
    body = urlencode({"payload": json.dumps(payload)}).encode()
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-GitHub-Event": "push",
        "X-Hub-Signature-256": hub_signature(body, GITHUB_SECRET),
    }
    answer = shared_gateway.post("/hooks/github", body, headers)
    assert (answer.status, answer.json()["outcome"]) == (202, "accepted")


def test_what_no_rule_wants_is_ignored_and_kept(shared_gateway: Gateway) -> None:
    """A star is 202, never an error: a hook that gets errors is switched off by its vendor."""
    before = shared_gateway.counter('gateway_deliveries_total{outcome="ignored",source="github"}')
    answer = shared_gateway.github("star", {"action": "created"})
    assert (answer.status, answer.json()["outcome"]) == (202, "ignored")
    after = shared_gateway.counter('gateway_deliveries_total{outcome="ignored",source="github"}')
    assert after == before + 1


def test_the_same_delivery_id_is_a_duplicate(shared_gateway: Gateway) -> None:
    """A redelivery with the same id changes nothing."""
    payload = samples.github_push("octo/again", samples.SHA, NOW)
    first = shared_gateway.github("push", payload, delivery="d-again")
    second = shared_gateway.github("push", payload, delivery="d-again")
    assert [first.json()["outcome"], second.json()["outcome"]] == ["accepted", "duplicate"]
    assert second.status == 202


def test_a_delivery_that_is_sent_a_hundred_times_counts_once(shared_gateway: Gateway) -> None:
    """One row in the journal, one event, the same samples. Row 9 of the table in
    docs/explanation/security.md."""
    payload = samples.github_push("octo/hundred", samples.SHA, NOW)
    accepted = 'gateway_deliveries_total{outcome="accepted",source="github"}'
    duplicate = 'gateway_deliveries_total{outcome="duplicate",source="github"}'
    before = shared_gateway.counter(accepted), shared_gateway.counter(duplicate)
    for _ in range(100):
        assert shared_gateway.github("push", payload, delivery="d-hundred").status == 202
    after = shared_gateway.counter(accepted), shared_gateway.counter(duplicate)
    assert after == (before[0] + 1, before[1] + 99)
    path = shared_gateway.folder / "data" / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as journal:
        for table, column in (("deliveries", "delivery_id"), ("events", "fields")):
            found = journal.execute(f"SELECT count(*) FROM {table} WHERE {column} LIKE '%hundred%'")
            assert found.fetchone() == (1,)
    shown = [one for one in shared_gateway.samples() if "octo/hundred" in one]
    assert len(shown) == 1


def test_known_events_under_a_new_id_are_a_duplicate(shared_gateway: Gateway) -> None:
    """GitHub does not sign its delivery id, so a replay can carry another one. Row 10 of the table in
    docs/explanation/security.md."""
    payload = samples.github_push("octo/replayed", samples.SHA, NOW)
    outcomes = [
        shared_gateway.github("push", payload, delivery=one).json()["outcome"]
        for one in ("id-1", "id-2")
    ]
    assert outcomes == ["accepted", "duplicate"]


def test_an_unmappable_delivery_is_a_dead_letter_with_reasons(shared_gateway: Gateway) -> None:
    """202, so that the vendor keeps the hook; each field says what is wrong with it."""
    payload = samples.github_deployment("octo/hello", "not-a-sha", NOW)
    payload["deployment_status"]["created_at"] = "yesterday"
    answer = shared_gateway.github("deployment_status", payload)
    assert (answer.status, answer.json()["outcome"]) == (202, "dead_lettered")
    reasons = {reason["field"]: reason["message"] for reason in answer.json()["reasons"]}
    assert set(reasons) == {"commit", "timestamp"}
    assert '`"not-a-sha"`' in reasons["commit"]
    assert '`"yesterday"`' in reasons["timestamp"]


def test_a_mapping_may_reject_what_it_cannot_map(strict: Gateway) -> None:
    """`on_invalid: reject` answers 422 to senders that want to be told."""
    answer = strict.post("/hooks/pipeline", b'{"app": "shop"}', {"X-Token": "a pipeline's secret"})
    document = _problem(answer, 422)
    assert document["outcome"] == "rejected"
    assert "commit" in str(document["detail"])


def test_two_equal_bodies_that_are_two_events_both_count(strict: Gateway) -> None:
    """Where the time is the receipt's, the same body sent twice means two deployments."""
    body = json.dumps({"app": "twice", "commit": samples.SHA}).encode()
    outcomes = [
        strict.post(
            "/hooks/pipeline", body, {"X-Token": "a pipeline's secret", "X-Id": identifier}
        ).json()["outcome"]
        for identifier in ("run-1", "run-2", "run-2")
    ]
    assert outcomes == ["accepted", "accepted", "duplicate"]


def test_a_source_may_be_open_when_it_says_so(strict: Gateway) -> None:
    """`authenticate: none` in so many words."""
    body = json.dumps({"app": "open", "commit": samples.SHA, "at": NOW}).encode()
    assert strict.post("/hooks/open", body).json()["outcome"] == "accepted"


# Bodies that are not JSON


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"a": 1,\n "b": nul}', (2, 7)),
        (b"", (1, 1)),
        (b'{"a":', (1, 6)),
        (b'{"a": "\xff"}', (1, 8)),
        (b"[" * 100_000, (1, 901)),
        (b'{"a": NaN}', (1, 7)),
        (b'{"ref": ' + b"9" * 5_000 + b"}", (1, 5_010)),
        (b'\xef\xbb\xbf{"a": 1}', (1, 1)),
    ],
    ids=["typo", "empty", "truncated", "utf8", "nested", "nan", "huge-integer", "bom"],
)
def test_an_authentic_body_that_is_not_json_is_a_400_with_its_place(
    shared_gateway: Gateway, body: bytes, place: tuple[int, int]
) -> None:
    """Line and column of the fault; kept as a dead letter; the next delivery works. Rows 23 and 24."""
    series = 'gateway_deliveries_total{outcome="dead_lettered",source="github"}'
    before = shared_gateway.counter(series)
    document = _problem(shared_gateway.github("push", body), 400)
    assert (document["line"], document["column"]) == place
    assert shared_gateway.counter(series) == before + 1
    _works(shared_gateway)


@pytest.mark.parametrize(
    "body",
    [b"[]", b'"text"', b"1", b"null", b"true"],
    ids=["list", "text", "number", "null", "true"],
)
def test_a_body_that_is_no_object_is_no_error(shared_gateway: Gateway, body: bytes) -> None:
    """It is JSON; no rule can want it, or one says why it cannot be mapped."""
    for event in ("ping", "push"):
        answer = shared_gateway.github(event, body)
        assert answer.status == 202
        assert answer.json()["outcome"] in ("ignored", "dead_lettered")
    _works(shared_gateway)


def test_huge_numbers_in_fields_are_reasons(shared_gateway: Gateway) -> None:
    """An integer of 4,000 digits is JSON, and no time. Row 25."""
    payload = samples.github_deployment("octo/huge", samples.SHA, NOW)
    body = json.dumps(payload).replace(json.dumps(samples.iso(NOW)), "9" * 4_000, 1)
    answer = shared_gateway.github("deployment_status", body.encode())
    assert (answer.status, answer.json()["outcome"]) == (202, "dead_lettered")


# Authentication


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": "sha256=" + "0" * 64},
        {"X-Hub-Signature-256": "0" * 64},
        {"X-Hub-Signature": "sha1=" + "0" * 40},
    ],
    ids=["none", "empty", "wrong", "no-prefix", "other-header"],
)
def test_what_is_not_signed_is_refused_without_a_hint(
    shared_gateway: Gateway, headers: dict[str, str]
) -> None:
    """401, the same words whatever was wrong; nothing is kept, the refusal is counted. Row 1 of the table
    in docs/explanation/security.md. Row 53."""
    series = 'gateway_refused_total{reason="unauthorized",source="github"}'
    before = shared_gateway.counter(series)
    answer = shared_gateway.post("/hooks/github", b"{}", {"X-GitHub-Event": "ping", **headers})
    assert _problem(answer, 401) == {"title": "Unauthorized", "status": 401}
    assert shared_gateway.counter(series) == before + 1


@pytest.mark.parametrize(
    ("source", "headers", "why"),
    [
        ("github", {}, "it has no header `x-hub-signature-256`"),
        (
            "github",
            {"X-Hub-Signature-256": "sha256=0"},
            "what it has in `x-hub-signature-256` does not fit: another secret, or another time or body",
        ),
        ("nobody", {}, "nothing is served under its name"),
    ],
)
def test_the_log_tells_the_operator_what_was_wrong(
    tmp_path: Path, source: str, headers: dict[str, str], why: str
) -> None:
    """Though the answer tells the sender nothing: a misspelled header is found at once."""
    with running(tmp_path) as gateway:
        assert gateway.post(f"/hooks/{source}", b"{}", headers).status == 401
        named = "github" if source == "github" else "a source that is not served"
        eventually(lambda: f"{named} refused, from 127.0.0.1: {why}" in gateway.output)


def test_an_unknown_source_looks_like_a_wrong_signature(shared_gateway: Gateway) -> None:
    """Nothing tells which sources exist. Row 48 of the table in docs/explanation/security.md."""
    unknown = shared_gateway.post("/hooks/nobody", b"{}", {"X-Hub-Signature-256": "sha256=0"})
    known = shared_gateway.post("/hooks/github", b"{}", {"X-Hub-Signature-256": "sha256=0"})
    assert unknown.status == known.status == 401
    assert unknown.body == known.body
    assert unknown.headers.keys() == known.headers.keys()


def test_two_signature_headers_are_refused(shared_gateway: Gateway) -> None:
    """Even where one of the two is right: whoever sends two hopes that one is overlooked. Row 7 of the
    table in docs/explanation/security.md."""
    body = b"{}"
    right = f"X-Hub-Signature-256: {hub_signature(body, GITHUB_SECRET)}"
    wrong = "X-Hub-Signature-256: sha256=" + "0" * 64
    for pair in ((right, wrong), (wrong, right), (right, right)):
        assert _raw_status(shared_gateway, body, *pair) == 401
    assert _raw_status(shared_gateway, body, right, "X-GitHub-Event: ping") == 202


def test_bytes_beyond_ascii_in_a_signature_are_refused(shared_gateway: Gateway) -> None:
    """They are compared as bytes, so they are wrong rather than an error. Row 3 of the table in
    docs/explanation/security.md."""
    for value in (b"sha256=\xff\xfe", b"\x80" * 71, "sha256=Ünicode".encode()):
        header = b"X-Hub-Signature-256: " + value
        assert _raw_status(shared_gateway, b"{}", header) == 401
    header = b"X-Gitlab-Token: \xe9" + GITLAB_SECRET.encode()
    assert _raw_status(shared_gateway, b"{}", header, path="/hooks/gitlab") == 401
    _works(shared_gateway)


def test_gitlab_shows_its_token(shared_gateway: Gateway) -> None:
    """A shared token in a header, refused before the body is read where it is wrong."""
    right = shared_gateway.gitlab(samples.gitlab_push("group/app", samples.SHA, NOW))
    assert right.json()["outcome"] == "accepted"
    wrong = shared_gateway.post("/hooks/gitlab", b"{}", {"X-Gitlab-Token": "x"})
    assert wrong.status == 401
    assert wrong.headers["connection"] == "close"


# Methods, media types, encodings, paths


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_only_post_is_taken(shared_gateway: Gateway, method: str) -> None:
    """405 with what is allowed."""
    for path in ("/hooks/github", "/hooks/nobody", "/pelorus/webhook"):
        answer = request(shared_gateway.public, method, path)
        assert answer.status == 405
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/xml", "multipart/form-data", "nonsense"]
)
def test_other_media_types_are_refused(shared_gateway: Gateway, kind: str) -> None:
    """415 names what is taken."""
    headers = {"Content-Type": kind, "X-Hub-Signature-256": hub_signature(b"{}", GITHUB_SECRET)}
    document = _problem(shared_gateway.post("/hooks/github", b"{}", headers), 415)
    assert kind in str(document["detail"])


def test_of_a_long_media_type_the_answer_repeats_the_beginning(shared_gateway: Gateway) -> None:
    """Its sender has proved nothing yet."""
    answer = shared_gateway.post("/hooks/github", b"{}", {"Content-Type": "x" * 60_000})
    assert "x" * 100 in str(_problem(answer, 415)["detail"])
    assert len(answer.body) < 1_000


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.api+json"])
def test_json_by_any_name_is_taken(shared_gateway: Gateway, kind: str) -> None:
    """Parameters and structured suffixes are JSON as well."""
    headers = {"Content-Type": kind, "X-Hub-Signature-256": hub_signature(b"{}", GITHUB_SECRET)}
    assert shared_gateway.post("/hooks/github", b"{}", headers).status == 202


def test_compressed_bodies_are_refused_unread(shared_gateway: Gateway) -> None:
    """415: no vendor compresses, and a bomb is small on the wire. Row 22."""
    body = gzip.compress(b"0" * 10_000_000)
    headers = {
        "Content-Encoding": "gzip",
        "X-Hub-Signature-256": hub_signature(body, GITHUB_SECRET),
    }
    _problem(shared_gateway.post("/hooks/github", body, headers), 415)
    _works(shared_gateway)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/metrics", "//metrics", "/schema", "/docs", "/openapi.json", "/-/ready", "/-/reload",
        "/try/github", "/hooks", "/hooks/", "//hooks/github", "/hooks//github", "/hooks/github/",
        "/hooks/github/x", "/hooks/%67ithub", "/hooks/git%2fhub", "/hooks/..%2fmetrics",
        "/pelorus", "/pelorus/webhook/", "//pelorus/webhook",
    ],
)  # fmt: skip
def test_nothing_else_is_public(shared_gateway: Gateway, path: str) -> None:
    """The public listener knows three routes, each in one spelling."""
    for method in ("GET", "POST"):
        assert request(shared_gateway.public, method, path, b"{}").status in (404, 405)


def test_health_tells_nothing_else(shared_gateway: Gateway) -> None:
    """`GET /healthz`."""
    answer = request(shared_gateway.public, "GET", "/healthz")
    assert (answer.status, answer.json()) == (200, {"status": "ok"})
    assert "server" not in answer.headers


# Sizes and times


def test_a_body_over_the_limit_is_refused_by_its_length(strict: Gateway) -> None:
    """413 before any of it is read; just below, it is taken. Row 13."""
    answer = _post_raw(strict, b"Content-Length: 104858\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    fitting = b'"' + b"x" * 104_000 + b'"'
    assert strict.github("ping", fitting).status == 202


def test_a_chunked_body_over_the_limit_is_cut_off(strict: Gateway) -> None:
    """413 and the connection closed, without reading on for as long as the sender likes. Row 14."""
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", strict.public), timeout=20) as sender:
        sender.sendall(_head(b"Transfer-Encoding: chunked\r\n\r\n"))
        received = b""
        for _ in range(1_000):
            try:
                sender.sendall(chunk)
            except OSError:
                break
        else:
            pytest.fail("the gateway went on reading 64 MiB of a body that is too large")
        try:
            received = sender.recv(65_536)
        except OSError:
            received = b"HTTP/1.1 413 "  # The answer was lost with the connection, as TCP may.
        assert received.startswith(b"HTTP/1.1 413 ")
    _works(strict)


def test_a_sender_that_is_too_slow_is_told_so(strict: Gateway) -> None:
    """408, and the connection is closed. Row 16."""
    answer = _post_raw(strict, b"Content-Length: 100\r\n\r\n{", wait=True)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert strict.counter('gateway_refused_total{reason="too_slow",source="github"}') >= 1
    _works(strict)


def test_a_sender_that_goes_away_harms_nobody(strict: Gateway) -> None:
    """Half a body, then nothing: not an error, not a delivery."""
    with socket.create_connection(("127.0.0.1", strict.public), timeout=20) as sender:
        sender.sendall(_head(b"Content-Length: 100\r\n\r\n{"))
    _works(strict)
    assert "Traceback" not in strict.output


def test_bodies_beyond_the_budget_of_all_are_turned_away(strict: Gateway) -> None:
    """503 with Retry-After while others upload; when they are done, or gone, deliveries are taken.
    Row 15."""
    upload = _head(b"Content-Length: 104000\r\n\r\n" + b"x" * 103_000)
    with contextlib.ExitStack() as uploads:
        for _ in range(10):
            sender = uploads.enter_context(
                socket.create_connection(("127.0.0.1", strict.public), timeout=20)
            )
            sender.sendall(upload)
        answer = eventually(lambda: _overloaded(strict), timeout=20)
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["connection"] == "close"
    eventually(lambda: strict.github("ping", b'"' + b"x" * 100_000 + b'"').status == 202)


def _overloaded(gateway: Gateway) -> Answer | None:
    answer = gateway.github("ping", b'"' + b"x" * 100_000 + b'"')
    return answer if answer.status == 503 else None


def test_a_missing_length_is_an_empty_body(strict: Gateway) -> None:
    """Neither a length nor chunks: there is no body, so no signature fits."""
    assert _post_raw(strict, b"\r\n").startswith(b"HTTP/1.1 401 ")
    signature = hub_signature(b"", GITHUB_SECRET).encode()
    answer = _post_raw(strict, b"X-Hub-Signature-256: " + signature + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    _works(strict)


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: x\r\n\r\n{}",
        b"Content-Length: -1\r\n\r\n{}",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"no colon here\r\n\r\n",
    ],
    ids=["both-framings", "no-number", "negative", "two-lengths", "bad-chunk", "bad-header"],
)
def test_ambiguous_or_broken_requests_are_a_400(strict: Gateway, lines: bytes) -> None:
    """The server refuses them itself, and closes."""
    assert _post_raw(strict, lines).startswith(b"HTTP/1.1 400 ")
    _works(strict)


def test_several_deliveries_travel_on_one_connection(shared_gateway: Gateway) -> None:
    """Keep-alive works, also after a body that is not JSON; a wrong signature ends it."""
    with socket.create_connection(("127.0.0.1", shared_gateway.public), timeout=20) as sender:
        for body, status in ((b"{}", b"202"), (b"{-", b"400"), (b"{}", b"202"), (b"[]", b"401")):
            signed = hub_signature(b"{-" if body == b"{-" else b"{}", GITHUB_SECRET).encode()
            sender.sendall(
                _head(b"Content-Length: 2\r\nX-Hub-Signature-256: " + signed + b"\r\n\r\n") + body
            )
            assert _read_answer(sender).startswith(b"HTTP/1.1 " + status)
        assert sender.recv(1) == b""


def test_a_bug_free_log(shared_gateway: Gateway) -> None:
    """Nothing in this file made the gateway trip: no traceback, no 500, no secret in the log."""
    log = shared_gateway.output
    assert "Traceback" not in log
    assert GITHUB_SECRET not in log
    assert GITLAB_SECRET not in log


def test_the_gateway_keeps_no_credentials(tmp_path: Path) -> None:
    """Neither tokens nor signatures nor cookies reach the journal file. Row 46 of the table in
    docs/explanation/security.md."""
    with running(tmp_path) as gateway:
        body = json.dumps(samples.gitlab_push("group/app", samples.SHA, NOW)).encode()
        headers = {
            "X-Gitlab-Token": GITLAB_SECRET,
            "Authorization": "Basic canary-one",
            "Cookie": "session=canary-two",
            "X-Api-Token": "canary-three",
            "X-Gitlab-Instance": "https://gitlab.example",
        }
        assert gateway.post("/hooks/gitlab?token=canary-four", body, headers).status == 202
        gateway.stop()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    assert b"https://gitlab.example" in kept
    for canary in (GITLAB_SECRET.encode(), b"canary-"):
        assert canary not in kept
        assert canary.decode() not in gateway.output


# Raw requests


def _head(rest: bytes) -> bytes:
    return (
        b"POST /hooks/github HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n" + rest
    )


def _post_raw(gateway: Gateway, rest: bytes, *, wait: bool = False) -> bytes:
    """The first bytes of the answer to a request whose last header lines and body are given."""
    with socket.create_connection(("127.0.0.1", gateway.public), timeout=20) as sender:
        sender.sendall(_head(rest))
        answer = _read_answer(sender)
        if wait:
            assert sender.recv(1) == b""
        return answer


def _read_answer(sender: socket.socket) -> bytes:
    answer = b""
    deadline = time.monotonic() + 20
    while b"\r\n\r\n" not in answer and time.monotonic() < deadline:
        part = sender.recv(65_536)
        if not part:
            break
        answer += part
    head, _, rest = answer.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ),
        0,
    )
    while len(rest) < length:
        rest += sender.recv(65_536)
    return answer


def _raw_status(
    gateway: Gateway, body: bytes, *lines: str | bytes, path: str = "/hooks/github"
) -> int:
    encoded = [line.encode() if isinstance(line, str) else line for line in lines]
    head = [
        f"POST {path} HTTP/1.1".encode(),
        b"Host: gateway",
        b"Content-Type: application/json",
        b"Connection: close",
        f"Content-Length: {len(body)}".encode(),
        *encoded,
    ]
    with socket.create_connection(("127.0.0.1", gateway.public), timeout=20) as sender:
        sender.sendall(b"\r\n".join(head) + b"\r\n\r\n" + body)
        return int(_read_answer(sender).split(b" ")[1])
