"""`gateway doctor`: the whole chain examined, from the ports to the rules, and what to do about each finding."""

import argparse
import os
import textwrap
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from gateway import report, settings
from gateway.authoring import trial
from gateway.cli import casefiles, journals, servers, shared, wiring
from gateway.cli import options as flags
from gateway.cli.main import version
from gateway.cli.wiring import BUNDLED_LAYER
from gateway.diagnostic import Severity
from gateway.doctor.chain import CasesRun, Chain, Compiled, Readied
from gateway.doctor.examination import Result, examine
from gateway.doctor.finding import State
from gateway.doctor.prometheus_api import Prometheus
from gateway.journal.reading import Database
from gateway.mapping import library
from gateway.mapping.compiler import Compilation
from gateway.settings import Settings, SettingsError

FLAGS = (
    *("--listen", "--internal-listen", "--journal", "--keep-size", "--min-free", "--mappings"),
    *("--schemas", "--secrets", "--scrape-interval"),
)
"""Those of `serve` that a check looks at."""
_WIDTH = 100
_INDENT = " " * 15


def define(parser: argparse.ArgumentParser) -> None:
    flags.define_some(parser, FLAGS)
    parser.add_argument(
        "--prometheus",
        default=os.environ.get("GATEWAY_PROMETHEUS", ""),
        metavar="URL",
        help="the Prometheus to ask, such as http://127.0.0.1:9090; without it, what it does is not checked "
        "[GATEWAY_PROMETHEUS]",
    )
    parser.add_argument(
        "--prometheus-token-file",
        type=Path,
        default=_path(os.environ.get("GATEWAY_PROMETHEUS_TOKEN_FILE", "")),
        metavar="FILE",
        help="a file with the bearer token that stands between us and that Prometheus, such as a service "
        "account's [GATEWAY_PROMETHEUS_TOKEN_FILE]",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="leave out what takes long with many cases or events: the cases of your mappings, and which "
        "apps join",
    )
    shared.define_format(parser, "one object, for programs")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where all is well but for warnings, 1 where there is a problem. Raises SettingsError where a
    setting cannot be used, so that nobody knows what to examine."""
    given = flags.settings_from(options, os.environ)
    prometheus = _prometheus(options.prometheus, options.prometheus_token_file)
    chain = Chain(
        settings=given,
        version=version(),
        compiled=_compiled(given, quick=options.quick),
        database=_database(given),
        prometheus=prometheus,
        quick=options.quick,
        now=time.time(),
    )
    results = _printed(examine(chain)) if options.format == "text" else list(examine(chain))
    counts = Counter(result.state for result in results)
    if options.format == "json":
        print(_json(results, counts))
    else:
        print(f"\n{_summary(counts)}")
    return 1 if counts[State.PROBLEM] else 0


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _prometheus(url: str, token_file: Path | None) -> Prometheus | None:
    """Raises SettingsError."""
    if not url:
        if token_file is not None:
            raise SettingsError(
                "--prometheus-token-file is for a Prometheus that --prometheus names"
            )
        return None
    if not servers.is_server(url):
        # The text itself may hold a password.
        raise SettingsError("--prometheus is no URL such as http://127.0.0.1:9090")
    if token_file is None:
        return Prometheus(url)
    if urlsplit(url).username is not None:
        raise SettingsError(
            "--prometheus has a name in it, so --prometheus-token-file cannot be used"
        )
    return Prometheus(url, _token(token_file))


def _token(path: Path) -> str:
    """Raises SettingsError."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SettingsError(
            f"--prometheus-token-file {path} cannot be read: {error.strerror}"
        ) from error
    except UnicodeDecodeError:
        token = ""
    if not token.isprintable() or not token or " " in token:
        raise SettingsError(f"--prometheus-token-file {path} holds no token: one word of ASCII")
    return token


def _database(given: Settings) -> Database | str:
    try:
        return journals.database(given.journal)
    except SettingsError as error:
        return str(error)


# Mappings and secrets, as `serve` reads them


def _compiled(given: Settings, *, quick: bool) -> Compiled:
    try:
        loaded = wiring.load(given.sources)
    except SettingsError as error:
        return Compiled(fault=str(error))
    wrong = [one for one in loaded.diagnostics if one.severity is Severity.ERROR]
    warnings = len(loaded.diagnostics) - len(wrong)
    if wrong:
        errors = (f"{one.span.file}:{one.span.line}: {one.message}" for one in wrong)
        return Compiled(errors=tuple(errors), warnings=warnings)
    compilation = loaded.compilation
    return Compiled(
        compilation=compilation,
        warnings=warnings,
        cases=None if quick else tuple(_cases(compilation, given.sources)),
        readied=_readied(compilation, given.secrets),
    )


def _own(compilation: Compilation) -> frozenset[str]:
    """The sources whose mappings are the user's."""
    mappings = compilation.mappings.items()
    return frozenset(name for name, one in mappings if one.layer > BUNDLED_LAYER)


def _cases(compilation: Compilation, paths: Iterable[Path]) -> Iterator[CasesRun]:
    """The cases of the user's mappings, put to them."""
    known = {source: one.plan.params for source, one in compilation.mappings.items()}
    bundled = library.bundled("mappings")
    for source in sorted(_own(compilation)):
        path = casefiles.of_source(source, paths)
        if path is None or path.parent == bundled:
            continue
        try:
            read, findings, text = casefiles.read(path, known)
        except SettingsError as error:
            yield CasesRun(str(path), 0, fault=str(error))
            continue
        if read is None or findings:
            fault = report.summary(findings, 1) if findings else text
            yield CasesRun(str(path), 0, fault=fault)
            continue
        mapping = compilation.mappings[read.file.source]
        trials = trial.run_all(mapping, compilation.models, read.file.cases)
        failed = tuple(one.case.name for one in trials if not one.passed)
        yield CasesRun(str(path), len(trials), failed)


def _readied(compilation: Compilation, folder: Path) -> Readied:
    """Each source for itself, so that one that cannot be used hides no other."""
    live: set[str] = set()
    missing: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for source, mapping in compilation.mappings.items():
        alone = msgspec.structs.replace(compilation, mappings={source: mapping})
        try:
            found = wiring.sources(alone, os.environ, folder)
        except SettingsError as error:
            unusable[source] = str(error)
            continue
        live |= found.live.keys()
        missing |= {one.source: one.secrets[0] for one in found.missing}
    return Readied(
        live=frozenset(live),
        missing=missing,
        unusable=unusable,
        own=_own(compilation),
        readable=tuple(_readable(compilation, folder)),
    )


def _readable(compilation: Compilation, folder: Path) -> list[str]:
    """The files of secrets that every user may read: by their own mode, and by that of their folder."""
    files = {
        settings.secret_file(one.env, one.file, folder)
        for mapping in compilation.mappings.values()
        for one in (*wiring.user_names(mapping), *wiring.references(mapping))
    }
    found = []
    for path in sorted(files):
        try:
            is_open = path.stat().st_mode & 0o004 and path.parent.stat().st_mode & 0o001
        except OSError:
            continue
        if is_open:
            found.append(path.name)
    return found


# What is told


def _printed(results: Iterable[Result]) -> list[Result]:
    """All results, after each area was printed as soon as it was examined."""
    told: list[Result] = []
    for area, found in groupby(results, key=lambda result: result.area):
        within = list(found)
        print(*([""] if told else []), area, *_lines(within), sep="\n", flush=True)
        told += within
    return told


def _lines(results: list[Result]) -> Iterator[str]:
    """A line for each finding; what is not checked for one reason is one line."""
    reasons: dict[str, list[str]] = {}
    for one in results:
        if one.state is State.UNCHECKED:
            reasons.setdefault(one.sentence, []).append(one.check)
            continue
        yield from _wrapped(f"  {one.state:<13}", one.sentence)
        if one.mend:
            yield from _wrapped(f"{_INDENT}-> ", one.mend)
    for reason, checks in reasons.items():
        yield from _wrapped(f"  {State.UNCHECKED:<13}", f"{', '.join(checks)}: {reason}")


def _wrapped(before: str, words: str) -> list[str]:
    return textwrap.wrap(
        words,
        max(_WIDTH, len(before) + 20),
        initial_indent=before,
        subsequent_indent=" " * len(before),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _summary(counts: Counter[State]) -> str:
    problems, warnings = counts[State.PROBLEM], counts[State.WARNING]
    rest = f"{counts[State.OK]} are well, {counts[State.UNCHECKED]} not checked"
    if problems:
        one = "1 problem keeps" if problems == 1 else f"{problems} problems keep"
        return f"{one} the chain from working, {_warned(warnings)}; {rest}."
    return f"No problem, {_warned(warnings)}; {rest}."


def _warned(count: int) -> str:
    return "1 warning" if count == 1 else f"{count} warnings"


def _json(results: list[Result], counts: Counter[State]) -> str:
    document = {
        "version": version(),
        "problems": counts[State.PROBLEM],
        "warnings": counts[State.WARNING],
        "findings": results,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
