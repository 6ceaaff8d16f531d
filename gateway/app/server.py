"""Both listeners in one process and on one event loop, from start to an orderly end."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from litestar import Litestar

from gateway.settings import Address

BACKLOG = 2_048


class CannotListen(Exception):
    """An address cannot be listened on; the message names it and why."""


class _Server(uvicorn.Server):
    """One listener; signals belong to the process, which stops both."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


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


async def serve(
    apps: list[tuple[Litestar, socket.socket]],
    shutdown_timeout: int,
    on_ready: Callable[[], None],
    on_stopping: Callable[[], None],
    on_hangup: Callable[[], object],
) -> None:
    """Serves until SIGINT or SIGTERM, then answers what is in flight for up to `shutdown_timeout`
    seconds and returns. A SIGHUP ends nothing."""
    servers = [_Server(_config(app, shutdown_timeout)) for app, _ in apps]
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    running = [
        asyncio.create_task(server.serve(sockets=[listener]))
        for server, (_, listener) in zip(servers, apps, strict=True)
    ]
    watch = asyncio.create_task(stopping.wait())
    while not all(server.started for server in servers):
        if any(task.done() for task in running):
            break
        await asyncio.sleep(0.01)
    else:
        on_ready()
    await asyncio.wait([watch, *running], return_when=asyncio.FIRST_COMPLETED)
    on_stopping()
    watch.cancel()
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*running)


def _config(app: Litestar, shutdown_timeout: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        # httptools refuses the ambiguous framing that h11 takes.
        http="httptools",
        loop="none",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        # A forwarded address is a claim of the sender's; nothing here believes it.
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=shutdown_timeout,
        backlog=BACKLOG,
    )
