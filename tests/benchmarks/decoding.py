"""Decoding only what a mapping reads against decoding everything, on the bundled mappings' own cases.

    python -m tests.benchmarks.decoding [FOLDER...]

A folder holds more payloads of a source of the same name, as `*.json`. The best of several rounds counts,
because other work on the machine only ever makes a round slower.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from gateway.authoring import cases
from gateway.mapping import library
from gateway.mapping.compiler import compile_files

ROUNDS, CALLS = 7, 200


def _best(decode: Callable[[bytes], Any], body: bytes) -> float:
    """Seconds of one call."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(CALLS):
            decode(body)
        rounds.append((time.perf_counter() - started) / CALLS)
    return min(rounds)


def _bodies(source: str, folders: list[Path]) -> list[bytes]:
    path = library.bundled("mappings") / f"{source}{library.CASES_SUFFIX}"
    read, _ = cases.read(str(path), path.read_text())
    assert read is not None
    more = [file for folder in folders if folder.name == source for file in folder.glob("*.json")]
    found = [case.body() for case in read.cases] + [file.read_bytes() for file in more]
    return [body for body in found if _is_json(body)]


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except ValueError:
        return False
    return True


def main() -> None:
    folders = [Path(name) for name in sys.argv[1:]]
    print("| source | payloads | median bytes | everything µs | what is read µs | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for source, mapping in sorted(compile_files(library.bundled_files()).mappings.items()):
        bodies = _bodies(source, folders)
        whole = [_best(msgspec.json.decode, body) for body in bodies]
        part = [_best(mapping.plan.decode, body) for body in bodies]
        size = median(len(body) for body in bodies)
        print(
            f"| {source} | {len(bodies)} | {size:.0f} | {1e6 * sum(whole) / len(whole):.1f} "
            f"| {1e6 * sum(part) / len(part):.1f} | {sum(whole) / sum(part):.1f}x |"
        )


if __name__ == "__main__":
    main()
