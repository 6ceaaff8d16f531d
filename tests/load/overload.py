"""Ten times what the gateway can take, for a minute: what is acknowledged is kept, the rest is a 503.

python -m tests.load.overload [SECONDS]

The capacity is measured first, with as many senders as give the most. Then senders on connections of
their own begin ten times as many deliveries, whether earlier ones were answered or not; the budget for
bodies in flight is small, so that it is what gives in.
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

from tests import samples
from tests.harness import GITHUB_SECRET, Gateway, hub_signature, running
from tests.load.measures import memory, percentile

SENDERS = 32
TIMES = 10
MOST_OPEN = 4_000
"""Deliveries that are on their way at once; more are counted as not sent."""
TICK = 0.02
PAYLOAD = samples.github_push("octo/hello", samples.SHA, 1_790_000_000)
BODY = json.dumps({**PAYLOAD, "filler": "x" * 20_000}).encode()
HEAD = (
    "POST /hooks/github HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    f"X-GitHub-Event: push\r\nX-Hub-Signature-256: {hub_signature(BODY, GITHUB_SECRET)}\r\n"
    f"Content-Length: {len(BODY)}\r\nConnection: close\r\n"
)


async def _deliver(port: int, name: str) -> tuple[int, float]:
    """The status of one delivery, 0 where the connection was lost, and its seconds."""
    started = time.perf_counter()
    answer = b""
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"{HEAD}X-GitHub-Delivery: {name}\r\n\r\n".encode() + BODY)
            answer = await reader.read()
        finally:
            writer.close()
    status = int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
    if status == 503 and b"retry-after: " not in answer:
        raise RuntimeError(answer)
    return status, time.perf_counter() - started


async def _capacity(port: int) -> float:
    """Deliveries per second that a fixed number of senders get through."""
    until = time.perf_counter() + 5

    async def sender(number: int) -> int:
        done = 0
        while time.perf_counter() < until:
            status, _ = await _deliver(port, f"capacity-{number}-{done}")
            if status != 202:
                raise RuntimeError(status)
            done += 1
        return done

    return sum(await asyncio.gather(*map(sender, range(SENDERS)))) / 5


async def _overload(gateway: Gateway, seconds: float) -> tuple[Counter[int], list[float], float]:
    """The answers by status, the seconds of those that were taken, and the most memory in MB."""
    assert gateway.process is not None
    answers: Counter[int] = Counter()
    taken: list[float] = []
    rate = TIMES * await _capacity(gateway.public)
    print(f"offering {rate:.0f} deliveries/s for {seconds:g} s", file=sys.stderr)
    flying: set[asyncio.Task[tuple[int, float]]] = set()

    def landed(task: "asyncio.Task[tuple[int, float]]") -> None:
        flying.discard(task)
        status, took = task.result()
        answers[status] += 1
        if status == 202:
            taken.append(took)

    started, sent, most = time.perf_counter(), 0, 0.0
    while (now := time.perf_counter() - started) < seconds:
        while sent < now * rate:
            sent += 1
            if len(flying) >= MOST_OPEN:
                answers[-1] += 1
                continue
            task = asyncio.create_task(_deliver(gateway.public, f"overload-{sent}"))
            flying.add(task)
            task.add_done_callback(landed)
        most = max(most, memory(gateway.process.pid))
        await asyncio.sleep(TICK)
    while flying:
        await asyncio.wait(flying)
    return answers, taken, most


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(folder, "--max-in-flight", "4") as gateway:
            assert gateway.process is not None
            least = memory(gateway.process.pid)
            answers, taken, most = asyncio.run(_overload(gateway, seconds))
            gateway.stop(signal.SIGTERM)
        with contextlib.closing(sqlite3.connect(folder / "data" / "journal.sqlite")) as journal:
            query = "SELECT count(*) FROM deliveries WHERE delivery_id LIKE 'overload-%'"
            (kept,) = journal.execute(query).fetchone()
    print("| what | figure |")
    print("| --- | ---: |")
    print(f"| answered 202 | {answers[202]} |")
    print(f"| deliveries in the journal | {kept} |")
    print(f"| answered 503 with Retry-After | {answers[503]} |")
    print(f"| connections lost | {answers[0]} |")
    print(f"| not sent, because {MOST_OPEN} were on their way | {answers[-1]} |")
    for share in (0.5, 0.99, 1.0):
        print(f"| time of a 202, {share:.0%}, ms | {1e3 * percentile(taken, share):.0f} |")
    print(f"| memory before and most, MB | {least:.0f}, {most:.0f} |")
    if answers[202] != kept or set(answers) - {-1, 0, 202, 503}:
        sys.exit("what was acknowledged is not what was kept, or an answer is neither 202 nor 503")


if __name__ == "__main__":
    main()
