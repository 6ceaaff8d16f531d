"""`gateway explain`: why a delivery of the journal became what it became, by the mapping of now."""

import argparse

import msgspec

from gateway.authoring import explanation
from gateway.cli import explaining, journal
from gateway.journal.archive import Archive, Kept
from gateway.settings import SettingsError


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "delivery",
        metavar="ID",
        help="the delivery's id, or its first characters; `gateway deliveries` lists them",
    )
    parser.add_argument(
        "--source", default="", metavar="SOURCE", help="the source that it came from"
    )
    journal.define(parser)
    explaining.define(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where the delivery is found; raises SettingsError where it is not."""
    archive = journal.archive(options)
    kept = _chosen(archive, options.delivery, options.source)
    subject = explaining.subject(kept.source, options)
    explained = explanation.explain(subject.mapping, archive.load(kept.number), subject.apps)
    moment = journal.moment(kept.received_at)
    said = f"was proven when it came, {moment}, and kept as {kept.outcome}"
    explained = msgspec.structs.replace(explained, delivery=kept.delivery, authentication=said)
    print(explaining.render(explained, options.format))
    return 0


def _chosen(archive: Archive, name: str, source: str) -> Kept:
    found = journal.reading(lambda: archive.find(name, source))
    if not found:
        among = f" of the source `{source}`" if source else ""
        raise SettingsError(
            f"the journal holds no delivery `{name}`{among}; `gateway deliveries` lists the latest"
        )
    ids = sorted({(one.source, one.delivery) for one in found})
    if len(ids) > 1:
        listing = ", ".join(f"{delivery} of {source}" for source, delivery in ids[:5])
        raise SettingsError(
            f"`{name}` fits {len(ids)} deliveries: {listing}; give more of the id, or --source"
        )
    return found[0]
