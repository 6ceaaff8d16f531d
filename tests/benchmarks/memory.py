"""What a gateway's memory grows by from ten thousand to a million past events, with the same window.

Each count is folded in a fresh process that has loaded all that `gateway serve` loads. The ratio is that
of the resident sizes; what an event takes is the growth from one count to the other.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from gateway.cli import serve
from gateway.mapping import library
from gateway.mapping.compiler import compile_files
from gateway.series import Series, Window
from tests.benchmarks.report import Bar, Options, Row
from tests.benchmarks.scrapes import END, LENGTH, history
from tests.harness import ROOT


def rows(options: Options) -> Iterator[Row]:
    few, many = (3_000, 6_000) if options.quick else (10_000, 1_000_000)
    small, large = _measured(few), _measured(many)
    yield Row(
        subject="memory after many past events",
        against="after few, with the same window",
        ratio=large / small,
        bar=Bar(first=1.5, goal=1.1, better="less"),
        details=f"{large / 1e6:.0f} MB after {many:,} events against {small / 1e6:.0f} MB after {few:,}: "
        f"{(large - small) / (many - few):.0f} bytes an event",
    )


def _measured(count: int) -> int:
    """Bytes of a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


def _fold(count: int) -> int:
    """Bytes that this process has in memory after so many events, as after a start."""
    assert serve, "what serving needs is part of the size"
    series = Series(compile_files(library.bundled_files()).models, Window(LENGTH, 60_000))
    series.skip_before(END)
    for event, received in history(count):
        series.fold(event, received)
        series.advance(received)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


if __name__ == "__main__":
    print(_fold(int(sys.argv[1])))
