"""The benchmarks run from end to end, and the documentation shows all of them. No time is asserted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import documentation
from tests.benchmarks import deliveries, report
from tests.benchmarks.__main__ import benchmarks
from tests.benchmarks.report import Bar, Results, Row
from tests.documentation import BENCHMARKS, replaced
from tests.harness import REQUIRE_ALL, ROOT, require_program


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One run of the command. What it compares with may be missing, and nothing is fetched."""
    environment = {name: value for name, value in os.environ.items() if name != REQUIRE_ALL}
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *arguments],
        cwd=ROOT,
        env={**environment, "npm_config_offline": "true"},
        capture_output=True,
        text=True,
        check=False,
    )


def claims(results: Results) -> dict[str, list[tuple[str, str, Bar | None]]]:
    return {
        name: [(row.subject, row.against, row.bar) for row in result.rows]
        for name, result in results.items()
    }


def test_all_run_and_the_documentation_shows_what_they_claim(tmp_path: Path) -> None:
    """Every row of every benchmark, with its bars, is in the file that the page is made from."""
    require_program("wrk")
    found, page = tmp_path / "found.json", tmp_path / "page.md"
    page.write_text("# A page\n\n<!-- generated: benchmarks -->\n<!-- end -->\n\nMore.\n")
    ended = run(
        "--quick", *("--folder", str(tmp_path), "--json", str(found), "--markdown", str(page))
    )
    assert ended.returncode == 0, ended.stderr
    results = report.load(found)
    assert results.keys() == benchmarks().keys()
    for row in (row for result in results.values() for row in result.rows):
        assert row.lack or (row.ratio and row.ratio > 0), row
    (first,) = (
        row for row in results["throughput"].rows if "64" in row.subject and "uvi" in row.against
    )
    assert not first.lack
    assert page.read_text() == (
        f"# A page\n\n<!-- generated: benchmarks -->\n{ended.stdout}<!-- end -->\n\nMore.\n"
    )
    assert claims(report.load(BENCHMARKS)) == claims(results)


def test_a_part_alone_leaves_the_results_of_others_as_they_were(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    row = Row(subject="a dish", against="another", ratio=2)
    report.save(found, {"cooking": report.result("Cooking", [row])})
    ended = run("--quick", "--json", str(found), "expressions")
    assert ended.returncode == 0, ended.stderr
    results = report.load(found)
    assert results.keys() == {"cooking", "expressions"}
    assert results["cooking"].rows == [row]
    assert "| a dish | another | 2.0 × |" in ended.stdout


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    ended = run("thruput")
    assert ended.returncode == 2
    assert "there is no benchmark `thruput`; known: decoding, " in ended.stderr


def test_every_request_is_a_delivery_of_its_own() -> None:
    """Of one size, with its own id, commit and signature."""
    made = [deliveries.signed(number) for number in range(300)]
    for name in ("X-GitHub-Delivery", "X-Hub-Signature-256"):
        assert len({headers[name] for headers, _ in made}) == 300
    assert len({deliveries.sha(number) for number in range(300)}) == 300
    assert {len(body) for _, body in made} == {8192}


@pytest.mark.parametrize(
    ("better", "figure", "reached"),
    [
        ("more", 2.0, "goal"),
        ("more", 1.9, "first bar"),
        ("more", 0.9, "no"),
        ("less", 1.0, "no"),
        ("less", 0.4, "first bar"),
        ("less", 0.2, "goal"),
    ],
)
def test_a_bar_is_reached_from_its_side(better: str, figure: float, reached: str) -> None:
    bars = {"more": Bar(first=1, goal=2), "less": Bar(first=0.5, goal=0.25, better="less")}
    assert bars[better].reached(figure) == reached


def test_a_bar_in_seconds_is_about_the_seconds() -> None:
    bar = Bar(first=5, goal=2, better="less", unit="s")
    row = Row(subject="a start", against="another", ratio=12, bar=bar, seconds=3)
    assert row.cells()[2:6] == ["12 ×", "≤ 5 s", "≤ 2 s", "first bar"]


def test_what_is_missing_is_said_with_its_reason() -> None:
    row = Row(subject="a dish", against="another", ratio=None, lack="no stove")
    result = report.result("Cooking", [row])
    assert "| a dish | another |  |  |  | not measured: no stove |  |" in (
        documentation.benchmark_tables({"cooking": result})
    )


def test_a_page_without_the_part_is_left_alone() -> None:
    assert replaced("# A page\n", "benchmarks", "made") is None
