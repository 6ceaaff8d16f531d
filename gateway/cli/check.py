"""`gateway check`: every problem of mappings, models and cases that can be known without a delivery."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from gateway import report
from gateway.authoring import cases, fences, sampling
from gateway.authoring.cases import CaseFile
from gateway.authoring.fences import Fence
from gateway.cli import casefiles, examined, shared
from gateway.diagnostic import Diagnostic, Severity, has_errors
from gateway.mapping import library
from gateway.mapping.compiler import Compilation, SourceFile, compile_files
from gateway.mapping.samples import Sample
from gateway.settings import SettingsError

STDIN = "-"


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="files (mappings, models, cases, or Markdown pages with examples of them), folders of "
        "YAML files, patterns such as 'docs/**/*.md', `-` for standard input; the bundled ones where "
        "none is given",
    )
    parser.add_argument(
        "--format",
        choices=[form.value for form in report.Format],
        default=report.Format.FULL,
        help="full, for people (the default); concise, one line each; json; github, annotations of "
        "a workflow; sarif; junit",
    )
    parser.add_argument(
        "--deny-warnings", action="store_true", help="exit with 1 on warnings as well"
    )
    parser.add_argument(
        "--schemas",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="models to read for reference, without reporting on them; repeatable",
    )
    parser.add_argument(
        "--samples",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a delivery that the source sends, as JSON or as a raw request (`.http`), or a folder of "
        "them, to hold the one mapping against; repeatable",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where no error was found, 1 where one was; raises SettingsError where a path is unreadable or
    names nothing."""
    try:
        files, findings = _read(options.paths)
        bundled = library.bundled_files(library.needed(file.text for file in files))
        schemas, _ = library.read_files(
            [file for path in options.schemas for file in library.yaml_files(path)], layer=1
        )
    except library.Unreadable as error:
        raise SettingsError(str(error)) from error
    names = {file.name for file in files} | {finding.span.file for finding in findings}
    pages = [file for file in files if examined.is_page(file.name)]
    case_files = [file for file in files if examined.is_cases(file.name)]
    sources = [file for file in files if file not in pages and file not in case_files]
    others = [file for file in schemas if file.name not in names]
    others += examined.references(sources, case_files, [*bundled, *others])

    known = _cases(examined.cases_beside(sources, case_files, [*bundled, *others]))[0]
    shown, problems = _cases(case_files)
    findings += problems
    given, problems, texts = _samples(options.samples)
    findings += problems
    samples = sampling.of_cases([*known, *shown])
    if options.samples:
        source = _the_mapping(sources)
        samples[source] = [*samples.get(source, []), *given]

    # The bundled files are in order by themselves: what is found there, the examined ones broke.
    compiled = compile_files([*bundled, *others, *sources], samples)
    aside = {file.name for file in bundled} - names
    unreported = {file.name for file in others}
    findings += [
        one
        for one in compiled.diagnostics
        if one.span.file not in unreported
        and (one.span.file not in aside or one.severity is Severity.ERROR)
    ]
    findings += _unknown_to(compiled, shown, case_files, [*others, *sources])
    for page in pages:
        findings += _of_page(page, [*bundled, *others, *sources])

    names |= texts.keys()
    texts |= {file.name: file.text for file in [*bundled, *files]}
    _print(sorted(set(findings)), texts, names, options)
    wrong = bool(findings) if options.deny_warnings else has_errors(findings)
    return 1 if wrong else 0


def _print(
    findings: list[Diagnostic],
    texts: Mapping[str, str],
    names: set[str],
    options: argparse.Namespace,
) -> None:
    form = report.Format(options.format)
    if form is report.Format.JUNIT and options.deny_warnings:
        # A build server goes by the report, not by the exit code.
        findings = [
            msgspec.structs.replace(finding, severity=Severity.ERROR) for finding in findings
        ]
    print(report.render(findings, texts, len(names), form, examined=sorted(names)))


def _read(paths: Sequence[str]) -> tuple[list[SourceFile], list[Diagnostic]]:
    """The files to examine; they lie above the bundled ones, as they would in `serve`."""
    given = [path for path in paths if path != STDIN]
    if not paths:
        given = [str(library.bundled("schemas")), str(library.bundled("mappings"))]
    files, findings = library.read_files(examined.named(given), layer=1)
    if STDIN in paths:
        read = library.decode("<stdin>", shared.standard_input(), layer=1)
        if isinstance(read, SourceFile):
            files.append(read)
        else:
            findings.append(read)
    return files, findings


# Cases and samples


def _cases(files: Iterable[SourceFile]) -> tuple[list[CaseFile], list[Diagnostic]]:
    read, findings = [], []
    for file in files:
        found, problems = cases.read(file.name, file.text, casefiles.loader(Path(file.name)))
        findings += problems
        if found is not None:
            read.append(found)
    return read, findings


def _samples(
    paths: Iterable[Path],
) -> tuple[list[Sample], list[Diagnostic], dict[str, str]]:
    """The deliveries of files, what is wrong with the others, and all texts. Raises SettingsError."""
    samples, findings, texts = [], [], {}
    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(one for one in path.iterdir() if one.suffix in (".json", ".http"))
        if not files:
            raise SettingsError(f"there is no sample (*.json, *.http) in {path}")
        for file in files:
            try:
                raw = file.read_bytes()
            except OSError as error:
                raise SettingsError(f"cannot read {file}: {error.strerror}") from error
            texts[str(file)] = raw.decode(errors="replace")
            found = sampling.read(str(file), raw)
            if isinstance(found, Sample):
                samples.append(found)
            else:
                findings.append(found)
    return samples, findings, texts


def _the_mapping(files: Iterable[SourceFile]) -> str:
    """The source that samples are of. Raises SettingsError where it is not clear."""
    found = sorted({examined.source_of(file.text) for file in files} - {""})
    if len(found) != 1:
        shown = ", ".join(found[:5]) + ", …" * (len(found) > 5)
        count = f"these are {len(found)}: {shown}" if found else "none is named"
        raise SettingsError(f"--samples are deliveries of one mapping, and {count}")
    return found[0]


def _unknown_to(
    compiled: Compilation,
    read: Iterable[CaseFile],
    files: Sequence[SourceFile],
    sources: Sequence[SourceFile],
) -> list[Diagnostic]:
    """What is wrong with cases that are about no source, or that set no param of theirs."""
    params = {name: one.plan.params for name, one in compiled.mappings.items()}
    # Of a mapping that does not compile, it is not known.
    broken = {examined.source_of(file.text) for file in sources} - params.keys()
    findings: list[Diagnostic] = []
    for found in read:
        known = params.get(found.source)
        if found.source in broken or (
            known is not None and all(case.params.keys() <= known.keys() for case in found.cases)
        ):
            continue
        for file in files:
            if examined.source_of(file.text) == found.source:
                findings += cases.read(file.name, file.text, None, params)[1]
    return findings


# Examples in pages


def _of_page(page: SourceFile, others: Sequence[SourceFile]) -> list[Diagnostic]:
    """What is wrong with the examples of a Markdown page, at its lines."""
    found, findings = fences.fences(page.name, page.text)
    for edition in fences.editions(found):
        findings += _of_examples(edition, others)
    lines = {fence.name: page.name for fence in found}
    return [
        msgspec.structs.replace(
            finding,
            span=msgspec.structs.replace(
                finding.span, file=lines.get(finding.span.file, page.name)
            ),
        )
        for finding in findings
    ]


def _of_examples(edition: Sequence[Fence], others: Sequence[SourceFile]) -> list[Diagnostic]:
    written = [SourceFile(fence.name, fence.text, layer=2) for fence in edition]
    case_files = [
        file for file, fence in zip(written, edition, strict=True) if fence.what == "cases"
    ]
    sources = [file for file in written if file not in case_files]
    read, findings = _cases(case_files)
    compiled = compile_files([*others, *sources], sampling.of_cases(read))
    own = {file.name for file in written}
    findings += [one for one in compiled.diagnostics if one.span.file in own]
    # A page on cases need not show their mapping.
    shown = [one for one in read if one.source in compiled.mappings]
    return [*findings, *_unknown_to(compiled, shown, case_files, [*others, *sources])]
