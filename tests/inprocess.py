"""A gateway without its server: both applications, journal and series in this process, for millions of requests."""

import argparse
import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator
from pathlib import Path
from typing import Any, TypeVar

from litestar.types import ASGIApp, HTTPScope, Message
from msgspec import Struct

from gateway.app.edge import Limits
from gateway.app.internal import internal_app
from gateway.app.public import public_app
from gateway.app.replayer import Replayer
from gateway.cli import journals, options, serving, wiring
from gateway.cli.explaining import Explainer
from gateway.cli.reload import Reloader
from gateway.journal.archive import Archive
from gateway.journal.writer import Writer
from gateway.pipeline import Pipeline

T = TypeVar("T")

RawHeaders = list[tuple[bytes, bytes]]


class Answer(Struct, frozen=True):
    """What an application answers; `seconds` are those that this thread's processor took."""

    status: int
    headers: RawHeaders
    body: bytes
    seconds: float


class Metered(Awaitable[T]):
    """Awaits a coroutine, and knows how long it kept the processor busy in this thread."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self.seconds = 0.0

    def __await__(self) -> Generator[Any, Any, T]:
        while True:
            before = time.thread_time()
            try:
                waits_for = self._coroutine.send(None)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self.seconds += time.thread_time() - before
            yield waits_for


async def call(
    app: ASGIApp,
    method: str,
    path: bytes,
    headers: RawHeaders,
    body: bytes = b"",
    query: bytes = b"",
) -> Answer:
    """One request, as the server hands it to an application."""
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }
    waiting: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if waiting:
            return waiting.pop()
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def run(request: HTTPScope) -> None:
        await app(request, receive, send)

    metered = Metered(run(scope))
    await metered
    assert sent, f"no answer: {method} {path!r}"
    return Answer(
        sent[0]["status"],
        list(sent[0]["headers"]),
        b"".join(message.get("body", b"") for message in sent[1:]),
        metered.seconds,
    )


class InProcess(Struct, frozen=True):
    """A gateway's parts that requests reach."""

    pipeline: Pipeline
    public: ASGIApp
    internal: ASGIApp

    async def metrics(self, accept: str = "text/plain") -> Answer:
        """A scrape."""
        answer = await call(self.internal, "GET", b"/metrics", [(b"accept", accept.encode())])
        assert answer.status == 200, answer
        return answer


@contextlib.asynccontextmanager
async def gateway(folder: Path, *arguments: str) -> AsyncIterator[InProcess]:
    """All bundled sources with secrets of their own, and those of the arguments, as `serve` takes them;
    the journal below the folder."""
    parser = argparse.ArgumentParser()
    options.define(parser)
    given = [
        *("--journal", f"sqlite:///{folder / 'journal.sqlite'}"),
        *("--secrets", str(folder / "secrets")),
        *("--new-secrets", *arguments),
    ]
    settings = options.settings_from(parser.parse_args(given), {})
    loaded = wiring.load(settings.sources)
    served = wiring.served(loaded, {}, settings.secrets, new_secrets=True)
    journal = Writer(journals.store(settings))
    try:
        pipeline = serving.pipeline(settings, served, journal)
        journal.start()
        await pipeline.shown.begin()
        # As `serve` does; and the tests' own modules are more than a gateway.
        gc.collect()
        gc.freeze()
        limits = Limits(
            body=settings.max_body,
            in_flight=settings.max_in_flight,
            body_timeout=settings.body_timeout,
            answer_timeout=settings.answer_timeout,
        )
        archive = Archive(journals.database(settings.journal))
        reloader = Reloader(settings, {}, served, pipeline)
        internal = internal_app(
            pipeline,
            lambda: True,
            lambda: reloader.reload("a test"),
            Explainer(lambda: reloader.served, {}),
            settings.max_body,
            Replayer(pipeline, archive, lambda: wiring.plans(loaded.compilation, {})),
        )
        yield InProcess(pipeline, public_app(pipeline, limits), internal)
    finally:
        journal.close()
        gc.unfreeze()
