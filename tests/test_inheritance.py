"""`extends`: what a derived source inherits, replaces and removes, over chains and overrides."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.diagnostic import Diagnostic
from gateway.mapping import library
from gateway.mapping.compiler import Compilation, SourceFile, compile_files
from tests.harness import run_cli

BASE = """\
source: shop
title: The shop
authenticate: {scheme: bearer, secret: {env: SHOP_SECRET}}
event: body.type
params:
  stages: [live]
  prefixes: [v]
rules:
  - name: deployed
    when: event == 'deployed' && contains(params.stages, body.stage)
    emit: deploytime
    fields: {app: body.app, commit: body.commit, timestamp: body.time}
  - name: released
    when: event == 'released' && contains(params.prefixes, body.prefix)
    emit: deploytime
    fields: {app: body.app, commit: body.commit, timestamp: body.time}
  - name: committed
    when: event == 'committed'
    emit: committime
    fields: {app: body.app, commit: body.commit, timestamp: body.time}
"""


def compiled(*texts: str, layers: Mapping[int, int] | None = None) -> Compilation:
    """The files above the bundled ones; the n-th lies in the layer that is given for it."""
    files = [
        SourceFile(f"{number}.yaml", text, (layers or {}).get(number, 1))
        for number, text in enumerate(texts)
    ]
    return compile_files([*library.bundled_files(), *files])


def rules(compilation: Compilation, source: str) -> list[str]:
    """The names of a source's rules, in their order."""
    assert compilation.diagnostics == []
    return [rule.name for rule in compilation.mappings[source].plan.rules]


def findings(compilation: Compilation) -> list[tuple[str, str, int]]:
    """The name, file and line of everything that was found."""
    return [(one.name, one.span.file, one.span.line) for one in compilation.diagnostics]


def test_a_rule_is_removed_by_its_name() -> None:
    """The others stay, in their order; params that only the removed one read are no mistake."""
    found = compiled(BASE, "source: market\nextends: shop\nwithout_rules: [released]\n")
    assert rules(found, "market") == ["deployed", "committed"]
    assert rules(found, "shop") == ["deployed", "released", "committed"]
    assert found.mappings["market"].plan.params == {"stages": ["live"], "prefixes": ["v"]}


def test_rules_are_removed_replaced_and_added_in_one_file() -> None:
    """A replaced rule stays at its place, an added one comes last."""
    rule = "{name: %s, when: event == '%s', emit: committime, fields: {app: body.a, commit: body.c,"
    rule += " timestamp: body.t}}"
    child = (
        "source: market\nextends: shop\nwithout_rules:\n  - deployed\nrules:\n"
        f"  - {rule % ('bought', 'b')}\n  - {rule % ('released', 'r')}\n"
    )
    found = compiled(BASE, child)
    assert rules(found, "market") == ["released", "committed", "bought"]
    assert [rule.model.kind for rule in found.mappings["market"].plan.rules] == ["committime"] * 3


def test_chains_remove_one_after_the_other() -> None:
    """What the parent removed is not there for the child, and the child may bring it back."""
    back = (
        "source: third\nextends: second\nrules:\n  - name: deployed\n    emit: committime\n"
        "    fields: {app: body.a, commit: body.c, timestamp: body.t}\n"
    )
    found = compiled(
        BASE,
        "source: first\nextends: shop\nwithout_rules: [deployed]\n",
        "source: second\nextends: first\nwithout_rules: [released]\n",
        back,
    )
    assert rules(found, "first") == ["released", "committed"]
    assert rules(found, "second") == ["committed"]
    assert rules(found, "third") == ["committed", "deployed"]


def test_a_chain_has_an_end() -> None:
    """What is too long a chain is an error; what comes before is served."""
    links = [f"source: s-{n}\nextends: s-{n - 1}\n" for n in range(1, 200)]
    found = compiled(BASE.replace("source: shop", "source: s-0"), *links)
    assert {name for name, _, _ in findings(found)} == {"long-extends"}
    assert [name for name in found.mappings if name.startswith("s-")] == [
        f"s-{n}" for n in range(9)
    ]


def test_the_order_of_files_does_not_matter() -> None:
    """A child may be read before its parents."""
    first = "source: first\nextends: shop\nwithout_rules: [deployed]\n"
    second = "source: second\nextends: first\nwithout_rules: [released]\n"
    assert rules(compiled(second, first, BASE), "second") == ["committed"]


def test_a_source_that_overrides_its_own_name_removes_rules_of_it() -> None:
    """`source: shop` with `extends: shop` in a higher layer, and what extends it sees the result."""
    found = compiled(
        BASE,
        "source: shop\nextends: shop\nwithout_rules: [released]\n",
        "source: market\nextends: shop\nwithout_rules: [committed]\n",
        layers={1: 2, 2: 2},
    )
    assert rules(found, "shop") == ["deployed", "committed"]
    assert rules(found, "market") == ["deployed"]
    replaced = found.mappings["shop"].replaces
    assert replaced is not None
    assert replaced.file == "0.yaml"
    assert found.mappings["market"].replaces is None


def test_the_title_and_the_removals_are_not_inherited() -> None:
    """They are about one mapping alone."""
    found = compiled(
        BASE,
        "source: first\nextends: shop\ntitle: First\nwithout_rules: [deployed]\n",
        "source: second\nextends: first\n",
    )
    assert found.diagnostics == []
    assert found.mappings["second"].plan.title == "second"
    assert found.mappings["second"].document.get("without_rules") is None


def test_every_inherited_part_keeps_its_place() -> None:
    """A mistake in the parent is reported in the parent, once, however many extend it."""
    broken = BASE.replace("body.stage)", "bdoy.stage)")
    children = [f"source: child-{n}\nextends: shop\n" for n in range(3)]
    found = compiled(broken, *children)
    assert findings(found) == [("unknown-name", "0.yaml", 10)]
    assert set(found.mappings) == library.bundled_sources()


def test_a_mistake_in_a_removed_rule_is_the_parents_alone() -> None:
    """The child does not have it."""
    broken = BASE.replace("event == 'released'", "event = 'released'")
    found = compiled(broken, "source: market\nextends: shop\nwithout_rules: [released]\n")
    assert findings(found) == [("expression-syntax", "0.yaml", 14)]
    assert "market" in found.mappings
    assert "shop" not in found.mappings


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        ("extends: shop\nwithout_rules: [relaesed]", ("unknown-rule", 3)),
        ("extends: shop\nwithout_rules:\n  - deployed\n  - deployed", ("needless-removal", 5)),
        ("extends: shop\nwithout_rules: deployed", ("wrong-type", 3)),
        ("extends: shop\nwithout_rules: [deployed, {a: b}]", ("wrong-type", 3)),
        ("extends: shop\nwithout_rules:", ("wrong-type", 3)),
        ("extends: shop\nwithout_rules: [deployed, released, committed]", ("no-rules", 3)),
        ("extends: shp\nwithout_rules: [deployed]", ("unknown-source", 2)),
    ],
)
def test_a_wrong_removal_is_one_finding(child: str, expected: tuple[str, int]) -> None:
    """And the source is not compiled."""
    found = compiled(BASE, f"source: market\n{child}\n")
    name, line = expected
    assert findings(found) == [(name, "1.yaml", line)]
    assert "market" not in found.mappings


def test_a_removal_with_a_wrong_name_names_the_right_one() -> None:
    """The nearest first, then all that the extended source has."""
    found = compiled(BASE, "source: market\nextends: shop\nwithout_rules: [relaesed]\n")
    (finding,) = found.diagnostics
    assert isinstance(finding, Diagnostic)
    assert finding.message == "`shop` has no rule `relaesed`"
    assert finding.help == "did you mean `released`? known: committed, deployed, released"


def test_a_child_of_a_wrong_removal_is_not_served_either() -> None:
    """The mistake is reported once, where it was made."""
    found = compiled(
        BASE,
        "source: first\nextends: shop\nwithout_rules: [relaesed]\n",
        "source: second\nextends: first\n",
    )
    assert findings(found) == [("unknown-rule", "1.yaml", 3)]
    assert not {"first", "second"} & set(found.mappings)


def test_a_param_of_its_own_that_only_a_removed_rule_read_is_reported() -> None:
    """Setting it changes nothing."""
    child = "source: market\nextends: shop\nwithout_rules: [released]\nparams: {prefixes: [r]}\n"
    assert findings(compiled(BASE, child)) == [("unused-param", "1.yaml", 4)]


def test_removed_rules_do_not_apply_to_deliveries(tmp_path: Path) -> None:
    """As `gateway test` shows it: the parent takes the delivery, the child ignores it."""
    (tmp_path / "shop.yaml").write_text(BASE)
    child = "source: market\nextends: shop\nwithout_rules: [committed]\n"
    (tmp_path / "market.yaml").write_text(child)
    payload = "{type: committed, app: a, commit: 1234567, time: 1790000000}"
    event = "{kind: committime, app: a, commit: '1234567', timestamp: 1790000000}"
    for source, expected in (
        ("shop", f"{{outcome: accepted, events: [{event}]}}"),
        ("market", "{outcome: ignored}"),
    ):
        (tmp_path / f"{source}.test.yaml").write_text(
            f"source: {source}\ncases:\n  - name: a commit\n    payload: "
            f"{payload.replace('1234567', repr('1234567'))}\n    expect: {expected}\n"
        )
    done = run_cli("test", str(tmp_path))
    assert (done.returncode, "2 passed, 0 failed" in done.stdout) == (0, True), done.stdout
