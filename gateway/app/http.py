"""The raw side of a request and of an answer: paths, headers, bodies under a limit and a deadline."""

import asyncio
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import cast

import msgspec
from litestar.types import HTTPScope, Receive, Send

from gateway import urlencoded

RawHeaders = Iterable[tuple[bytes, bytes]]
JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
PROBLEM = b"application/problem+json"
RETRY_AFTER = 5
"""Seconds that a sender is asked to wait when the gateway cannot take its delivery."""
MOMENT = 1.0
"""Seconds in which a body usually arrives."""


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
    """Bytes of the bodies that are being read, mapped or waiting for their commit, over all requests.

    Where they do not suffice, the body that has been arriving longest is given up, if that is longer
    than a moment: who holds the budget without finishing must not keep out those that finish.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._unfinished: dict[Body, None] = {}

    def take(self, body: "Body", size: int) -> bool:
        """Whether so many bytes more of a body may be kept."""
        while size > self._left:
            oldest = next(iter(self._unfinished), body)
            if oldest is body or oldest.age < MOMENT:
                return False
            oldest.give_up()
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        self._left += size

    def unfinished(self, body: "Body") -> None:
        """More of this body is to come."""
        self._unfinished.setdefault(body)

    def finished(self, body: "Body") -> None:
        """No more of it is to come; its bytes stay taken."""
        self._unfinished.pop(body, None)


class Body:
    """The body of one request, read on `async with` and counted against the budget until its end.

    Raises Refused for a body that is too large, too slow, or one too many; and Disconnected. When the
    time is over and nothing arrives, the guarded protocol hands out an empty piece of the body.
    """

    def __init__(
        self, scope: HTTPScope, receive: Receive, limit: int, deadline: float, budget: Budget
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._limit = limit
        self._deadline = deadline
        self._budget = budget
        self._pieces: list[bytes] = []
        self._taken = 0
        self._started = time.monotonic()
        self._is_given_up = False

    @property
    def age(self) -> float:
        return time.monotonic() - self._started

    def give_up(self) -> None:
        """Lets go of what was read; the reader learns of it with the next piece."""
        self._is_given_up = True
        self._release()

    async def __aenter__(self) -> bytes:
        try:
            return await self._read()
        except asyncio.CancelledError:
            # The server cancels what is unfinished when the time to shut down in order is over.
            self._release()
            raise stopping() from None
        except BaseException:
            self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        self._budget.finished(self)
        self._budget.give_back(self._taken)
        self._taken = 0
        self._pieces.clear()

    async def _read(self) -> bytes:
        declared = header(self._scope["headers"], b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > self._limit:
            raise self._too_large()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            piece = cast("bytes", message.get("body", b""))
            self._keep(len(piece))
            if not message.get("more_body", False):
                break
            if self.age >= self._deadline:
                raise self._too_slow()
            self._pieces.append(piece)
            self._budget.unfinished(self)
        if not self._pieces:
            return piece
        self._budget.finished(self)
        whole = b"".join((*self._pieces, piece))
        self._pieces.clear()
        return whole

    def _keep(self, size: int) -> None:
        if self._taken + size > self._limit:
            raise self._too_large()
        if self._is_given_up or not self._budget.take(self, size):
            raise unavailable("overloaded", "too many deliveries at once", close=True)
        self._taken += size

    def _too_large(self) -> Refused:
        detail = f"the body is larger than {self._limit} bytes"
        return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", detail, close=True)

    def _too_slow(self) -> Refused:
        detail = f"the body did not arrive within {self._deadline:g} seconds"
        return Refused(HTTPStatus.REQUEST_TIMEOUT, "too_slow", detail, close=True)


def stopping() -> Refused:
    """Refuses because the process ends."""
    return unavailable("stopping", "the gateway stops", close=True)


def require_post(scope: HTTPScope, detail: str) -> None:
    """Raises Refused for any other method."""
    if scope["method"] != "POST":
        status, allow = HTTPStatus.METHOD_NOT_ALLOWED, [(b"allow", b"POST")]
        raise Refused(status, "method", detail, close=True, headers=allow)


def unavailable(reason: str, detail: str, *, close: bool = False) -> Refused:
    """Refuses for now: the sender is asked to try again."""
    after = (b"retry-after", str(RETRY_AFTER).encode())
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, reason, detail, close=close, headers=[after])


def header(headers: RawHeaders, name: bytes) -> bytes | None:
    """The first header of a name, in lower case; None where there is none."""
    for key, value in headers:
        if key == name:
            return value
    return None


def texts(headers: RawHeaders) -> dict[str, str]:
    """Headers as expressions read them: lower-case names, as the server gives them, and several
    values of one name joined by a comma."""
    joined: dict[str, str] = {}
    for key, value in headers:
        name, text = key.decode("latin-1"), value.decode("latin-1")
        joined[name] = f"{joined[name]}, {text}" if name in joined else text
    return joined


def query(scope: HTTPScope) -> dict[str, str]:
    """The first value of each query parameter; none of more than a hundred."""
    if not scope["query_string"]:
        return {}
    try:
        pairs = urlencoded.fields(scope["query_string"], 100)
    except ValueError:
        return {}
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name.decode(errors="replace"), value.decode(errors="replace"))
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
    lines = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers]
    if close:
        lines.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def problem(status: int, detail: str = "", **members: object) -> bytes:
    """A problem document (RFC 9457); its `type` is the default, so the status says it all."""
    document: dict[str, object] = {"title": HTTPStatus(status).phrase, "status": status}
    if detail:
        document["detail"] = detail
    return msgspec.json.encode({**document, **members})
