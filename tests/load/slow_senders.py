"""4,000 slow connections for a minute: what a normal delivery takes meanwhile, and what they cost.

python -m tests.load.slow_senders [CONNECTIONS] [SECONDS]

Each of them is one of six kinds: it says nothing, stops within its headers, sends headers byte by byte,
announces a body and sends none, stops within its body, or sends its body byte by byte. One that is let
go is replaced by another. They live in a process of their own.
"""

import asyncio
import itertools
import multiprocessing
import socket
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

import uvloop

from tests.harness import GITHUB_SECRET, Gateway, hub_signature, running
from tests.load.measures import cpu, memory, percentile

HEAD = b"POST /hooks/github HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
WITH_BODY = HEAD + b"Content-Length: 60000\r\n\r\n"
KINDS = (
    (b"", b""),
    (HEAD, b""),
    (HEAD + b"X-A: ", b"a"),
    (WITH_BODY, b""),
    (WITH_BODY + b"x" * 10_000, b""),
    (WITH_BODY, b"x"),
)
LATEST = 16.0
"""Seconds after which the gateway must have let go of any of them."""
PACE = 0.1
"""Seconds between two normal deliveries, and between two rounds of the slow ones."""
OPENED = 200
"""Connections that are opened in one round, so that the backlog of the listener suffices."""


class _Slow(asyncio.Protocol):
    """One slow connection."""

    def __init__(self, kind: tuple[bytes, bytes]) -> None:
        self._first, self._drip = kind
        self._transport: asyncio.Transport | None = None
        self._opened = 0.0
        self.stayed: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._opened = time.perf_counter()
        # uvloop's transports are asyncio's by their methods alone.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._first)

    def drip(self) -> None:
        if self._transport is not None and self._drip:
            self._transport.write(self._drip)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.stayed = time.perf_counter() - self._opened


async def _attack(port: int, connections: int, seconds: float) -> list[float]:
    """How long each connection stayed, of those that the gateway closed and of the last ones."""
    loop = asyncio.get_running_loop()
    kinds = itertools.cycle(KINDS)
    open_ones: list[_Slow] = []
    stays: list[float] = []
    until = time.perf_counter() + seconds
    while (now := time.perf_counter()) < until or (open_ones and now < until + 2 * LATEST):
        stays.extend(one.stayed for one in open_ones if one.stayed is not None)
        open_ones = [one for one in open_ones if one.stayed is None]
        missing = min(OPENED, connections - len(open_ones)) if now < until else 0
        for _ in range(missing):
            _, one = await loop.create_connection(lambda: _Slow(next(kinds)), "127.0.0.1", port)
            open_ones.append(one)
        for one in open_ones[:: max(1, round(1 / PACE))]:
            one.drip()
        await asyncio.sleep(PACE)
    return stays + [float("inf")] * len(open_ones)


def _attacker(port: int, connections: int, seconds: float, told: Connection) -> None:
    told.send(uvloop.run(_attack(port, connections, seconds)))


def _normal(port: int) -> float:
    """The seconds of one delivery, from connecting to its answer."""
    started = time.perf_counter()
    signed = f"X-Hub-Signature-256: {hub_signature(b'{}', GITHUB_SECRET)}\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(HEAD + signed + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}")
        answer = connection.recv(65_536)
    seconds = time.perf_counter() - started
    if not answer.startswith(b"HTTP/1.1 202 "):
        raise RuntimeError(f"after {seconds:.1f} s: {answer!r}")
    return seconds


def _series(gateway: Gateway, seconds: float) -> tuple[list[float], float]:
    """The seconds of normal deliveries for a time, and the most memory in MB meanwhile."""
    assert gateway.process is not None
    times, most, until = [], 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        times.append(_normal(gateway.public))
        most = max(most, memory(gateway.process.pid))
        time.sleep(PACE)
    return times, most


def _load(gateway: Gateway, connections: int, seconds: float) -> None:
    assert gateway.process is not None
    pid = gateway.process.pid
    before, least = _series(gateway, 5)
    used = cpu(pid)
    context = multiprocessing.get_context("spawn")
    hears, told = context.Pipe(duplex=False)
    attacker = context.Process(target=_attacker, args=(gateway.public, connections, seconds, told))
    attacker.start()
    during, most = _series(gateway, seconds)
    used = cpu(pid) - used
    stays: list[float] = hears.recv()
    attacker.join()
    print(f"| {connections} slow connections, {seconds:g} s | before | during |")
    print("| --- | ---: | ---: |")
    for share in (0.5, 0.99, 1.0):
        figures = [1e3 * percentile(times, share) for times in (before, during)]
        print(f"| a delivery, {share:.0%}, ms | {figures[0]:.1f} | {figures[1]:.1f} |")
    print(f"| memory, MB | {least:.0f} | {most:.0f} |")
    print(f"| CPU, % of one core | | {100 * used / seconds:.0f} |")
    print(f"\n{len(stays)} slow connections were let go, the last after {max(stays):.1f} s")
    if max(stays) > LATEST:
        sys.exit(f"one stayed longer than {LATEST:g} s")


def main() -> None:
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else 4_000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as gateway:
        _load(gateway, connections, seconds)


if __name__ == "__main__":
    main()
