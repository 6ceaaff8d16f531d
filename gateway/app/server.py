"""Both listeners in one process and on one event loop, from start to an orderly end."""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import cast

import uvicorn
from litestar.types import ASGIApp
from msgspec import Struct
from uvicorn._types import ASGIApplication

from gateway.app.guard import Listener, end_all, sweep
from gateway.settings import Address

BACKLOG = 2_048
MAX_CONNECTIONS = 10_000
"""Of one listener; fewer where the process may not open as many files."""
_OTHER_FILES = 100
_TICKS = 2
"""uvicorn ticks ten times a second; the deadlines are looked at each second time."""


class CannotListen(Exception):
    """An address cannot be listened on; the message names it and why."""


class Listening(Struct, frozen=True):
    """An application, the socket that it is served on, and what its connections share."""

    app: ASGIApp
    socket: socket.socket
    listener: Listener


class Stopping(Struct, frozen=True):
    """Seconds: how long deliveries are still taken after a SIGTERM, and how long those in flight then
    get to be answered."""

    drain: float
    answers: int


async def _at_once() -> None:
    """Nothing else is to be waited for."""


class Hooks(Struct, frozen=True):
    """Who is told what: that deliveries are taken, that they soon are not, by which signal, that nobody
    wants to wait for the end, and that a SIGHUP came. `until` is waited for at the end, too."""

    on_ready: Callable[[], None]
    on_stopping: Callable[[signal.Signals], None]
    on_hurry: Callable[[], None] = lambda: None
    on_hangup: Callable[[], object] = lambda: None
    until: Callable[[], Awaitable[None]] = _at_once


class _Server(uvicorn.Server):
    """One listener; signals belong to the process, which stops both."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS == 0:
            await sweep(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)


class _Signals:
    """SIGINT and SIGTERM of the process, from the first one on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.is_patient = False
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._came, number)

    def _came(self, number: int) -> None:
        if self.first.is_set():
            self.second.set()
        else:
            # Whoever presses Ctrl-C waits for it; who sends SIGTERM has told others to send elsewhere.
            self.is_patient = number == signal.SIGTERM
            self.first.set()


def connection_limit() -> int:
    """How many connections the public listener may keep, after the process has been allowed as many
    open files as it can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    # The rest is for the journal, for scrapes, and for connections that are being closed.
    return max(1, min(MAX_CONNECTIONS, (soft - _OTHER_FILES) * 3 // 4))


def bind(address: Address) -> socket.socket:
    """A listening socket, bound before anything else starts. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
    except OSError as error:
        listener.close()
        raise CannotListen(f"cannot listen on {address}: {error.strerror or error}") from error
    return listener


def hold_hangups() -> None:
    """Lets a SIGHUP wait for `serve`: until a handler is there, it would end the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def end_at_sigterm() -> None:
    """Has a SIGTERM end the process before `serve` has a handler, as it does by itself anywhere but in
    process 1 of a container, for which the kernel has no default."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


async def serve(
    listeners: list[Listening],
    stopping: Stopping,
    hooks: Hooks,
) -> None:
    """Serves until SIGINT or SIGTERM, then answers what is in flight and returns; after a SIGTERM it
    goes on taking deliveries for a while first. A second signal ends either wait. A SIGHUP ends
    nothing."""
    servers = [_Server(_config(served, stopping.answers)) for served in listeners]
    loop = asyncio.get_running_loop()
    signals = _Signals(loop)
    loop.add_signal_handler(signal.SIGHUP, hooks.on_hangup)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    running = [
        asyncio.create_task(server.serve(sockets=[served.socket]))
        for server, served in zip(servers, listeners, strict=True)
    ]
    while not all(server.started for server in servers):
        if any(task.done() for task in running):
            break
        await asyncio.sleep(0.01)
    else:
        # What was compiled stays for good; the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        hooks.on_ready()
    await _first_of(signals.first, *running)
    hooks.on_stopping(signal.SIGTERM if signals.is_patient else signal.SIGINT)
    if signals.is_patient and stopping.drain:
        for served in listeners:
            served.listener.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(stopping.drain):
                await _first_of(signals.second, *running)
    for server in servers:
        server.should_exit = True
    hurry = asyncio.create_task(_hurry(signals, servers, hooks.on_hurry))
    await asyncio.gather(*running, hooks.until())
    hurry.cancel()


async def _first_of(event: asyncio.Event, *running: asyncio.Task[None]) -> None:
    """Returns when the event comes, or when a server ends by itself."""
    watch = asyncio.create_task(event.wait())
    try:
        await asyncio.wait([watch, *running], return_when=asyncio.FIRST_COMPLETED)
    finally:
        watch.cancel()


async def _hurry(signals: _Signals, servers: list[_Server], on_hurry: Callable[[], None]) -> None:
    await signals.second.wait()
    on_hurry()
    for server in servers:
        server.force_exit = True
        end_all(server.server_state.connections)


def _config(served: Listening, shutdown_timeout: int) -> uvicorn.Config:
    return uvicorn.Config(
        cast("ASGIApplication", served.app),
        # httptools refuses the ambiguous framing that h11 takes. uvicorn calls what it is given here.
        http=cast("type[asyncio.Protocol]", served.listener.protocol),
        interface="asgi3",
        loop="none",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        # A forwarded address is a claim of the sender's; nothing here believes it.
        proxy_headers=False,
        timeout_graceful_shutdown=shutdown_timeout,
        backlog=BACKLOG,
    )
