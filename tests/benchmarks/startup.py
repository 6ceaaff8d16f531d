"""How long commands take from their start to their end, as multiples of an empty Python program.

python -m tests.benchmarks.startup
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median

from tests.harness import ROOT

ROUNDS = 15
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
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


def main() -> None:
    rounds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        # In turns, so that other work on the machine slows all of them alike.
        for name, command in COMMANDS.items():
            rounds[name].append(_seconds(command))
    least = median(next(iter(rounds.values())))
    print("| command | median ms | of an empty program |")
    print("| --- | ---: | ---: |")
    for name, seconds in rounds.items():
        print(f"| `{name}` | {1e3 * median(seconds):.0f} | {median(seconds) / least:.1f}x |")


if __name__ == "__main__":
    main()
