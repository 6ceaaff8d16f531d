"""Pelorus's own route: its senders work unchanged, and get the answers that they know."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import pelorus_signature
from tests import samples
from tests.harness import (
    PELORUS_SECRET,
    Answer,
    Gateway,
    hub_signature,
    request,
    require_program,
    running,
)

ROUTE = "/pelorus/webhook"
AGENT = {"User-Agent": "Pelorus-Webhook/test"}
COMMIT = samples.pelorus_commit("todo", samples.SHA, samples.IMAGE, 1_678_105_701)
RECEIVED = {"http_response": "Webhook Received", "http_response_code": 200}


@pytest.fixture(scope="module")
def open_route(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose Pelorus source is open, as Pelorus's exporter is without a secret."""
    folder = tmp_path_factory.mktemp("open")
    (folder / "pelorus.yaml").write_text("source: pelorus\nextends: pelorus\nauthenticate: none\n")
    with running(folder, "--mappings", str(folder), environment={}) as gateway:
        yield gateway


def _post(gateway: Gateway, body: Any, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return gateway.post(ROUTE, raw, {**AGENT, **named})


# The documentation's own commands

CURL = """
set -e
curl -s -X POST "$URL" -d @./committime.json -H "Content-Type: application/json" \
  -H "User-Agent: Pelorus-Webhook/test" -H "X-Pelorus-Event: committime" "$@"
"""
ECHO_SIGNATURE = """
echo -n $(cat "$FILE") | openssl dgst -sha256 -hmac "$SECRET_TOKEN" | cut -d ' ' -f 2
"""
JQ_SIGNATURE = """
jq -c "" "$FILE" | openssl dgst -sha256 -hmac "$SECRET_TOKEN" | cut -d ' ' -f 2
"""


def _shell(folder: Path, script: str, *arguments: str, **variables: str) -> str:
    import os

    done = subprocess.run(
        ["bash", "-c", script, "bash", *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_unsigned_senders_work_where_the_source_is_open(
    open_route: Gateway, tmp_path: Path
) -> None:
    """A file with line breaks, posted with `curl -d @FILE`."""
    require_program("curl")
    (tmp_path / "committime.json").write_text(json.dumps(COMMIT, indent=2) + "\n")
    url = f"http://127.0.0.1:{open_route.public}{ROUTE}"
    assert json.loads(_shell(tmp_path, CURL, URL=url)) == RECEIVED
    series = {name for name in open_route.samples() if "todo" in name}
    # By the image that it names, and by its own SHA.
    assert series == {
        f'commit_timestamp{{app="/todo/",commit="{samples.SHA}",image_sha="{carrier}",'
        'namespace="todo",commit_link=""}'
        for carrier in (samples.IMAGE, samples.SHA)
    }


@pytest.mark.parametrize("script", [ECHO_SIGNATURE, JQ_SIGNATURE], ids=["echo", "jq"])
def test_both_documented_ways_to_sign_work(
    shared_gateway: Gateway, tmp_path: Path, script: str
) -> None:
    """What is signed is not what curl sends: it strips the line breaks of the file."""
    for program in ("curl", "openssl", "jq"):
        require_program(program)
    for app in ("todo", "todo-ä"):
        text = json.dumps({**COMMIT, "app": app}, indent=2, ensure_ascii=False) + "\n"
        (tmp_path / "committime.json").write_text(text)
        variables = {"FILE": "committime.json", "SECRET_TOKEN": PELORUS_SECRET}
        signature = _shell(tmp_path, script, **variables)
        url = f"http://127.0.0.1:{shared_gateway.public}{ROUTE}"
        header = f"X-Hub-Signature-256: sha256={signature}"
        assert json.loads(_shell(tmp_path, CURL, "-H", header, URL=url)) == RECEIVED


@pytest.mark.parametrize(
    "body",
    [
        b'{"app":"todo","commit_hash":"%s","image_sha":"%s","namespace":"n","timestamp":1.678105701e9}',
        b'{\n\t"app" : "t\\/odo",\n\t"commit_hash" : "%s",\n\t"image_sha":"%s","namespace":"n",'
        b'"timestamp": 1678105701}',
        '{"app":"tödo","commit_hash":"%s","image_sha":"%s","namespace":"n","timestamp":"1678105701"}'
        .encode(),
        b'  {"app":"t\\u00f6do","commit_hash":"%s","image_sha":"%s","namespace":"n",'
        b'"timestamp":1678105701}\r\n',
    ],
    ids=["exponent", "indented-escaped", "beyond-ascii", "surrounded"],
)  # fmt: skip
def test_a_signature_over_the_raw_body_always_fits(shared_gateway: Gateway, body: bytes) -> None:
    """Whatever the spelling; Pelorus itself refuses some of these."""
    raw = body % (samples.SHA.encode(), samples.IMAGE.encode())
    answer = _post(
        shared_gateway,
        raw,
        X_Pelorus_Event="committime",
        X_Hub_Signature_256=hub_signature(raw, PELORUS_SECRET),
    )
    assert (answer.status, answer.json()) == (202, RECEIVED)


@pytest.mark.parametrize(
    "separators", [(", ", ": "), (",", ":"), (", ", ":"), (",", " :"), (", ", " :")]
)
@pytest.mark.parametrize("frame", ["%s", "%s\n", "{ %s }", "{ %s }\n"])
def test_every_spacing_that_pelorus_tries_is_tried(
    shared_gateway: Gateway, separators: tuple[str, str], frame: str
) -> None:
    """Twenty spellings of the same object, whichever of them was signed."""
    spelled = json.dumps(COMMIT, separators=separators)
    signed = frame % (spelled[1:-1] if "{" in frame else spelled)
    answer = _post(
        shared_gateway,
        json.dumps(COMMIT, indent=1).encode(),
        X_Pelorus_Event="committime",
        X_Hub_Signature_256=hub_signature(signed.encode(), PELORUS_SECRET),
    )
    assert answer.status == 202


def test_other_routes_take_only_the_raw_body(shared_gateway: Gateway) -> None:
    """The tolerance is Pelorus's alone: GitHub's signature is over the bytes that were sent."""
    from tests.harness import GITHUB_SECRET

    signed = json.dumps(COMMIT, separators=(",", ":")).encode()
    headers = {"X-Hub-Signature-256": hub_signature(signed, GITHUB_SECRET)}
    assert shared_gateway.post("/hooks/github", json.dumps(COMMIT).encode(), headers).status == 401


def test_spellings_are_of_the_same_object_only() -> None:
    """No spelling means anything else, and none is made of what is no object."""
    body = b'{"a": "x, y: {z}",\n "b": [1, 2.50], "c": "\\"\\u00e9"}'
    spelled = list(pelorus_signature.spellings(body))
    assert len(set(spelled)) > 20
    assert all(json.loads(text) == json.loads(body) for text in spelled)
    for other in (b"[]", b"1", b"", b"{", b'{"a": "' + b"x" * 2_048 + b'"}'):
        assert list(pelorus_signature.spellings(other)) == []


def test_no_other_spelling_is_sought_in_other_encodings() -> None:
    """In UTF-16, a JSON text may hold the bytes of quotes that never close, of which each would be
    searched to the end. Row 4."""
    quotes = "\u2200" + "\u225c" * 900 + "\u5c61"
    for encoding in ("utf-16-le", "utf-16", "utf-32", "utf-8-sig"):
        for text in (f'{{"a":"{quotes}"}}', '{"a": 1}'):
            assert list(pelorus_signature.spellings(text.encode(encoding))) == []


@pytest.mark.parametrize("route", [ROUTE, "/hooks/pelorus"])
def test_a_wrong_signature_is_told_however_deep_its_body_is(
    shared_gateway: Gateway, route: str
) -> None:
    """Also where it can be read and not be written again. Row 23."""
    headers = {
        **AGENT,
        "X-Pelorus-Event": "committime",
        "X-Hub-Signature-256": "sha256=" + "0" * 64,
    }
    for depth in range(900, 1_020):
        body = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
        assert shared_gateway.post(route, body, headers).status in (400, 401)


# The answers of Pelorus's exporter


@pytest.mark.parametrize("event", ["committime", "deploytime", "failure"])
def test_events_are_received(shared_gateway: Gateway, event: str) -> None:
    """202, with the body that senders know; events of any age are taken."""
    bodies = {
        "committime": COMMIT,
        "deploytime": samples.pelorus_deployment("todo", samples.IMAGE, 1_678_106_205),
        "failure": samples.pelorus_failure("todo", "TODO-1", "created", 1_678_181_704),
    }
    for _ in range(2):
        answer = shared_gateway.pelorus(event, bodies[event])
        assert (answer.status, answer.json()) == (202, RECEIVED)


def test_a_ping_is_answered(shared_gateway: Gateway) -> None:
    """200 and `pong`."""
    answer = shared_gateway.pelorus("ping", {})
    assert (answer.status, answer.json()) == (200, {"detail": "pong"})


@pytest.mark.parametrize(
    ("headers", "status", "detail"),
    [
        ({"User-Agent": "curl/8"}, 412, "Unsupported request."),
        ({"User-Agent": ""}, 412, "Unsupported request."),
        ({"X-Pelorus-Event": "nonsense"}, 400, "Improper headers."),
        ({"X-Pelorus-Event": ""}, 400, "Improper headers."),
        ({"X-Hub-Signature-256": "sha1=" + "0" * 64}, 400, "Improper headers."),
        ({"X-Hub-Signature-256": "sha256=" + "0" * 63}, 400, "Improper headers."),
        ({"X-Hub-Signature-256": "sha256=" + "g" * 64}, 400, "Improper headers."),
        ({"X-Hub-Signature-256": "0" * 64}, 400, "Improper headers."),
        ({"X-Hub-Signature-256": "sha256=" + "0" * 64}, 400, "Invalid signature."),
    ],
)
def test_wrong_headers_get_pelorus_s_words(
    shared_gateway: Gateway, headers: dict[str, str], status: int, detail: str
) -> None:
    """412 for another program, 400 for headers and signatures."""
    raw = json.dumps(COMMIT).encode()
    signed = {
        "X-Pelorus-Event": "committime",
        "X-Hub-Signature-256": hub_signature(raw, PELORUS_SECRET),
    }
    answer = shared_gateway.post(ROUTE, raw, {**AGENT, **signed, **headers})
    assert (answer.status, answer.json()) == (status, {"detail": detail})


def test_a_missing_signature_is_named(shared_gateway: Gateway) -> None:
    """400, where a secret is set."""
    answer = _post(shared_gateway, COMMIT, X_Pelorus_Event="committime")
    assert (answer.status, answer.json()) == (400, {"detail": "Non existing signature."})


def test_without_a_secret_nothing_is_open(tmp_path: Path) -> None:
    """A gateway that has no secret for Pelorus takes nothing, signed or not."""
    with running(tmp_path, environment={}) as gateway:
        assert _post(gateway, COMMIT, X_Pelorus_Event="committime").status == 400
        assert gateway.pelorus("committime", COMMIT).status == 400
        assert gateway.samples() == {}


@pytest.mark.parametrize(
    ("event", "change"),
    [
        ("committime", {"commit_hash": "12345678"}),
        ("committime", {"commit_hash": "123456"}),
        ("committime", {"image_sha": "sha256:ABC"}),
        ("committime", {"timestamp": 10}),
        ("committime", {"timestamp": None}),
        ("committime", {"app": "x" * 201}),
        ("committime", {"namespace": "x" * 64}),
        ("deploytime", {"image_sha": None}),
        ("failure", {}),
    ],
)
def test_invalid_payloads_are_a_422(
    shared_gateway: Gateway, event: str, change: dict[str, Any]
) -> None:
    """The sender is told, and the delivery is kept as a dead letter all the same."""
    series = 'gateway_deliveries_total{outcome="rejected",source="pelorus"}'
    before = shared_gateway.counter(series)
    answer = shared_gateway.pelorus(event, {**COMMIT, **change})
    assert (answer.status, answer.json()) == (422, {"detail": "Invalid payload."})
    assert shared_gateway.counter(series) == before + 1


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", {"loc": ["body"], "msg": "field required", "type": "value_error.missing"}),
        (b"null", {"loc": ["body"], "msg": "field required", "type": "value_error.missing"}),
        (b"[1]", {"loc": ["body"], "msg": "value is not a valid dict", "type": "type_error.dict"}),
        (
            b"./mongo.json",
            {
                "loc": ["body", 0],
                "msg": "Expecting value: line 1 column 1 (char 0)",
                "type": "value_error.jsondecode",
                "ctx": {
                    "msg": "Expecting value",
                    "doc": "./mongo.json",
                    "pos": 0,
                    "lineno": 1,
                    "colno": 1,
                },
            },
        ),
    ],
    ids=["empty", "null", "list", "not-json"],
)
def test_bodies_that_are_no_object_get_its_framework_s_words(
    shared_gateway: Gateway, raw: bytes, problem: dict[str, Any]
) -> None:
    """422, before any header is looked at."""
    answer = shared_gateway.post(ROUTE, raw, AGENT)
    assert (answer.status, answer.json()) == (422, {"detail": [problem]})


def test_of_a_long_body_the_answer_repeats_the_beginning_alone(shared_gateway: Gateway) -> None:
    """Whoever sends it has proved nothing yet. Row 24."""
    raw = b'{"' + b"\x01" * 99_000
    answer = shared_gateway.post(ROUTE, raw, AGENT)
    assert answer.status == 422
    (problem,) = answer.json()["detail"]
    assert problem["ctx"]["doc"] == raw[:1_000].decode()
    assert (problem["loc"], problem["ctx"]["pos"]) == (["body", 2], 2)
    assert len(answer.body) < 10_000


def test_other_media_types_are_no_object(shared_gateway: Gateway) -> None:
    """What `curl -d` sends without a content type."""
    headers = {**AGENT, "Content-Type": "application/x-www-form-urlencoded"}
    answer = shared_gateway.post(ROUTE, json.dumps(COMMIT).encode(), headers)
    assert answer.status == 422
    assert answer.json()["detail"][0]["msg"] == "value is not a valid dict"


def test_broken_bytes_are_a_400(shared_gateway: Gateway) -> None:
    """Invalid UTF-8, half a surrogate pair before another fault, and nesting that no parser takes.
    Rows 23, 24 and 26 of the table in docs/explanation/security.md."""
    for raw in (b'{"a": "\xff"}', b'{"a": "\xed\xa0\x80" b', b"\xed\xa0\x80", b"[" * 90_000):
        answer = shared_gateway.post(ROUTE, raw, AGENT)
        expected = {"detail": "There was an error parsing the body"}
        assert (answer.status, answer.json()) == (400, expected)


def test_a_large_body_is_a_413(shared_gateway: Gateway) -> None:
    """More than 100,000 bytes."""
    answer = shared_gateway.post(ROUTE, b" " * 100_001, AGENT)
    assert (answer.status, answer.json()) == (413, {"detail": "Content length too big."})


def test_a_body_without_a_length_is_a_422(shared_gateway: Gateway) -> None:
    """Chunks carry no length, and Pelorus asks for one."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", shared_gateway.public, timeout=20)
    headers = {**AGENT, "Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    connection.request("POST", ROUTE, iter([b"{}"]), headers, encode_chunked=True)
    answer = Answer(connection.getresponse())
    connection.close()
    assert answer.status == 422
    assert answer.json()["detail"][0]["loc"] == ["header", "content-length"]


def test_other_methods_are_a_405(shared_gateway: Gateway) -> None:
    """With Pelorus's body; no path of the public listener shows metrics, as its own did."""
    answer = request(shared_gateway.public, "GET", ROUTE)
    assert (answer.status, answer.json()) == (405, {"detail": "Method Not Allowed"})


def test_old_and_new_senders_meet_in_one_series(gateway: Gateway) -> None:
    """A Pelorus commit and a Pelorus deployment of its image join under Pelorus's labels."""
    now = int(time.time())
    gateway.pelorus(
        "committime", samples.pelorus_commit("shop", samples.SHA, samples.IMAGE, now - 9)
    )
    gateway.pelorus("deploytime", samples.pelorus_deployment("shop", samples.IMAGE, now))
    found = gateway.samples()
    deployed = f'deploy_timestamp{{app="/shop/",image_sha="{samples.IMAGE}",namespace="shop"}}'
    assert found[deployed][0] == now
    (commit,) = [
        name
        for name in found
        if name.startswith("commit_timestamp") and f'image_sha="{samples.IMAGE}"' in name
    ]
    assert found[commit] == (now - 9, found[deployed][1])
