"""The page on security: every test that it names is there, and says which row it is about."""

import ast
import re
from functools import cache

import pytest

from tests.harness import ROOT

PAGE = (ROOT / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")
ROWS = {
    int(number): re.findall(r"`(tests/\w+\.py)::(\w+)`", line)
    for line in PAGE.splitlines()
    for number in re.findall(r"^\| (\d+) \|", line)
}


@cache
def _docstrings(path: str) -> dict[str, str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {
        node.name: ast.get_docstring(node) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("row", sorted(ROWS))
def test_a_row_is_shown_by_tests_that_name_it(row: int) -> None:
    """At least one, and each says so in its docstring."""
    assert ROWS[row], "no test"
    for path, name in ROWS[row]:
        docstring = _docstrings(path).get(name)
        assert docstring is not None, f"{path}::{name} is not there"
        named = " ".join(re.findall(r"Rows?\s+([\d,\s and]+)", docstring))
        assert str(row) in re.findall(r"\d+", named), f"{path}::{name} names other rows: {named}"


def test_each_row_stands_once() -> None:
    """All that there are, each with what is done about it."""
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert sorted(int(number) for number, *_ in rows) == list(range(1, 56))
    assert all(threat.strip() and done.strip() for _, threat, done in rows)


def test_a_test_names_rows_that_name_it() -> None:
    """A number in a docstring leads to a row that leads back to the file."""
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        file = f"tests/{path.name}"
        for name, docstring in _docstrings(file).items():
            for claim in re.findall(r"\bRows? ([\d,\s and]+)", docstring):
                for row in map(int, re.findall(r"\d+", claim)):
                    assert (file, name) in ROWS[row], f"{file}::{name} is not in row {row}"


def test_the_policy_leads_to_the_page() -> None:
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "(docs/explanation/security.md)" in policy
