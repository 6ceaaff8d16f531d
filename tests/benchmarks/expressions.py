"""Compiled expressions on decoded payloads.

The rules of a mapping are asked of every case of it, as they are when it is served: a rule's fields only
where its condition holds. The best of several rounds counts, because other work on the machine only
ever makes a round slower.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import jmespath
from msgspec import Struct

from gateway.authoring import cases
from gateway.delivery import Delivery
from gateway.mapping import functions, library, shape
from gateway.mapping.closures import is_false
from gateway.mapping.compiler import CompiledMapping, compile_files
from gateway.mapping.expression import _Parser
from gateway.plan import Evaluate
from tests.benchmarks.report import Bar, Options, Row

OPTIONS = jmespath.Options(custom_functions=functions.LIBRARY)

Scope = Mapping[str, Any]


class Expressions(Struct, frozen=True):
    """A rule's expressions, however they are evaluated. `when_each`: the condition is asked of items."""

    when: Callable[[Scope], bool]
    when_each: bool
    each: Evaluate | None
    fields: list[Evaluate]


def compiled(mapping: CompiledMapping) -> list[Expressions]:
    """As the gateway evaluates them."""
    return [
        Expressions(rule.when or _always, rule.when_each, rule.each, [*rule.fields.values()])
        for rule in mapping.plan.rules
    ]


def interpreted(mapping: CompiledMapping) -> list[Expressions]:
    """As the jmespath package does."""
    return [
        Expressions(
            _condition(rule["when"]) if "when" in rule else _always,
            planned.when_each,
            _interpreter(rule["each"]) if "each" in rule else None,
            [
                _interpreter(field if isinstance(field, str) else field["value"])
                for field in rule["fields"].values()
            ],
        )
        for rule, planned in zip(
            shape.plain(mapping.document)["rules"], mapping.plan.rules, strict=True
        )
    ]


def _interpreter(text: str) -> Evaluate:
    tree = _Parser().parse(text)
    return lambda scope: tree.search(scope, options=OPTIONS)


def _condition(text: str) -> Callable[[Scope], bool]:
    evaluate = _interpreter(text)
    return lambda scope: not is_false(evaluate(scope))


def _always(_scope: Scope) -> bool:
    return True


NOTHING = Expressions(_always, when_each=False, each=None, fields=[])


def values(rules: list[Expressions], scope: Scope) -> list[Any]:
    """The fields of all events, in order; a type error is an answer like any other, and ends its rule."""
    found: list[Any] = []
    for rule in rules:
        try:
            if not rule.when_each and not rule.when(scope):
                continue
            items = [scope] if rule.each is None else _items(scope, rule.each(scope))
            for item in items:
                if not rule.when_each or rule.when(item):
                    found += [evaluate(item) for evaluate in rule.fields]
        except Exception:
            found.append(TypeError)
    return found


def _items(scope: Scope, found: Any) -> list[Scope]:
    return [{**scope, "each": one} for one in found] if isinstance(found, list) else []


def seconds(rules: list[Expressions], scopes: list[Scope], rounds: int) -> float:
    """The best round of asking the rules of every scope."""
    best = float("inf")
    for _ in range(3 * rounds):
        started = time.perf_counter()
        for scope in scopes:
            values(rules, scope)
        best = min(best, time.perf_counter() - started)
    return best


def rows(options: Options) -> Iterator[Row]:
    mappings = compile_files(library.bundled_files()).mappings
    ratios: dict[str, float] = {}
    for source in ["github", "gitlab"] if options.quick else sorted(mappings):
        scopes = _scopes(mappings[source])
        ours, theirs = compiled(mappings[source]), interpreted(mappings[source])
        for scope in scopes:
            if values(ours, scope) != values(theirs, scope):
                raise RuntimeError(f"the two ways do not come to the same for {source}")
        # The loop around them is the same either way, and no part of either.
        idle = seconds([NOTHING] * len(ours), scopes, options.rounds)
        fast = seconds(ours, scopes, options.rounds) - idle
        ratios[source] = (seconds(theirs, scopes, options.rounds) - idle) / fast
    least, most = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
    yield Row(
        subject="the expressions of a mapping",
        against="jmespath.py on the same decoded payloads",
        ratio=median(ratios.values()),
        bar=Bar(first=5, goal=10),
        details=f"the median of {len(ratios)} bundled mappings; {least} {ratios[least]:.1f} ×, "
        f"{most} {ratios[most]:.1f} ×",
    )


def _scopes(mapping: CompiledMapping) -> list[Scope]:
    """What the expressions are asked of, one for each case that is JSON."""
    path = library.bundled("mappings") / f"{mapping.plan.source}{library.CASES_SUFFIX}"
    read, _ = cases.read(str(path), path.read_text())
    assert read is not None
    scopes: list[Scope] = []
    for case in read.cases:
        headers = {name.lower(): value for name, value in case.headers.items()}
        delivery = Delivery(
            source=mapping.plan.source,
            headers=headers,
            query={},
            body=case.body(),
            received_at=1_790_000_000.0,
        )
        scope, malformed = mapping.plan.scope(delivery)
        if malformed is None:
            scopes.append(scope)
    return scopes
