"""What a gateway's memory grows by from ten thousand to a million past events, with the same window.

    python -m tests.benchmarks.memory [EVENTS...]

Each count is folded in a fresh process that has loaded all that `gateway serve` loads. The ratio is that
of the resident sizes; what an event takes is the growth over the count before.
"""

import subprocess
import sys
from pathlib import Path

from gateway.cli import serve
from gateway.mapping import library
from gateway.mapping.compiler import compile_files
from gateway.series import Series, Window
from tests.benchmarks.scrapes import END, LENGTH, history
from tests.harness import ROOT

FOLD = "--fold"


def fold(count: int) -> int:
    """Bytes that this process has in memory after so many events, as after a start."""
    assert serve, "what serving needs is part of the size"
    series = Series(compile_files(library.bundled_files()).models, Window(LENGTH, 60_000))
    series.skip_before(END)
    for event, received in history(count):
        series.fold(event, received)
        series.advance(received)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def measure(count: int) -> int:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", FOLD, str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


def main() -> None:
    if sys.argv[1:2] == [FOLD]:
        print(fold(int(sys.argv[2])))
        return
    counts = [int(text) for text in sys.argv[1:]] or [10_000, 1_000_000]
    print("| past events | MB of the process | ratio | bytes for an event more |")
    print("| ---: | ---: | ---: | ---: |")
    sizes: list[int] = []
    for count in counts:
        sizes.append(measure(count))
        grown = sizes[-1] - sizes[0]
        each = f"{grown / (count - counts[0]):.0f}" if grown else ""
        print(f"| {count:,} | {sizes[-1] / 1e6:.1f} | {sizes[-1] / sizes[0]:.2f}x | {each} |")


if __name__ == "__main__":
    main()
