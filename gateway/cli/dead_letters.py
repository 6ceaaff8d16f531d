"""`gateway dead-letters`: what could not be mapped and still is not, as a list, whole, or explained."""

import argparse
import contextlib

import msgspec
from msgspec import Struct

from gateway import body
from gateway.cli import deliveries, explain, explaining, journals, shared
from gateway.delivery import Delivery
from gateway.journal.archive import OPEN, Archive, Kept
from gateway.settings import SettingsError, number

LIST, SHOW, EXPLAIN = "list", "show", "explain"


class Whole(Struct, frozen=True):
    """A delivery with what the journal says of it, for programs; `body` is JSON, or text where it is
    none."""

    kept: Kept
    headers: dict[str, str]
    query: dict[str, str]
    body: object


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        nargs="?",
        choices=[LIST, SHOW, EXPLAIN],
        default=LIST,
        help="list them (the default), show one whole, or explain why it is one by the mapping of now",
    )
    parser.add_argument(
        "delivery",
        nargs="?",
        metavar="ID",
        help="for show and explain: the delivery's id, or its first characters",
    )
    parser.add_argument("--source", default="", metavar="SOURCE", help="only of this source")
    parser.add_argument(
        "--since", default="", metavar="AGE", help="only those since then: 90m, 6h, 3d, or a time"
    )
    parser.add_argument(
        "--limit", default="20", metavar="N", help="how many at most (default: %(default)s)"
    )
    journals.define(parser)
    explaining.define(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0; raises SettingsError where the journal cannot be read, or has no such delivery."""
    archive = journals.archive(options)
    if options.action == LIST:
        if options.delivery is not None:
            raise SettingsError(f"`{options.delivery}` is one delivery: say show or explain")
        return _list(archive, options)
    if options.delivery is None:
        raise SettingsError(f"{options.action} needs the ID of a delivery; list tells them")
    kept = journals.reading(lambda: archive.only(options.delivery, options.source))
    if options.action == EXPLAIN:
        return explain.explain(archive, kept, options)
    delivery = journals.reading(lambda: archive.load(kept.number))
    if options.format == shared.JSON:
        print(msgspec.json.format(msgspec.json.encode(_whole(kept, delivery)), indent=2).decode())
    else:
        print("\n".join(_lines(kept, delivery)))
    return 0


def _list(archive: Archive, options: argparse.Namespace) -> int:
    wanted = msgspec.structs.replace(
        OPEN,
        source=options.source,
        since=journals.since(options.since, "--since") if options.since else 0.0,
        limit=int(number(options.limit, "--limit", 1, 100_000)),
    )
    found = journals.reading(lambda: archive.latest(wanted))
    if options.format == shared.JSON:
        deliveries.print_lines(found)
    if not found:
        deliveries.tell_of_none(archive, options, "no open dead letter")
    if not found or options.format == shared.JSON:
        return 0
    print("\n".join(deliveries.table(found)))
    count = journals.reading(lambda: archive.count(wanted))
    if count > len(found):
        print(f"the latest {len(found):,} of {count:,}; --limit shows more")
    return 0


def _whole(kept: Kept, delivery: Delivery) -> Whole:
    content: object = delivery.body.decode(errors="replace")
    with contextlib.suppress(body.NotJSON):
        content = body.read(delivery.body, delivery.headers.get("content-type", ""))
    return Whole(kept, dict(delivery.headers), dict(delivery.query), content)


def _lines(kept: Kept, delivery: Delivery) -> list[str]:
    whole = _whole(kept, delivery)
    content = whole.body
    text = content if isinstance(content, str) else _pretty(content)
    times = "once" if kept.replays == 1 else f"{kept.replays} times"
    replays = f", replayed {times}" if kept.replays else ""
    return [
        f"delivery  {_safe(kept.delivery)}",
        f"source    {kept.source}",
        f"event     {_safe(kept.event or '-')}",
        f"received  {journals.moment(kept.received_at)}",
        f"outcome   {kept.outcome}{replays}",
        *(f"  {_safe(str(reason))}" for reason in kept.reasons),
        *_part("headers", whole.headers),
        *_part("query", whole.query),
        "body",
        *(f"  {_safe(line)}" for line in text.splitlines()),
    ]


def _part(name: str, values: dict[str, str]) -> list[str]:
    return [
        name,
        *(f"  {_safe(key)}: {_safe(value)}" for key, value in sorted(values.items())),
    ] * bool(values)


def _pretty(content: object) -> str:
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode()


def _safe(text: str) -> str:
    """The text without what a terminal would obey: a sender wrote it."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
