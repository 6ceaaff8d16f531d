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
    numbers = re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)
    assert len(numbers) == len(set(numbers))
    assert len(numbers) >= 18
