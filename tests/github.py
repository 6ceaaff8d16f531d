"""GitHub's webhooks as its documentation describes them, on loopback: it delivers, remembers every attempt,
lists them page by page, and tries again when it is asked to."""

import contextlib
import http.client
import json
import re
import ssl
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import UnionType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.harness import hub_signature

TOKEN = "github_pat_11TESTONLY_ntHRNfpxV0"
SCHEMA: Mapping[str, type | UnionType] = {
    "id": int,
    "guid": str,
    "delivered_at": str,
    "redelivery": bool,
    "duration": float,
    "status": str,
    "status_code": int | None,
    "event": str,
    "action": str | None,
    "installation_id": int | None,
    "repository_id": int | None,
    "throttled_at": str | None,
}
"""What the documentation says of an item in the list of deliveries; it does not say what stands for no answer."""


@dataclass
class Refusal:
    """An answer that the API gives in place of its own, once, to the requests that it is for."""

    method: str
    path: str
    status: int
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes = b""


@dataclass
class GitHub:
    """One owner's webhooks. `asked` are the requests, as `METHOD path?query`."""

    owner: str = "/repos/harbour-works/tide-table"
    url: str = ""
    per_page: int = 100
    hooks: dict[int, dict[str, Any]] = field(default_factory=dict)
    attempts: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    payloads: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    secret: str = ""
    refusals: list[Refusal] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    endless: bool = False
    _ids: int = 21_000_000_000

    def hook(self, number: int, url: str, *, active: bool = True) -> int:
        self.hooks[number] = {
            "type": "Repository",
            "id": number,
            "name": "web",
            "active": active,
            "events": ["push"],
            "config": {"url": url, "content_type": "json", "insecure_ssl": "0"},
        }
        self.attempts[number] = []
        return number

    def attempted(
        self,
        hook: int,
        status_code: int | None,
        *,
        guid: str = "",
        age: float = 60,
        event: str = "push",
        action: str | None = None,
        redelivery: bool = False,
    ) -> dict[str, Any]:
        """Remembers an attempt, made `age` seconds ago; the list is the latest first."""
        self._ids += 1
        moment = datetime.fromtimestamp(int(time.time() - age), UTC)
        words = {200: "OK", 202: "OK", 0: "failed to connect", None: "failed to connect"}
        attempt = {
            "id": self._ids,
            "guid": guid or str(uuid.uuid4()),
            "delivered_at": moment.isoformat().replace("+00:00", "Z"),
            "redelivery": redelivery,
            "duration": 0.27,
            "status": words.get(status_code, "Invalid HTTP Response"),
            "status_code": status_code,
            "event": event,
            "action": action,
            "installation_id": None,
            "repository_id": 4711,
            "throttled_at": None,
        }
        assert attempt.keys() == SCHEMA.keys()
        assert all(isinstance(value, SCHEMA[name]) for name, value in attempt.items())
        listed = self.attempts[hook]
        listed.append(attempt)
        listed.sort(key=lambda one: (one["delivered_at"], one["id"]), reverse=True)
        return attempt

    def deliver(self, hook: int, event: str, payload: Any) -> dict[str, Any]:
        """An event happens: it is posted to the webhook once, and that is remembered."""
        guid = str(uuid.uuid4())
        self.payloads[guid] = (event, json.dumps(payload).encode())
        return self._post(hook, guid, redelivery=False)

    def _post(self, hook: int, guid: str, *, redelivery: bool) -> dict[str, Any]:
        event, body = self.payloads[guid]
        parts = urlsplit(self.hooks[hook]["config"]["url"])
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": guid,
            "X-Hub-Signature-256": hub_signature(body, self.secret),
        }
        try:
            connection.request("POST", parts.path, body, headers)
            status = connection.getresponse().status
        except OSError:
            status = 0
        finally:
            connection.close()
        return self.attempted(hook, status, guid=guid, age=0, event=event, redelivery=redelivery)

    def requested(self) -> list[int]:
        """The attempts that were asked to be made again, in their order."""
        found = [re.fullmatch(r"POST .*/deliveries/(\d+)/attempts", line) for line in self.asked]
        return [int(match[1]) for match in found if match]

    def answer(self, method: str, target: str, token: str) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers."""
        self.asked.append(f"{method} {target}")
        parts = urlsplit(target)
        for refusal in self.refusals:
            if refusal.method == method and re.search(refusal.path, target):
                self.refusals.remove(refusal)
                body = refusal.raw or json.dumps({"message": refusal.message}).encode()
                return refusal.status, body, refusal.headers
        if token != f"Bearer {TOKEN}":
            return _message(401, "Bad credentials")
        path = parts.path.removeprefix(urlsplit(self.url).path)
        match = re.fullmatch(
            rf"{self.owner}/hooks(?:/(\d+)(/deliveries(?:/(\d+)/attempts)?)?)?", path
        )
        if match is None or (match[1] and int(match[1]) not in self.hooks):
            return _message(404, "Not Found")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if method == "POST" and match[3]:
            return self._again(int(match[1]), int(match[3]))
        assert method == "GET"
        if not match[1]:
            return self._page(path, query, "page", list(self.hooks.values()))
        if not match[2]:
            return 200, json.dumps(self.hooks[int(match[1])]).encode(), self.headers
        return self._page(path, query, "cursor", self.attempts[int(match[1])])

    def _page(
        self, path: str, query: Mapping[str, str], name: str, items: list[dict[str, Any]]
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """A cursor is opaque: `v1_` and a number here."""
        size = min(self.per_page, int(query.get("per_page", "30")))
        start = int(query.get(name, "0").removeprefix("v1_"))
        headers = dict(self.headers)
        endless = self.endless and name == "cursor"
        if start + size < len(items) or endless:
            address = f"{self.url}{path}?per_page={size}&{name}"
            following = start if endless else start + size
            headers["Link"] = (
                f'<{address}=v1_0>; rel="first", <{address}=v1_{following}>; rel="next"'
            )
        return 200, json.dumps(items[start : start + size]).encode(), headers

    def _again(self, hook: int, number: int) -> tuple[int, bytes, Mapping[str, str]]:
        found = [one for one in self.attempts[hook] if one["id"] == number]
        if not found:
            return _message(404, "Not Found")
        guid = found[0]["guid"]
        if guid in self.payloads:
            self._post(hook, guid, redelivery=True)
        return 202, b"{}", self.headers


def _message(status: int, text: str) -> tuple[int, bytes, Mapping[str, str]]:
    return status, json.dumps({"message": text, "documentation_url": "https://x.test"}).encode(), {}


@contextlib.contextmanager
def serving(github: GitHub, base: str = "", tls: ssl.SSLContext | None = None) -> Iterator[GitHub]:
    """The API on a port of its own, below a base path where one is given; by TLS as `localhost`."""

    class Handler(BaseHTTPRequestHandler):
        # In one piece: the body would otherwise wait until the head is acknowledged.
        wbufsize = -1

        def _do(self) -> None:
            assert self.headers["User-Agent"]
            assert self.headers["Accept"] == "application/vnd.github+json"
            status, body, headers = github.answer(
                self.command, self.path, self.headers.get("Authorization", "")
            )
            self.send_response_only(status)
            usual = {"Date": self.date_time_string(), "Content-Length": str(len(body))}
            for name, value in {**usual, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = _do  # noqa: N815  # What the server calls it.
        do_POST = _do  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    github.url = f"http://127.0.0.1:{server.server_address[1]}{base}"
    if tls is not None:
        github.url = f"https://localhost:{server.server_address[1]}{base}"
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield github
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
