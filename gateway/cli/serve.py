"""`gateway serve`: compiles, opens the journal, and serves both listeners until it is told to stop."""

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import uvloop

from gateway.app.browsers import no_pages
from gateway.app.guard import Listener
from gateway.app.internal import internal_app
from gateway.app.replayer import Replayer
from gateway.app.server import (
    BACKLOG,
    MAX_CONNECTIONS,
    CannotListen,
    Hooks,
    Listening,
    bind,
    end_at_sigterm,
    hold_hangups,
    serve,
)
from gateway.cli import journals, serving, wiring, worker, workers
from gateway.cli import options as flags
from gateway.cli.explaining import Explainer
from gateway.cli.main import fail, version
from gateway.cli.reload import Reloader
from gateway.cli.wiring import Refused, Served, Sources
from gateway.cli.workers import Workers
from gateway.journal.archive import Archive
from gateway.journal.entry import JournalError, JournalUnavailable
from gateway.journal.writer import Writer
from gateway.pipeline import Pipeline
from gateway.settings import DEFAULT_SECRETS, Settings

FOLLOW_INTERVAL = 1.0
"""Seconds."""
SHORT_HISTORY = 0.5
"""Seconds that the start waits for the history to be shown; a longer one is folded meanwhile."""

log = logging.getLogger("gateway")


def define(parser: argparse.ArgumentParser) -> None:
    flags.define(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serves; returns when stopped. 1 where mappings or models are wrong, 2 where it cannot serve."""
    _log_to_stderr()
    settings = flags.settings_from(options, os.environ)
    if (given := workers.inherited()) is not None:
        return worker.run(settings, given)
    hold_hangups()
    end_at_sigterm()
    try:
        served = wiring.served(
            wiring.load(settings.sources),
            os.environ,
            settings.secrets,
            new_secrets=settings.new_secrets,
        )
    except Refused as refused:
        print(refused.report, file=sys.stderr)
        return 1
    try:
        public = bind(settings.listen)
        internal = bind(settings.internal_listen)
        store = journals.store(settings)
    except (CannotListen, JournalError) as error:
        return fail(str(error))
    journal = Writer(store)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if settings.workers > 1:
                lock = journals.lock_of(store)
                code = runner.run(_serve_many(settings, served, journal, public, internal, lock))
            else:
                code = runner.run(_serve(settings, served, journal, public, internal))
    finally:
        journal.close()
    print("stopped", flush=True)
    return code


def _log_to_stderr() -> None:
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
        stream=sys.stderr,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


async def _serve(
    settings: Settings,
    served: Served,
    journal: Writer,
    public: socket.socket,
    internal: socket.socket,
) -> int:
    """Deliveries and scrapes in one process."""
    pipeline = serving.pipeline(settings, served, journal)
    reloader = Reloader(settings, os.environ, served, pipeline)
    journal.start()
    taking = asyncio.Event()

    def on_ready() -> None:
        taking.set()
        _say_ready(settings, served)

    async with (
        reloader.running(),
        _showing(pipeline),
        _replaying(settings, pipeline, reloader) as replayer,
    ):
        await serve(
            [
                serving.listening(settings, pipeline, public),
                _internal(settings, pipeline, reloader, internal, replayer, taking.is_set),
            ],
            serving.stopping(settings),
            Hooks(
                on_ready=on_ready,
                on_stopping=lambda _signal: taking.clear(),
                on_hangup=lambda: reloader.reload("SIGHUP"),
            ),
        )
    return 0


async def _serve_many(
    settings: Settings,
    served: Served,
    journal: Writer,
    public: socket.socket,
    internal: socket.socket,
    lock: int,
) -> int:
    """Deliveries in workers, scrapes here."""
    public.listen(BACKLOG)
    pipeline = serving.pipeline(settings, served, journal)
    patience = settings.drain + settings.shutdown_timeout + 5
    taking = Workers(
        settings.workers,
        public,
        lock,
        pipeline.telemetry.tally,
        lambda: reloader.served.library.files,
        patience,
    )
    pipeline.waiting_elsewhere = lambda: taking.waiting
    reloader = Reloader(settings, os.environ, served, pipeline, taking.reload)
    journal.start()
    following = asyncio.create_task(_follow(pipeline))
    is_taking = asyncio.Event()

    def on_stopping(number: signal.Signals) -> None:
        is_taking.clear()
        taking.stop(number)

    async with (
        reloader.running(),
        taking.running(),
        _showing(pipeline),
        _replaying(settings, pipeline, reloader) as replayer,
    ):
        if not await taking.ready():
            return fail("the workers do not start; the log above says why")
        is_taking.set()
        await serve(
            [
                _internal(
                    settings,
                    pipeline,
                    reloader,
                    internal,
                    replayer,
                    lambda: is_taking.is_set() and taking.is_healthy,
                )
            ],
            serving.stopping(settings),
            Hooks(
                on_ready=lambda: _say_ready(settings, served),
                on_stopping=on_stopping,
                on_hurry=taking.hurry,
                on_hangup=lambda: reloader.reload("SIGHUP"),
                until=taking.ended,
            ),
        )
    following.cancel()
    return 0


def _internal(
    settings: Settings,
    pipeline: Pipeline,
    reloader: Reloader,
    internal: socket.socket,
    replayer: Replayer,
    is_ready: Callable[[], bool],
) -> Listening:
    routes = internal_app(
        pipeline,
        is_ready,
        lambda: reloader.reload("POST /-/reload"),
        Explainer(lambda: reloader.served, os.environ),
        settings.max_body,
        replayer,
    )
    refused = partial(pipeline.telemetry.tally.refuse, "")
    bound = str(internal.getsockname()[0])
    return Listening(
        no_pages(routes, bound, settings.internal_listen.host, refused),
        internal,
        Listener(serving.deadlines(settings), MAX_CONNECTIONS, refused),
    )


def _say_ready(settings: Settings, served: Served) -> None:
    print(_greeting(settings, served.sources), flush=True)
    log.info("%s", _watched(settings))


async def _follow(pipeline: Pipeline) -> None:
    """Folds what workers commit as it comes, so that no scrape has to wait for all of it."""
    while True:
        await asyncio.sleep(FOLLOW_INTERVAL)
        pipeline.shown.tell(())


@contextlib.asynccontextmanager
async def _showing(pipeline: Pipeline) -> AsyncIterator[None]:
    """Folds the journal beside the block; a short history is shown from the first scrape on."""
    history = asyncio.create_task(_show_history(pipeline))
    await asyncio.wait([history], timeout=SHORT_HISTORY)
    try:
        yield
    finally:
        history.cancel()


@contextlib.asynccontextmanager
async def _replaying(
    settings: Settings, pipeline: Pipeline, reloader: Reloader
) -> AsyncIterator[Replayer]:
    """What replays, counting the dead letters that wait for it meanwhile."""
    replayer = Replayer(
        pipeline,
        Archive(journals.database(settings.journal)),
        lambda: wiring.plans(reloader.served.library.compilation, os.environ),
    )
    counting = asyncio.create_task(replayer.keep_counting())
    try:
        yield replayer
    finally:
        counting.cancel()


async def _show_history(pipeline: Pipeline) -> None:
    """Folds what the journal holds, for as long as it takes to succeed."""
    while True:
        try:
            await pipeline.shown.begin()
        except JournalUnavailable as error:
            log.error("the history cannot be read: %s", error)  # noqa: TRY400  # The operator's, no bug.
            await asyncio.sleep(1)
        else:
            # It stays for as long as it is shown, so the collector need not walk it again and again.
            gc.freeze()
            return


def _watched(settings: Settings) -> str:
    if not settings.watch:
        return "not watching for changes: SIGHUP and POST /-/reload read them"
    paths = dict.fromkeys(map(str, (*settings.sources, settings.secrets)))
    return f"looking for changes of {', '.join(paths)} every {settings.watch:g} seconds"


def _greeting(settings: Settings, sources: Sources) -> str:
    public, internal = settings.listen.url, settings.internal_listen.url
    lines = [
        f"gateway {version()} is ready",
        "",
        f"  deliveries  {public}/hooks/<source>",
        f"  metrics     {internal}/metrics",
        f"  journal     {settings.journal}",
        "",
        *_sources_table(settings, sources),
        "",
        *_what_next(settings, sources),
    ]
    return "\n".join(lines)


def _sources_table(settings: Settings, sources: Sources) -> list[str]:
    """What is served. What is not is bundled, and most of it is of no use to this user."""
    width = max(map(len, sources.live), default=0)
    lines = ["  sources"]
    for name in sources.live:
        lines.append(f"    {name:<{width}}  live  {settings.listen.url}/hooks/{name}")
    if sources.missing:
        waiting = len(sources.missing)
        wait = "source waits" if waiting == 1 else "sources wait"
        command = f"{_program()} sources --missing{_folder(settings)}"
        lines.append(f"    {waiting} bundled {wait} for a secret: `{command}` lists them")
    return lines


def _what_next(settings: Settings, sources: Sources) -> list[str]:
    if not sources.live:
        return ["  no source is live: set a secret, or start again with --new-secrets"]
    name = "github" if "github" in sources.live else next(iter(sources.live))
    url = f" --url {settings.listen.url}" if settings.listen.port != 8080 else ""
    return [
        "  try it, in another terminal",
        f"    {_program()} send {name}{url}{_folder(settings)}",
        f"    curl -s {settings.internal_listen.url}/metrics | grep '_timestamp{{'",
    ]


def _folder(settings: Settings) -> str:
    """The flag with which a command finds the secrets that are served."""
    return f" --secrets {settings.secrets}" if settings.secrets != DEFAULT_SECRETS else ""


def _program() -> str:
    """The command as it was typed, where that works in this folder again."""
    typed = sys.argv[0]
    if Path(typed).name == "__main__.py":
        return "python -m gateway"
    return "gateway" if shutil.which("gateway") == typed else typed
