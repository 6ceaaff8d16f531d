"""How long commands take from their start to their end."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from statistics import median

from tests.benchmarks.report import Options, Row
from tests.harness import ROOT

EMPTY = [sys.executable, "-c", "pass"]
COMMANDS = {
    "gateway --help": [sys.executable, "-m", "gateway", "--help"],
    "gateway check mappings/github.yaml": [
        *(sys.executable, "-m", "gateway", "check", "mappings/github.yaml"),
    ],
    "gateway try github PAYLOAD": [sys.executable, "-m", "gateway", "try", "github", "-"],
}


def _seconds(command: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, capture_output=True, input=b"{}", check=True)
    return time.perf_counter() - started


def rows(options: Options) -> Iterator[Row]:
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    empty = []
    for _ in range(3 * options.rounds):
        # In turns, so that other work on the machine slows all of them alike.
        empty.append(_seconds(EMPTY))
        for name, command in COMMANDS.items():
            taken[name].append(_seconds(command))
    least = median(empty)
    for name, seconds in taken.items():
        yield Row(
            subject=f"`{name}`",
            against="an empty Python program",
            ratio=median(seconds) / least,
            details=f"{1e3 * median(seconds):.0f} ms against {1e3 * least:.0f} ms",
        )
