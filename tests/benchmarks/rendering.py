"""What a scrape of a hundred thousand series costs, against prometheus-client with equal series.

Each as text and with gzip, when nothing changed since the scrape before, when one series in a hundred
is new, and for the first time. The CPU time of each, and how many times as long prometheus-client takes.
"""

import gzip
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest

from gateway import exposition
from gateway.event import Event
from gateway.mapping import library
from gateway.mapping.compiler import compile_files
from gateway.series import Series, Window
from tests.benchmarks.report import Bar, Options, Row

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


def rows(options: Options) -> Iterator[Row]:
    count = 500 if options.quick else 100_000
    rounds = 1 if options.quick else ROUNDS
    registry = CollectorRegistry()
    registry.register(Collector(count))
    theirs = median(seconds(lambda: generate_latest(registry)) for _ in range(options.rounds))
    body = generate_latest(registry)
    both = theirs + median(seconds(lambda: gzip.compress(body, 1)) for _ in range(options.rounds))
    series = Series(compile_files(library.bundled_files()).models, Window(MANY, 1, MANY, MANY))
    _fold(series, 0, count)
    folded = count
    for name, more, times in (("for the first time", 0, 1), ("with 1 % new", count // 100, rounds)):
        took: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(times):
            for compressed, times_taken in took.items():
                _fold(series, folded, more)
                folded += more
                times_taken.append(seconds(partial(_scrape, series, compressed=compressed)))
        for compressed, theirs_too in ((False, theirs), (True, both)):
            ours = median(took[compressed])
            form = "with gzip" if compressed else "as text"
            # The bar is of what happens at every scrape but the first.
            bar = Bar(first=30, goal=100) if more else None
            yield Row(
                subject=f"a scrape of many series {name}, {form}",
                against="`prometheus-client` rendering equal series",
                ratio=theirs_too / ours,
                bar=bar,
                details=f"{count:,} series: {1e3 * ours:.1f} ms against {1e3 * theirs_too:.0f} ms of CPU time",
            )


def _fold(series: Series, since: int, more: int) -> None:
    for number in range(since, since + more):
        series.fold(commit(number), NOW)
    series.advance(NOW)


def _scrape(series: Series, *, compressed: bool) -> bytes:
    return exposition.render(b"", series.families(), openmetrics=False, compressed=compressed)
