"""`gateway test`: runs the cases beside mappings, and says which rules no case reaches."""

import argparse
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from msgspec import Struct

from gateway import report
from gateway.cli import wiring
from gateway.diagnostic import did_you_mean, has_errors
from gateway.mapping import cases, library, trial
from gateway.mapping.compiler import Compilation
from gateway.mapping.trial import Trial
from gateway.settings import SettingsError, number


class Suite(Struct, frozen=True):
    """The trials of one file, and the rules of its mapping."""

    file: str
    source: str
    rules: tuple[str, ...]
    trials: tuple[Trial, ...]

    @property
    def reached(self) -> frozenset[str]:
        return frozenset(name for one in self.trials for name in one.fired)

    @property
    def failed(self) -> list[Trial]:
        return [one for one in self.trials if not one.passed]


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="folders of mappings with their cases, or `*.test.yaml` files; the bundled ones where "
        "none is given",
    )
    wiring.define_schemas(parser)
    parser.add_argument(
        "--min-coverage",
        default="0",
        metavar="PERCENT",
        help="fail where the cases of a mapping reach fewer of its rules",
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit report as well")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where every case came out as it says, 1 where one did not or coverage is too low; raises
    SettingsError where there is nothing to run."""
    least = number(options.min_coverage, "--min-coverage", 0, 100)
    files = _case_files(options.paths or [library.bundled("mappings")])
    folders = sorted({path.parent for path in files})
    loaded = wiring.load([*options.schemas, *folders])
    if has_errors(loaded.diagnostics):
        print(report.render(loaded.diagnostics, loaded.texts, len(loaded.files)))
        return 1
    read, wrong = _read(files)
    if wrong:
        print(wrong)
        return 1
    suites = [_suite(path, one, loaded.compilation) for path, one in read]
    for suite in suites:
        print(_told(suite))
    print(_summary(suites))
    if options.junit:
        _write_junit(options.junit, suites)
    poor = [suite for suite in suites if _percent(suite.reached, suite.rules) < least]
    for suite in poor:
        share = _percent(suite.reached, suite.rules)
        print(f"{suite.file}: {share:.0f}% of the rules are reached, {least:g}% are asked for")
    return 1 if poor or any(suite.failed for suite in suites) else 0


def _case_files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(path.glob(f"*{library.CASES_SUFFIX}"))
        elif path.name.endswith(library.CASES_SUFFIX) and path.is_file():
            found.append(path)
        else:
            raise SettingsError(f"{path} is neither a folder nor a file of cases (*.test.yaml)")
    if not found:
        places = ", ".join(str(path) for path in paths)
        raise SettingsError(f"there are no cases (*.test.yaml) in {places}")
    return found


def _read(files: Iterable[Path]) -> tuple[list[tuple[Path, cases.CaseFile]], str]:
    """The cases of the files, or a report of what is wrong with them."""
    read, findings, texts = [], [], {}
    for path in files:
        text = path.read_text(encoding="utf-8")
        texts[str(path)] = text
        one, problems = cases.read(str(path), text)
        findings += problems
        if one is not None:
            read.append((path, one))
    return read, report.render(findings, texts, len(texts)) if findings else ""


def _suite(path: Path, read: cases.CaseFile, compilation: Compilation) -> Suite:
    mapping = compilation.mappings.get(read.source)
    if mapping is None:
        mend = did_you_mean(read.source, compilation.mappings)
        raise SettingsError(f"{path} is about `{read.source}`, and there is no such source; {mend}")
    return Suite(
        str(path),
        read.source,
        tuple(rule.name for rule in mapping.plan.rules),
        tuple(trial.run(mapping, case) for case in read.cases),
    )


def _told(suite: Suite) -> str:
    lines = [f"{suite.file}: {_counted(len(suite.trials), 'case')}, {len(suite.failed)} failed"]
    for one in suite.failed:
        lines += [f"  FAILED {one.case.name}", *(f"    {line}" for line in _difference(one))]
    lines += [
        f"  no case reaches the rule `{name}`" for name in suite.rules if name not in suite.reached
    ]
    return "\n".join(lines)


def _difference(one: Trial) -> list[str]:
    expected, actual = trial.document(one.case.expect), trial.document(one.actual)
    lines = difflib.unified_diff(
        expected.splitlines(), actual.splitlines(), "expected", "actual", lineterm="", n=20
    )
    return [line for line in lines if not line.startswith("@@")]


def _summary(suites: Sequence[Suite]) -> str:
    total = sum(len(suite.trials) for suite in suites)
    failed = sum(len(suite.failed) for suite in suites)
    rules = [(suite.file, name) for suite in suites for name in suite.rules]
    reached = [(suite.file, name) for suite in suites for name in suite.reached]
    return (
        f"{total - failed} passed, {failed} failed; "
        f"{len(reached)} of {_counted(len(rules), 'rule')} reached"
        f" ({_percent(reached, rules):.0f}%)"
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _percent(part: Iterable[object], whole: Sequence[object]) -> float:
    return 100 * len(list(part)) / len(whole) if whole else 100.0


def _write_junit(path: Path, suites: Sequence[Suite]) -> None:
    root = ET.Element("testsuites")
    for suite in suites:
        counts = {"tests": str(len(suite.trials)), "failures": str(len(suite.failed))}
        element = ET.SubElement(root, "testsuite", {"name": suite.source, **counts})
        for one in suite.trials:
            names = {"name": one.case.name, "classname": suite.source, "file": suite.file}
            case = ET.SubElement(element, "testcase", names)
            if not one.passed:
                failure = ET.SubElement(case, "failure", {"message": "not as expected"})
                failure.text = "\n".join(_difference(one))
    try:
        ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error
