"""An explanation tells what serving does: step for step the same, on cases, real payloads, anything."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given

from gateway.authoring.cases import read as read_cases
from gateway.authoring.explanation import explain, follow, hint
from gateway.authoring.narration import narrate
from gateway.delivery import Accepted, DeadLetter, Delivery
from gateway.mapping import library
from gateway.mapping.closures import closure, is_false
from gateway.mapping.compiler import CompiledMapping, SourceFile, compile_files
from gateway.mapping.expression import ExpressionError, parse
from gateway.plan import ExpressionFailed, evaluate
from tests.expressions import DOCUMENTS, EXPRESSIONS, thorough
from tests.harness import require_corpus
from tests.test_corpus import PAYLOADS

BUNDLED = compile_files(library.bundled_files())

MAPPING = """\
source: shop
authenticate: none
event: headers."x-shop-event"
params: {stages: [live]}
rules:
  - name: a deployment
    when: event == 'deployed' && (contains(params.stages, body.stage) || body.forced) && !body.dry_run
    emit: deploytime
    fields:
      app: body.app.name
      commit: body.sha
      namespace: body.stage
      timestamp: body.at
  - name: commits
    when: event == 'pushed' && each.kept
    each: body.commits
    emit: committime
    fields: {app: body.app.name, commit: each.id, timestamp: each.at}
"""


def _shop() -> CompiledMapping:
    compilation = compile_files([*library.bundled_files(), SourceFile("shop.yaml", MAPPING, 1)])
    assert not compilation.diagnostics
    return compilation.mappings["shop"]


def _delivery(body: Any, event: str = "deployed") -> Delivery:
    return Delivery(
        source="shop",
        headers={"x-shop-event": event} if event else {},
        query={},
        body=body if isinstance(body, bytes) else msgspec.json.encode(body),
        received_at=1_893_456_000.0,
    )


def _deliveries(source: str) -> Iterator[Delivery]:
    path = library.bundled("mappings") / f"{source}{library.CASES_SUFFIX}"
    read, _ = read_cases(str(path), path.read_text())
    assert read is not None
    for case in read.cases:
        headers = {name.lower(): value for name, value in case.headers.items()}
        yield Delivery(
            source=source, headers=headers, query={}, body=case.body(), received_at=case.received_at
        )


def _agrees(mapping: CompiledMapping, delivery: Delivery) -> None:
    """The steps add up to the reading: the same events and the same reasons, in the same order."""
    explained = explain(mapping, delivery)
    outcome = mapping.plan.read(delivery).outcome
    events = [one.event for step in explained.rules for one in step.attempts if one.event]
    reasons = [
        reason
        for step in explained.rules
        for reason in (*(r for one in step.attempts for r in one.reasons), *step.reasons)
    ]
    if isinstance(outcome, Accepted):
        assert explained.outcome == "accepted"
        assert events == list(outcome.events)
        assert not reasons
    elif isinstance(outcome, DeadLetter):
        assert reasons == list(outcome.reasons)
    else:
        assert not events
        assert not reasons
    for step in explained.rules:
        made = [one for one in step.attempts if one.event or one.reasons]
        assert step.applies == bool(made or step.reasons)
        for attempt in step.attempts:
            if attempt.event:
                fields = {one.field: one.value for one in attempt.fields if one.value is not None}
                assert fields == attempt.event.fields
    assert narrate(explained)
    assert msgspec.json.decode(msgspec.json.encode(explained))["outcome"] == explained.outcome


@pytest.mark.parametrize("source", sorted(BUNDLED.mappings))
def test_it_agrees_with_serving_on_every_case(source: str) -> None:
    for delivery in _deliveries(source):
        _agrees(BUNDLED.mappings[source], delivery)


def test_it_agrees_with_serving_on_real_payloads() -> None:
    require_corpus()
    for payload in PAYLOADS:
        headers = {name.lower(): value for name, value in payload.headers.items()}
        delivery = Delivery(
            source=payload.source, headers=headers, query={}, body=payload.body, received_at=1.8e9
        )
        _agrees(BUNDLED.mappings[payload.source], delivery)


@thorough
@given(EXPRESSIONS, DOCUMENTS)
def test_a_condition_holds_as_the_whole_expression_does(text: str, document: Any) -> None:
    """Taken apart and asked part by part, or asked at once: the same answer, or the same error."""
    try:
        tree = parse(text).tree
    except ExpressionError:
        return
    condition = follow(tree, document)
    try:
        expected = not is_false(evaluate(closure(tree), document))
    except ExpressionFailed as error:
        assert condition.holds is None
        assert str(error) in [leaf.error for _, leaf in condition.leaves()]
    else:
        assert condition.holds is expected


def test_an_accepted_delivery_is_told_step_by_step() -> None:
    body = {
        "app": {"name": "shop"},
        "sha": "0ddba11c0ffee",
        "stage": "live",
        "at": "2026-01-31T10:30:00+01:00",
    }
    assert (
        narrate(explain(_shop(), _delivery(body)))
        == """\
source          shop
event           deployed

rule `a deployment`: applies
  yes  event == 'deployed'
  yes  one of these
         yes  contains(params.stages, body.stage)    params.stages = ["live"], body.stage = "live"
         -    body.forced
  yes  !body.dry_run    body.dry_run = null
  emits deploytime
    app        "shop"
                 body.app.name  (app)
    commit     "0ddba11c0ffee"
                 body.sha  (git-sha)
    namespace  "live"
                 body.stage  (namespace)
    timestamp  1769851800 (2026-01-31T09:30:00Z), from "2026-01-31T10:30:00+01:00"
                 body.at  (timestamp)

other rules that do not apply
  commits  `body.commits` found no items

outcome         accepted
  deploytime  app="shop"  commit="0ddba11c0ffee"  namespace="live"  timestamp=1769851800"""
    )


def test_a_dead_letter_shows_what_stands_where_the_path_ends() -> None:
    body = {"app": {"nam": "shop"}, "sha": "main", "stage": "live", "at": "noon"}
    told = narrate(explain(_shop(), _delivery(body)))
    assert "WRONG  required, but its expression found nothing" in told
    assert "`body.app` has no `name`; did you mean `nam`? known: nam" in told
    assert 'expected a git SHA (7 to 64 hexadecimal digits), got `"main"`' in told
    assert "outcome         dead_lettered" in told


def test_the_nearest_rule_is_the_one_that_got_furthest() -> None:
    body = {"stage": "live", "dry_run": True}
    explained = explain(_shop(), _delivery(body))
    assert explained.outcome == "ignored"
    assert explained.nearest == "a deployment"
    assert "  no   !body.dry_run    body.dry_run = true" in narrate(explained)


def test_no_rule_is_near_where_no_part_of_any_holds() -> None:
    explained = explain(_shop(), _delivery({}, "renamed"))
    assert explained.nearest == ""
    assert "a deployment  no  event == 'deployed'    event = \"renamed\"" in narrate(explained)


def test_an_event_that_is_not_found_is_told_with_its_expression() -> None:
    told = narrate(explain(_shop(), _delivery({}, "")))
    assert 'event           none: headers."x-shop-event" finds nothing' in told


def test_items_are_told_one_by_one_with_those_that_failed_first() -> None:
    good = {"id": "0ddba11c0ffee", "at": 1_769_851_800, "kept": True}
    bad = {"id": "0ddba11c0ffee", "at": "noon", "kept": True}
    body = {"app": {"name": "shop"}, "commits": [*[good] * 7, {"kept": False}, bad]}
    told = narrate(explain(_shop(), _delivery(body, "pushed")))
    items = [line.strip() for line in told.splitlines() if line.startswith("  item")]
    assert items == ["item 8", "item 0", "item 1", "item 2", "item 3"]
    assert "and 4 more items" in told


def test_a_condition_that_fails_of_an_item_ends_the_rule() -> None:
    text = MAPPING.replace("&& each.kept", "&& starts_with(each.id, '0')")
    files = [*library.bundled_files(), SourceFile("shop.yaml", text, 1)]
    mapping = compile_files(files).mappings["shop"]
    good = {"id": "0ddba11c0ffee", "at": 1_769_851_800}
    delivery = _delivery({"app": {"name": "shop"}, "commits": [good, {"id": 1}, good]}, "pushed")
    _agrees(mapping, delivery)
    attempts = explain(mapping, delivery).rules[1].attempts
    assert [bool(one.event) for one in attempts] == [True, False]


def test_a_body_that_is_not_json_is_told_with_its_place() -> None:
    told = narrate(explain(_shop(), _delivery(b'{"app": ')))
    assert "the body is not JSON: line 1, column 9:" in told
    assert "outcome         dead_lettered" in told


def test_an_expression_that_fails_is_a_reason() -> None:
    """Row 37 of the table in docs/explanation/security.md."""
    text = MAPPING.replace("!body.dry_run", "starts_with(body.ref, 'v')")
    files = [*library.bundled_files(), SourceFile("shop.yaml", text, 1)]
    mapping = compile_files(files).mappings["shop"]
    explained = explain(mapping, _delivery({"stage": "live", "ref": 1}))
    assert explained.outcome == "dead_lettered"
    step = next(step for step in explained.rules if step.rule == "a deployment")
    assert step.applies
    assert step.reasons == explained.reasons
    _agrees(mapping, _delivery({"stage": "live", "ref": 1}))


@pytest.mark.parametrize(
    ("text", "scope", "told"),
    [
        ("body.a.b", {"body": {"a": {"c": 1}}}, "`body.a` has no `b`; known: c"),
        ("body.a.b", {"body": {"a": {}}}, "`body.a` is empty"),
        ("body.a.b", {"body": {"a": "x"}}, "`body.a` is text, and has no members"),
        ("body.a.b", {"body": {"a": None}}, "`body.a` is null, and has no members"),
        ("body.a", {"body": {"a": None}}, ""),
        ("body.a | [0]", {"body": {}}, ""),
    ],
)
def test_a_hint_says_how_far_a_path_gets(text: str, scope: Any, told: str) -> None:
    assert hint(parse(text).tree, scope) == told
