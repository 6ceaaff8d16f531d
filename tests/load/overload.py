"""Ten times the deliveries that may be in flight, for a minute: what is acknowledged is kept, the rest is a 503.

python -m tests.load.overload [SECONDS]

The budget for bodies in flight is small; ten times as many senders as it has room for send one delivery
after the other, each under an id of its own and on a connection of its own.
"""

import asyncio
import contextlib
import json
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import cast

import uvloop

from tests.harness import GITHUB_SECRET, Gateway, hub_signature, running
from tests.load.measures import memory, percentile

MIB = 1
BODY = json.dumps({"zen": "x" * 20_000}).encode()
HEAD = (
    "POST /hooks/github HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    f"X-GitHub-Event: ping\r\nX-Hub-Signature-256: {hub_signature(BODY, GITHUB_SECRET)}\r\n"
    f"Content-Length: {len(BODY)}\r\nConnection: close\r\nX-GitHub-Delivery: "
)
SENDERS = 10 * (MIB * 1024 * 1024 // len(BODY))


class _Delivery(asyncio.Protocol):
    """One delivery; `answer` is the first bytes of what came, empty where the connection was lost."""

    def __init__(self, number: int) -> None:
        self._request = f"{HEAD}{number}\r\n\r\n".encode() + BODY
        self._received = b""
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_result(self._received)


async def _deliver(port: int, number: int) -> tuple[int, float]:
    """The status of one delivery, 0 where the connection was lost, and its seconds."""
    started = time.perf_counter()
    answer = b""
    with contextlib.suppress(OSError):
        loop = asyncio.get_running_loop()
        _, delivery = await loop.create_connection(lambda: _Delivery(number), "127.0.0.1", port)
        answer = await delivery.answer
    status = int(answer[9:12]) if answer else 0
    if status == 503 and b"retry-after: " not in answer:
        raise RuntimeError(answer)
    return status, time.perf_counter() - started


async def _overload(gateway: Gateway, seconds: float) -> tuple[Counter[int], list[float], float]:
    """The answers by status, the seconds of those that were taken, and the most memory in MB."""
    assert gateway.process is not None
    answers: Counter[int] = Counter()
    taken: list[float] = []
    until = time.perf_counter() + seconds

    async def sender(number: int) -> None:
        while time.perf_counter() < until:
            status, took = await _deliver(gateway.public, number)
            answers[status] += 1
            if status == 202:
                taken.append(took)
            number += SENDERS

    senders = asyncio.gather(*map(sender, range(SENDERS)))
    most = 0.0
    while not senders.done():
        most = max(most, memory(gateway.process.pid))
        await asyncio.sleep(0.1)
    await senders
    return answers, taken, most


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(folder, "--max-in-flight", str(MIB)) as gateway:
            assert gateway.process is not None
            least = memory(gateway.process.pid)
            answers, taken, most = uvloop.run(_overload(gateway, seconds))
            gateway.stop(signal.SIGTERM)
        with contextlib.closing(sqlite3.connect(folder / "data" / "journal.sqlite")) as journal:
            (kept,) = journal.execute("SELECT count(*) FROM deliveries").fetchone()
    print(f"| {SENDERS} senders, {seconds:g} s | figure |")
    print("| --- | ---: |")
    print(f"| answered 202 | {answers[202]} |")
    print(f"| deliveries in the journal | {kept} |")
    print(f"| answered 503 with Retry-After | {answers[503]} |")
    print(f"| connections lost | {answers[0]} |")
    for share in (0.5, 0.99, 1.0):
        print(f"| time of a 202, {share:.0%}, ms | {1e3 * percentile(taken, share):.0f} |")
    print(f"| memory before and most, MB | {least:.0f}, {most:.0f} |")
    if answers[202] != kept or set(answers) - {0, 202, 503}:
        sys.exit("what was acknowledged is not what was kept, or an answer is neither 202 nor 503")


if __name__ == "__main__":
    main()
