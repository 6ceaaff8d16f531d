"""No secret leaves the gateway: canaries for every scheme, and everything that it says or keeps searched for them."""

import base64
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus, urlencode

from gateway.authentication import (
    Authentication,
    Basic,
    Bearer,
    Hmac,
    QueryToken,
    SecretReference,
    Shared,
    StandardWebhooks,
    Token,
    authentication,
)
from tests import issuers, samples
from tests.harness import Gateway, request, run_cli, running

USER = "canary-user-5d1f0c"
_SOME = SecretReference()
SCHEMES: dict[str, tuple[str, Shared]] = {
    "signed": (
        "scheme: hmac, header: X-Sign, prefix: 'v1=', encoding: base64",
        Hmac(secret=_SOME, header="X-Sign", prefix="v1=", encoding="base64"),
    ),
    "timed": (
        "scheme: hmac, header: X-Sign, timestamp_header: X-Time, signed: '{timestamp}.{body}'",
        Hmac(
            secret=_SOME,
            header="X-Sign",
            timestamp_header="X-Time",
            signed="{timestamp}.{body}",
        ),
    ),
    "header": ("scheme: token, header: X-Proof", Token(secret=_SOME, header="X-Proof")),
    "query": ("scheme: query-token, parameter: proof", QueryToken(secret=_SOME, parameter="proof")),
    "bearer": ("scheme: bearer", Bearer(secret=_SOME)),
    "basic": (
        "scheme: basic, username: {env: CANARY_USER}",
        Basic(secret=_SOME, username=_SOME),
    ),
    "standard": ("scheme: standard-webhooks", StandardWebhooks(secret=_SOME)),
}
RULES = (
    "delivery_id: body.id\nrules:\n  - name: a deployment\n    emit: deploytime\n"
    "    fields: {app: body.app, commit: body.commit, timestamp: received_at}\n"
)
ENVIRONMENT_NAME = "CANARY_{}_{}"
AGES = ("NEW", "OLD")


def _secret(source: str, age: str) -> str:
    """A canary, with characters that each way of writing it down changes; Standard Webhooks has its own
    spelling."""
    if source == "standard":
        return "whsec_" + base64.b64encode(os.urandom(24)).decode()
    return f"canary+{source}/{age.lower()} {os.urandom(9).hex()}"


def _ready(source: str, secret: str) -> Authentication:
    return authentication(SCHEMES[source][1], (secret.encode(),), USER.encode())


def _forms(secret: str) -> Iterator[bytes]:
    """All that a secret may look like where it was written down, also as a part of something longer."""
    raw = secret.encode()
    spelled = [raw]
    if secret.startswith("whsec_"):
        spelled += [raw.removeprefix(b"whsec_"), base64.b64decode(raw.removeprefix(b"whsec_"))]
    for text in spelled:
        yield text
        yield text.hex().encode()
        yield text.hex().upper().encode()
        yield repr(text)[2:-1].encode()
        for offset in range(3):
            # What a part of a base64 text is depends on where it begins; its ends depend on what is
            # beside it.
            inner = base64.b64encode(b"\0" * offset + text).rstrip(b"=")[4 * (offset > 0) : -4]
            yield inner
            yield inner.translate(bytes.maketrans(b"+/", b"-_"))
    yield quote(secret).encode()
    yield quote(secret, safe="").encode()
    yield quote_plus(secret).encode()
    yield json.dumps(secret)[1:-1].encode()


def _found(secrets: Mapping[str, str], places: Mapping[str, bytes]) -> list[tuple[str, str, bytes]]:
    return [
        (name, place, form)
        for name, secret in secrets.items()
        for form in set(_forms(secret))
        for place, text in places.items()
        if form in text
    ]


def test_the_search_finds_what_it_looks_for() -> None:
    """Each form of a canary, in the middle of something."""
    secrets = {source: _secret(source, "NEW") for source in SCHEMES}
    for name, secret in secrets.items():
        basic = base64.b64encode(f"{USER}:{secret}".encode())
        for written in (
            secret.encode(),
            basic,
            base64.b64encode(b"x" + secret.encode() + b"yz"),
            urlencode({"a": "b", "token": secret}).encode(),
            secret.encode().hex().encode(),
            json.dumps({"token": secret}).encode(),
        ):
            assert _found({name: secret}, {"here": b"a line " + written + b" goes on\n"}), written
    assert not _found(secrets, {"here": b"canary+signed/new, but another"})


class Conversation:
    """Everything that a gateway and its commands said; `secrets` are all that were ever used."""

    def __init__(self, gateway: Gateway, secrets: dict[str, str]) -> None:
        self.gateway = gateway
        self.secrets = secrets
        self.said: dict[str, bytes] = {}
        self.statuses: dict[int, int] = {}

    def _keep(self, what: str, text: bytes) -> None:
        self.said[f"{len(self.said)} {what}"] = text

    def send(self, source: str, secret: str, body: bytes, **more: str) -> int:
        """A delivery with the proof of a secret; the status."""
        checked = _ready(source, secret)
        headers = {**checked.sign(body, time.time()), **more}
        query = urlencode(checked.parameters)
        return self.ask("POST", f"/hooks/{source}?{query}", body, headers)

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        sent = {"Content-Type": "application/json", **headers}
        answer = request(self.gateway.public, method, path, body, sent)
        self._keep(path.partition("?")[0], repr(answer.headers).encode() + answer.body)
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        return answer.status

    def raw(self, text: bytes) -> None:
        """Bytes that need not be a request."""
        with socket.create_connection(("127.0.0.1", self.gateway.public), timeout=20) as connection:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(65_536):
                answer += part
        self._keep("raw", answer)

    def internal(self, method: str, path: str, body: bytes = b"", **headers: str) -> int:
        answer = request(self.gateway.internal, method, path, body or None, headers)
        self._keep(path.partition("?")[0], repr(answer.headers).encode() + answer.body)
        return answer.status

    def command(self, *arguments: str) -> str:
        gateway = self.gateway
        run = run_cli(*arguments, cwd=gateway.folder, environment=gateway.environment)
        self._keep(" ".join(arguments[:2]), (run.stdout + run.stderr).encode())
        return run.stdout

    def searched(self) -> dict[str, bytes]:
        """All that was said, and all files that the gateway wrote but the secrets themselves."""
        folder = self.gateway.folder
        files = [folder / "gateway.log", *(folder / "data").glob("journal*"), *folder.glob("out*")]
        return {**self.said, **{path.name: path.read_bytes() for path in files}}


def _body(number: int, **more: object) -> bytes:
    return json.dumps({"id": f"d-{number}", "app": "shop", "commit": samples.SHA, **more}).encode()


def _write_mappings(folder: Path) -> None:
    folder.mkdir()
    for source, (scheme, _) in SCHEMES.items():
        names = (ENVIRONMENT_NAME.format(source.upper(), age) for age in AGES)
        references = ", ".join(f"{{env: {name}}}" for name in names)
        head = f"source: {source}\nauthenticate: {{{scheme}, secret: [{references}]}}\n"
        (folder / f"{source}.yaml").write_text(head + RULES)


def test_no_secret_is_ever_told(tmp_path: Path) -> None:
    """In no log, metric, journal, error, answer or output of a command: whatever was sent, right, wrong or
    broken, while secrets turn and mappings break. Rows 45 and 46 of the table in
    docs/explanation/security.md."""
    secrets: dict[str, str] = {"the user": USER}
    _write_mappings(tmp_path / "mappings")
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "CANARY_USER").write_text(USER)
    environment = {"no_proxy": "127.0.0.1"}
    for source in SCHEMES:
        for age in AGES:
            secret = secrets[f"{source} {age}"] = _secret(source, age)
            name = ENVIRONMENT_NAME.format(source.upper(), age)
            if age == "OLD":
                environment[name] = secret
            else:
                (folder / name).write_text(f"{secret}\n")
    arguments = ("--mappings", "mappings", "--secrets", "kept", "--watch", "0", "--max-body", "0.1")
    with running(tmp_path, *arguments, environment=environment) as gateway:
        talk = Conversation(gateway, secrets)
        _deliver(talk)
        _break(talk)
        _reload(talk, folder)
        _look(talk)
        assert gateway.counter('gateway_deliveries_total{outcome="accepted",source="basic"}') > 0
        # While it runs: the log of writes is not in the main file yet.
        places = talk.searched()
        assert any(name.endswith("-wal") for name in places)
        gateway.stop()
        places |= {f"{name} afterwards": text for name, text in talk.searched().items()}
    assert {202, 400, 401, 405, 413, 415} <= talk.statuses.keys()
    assert b"dead_lettered" in places["gateway.log"]
    assert b"refused, from 127.0.0.1" in places["gateway.log"]
    assert b"Traceback" not in places["gateway.log"]
    # A parameter whose name only ends in that of the proof.
    assert b"/hooks/query?a=b&foolproof=1" in places["journal.sqlite afterwards"]
    assert len(secrets) > 2 * len(SCHEMES)
    assert _found(secrets, places) == []


def _deliver(talk: Conversation) -> None:
    """Right and wrong proofs, bodies of every outcome."""
    for number, source in enumerate(SCHEMES):
        new, old = (talk.secrets[f"{source} {age}"] for age in AGES)
        wrong = talk.secrets[f"{source} wrong"] = _secret(source, "WRONG")
        for secret in (new, old):
            assert talk.send(source, secret, _body(number, x=secret == new)) == 202
        assert talk.send(source, new, _body(number)) == 202
        assert talk.send(source, new, _body(100 + number, commit="no commit")) == 202
        assert talk.send(source, new, b'{"id": ') == 400
        assert talk.send(source, wrong, _body(number)) == 401
        assert talk.send(source, new, _body(number), **{"Content-Type": "image/png"}) == 415
        assert talk.send(source, new, b" " * 200_000) == 413
        # In the place of something else: a sender's mistake is no reason to tell.
        spare = {"X-Api-Key": new, "Cookie": f"session={new}", "X-Auth-Token": old}
        body = _body(200 + number)
        assert talk.send(source, new, body, **spare) == 202
        if source == "query":
            _forward(talk, new, old)
        assert talk.ask("GET", f"/hooks/{source}?proof={quote(new)}", b"", {}) == 405
        assert talk.ask("POST", f"/hooks/nobody?proof={quote(new)}", b"{}", {}) == 401


def _forward(talk: Conversation, *secrets: str) -> None:
    """Proxies that repeat the URL with its secret in headers of their own."""
    for number, secret in enumerate(secrets):
        url = f"/hooks/query?a=b&{urlencode({'proof': secret})}"
        login = f"https://login.example/?rd={quote(url, safe='')}"
        headers = {
            "X-Original-URI": url,
            "X-Forwarded-Uri": url.replace("proof", "%70roof"),
            "X-Envoy-Original-Path": url,
            "X-Original-URL": f"https://gateway.example.com{url}",
            "Referer": login,
            "X-Redirect": f"/?next={quote(login, safe='')}",
            "X-Request-Line": f"POST {url} HTTP/1.1",
            "X-Query": secret,
            "X-Kept": "https://gateway.example.com/hooks/query?a=b&foolproof=1",
        }
        assert talk.send("query", secret, _body(300 + number), **headers) == 202


def _break(talk: Conversation) -> None:
    """Requests that are none, or proofs that are malformed, around a secret."""
    for source in SCHEMES:
        secret = talk.secrets[f"{source} NEW"]
        checked = _ready(source, secret)
        for name, value in {**checked.sign(b"{}", time.time()), "Authorization": secret}.items():
            for broken in (value[1:], value + "x", f"{value},{value}", f"Basic {value}", "Bearer "):
                assert talk.ask("POST", f"/hooks/{source}", b"{}", {name: broken}) in (401, 202)
        head = f"POST /hooks/{source}?proof={quote(secret)} HTTP/1.1\r\nHost: x\r\n".encode()
        line = b"Authorization: Bearer " + secret.encode() + b"\r\n"
        for text in (
            head + line + line + b"Content-Length: 2\r\n\r\n{}",
            head + line + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            head + line + b"Content-Length: x\r\n\r\n",
            head.replace(b"HTTP/1.1", b"HTTP/9") + line + b"\r\n",
            head + line + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
            line + head,
            head + line,
        ):
            talk.raw(text)
        path = f"/{quote(secret, safe='')}"
        assert talk.ask("POST", path, b"{}", {}) == 404
        assert talk.ask("GET", f"/hooks/{quote(secret, safe='')}", b"", {}) in (404, 405)


def _reload(talk: Conversation, folder: Path) -> None:
    """Secrets that turn, that are too short, no text, or gone; mappings that break."""
    for source in SCHEMES:
        path = folder / ENVIRONMENT_NAME.format(source.upper(), "NEW")
        before = path.read_bytes()
        short = talk.secrets[f"{source} short"] = f"cn-{os.urandom(4).hex()}"
        broken = talk.secrets[f"{source} broken"] = f"canary-broken-{os.urandom(9).hex()}"
        for content in (
            short.encode(),
            broken.encode() + b"\n\n",
            broken.encode() + b"\xff",
            broken.encode() * 4_000,
        ):
            path.write_bytes(content)
            assert talk.internal("POST", "/-/reload") == 422
            talk.command("sources", source, "--mappings", "mappings", "--secrets", "kept")
        path.write_bytes(before)
        turned = talk.secrets[f"{source} turned"] = _secret(source, "TURNED")
        path.write_text(turned)
        mapping = talk.gateway.folder / "mappings" / f"{source}.yaml"
        text = mapping.read_text()
        mapping.write_text(text.replace("body.app", "body.app ||"))
        assert talk.internal("POST", "/-/reload") == 422
        mapping.write_text(text)
        assert talk.internal("POST", "/-/reload") == 200
        assert talk.send(source, talk.secrets[f"{source} NEW"], _body(1)) == 401
        assert talk.send(source, turned, _body(1)) == 202


def _look(talk: Conversation) -> None:
    """All pages and all commands."""
    for path in ("/metrics", "/metrics/series", "/metrics/process", "/-/ready", "/-/healthy"):
        assert talk.internal("GET", path) == 200
    with_files = ("--mappings", "mappings", "--secrets", "kept")
    body = talk.gateway.folder / "body.json"
    body.write_bytes(_body(1))
    public = f"http://127.0.0.1:{talk.gateway.public}"
    for source in SCHEMES:
        for secret in ("turned", "wrong"):
            proof = _ready(source, talk.secrets[f"{source} {secret}"])
            headers = proof.sign(_body(1), time.time())
            path = f"/try/{source}?{urlencode(proof.parameters)}"
            for accept in ("text/plain", "application/json"):
                given = {"Accept": accept, "Content-Type": "application/json", **headers}
                assert talk.internal("POST", path, _body(1), **given) == 200
            flags = [one for name in headers for one in ("-H", f"{name}: {headers[name]}")]
            talk.command("try", source, "body.json", *flags, *with_files)
        talk.command("show", source, "--mappings", "mappings")
        talk.command("send", source, "body.json", "--url", public, *with_files)
        talk.command("send", source, "body.json", "--url", "http://127.0.0.1:9", *with_files)
    listed = talk.command("deliveries")
    assert "dead_lettered" in listed
    talk.command("deliveries", "--format", "json")
    talk.command("explain", "d-100", *with_files)
    talk.command("explain", "d-200", "--format", "json", *with_files)
    talk.command("export", "--output", "out.txt")
    talk.command("check", "mappings")


def test_a_token_of_an_issuer_is_not_told_either(tmp_path: Path) -> None:
    """Right or wrong, none of its three parts. Rows 45 and 46."""
    key, url = issuers.SigningKey("one", "ES256"), "https://issuer.example.com"
    (tmp_path / "keys.json").write_bytes(issuers.key_set(key))
    (tmp_path / "ci.yaml").write_text(
        f"source: ci\nauthenticate: {{scheme: oidc, issuer: {url}, audience: {issuers.AUDIENCE}, "
        "claims: {repository_owner: octo}, jwks_file: keys.json}\n" + RULES
    )
    tokens = {}
    with running(tmp_path, "--mappings", "ci.yaml", environment={}) as gateway:
        talk = Conversation(gateway, {})
        for name, owner, status in (("right", "octo", 202), ("wrong", "canary-owner", 401)):
            tokens[name] = token = key.sign(issuers.claims(url, repository_owner=owner))
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            assert talk.ask("POST", "/hooks/ci", _body(1), headers) == status
            assert talk.internal("POST", "/try/ci", _body(1), **headers) == 200
        gateway.stop()
    parts = {f"{name} {n}": p for name, one in tokens.items() for n, p in enumerate(one.split("."))}
    # The head is the same for every token, and no secret.
    secrets = {name: part for name, part in parts.items() if not name.endswith("0")}
    assert _found({**secrets, "claim": "canary-owner"}, talk.searched()) == []
