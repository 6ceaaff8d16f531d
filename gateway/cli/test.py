"""`gateway test`: runs the cases beside mappings, and says what no case tries."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from gateway import report
from gateway.authoring import cases, coverage, trial
from gateway.cli import casefiles, shared, suites, update, wiring
from gateway.cli.suites import Suite
from gateway.diagnostic import did_you_mean, has_errors
from gateway.mapping import library
from gateway.mapping.compiler import Compilation
from gateway.settings import SettingsError, number


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="folders of mappings with their cases, mappings whose cases lie beside them, or "
        "`*.test.yaml` files; the bundled ones where none is given",
    )
    wiring.define_schemas(parser)
    parser.add_argument(
        "-k",
        "--case",
        metavar="NAME",
        help="only the case of this name, or those whose names hold it; coverage is not told then",
    )
    parser.add_argument(
        "--min-coverage",
        metavar="PERCENT",
        help="fail where the cases of a mapping try fewer of its rules, branches and fields together",
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="write what comes out into the expectations of failing cases, each after a question",
    )
    parser.add_argument(
        "--yes", action="store_true", help="with --update: answer every question with yes"
    )
    parser.add_argument(
        "--format",
        choices=("full", "json"),
        default="full",
        help="full, for people (the default); json, with all that is covered and what is not",
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit report as well")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where every case came out as it says, 1 where one did not, what was read is wrong, a named
    mapping has no cases, or coverage is too low; raises SettingsError where there is nothing to run."""
    least = _least(options)
    if options.yes and not options.update:
        raise SettingsError("--yes answers the questions of --update, and goes with it")
    if options.update and not options.yes and not shared.can_ask():
        raise SettingsError(
            "--update asks about each case, and there is no terminal to ask; accept all with --yes"
        )
    paths = options.paths or [library.bundled("mappings")]
    folders = sorted({path if path.is_dir() else path.parent for path in _known(paths)})
    loaded = wiring.load([*options.schemas, *folders])
    if has_errors(loaded.diagnostics):
        print(report.render(loaded.diagnostics, loaded.texts, len(loaded.files)))
        return 1
    files, notes, lacking = _case_files(paths, loaded.compilation)
    found = _suites(files, loaded.compilation, options.case)
    if isinstance(found, str):
        print(found)
        return 1
    people = options.format == "full"
    if options.update and update.review(
        found, everything=options.yes, to=sys.stdout if people else sys.stderr
    ):
        found = _suites(files, loaded.compilation, options.case)
        if isinstance(found, str):
            raise SettingsError(found)
    print(suites.told(found, [*notes, *lacking]) if people else suites.as_json(found))
    if options.junit:
        suites.write_junit(options.junit, found)
    poor = [one for one in found if one.coverage is not None and one.coverage.percent < least]
    for suite in poor:
        percent = suites.percent(suite.coverage)
        print(
            f"{suite.file}: {percent}% is covered, {least:g}% is asked for",
            file=sys.stdout if people else sys.stderr,
        )
    return 1 if poor or lacking or any(suite.failed for suite in found) else 0


def _least(options: argparse.Namespace) -> float:
    if options.min_coverage is None:
        return 0
    if options.case is not None:
        raise SettingsError("--min-coverage is about all cases; leave it out with --case")
    return number(options.min_coverage, "--min-coverage", 0, 100)


# What to run


def _known(paths: Sequence[Path]) -> Sequence[Path]:
    """The paths, all of which are there and can have cases. Raises SettingsError."""
    for path in paths:
        if not path.is_dir() and not (path.suffix in (".yaml", ".yml") and path.is_file()):
            raise SettingsError(f"{path} is neither a folder, nor a mapping or a file of cases")
    return paths


def _case_files(
    paths: Iterable[Path], compilation: Compilation
) -> tuple[list[Path], list[str], list[str]]:
    """The files of cases; a note for each named file that needs none, and one for each that has none
    and should. Raises SettingsError where a folder has none."""
    sources = {
        mapping.document.span.file: source for source, mapping in compilation.mappings.items()
    }
    found: list[Path] = []
    notes: list[str] = []
    lacking: list[str] = []
    for path in paths:
        if path.is_dir():
            within = sorted(path.glob(f"*{library.CASES_SUFFIX}"))
            if not within:
                raise SettingsError(f"there are no cases (*.test.yaml) in {path}")
            found += within
        elif path.name.endswith(library.CASES_SUFFIX):
            found.append(path)
        elif str(path) in sources:
            names = dict.fromkeys((path.stem, sources[str(path)]))
            beside = [path.with_name(f"{name}{library.CASES_SUFFIX}") for name in names]
            there = next((one for one in beside if one.is_file()), None)
            if there is None:
                lacking.append(f"{path}: there are no cases beside it ({beside[0].name})")
            else:
                found.append(there)
        else:
            notes.append(f"{path}: describes a kind of event, and has no cases")
    return list({path.resolve(): path for path in found}.values()), notes, lacking


def _suites(
    files: Iterable[Path], compilation: Compilation, words: str | None
) -> list[Suite] | str:
    """The cases of the files put to their mappings, or a report of what is wrong with them."""
    known = {source: mapping.plan.params for source, mapping in compilation.mappings.items()}
    read, findings, texts = [], [], {}
    for path in files:
        one, problems, texts[str(path)] = casefiles.read(path, known)
        findings += problems
        if one is not None:
            read.append((path, one))
    if findings:
        return report.render(findings, texts, len(texts))
    every = [case for _, one in read for case in one.file.cases]
    if words is not None and every and not cases.named(every, words):
        mend = did_you_mean(words, [case.name for case in every])
        raise SettingsError(f"no case's name holds `{words}`; {mend}")
    chosen = {case.name for case in (every if words is None else cases.named(every, words))}
    found = []
    for path, one in read:
        mapping = compilation.mappings[one.file.source]
        trials = trial.run_all(mapping, compilation.models, one.file.cases)
        asked = [each.asked for each in trials if each.asked is not None]
        numbers = [n for n, each in enumerate(trials) if each.case.name in chosen]
        if numbers or words is None:
            suite = Suite(
                file=str(path),
                text=texts[str(path)],
                source=one.file.source,
                trials={n: trials[n] for n in numbers},
                lines={n: one.line(n) for n in numbers},
                coverage=coverage.cover(mapping, asked) if words is None else None,
            )
            found.append(suite)
    return found
