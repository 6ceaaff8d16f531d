"""The server's side of a connection, guarded: who is slow, boundless or ambiguous is told so and let go.

uvicorn's protocol has no deadlines and no limit of headers, keeps reading after an early answer, and
takes some requests that two servers may understand in two ways. This subclass adds what it lacks.
What it relies on of uvicorn is in docs/adr/0015-guarded-edge.md; tests/test_edge.py is the contract.
"""

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Iterable
from http import HTTPStatus
from math import inf
from typing import Any

import httptools
from msgspec import Struct
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.app import http

KIB = 1024
MAX_HEAD = 64 * KIB
"""Bytes of a request line with its headers; also of whatever else in a request is not its body."""
MAX_HEADERS = 256
"""Headers of a request, and as many trailers. Of each, however short, more than a hundred bytes are kept
until the request is answered; senders and their proxies add a few dozen."""
MAX_URL = 8 * KIB
MAX_DROPPED = 1024 * KIB
"""Bytes that are read and thrown away while an answer reaches a sender that is still sending."""
LINGER = 0.5
"""Seconds for that."""
GRACE = 0.3
"""Seconds in which the application may answer a body that is too late, before the protocol does."""
AT_ONCE = 16
"""Connections that are let go in one turn of the loop: those that came together are late together, and
whoever means it need not wait for the answers to thousands."""
LAG = 0.1
"""Seconds by which the application may begin to read later than the headers were complete."""
WRITE_TIMEOUT = 60.0
"""Seconds in which a peer must take in enough of an answer for more of it to be written."""
MAX_DIGITS = 20
"""Of a length: those of the largest number that the parser takes."""
VERSIONS = ("1.1", "1.0")
_NO_PIPELINE: deque[Any] = deque()
"""uvicorn's queue of requests behind the one that is being answered, which is never used here."""
_OF_UPGRADES = (b"connection", b"http2-settings", b"upgrade")


class Deadlines(Struct, frozen=True):
    """Seconds for the headers of a request, for its body, and between two requests."""

    headers: float
    body: float
    idle: float = 30


class Listener:
    """What the connections of one listener share. `most` of them are kept open at once; `refused` is
    told the reason for each request that never reached the application."""

    def __init__(self, deadlines: Deadlines, most: int, refused: Callable[[str], None]) -> None:
        self.deadlines = deadlines
        self.most = most
        self.refused = refused
        self.draining = False

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> "GuardedProtocol":
        """A protocol for a new connection; the arguments are uvicorn's."""
        return GuardedProtocol(config, server_state, app_state, _loop, listener=self)


class _Stage(enum.Enum):
    """What a connection waits for."""

    IDLE = enum.auto()
    """The first byte of a request."""
    HEAD = enum.auto()
    BODY = enum.auto()
    ANSWER = enum.auto()
    """The application; the request is whole."""
    LAST_ANSWER = enum.auto()
    """The same, for the last time: what else comes in is thrown away."""
    LEAVING = enum.auto()
    """Its sender: the answer is out, and what still comes in is thrown away."""


class _Stop(Exception):
    """Makes the parser stop."""


class _Hangup:
    """The transport as an answer sees it: closing it lets the answer arrive first."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `expire` must be called when `deadline`, in the loop's time, has passed."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        listener: Listener,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._listener = listener
        self._stage = _Stage.IDLE
        self._bare = 0
        self._dropped = 0
        self._keep_alive = False
        self._is_late = False
        self._refusal: tuple[HTTPStatus, str, str] | None = None
        self._hangup: _Hangup | None = None
        # An empty one for each connection would be a tenth of what it takes.
        self.pipeline = _NO_PIPELINE
        self.waits_since = 0.0
        self.deadline = inf

    # What comes from the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn takes no other transport than one that writes.
        super().connection_made(transport)
        self._hangup = _Hangup(transport, self._close)
        self._wait(_Stage.IDLE, self._listener.deadlines.headers)
        if len(self.connections) > self._listener.most:
            make_room(self.connections)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.deadline = inf
        # Both lead back here, and thousands of dead connections would wait for the collector.
        self._hangup = None
        self.cycle = None  # type: ignore[assignment]  # As uvicorn's own before the first request.

    def data_received(self, data: bytes) -> None:
        if self._stage in (_Stage.LAST_ANSWER, _Stage.LEAVING):
            self._drop(len(data))
            return
        self._bare += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._parser_stopped()
        else:
            if self._bare > MAX_HEAD and self._stage in (_Stage.HEAD, _Stage.BODY):
                self._refuse(*_TOO_LARGE)

    def eof_received(self) -> None:
        """A sender that has nothing more to say is let go, as by uvicorn."""

    def pause_writing(self) -> None:
        super().pause_writing()
        self.deadline = min(self.deadline, self.loop.time() + WRITE_TIMEOUT)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stage in (_Stage.ANSWER, _Stage.LAST_ANSWER) and not self.transport.is_closing():
            self.deadline = inf

    # What comes from the parser

    def on_message_begin(self) -> None:
        if self._stage is _Stage.ANSWER:
            # A request before the last one was answered: nobody who posts does that in good faith.
            raise _Stop
        super().on_message_begin()
        if self.cycle is None:
            # The time of a new connection counts, or a sender would have twice as much of it.
            self._stage = _Stage.HEAD
        else:
            self._wait(_Stage.HEAD, self._listener.deadlines.headers)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            self._refusal = _TOO_MANY
            raise _Stop

    def on_headers_complete(self) -> None:
        self._refusal = self._objection()
        if self._refusal is not None:
            raise _Stop
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        # What else comes is a trailer: it is no part of the headers that prove the sender.
        self.headers = []
        # An answer before the end of the body ends the connection, whoever gives it.
        self._keep_alive = self.cycle.keep_alive
        self.cycle.keep_alive = False
        self.cycle.transport = self._hangup  # type: ignore[assignment]  # It has all that a cycle uses of a transport.
        self._is_late = False
        self._wait(_Stage.BODY, self._listener.deadlines.body + LAG)

    def on_body(self, body: bytes) -> None:
        self._bare = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._bare = 0
        self._wait_for_answer(_Stage.ANSWER)
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keep_alive and not self._listener.draining

    # What comes from the application and the server

    def on_response_complete(self) -> None:
        if self._stage is _Stage.LEAVING or self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._wait(_Stage.IDLE, self._listener.deadlines.idle)

    def shutdown(self) -> None:
        self._keep_alive = False
        if self._stage is _Stage.LEAVING and self.is_waiting:
            self.abort()
        else:
            super().shutdown()

    def expire(self) -> None:
        """The deadline has passed."""
        if self._stage is _Stage.HEAD:
            seconds = self._listener.deadlines.headers
            detail = f"the headers did not arrive within {seconds:g} seconds"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "slow_headers", detail)
        elif self._stage is _Stage.BODY and not self._is_late:
            # An empty piece of the body wakes the application, which sees for itself how late it is.
            self._is_late = True
            self.cycle.message_event.set()
            self.deadline += GRACE
        elif self._stage is _Stage.BODY:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "too_slow", "the body did not arrive in time")
        else:
            self.abort()

    def abort(self) -> None:
        """Ends the connection at once."""
        self._stage = _Stage.LEAVING
        self.deadline = inf
        self.connections.discard(self)
        self.transport.abort()

    @property
    def is_waiting(self) -> bool:
        """Whether it is the peer's turn."""
        return self.deadline != inf

    # The rest

    def _wait(self, stage: _Stage, seconds: float) -> None:
        self._stage = stage
        self.waits_since = self.loop.time()
        self.deadline = self.waits_since + seconds

    def _wait_for_answer(self, stage: _Stage) -> None:
        """It is the application's turn, which has deadlines of its own; or it is the peer's, where an
        earlier answer is not taken in yet: the application then waits for that."""
        self._stage = stage
        self.deadline = self.loop.time() + WRITE_TIMEOUT if self.flow.write_paused else inf

    def _objection(self) -> tuple[HTTPStatus, str, str] | None:
        """What is wrong with the headers that the parser lets pass."""
        version = self.parser.get_http_version()
        if version not in VERSIONS:
            return _bad("the version of HTTP must be 1.1 or 1.0")
        names = [name for name, _ in self.headers]
        hosts = names.count(b"host")
        if hosts > 1 or (not hosts and version == "1.1"):
            return _bad("there must be one Host header")
        if b"transfer-encoding" in names:
            codings = [value for name, value in self.headers if name == b"transfer-encoding"]
            if version != "1.1" or [one.lower() for one in codings] != [b"chunked"]:
                return _bad("Transfer-Encoding must be chunked, and nothing else")
        lengths = [value.rstrip() for name, value in self.headers if name == b"content-length"]
        if any(len(one) > MAX_DIGITS for one in lengths):
            # The parser passes over zeros before a number, however many; readers of numbers do not.
            return _bad(f"Content-Length is longer than {MAX_DIGITS} digits")
        if len(self.url) > MAX_URL:
            detail = f"the URL is longer than {MAX_URL} bytes"
            return HTTPStatus.REQUEST_URI_TOO_LONG, "too_large", detail
        # What was read may hold the beginning of the body too, so it is only now that they are measured.
        if self._bare > MAX_HEAD and _size(self.headers) + len(self.url) > MAX_HEAD:
            return _TOO_LARGE
        return None

    def _decline_upgrade(self, rest: bytes) -> None:
        """Reads the request once more, without its offer of another protocol: the parser would take its
        body for that protocol. Some clients offer HTTP 2 with every request that is not encrypted."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(*_bad("this is no proxy"))
            return
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        lines.extend(b"%b: %b" % one for one in self.headers if one[0] not in _OF_UPGRADES)
        self.parser = httptools.HttpRequestParser(self)
        self._bare = 0
        self.data_received(b"\r\n".join((*lines, b"Connection: close", b"", rest)))

    def _parser_stopped(self) -> None:
        if self._refusal is None and self._stage is _Stage.ANSWER:
            # A second request came before the first was answered; or what followed it is not HTTP.
            self._leave_after_answer()
        else:
            self._refuse(*self._refusal or _bad("this is not HTTP"))

    def _leave_after_answer(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._close()
            return
        self.cycle.keep_alive = False
        self._wait_for_answer(_Stage.LAST_ANSWER)

    def _refuse(self, status: HTTPStatus, reason: str, detail: str) -> None:
        """Answers in place of the application, and hangs up."""
        self._listener.refused(reason)
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._answer(status, detail)
        else:
            if not cycle.response_started:
                self._answer(status, detail)
            # The application learns that there is nobody to answer to.
            cycle.disconnected = True
            cycle.message_event.set()
        self._close()

    def _answer(self, status: HTTPStatus, detail: str) -> None:
        body = http.problem(status, detail)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", http.PROBLEM),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
        lines.extend(b"%b: %b" % header for header in headers)
        self.transport.write(b"\r\n".join((*lines, b"", body)))

    def _close(self) -> None:
        """Hangs up; where the sender has more to send, only when the answer had time to arrive: bytes
        that nobody reads would make the kernel reset the connection, and the answer be lost."""
        if self.transport.is_closing():
            return
        if self._stage is _Stage.ANSWER:
            # It stays open until the peer has taken in what is left of the answer.
            self.deadline = self.loop.time() + WRITE_TIMEOUT
            self.transport.close()
            return
        self._wait(_Stage.LEAVING, LINGER)
        self.transport.write_eof()
        self.flow.resume_reading()

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > MAX_DROPPED:
            self.abort()


async def sweep(connections: Iterable[object], now: float) -> None:
    """Expires the connections whose deadline has passed at this time of the loop."""
    guarded = (one for one in list(connections) if isinstance(one, GuardedProtocol))
    late = [one for one in guarded if one.deadline <= now]
    for number, one in enumerate(late, 1):
        # It may have been whole, or gone, in one of the turns since.
        if one.deadline <= now:
            one.expire()
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)


def end_all(connections: Iterable[object]) -> None:
    """Ends connections whatever they are at."""
    for one in list(connections):
        if isinstance(one, GuardedProtocol):
            one.abort()


def make_room(connections: Iterable[object]) -> None:
    """Ends one in fifty of the connections that wait for their peers, those that wait longest first:
    a sender that means it is done in a moment, so it is not among them."""
    guarded = [one for one in connections if isinstance(one, GuardedProtocol)]
    waiting = sorted((one for one in guarded if one.is_waiting), key=lambda one: one.waits_since)
    for one in waiting[: 1 + len(waiting) // 50]:
        one.abort()


def _bad(detail: str) -> tuple[HTTPStatus, str, str]:
    return HTTPStatus.BAD_REQUEST, "not_http", detail


_TOO_LARGE = (
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "too_large",
    f"what is not the body is larger than {MAX_HEAD} bytes",
)

_TOO_MANY = (
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "too_large",
    f"there are more than {MAX_HEADERS} headers",
)


def _size(headers: http.RawHeaders) -> int:
    return sum(len(name) + len(value) for name, value in headers)
