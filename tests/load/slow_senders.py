"""4,000 slow connections for a minute: what a normal delivery takes meanwhile, and what they cost.

python -m tests.load.slow_senders [CONNECTIONS] [SECONDS]

Each of them is one of six kinds: it says nothing, stops within its headers, sends headers byte by byte,
announces a body and sends none, stops within its body, or sends its body byte by byte. One that is let
go is replaced by another.
"""

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.harness import GITHUB_SECRET, Gateway, hub_signature, running
from tests.load.measures import memory, percentile

HEAD = b"POST /hooks/github HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
WITH_BODY = HEAD + b"Content-Length: 60000\r\n\r\n"
KINDS = (
    (b"", b""),
    (HEAD, b""),
    (HEAD, b"X-A: "),
    (WITH_BODY, b""),
    (WITH_BODY + b"x" * 10_000, b""),
    (WITH_BODY, b"x"),
)
LATEST = 16.0
"""Seconds after which the gateway must have let go of any of them."""
PACE = 0.1
"""Seconds between two normal deliveries."""


async def _slow(port: int, first: bytes, drip: bytes, stays: list[float]) -> None:
    """One connection until the gateway closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    opened = time.perf_counter()
    try:
        writer.write(first)
        while True:
            try:
                async with asyncio.timeout(1):
                    if not await reader.read(65_536):
                        return
            except TimeoutError:
                writer.write(drip)
    except ConnectionError:
        return
    finally:
        stays.append(time.perf_counter() - opened)
        writer.close()


async def _keep_up(
    port: int, kinds: Iterator[tuple[bytes, bytes]], until: float, stays: list[float]
) -> None:
    while time.perf_counter() < until:
        await _slow(port, *next(kinds), stays)


async def _normal(port: int) -> float:
    """The seconds of one delivery, from connecting to its answer."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    signed = f"X-Hub-Signature-256: {hub_signature(b'{}', GITHUB_SECRET)}\r\n".encode()
    writer.write(HEAD + signed + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}")
    answer = await reader.read()
    writer.close()
    if not answer.startswith(b"HTTP/1.1 202 "):
        raise RuntimeError(answer)
    return time.perf_counter() - started


async def _load(gateway: Gateway, connections: int, seconds: float) -> None:
    assert gateway.process is not None
    pid = gateway.process.pid
    before = [await _normal(gateway.public) for _ in range(50)]
    least = memory(pid)
    stays: list[float] = []
    until = time.perf_counter() + seconds
    kinds = itertools.cycle(KINDS)
    slow = [
        asyncio.create_task(_keep_up(gateway.public, kinds, until, stays))
        for _ in range(connections)
    ]
    during, most = [], least
    await asyncio.sleep(2)
    while time.perf_counter() < until:
        during.append(await _normal(gateway.public))
        most = max(most, memory(pid))
        await asyncio.sleep(PACE)
    await asyncio.gather(*slow)
    print("| | before | with slow connections |")
    print("| --- | ---: | ---: |")
    for share in (0.5, 0.99, 1.0):
        figures = [1e3 * percentile(times, share) for times in (before, during)]
        print(f"| delivery, {share:.0%}, ms | {figures[0]:.1f} | {figures[1]:.1f} |")
    print(f"| memory, MB | {least:.0f} | {most:.0f} |")
    print(f"\n{len(stays)} connections were let go, the last after {max(stays):.1f} s")
    if max(stays) > LATEST:
        sys.exit(f"one stayed longer than {LATEST:g} s")


def main() -> None:
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else 4_000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as gateway:
        asyncio.run(_load(gateway, connections, seconds))


if __name__ == "__main__":
    main()
