"""A scrape after many past events, with the same window.

The events of a busy organisation arrive one after another; the last ones are within the window. Whatever
came before them must not be felt.
"""

import hashlib
import time
from collections.abc import Iterator
from itertools import islice
from statistics import median

from gateway import exposition
from gateway.event import Event, FieldValue
from gateway.mapping import library
from gateway.mapping.compiler import compile_files
from gateway.series import Series, Window
from tests.benchmarks.report import Bar, Options, Row

APPS, SCRAPES = 200, 31
WITHIN = 3_000
"""Events within the window."""
END = 1_790_000_000_000
LENGTH = 2_700_000


def history(count: int) -> Iterator[tuple[Event, int]]:
    """Commits, builds, deployments and failures, each with its receipt in epoch milliseconds."""
    before = count - WITHIN
    for number in range(count):
        recent = number - before
        past = END - LENGTH - 60_000 * (before - number)
        received = END - LENGTH + 1 + recent * (LENGTH - 2) // WITHIN if recent >= 0 else past
        seconds, app, turn = received / 1000, f"team/app-{number // 4 % APPS}", number // 4
        sha = hashlib.sha1(b"%d" % turn).hexdigest()
        image = f"sha256:{turn:064x}"
        fields: dict[str, FieldValue]
        match number % 4:
            case 0:
                fields = {"app": app, "commit": sha, "timestamp": seconds - 3600}
                yield Event("committime", fields), received
            case 1:
                yield Event("build", {"app": app, "commit": sha, "image_sha": image}), received
            case 2:
                fields = {"app": app, "image_sha": image, "timestamp": seconds, "namespace": "prod"}
                yield Event("deploytime", fields), received
            case _:
                fields = {"app": app, "issue_number": str(turn), "timestamp": seconds}
                yield Event("failure", fields | {"event": "created"}), received


def folded(count: int, now: int | None = None) -> tuple[Series, float]:
    """The series of so many events, and the seconds of CPU time to fold one; with `now`, as a history
    that nobody looks at before then."""
    series = Series(compile_files(library.bundled_files()).models, Window(LENGTH, 60_000))
    if now is not None:
        series.skip_before(now)
    took = 0.0
    events = history(count)
    while some := list(islice(events, 1_000)):
        started = time.process_time()
        for event, received in some:
            series.fold(event, received)
            series.advance(received)
        took += time.process_time() - started
    return series, took / count


def scraped(series: Series) -> tuple[float, int]:
    """The seconds of a scrape, and its lines."""
    started = time.process_time()
    series.advance(END)
    body = exposition.render(b"", series.families(), openmetrics=False)
    return time.process_time() - started, body.count(b"\n")


def rows(options: Options) -> Iterator[Row]:
    few, many = (3_000, 6_000) if options.quick else (10_000, 1_000_000)
    sizes = f"{many:,} events against {few:,}"
    (short, short_fold), (long, long_fold) = folded(few), folded(many)
    of_short, of_long, lines = [], [], 0
    for _ in range(SCRAPES):
        # In turns, so that other work on the machine slows both alike.
        of_short.append(scraped(short)[0])
        seconds, lines = scraped(long)
        of_long.append(seconds)
    after_few, after_many = median(of_short), median(of_long)
    yield Row(
        subject="a scrape after many past events",
        against="one after few, with the same window",
        ratio=after_many / after_few,
        # The goal is no difference; two measurements of the same differ by as much.
        bar=Bar(first=1.2, goal=1.05, better="less"),
        details=f"{1e3 * after_many:.2f} ms against {1e3 * after_few:.2f} ms, {sizes}, {lines:,} lines",
    )
    yield Row(
        subject="folding an event after many past events",
        against="after few",
        ratio=long_fold / short_fold,
        details=f"{1e6 * long_fold:.1f} µs against {1e6 * short_fold:.1f} µs, {sizes}",
    )
    _, as_history = folded(few, END)
    yield Row(
        subject="folding an event of a history, at the start",
        against="folding it when it comes",
        ratio=as_history / short_fold,
        details=f"{1e6 * as_history:.1f} µs against {1e6 * short_fold:.1f} µs",
    )
