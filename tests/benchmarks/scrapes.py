"""What a scrape costs after ten thousand and after a million past events, with the same window.

    python -m tests.benchmarks.scrapes [EVENTS...]

The events of a busy organisation arrive one after another; the last ones are within the window. Whatever
came before them must not be felt: the ratio of the last column is that of the scrapes.
"""

import hashlib
import sys
import time
from collections.abc import Iterator
from itertools import islice
from statistics import median

from gateway import exposition
from gateway.event import Event, FieldValue
from gateway.mapping import library
from gateway.mapping.compiler import compile_files
from gateway.series import Series, Window

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


def fold(count: int, now: int | None = None) -> tuple[Series, float]:
    """Series of so many events, and microseconds of CPU time for one; with `now`, as a history that
    nobody looks at before then."""
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
    return series, 1e6 * took / count


def measure(count: int) -> tuple[float, float, float, int]:
    """Microseconds to fold an event, the same as history, milliseconds of a scrape, and its lines."""
    _, as_history = fold(count, END)
    series, folded = fold(count)
    scrapes = []
    for _ in range(SCRAPES):
        started = time.process_time()
        series.advance(END)
        body = exposition.render(b"", series.families(), openmetrics=False)
        scrapes.append(time.process_time() - started)
    return folded, as_history, median(scrapes) * 1e3, body.count(b"\n")


def main() -> None:
    counts = [int(text) for text in sys.argv[1:]] or [10_000, 1_000_000]
    print("| past events | µs to fold one | as history | lines of a scrape | ms of it | ratio |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    first = 0.0
    for count in counts:
        folded, as_history, scrape, lines = measure(count)
        first = first or scrape
        print(
            f"| {count:,} | {folded:.1f} | {as_history:.1f} | {lines:,} | {scrape:.3f} "
            f"| {scrape / first:.2f}x |"
        )


if __name__ == "__main__":
    main()
