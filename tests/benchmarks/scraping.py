"""What scrapes of a hundred thousand series do to deliveries: their p99 with scrapes, against without.

A gateway of its own takes pushes until its window shows so many series. Then deliveries come at a fixed
rate (100 a second), each timed from the moment it was due; in turns, nobody scrapes, and somebody does
every two seconds, with gzip, as Prometheus does.
"""

import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.load import SERVER_CORE, pinned
from tests.benchmarks.report import Bar, Options, Row
from tests.harness import GITHUB_SECRET, ROOT, Gateway, hub_signature, request, running
from tests.samples import github_push

COMMITS, CONNECTIONS, EVERY, RATE = 500, 16, 2.0, 100
LIMIT = "1000000"
ACCEPT = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}


def fill(gateway: Gateway, series: int) -> None:
    """Pushes of commits of two hundred repositories."""
    for number in range(series // COMMITS):
        shas = [hashlib.sha1(b"%d %d" % (number, one)).hexdigest() for one in range(COMMITS)]
        push = github_push(f"octo/app-{number % 200}", shas[0], time.time(), *shas[1:])
        answer = gateway.github("push", push)
        assert answer.status == 202, answer


def requests(count: int) -> Iterator[bytes]:
    """Deliveries of one commit each, never one twice."""
    for number in range(count):
        sha = hashlib.sha1(b"%f %d" % (time.time(), number)).hexdigest()
        body = json.dumps(github_push(f"octo/app-{number % 200}", sha, time.time())).encode()
        head = (
            "POST /hooks/github HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"X-GitHub-Event: push\r\nX-Hub-Signature-256: {hub_signature(body, GITHUB_SECRET)}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


async def deliver(port: int, seconds: int, rate: int) -> list[float]:
    """Seconds from the moment that each delivery was due to its answer."""
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    took: list[float] = []

    async def one(text: bytes, due: float) -> None:
        reader, writer = await free.get()
        writer.write(text)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 202"), head
        length = next(
            int(line.partition(b":")[2])
            for line in head.lower().splitlines()
            if line.startswith(b"content-length")
        )
        await reader.readexactly(length)
        took.append(time.perf_counter() - due)
        free.put_nowait((reader, writer))

    texts = list(requests(seconds * rate))
    started = time.perf_counter()
    tasks = []
    for number, text in enumerate(texts):
        due = started + number / rate
        await asyncio.sleep(due - time.perf_counter())
        tasks.append(asyncio.create_task(one(text, due)))
    await asyncio.gather(*tasks)
    while not free.empty():
        free.get_nowait()[1].close()
    return took


def scrape(port: int) -> None:
    """Scrapes until it is ended."""
    while True:
        started = time.monotonic()
        answer = request(port, "GET", "/metrics", headers=ACCEPT)
        assert answer.status == 200, answer
        time.sleep(max(0.0, EVERY - (time.monotonic() - started)))


def at(share: float, took: list[float]) -> float:
    """Milliseconds within which this share of deliveries was answered."""
    return 1e3 * sorted(took)[int(share * (len(took) - 1))]


def measure(
    gateway: Gateway, seconds: int, rate: int, rounds: int
) -> tuple[list[float], list[float]]:
    """The times of deliveries without scrapes, and with."""
    without: list[float] = []
    scraped: list[float] = []
    asyncio.run(deliver(gateway.public, 2, rate))
    for _ in range(rounds):
        # In turns, so that other work on the machine slows both alike.
        without += asyncio.run(deliver(gateway.public, seconds, rate))
        command = [sys.executable, "-m", "tests.benchmarks.scraping", str(gateway.internal)]
        with subprocess.Popen(command, cwd=ROOT) as scraper:
            try:
                time.sleep(1)
                scraped += asyncio.run(deliver(gateway.public, seconds, rate))
            finally:
                scraper.terminate()
    return without, scraped


def rows(options: Options) -> Iterator[Row]:
    series, seconds, rate = (1_000, 2, 20) if options.quick else (100_000, 10, RATE)
    with tempfile.TemporaryDirectory() as folder:
        limits = ("--max-series", LIMIT, "--max-series-of-app", LIMIT)
        program = (*pinned(SERVER_CORE), sys.executable, "-m", "gateway")
        with running(Path(folder), *limits, program=program) as gateway:
            fill(gateway, series)
            without, scraped = measure(gateway, seconds, rate, options.rounds)
    yield Row(
        subject=f"p99 of deliveries while many series are scraped every {EVERY:g} s",
        against="not scraped",
        ratio=at(0.99, scraped) / at(0.99, without),
        bar=Bar(first=2, goal=1.3, better="less"),
        details=f"{series:,} series, {rate} deliveries a second: p99 {at(0.99, scraped):.1f} ms against {at(0.99, without):.1f} ms, "
        f"p50 {at(0.5, scraped):.1f} ms against {at(0.5, without):.1f} ms",
    )


if __name__ == "__main__":
    scrape(int(sys.argv[1]))
