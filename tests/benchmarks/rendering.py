"""What a scrape of a hundred thousand series costs, against prometheus-client with equal series.

    python -m tests.benchmarks.rendering [SERIES]

Each as text and with gzip, when nothing changed since the scrape before, when one series in a hundred
is new, and for the first time. The CPU time of each, and how many times as long prometheus-client takes.
"""

import gzip
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest

from gateway import exposition
from gateway.event import Event
from gateway.mapping import library
from gateway.mapping.compiler import compile_files
from gateway.series import Series, Window

NOW, ROUNDS, MANY = 1_790_000_000_000, 7, 10**9


class Collector:
    """The same series as prometheus-client has them."""

    def __init__(self, count: int) -> None:
        self._count = count

    def collect(self) -> Iterator[GaugeMetricFamily]:
        labels = ["app", "commit", "image_sha", "namespace", "commit_link"]
        family = GaugeMetricFamily("commit_timestamp", "Time of a commit", labels=labels)
        for number in range(self._count):
            event = commit(number).fields
            sha, app = str(event["commit"]), str(event["app"])
            family.add_metric([f"/{app}/", sha, sha, "", ""], 1_790_000_000, NOW / 1000)
        yield family


def commit(number: int) -> Event:
    sha = f"{number * 0x9E3779B97F4A7C15 % 2**160:040x}"
    return Event(
        "committime",
        {"app": f"team/app-{number % 200}", "commit": sha, "timestamp": 1_790_000_000},
    )


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    series = Series(compile_files(library.bundled_files()).models, Window(MANY, 1, MANY, MANY))
    folded = 0

    def fold(more: int) -> None:
        nonlocal folded
        for number in range(folded, folded + more):
            series.fold(commit(number), NOW)
        folded += more
        series.advance(NOW)

    registry = CollectorRegistry()
    registry.register(Collector(count))
    theirs = median(seconds(lambda: generate_latest(registry)) for _ in range(3))
    body = generate_latest(registry)
    both = theirs + median(seconds(lambda: gzip.compress(body, 1)) for _ in range(3))
    fold(count)
    print("| scrape | text, ms | prometheus-client | with gzip, ms | prometheus-client |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, more, rounds in (
        ("first", 0, 1),
        ("1 % new", count // 100, ROUNDS),
        ("same", 0, ROUNDS),
    ):
        took: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(rounds):
            fold(more)
            for compressed, times in took.items():

                def scrape(compressed: bool = compressed) -> bytes:
                    families = series.families()
                    return exposition.render(
                        b"", families, openmetrics=False, compressed=compressed
                    )

                times.append(seconds(scrape))
        text, packed = median(took[False]), median(took[True])
        print(
            f"| {name} | {1e3 * text:.1f} | {theirs / text:.0f}x as long "
            f"| {1e3 * packed:.1f} | {both / packed:.0f}x as long |"
        )


if __name__ == "__main__":
    main()
