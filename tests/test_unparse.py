"""A parsed expression as text again: whatever the tree, its text parses to the same tree."""

import json
from typing import Any

import pytest
from hypothesis import given

from gateway.mapping.expression import ExpressionError, parse
from gateway.mapping.unparse import unparse
from tests.expressions import EXPRESSIONS, thorough
from tests.harness import CORPUS, lacking


def _bare(tree: Any) -> Any:
    """The tree without the places of its names."""
    match tree:
        case dict() if "type" in tree:
            return {
                key: value if key == "value" else _bare(value)
                for key, value in tree.items()
                if key != "start"
            }
        case list():
            return [_bare(one) for one in tree]
    return tree


def _comes_back(text: str) -> None:
    tree = parse(text).tree
    again = unparse(tree)
    assert _bare(parse(again).tree) == _bare(tree), f"{text} became {again}"


@thorough
@given(EXPRESSIONS)
def test_any_expression_comes_back(text: str) -> None:
    try:
        parse(text)
    except ExpressionError:
        return
    _comes_back(text)


def test_every_expression_of_the_compliance_suite_comes_back() -> None:
    folder = CORPUS.parent / "jmespath-compliance"
    if not folder.is_dir():
        lacking(f"the JMESPath compliance suite ({folder})")
    for path in sorted(folder.glob("*.json")):
        for suite in json.loads(path.read_text()):
            for case in suite["cases"]:
                if "error" not in case:
                    _comes_back(case["expression"])


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("event=='push'&&!body.deleted", "event == 'push' && !body.deleted"),
        ('headers."x-github-event"', 'headers."x-github-event"'),
        ("(a || b).c[0].d", "(a || b).c[0].d"),
        ("(a[*].b)[*]", "(a[*].b)[*]"),
        ("a[*].b[]", "a[*].b[]"),
        ("a[?x == `1` && (y || z)].w | [0]", "a[?x == `1` && (y || z)].w | [0]"),
        ("{p: a, q: 'it\\'s'}", "{p: a, q: 'it\\'s'}"),
        ('`"a\\\\"`', '`"a\\\\"`'),
        ("a[][?b].{c: d}[0]", "a[][?b].{c: d}[0]"),
        ("a[?b].{c: d}[0]", "(a[?b].{c: d})[0]"),
        ("a[0][1:][*]", "a[0][1:][*]"),
        ("(&a)[0]", "(&a)[0]"),
        ("!(b.a)[0].c", "!(b.a)[0].c"),
        ("(b.a)[*].c", "(b.a)[*].c"),
        ("(b.a)[1:].c", "(b.a)[1:].c"),
        ("(b.a)[].c", "b.a[].c"),
        ("b.a[0].c[1][*]", "b.a[0].c[1][*]"),
        ("(&a) || &b.c", "(&a) || (&b.c)"),
        ("not_null(&(a || b))", "not_null(&a || b)"),
    ],
)
def test_the_spelling(text: str, spelled: str) -> None:
    assert unparse(parse(text).tree) == spelled
    _comes_back(text)
