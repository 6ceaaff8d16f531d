"""Tokens of an issuer: what is taken, and that nothing else is; keys that turn, and issuers that are away."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway import oidc
from gateway.authentication import Oidc
from tests import documentation, issuers
from tests.harness import (
    ROOT,
    Answer,
    Gateway,
    eventually,
    request,
    require_program,
    run_cli,
    running,
)
from tests.issuers import AUDIENCE, SigningKey

KEY = SigningKey("first")
OTHER = SigningKey("second", "ES256")
ISSUER = "https://issuer.example.com"
SCHEME = Oidc(
    issuer=ISSUER,
    audience=AUDIENCE,
    claims={"repository_owner": "octo", "ref": ["refs/heads/main", "refs/heads/next"]},
)
KEYS = oidc.read(issuers.key_set(KEY, OTHER))
REFUSED = 'gateway_refused_total{reason="unauthorized",source="ci"}'
BODY = b'{"app": "shop", "commit": "0ddba11c0ffee"}'


def _mapping(issuer: str, more: str = "") -> str:
    return (
        "source: ci\n"
        "authenticate:\n"
        "  scheme: oidc\n"
        f"  issuer: {issuer}\n"
        f"  audience: {AUDIENCE}\n"
        "  claims: {repository_owner: octo, ref: [refs/heads/main, refs/heads/next]}\n"
        f"{more}"
        "rules:\n"
        "  - name: a deployment\n"
        "    emit: deploytime\n"
        "    fields: {app: body.app, commit: body.commit, timestamp: received_at}\n"
    )


def _fault(token: str) -> str:
    return oidc.token_fault(SCHEME, KEYS, token.encode())


def _unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode())
    return ".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, signature)
    )


# What a token must be


@pytest.mark.parametrize("key", [KEY, OTHER], ids=["RS256", "ES256"])
@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/heads/next"])
def test_a_token_of_the_issuer_with_the_claims_asked_for_is_right(
    key: SigningKey, ref: str
) -> None:
    assert _fault(key.sign(issuers.claims(ISSUER, ref=ref, more={"a": [1]}))) == ""


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"exp": 1_600_000_000}, "it has expired"),
        ({"exp": int(time.time()) - 90}, "it has expired"),
        ({"nbf": int(time.time()) + 9_000}, "it is not valid yet"),
        ({"iat": int(time.time()) + 9_000}, "it is not valid yet"),
        ({"exp": None}, "it lacks a claim that every token has"),
        ({"iat": None}, "it lacks a claim that every token has"),
        ({"aud": None}, "it lacks a claim that every token has"),
        ({"aud": "https://another.example.com"}, "it is for another audience"),
        ({"aud": [AUDIENCE]}, "it is for another audience"),
        ({"aud": AUDIENCE + "/"}, "it is for another audience"),
        ({"iss": ISSUER + "/"}, "it is another issuer's"),
        ({"iss": "https://issuer.example.com.evil.example"}, "it is another issuer's"),
        (
            {"repository_owner": "octopus"},
            "its claim `repository_owner` is none of those asked for",
        ),
        ({"repository_owner": None}, "its claim `repository_owner` is none of those asked for"),
        ({"repository_owner": ["octo"]}, "its claim `repository_owner` is none of those asked for"),
        ({"ref": "refs/heads/maintenance"}, "its claim `ref` is none of those asked for"),
        ({"exp": "soon"}, "it is not signed by its key, or is no token"),
    ],
)
def test_a_token_that_says_something_else_is_wrong(said: dict[str, Any], fault: str) -> None:
    """Although the issuer signed it."""
    assert _fault(KEY.sign(issuers.claims(ISSUER, **said))) == fault


def test_clocks_may_differ_a_little() -> None:
    """By `tolerance`, a minute where nothing is said."""
    now = int(time.time())
    for said in ({"exp": now - 30}, {"nbf": now + 30, "iat": now + 30}):
        assert _fault(KEY.sign(issuers.claims(ISSUER, **said))) == ""


def test_a_forged_token_is_wrong() -> None:
    """By another key under the known id, or by changing what was signed."""
    claims = issuers.claims(ISSUER)
    assert _fault(SigningKey("first").sign(claims))
    assert _fault(SigningKey("another").sign(claims)) == f"its key is none of those of {ISSUER}"
    header, _, signature = KEY.sign(issuers.claims(ISSUER, repository_owner="evil")).split(".")
    payload = KEY.sign(claims).split(".")[1]
    assert _fault(f"{header}.{payload}.{signature}")


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
def test_a_token_without_a_signature_is_wrong(name: str) -> None:
    """Whatever it calls its algorithm. Row 5 of the table in docs/explanation/security.md."""
    claims = issuers.claims(ISSUER)
    assert _fault(_unsigned({"alg": name, "typ": "JWT", "kid": "first"}, claims))
    signature = base64.urlsafe_b64decode(KEY.sign(claims).split(".")[2] + "==")
    assert _fault(_unsigned({"alg": name, "kid": "first"}, claims, signature))


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_the_public_key_is_no_secret(algorithm: str) -> None:
    """A token that is signed with it as if it were one is wrong. Row 5."""
    claims = issuers.claims(ISSUER)
    hashed = getattr(hashlib, f"sha{algorithm[2:]}")
    for text in (KEY.pem, KEY.pem.strip(), json.dumps(KEY.public).encode()):
        signing = _unsigned({"alg": algorithm, "kid": "first"}, claims).rstrip(".")
        signature = hmac.new(text, signing.encode(), hashed).digest()
        assert _fault(_unsigned({"alg": algorithm, "kid": "first"}, claims, signature))


def test_a_key_is_for_one_algorithm() -> None:
    """A key of the one kind under the id of the other, and keys that the token brings along, are not
    used."""
    claims = issuers.claims(ISSUER)
    crossed = SigningKey("first", "ES256")
    assert _fault(crossed.sign(claims)) == "its algorithm is not that of its key"
    stranger = SigningKey("first")
    brought = stranger.sign(claims, jwk=stranger.public, jku="https://evil.example/keys")
    assert _fault(brought)


@given(st.binary(max_size=300))
def test_no_bytes_break_it(token: bytes) -> None:
    """Row 3 of the table in docs/explanation/security.md."""
    assert oidc.token_fault(SCHEME, KEYS, token)
    checked = oidc.authentication(SCHEME, oidc.Fixed(KEYS))
    headers = [(b"authorization", b"Bearer " + token)]
    assert not checked.verify(headers, b"", 0.0)
    assert checked.prepare is not None
    assert asyncio.run(_awaited(checked.prepare(headers)))


async def _awaited(answer: Any) -> Any:
    return await answer


@given(st.integers(0, 8 * 600), st.integers(0, 7))
def test_every_single_bit_of_a_token_matters(place: int, bit: int) -> None:
    """Row 1 of the table in docs/explanation/security.md."""
    token = bytearray(TOKEN)
    token[place % len(token)] ^= 1 << bit
    if _meaning(bytes(token)) != _meaning(TOKEN):
        assert oidc.token_fault(SCHEME, KEYS, bytes(token))


TOKEN = KEY.sign(issuers.claims(ISSUER, exp=int(time.time()) + 86_400)).encode()


def _meaning(token: bytes) -> Any:
    """What a token decodes to: the last bits of a base64 text stand for nothing."""
    try:
        return [base64.urlsafe_b64decode(part + b"==") for part in token.split(b".")]
    except ValueError:
        return None


def test_two_tokens_are_none() -> None:
    """Row 7 of the table in docs/explanation/security.md."""
    checked = oidc.authentication(SCHEME, oidc.Fixed(KEYS))
    one = (b"authorization", b"Bearer " + TOKEN)
    assert checked.verify([one], b"", 0.0)
    for headers in ([one, one], [one, (b"authorization", b"x")], [(one[0], TOKEN)], []):
        assert not checked.verify(headers, b"", 0.0)


# Keys


@pytest.mark.parametrize(
    ("keys", "taken"),
    [
        ([KEY.public], True),
        ([OTHER.public], True),
        ([{**KEY.public, "alg": "PS256"}], False),
        ([{**KEY.public, "use": "enc"}], False),
        ([{**KEY.public, "kid": 7}], False),
        ([{name: value for name, value in KEY.public.items() if name != "kid"}], False),
        ([{**KEY.public, "n": "AQAB"}], False),
        ([{**KEY.public, "n": "!"}], False),
        ([{**KEY.public, "d": "AQAB"}], False),
        ([{**OTHER.public, "crv": "P-384"}], False),
        ([{"kty": "oct", "k": "c2VjcmV0", "kid": "first", "alg": "HS256"}], False),
        ([7, None, KEY.public], True),
        ([], False),
        ({}, False),
    ],
)
def test_only_keys_that_may_sign_are_taken(keys: Any, taken: bool) -> None:
    """No secret among them, no private one, none for another use."""
    text = json.dumps({"keys": keys}).encode()
    if taken:
        assert len(oidc.read(text)) == 1
    else:
        with pytest.raises(oidc.CannotRead, match="no key with an id"):
            oidc.read(text)


@pytest.mark.parametrize("text", [b"", b"\xff", b"[" * 100_000, b"[]", b"null"])
def test_what_is_no_key_set_is_told(text: bytes) -> None:
    with pytest.raises(oidc.CannotRead):
        oidc.read(text)


def test_short_keys_are_not_taken() -> None:
    """A thousand bits can be factored."""
    with pytest.raises(oidc.CannotRead):
        oidc.read(issuers.key_set(SigningKey("short", bits=1024)))


# A gateway and its issuer


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[issuers.Server]:
    with issuers.serving(tmp_path, KEY) as server:
        yield server


def _gateway(tmp_path: Path, server: issuers.Server, more: str = "") -> Any:
    (tmp_path / "ci.yaml").write_text(_mapping(server.url, more))
    environment = {"SSL_CERT_FILE": str(server.authority), "no_proxy": "127.0.0.1"}
    arguments = ("--mappings", str(tmp_path / "ci.yaml"), "--watch", "0")
    return running(tmp_path, *arguments, environment=environment)


def _post(gateway: Gateway, token: str) -> Answer:
    return gateway.post("/hooks/ci", BODY, {"Authorization": f"Bearer {token}"})


def test_a_job_sends_with_its_token(tmp_path: Path, issuer: issuers.Server) -> None:
    """The keys are fetched once, by the first token; what is refused is told in the log, and what the
    token says is neither there nor in the journal."""
    with _gateway(tmp_path, issuer) as gateway:
        assert issuer.asked == []
        token = KEY.sign(issuers.claims(issuer.url))
        for _ in range(3):
            assert _post(gateway, token).status == 202
        assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
        unknown = gateway.post("/hooks/nobody", BODY, {"Authorization": f"Bearer {token}"})
        for wrong in (
            issuers.claims(issuer.url, exp=1_600_000_000),
            issuers.claims(issuer.url, repository_owner="canary-owner"),
            issuers.claims("https://issuer.example.com"),
        ):
            answer = _post(gateway, KEY.sign(wrong))
            assert (answer.status, answer.body) == (401, unknown.body)
        assert gateway.counter(REFUSED) == 3
        line = "ci refused, from 127.0.0.1: its claim `repository_owner` is none of those asked for"
        eventually(lambda: line in gateway.output)
        explained = request(
            gateway.internal, "POST", "/try/ci", BODY, {"Authorization": f"Bearer {token}"}
        )
        assert explained.json()["authentication"] == "authentic"
        gateway.stop()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    for part in token.split("."):
        assert part.encode() not in kept
        assert part not in gateway.output
    assert "canary-owner" not in gateway.output


def test_keys_turn_and_made_up_ones_are_asked_for_once_a_minute(
    tmp_path: Path, issuer: issuers.Server
) -> None:
    """A token of a new key makes the gateway look; one that made up its key id does no more."""
    new = SigningKey("new", "ES256")
    with _gateway(tmp_path, issuer) as gateway:
        issuer.keys = [KEY, new]
        assert _post(gateway, new.sign(issuers.claims(issuer.url))).status == 202
        asked = len(issuer.asked)
        for number in range(20):
            forged = SigningKey(f"made up {number}", "ES256").sign(issuers.claims(issuer.url))
            assert _post(gateway, forged).status == 401
        assert len(issuer.asked) == asked
        assert _post(gateway, KEY.sign(issuers.claims(issuer.url))).status == 202


def test_an_issuer_that_is_away_stops_nobody_who_was_known(
    tmp_path: Path, issuer: issuers.Server
) -> None:
    """Its keys are used on, also over a reload. Where there are none yet, the answer is 503, not 401: the
    sender may try again."""
    token = KEY.sign(issuers.claims(issuer.url))
    with _gateway(tmp_path, issuer) as gateway:
        assert _post(gateway, token).status == 202
        issuer.stop()
        (tmp_path / "ci.yaml").write_text(_mapping(issuer.url).replace("a deployment", "another"))
        assert request(gateway.internal, "POST", "/-/reload", b"").json()["changed"] is True
        assert _post(gateway, token).status == 202
        gateway.stop()
        gateway.start()
        answer = _post(gateway, token)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert gateway.counter('gateway_refused_total{reason="issuer",source="ci"}') == 1
        eventually(lambda: f"the keys of {issuer.url} cannot be fetched" in gateway.output)
        # Without a key id it is no token, whatever the keys are.
        assert _post(gateway, "x").status == 401


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/.well-known/openid-configuration", None),
        ("/.well-known/openid-configuration", b"{}"),
        ("/.well-known/openid-configuration", b"<html>"),
        ("/.well-known/openid-configuration", b"[" * 2_000_000),
        ("/keys", b'{"keys": []}'),
        ("/keys", None),
    ],
)
def test_an_issuer_that_answers_something_else_is_told(
    issuer: issuers.Server, monkeypatch: pytest.MonkeyPatch, path: str, document: bytes | None
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(issuer.authority))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert oidc.fetch(issuer.url).keys() == {"first"}
    issuer.documents[path] = document
    with pytest.raises(oidc.CannotRead):
        oidc.fetch(issuer.url)


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys"])
@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"", b"H"),
        (b"HTTP/1.0 200 OK\r\nX-A: ", b"a"),
        (b"HTTP/1.0 200 OK\r\n", b"X-A: b\r\n"),
        (b"HTTP/1.0 200 OK\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ],
    ids=["status", "header", "headers", "body", "chunks"],
)
def test_an_issuer_whose_answer_never_ends_is_given_up(
    issuer: issuers.Server,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    beginning: bytes,
    piece: bytes,
) -> None:
    """Though something comes of it all the time; so its keys can be asked for again."""
    monkeypatch.setenv("SSL_CERT_FILE", str(issuer.authority))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    issuer.endless[path] = (beginning, piece)
    given_up = threading.Event()

    def ask() -> None:
        with pytest.raises(oidc.CannotRead):
            oidc.fetch(issuer.url, within=1)
        given_up.set()

    threading.Thread(target=ask, daemon=True).start()
    assert given_up.wait(8)
    issuer.endless.clear()
    assert oidc.fetch(issuer.url, within=10).keys() == {"first"}


def test_an_issuer_is_believed_by_its_certificate_and_its_name(
    issuer: issuers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a CA that is trusted, with another issuer's document, or with keys that come without TLS,
    there are no keys."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(oidc.CannotRead, match="certificate"):
        oidc.fetch(issuer.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(issuer.authority))
    where = "/.well-known/openid-configuration"
    for found in (
        {"issuer": "https://evil.example", "jwks_uri": f"{issuer.url}/keys"},
        {"issuer": issuer.url, "jwks_uri": issuer.url.replace("https", "http") + "/keys"},
        {"issuer": issuer.url, "jwks_uri": "file:///etc/passwd"},
    ):
        issuer.documents[where] = json.dumps(found).encode()
        with pytest.raises(oidc.CannotRead, match="discovery document"):
            oidc.fetch(issuer.url)


def test_an_issuer_that_never_answers_holds_up_nobody_else(tmp_path: Path) -> None:
    """Its own deliveries get a 503 in time; those of others are taken meanwhile."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        (tmp_path / "ci.yaml").write_text(_mapping(url))
        arguments = ("--mappings", str(tmp_path / "ci.yaml"))
        with running(tmp_path, *arguments) as gateway:
            answers: list[Answer] = []
            waiting = threading.Thread(
                target=lambda: answers.append(_post(gateway, TOKEN.decode())), daemon=True
            )
            waiting.start()
            assert gateway.github("ping", {"zen": "x"}).status == 202
            assert not answers
            waiting.join(30)
            assert [answer.status for answer in answers] == [503]
            assert gateway.stop() == 0


# Keys from a file


def test_keys_may_be_a_file_s(tmp_path: Path) -> None:
    """For networks without a way to the issuer; a changed file is read anew, a broken one changes
    nothing."""
    path = tmp_path / "keys.json"
    path.write_bytes(issuers.key_set(KEY))
    (tmp_path / "ci.yaml").write_text(_mapping(ISSUER, f"  jwks_file: {path}\n"))
    arguments = ("--mappings", str(tmp_path / "ci.yaml"), "--watch", "0")
    with running(tmp_path, *arguments, environment={}) as gateway:
        old, new = (one.sign(issuers.claims(ISSUER)) for one in (KEY, OTHER))
        assert [_post(gateway, one).status for one in (old, new)] == [202, 401]
        path.write_text("{}")
        wrong = request(gateway.internal, "POST", "/-/reload", b"")
        assert wrong.status == 422
        assert "no key with an id" in wrong.json()["report"]
        assert _post(gateway, old).status == 202
        path.write_bytes(issuers.key_set(OTHER))
        changed = request(gateway.internal, "POST", "/-/reload", b"").json()
        assert changed["secrets"] == ["ci"]
        assert [_post(gateway, one).status for one in (old, new)] == [401, 202]


@pytest.mark.parametrize(
    ("text", "words"), [(None, "No such file"), ("{}", "no key with an id"), ("<", "not JSON")]
)
def test_a_file_without_keys_is_told_at_the_start(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "keys.json"
    if text is not None:
        path.write_text(text)
    (tmp_path / "ci.yaml").write_text(_mapping(ISSUER, f"  jwks_file: {path}\n"))
    run = run_cli("sources", "ci", "--mappings", "ci.yaml", cwd=tmp_path)
    assert run.returncode == 2
    assert f"the keys {path} of the source `ci` are no use: " in run.stderr
    assert words in run.stderr


# The commands


def test_without_the_package_it_is_said(tmp_path: Path) -> None:
    """Every command that would judge a token says what to install; checking a mapping needs nothing."""
    (tmp_path / "ci.yaml").write_text(_mapping(ISSUER))
    program = (
        "import sys; sys.modules['jwt'] = None\n"
        "from gateway.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert run("check", "ci.yaml").returncode == 0
    for command in (("serve",), ("sources",)):
        refused = run(*command, "--mappings", "ci.yaml")
        assert refused.returncode == 2
        assert "needs the package PyJWT; install `pelorus-gateway[oidc]`" in refused.stderr


def test_the_commands_know_it(tmp_path: Path) -> None:
    """What can be told without the issuer is; what only it can do is said."""
    (tmp_path / "ci.yaml").write_text(_mapping(ISSUER))
    (tmp_path / "body.json").write_bytes(BODY)
    (tmp_path / "ci.test.yaml").write_text(
        "source: ci\ncases:\n"
        f"  - name: a job\n    payload: {BODY.decode()}\n    expect: {{outcome: accepted}}\n"
        f"  - name: a stranger\n    payload: {BODY.decode()}\n"
        "    headers: {Authorization: Bearer x}\n    expect: {outcome: unauthorized}\n"
    )

    def run(*arguments: str) -> str:
        done = run_cli(*arguments, cwd=tmp_path)
        return done.stdout + done.stderr

    mapped = ("--mappings", "ci.yaml")
    told = " ".join(run("sources", "ci", *mapped).split())
    assert f"a token that {ISSUER} signed for `{AUDIENCE}`, with `repository_owner` `octo`" in told
    assert "`ref` any of `refs/heads/main`, `refs/heads/next`" in told
    assert "scheme: oidc" in run("show", "ci", *mapped)
    tested = run_cli("test", "ci.yaml", cwd=tmp_path)
    assert "a stranger" not in tested.stdout, tested.stdout
    token = ("--header", f"Authorization: Bearer {TOKEN.decode()}")
    assert "not checked: the keys of" in run("try", "ci", "body.json", *token, *mapped)
    assert "only the issuer of `ci` can sign" in run("send", "ci", "body.json", *mapped)
    sent = run("send", "ci", "body.json", *token, *mapped, "--url", "http://127.0.0.1:9")
    assert "no gateway answers" in sent


# The guide


GUIDE = ROOT / "docs" / "how-to" / "send-from-ci-with-oidc.md"


def _guide() -> tuple[list[str], str, str]:
    """Its mappings, GitHub's first, and the shell of the two jobs."""
    fences = list(documentation.fences(GUIDE.read_text()))
    mappings = [fence.text for fence in fences if fence.text.startswith("source:")]
    workflow, job = (
        yaml.safe_load(fence.text)
        for mark in ("workflow", "job")
        for fence in fences
        if mark in fence.marks
    )
    (step,) = workflow["jobs"]["deploy"]["steps"]
    assert workflow["permissions"]["id-token"] == "write"
    (line,) = job["tell the gateway"]["script"]
    assert list(job["tell the gateway"]["id_tokens"]) == ["GATEWAY_TOKEN"]
    return mappings, step["run"], line


def _said(mapping: str) -> dict[str, str]:
    """The claims that a mapping of the guide asks for."""
    wanted = yaml.safe_load(mapping)["authenticate"]["claims"]
    return {name: one if isinstance(one, str) else one[0] for name, one in wanted.items()}


@pytest.mark.parametrize("system", ["GitHub", "GitLab"])
def test_the_guide_s_jobs_are_taken(tmp_path: Path, issuer: issuers.Server, system: str) -> None:
    """Their commands, with an issuer on this machine in place of the system's; and refused with a claim
    of somebody else's, which fails the job."""
    for program in ("bash", "curl", "jq"):
        require_program(program)
    mappings, github, gitlab = _guide()
    mapping = mappings[0] if system == "GitHub" else mappings[1]
    real = yaml.safe_load(mapping)["authenticate"]["issuer"]
    (tmp_path / "ci.yaml").write_text(mapping.replace(real, issuer.url))
    environment = {"SSL_CERT_FILE": str(issuer.authority), "no_proxy": "127.0.0.1"}
    arguments = ("--mappings", str(tmp_path / "ci.yaml"))
    with running(tmp_path, *arguments, environment=environment) as gateway:
        url = f"http://127.0.0.1:{gateway.public}"

        def run(**others: str) -> subprocess.CompletedProcess[str]:
            claims = issuers.claims(issuer.url, **{**_said(mapping), **others})
            token = KEY.sign(claims)
            issuer.documents["/token"] = json.dumps({"value": token}).encode()
            return subprocess.run(
                ["bash", "-euo", "pipefail", "-c", github if system == "GitHub" else gitlab],
                cwd=tmp_path,
                env={
                    "PATH": os.environ["PATH"],
                    "GATEWAY": url,
                    "CURL_CA_BUNDLE": str(issuer.authority),
                    "no_proxy": "127.0.0.1",
                    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of the runner",
                    "ACTIONS_ID_TOKEN_REQUEST_URL": f"{issuer.url}/token?api-version=2.0",
                    "GITHUB_RUN_ID": "7001",
                    "GITHUB_RUN_ATTEMPT": "1",
                    "GITHUB_REPOSITORY": "octo/shop",
                    "GITHUB_SHA": "0ddba11c0ffee",
                    "GATEWAY_TOKEN": token,
                    "CI_JOB_ID": "7001",
                    "CI_PROJECT_PATH": "octo/shop",
                    "CI_COMMIT_SHA": "0ddba11c0ffee",
                },
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        stranger = run(**{next(iter(_said(mapping))): "somebody else"})
        assert stranger.returncode == 22, stranger.stderr
        taken = run()
        assert taken.returncode == 0, taken.stderr
        assert '"outcome":"accepted"' in taken.stdout
        assert '"app":"octo/shop"' in taken.stdout
        assert '"duplicate"' in run().stdout
    if system == "GitHub":
        assert f"/token?api-version=2.0&audience={url}" in issuer.asked
