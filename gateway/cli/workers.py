"""Several processes that take deliveries for one gateway: started, watched, told to reload, counted, ended.

The process that the user started folds and answers scrapes; its workers share its public socket and its
journal. Each is `gateway serve` again, told by a variable of its environment that it is a worker. What
the two say to each other goes over a socket of theirs, which also tells a worker that it is alone.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from io import RawIOBase

import msgspec
from msgspec import Struct

from gateway.mapping.compiler import SourceFile
from gateway.tally import Tally

VARIABLE = "GATEWAY_WORKER"
START_TIMEOUT = 60.0
"""Seconds that a worker has for its start."""
REPORT_INTERVAL = 0.2
"""Seconds between two reports of a worker."""
RELOAD_TIMEOUT = 30.0
RESTART_PAUSE = 1.0
"""Seconds from the start of a worker to the earliest start of the one in its place."""
_LENGTH = 4
"""Bytes of the length before each message."""

log = logging.getLogger("gateway")


class Inherited(Struct, frozen=True):
    """What a worker is born with: the descriptors of the public socket, of the socket to the process
    that started it, and of the journal's lock, which is -1 where there is none; and its number."""

    number: int
    public: int
    control: int
    lock: int


class Report(Struct, frozen=True, kw_only=True):
    """What a worker says of itself: what it has counted since it last did, how many reloads it has been
    through, and why the last one failed."""

    tally: Tally
    waiting: int
    healthy: bool
    reloads: int
    failure: str


def inherited() -> Inherited | None:
    """What this process is born with, None where it is no worker."""
    text = os.environ.get(VARIABLE)
    return msgspec.json.decode(text, type=Inherited) if text else None


def first_files(control: socket.socket) -> tuple[SourceFile, ...]:
    """The mappings and models that a worker is given to serve, before anything else."""
    with control.makefile("rb", buffering=0) as stream:
        # Unbuffered: what follows is for the event loop.
        length = int.from_bytes(_exactly(stream, _LENGTH), "big")
        return files(_exactly(stream, length))


def files(message: bytes) -> tuple[SourceFile, ...]:
    """Those that a message gives a worker to serve from now on."""
    return msgspec.msgpack.decode(message, type=tuple[SourceFile, ...])


def _exactly(stream: RawIOBase, count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            raise ConnectionError("the gateway that started this worker is gone")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


async def receive(reader: asyncio.StreamReader) -> bytes | None:
    """A message, None where the other side is gone."""
    try:
        length = await reader.readexactly(_LENGTH)
        return await reader.readexactly(int.from_bytes(length, "big"))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def send(writer: asyncio.StreamWriter, message: bytes) -> None:
    writer.write(len(message).to_bytes(_LENGTH, "big") + message)


class _Worker:
    """One of them, for as long as its process lives."""

    def __init__(self, number: int, process: asyncio.subprocess.Process) -> None:
        self.number = number
        self.process = process
        self.report: Report | None = None
        self.reported = asyncio.Event()
        self.writer: asyncio.StreamWriter | None = None
        self.told = 0
        """How often it was told to reload: a late answer is one to an earlier time."""

    @property
    def is_healthy(self) -> bool:
        return self.report is not None and self.report.healthy


class Workers:
    """All of them, on the event loop. What they count is added to `tally`; `files` are the mappings and
    models that are served, which they are given: those on disk may be others by now. `patience` is
    how many seconds they have to end, once they were told."""

    def __init__(
        self,
        count: int,
        public: socket.socket,
        lock: int,
        tally: Tally,
        files: Callable[[], Sequence[SourceFile]],
        patience: float,
    ) -> None:
        self._files = files
        self._public = public
        self._lock = lock
        self._tally = tally
        self._patience = patience
        self._workers: list[_Worker | None] = [None] * count
        self._stopping: signal.Signals | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_healthy(self) -> bool:
        """Whether deliveries are kept by every worker that is there, and one is."""
        alive = [worker for worker in self._workers if worker is not None]
        return bool(alive) and all(worker.is_healthy for worker in alive)

    @property
    def waiting(self) -> int:
        """Deliveries that wait for their commit."""
        reports = (worker.report for worker in self._workers if worker is not None)
        return sum(report.waiting for report in reports if report is not None)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps them running until the end of the block."""
        count = len(self._workers)
        self._tasks = [asyncio.create_task(self._keep(number)) for number in range(count)]
        try:
            yield
        finally:
            self.stop(signal.SIGINT)
            await self.ended()

    async def ended(self) -> None:
        """Returns when all of them have ended, which they do when they were told to stop; those that
        take longer than they may are killed."""
        _, late = await asyncio.wait(self._tasks, timeout=self._patience)
        if late:
            self._signal(signal.SIGKILL)
            await asyncio.wait(late)

    async def ready(self) -> bool:
        """Returns when all of them take deliveries, or says that they do not in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT):
                while not all(worker is not None and worker.report for worker in self._workers):
                    if any(task.done() for task in self._tasks):
                        return False
                    await asyncio.sleep(0.02)
                return True
        return False

    def stop(self, number: signal.Signals) -> None:
        """Passes a signal on; whoever ends from now on has no successor."""
        if self._stopping is None:
            self._signal(number)
        self._stopping = number

    def hurry(self) -> None:
        """Ends the wait for what is in flight."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker is not None:
                with contextlib.suppress(ProcessLookupError):
                    worker.process.send_signal(number)

    async def reload(self) -> list[str]:
        """Has them serve what is served now; returns when all do, with a sentence for each that does not."""
        message = self._given()
        waiting = []
        for worker in self._workers:
            if worker is not None and worker.writer is not None:
                send(worker.writer, message)
                worker.told += 1
                waiting.append(self._reloaded(worker))
        return [failure for failure in await asyncio.gather(*waiting) if failure]

    async def _reloaded(self, worker: _Worker) -> str:
        """Why a worker did not reload, empty where it did."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELOAD_TIMEOUT):
                while worker.report is None or worker.report.reloads < worker.told:
                    if worker.process.returncode is not None:
                        # Its successor is given what is served now.
                        return ""
                    worker.reported.clear()
                    await worker.reported.wait()
                failure = worker.report.failure
                return f"worker {worker.number}: {failure}" if failure else ""
        return f"worker {worker.number} does not answer"

    def _given(self) -> bytes:
        return msgspec.msgpack.encode(self._files())

    async def _keep(self, number: int) -> None:
        """Runs a worker, and another one in its place where it ends by itself."""
        while self._stopping is None:
            started = time.monotonic()
            try:
                end = f"ended with {await self._run(number)}; another one takes its place"
            except OSError as error:
                # Such as for want of memory, which may well have ended the one before.
                end = f"cannot be started: {error.strerror}; it is tried again"
            if self._stopping is not None:
                return
            log.error("worker %d %s", number, end)
            await asyncio.sleep(max(0.0, started + RESTART_PAUSE - time.monotonic()))

    async def _run(self, number: int) -> int:
        """One process from start to end; its exit code."""
        ours, theirs = socket.socketpair()
        given = Inherited(number, self._public.fileno(), theirs.fileno(), self._lock)
        try:
            process = await asyncio.create_subprocess_exec(
                *_command(),
                env={**os.environ, VARIABLE: msgspec.json.encode(given).decode()},
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[one for one in (given.public, given.control, given.lock) if one >= 0],
                # Ctrl-C at a terminal is for the process that the user started.
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = self._workers[number] = _Worker(number, process)
        if self._stopping is not None:
            process.send_signal(self._stopping)
        listening = asyncio.create_task(self._listen(worker, ours))
        try:
            return await process.wait()
        finally:
            self._workers[number] = None
            worker.reported.set()
            await listening

    async def _listen(self, worker: _Worker, control: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=control)
        send(writer, self._given())
        worker.writer = writer
        try:
            while (message := await receive(reader)) is not None:
                worker.report = msgspec.msgpack.decode(message, type=Report)
                self._tally.add(worker.report.tally)
                worker.reported.set()
        finally:
            writer.close()


def _command() -> Sequence[str]:
    """This very command again."""
    return (sys.executable, "-m", "gateway", *sys.argv[1:])
