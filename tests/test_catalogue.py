"""The reference of all checks is complete, true, and what the committed page says."""

import ast
import os
import re
from pathlib import Path

import pytest

from gateway.authoring import cases, catalogue, fences, sampling
from gateway.authoring.catalogue import ENTRIES, Entry
from gateway.cli import check
from gateway.mapping import checks, compiler, document, inheritance, library, shape
from gateway.mapping.compiler import SourceFile
from tests.harness import ROOT

PAGE = ROOT / "docs/reference/checks.md"
SHOWN = [entry for entry in ENTRIES if entry.bad is not None]


def names_in_code() -> set[str]:
    """The names of all checks, and all words with the form of a name that a finding is given."""
    found = {
        check.__name__.replace("_", "-")
        for check in (*checks.MAPPING_CHECKS, *checks.MODEL_CHECKS, *checks.APPS_CHECKS)
    }
    for module in (cases, check, document, fences, inheritance, compiler, library, sampling, shape):
        source = Path(str(module.__file__)).read_text()
        for call in ast.walk(ast.parse(source)):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(
                ("Diagnostic", "_finding")
            ):
                found |= {name for argument in call.args[:2] for name in names_of(argument)}
    return found


def names_of(argument: ast.expr) -> list[str]:
    """The names that an argument can be; `duplicate-{what}` is one of two."""
    if isinstance(argument, ast.JoinedStr) and ast.unparse(argument).startswith("f'duplicate-"):
        return ["duplicate-source", "duplicate-kind"]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [argument.value]
    return []


def bundled_kinds() -> list[SourceFile]:
    """The models that are shipped."""
    return library.read_files(library.yaml_files(library.bundled("schemas")), layer=0)[0]


def test_every_name_in_the_code_is_in_the_catalogue_and_the_other_way_round() -> None:
    """A check without a section, or a section without a check, is a dead link."""
    names = [entry.name for entry in ENTRIES]
    assert set(names) == names_in_code()
    assert len(names) == len(set(names))


def test_every_check_has_its_docstring_for_a_section() -> None:
    """No section is empty."""
    assert [entry.name for entry in ENTRIES if len(entry.what) < 20] == []


@pytest.mark.parametrize("entry", SHOWN, ids=lambda entry: entry.name)
def test_a_bad_example_yields_its_name_and_no_other(entry: Entry) -> None:
    """An example shows one mistake."""
    report = catalogue.report_of(entry.bad or "", beside=entry.cases)
    found = re.findall(r"(?:error|warning)\[([a-z0-9-]+)\]", report)
    assert set(found) == {entry.name}


@pytest.mark.parametrize("entry", SHOWN, ids=lambda entry: entry.name)
def test_a_mended_example_yields_nothing(entry: Entry) -> None:
    """The mend mends."""
    assert catalogue.report_of(entry.mended or "", beside=entry.cases) == "no problems in 1 file"


@pytest.mark.parametrize("entry", SHOWN, ids=lambda entry: entry.name)
def test_the_reports_of_the_page_are_those_among_the_bundled_kinds(entry: Entry) -> None:
    """The kinds that the catalogue assumes are the shipped ones, as far as reports show them."""
    kinds = bundled_kinds()
    for text in (entry.bad or "", entry.mended or ""):
        assert catalogue.report_of(text) == catalogue.report_of(text, kinds)


def test_the_committed_page_is_what_the_catalogue_makes() -> None:
    """The page is generated, never edited."""
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(catalogue.markdown())
    assert PAGE.read_text() == catalogue.markdown()


def test_every_name_has_a_heading_that_its_link_leads_to() -> None:
    """`docs/reference/checks.md#<name>` is what reports print."""
    page = catalogue.markdown()
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings == [entry.name for entry in ENTRIES]
    assert set(re.findall(r"\(#([a-z0-9-]+)\)", page)) == set(headings)


def test_every_name_occurs_in_a_report_of_the_broken_examples() -> None:
    """No check goes without a golden file."""
    reports = "".join(path.read_text() for path in (ROOT / "tests/broken").glob("*.txt"))
    reported = set(re.findall(r"(?:error|warning)\[([a-z0-9-]+)\]", reports))
    # A model that lacks what correlation reads breaks half the catalogue: `test_check` has that report.
    assert reported | {"correlated-kind"} == {entry.name for entry in ENTRIES}
