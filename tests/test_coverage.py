"""What cases leave untried: rules, both answers of each part of a condition, fields and alternatives."""

from typing import Any

import pytest

from gateway.authoring import coverage, trial
from gateway.authoring.cases import Case
from gateway.authoring.coverage import Coverage, What
from gateway.delivery import Delivery
from gateway.mapping import library
from gateway.mapping.compiler import CompiledMapping, SourceFile, compile_files

MAPPING = """\
source: shop
authenticate: none
params: {stages: []}
rules:
  - name: a deployment
    when: >-
      body.kind == 'deployed' && !body.dry
      && (!params.stages || contains(params.stages, body.stage))
    emit: deploytime
    fields:
      app: not_null(body.app, body.service)
      commit: body.sha || body.tag.sha || body.ref
      namespace: body.place || `null`
      timestamp: {value: body.at, offset: UTC}
  - name: commits
    each: body.commits
    when: each.sha && body.kind == 'pushed'
    emit: committime
    fields: {app: body.app, commit: each.sha, timestamp: each.at}
"""
PARTS = 2 + 2 * 4 + 2 * 2 + (2 + 3 + 1 + 1) + 3


def mapping(text: str = MAPPING, *others: str) -> CompiledMapping:
    files = [SourceFile("shop.yaml", text, layer=1)]
    files += [SourceFile(f"other{n}.yaml", other, layer=1) for n, other in enumerate(others)]
    compilation = compile_files([*library.bundled_files(), *files])
    assert not compilation.diagnostics
    return compilation.mappings[text.split()[1]]


def covered(found: CompiledMapping, *payloads: Any, **params: Any) -> Coverage:
    cases = [Case(name="one", payload=payload, params=params) for payload in payloads]
    asked = [trial.run(found, case).asked for case in cases]
    return coverage.cover(found, [one for one in asked if one is not None])


def lacking(found: Coverage) -> list[tuple[str, str, str]]:
    items = dict.fromkeys(found.lacking)
    return [(item.field or item.what, item.text, item.lacking) for item in items]


LIVE = {"kind": "deployed", "app": "shop", "sha": "0ddba11", "at": "2026-03-02 10:05"}


def test_without_deliveries_nothing_is_covered() -> None:
    """Of a rule that never applies, the fields go without saying."""
    found = covered(mapping())
    assert (found.count(), found.percent) == ((0, PARTS), 0)
    assert lacking(found) == [
        ("rule", "", "never applies"),
        ("branch", "body.kind == 'deployed'", "never asked"),
        ("branch", "!body.dry", "never asked"),
        ("branch", "!params.stages", "never asked"),
        ("branch", "contains(params.stages, body.stage)", "never asked"),
        ("rule", "", "never applies"),
        ("branch", "each.sha", "never asked"),
        ("branch", "body.kind == 'pushed'", "never asked"),
    ]


def test_a_part_that_another_decides_for_is_not_asked() -> None:
    """`&&` ends at what is false, `||` at what is true."""
    found = covered(mapping(), LIVE, {"kind": "other"})
    assert lacking(found) == [
        ("branch", "!body.dry", "never false"),
        ("branch", "!params.stages", "never false"),
        ("branch", "contains(params.stages, body.stage)", "never asked"),
        ("app", "body.service", "never taken"),
        ("commit", "body.tag.sha", "never taken"),
        ("commit", "body.ref", "never taken"),
        ("namespace", "", "never found"),
        ("rule", "", "never applies"),
        ("branch", "each.sha", "never asked"),
        ("branch", "body.kind == 'pushed'", "never asked"),
    ]
    assert found.count(What.RULE) == (1, 2)
    assert found.count(What.BRANCH) == (4, 12)
    assert found.count(What.FIELD) == (3, 10)


def test_each_alternative_of_a_field_counts_where_it_gives_the_value() -> None:
    """The last one too only where it finds something; a bare null is no alternative."""
    found = covered(
        mapping(),
        {**LIVE, "app": None, "service": "shop", "place": "harbour"},
        {**LIVE, "sha": "", "tag": {"sha": "0ddba11"}},
        {**LIVE, "sha": None, "ref": "0ddba11"},
    )
    assert [one for one in lacking(found) if one[0] in ("app", "commit", "namespace")] == []
    nothing = covered(mapping(), {**LIVE, "sha": None})
    assert ("commit", "body.ref", "never taken") in lacking(nothing)


def test_a_value_that_the_model_refuses_is_not_found() -> None:
    found = covered(mapping(), {**LIVE, "at": "noon"})
    assert ("timestamp", "", "never found") in lacking(found)


def test_params_of_a_case_count() -> None:
    found = covered(mapping(), {**LIVE, "stage": "live"}, LIVE, stages=["live"])
    texts = [text for _, text, lack in lacking(found) if lack != "never true"]
    assert "contains(params.stages, body.stage)" not in texts
    assert ("branch", "!params.stages", "never true") in lacking(found)


def test_a_condition_of_items_is_asked_of_each() -> None:
    commits = [{"sha": "0ddba11", "at": 1769851800}, {}]
    found = covered(
        mapping(), {"kind": "pushed", "app": "shop", "commits": commits}, {"commits": commits}
    )
    of_commits = [item for item in found.items if item.rule == "commits"]
    assert all(not item.lacking for item in of_commits)


def test_a_part_that_fails_is_neither_true_nor_false() -> None:
    found = covered(mapping(MAPPING.replace("!body.dry", "length(body.dry) > `0`")), LIVE)
    assert ("branch", "length(body.dry) > `0`", "never asked") in lacking(found)


def test_an_inherited_rule_is_covered_by_the_cases_of_whose_it_is() -> None:
    """A derived source's cases answer for its own rules, and for those that it replaces."""
    derived = """\
source: market
extends: shop
rules:
  - name: commits
    emit: committime
    fields: {app: body.app, commit: body.sha, timestamp: body.at}
"""
    found = mapping(derived, MAPPING)
    assert {item.rule for item in covered(found).items} == {"commits"}
    only = mapping("source: market\nextends: shop\n", MAPPING)
    assert (covered(only).count(), covered(only).percent) == ((0, 0), 100)


def test_places_are_those_of_the_mapping() -> None:
    places = {
        (item.rule, item.field or item.text): item.place.line for item in covered(mapping()).items
    }
    assert places["a deployment", "!body.dry"] == 6
    assert places["a deployment", "timestamp"] == 14
    assert places["commits", "timestamp"] == 19
    assert places["commits", ""] == 15


def test_a_refused_delivery_tries_nothing() -> None:
    signed = MAPPING.replace("none", "{scheme: bearer, secret: {env: SHOP_SECRET}}", 1)
    case = Case(name="one", payload=LIVE, headers={"Authorization": "Bearer wrong"})
    assert trial.run(mapping(signed), case).asked is None


def test_a_body_that_cannot_be_read_tries_nothing() -> None:
    found = mapping()
    delivery = Delivery(source="shop", headers={}, query={}, body=b"{", received_at=1.0)
    assert coverage.cover(found, [(found, delivery)]).count()[0] == 0


@pytest.mark.parametrize("items", [1, 60])
def test_many_items_are_followed_as_far_as_an_explanation_goes(items: int) -> None:
    commits = [{"sha": "0ddba11", "at": 1769851800}] * items
    found = covered(mapping(), {"kind": "pushed", "app": "shop", "commits": commits})
    assert ("branch", "each.sha", "never false") in lacking(found)
    assert not [
        one
        for one in found.items
        if one.rule == "commits" and one.what is What.FIELD and one.lacking
    ]
