"""What came of the cases of files: for people, for programs, and for build servers."""

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
from msgspec import Struct

from gateway.authoring import trial
from gateway.authoring.coverage import Coverage, Item, What
from gateway.authoring.trial import Trial
from gateway.settings import SettingsError

_PLURALS = {What.RULE: "rules", What.BRANCH: "branches", What.FIELD: "fields"}
NOTHING_YET = "nothing is expected yet; `gateway test --update` fills it in"


class Suite(Struct, frozen=True, kw_only=True):
    """The trials of one file and the lines of their cases, by the cases' numbers in it; and what all
    its cases cover, None where only some of them were asked for."""

    file: str
    text: str
    source: str
    trials: Mapping[int, Trial]
    lines: Mapping[int, int]
    coverage: Coverage | None

    @property
    def failed(self) -> dict[int, Trial]:
        return {number: one for number, one in self.trials.items() if not one.passed}


def percent(coverage: Coverage | None) -> int:
    """Rounded down, so that 100 is all of it."""
    return math.floor(coverage.percent) if coverage is not None else 0


# For people


def told(suites: Sequence[Suite], notes: Sequence[str]) -> str:
    """The report for a person; notes stand above the summary."""
    return "\n".join([*(line for suite in suites for line in _lines(suite)), *notes, _sum(suites)])


def _lines(suite: Suite) -> list[str]:
    lines = [f"{suite.file}: {_counted(len(suite.trials), 'case')}, {len(suite.failed)} failed"]
    for one in suite.failed.values():
        lines += [f"  FAILED {one.case.name}", *(f"    {line}" for line in _difference(one))]
    if suite.coverage is not None:
        # A part that was never asked was neither true nor false: once is enough to say so.
        lacking = dict.fromkeys(suite.coverage.lacking)
        lines += [f"  {item.place.file}:{item.place.line}: {_said(item)}" for item in lacking]
    return lines


def _said(item: Item) -> str:
    match item.what:
        case What.RULE:
            return f"the rule `{item.rule}` {item.lacking}"
        case What.BRANCH:
            return f"`{item.text}` is {item.lacking}, in the rule `{item.rule}`"
        case What.FIELD:
            field = f"the field `{item.field}` of the rule `{item.rule}`"
            return (
                f"`{item.text}` is {item.lacking} for {field}"
                if item.text
                else (f"{field} is {item.lacking}")
            )


def _difference(one: Trial) -> list[str]:
    actual = trial.document(one.actual).splitlines()
    if one.expected is None:
        return [NOTHING_YET, *(f"+{line}" for line in actual)]
    expected = trial.document(one.expected).splitlines()
    lines = difflib.unified_diff(expected, actual, "expected", "actual", lineterm="", n=20)
    return [line for line in lines if not line.startswith("@@")]


def _sum(suites: Sequence[Suite]) -> str:
    total = sum(len(suite.trials) for suite in suites)
    failed = sum(len(suite.failed) for suite in suites)
    text = f"{total - failed} passed, {failed} failed"
    whole = _whole(suites)
    if whole is None:
        return text
    counts = [
        "{} of {}".format(*whole.count(what))
        + f" {what if whole.count(what)[1] == 1 else _PLURALS[what]}"
        for what in What
    ]
    return f"{text}; {percent(whole)}% covered: {', '.join(counts)}"


def _whole(suites: Sequence[Suite]) -> Coverage | None:
    known = [suite.coverage for suite in suites if suite.coverage is not None]
    return sum(known, Coverage()) if known else None


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# For programs


def as_json(suites: Sequence[Suite]) -> str:
    """All of it as a JSON document."""
    document = {
        "suites": [
            {
                "file": suite.file,
                "source": suite.source,
                "cases": [
                    {
                        "name": one.case.name,
                        "line": suite.lines[number],
                        "passed": one.passed,
                        "expected": one.expected,
                        "actual": one.actual,
                    }
                    for number, one in suite.trials.items()
                ],
                "coverage": _covered(suite.coverage),
            }
            for suite in suites
        ],
        "passed": sum(len(suite.trials) - len(suite.failed) for suite in suites),
        "failed": sum(len(suite.failed) for suite in suites),
        "coverage": _covered(_whole(suites), items=False),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def _covered(coverage: Coverage | None, *, items: bool = True) -> dict[str, Any] | None:
    if coverage is None:
        return None
    counts = {
        _PLURALS[what]: dict(zip(("covered", "total"), coverage.count(what), strict=True))
        for what in What
    }
    return {
        "percent": round(coverage.percent, 2),
        **counts,
        **({"items": coverage.items} if items else {}),
    }


# For build servers


def write_junit(path: Path, suites: Sequence[Suite]) -> None:
    """Writes a JUnit report, with coverage as properties. Raises SettingsError."""
    root = ET.Element("testsuites")
    for suite in suites:
        counts = {"tests": str(len(suite.trials)), "failures": str(len(suite.failed))}
        element = ET.SubElement(root, "testsuite", {"name": suite.source, **counts})
        if suite.coverage is not None:
            _add_properties(element, suite.coverage)
        for number, one in suite.trials.items():
            names = {"name": one.case.name, "classname": suite.source, "file": suite.file}
            case = ET.SubElement(element, "testcase", {**names, "line": str(suite.lines[number])})
            if not one.passed:
                message = "not as expected" if one.expected else NOTHING_YET
                failure = ET.SubElement(case, "failure", {"message": message})
                failure.text = "\n".join(_difference(one))
    try:
        ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error


def _add_properties(element: ET.Element, coverage: Coverage) -> None:
    properties = ET.SubElement(element, "properties")
    values = {"coverage": f"{coverage.percent:.2f}"}
    for what in What:
        covered, total = coverage.count(what)
        values[f"coverage.{_PLURALS[what]}"] = f"{covered}/{total}"
    for name, value in values.items():
        ET.SubElement(properties, "property", {"name": name, "value": value})
    for item in dict.fromkeys(coverage.lacking):
        place = f"{item.place.file}:{item.place.line}"
        missing = {"name": "coverage.missing", "value": f"{place}: {_said(item)}"}
        ET.SubElement(properties, "property", missing)
