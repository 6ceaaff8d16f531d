"""`gateway serve`: compiles, opens the journal, and serves both listeners until it is told to stop."""

import argparse
import asyncio
import logging
import os
import shutil
import socket
import sys
from functools import partial
from pathlib import Path

import uvloop

from gateway.app.edge import Limits
from gateway.app.guard import Deadlines, Listener
from gateway.app.internal import internal_app
from gateway.app.public import public_app
from gateway.app.server import (
    MAX_CONNECTIONS,
    CannotListen,
    Listening,
    Stopping,
    bind,
    connection_limit,
    hold_hangups,
    serve,
)
from gateway.cli import journal as journals
from gateway.cli import options as flags
from gateway.cli import wiring
from gateway.cli.explaining import Explainer
from gateway.cli.main import fail, version
from gateway.cli.reload import Reloader
from gateway.cli.wiring import Refused, Served, Sources
from gateway.journal.entry import JournalError, JournalUnavailable
from gateway.journal.writer import Writer
from gateway.pipeline import Pipeline
from gateway.series import Series, Window
from gateway.settings import DEFAULT_SECRETS, Settings
from gateway.telemetry import Telemetry

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
    hold_hangups()
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
        journal = Writer(journals.store(settings))
    except (CannotListen, JournalError) as error:
        return fail(str(error))
    try:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        with runner:
            runner.run(_serve(settings, served, journal, public, internal))
    finally:
        journal.close()
    print("stopped", flush=True)
    return 0


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
) -> None:
    window = Window(
        length=round(settings.window * 1000),
        spacing=round(settings.scrape_interval * 1000),
        series=settings.max_series,
        series_of_app=settings.max_series_of_app,
        own_times=settings.own_times,
    )
    new_series = partial(Series, window=window)
    pipeline = Pipeline(
        served.sources.live,
        served.library.compilation.models,
        new_series,
        journal,
        Telemetry(version()),
        served.library.compilation.apps,
    )
    reloader = Reloader(settings, os.environ, served, pipeline)
    journal.start()
    history = asyncio.create_task(_show_history(pipeline))
    # A short history is shown from the first scrape on.
    await asyncio.wait([history], timeout=SHORT_HISTORY)
    taking = asyncio.Event()
    limits = Limits(
        body=settings.max_body,
        in_flight=settings.max_in_flight,
        body_timeout=settings.body_timeout,
        answer_timeout=settings.answer_timeout,
    )

    deadlines = Deadlines(settings.header_timeout, settings.body_timeout)
    refused = partial(pipeline.telemetry.tally.refuse, "")
    internal_routes = internal_app(
        pipeline,
        taking.is_set,
        lambda: reloader.reload("POST /-/reload"),
        Explainer(lambda: reloader.served, os.environ),
        settings.max_body,
    )
    listening = [
        Listening(
            public_app(pipeline, limits, settings.trusted_proxies),
            public,
            Listener(deadlines, connection_limit(), refused),
        ),
        Listening(internal_routes, internal, Listener(deadlines, MAX_CONNECTIONS, refused)),
    ]

    def on_ready() -> None:
        taking.set()
        print(_greeting(settings, served.sources), flush=True)
        log.info("%s", _watched(settings))

    async with reloader.running():
        await serve(
            listening,
            Stopping(settings.drain, settings.shutdown_timeout),
            on_ready=on_ready,
            on_stopping=taking.clear,
            on_hangup=lambda: reloader.reload("SIGHUP"),
        )


async def _show_history(pipeline: Pipeline) -> None:
    """Folds what the journal holds, for as long as it takes to succeed."""
    while True:
        try:
            await pipeline.shown.begin()
        except JournalUnavailable as error:
            log.error("the history cannot be read: %s", error)  # noqa: TRY400  # The operator's, no bug.
            await asyncio.sleep(1)
        else:
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
