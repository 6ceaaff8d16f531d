"""`gateway deliveries`: the latest deliveries of the journal, with what became of each."""

import argparse
import sys
from collections.abc import Sequence

import msgspec

from gateway.cli import journals, shared
from gateway.delivery import Verdict
from gateway.diagnostic import did_you_mean
from gateway.journal.archive import Archive, Kept, Selection
from gateway.mapping import library
from gateway.settings import number

_HEADINGS = ("received", "source", "event", "outcome", "events", "delivery")
_KEPT = [verdict.value for verdict in Verdict if verdict is not Verdict.DUPLICATE]


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", default="", metavar="SOURCE", help="only of this source")
    parser.add_argument(
        "--event", default="", metavar="NAME", help="only of this name, such as push"
    )
    parser.add_argument(
        "--outcome",
        action="append",
        default=[],
        choices=_KEPT,
        help="only with this outcome; repeatable",
    )
    parser.add_argument(
        "--since", default="", metavar="AGE", help="only those since then: 90m, 6h, 3d, or a time"
    )
    parser.add_argument(
        "--limit", default="20", metavar="N", help="how many at most (default: %(default)s)"
    )
    journals.define(parser)
    shared.define_format(parser, "one object a line")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0; raises SettingsError where the journal cannot be read."""
    wanted = Selection(
        source=options.source,
        event=options.event,
        outcomes=tuple(options.outcome),
        since=journals.since(options.since, "--since") if options.since else 0.0,
        limit=int(number(options.limit, "--limit", 1, 100_000)),
    )
    archive = journals.archive(options)
    found = journals.reading(lambda: archive.latest(wanted))
    if options.format == "json":
        print_lines(found)
    elif found:
        print("\n".join(table(found)))
    if not found:
        tell_of_none(archive, options, "no delivery fits")
    return 0


def tell_of_none(archive: Archive, options: argparse.Namespace, sentence: str) -> None:
    """Says that nothing was found; of a source that nobody knows, more than that."""
    if options.source:
        known = library.bundled_sources() | journals.reading(archive.arrivals).keys()
        if options.source not in known:
            mend = did_you_mean(options.source, known)
            sentence += (
                f": the journal holds nothing of a source `{options.source}`, and none of that name is "
                f"bundled; {mend}"
            )
            print(sentence, file=sys.stderr if options.format == shared.JSON else sys.stdout)
            return
    # For programs, no line says it.
    if options.format == shared.TEXT:
        print(sentence)


def print_lines(found: Sequence[Kept]) -> None:
    """Each as a line of JSON."""
    for kept in found:
        print(msgspec.json.encode(kept).decode())


def table(found: Sequence[Kept]) -> list[str]:
    """Each as a line of text under headings, with its first reasons."""
    rows = [
        (
            journals.moment(kept.received_at),
            kept.source,
            kept.event or "-",
            kept.outcome.value,
            str(kept.events) if kept.events else "-",
            kept.delivery,
        )
        for kept in found
    ]
    widths = [max(len(row[at]) for row in (_HEADINGS, *rows)) for at in range(len(_HEADINGS))]
    lines = [_line(_HEADINGS, widths)]
    for kept, row in zip(found, rows, strict=True):
        lines.append(_line(row, widths))
        lines += [f"    {reason}" for reason in kept.reasons[:3]]
    return lines


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
