"""One of several processes that take deliveries: the public listener, and a way to the process that started it."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from http import HTTPStatus

import msgspec
import uvloop

from gateway.app.server import Hooks, serve
from gateway.cli import journals, serving, wiring, workers
from gateway.cli.main import fail
from gateway.cli.reload import Reloader
from gateway.cli.wiring import Library, Refused, Served
from gateway.cli.workers import Inherited, Report
from gateway.journal.entry import JournalError
from gateway.journal.sqlite import Lock
from gateway.journal.writer import Writer
from gateway.mapping.compiler import SourceFile, compile_files
from gateway.pipeline import Pipeline
from gateway.settings import Settings


def run(settings: Settings, given: Inherited) -> int:
    """Takes deliveries; returns when it is told to, or when it is alone. 2 where it cannot."""
    # Nobody but the process that started this one has it reload.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    control = socket.socket(fileno=given.control)
    try:
        loaded = _library(workers.first_files(control))
        served = wiring.served(loaded, os.environ, settings.secrets, new_secrets=False)
        lock = Lock(given.lock) if given.lock >= 0 else None
        journal = Writer(journals.store(settings, lock))
    except Refused as refused:
        print(refused.report, file=sys.stderr)
        return 1
    except (JournalError, ConnectionError) as error:
        return fail(str(error))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, served, journal, given.public, control))
    finally:
        journal.close()
    return 0


async def _serve(
    settings: Settings, served: Served, journal: Writer, descriptor: int, control: socket.socket
) -> None:
    pipeline = serving.pipeline(settings, served, journal)
    given = _Given(served.library)
    unwatched = msgspec.structs.replace(settings, watch=0)
    reloader = Reloader(unwatched, os.environ, served, pipeline, load=given.load)
    journal.start()
    public = socket.socket(fileno=descriptor)
    async with reloader.running():
        with Control(pipeline, reloader, given).running(control) as reporting:
            hooks = Hooks(on_ready=reporting.set, on_stopping=lambda _signal: None)
            await serve(
                [serving.listening(settings, pipeline, public)], serving.stopping(settings), hooks
            )


def _library(files: tuple[SourceFile, ...]) -> Library:
    return Library(files, compile_files(files))


class _Given:
    """What this process was given last to serve. Were it to read files itself, it might find others."""

    def __init__(self, library: Library) -> None:
        self.files = library.files

    def load(self, known: Library) -> Library:
        """Compiled, where it is not what is known."""
        return known if known.files == self.files else _library(self.files)


class Control:
    """Reports to the process that started this one, and reloads when it says so."""

    def __init__(self, pipeline: Pipeline, reloader: Reloader, given: _Given) -> None:
        self._pipeline = pipeline
        self._reloader = reloader
        self._given = given
        self._reloads = 0
        self._failure = ""

    @contextlib.contextmanager
    def running(self, control: socket.socket) -> Iterator[asyncio.Event]:
        """Listens for the length of a block, and reports from when the event is set."""
        ready = asyncio.Event()
        task = asyncio.create_task(self._run(control, ready))
        try:
            yield ready
        finally:
            task.cancel()

    async def _run(self, control: socket.socket, ready: asyncio.Event) -> None:
        """Until the other side is gone, and then this process is to end as well."""
        reader, writer = await asyncio.open_connection(sock=control)
        reporting = asyncio.create_task(self._report(writer, ready))
        try:
            while (message := await workers.receive(reader)) is not None:
                self._given.files = workers.files(message)
                answer = await self._reloader.reload("the gateway reloads")
                self._failure = "" if answer.status is HTTPStatus.OK else answer.detail
                self._reloads += 1
        finally:
            reporting.cancel()
            with contextlib.suppress(OSError, RuntimeError):  # Nobody is there to be told.
                workers.send(writer, self._said())
                writer.close()
        os.kill(os.getpid(), signal.SIGINT)

    async def _report(self, writer: asyncio.StreamWriter, ready: asyncio.Event) -> None:
        await ready.wait()
        with contextlib.suppress(OSError, RuntimeError):  # As above.
            while True:
                workers.send(writer, self._said())
                await asyncio.sleep(workers.REPORT_INTERVAL)

    def _said(self) -> bytes:
        journal = self._pipeline.journal
        report = Report(
            tally=self._pipeline.telemetry.tally.taken(),
            waiting=journal.waiting,
            healthy=journal.healthy,
            reloads=self._reloads,
            failure=self._failure,
        )
        return msgspec.msgpack.encode(report)
