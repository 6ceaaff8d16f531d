"""`gateway explain`: why a delivery of the journal became what it became, by the mapping of now."""

import argparse

import msgspec

from gateway.authoring import explanation
from gateway.cli import explaining, journals
from gateway.journal.archive import Archive, Kept


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "delivery",
        metavar="ID",
        help="the delivery's id, or its first characters; `gateway deliveries` lists them",
    )
    parser.add_argument(
        "--source", default="", metavar="SOURCE", help="the source that it came from"
    )
    journals.define(parser)
    explaining.define(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where the delivery is found; raises SettingsError where it is not."""
    archive = journals.archive(options)
    kept = journals.reading(lambda: archive.only(options.delivery, options.source))
    return explain(archive, kept, options)


def explain(archive: Archive, kept: Kept, options: argparse.Namespace) -> int:
    """Explains a delivery; 0. Raises SettingsError where it cannot be read."""
    delivery = journals.reading(lambda: archive.load(kept.number))
    subject = explaining.subject(kept.source, options)
    explained = explanation.explain(subject.mapping, delivery, subject.apps)
    moment = journals.moment(kept.received_at)
    said = f"was proven when it came, {moment}, and kept as {kept.outcome}"
    explained = msgspec.structs.replace(explained, delivery=kept.delivery, authentication=said)
    print(explaining.render(explained, options.format))
    return 0
