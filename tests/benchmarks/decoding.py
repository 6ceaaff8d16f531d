"""Payloads decoded as far as they are read, and mapped.

The best of several rounds counts, because other work on the machine only ever makes a round slower.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from gateway.mapping import library
from gateway.mapping.compiler import CompiledMapping, compile_files
from tests.benchmarks import deliveries, expressions
from tests.benchmarks.report import Bar, Options, Row

CALLS = 200
LARGE = 60_000
"""Bytes."""


def rows(options: Options) -> Iterator[Row]:
    github = compile_files(library.bundled_files()).mappings["github"]
    small, large = deliveries.push(0), deliveries.large_push(LARGE)
    whole = _best(msgspec.json.decode, small, options.rounds)
    part = _best(github.plan.decode, small, options.rounds)
    yield Row(
        subject="decoding what its mapping reads of a GitHub push of 8 KB",
        against="decoding everything",
        ratio=whole / part,
        details=f"{1e6 * part:.1f} µs against {1e6 * whole:.1f} µs",
    )
    yield _mapping(github, "a GitHub push of 8 KB", small, None, options)
    bar = Bar(first=2.5, goal=4)
    yield _mapping(github, "a GitHub push of 60 KB", large, bar, options)


def _mapping(
    github: CompiledMapping, what: str, body: bytes, bar: Bar | None, options: Options
) -> Row:
    compiled, interpreted = expressions.compiled(github), expressions.interpreted(github)

    def ours(raw: bytes) -> list[Any]:
        return expressions.values(compiled, _scope(github, github.plan.decode(raw)))

    def theirs(raw: bytes) -> list[Any]:
        return expressions.values(interpreted, _scope(github, msgspec.json.decode(raw)))

    if not ours(body) or ours(body) != theirs(body):
        raise RuntimeError("the two ways do not come to the same")
    slow = _best(theirs, body, options.rounds)
    fast = _best(ours, body, options.rounds)
    return Row(
        subject=f"decoding and mapping {what}",
        against="decoding everything, and jmespath.py",
        ratio=slow / fast,
        bar=bar,
        details=f"{1e6 * fast:.0f} µs against {1e6 * slow:.0f} µs",
    )


def _scope(mapping: CompiledMapping, body: Any) -> dict[str, Any]:
    return {
        "headers": {"x-github-event": "push"},
        "query": {},
        "body": body,
        "params": mapping.plan.params,
        "event": "push",
        "each": None,
        "received_at": 1_790_000_000.0,
    }


def _best(call: Callable[[bytes], Any], body: bytes, rounds: int) -> float:
    """Seconds of one call."""
    taken = []
    for _ in range(3 * rounds):
        started = time.perf_counter()
        for _ in range(CALLS):
            call(body)
        taken.append((time.perf_counter() - started) / CALLS)
    return min(taken)
