"""JMESPath as mappings write it: the standard whole, the functions on top, faults with their places."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.mapping.expression import ExpressionError, parse
from tests.harness import CORPUS, lacking

COMPLIANCE = CORPUS.parent / "jmespath-compliance"


def test_the_official_compliance_suite_passes() -> None:
    """Every case: results, and errors where there must be one."""
    if not COMPLIANCE.is_dir():
        lacking(f"the JMESPath compliance suite ({COMPLIANCE})")
    ran = 0
    for path in sorted(COMPLIANCE.glob("*.json")):
        for suite in json.loads(path.read_text()):
            for case in suite["cases"]:
                if "bench" not in case:
                    ran += 1
                    _check(path, suite["given"], case)
    assert ran > 850


def _check(path: Path, given: Any, case: dict[str, Any]) -> None:
    try:
        result = parse(case["expression"]).evaluate(given)
    except Exception as error:
        assert "error" in case, f"{path.name}: {case['expression']}: {error}"
    else:
        assert "error" not in case, f"{path.name}: {case['expression']}"
        assert result == case["result"], f"{path.name}: {case['expression']}"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("split('a,b,c', ',')", ["a", "b", "c"]),
        ("split('a,b,c', ',', `1`)", ["a", "b,c"]),
        ("split('abc', '')", ["a", "b", "c"]),
        ("split('abc', '', `1`)", ["a", "bc"]),
        ("split('', ',')", [""]),
        ("replace('aaa', 'a', 'b')", "bbb"),
        ("replace('aaa', 'a', 'b', `2`)", "bba"),
        ("trim('  a ')", "a"),
        ("trim('xxaxx', 'x')", "a"),
        ("trim_left('  a ')", "a "),
        ("trim_right('  a ')", "  a"),
        ("lower('AbÇ')", "abç"),
        ("upper('abç')", "ABÇ"),
        ("find_first('banana', 'an')", 1),
        ("find_first('banana', 'an', `2`)", 3),
        ("find_first('banana', 'an', `2`, `4`)", None),
        ("find_last('banana', 'an')", 3),
        ("find_last('banana', 'x')", None),
        ("find_first('banana', '')", None),
        ("overlap(params.labels, body[].name)", True),
        ('overlap(params.labels, `["other"]`)', False),
        ("overlap(params.labels, nothing)", False),
    ],
)
def test_functions_of_our_own(text: str, result: Any) -> None:
    """Named as the JMESPath community's proposals name them; `overlap` is ours."""
    scope = {"params": {"labels": ["bug", "incident"]}, "body": [{"name": "bug"}, {}]}
    assert parse(text).evaluate(scope) == result


@pytest.mark.parametrize("deleted", [True, False, None])
def test_a_negation_covers_the_path_behind_it(deleted: bool | None) -> None:
    """`!body.deleted` is the negation of `body.deleted`."""
    scope = {"body": {"deleted": deleted, "ref": "x", "list": [{"a": deleted}]}}
    assert parse("!body.deleted").evaluate(scope) is not deleted or deleted is None
    assert parse("!body.deleted").evaluate(scope) == (not deleted)
    assert parse("body.ref == 'x' && !body.deleted").evaluate(scope) == (not deleted)
    assert parse("!body.list[0].a").evaluate(scope) == (not deleted)
    assert parse("!body.deleted == `true`").evaluate(scope) == (not deleted)


def test_an_expression_says_what_it_reads() -> None:
    """Names, members of names and calls, each at its offset."""
    found = parse("starts_with(body.ref, 'x') && headers.\"x-a\" == params.b")
    assert [(use.name, use.offset) for use in found.roots] == [
        ("body", 12),
        ("headers", 30),
        ("params", 47),
    ]
    assert [(root, use.name, use.offset) for root, use in found.members] == [
        ("body", "ref", 17),
        ("headers", "x-a", 38),
        ("params", "b", 54),
    ]
    assert [(call.name, call.arguments, call.offset) for call in found.calls] == [
        ("starts_with", 2, 0)
    ]


def test_names_inside_what_was_found_are_no_names_of_the_scope() -> None:
    """A filter, a projection and a pipe look at what stands before them."""
    for text in (
        "body[?name == 'x']",
        "body[].name",
        "body | name",
        "map(&name, body)",
        "body.*.name",
    ):
        assert [use.name for use in parse(text).roots] == ["body"]
    assert [use.name for use in parse("@ | params").roots] == ["params"]
    assert parse("@").whole_scope


@pytest.mark.parametrize(
    ("text", "offset"),
    [("", 0), ("a &&", 4), ("a b", 2), ("a = 'x'", 2), ("headers.x-y", 9), ("'a", 0), ("a.[", 3)],
)
def test_a_fault_has_its_place(text: str, offset: int) -> None:
    """The offset in characters. Row 36 of the table in docs/explanation/security.md."""
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (r'a."\ud800"', 2), (r'a || `"\udc00"`', 5), (r'`{"\ud800": 1}`', 0), (r'`[["a\ud83d"]]`', 0),
        ("'a\ud800'", 0), (r'a."\udc00\ud83d"', 2), (r'{"\ud800": a}', 1),
    ],
)  # fmt: skip
def test_half_a_surrogate_pair_is_a_fault(text: str, offset: int) -> None:
    """No event can hold it; a whole pair is a character."""
    with pytest.raises(ExpressionError, match="has half a surrogate pair") as caught:
        parse(text)
    assert caught.value.offset == offset
    assert parse(r"""`"\ud83d\ude00"`""").evaluate({}) == "😀"


def test_depth_and_length_are_bounded() -> None:
    """A hostile expression is a fault, not a crash. Row 38."""
    for text in ("(" * 900 + "a" + ")" * 900, "a" * 5_000, "!" * 1_999 + "a", "[" * 1_999):
        with pytest.raises(ExpressionError):
            parse(text)
