"""Diagnostics rendered for the reader who asked: a person, an editor, or a build."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from xml.etree import ElementTree as ET

import msgspec

from gateway.diagnostic import Diagnostic, Severity

_CHECKS_PAGE = "docs/reference/checks.md"
_INFORMATION_URI = "https://github.com/dora-metrics/pelorus"


class Format(StrEnum):
    FULL = "full"
    CONCISE = "concise"
    JSON = "json"
    GITHUB = "github"
    SARIF = "sarif"
    JUNIT = "junit"


def render(
    diagnostics: Iterable[Diagnostic],
    texts: Mapping[str, str],
    files: int,
    form: Format = Format.FULL,
    *,
    examined: Iterable[str] = (),
) -> str:
    """The report of one run.

    `texts` holds the text of each file by the name that spans use; `files` is how many were
    examined, and `examined` are their names, of which JUnit's report alone makes use. The answer ends
    without a newline.
    """
    ordered = sorted(diagnostics)
    match form:
        case Format.FULL:
            blocks = [_full(finding, texts) for finding in ordered]
            return "\n\n".join([*blocks, summary(ordered, files)])
        case Format.CONCISE:
            return "\n".join(
                [*(_headline(finding) for finding in ordered), summary(ordered, files)]
            )
        case Format.JSON:
            return msgspec.json.format(msgspec.json.encode(ordered), indent=2).decode()
        case Format.GITHUB:
            return "\n".join(
                [*(_annotation(finding) for finding in ordered), summary(ordered, files)]
            )
        case Format.SARIF:
            return msgspec.json.format(msgspec.json.encode(_sarif(ordered)), indent=2).decode()
        case Format.JUNIT:
            return _junit(ordered, examined)


def summary(diagnostics: Sequence[Diagnostic], files: int) -> str:
    """The closing line: `2 errors, 1 warning in 3 files`."""
    counts = Counter(finding.severity for finding in diagnostics)
    found = [_plural(counts[severity], severity) for severity in Severity if counts[severity]]
    return f"{', '.join(found) or 'no problems'} in {_plural(files, 'file')}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _headline(finding: Diagnostic) -> str:
    span = finding.span
    place = f"{span.file}:{span.line}:{span.column}"
    return f"{place}: {finding.severity}[{finding.name}]: {finding.message}"


def _full(finding: Diagnostic, texts: Mapping[str, str]) -> str:
    span = finding.span
    number = str(span.line)
    margin = " " * len(number)
    lines = [_headline(finding)]
    source = _source_line(texts.get(span.file, ""), span.line)
    if source is not None:
        before = "".join(" " if char != "\t" else "\t" for char in source[: span.column - 1])
        carets = "^" * max(1, min(span.width, len(source) - span.column + 1))
        lines += [f"{margin} |", f"{number} | {source}".rstrip(), f"{margin} | {before}{carets}"]
    if finding.help:
        lines.append(f"{margin} = help: {finding.help}")
    lines.append(f"{margin} = see:  {_CHECKS_PAGE}#{finding.name}")
    return "\n".join(lines)


def _source_line(text: str, line: int) -> str | None:
    lines = text.split("\n")
    return lines[line - 1].rstrip("\r") if line <= len(lines) and text else None


def _annotation(finding: Diagnostic) -> str:
    span = finding.span
    message = finding.message + (f" ({finding.help})" if finding.help else "")
    place = f"file={_property(span.file)},line={span.line},col={span.column}"
    return f"::{finding.severity} {place},title={finding.name}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _sarif(diagnostics: Sequence[Diagnostic]) -> dict[str, object]:
    """SARIF 2.1.0, the subset that code hosts read."""
    rules = [{"id": name} for name in sorted({finding.name for finding in diagnostics})]
    driver = {"name": _TOOL, "informationUri": _INFORMATION_URI, "rules": rules}
    results = [
        {
            "ruleId": finding.name,
            "level": str(finding.severity),
            "message": {"text": finding.message + (f"\n{finding.help}" if finding.help else "")},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": finding.span.file},
                        "region": {
                            "startLine": finding.span.line,
                            "startColumn": finding.span.column,
                            "endColumn": finding.span.column + finding.span.width,
                        },
                    }
                }
            ],
        }
        for finding in diagnostics
    ]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def _junit(diagnostics: Sequence[Diagnostic], examined: Iterable[str]) -> str:
    """A test case for each file: its errors are failures, its warnings what it printed."""
    of_file: dict[str, list[Diagnostic]] = {name: [] for name in examined}
    for finding in diagnostics:
        of_file.setdefault(finding.span.file, []).append(finding)
    failed = sum(1 for found in of_file.values() if any(map(_is_error, found)))
    counts = {"tests": str(len(of_file)), "failures": str(failed)}
    suites = ET.Element("testsuites", {"name": _TOOL, **counts})
    suite = ET.SubElement(suites, "testsuite", {"name": _TOOL, **counts})
    for name, found in of_file.items():
        case = ET.SubElement(suite, "testcase", {"name": _printable(name), "classname": _TOOL})
        errors = [finding for finding in found if _is_error(finding)]
        if errors:
            # Some build servers show one failure of a test case only.
            attributes = {"message": _printable(errors[0].message), "type": errors[0].name}
            ET.SubElement(case, "failure", attributes).text = _lines(errors)
        warnings = [finding for finding in found if not _is_error(finding)]
        if warnings:
            ET.SubElement(case, "system-out").text = _lines(warnings)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True)


_TOOL = "gateway check"


def _is_error(finding: Diagnostic) -> bool:
    return finding.severity is Severity.ERROR


def _lines(findings: Iterable[Diagnostic]) -> str:
    return _printable(
        "\n".join(
            _headline(finding) + (f" ({finding.help})" if finding.help else "")
            for finding in findings
        )
    )


def _printable(text: str) -> str:
    """The text without the characters that no XML can hold."""
    return "".join(
        char
        if char in "\t\n" or " " <= char <= "\ud7ff" or "\ue000" <= char not in "\ufffe\uffff"
        else "\ufffd"
        for char in text
    )
