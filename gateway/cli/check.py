"""`gateway check`: every problem of mappings and models that can be known without a delivery."""

import argparse
import sys
from pathlib import Path

from gateway import report
from gateway.diagnostic import Diagnostic, has_errors
from gateway.mapping import cases, library
from gateway.mapping.compiler import SourceFile, compile_files
from gateway.settings import SettingsError

STDIN = "-"


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="files or folders, `-` for standard input; the bundled ones where none is given",
    )
    parser.add_argument(
        "--format",
        choices=[form.value for form in report.Format],
        default=report.Format.FULL,
        help="full, for people (the default); concise, one line each; json; github, annotations of "
        "a workflow; sarif",
    )
    parser.add_argument(
        "--deny-warnings", action="store_true", help="exit with 1 on warnings as well"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where no error was found, 1 where one was; raises SettingsError where a path is unreadable."""
    try:
        files, findings = _read(options.paths)
        bundled = library.bundled_files()
    except library.Unreadable as error:
        raise SettingsError(str(error)) from error
    examined = {file.name for file in files} | {finding.span.file for finding in findings}
    case_files = [file for file in files if file.name.endswith(library.CASES_SUFFIX)]
    for file in case_files:
        findings += cases.read(file.name, file.text)[1]
    # The bundled files are in order by themselves: what is found there, the examined ones broke.
    compiled = [*bundled, *(file for file in files if file not in case_files)]
    findings += compile_files(compiled).diagnostics
    texts = {file.name: file.text for file in [*bundled, *files]}
    form = report.Format(options.format)
    print(report.render(findings, texts, len(examined), form))
    wrong = bool(findings) if options.deny_warnings else has_errors(findings)
    return 1 if wrong else 0


def _read(paths: list[str]) -> tuple[list[SourceFile], list[Diagnostic]]:
    """The files to examine; they lie above the bundled ones, as they would in `serve`."""
    named = [Path(path) for path in paths if path != STDIN]
    if not paths:
        named = [library.bundled("schemas"), library.bundled("mappings")]
    found = [file for path in named for file in library.yaml_files(path)]
    once = {file.resolve(): file for file in found}
    files, findings = library.read_files(once.values(), layer=1)
    if STDIN in paths:
        read = library.decode("<stdin>", sys.stdin.buffer.read(), layer=1)
        if isinstance(read, SourceFile):
            files.append(read)
        else:
            findings.append(read)
    return files, findings
