"""`gateway export`: the journal as OpenMetrics text, every sample at its own time, for a back-fill."""

import argparse
import io
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from gateway.apps import Naming
from gateway.backfill import EVER, Backfill, Span, Wanted
from gateway.cli import journals, wiring
from gateway.cli.wiring import Refused
from gateway.diagnostic import has_errors
from gateway.journal.archive import Archive
from gateway.journal.entry import Recorded
from gateway.model import Model
from gateway.settings import SettingsError

STDOUT = "-"
_OFTEN = 20_000
"""Events from one word of progress to the next."""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--since",
        default="",
        metavar="AGE",
        help="only samples that stand then or later: 90m, 6h, 3d, or a time",
    )
    parser.add_argument(
        "--until", default="", metavar="AGE", help="only samples that stand before then"
    )
    parser.add_argument(
        "--received-since",
        default="",
        metavar="AGE",
        help="only what was received then or later: since when Prometheus has not scraped",
    )
    parser.add_argument(
        "--received-before",
        default="",
        metavar="AGE",
        help="only what was received before then: until when Prometheus had not scraped",
    )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a label for every series, such as job=gateway: one that Prometheus puts on what it "
        "scrapes; repeatable",
    )
    parser.add_argument(
        "--output",
        default=STDOUT,
        metavar="FILE",
        help="the file to write; `-`, the default, is standard output",
    )
    journals.define(parser)
    wiring.define_files(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0; 1 where mappings or models are wrong. Raises SettingsError."""
    wanted = Wanted(
        standing=Span(
            _moment(options.since, "--since", EVER.since),
            _moment(options.until, "--until", EVER.until),
        ),
        received=Span(
            _moment(options.received_since, "--received-since", EVER.since),
            _moment(options.received_before, "--received-before", EVER.until),
        ),
    )
    loaded = wiring.load(wiring.files(options))
    if has_errors(loaded.diagnostics):
        print(Refused(loaded).report, file=sys.stderr)
        return 1
    models, apps = loaded.compilation.models, loaded.compilation.apps
    extra = _labels(options.label, models)
    backfill, naming = Backfill(models, wanted, extra), Naming(apps, models)
    archive = journals.archive(options)

    def fold() -> None:
        for recorded in _with_progress(archive):
            for event in naming.named(recorded.event, recorded.source):
                backfill.fold(event, recorded.received_at)

    journals.reading(fold)
    _write(backfill.lines(), options.output)
    return 0


def _moment(text: str, name: str, otherwise: float) -> float:
    return journals.since(text, name) if text else otherwise


def _labels(given: Iterable[str], models: Mapping[str, Model]) -> dict[str, str]:
    """The labels that the flags name. Raises SettingsError."""
    used = {
        label for model in models.values() for metric in model.metrics for label in metric.labels
    }
    labels = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name):
            raise SettingsError(f"--label is `{text}`, expected a name and a value: job=gateway")
        if name in used:
            raise SettingsError(f"--label is `{text}`, but metrics have a label `{name}` already")
        if name.startswith("__"):
            raise SettingsError(
                f"--label is `{text}`: names that begin with two underscores are Prometheus's own"
            )
        if name in labels:
            raise SettingsError(f"--label names `{name}` twice; a series has each label once")
        labels[name] = value
    return labels


def _with_progress(archive: Archive) -> Iterator[Recorded]:
    """All that the journal holds at this moment; whoever waits at a terminal sees how far it is."""
    last = archive.last_event()
    is_watched = sys.stderr.isatty()
    for number, recorded in enumerate(archive.events(last)):
        if is_watched and not number % _OFTEN:
            print(f"\rread {number:,} of {last:,} events", end="", file=sys.stderr, flush=True)
        yield recorded
    if is_watched:
        print(f"\rread {last:,} events{' ' * 20}", file=sys.stderr)


def _write(lines: Iterable[str], output: str) -> None:
    if output == STDOUT:
        if sys.stdout is None:
            raise SettingsError("there is no standard output to write to: it is closed")
        if isinstance(sys.stdout, io.TextIOWrapper):
            # OpenMetrics is, whatever a terminal would be written in.
            sys.stdout.reconfigure(encoding="utf-8")
        written = _written(lines, sys.stdout)
    else:
        try:
            with Path(output).open("w", encoding="utf-8") as file:
                written = _written(lines, file)
        except OSError as error:
            raise SettingsError(f"cannot write {output}: {error.strerror}") from error
    print(f"wrote {written:,} samples", file=sys.stderr)


def _written(lines: Iterable[str], file: TextIO) -> int:
    """How many samples there were."""
    samples = 0
    for line in lines:
        file.write(line)
        samples += not line.startswith("#")
    # Before they are called written.
    file.flush()
    return samples
