"""The raw side of a request and of an answer: paths, headers, bodies under a limit and a deadline."""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl

import msgspec
from litestar.types import HTTPScope, Receive, Send

RawHeaders = Iterable[tuple[bytes, bytes]]
JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
PROBLEM = b"application/problem+json"
RETRY_AFTER = 5
"""Seconds that a sender is asked to wait when the gateway cannot take its delivery."""


class Refused(Exception):
    """The request is refused; `reason` is one of a fixed set of words, for the metric. Where `close`
    is set, the rest of the body was not read and the connection cannot be used again."""

    def __init__(
        self,
        status: HTTPStatus,
        reason: str,
        detail: str = "",
        *,
        close: bool = False,
        headers: RawHeaders = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.close = close
        self.headers = headers


class Disconnected(Exception):
    """The sender went away before its request was complete; nobody waits for an answer."""


class Budget:
    """Bytes of bodies that are being read or mapped, over all requests."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def take(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        self._left += size


class Body:
    """The body of one request, read on `async with` and counted against the budget until its end.

    Raises Refused for a body that is too large, too slow, or one too many; and Disconnected.
    """

    def __init__(
        self, scope: HTTPScope, receive: Receive, limit: int, deadline: float, budget: Budget
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._limit = limit
        self._deadline = deadline
        self._budget = budget
        self._taken = 0

    async def __aenter__(self) -> bytes:
        try:
            async with asyncio.timeout(self._deadline):
                return await self._read()
        except TimeoutError:
            self._release()
            detail = f"the body did not arrive within {self._deadline:g} seconds"
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, "too_slow", detail, close=True) from None
        except asyncio.CancelledError:
            # The server cancels what is unfinished when the time to shut down in order is over.
            self._release()
            raise unavailable("stopping", "the gateway stops", close=True) from None
        except BaseException:
            self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        self._budget.give_back(self._taken)
        self._taken = 0

    async def _read(self) -> bytes:
        declared = header(self._scope["headers"], b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > self._limit:
            raise self._too_large()
        chunks: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            chunk = cast("bytes", message.get("body", b""))
            if self._taken + len(chunk) > self._limit:
                raise self._too_large()
            if not self._budget.take(len(chunk)):
                raise unavailable("overloaded", "too many deliveries at once", close=True)
            self._taken += len(chunk)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    def _too_large(self) -> Refused:
        detail = f"the body is larger than {self._limit} bytes"
        return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", detail, close=True)


def unavailable(reason: str, detail: str, *, close: bool = False) -> Refused:
    """Refuses for now: the sender is asked to try again."""
    after = (b"retry-after", str(RETRY_AFTER).encode())
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, reason, detail, close=close, headers=[after])


def header(headers: RawHeaders, name: bytes) -> bytes | None:
    """The first header of a name, in lower case; None where there is none."""
    return next((value for key, value in headers if key == name), None)


def texts(headers: RawHeaders) -> dict[str, str]:
    """Headers as expressions read them: lower-case names, several of one name joined by a comma."""
    joined: dict[str, str] = {}
    for key, value in headers:
        name, text = key.decode("latin-1").lower(), value.decode("latin-1")
        joined[name] = f"{joined[name]}, {text}" if name in joined else text
    return joined


def query(scope: HTTPScope) -> dict[str, str]:
    """The first value of each query parameter."""
    found: dict[str, str] = {}
    raw = scope["query_string"].decode("latin-1")
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


async def answer(
    send: Send,
    status: int,
    body: bytes,
    content_type: bytes = JSON,
    headers: RawHeaders = (),
    *,
    close: bool = False,
) -> None:
    """Sends a whole answer."""
    fixed = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    closing = [(b"connection", b"close")] if close else []
    await send(
        {"type": "http.response.start", "status": status, "headers": [*fixed, *headers, *closing]}
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


def problem(status: int, detail: str = "", **members: object) -> bytes:
    """A problem document (RFC 9457); its `type` is the default, so the status says it all."""
    document: dict[str, object] = {"title": HTTPStatus(status).phrase, "status": status}
    if detail:
        document["detail"] = detail
    return msgspec.json.encode({**document, **members})
