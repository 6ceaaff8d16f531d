"""`gateway sources`: which sources there are, whether each is live, and what there is to know of one."""

import argparse
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gateway import report, settings
from gateway.authentication import SecretReference
from gateway.authoring import profile
from gateway.cli import casefiles, shared, wiring
from gateway.cli.wiring import Library
from gateway.diagnostic import has_errors
from gateway.mapping import library
from gateway.mapping.compiler import CompiledMapping
from gateway.settings import SettingsError

_WIDTH = 100


class Summary(Struct, frozen=True, kw_only=True):
    """A source in a line. `missing` are the variables, or files, that it is not served for lack of."""

    source: str
    title: str
    state: str
    missing: tuple[str, ...]
    kinds: tuple[str, ...]
    authentication: str
    cases: int


class Secret(Struct, frozen=True, kw_only=True):
    """A secret or a user name: where it is read from, and whether it is there; never what it is."""

    env: str
    file: str
    is_set: bool

    @property
    def name(self) -> str:
        return self.env or self.file


class Rule(Struct, frozen=True):
    name: str
    kind: str


class Param(Struct, frozen=True, kw_only=True):
    """A param; `value` is what the environment sets in place of the default."""

    name: str
    variable: str
    default: Any
    meaning: str
    value: Any = UNSET


class Details(Struct, frozen=True, kw_only=True):
    """All of one source. A source of the user's own has no `page`."""

    summary: Summary
    url: str
    file: str
    evidence: str
    secrets: tuple[Secret, ...]
    events: tuple[str, ...]
    rules: tuple[Rule, ...]
    params: tuple[Param, ...]
    samples: tuple[str, ...]
    page: str | UnsetType = UNSET


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="the source to tell all of, such as github; a line for each where left out",
    )
    state = parser.add_mutually_exclusive_group()
    state.add_argument("--live", action="store_true", help="only sources that are served")
    state.add_argument(
        "--missing", action="store_true", help="only sources that are not, for lack of a secret"
    )
    shared.define_secrets(parser)
    wiring.define_files(parser)
    shared.define_format(parser, "for programs")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where sources are told, 1 where a file is wrong; raises SettingsError where there is no such
    source, or where a secret or the environment is what `serve` would refuse."""
    if options.source is not None and (options.live or options.missing):
        raise SettingsError("--live and --missing choose from the list: leave out SOURCE, or them")
    paths = wiring.files(options)
    loaded = wiring.load(paths, source=options.source or "")
    if has_errors(loaded.diagnostics):
        print(report.render(loaded.diagnostics, loaded.texts, len(loaded.files)))
        return 1
    known = loaded.compilation.mappings
    if options.source is not None and options.source not in known:
        raise wiring.unknown_source(options.source, known, options)
    found = wiring.sources(loaded.compilation, os.environ, options.secrets)
    missing = {one.source: one.secrets for one in found.missing}
    if options.source is not None:
        details = _details(loaded, options.source, missing, paths, options.secrets)
        print(
            _json(_flat(details)) if options.format == "json" else _told(details, options.secrets)
        )
        return 0
    summaries = [
        _summary(known[name], missing, paths)
        for name in sorted(known)
        if not (options.live if name in missing else options.missing)
    ]
    print(_json(summaries) if options.format == "json" else _listed(summaries))
    return 0


# What there is to say


def _summary(
    mapping: CompiledMapping, missing: Mapping[str, tuple[str, ...]], paths: list[Path]
) -> Summary:
    source = mapping.plan.source
    return Summary(
        source=source,
        title=mapping.plan.title,
        state="missing" if source in missing else "live",
        missing=missing.get(source, ()),
        kinds=tuple(profile.kinds(mapping)),
        authentication=profile.scheme_name(mapping.scheme),
        cases=casefiles.count(casefiles.of_source(source, paths)),
    )


def _details(
    loaded: Library,
    source: str,
    missing: Mapping[str, tuple[str, ...]],
    paths: list[Path],
    folder: Path,
) -> Details:
    mapping = loaded.compilation.mappings[source]
    overrides = wiring.overrides(mapping, os.environ)
    is_bundled = source in library.bundled_sources()
    return Details(
        summary=_summary(mapping, missing, paths),
        url=f"/hooks/{source}",
        file=wiring.shown_file(mapping.document.span.file),
        evidence=profile.evidence(mapping.scheme),
        secrets=tuple(
            _secret(one, folder)
            for one in (*wiring.user_names(mapping), *wiring.references(mapping))
        ),
        events=tuple(profile.events(mapping)),
        rules=tuple(Rule(rule.name, rule.model.kind) for rule in mapping.plan.rules),
        params=tuple(
            Param(
                name=one.name,
                variable=wiring.variable(source, one.name),
                default=one.default,
                meaning=one.meaning,
                value=overrides.get(one.name, UNSET),
            )
            for one in profile.params(mapping, loaded.texts)
        ),
        samples=_samples(source, paths),
        page=f"docs/sources/{source}.md" if is_bundled else UNSET,
    )


def _secret(reference: SecretReference, folder: Path) -> Secret:
    found = settings.secret(reference.env, reference.file, os.environ, folder)
    return Secret(env=reference.env, file=reference.file, is_set=found is not None)


def _samples(source: str, paths: list[Path]) -> tuple[str, ...]:
    """The names of the cases that `gateway send` posts."""
    path = casefiles.of_source(source, paths)
    if path is None:
        return ()
    read, findings, text = casefiles.read(path)
    if read is None:
        raise SettingsError(report.render(findings, {str(path): text}, 1))
    known = read.file.cases
    return tuple(case.name for case in [one for one in known if one.sample] or known)


def _flat(details: Details) -> dict[str, Any]:
    """All of a source beside what the list has of it."""
    members: dict[str, Any] = msgspec.to_builtins(details)
    return {**members.pop("summary"), **members}


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


# For people


def _listed(summaries: list[Summary]) -> str:
    head = ("source", "title", "kinds", "authentication", "cases", "state")
    rows = [
        (
            one.source,
            one.title,
            ", ".join(one.kinds),
            one.authentication,
            str(one.cases),
            _state(one),
        )
        for one in summaries
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    live = sum(one.state == "live" for one in summaries)
    count = f"{len(summaries)} source{'s' * (len(summaries) != 1)}, {live} live"
    return "\n".join([*lines, "", f"{count}; `gateway sources SOURCE` tells all of one"])


def _state(summary: Summary) -> str:
    return f"lacks {' and '.join(summary.missing)}" if summary.missing else "live"


def _told(details: Details, folder: Path) -> str:
    summary = details.summary
    facts = {
        "URL": details.url,
        "state": _state(summary),
        "sender shows": details.evidence,
        "file": details.file,
        "page": details.page if isinstance(details.page, str) else "",
        "events": ", ".join(details.events),
    }
    lines = [f"{summary.source}: {summary.title}", ""]
    for name, words in facts.items():
        lines += _wrapped(f"  {name:<14}", words) if words else []
    sections = {
        "secrets": [_secret_told(one, folder) for one in details.secrets],
        "rules": _aligned((rule.kind, rule.name) for rule in details.rules),
        "params": [line for one in details.params for line in _param_told(one)],
        f"samples, of {summary.cases} case{'s' * (summary.cases != 1)}": [
            *(f"  {name}" for name in details.samples),
            *([f"  `gateway send {summary.source}` posts them"] if details.samples else []),
        ],
    }
    for title, section in sections.items():
        if section:
            lines += ["", title, *section]
    return "\n".join(lines)


def _secret_told(secret: Secret, folder: Path) -> str:
    if secret.is_set:
        return f"  {secret.name} is set"
    mend = f"set the variable, or write the file {folder / secret.env}"
    return f"  {secret.name} is not set: {mend if secret.env else 'write the file'}"


def _param_told(param: Param) -> list[str]:
    lines = [f"  {param.name} = {_plain(param.default)}"]
    lines += _wrapped("    ", param.meaning) if param.meaning else []
    if param.value is UNSET:
        return [*lines, f"    {param.variable} sets it"]
    return [*lines, f"    {param.variable} sets it, to {_plain(param.value)}"]


def _plain(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()


def _aligned(rows: Any) -> list[str]:
    pairs = list(rows)
    width = max((len(first) for first, _ in pairs), default=0)
    return [f"  {first:<{width}}  {second}" for first, second in pairs]


def _wrapped(before: str, words: str) -> list[str]:
    return textwrap.wrap(
        words,
        _WIDTH,
        initial_indent=before,
        subsequent_indent=" " * len(before),
        break_long_words=False,
        break_on_hyphens=False,
    )
