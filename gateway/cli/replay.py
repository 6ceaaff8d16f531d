"""`gateway replay`: deliveries of the journal mapped again, by a running gateway or without one."""

import argparse
import asyncio
import http.client
import os
import sys
from collections.abc import Callable

import msgspec

from gateway import replay, report, settings
from gateway.cli import journals, servers, shared, wiring
from gateway.cli.progress import Progress
from gateway.delivery import Verdict
from gateway.diagnostic import has_errors
from gateway.event import Event
from gateway.journal import sqlite
from gateway.journal.archive import Archive
from gateway.journal.entry import JournalError
from gateway.journal.writer import Writer
from gateway.plan import Plan
from gateway.replay import Asked, Began, Ended, Failed, Message, Replayed, Work
from gateway.settings import SettingsError

TIMEOUT = 60
"""Seconds that the gateway may take for a group of deliveries."""
_VARIABLE = "GATEWAY_INTERNAL_LISTEN"
_DEFAULT_LISTEN = "127.0.0.1:8081"
_KEPT = [verdict.value for verdict in Verdict]

Take = Callable[[Message], None]


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "delivery",
        nargs="*",
        metavar="ID",
        help="a delivery's id, or its first characters; the open dead letters where left out",
    )
    parser.add_argument("--source", default="", metavar="SOURCE", help="only of this source")
    parser.add_argument(
        "--outcome",
        action="append",
        default=[],
        choices=_KEPT,
        help="those with this outcome, instead of open dead letters; repeatable",
    )
    parser.add_argument(
        "--since",
        default="",
        metavar="AGE",
        help="only those received since then: 90m, 6h, 3d, or a time",
    )
    parser.add_argument(
        "--until", default="", metavar="AGE", help="only those received before then"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only tell what would change; nothing is written"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--url",
        metavar="URL",
        help="the internal listener of the gateway that has the journal; where left out and one has it, "
        f"http://{_DEFAULT_LISTEN} [{_VARIABLE}]",
    )
    journals.define(parser)
    wiring.define_files(parser)
    shared.define_format(parser, "one object a line")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where nothing is a dead letter any more of what is asked for, else 1; raises SettingsError where
    it cannot be replayed."""
    if not options.dry_run and not options.yes and not shared.can_ask():
        raise SettingsError(
            "replay asks before it writes, and there is no terminal to ask; write with --yes, or only "
            "look with --dry-run"
        )
    asked = Asked(
        ids=tuple(options.delivery),
        source=options.source,
        outcomes=tuple(map(Verdict, options.outcome)),
        since=journals.since(options.since, "--since") if options.since else 0.0,
        until=journals.since(options.until, "--until") if options.until else 0.0,
        dry_run=not options.yes or options.dry_run,
    )
    told = _told(options, asked)
    if options.dry_run or options.yes or not told.changed:
        return _code(told)
    if not _is_agreed(told):
        return 1
    return _code(_told(options, msgspec.structs.replace(asked, dry_run=False)))


def _code(ended: Ended) -> int:
    return 1 if ended.dead_letters or ended.problems else 0


def _is_agreed(told: Ended) -> bool:
    question = f"replay {_several(told.changed, 'delivery', 'deliveries')}? [y]es, [n]o: "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _told(options: argparse.Namespace, asked: Asked) -> Ended:
    """What came of a replay, which is told meanwhile. Raises SettingsError where it ended early."""
    teller = _Teller(dry_run=asked.dry_run, as_json=options.format == "json")
    try:
        url = _gateway(options)
        if url:
            _at_gateway(url, asked, teller.take)
        else:
            _offline(options, asked, teller.take)
    finally:
        teller.progress.done()
    if teller.ended is None:
        raise SettingsError(
            f"the replay ended early: {teller.failure or 'the gateway went away'}; what was told before "
            "of it holds"
        )
    return teller.ended


# Who does it


def _gateway(options: argparse.Namespace) -> str:
    """The URL of the gateway that has the journal, empty where none has it. Raises SettingsError."""
    if options.url is not None:
        return str(options.url)
    path = journals.url(options).path
    if path is None or not sqlite.in_use(path):
        return ""
    return settings.address(os.environ.get(_VARIABLE, _DEFAULT_LISTEN), _VARIABLE).url


def _at_gateway(url: str, asked: Asked, take: Take) -> None:
    connection, prefix = servers.connection(url, TIMEOUT)
    try:
        body = msgspec.json.encode(asked)
        connection.request("POST", f"{prefix}/-/replay", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise SettingsError(_problem(url, response.status, response.read()))
        for line in response:
            take(replay.decoded(line))
    except (OSError, http.client.HTTPException) as error:
        why = servers.why(error)
        raise SettingsError(
            f"the gateway that has the journal does not answer at {url} ({why}); name its internal "
            "listener with --url"
        ) from error
    except msgspec.DecodeError as error:
        raise SettingsError(f"what answers at {url} is no gateway of this version") from error
    finally:
        connection.close()


def _problem(url: str, status: int, body: bytes) -> str:
    try:
        document = msgspec.json.decode(body, type=dict[str, object])
    except msgspec.DecodeError:
        document = {}
    return str(document.get("detail") or f"{url} answers {status}, and should be a gateway's")


def _offline(options: argparse.Namespace, asked: Asked, take: Take) -> None:
    """Raises SettingsError."""
    plans = _plans(options)
    url = journals.url(options)
    archive = Archive(journals.database(url))
    if asked.dry_run:
        work = journals.reading(lambda: replay.prepare(archive, plans, asked))
        asyncio.run(_run(work, archive, plans, None, take))
        return
    if url.path is not None and not url.path.is_file():
        raise SettingsError(f"there is no journal {url}; name it with --journal")
    try:
        journal = Writer(journals.opened(url))
    except JournalError as error:
        raise SettingsError(str(error)) from error

    async def write() -> None:
        journal.start()
        work = replay.prepare(archive, plans, asked)
        await _run(work, archive, plans, journal.append, take)

    try:
        journals.reading(lambda: asyncio.run(write()))
    finally:
        journal.close()


def _plans(options: argparse.Namespace) -> dict[str, Plan]:
    loaded = wiring.load(wiring.files(options))
    if has_errors(loaded.diagnostics):
        raise SettingsError(report.render(loaded.diagnostics, loaded.texts, len(loaded.files)))
    wiring.refuse_unknown_params(loaded.compilation, os.environ)
    return wiring.plans(loaded.compilation, os.environ)


async def _run(
    work: Work, archive: Archive, plans: dict[str, Plan], append: replay.Append | None, take: Take
) -> None:
    async for message in replay.replay(work, archive, plans, append):
        take(message)


# What is told


class _Teller:
    """Tells of each delivery that something is to be said of, and how far it has come."""

    def __init__(self, *, dry_run: bool, as_json: bool) -> None:
        self._dry_run = dry_run
        self._as_json = as_json
        self._done = 0
        self.progress = Progress(None, "deliveries")
        self.ended: Ended | None = None
        self.failure = ""

    def take(self, message: Message) -> None:
        match message:
            case Began(deliveries):
                self.progress = Progress(deliveries, "deliveries mapped again")
            case Replayed():
                self._done += 1
                self._say(message)
                self.progress.update(self._done)
            case Failed(detail):
                self.failure = detail
            case Ended():
                self.progress.done()
                self.ended = message
        if self._as_json:
            self.progress.done()
            print(replay.encoded(message).decode(), end="", flush=True)
        elif isinstance(message, Ended):
            print(summary(message, dry_run=self._dry_run), flush=True)

    def _say(self, one: Replayed) -> None:
        if self._as_json or not (one.changes or one.fails or one.gone):
            return
        self.progress.done()
        print("\n".join(lines(one)), flush=True)


def lines(one: Replayed) -> list[str]:
    """A delivery with what changes, as text."""
    what = f"still {one.after}" if one.after is one.before else f"{one.before} -> {one.after}"
    if one.problem:
        what = f"{one.before}, cannot be mapped"
    name = f"{one.delivery}  {journals.moment(one.received_at)}  {one.source}  {one.event or '-'}"
    return [
        f"{name}: {what}",
        *(f"  + {_shown(event)}" for event in one.new),
        *(f"  = {_shown(event)}" for event in one.known),
        *(f"  - {_shown(event)}  (told before, and stays)" for event in one.gone),
        *(f"    {reason}" for reason in one.reasons),
        *([f"    {one.problem}"] if one.problem else []),
    ]


def _shown(event: Event) -> str:
    return " ".join([event.kind, *(f"{name}={value}" for name, value in event.fields.items())])


def summary(ended: Ended, *, dry_run: bool) -> str:
    """One line on a whole replay."""
    if not ended.deliveries:
        return "nothing to replay"
    would = "would " if dry_run else ""
    parts = [
        f"{_several(ended.deliveries, 'delivery', 'deliveries')}: {ended.changed} {would}change",
        f"{_several(ended.events, 'new event', 'new events')}",
    ]
    if ended.dead_letters:
        parts.append(_several(ended.dead_letters, "dead letter left", "dead letters left"))
    if ended.problems:
        parts.append(f"{ended.problems} cannot be mapped")
    return f"{', '.join(parts)}{'; nothing was written' if dry_run else ''}"


def _several(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
