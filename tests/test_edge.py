"""The guarded edge over raw sockets: what is slow, boundless or ambiguous, on the real server process.

What the gateway relies on of its server's internals (docs/adr/0015-guarded-edge.md) is held to here.
"""

import contextlib
import itertools
import json
import os
import re
import selectors
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from tests import samples
from tests.harness import (
    GITHUB_SECRET,
    GITLAB_SECRET,
    Gateway,
    eventually,
    hub_signature,
    running,
)

SIGNED = b"X-Hub-Signature-256: " + hub_signature(b"{}", GITHUB_SECRET).encode() + b"\r\n"
POST = b"POST /hooks/github HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
SMUGGLED = POST + SIGNED + b"X-GitHub-Delivery: smuggled\r\nContent-Length: 2\r\n\r\n{}"
HEADER_TIMEOUT, BODY_TIMEOUT = 1.0, 2.0
PIPELINE_SECRET = "a secret for a pipeline"


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with short deadlines and one source of each kind of authentication."""
    folder = tmp_path_factory.mktemp("edge")
    secret = "secret: {env: PIPELINE_SECRET}"
    schemes = {
        "token": f"scheme: token, header: X-Token, {secret}",
        "bearer": f"scheme: bearer, {secret}",
        "basic": f"scheme: basic, username: {{env: PIPELINE_USER}}, {secret}",
        "standard": f"scheme: standard-webhooks, {secret}",
        "timed": f"scheme: hmac, header: X-Sign, {secret}, timestamp_header: X-Time, "
        "signed: '{timestamp}.{body}'",
    }
    for name, scheme in schemes.items():
        (folder / f"{name}.yaml").write_text(
            f"source: {name}\nauthenticate: {{{scheme}}}\nrules:\n"
            "  - {name: a deployment, emit: deploytime, fields: {app: body.app,\n"
            "     commit: body.commit, timestamp: received_at}}\n"
        )
    environment = {
        "GITHUB_WEBHOOK_SECRET": GITHUB_SECRET,
        "GITLAB_WEBHOOK_SECRET": GITLAB_SECRET,
        "PIPELINE_SECRET": PIPELINE_SECRET,
        "PIPELINE_USER": "pipeline",
    }
    deadlines = ("--header-timeout", f"{HEADER_TIMEOUT}", "--body-timeout", f"{BODY_TIMEOUT}")
    limits = ("--max-body", "0.5", "--mappings", str(folder))
    with running(folder, *deadlines, *limits, environment=environment) as gateway:
        yield gateway
        assert "Traceback" not in gateway.output


def _connected(gateway: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.public), timeout=20)


def _until_closed(connection: socket.socket, timeout: float = 10) -> bytes:
    """All that comes until the gateway closes; fails where it does not."""
    connection.settimeout(timeout)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            received += part
    return received


def _statuses(received: bytes) -> list[int]:
    return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def _exchange(gateway: Gateway, raw: bytes) -> list[int]:
    """The statuses of all answers to these bytes on one connection, which the gateway closes."""
    with _connected(gateway) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(raw)
        return _statuses(_until_closed(connection))


def _kept(gateway: Gateway) -> int:
    """Deliveries in the journal."""
    with contextlib.closing(sqlite3.connect(gateway.folder / "data" / "journal.sqlite")) as journal:
        return int(journal.execute("SELECT count(*) FROM deliveries").fetchone()[0])


def _works(gateway: Gateway) -> None:
    assert gateway.github("ping", {"zen": "Keep it simple."}).status == 202


# Requests of two meanings, and what is no HTTP


def _chunked(rest: bytes, coding: bytes = b"Transfer-Encoding: chunked\r\n") -> bytes:
    return POST + SIGNED + coding + b"\r\n" + rest


_WHOLE = b"2\r\n{}\r\n0\r\n\r\n"
_LENGTH = b"Content-Length: 2\r\n"
AMBIGUOUS = {
    "a length and chunks": POST + SIGNED + _LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + _WHOLE,
    "chunks and a length": POST + SIGNED + b"Transfer-Encoding: chunked\r\n" + _LENGTH + b"\r\n" + _WHOLE,
    "two lengths that differ": POST + SIGNED + _LENGTH + b"Content-Length: 3\r\n\r\n{}x",
    "two lengths that are the same": POST + SIGNED + _LENGTH * 2 + b"\r\n{}",
    "two lengths in one header": POST + SIGNED + b"Content-Length: 2, 2\r\n\r\n{}",
    "a length with a sign": POST + SIGNED + b"Content-Length: +2\r\n\r\n{}",
    "a negative length": POST + SIGNED + b"Content-Length: -2\r\n\r\n{}",
    "a hexadecimal length": POST + SIGNED + b"Content-Length: 0x2\r\n\r\n{}",
    "a length of thousands of digits": POST + SIGNED + b"Content-Length: " + b"0" * 5_000 + b"2\r\n\r\n{}",
    "a length beyond all numbers": POST + SIGNED + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "an empty length": POST + SIGNED + b"Content-Length: \r\n\r\n{}",
    "gzip before the chunks": _chunked(_WHOLE, b"Transfer-Encoding: gzip, chunked\r\n"),
    "chunks before identity": _chunked(_WHOLE, b"Transfer-Encoding: chunked, identity\r\n"),
    "identity": _chunked(b"{}", b"Transfer-Encoding: identity\r\n"),
    "a coding that ends like chunks": _chunked(_WHOLE, b"Transfer-Encoding: xchunked\r\n"),
    "a coding with a control character": _chunked(_WHOLE, b"Transfer-Encoding: \x0bchunked\r\n"),
    "chunks announced twice": _chunked(_WHOLE, b"Transfer-Encoding: chunked\r\n" * 2),
    "chunks, and gzip in a second header": _chunked(
        _WHOLE, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n"
    ),
    "chunks in HTTP 1.0": _chunked(_WHOLE).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a space before the colon": POST + SIGNED + b"Content-Length : 2\r\n\r\n{}",
    "a coding with a space before the colon": _chunked(_WHOLE, b"Transfer-Encoding : chunked\r\n"),
    "no host": SMUGGLED.replace(b"Host: gateway\r\n", b""),
    "two hosts": SMUGGLED.replace(b"Host: gateway\r\n", b"Host: gateway\r\nHost: other\r\n"),
    "the same host twice": SMUGGLED.replace(b"Host: gateway\r\n", b"Host: gateway\r\n" * 2),
    "lines that end in LF alone": SMUGGLED.replace(b"\r\n", b"\n"),
    "one line that ends in LF alone": SMUGGLED.replace(b"gateway\r\n", b"gateway\n"),
    "one line that ends in CR alone": SMUGGLED.replace(b"gateway\r\n", b"gateway\r"),
    "a folded header": SMUGGLED.replace(b"Host: gateway\r\n", b"Host: gateway\r\n folded\r\n"),
    "a NUL in a header": SMUGGLED.replace(b"Host: gateway", b"Host: gateway\r\nX-A: a\x00b"),
    "a NUL in a header's name": SMUGGLED.replace(b"Host: gateway", b"Host: gateway\r\nX\x00A: b"),
    "a control character in a header": SMUGGLED.replace(b"gateway", b"gateway\r\nX-A: a\x01b"),
    "a header without a name": SMUGGLED.replace(b"gateway", b"gateway\r\n: b"),
    "a header without a colon": SMUGGLED.replace(b"gateway", b"gateway\r\nno colon here"),
    "HTTP 0.9": b"GET /healthz\r\n\r\n",
    "HTTP 0.9 by its number": b"GET /healthz HTTP/0.9\r\n\r\n",
    "HTTP 2.0 by its number": SMUGGLED.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "the preface of HTTP 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a version with two digits": SMUGGLED.replace(b"HTTP/1.1", b"HTTP/1.10"),
    "a method that does not exist": b"FETCH /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "a path with bytes beyond ASCII": SMUGGLED.replace(b"/hooks/github", b"/hooks/gith\xfcb"),
    "a path with a space": SMUGGLED.replace(b"/hooks/github", b"/hooks/git hub"),
    "the beginning of TLS": bytes.fromhex("16030100f8010000f40303") + b"\x00" * 32,
    "a chunk size that is no number": _chunked(b"zz\r\n{}\r\n0\r\n\r\n"),
    "a chunk size with a prefix": _chunked(b"0x2\r\n{}\r\n0\r\n\r\n"),
    "a chunk size with a sign": _chunked(b"+2\r\n{}\r\n0\r\n\r\n"),
    "a chunk size beyond all numbers": _chunked(b"10000000000000000\r\n{}\r\n0\r\n\r\n"),
    "a chunk longer than its size": _chunked(b"1\r\n{}\r\n0\r\n\r\n"),
    "a chunk size that ends in LF alone": _chunked(b"2\n{}\r\n0\r\n\r\n"),
    "no size at all": _chunked(b"\r\n{}\r\n0\r\n\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_request_of_two_meanings_or_none_is_a_400_and_the_end_of_its_connection(
    edge: Gateway, name: str
) -> None:
    """One answer, and what comes behind it is no request. Rows 20 and 21 of the table in
    docs/explanation/security.md."""
    before = _kept(edge)
    assert _exchange(edge, AMBIGUOUS[name] + SMUGGLED) == [400]
    assert _kept(edge) == before


def test_what_is_refused_by_the_protocol_is_counted_and_is_a_problem(edge: Gateway) -> None:
    """It belongs to no source."""
    series = 'gateway_refused_total{reason="not_http",source=""}'
    before = edge.counter(series)
    with _connected(edge) as connection:
        connection.sendall(AMBIGUOUS["two hosts"])
        head, _, body = _until_closed(connection).partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    problem = json.loads(body)
    assert (problem["status"], problem["detail"]) == (400, "there must be one Host header")
    assert edge.counter(series) == before + 1


TAKEN = {
    "a body with its length": POST + SIGNED + _LENGTH + b"\r\n{}",
    "a length with spaces around it": POST + SIGNED + b"Content-Length: " + b" " * 99 + b"2" + b" " * 99 + b"\r\n\r\n{}",
    "a body in chunks": _chunked(_WHOLE),
    "chunks in capitals": _chunked(_WHOLE, b"Transfer-Encoding: CHUNKED\r\n"),
    "chunks with an extension": _chunked(b"2;a=b\r\n{}\r\n0\r\n\r\n"),
    "chunks of one byte": _chunked(b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"),
    "headers in capitals": re.sub(rb"^[\w-]+:", lambda name: name[0].upper(), SMUGGLED, flags=re.MULTILINE),
    "a URL with its host": SMUGGLED.replace(b"POST /", b"POST http://gateway/"),
    "HTTP 1.0 without a host": SMUGGLED.replace(b"HTTP/1.1\r\nHost: gateway", b"HTTP/1.0"),
    "an offer to upgrade": POST + SIGNED + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + _LENGTH + b"\r\n{}",
    "empty lines before it": b"\r\n\r\n" + POST + SIGNED + _LENGTH + b"\r\n{}",
    "a body that is waited for": POST + SIGNED + b"Expect: 100-continue\r\n" + _LENGTH + b"\r\n{}",
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_a_request_of_one_meaning_is_taken(edge: Gateway, name: str) -> None:
    """However unusual it is. Rows 8, 20 and 21 of the table in docs/explanation/security.md."""
    request = TAKEN[name].replace(
        b"application/json\r\n", b"application/json\r\nConnection: close\r\n"
    )
    assert [one for one in _exchange(edge, request) if one != 100] == [202]


def test_a_second_request_before_the_answer_to_the_first_is_not_taken(edge: Gateway) -> None:
    """The first is answered, and the connection is closed. Row 20."""
    before = _kept(edge)
    assert _exchange(edge, TAKEN["a body with its length"] * 50) == [202]
    assert _kept(edge) == before + 1


def test_a_trailer_proves_nobody(edge: Gateway) -> None:
    """A signature counts only where it comes before what it signs. Row 7."""
    unsigned = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    assert _exchange(edge, unsigned + SIGNED + b"\r\n") == [401]


# Sizes


def _endless(first: bytes, piece: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.chain([first], itertools.repeat(piece))


BOUNDLESS = {
    "one header without end": (_endless(POST + b"X-A: ", b"a" * 16_384), 431),
    "headers without end": (_endless(POST, b"X-A: b\r\n" * 2_048), 431),
    "a header's name without end": (_endless(POST, b"a" * 16_384), 431),
    "a URL without end": (_endless(b"POST /", b"a" * 16_384), 431),
    "one chunk extension without end": (_endless(_chunked(b"2;a="), b"a" * 16_384), 431),
    "trailers without end": (_endless(_chunked(b"2\r\n{}\r\n0\r\n"), b"X-A: b\r\n" * 2_048), 431),
    "a body without end": (_endless(_chunked(b""), b"4000\r\n" + b"x" * 16_384 + b"\r\n"), 413),
    "a body without end, and a wrong token": (
        _endless(
            b"POST /hooks/token HTTP/1.1\r\nHost: x\r\nX-Token: wrong\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"4000\r\n" + b"x" * 16_384 + b"\r\n",
        ),
        401,
    ),
    "a body without end to nowhere": (
        _endless(
            b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"4000\r\n" + b"x" * 16_384 + b"\r\n",
        ),
        404,
    ),
    "a body without end with another method": (
        _endless(
            b"PUT /hooks/github HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"4000\r\n" + b"x" * 16_384 + b"\r\n",
        ),
        405,
    ),
    "a compressed body without end": (
        _endless(
            POST + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"4000\r\n" + b"x" * 16_384 + b"\r\n",
        ),
        415,
    ),
    "text without end": (_endless(b"", b"a" * 16_384), 400),
}


@pytest.mark.parametrize("name", BOUNDLESS)
def test_what_has_no_end_is_answered_and_cut_off(edge: Gateway, name: str) -> None:
    """Soon, and without reading on. Rows 13, 14, 18 and 22 of the table in
    docs/explanation/security.md."""
    pieces, status = BOUNDLESS[name]
    sent = 0
    with _connected(edge) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        with contextlib.suppress(ConnectionError):
            for piece in pieces():
                connection.sendall(piece)
                sent += len(piece)
                if sent > 64 << 20:
                    pytest.fail("the gateway reads on and on")
        received = b""
        with contextlib.suppress(ConnectionError):
            received = _until_closed(connection)
    # What the kernel reset may be lost with the connection; what came is the right answer.
    assert _statuses(received) in ([], [status])
    # What the kernels' buffers hold was never read by the gateway.
    assert sent < 16 << 20
    _works(edge)


SIZES = {
    "a head just below the limit": (POST + SIGNED + b"Connection: close\r\n", 60_000, 202),
    "a head just above the limit": (POST + SIGNED + b"Connection: close\r\n", 66_000, 431),
    "as many headers as may be": (POST + SIGNED + b"Connection: close\r\n" + b"A: b\r\n" * 251, 0, 202),
    "one header more": (POST + SIGNED + b"Connection: close\r\n" + b"A: b\r\n" * 252, 0, 431),
    "many headers above the limit": (POST + SIGNED + b"Connection: close\r\n" + b"A: b\r\n" * 30_000, 0, 431),
    "a URL above its limit": (POST.replace(b"github", b"github?a=" + b"b" * 9_000), 0, 414),
    "a URL below its limit": (POST.replace(b"github", b"github?a=" + b"b" * 8_000) + SIGNED + b"Connection: close\r\n", 0, 202),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_heads_have_a_limit(edge: Gateway, name: str) -> None:
    """64 KiB and 256 headers in all, 8 KiB for the URL, in one packet or in many. Row 18."""
    head, filler, status = SIZES[name]
    padding = b"X-A: " + b"a" * filler + b"\r\n" if filler else b""
    raw = head + padding + _LENGTH + b"\r\n{}"
    assert _exchange(edge, raw) == [status]


def test_trailers_have_a_limit_of_their_own(edge: Gateway) -> None:
    """As many as headers, and no more: 431, and nothing is kept. Row 18."""
    before = _kept(edge)
    head = (
        POST + SIGNED + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    )
    assert _exchange(edge, head + b"A: b\r\n" * 257 + b"\r\n") == [431]
    assert _kept(edge) == before
    assert _exchange(edge, head + b"A: b\r\n" * 256 + b"\r\n") == [202]


def test_headers_that_are_refused_are_not_held(edge: Gateway) -> None:
    """However small each of them is: they are refused before their end has come. Row 18."""
    with _connected(edge) as connection:
        connection.sendall(POST + b"A:b\r\n" * 300)
        assert _statuses(_until_closed(connection)) == [431]


def test_an_early_answer_reaches_a_sender_that_is_still_sending(edge: Gateway) -> None:
    """Whole, with `Connection: close`; then the connection ends. Rows 13 and 14."""
    for start in (b"/hooks/token HTTP/1.1\r\n", b"/nowhere HTTP/1.1\r\n"):
        head = b"POST " + start + b"Host: x\r\nContent-Length: 400000\r\n\r\n"
        with _connected(edge) as connection:
            connection.sendall(head + b"x" * 100_000)
            started = time.monotonic()
            received = _until_closed(connection)
        assert _statuses(received) in ([401], [404])
        assert b"connection: close" in received
        assert time.monotonic() - started < 5


def test_many_tiny_chunks_are_one_body(edge: Gateway) -> None:
    """100,000 of them, while others are answered. Row 19."""
    body = b'"' + b"x" * 100_000 + b'"'
    signed = b"X-Hub-Signature-256: " + hub_signature(body, GITHUB_SECRET).encode() + b"\r\n"
    head = POST + signed + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"1\r\n%c\r\n" % one for one in body)
    with _connected(edge) as connection:
        connection.sendall(head + chunks)
        _works(edge)
        connection.sendall(b"0\r\n\r\n")
        assert _statuses(_until_closed(connection)) == [202]


# Slow senders: all of them at once, each on its own connection


class Slow(Struct, frozen=True):
    """A sender: what it sends first, then one byte of `rest` at a time; how long it may stay."""

    first: bytes
    rest: bytes
    most: float
    statuses: tuple[int, ...]


_HEAD_TIME, _BODY_TIME = HEADER_TIMEOUT + 1.5, HEADER_TIMEOUT + BODY_TIMEOUT + 2.5
SLOW = {
    "connects and says nothing": Slow(b"", b"", _HEAD_TIME, ()),
    "sends empty lines": Slow(b"", b"\r\n" * 99, _HEAD_TIME, ()),
    "begins a request line and stops": Slow(b"POST /hoo", b"", _HEAD_TIME, (408,)),
    "begins its headers and stops": Slow(POST, b"", _HEAD_TIME, (408,)),
    "sends its headers byte by byte": Slow(POST, b"X-A: " + b"a" * 99, _HEAD_TIME, (408,)),
    "sends its request line byte by byte": Slow(b"P", b"OST /hooks/" + b"a" * 99, _HEAD_TIME, (408,)),
    "announces a body and sends none": Slow(POST + b"Content-Length: 99\r\n\r\n", b"", _BODY_TIME, (408,)),
    "stops within its body": Slow(POST + b"Content-Length: 99\r\n\r\n{", b"", _BODY_TIME, (408,)),
    "sends its body byte by byte": Slow(POST + b"Content-Length: 99\r\n\r\n{", b"x" * 90, _BODY_TIME, (408,)),
    "sends chunks byte by byte": Slow(_chunked(b""), b"1\r\nx\r\n" * 20, _BODY_TIME, (408,)),
    "sends a chunk extension byte by byte": Slow(_chunked(b"2;a="), b"a" * 99, _BODY_TIME, (408,)),
    "sends trailers byte by byte": Slow(_chunked(b"2\r\n{}\r\n0\r\n"), b"X-A: " + b"a" * 99, _BODY_TIME, (408,)),
    "waits to be told to send its body": Slow(
        POST + b"Expect: 100-continue\r\nContent-Length: 99\r\n\r\n", b"", _BODY_TIME, (100, 408)
    ),
    "stops within the body of Pelorus's route": Slow(
        b"POST /pelorus/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{", b"", _BODY_TIME, (408,)
    ),
    "begins a second request and stops": Slow(TAKEN["a body with its length"], POST, _HEAD_TIME + 1, (202, 408)),
}  # fmt: skip


@pytest.fixture(scope="module")
def departures(edge: Gateway) -> dict[str, tuple[float, list[int]]]:
    """What became of each slow sender: the seconds until it was let go, and its answers. Meanwhile
    every other sender is served."""
    found: dict[str, tuple[float, list[int]]] = {}
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        received = dict.fromkeys(SLOW, b"")
        rests = {name: iter(slow.rest) for name, slow in SLOW.items()}
        for name, slow in SLOW.items():
            connection = stack.enter_context(_connected(edge))
            connection.sendall(slow.first)
            if 202 in slow.statuses:
                received[name] = connection.recv(65_536)
            selector.register(connection, selectors.EVENT_READ, name)
        started = time.monotonic()
        while selector.get_map() and time.monotonic() - started < 15:
            for key, _ in selector.select(timeout=0.1):
                assert isinstance(key.fileobj, socket.socket)
                part = b""
                with contextlib.suppress(ConnectionError):
                    part = key.fileobj.recv(65_536)
                received[key.data] += part
                if not part:
                    selector.unregister(key.fileobj)
                    seconds = time.monotonic() - started
                    found[key.data] = (seconds, _statuses(received[key.data]))
            for key in list(selector.get_map().values()):
                byte = next(rests[key.data], None)
                if byte is not None:
                    assert isinstance(key.fileobj, socket.socket)
                    with contextlib.suppress(ConnectionError):
                        key.fileobj.send(bytes([byte]))
            _works(edge)
    return found


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_sender_is_let_go(departures: dict[str, tuple[float, list[int]]], name: str) -> None:
    """Within its deadline, with a 408 where it began to say something. Rows 15 and 16 of the table in
    docs/explanation/security.md."""
    assert name in departures, "it was never let go"
    seconds, statuses = departures[name]
    assert tuple(statuses) == SLOW[name].statuses
    assert seconds < SLOW[name].most


def test_idle_connections_shut_nobody_out(edge: Gateway) -> None:
    """A thousand of them, and a delivery is taken. Row 17."""
    with contextlib.ExitStack() as stack:
        for _ in range(1_000):
            stack.enter_context(_connected(edge))
        _works(edge)


def test_where_connections_run_out_those_that_wait_longest_go(tmp_path: Path) -> None:
    """The process may open few files, as many connections as that come and say nothing, and every
    delivery is taken. Row 17."""
    few = f'ulimit -n 300; exec {sys.executable} -m gateway "$@"'
    slow = ("--header-timeout", "60")
    with running(tmp_path, *slow, program=["sh", "-c", few, "sh"]) as gateway:
        with contextlib.ExitStack() as stack:
            for number in range(400):
                stack.enter_context(_connected(gateway))
                if number % 40 == 0:
                    _works(gateway)
            _works(gateway)


ECHO = f"""
source: echo
authenticate: none
handshakes: [{{when: body.challenge, answer: "body.[{", ".join(["challenge"] * 100)}]"}}]
rules:
  - {{name: a deployment, emit: deploytime, when: body.app,
     fields: {{app: body.app, commit: body.commit, timestamp: received_at}}}}
"""
"""An open source that answers with a hundred times what it is sent."""


def _echo(size: int, *lines: bytes) -> bytes:
    """A request that is answered with some more bytes than these."""
    body = b'{"challenge": "' + b"x" * (size // 100) + b'"}'
    head = b"\r\n".join((*lines, b"Content-Length: %d" % len(body), b"", b""))
    return POST.replace(b"github", b"echo") + head + body


def _deaf(gateway: Gateway) -> socket.socket:
    """A connection whose answers are not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", gateway.public))
    return connection


@pytest.mark.parametrize("requests", [1, 2, 4])
def test_who_asks_and_does_not_read_shuts_nobody_out(tmp_path: Path, requests: int) -> None:
    """As many as there is room for send requests, also while an earlier answer waits for them to read
    it: it is they who are let go. Row 17."""
    (tmp_path / "echo.yaml").write_text(ECHO)
    few = f'ulimit -n 140; exec {sys.executable} -m gateway "$@"'
    arguments = ("--mappings", str(tmp_path))
    with running(tmp_path, *arguments, program=["sh", "-c", few, "sh"]) as gateway:
        with contextlib.ExitStack() as stack:
            deaf = [stack.enter_context(_deaf(gateway)) for _ in range(31)]
            for _ in range(requests):
                for connection in deaf:
                    # One of them has had to make room already.
                    with contextlib.suppress(ConnectionError):
                        connection.sendall(_echo(5_000_000))
                # The next request comes when this one is answered, or must not be read at all.
                time.sleep(0.5)
            for _ in range(20):
                _works(gateway)
        assert "Traceback" not in gateway.output


def test_an_answer_that_nobody_reads_has_a_deadline(tmp_path: Path) -> None:
    """Also where so little of it is left that the application did not have to wait. Row 16."""
    (tmp_path / "echo.yaml").write_text(ECHO)
    (tmp_path / "sitecustomize.py").write_text(
        "import gc, signal\n"
        "def tell(*_):\n"
        "    for one in gc.get_objects():\n"
        "        if type(one).__name__ == 'GuardedProtocol' and one in one.connections:\n"
        "            print('left:', one.transport.get_write_buffer_size(), one.deadline, flush=True)\n"
        "signal.signal(signal.SIGUSR1, tell)\n"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}

    def left(size: int) -> tuple[int, str]:
        """Bytes of an answer that wait for their sender at the end of its connection, and its deadline."""
        with _deaf(gateway) as connection:
            connection.sendall(_echo(size, b"Connection: close"))
            time.sleep(0.3)
            before = len(gateway.output)
            assert gateway.process is not None
            gateway.process.send_signal(signal.SIGUSR1)
            time.sleep(0.2)
            found = re.search(r"^left: (\d+) (\S+)$", gateway.output[before:], re.MULTILINE)
        return (int(found[1]), found[2]) if found else (0, "")

    arguments = ("--mappings", str(tmp_path))
    with running(tmp_path, *arguments, environment=environment) as gateway:
        size = 8_000_000
        # What the kernel takes in differs a little each time.
        for _ in range(50):
            waiting, deadline = left(size)
            if 0 < waiting < 65_536:
                break
            size += 20_000 - waiting
        else:
            pytest.fail("nothing was left, or too much")
        assert deadline != "inf"


def test_uploads_that_do_not_finish_give_way_to_those_that_do(tmp_path: Path) -> None:
    """They hold all that may be in flight; whoever finishes is taken nevertheless. Row 15."""
    with running(tmp_path, "--max-in-flight", "1", "--body-timeout", "60") as gateway:
        with contextlib.ExitStack() as stack:
            for _ in range(12):
                upload = stack.enter_context(_connected(gateway))
                upload.sendall(POST + b"Content-Length: 104000\r\n\r\n" + b"x" * 100_000)
            whole = b'"' + b"x" * 100_000 + b'"'
            eventually(lambda: gateway.github("ping", whole).status == 202, every=0.3)
            for _ in range(10):
                assert gateway.github("ping", whole).status == 202


# Proofs


PROOFS = {
    "github": ("x-hub-signature-256", "sha256="),
    "gitlab": ("x-gitlab-token", ""),
    "token": ("x-token", ""),
    "bearer": ("authorization", "Bearer "),
    "basic": ("authorization", "Basic "),
    "standard": ("webhook-signature", "v1,"),
    "timed": ("x-sign", ""),
}


def _post(source: str, *lines: bytes) -> bytes:
    head = POST.replace(b"/github", b"/" + source.encode())
    return head + b"".join(line + b"\r\n" for line in lines) + _LENGTH + b"\r\n{}"


def _companions(source: str) -> list[bytes]:
    """The other headers that a proof needs."""
    now = str(int(time.time())).encode()
    return {
        "standard": [b"webhook-id: 1", b"webhook-timestamp: " + now],
        "timed": [b"X-Time: " + now],
    }.get(source, [])


@pytest.mark.parametrize("source", PROOFS)
def test_any_byte_in_a_proof_is_a_401(edge: Gateway, source: str) -> None:
    """0x80 to 0xff, in each header that authenticates. Row 3 of the table in
    docs/explanation/security.md."""
    header, prefix = PROOFS[source]
    for byte in range(0x80, 0x100):
        line = f"{header}: {prefix}".encode() + bytes([byte]) * 8
        with _connected(edge) as connection:
            connection.sendall(_post(source, *_companions(source), line))
            assert _statuses(connection.recv(65_536)) == [401]


@pytest.mark.parametrize("header", ["X-Time", "webhook-timestamp", "webhook-id"])
def test_any_byte_in_what_a_proof_covers_is_a_401(edge: Gateway, header: str) -> None:
    """The signed time and the signed id. Row 3."""
    source = "timed" if header == "X-Time" else "standard"
    others = [
        line
        for line in [*_companions(source), b"X-Sign: 0", b"webhook-signature: v1,0"]
        if not line.startswith(header.encode())
    ]
    for byte in range(0x80, 0x100, 7):
        with _connected(edge) as connection:
            connection.sendall(_post(source, *others, header.encode() + b": " + bytes([byte])))
            assert _statuses(connection.recv(65_536)) == [401]


@pytest.mark.parametrize("name", ["first", "last", "in capitals", "the same"])
def test_a_proof_that_comes_twice_is_none(edge: Gateway, name: str) -> None:
    """Two signatures or two tokens of one name, in either order. Row 7."""
    for source, header, value in (
        ("github", b"X-Hub-Signature-256", hub_signature(b"{}", GITHUB_SECRET).encode()),
        ("gitlab", b"X-Gitlab-Token", GITLAB_SECRET.encode()),
        ("token", b"X-Token", PIPELINE_SECRET.encode()),
        ("bearer", b"Authorization", b"Bearer " + PIPELINE_SECRET.encode()),
    ):
        good, bad = header + b": " + value, header + b": wrong"
        lines = {
            "first": (good, bad),
            "last": (bad, good),
            "in capitals": (header.upper() + b": wrong", good),
            "the same": (good, good),
        }[name]
        with _connected(edge) as connection:
            connection.sendall(_post(source, *lines))
            assert _statuses(connection.recv(65_536)) == [401]
        with _connected(edge) as connection:
            connection.sendall(_post(source, good))
            assert _statuses(connection.recv(65_536)) == [202]


# The public surface


NAMES = (
    "metrics", "schema", "schema/openapi.json", "schema/swagger", "openapi.json", "docs", "redoc",
    "-/ready", "-/healthy", "-/reload", "-/quit", "try/github", "try", "admin", "debug",
    "debug/pprof", "status", "static", "favicon.ico", "robots.txt", ".env", ".git/config", "login",
    "api", "api/v1", "graphql", "journal", "data/journal.sqlite", "server-status", "actuator",
    "hooks", "hook", "hooks/", "hooks/github/", "hooks/github/x", "hooks/%67ithub", "hooks/git%2fhub",
    "hooks/../metrics", "hooks/..%2fmetrics", "hooks/github%00", "hooks/github%20",
    "hooks/github;x", "hooks/github%3fx", "Hooks/github", "HOOKS/GITHUB", "hooks%2fgithub",
    "pelorus", "pelorus/", "pelorus/webhook/", "pelorus/webhook/x", "pelorus%2fwebhook",
    "Pelorus/webhook", "healthz/", "healthz/x", "Healthz", "%68ealthz", "healthz%00", "healthz;x",
)  # fmt: skip
SPELLINGS = ("/{}", "//{}", "/./{}", "/x/../{}")


def test_nothing_but_three_routes_is_public(edge: Gateway) -> None:
    """Over 200 paths with nine methods each: 404 or 405, or no HTTP. Rows 47 and 50 of the table in
    docs/explanation/security.md."""
    paths = {spelling.format(name) for name in NAMES for spelling in SPELLINGS}
    assert len(paths) >= 200
    methods = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND")
    wrong = {}
    with contextlib.ExitStack() as stack:
        for path in sorted(paths):
            for method in methods:
                connection = stack.enter_context(_connected(edge))
                head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n"
                connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
                answer = _until_closed(connection)
                connection.close()
                if _statuses(answer) not in ([404], [405]) or b"access-control" in answer.lower():
                    wrong[method, path] = answer
    assert not wrong


def test_the_three_routes_take_one_method_each(edge: Gateway) -> None:
    """Row 47."""
    for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"):
        for path in ("/hooks/github", "/hooks/nobody", "/pelorus/webhook", "/healthz"):
            raw = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
            served = method in ("GET", "HEAD", "OPTIONS") and path == "/healthz"
            statuses = _exchange(edge, raw)
            assert statuses == [405] or served


def test_a_forwarded_address_changes_nothing(edge: Gateway) -> None:
    """Nor does any other claim of a proxy. Row 49."""
    lines = [
        *(b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil"),
        *(b"Forwarded: for=127.0.0.1", b"X-Original-URL: /metrics", b"X-HTTP-Method-Override: GET"),
    ]
    with _connected(edge) as connection:
        connection.sendall(_post("github", *lines, SIGNED.strip()))
        assert _statuses(connection.recv(65_536)) == [202]


# A journal that does not answer


def test_a_locked_journal_is_a_503_within_the_deadline(tmp_path: Path) -> None:
    """Another process holds it: no delivery is acknowledged that is not kept, none is a 500, and what
    waits stays within the budget. Afterwards all is well. Row 15 and the overload of section 6."""
    limits = ("--answer-timeout", "1", "--max-in-flight", "1")
    with running(tmp_path, *limits) as gateway:
        _works(gateway)
        path = tmp_path / "data" / "journal.sqlite"
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        try:
            with contextlib.ExitStack() as stack:
                waiting = []
                body = b'"' + b"x" * 200_000 + b'"'
                for number in range(12):
                    connection = stack.enter_context(_connected(gateway))
                    signed = hub_signature(body, GITHUB_SECRET)
                    connection.sendall(
                        POST
                        + f"X-Hub-Signature-256: {signed}\r\nX-GitHub-Delivery: locked-{number}\r\n"
                        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                        + body
                    )
                    waiting.append(connection)
                started = time.monotonic()
                answers = [_until_closed(one) for one in waiting]
                assert time.monotonic() - started < 6
            assert [_statuses(one) for one in answers] == [[503]] * 12
            assert all(b"retry-after: " in one for one in answers)
            overloaded = [one for one in answers if b"too many deliveries" in one]
            # Five bodies fit; they stay counted until the journal lets go of them.
            assert len(overloaded) >= 7
        finally:
            holder.execute("ROLLBACK")
            holder.close()
        eventually(lambda: gateway.github("ping", {}).status == 202)
        assert "Traceback" not in gateway.output


# Stopping


def test_a_drain_takes_deliveries_while_not_ready(tmp_path: Path) -> None:
    """After a SIGTERM: 503 for readiness at once, 202 for deliveries on connections that are closed
    behind them, then the end with 0. Row R23 of the plan of tests."""
    with running(tmp_path, "--drain", "2") as gateway:
        process = gateway.process
        assert process is not None
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        eventually(lambda: gateway.get("/-/ready").status == 503, every=0.02)
        answer = gateway.github("ping", {})
        assert (answer.status, answer.headers["connection"]) == (202, "close")
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - started > 1.9


def test_a_second_signal_ends_the_drain(tmp_path: Path) -> None:
    """And so does the first, where it is SIGINT: a person waits for it."""
    with running(tmp_path, "--drain", "60") as gateway:
        process = gateway.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        eventually(lambda: gateway.get("/-/ready").status == 503)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        gateway.start()
        assert gateway.stop(signal.SIGINT) == 0


def test_a_second_signal_does_not_wait_for_what_is_in_flight(tmp_path: Path) -> None:
    """The upload that never ends is let go."""
    with running(tmp_path, "--shutdown-timeout", "60") as gateway:
        with _connected(gateway) as upload:
            upload.sendall(POST + b"Content-Length: 99\r\n\r\n{")
            process = gateway.process
            assert process is not None
            gateway.get("/-/ready")
            process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0
    assert "Traceback" not in gateway.output


def test_what_is_in_flight_is_answered_before_the_end(tmp_path: Path) -> None:
    """A body whose second half comes after the signal is a delivery, and is kept."""
    with running(tmp_path) as gateway:
        with _connected(gateway) as upload:
            upload.sendall(POST + SIGNED + _LENGTH + b"\r\n{")
            process = gateway.process
            assert process is not None
            gateway.get("/-/ready")
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            upload.sendall(b"}")
            received = _until_closed(upload)
            assert _statuses(received) == [202]
            assert b"connection: close" in received
            assert process.wait(timeout=10) == 0
        assert _kept(gateway) == 1


def test_a_delivery_that_waits_for_the_journal_does_not_keep_the_gateway(tmp_path: Path) -> None:
    """It is asked to come again when the time to stop is over."""
    with running(tmp_path, "--shutdown-timeout", "1", "--answer-timeout", "60") as gateway:
        holder = sqlite3.connect(tmp_path / "data" / "journal.sqlite", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with _connected(gateway) as connection, contextlib.closing(holder):
            connection.sendall(TAKEN["a body with its length"])
            gateway.get("/-/ready")
            assert gateway.stop() == 0
            assert _statuses(_until_closed(connection)) == [503]
    assert "Traceback" not in gateway.output


def test_a_visit_that_hangs_does_not_keep_the_gateway(tmp_path: Path) -> None:
    """The host that a handshake names answers nothing; the gateway ends in its time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "sitecustomize.py").write_text(
            "import http.client\n"
            "class Plain(http.client.HTTPConnection):\n"
            "    def __init__(self, host, port, **kwargs):\n"
            f"        super().__init__('127.0.0.1', {silent.getsockname()[1]}, timeout=60)\n"
            "http.client.HTTPSConnection = Plain\n"
        )
        (tmp_path / "confirm.yaml").write_text(
            "source: confirm\nauthenticate: none\n"
            "handshakes: [{when: body.url, visit: body.url, hosts: [example.com]}]\n"
            "rules:\n  - {name: a deployment, emit: deploytime, when: body.app,\n"
            "     fields: {app: body.app, commit: body.commit, timestamp: body.at}}\n"
        )
        environment = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
        arguments = ("--mappings", str(tmp_path), "--shutdown-timeout", "1")
        with running(tmp_path, *arguments, environment=environment) as gateway:
            with _connected(gateway) as connection:
                body = b'{"url": "https://example.com/confirm"}'
                connection.sendall(
                    POST.replace(b"github", b"confirm") + b"Content-Length: 38\r\n\r\n" + body
                )
                silent.settimeout(10)
                with silent.accept()[0]:
                    started = time.monotonic()
                    assert gateway.stop() == 0
                    assert time.monotonic() - started < 8
        assert "Traceback" not in gateway.output


# Memory


def test_a_connection_that_ends_is_gone_without_the_collector(tmp_path: Path) -> None:
    """Thousands of dead ones would otherwise wait for it. Row 16."""
    (tmp_path / "sitecustomize.py").write_text(
        "import gc, signal\n"
        "gc.disable()\n"
        "def tell(*_):\n"
        "    kept = sum(type(one).__name__ == 'GuardedProtocol' for one in gc.get_objects())\n"
        "    print(f'{kept} connections are kept', flush=True)\n"
        "signal.signal(signal.SIGUSR1, tell)\n"
    )
    environment = {
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
        "GITHUB_WEBHOOK_SECRET": GITHUB_SECRET,
    }
    begun = POST + b"Content-Length: 100\r\n\r\nthe rest does not come"
    with running(tmp_path, environment=environment) as gateway:
        assert gateway.process is not None
        with contextlib.ExitStack() as stack:
            for sent in (b"", POST, begun, SMUGGLED):
                for _ in range(5):
                    connection = stack.enter_context(_connected(gateway))
                    connection.sendall(sent)
            eventually(lambda: _told(gateway, "20 connections are kept"))
        eventually(lambda: _told(gateway, "0 connections are kept"))


def _told(gateway: Gateway, line: str) -> bool:
    """Whether a gateway that is asked for the connections that it keeps says so."""
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGUSR1)
    time.sleep(0.1)
    return f"\n{line}\n" in gateway.output


# The log


def test_a_sender_cannot_write_lines_into_the_log(tmp_path: Path) -> None:
    """What it chooses, such as the value that a reason shows, stays on the line of its delivery.
    Row 45."""
    with running(tmp_path) as gateway:
        forged = "1\n2026-01-01T00:00:00+0000 ERROR all is lost\u2028\x1b[2J"
        payload = samples.github_deployment("octo/hello", samples.SHA, 1_790_000_000)
        payload["deployment_status"]["created_at"] = forged
        gateway.github("deployment_status", payload, delivery="d-1")
        payload = samples.github_push("octo/hello", samples.SHA, 1_790_000_000)
        gateway.github("push", payload, delivery="d-2")
        line = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} INFO github accepted, 1 event \(delivery d-2\)$"
        eventually(lambda: re.search(line, gateway.output, re.MULTILINE))
        (warning,) = re.findall(r"^\S+ WARNING (.*)$", gateway.output, re.MULTILINE)
        assert warning.startswith("github dead_lettered (delivery d-1): ")
        assert "ERROR all is lost" in warning
        assert not re.search(r"^\S+ ERROR|\x1b|\u2028", gateway.output, re.MULTILINE)
