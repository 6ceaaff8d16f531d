"""Compiled expressions against the jmespath package's interpreter, on the bundled mappings' own cases.

    python -m tests.benchmarks.expressions

Every expression of a mapping is asked of every case of that mapping; the best of several rounds
counts, because other work on the machine only ever makes a round slower.
"""

import time
from collections.abc import Callable
from typing import Any

import jmespath

from gateway.authoring import cases
from gateway.mapping import functions, library
from gateway.mapping.closures import closure
from gateway.mapping.compiler import compile_files
from gateway.mapping.expression import _Parser

ROUNDS = 7
OPTIONS = jmespath.Options(custom_functions=functions.LIBRARY)


def expressions_of(source: str) -> list[str]:
    """The texts of all expressions of a bundled mapping."""
    from gateway.mapping import document, shape

    path = library.bundled("mappings") / f"{source}.yaml"
    node, _ = document.parse(str(path), path.read_text())
    assert node is not None
    mapping = shape.plain(node)
    texts = [mapping.get("delivery_id"), mapping.get("event")]
    for rule in mapping["rules"]:
        texts += [rule.get("when"), rule.get("each"), *rule["fields"].values()]
    return [text for text in texts if isinstance(text, str)]


def scopes_of(source: str, params: Any) -> list[dict[str, Any]]:
    """What the expressions are asked of, one for each case."""
    path = library.bundled("mappings") / f"{source}{library.CASES_SUFFIX}"
    read, _ = cases.read(str(path), path.read_text())
    assert read is not None
    return [
        {
            "headers": {name.lower(): value for name, value in case.headers.items()},
            "query": {},
            "body": case.payload,
            "params": params,
            "event": next(iter(case.headers.values()), ""),
            "each": _first_commit(case.payload),
            "received_at": 1_790_000_000.0,
        }
        for case in read.cases
    ]


def _interpreter(tree: Any) -> Callable[[Any], Any]:
    return lambda scope: tree.search(scope, options=OPTIONS)


def _first_commit(payload: Any) -> Any:
    commits = payload.get("commits") if isinstance(payload, dict) else None
    return commits[0] if commits else None


def seconds(evaluations: list[Callable[[Any], Any]], scopes: list[dict[str, Any]]) -> float:
    """The best round of asking every expression of every scope."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for scope in scopes:
            for evaluate in evaluations:
                try:  # noqa: SIM105  # A context manager would cost more than what is measured.
                    evaluate(scope)
                except Exception:
                    pass  # A type error is an answer like any other.
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    """Prints microseconds for each expression in both forms, and their ratio."""
    plans = compile_files(library.bundled_files()).mappings
    print(
        f"{'mapping':<10} {'expressions':>11} {'package µs':>11} {'compiled µs':>12} {'ratio':>7}"
    )
    for source in sorted(plans):
        texts = expressions_of(source)
        scopes = scopes_of(source, plans[source].plan.params)
        trees = [_Parser().parse(text) for text in texts]
        interpreted = [_interpreter(tree) for tree in trees]
        compiled = [closure(tree.parsed) for tree in trees]
        number = len(texts) * len(scopes)
        slow = seconds(interpreted, scopes) / number * 1e6
        fast = seconds(compiled, scopes) / number * 1e6
        print(f"{source:<10} {len(texts):>11} {slow:>11.2f} {fast:>12.2f} {slow / fast:>6.1f}x")


if __name__ == "__main__":
    main()
