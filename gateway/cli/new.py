"""`gateway new`: drafts a mapping and its cases from sample payloads, and says what is to decide."""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gateway import body, report
from gateway.authoring import draft, draft_text, recognise
from gateway.authoring.cases import Expectation
from gateway.authoring.draft import Draft, Field
from gateway.authoring.draft_text import Files
from gateway.authoring.recognise import Sample
from gateway.cli import request, wiring
from gateway.diagnostic import did_you_mean, has_errors
from gateway.mapping import library
from gateway.settings import SettingsError

STDOUT = "-"
_SOURCE = re.compile(r"[a-z][a-z0-9-]{0,62}")


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="the new source's name, as in its URL: lower case, digits, hyphens",
    )
    parser.add_argument(
        "--sample",
        action="append",
        required=True,
        metavar="FILE",
        help="a delivery: a file of JSON, or a raw request with its headers (.http); `-` for "
        "standard input; repeatable",
    )
    request.define_header(parser)
    parser.add_argument(
        "--emit", metavar="KIND", help="the kind of event; by default the one that fits best"
    )
    parser.add_argument(
        "--output",
        default="mappings",
        metavar="DIR",
        help="the folder to write to; `-` prints the mapping alone (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="write over files that are there")
    wiring.define_schemas(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where the draft was written, 1 where the models given have errors; raises SettingsError
    where a sample cannot be read or a file cannot be written."""
    if not _SOURCE.fullmatch(options.source):
        raise SettingsError(
            f"`{options.source}` is no name for a source; write lower case letters, digits and "
            "hyphens, a letter first"
        )
    loaded = wiring.load(options.schemas)
    if has_errors(loaded.diagnostics):
        print(report.render(loaded.diagnostics, loaded.texts, len(loaded.files)))
        return 1
    models = draft.kinds(loaded.files)
    samples = [_sample(path, options.header) for path in options.sample]
    try:
        drafted = draft.draft(options.source, samples, models, options.emit or "")
    except draft.UnknownKind as error:
        mend = did_you_mean(error.kind, error.known)
        raise SettingsError(f"there is no kind `{error.kind}` to emit; {mend}") from error
    folder = None if options.output == STDOUT else Path(options.output)
    mapping = (folder or Path()) / f"{options.source}.yaml"
    cases = mapping.with_name(f"{options.source}{library.CASES_SUFFIX}")
    files = draft_text.files(drafted, samples, loaded.files, str(mapping))
    if folder is None:
        print(files.mapping, end="")
        print("\n".join(_told(drafted, files, options.source)), file=sys.stderr)
        return 0
    _write({mapping: files.mapping, cases: files.cases}, force=options.force)
    told = [
        f"wrote {mapping}",
        f"wrote {cases}",
        "",
        *_told(drafted, files, options.source, str(mapping)),
        "",
    ]
    print("\n".join([*told, *_next(options, mapping, cases)]))
    return 0


def _sample(path: str, headers: Sequence[str]) -> Sample:
    found = request.read(path, headers)
    name = "standard input" if path == request.STDIN else Path(path).name.partition(".")[0] or path
    types = [value for key, value in found.headers.items() if key.lower() == "content-type"]
    # What a header calls it matters for forms only: a sample is JSON, whatever its sender says.
    form = body.FORM if types and body.media_type(types[0]) == body.FORM else ""
    try:
        payload = body.read(found.body, form)
    except body.NotJSON as error:
        # Lines are counted from the body's first, which is not the first of a raw request.
        where = "the body, " if len(found.headers) > len(headers) else ""
        raise SettingsError(f"{request.shown(path)} is not JSON: {where}{error}") from error
    return Sample(name=name, headers=found.headers, payload=payload)


def _write(texts: dict[Path, str], *, force: bool) -> None:
    """Writes all of the files or, where one of them is in the way, none."""
    there = [str(path) for path in texts if path.exists()]
    if there and not force:
        raise SettingsError(f"{' and '.join(there)} exist already; --force writes over them")
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"cannot write {path}: {error.strerror}") from error


# What is said


def _told(drafted: Draft, files: Files, source: str, name: str = "") -> Iterator[str]:
    yield "recognised"
    scheme = drafted.credentials
    if scheme.header:
        yield f"  authenticate: {scheme.keys['scheme']} in {scheme.header}, {scheme.why}"
    for key, found in (("delivery_id", drafted.delivery_id), ("event", drafted.event)):
        if found is not None:
            yield _line(key, found.expression, found.values[0], found.why)
    for rule in drafted.rules:
        yield f"  rule `{rule.name}`, of the kind {rule.emit}"
        for condition in rule.when:
            yield f"    when {condition}"
        if rule.each:
            yield f"    each {rule.each}"
        for field in rule.fields:
            yield "  " + _field(field)
    yield ""
    yield "what becomes of the samples"
    for sample, expected in files.outcomes:
        yield f"  {sample}: {_outcome(expected)}"
    questions = draft_text.questions(files.mapping)
    is_bundled = source in library.bundled_sources()
    yield ""
    yield (
        "to decide"
        if questions or is_bundled
        else "nothing is left to decide; read it through all the same"
    )
    if is_bundled:
        yield (
            f"  `{source}` is the name of a bundled mapping, all of which this one takes the place of; to "
            f"change a part of it, write `extends: {source}` instead, or take another name"
        )
    for number, question in questions:
        yield f"  {name or 'line '}{':' if name else ''}{number}  {question}"


def _line(what: str, expression: str, value: Any, why: str) -> str:
    return f"  {what}: {expression} = {recognise.shown(value)}, {why}"


def _field(field: Field) -> str:
    if field.found is None:
        return f"  {field.name}: {field.expression}, by no path of the samples"
    return _line(field.name, field.expression, field.found.value, field.found.why)


def _outcome(expected: Expectation) -> str:
    if expected.events:
        count = len(expected.events)
        return f"{expected.outcome}, {count} event{'s' if count > 1 else ''}"
    lacking = f", for {', '.join(dict.fromkeys(expected.fields))}" if expected.fields else ""
    return expected.outcome + lacking


def _next(options: argparse.Namespace, mapping: Path, cases: Path) -> Iterator[str]:
    schemas = "".join(f" --schemas {path}" for path in options.schemas)
    yield "next"
    yield f"  gateway check {' '.join(map(str, [mapping, *options.schemas]))}"
    yield f"  gateway test {cases}{schemas}"
    yield f"  gateway serve --mappings {mapping}{schemas} --new-secrets"
    folder = Path(os.path.normpath(mapping.parent / ".." / "schemas"))
    if not (folder / "mapping.schema.json").exists():
        yield "for completion in an editor, which both files ask for"
        yield f"  mkdir -p {folder}"
        for kind in ("mapping", "test"):
            yield f"  gateway schema {kind} > {folder / kind}.schema.json"
