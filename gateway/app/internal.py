"""The internal listener: metrics, health, reloading, replays and dry runs, for Prometheus and the platform, never for senders."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.params import FromPath
from litestar.response import Stream
from msgspec import Struct

from gateway import exposition
from gateway.app import http
from gateway.app.problems import problem_response
from gateway.app.replayer import Replayer
from gateway.delivery import Delivery
from gateway.journal.archive import NotFound
from gateway.journal.entry import JournalError, JournalUnavailable
from gateway.pipeline import Pipeline
from gateway.replay import Asked
from gateway.series import Family
from gateway.telemetry import Telemetry

CATCH_UP = 2.0
"""Seconds that a scrape waits for what others have committed; then it shows what is known."""
_JSON_LINES = "application/jsonl"


class Part(Enum):
    """What a scrape shows. The series are the same on all replicas that share a journal; the process's
    own metrics are those of one."""

    ALL = "all"
    SERIES = "series"
    PROCESS = "process"


class Reloaded(Struct, frozen=True):
    """What came of reading everything anew: a status, and the members of the answer. Where that is
    not 200, what was served is served on, and `detail` says why."""

    status: HTTPStatus
    members: Mapping[str, object]
    detail: str = ""


class Explain(Protocol):
    """Tells what serving would make of a request; nothing for a source that does not exist."""

    def __call__(self, delivery: Delivery, *, as_text: bool) -> str | None: ...


def internal_app(
    pipeline: Pipeline,
    ready: Callable[[], bool],
    reload: Callable[[], Awaitable[Reloaded]],
    explain: Explain,
    max_body: int,
    replayer: Replayer,
) -> Litestar:
    """The application of the internal listener. `ready` says whether deliveries are being taken;
    `reload` reads everything anew, as it is after the call; `max_body` is in bytes."""

    async def answer(request: Request[Any, Any, Any], part: Part) -> Response[bytes]:
        openmetrics = exposition.wants_openmetrics(request.headers.get("accept", ""))
        compressed = exposition.wants_gzip(request.headers.get("accept-encoding", ""))
        if part is not Part.PROCESS:
            await _catch_up(pipeline)
        render = scrape(pipeline, round(time.time() * 1000), part, openmetrics=openmetrics)
        # Deliveries need not wait for it.
        body = await asyncio.to_thread(render, compressed=compressed)
        kind = exposition.OPENMETRICS if openmetrics else exposition.TEXT
        headers = {"vary": "Accept, Accept-Encoding"}
        if compressed:
            headers["content-encoding"] = "gzip"
        return Response(body, media_type=kind, headers=headers)

    @get("/metrics")
    async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        """The window's series and the gateway's own counters, as the scraper asks for them."""
        return await answer(request, Part.ALL)

    @get("/metrics/series")
    async def metrics_series(request: Request[Any, Any, Any]) -> Response[bytes]:
        """The window's series alone: the same on all replicas that share a journal."""
        return await answer(request, Part.SERIES)

    @get("/metrics/process")
    async def metrics_process(request: Request[Any, Any, Any]) -> Response[bytes]:
        """This process's own counters alone."""
        return await answer(request, Part.PROCESS)

    @get("/-/healthy", sync_to_thread=False)
    def healthy() -> Response[str]:
        """The process turns."""
        return Response("healthy\n", media_type="text/plain")

    @get("/-/ready", sync_to_thread=False)
    def readiness() -> Response[str]:
        """Deliveries are taken: 503 while starting, while stopping, or while the journal fails."""
        if ready() and pipeline.journal.healthy:
            return Response("ready\n", media_type="text/plain")
        return Response("not ready\n", media_type="text/plain", status_code=503)

    @post("/-/reload")
    async def reload_now() -> Response[bytes]:
        """Mappings, models and secrets as they are now are served, or a problem says why not."""
        reloaded = await reload()
        if reloaded.status is HTTPStatus.OK:
            body, kind = msgspec.json.encode(reloaded.members), http.JSON
        else:
            body = http.problem(reloaded.status, reloaded.detail, **reloaded.members)
            kind = http.PROBLEM
        return Response(body, media_type=kind.decode(), status_code=reloaded.status)

    @post("/-/replay", status_code=HTTPStatus.OK)
    async def replay_now(request: Request[Any, Any, Any]) -> Response[bytes] | Stream:
        """Maps deliveries of the journal again: a line of JSON for each, as it is done."""
        try:
            asked = msgspec.json.decode(await request.body() or b"{}", type=Asked)
            lines = await replayer.lines(asked, ready)
        except NotFound as error:
            return _refused(HTTPStatus.NOT_FOUND, error)
        except JournalError as error:
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, error)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _refused(HTTPStatus.BAD_REQUEST, error)
        return Stream(lines, media_type=_JSON_LINES)

    @post("/try/{source:str}", status_code=HTTPStatus.OK, request_max_body_size=max_body)
    async def try_request(
        source: FromPath[str], request: Request[Any, Any, Any]
    ) -> Response[bytes]:
        """A dry run that explains: text where `Accept` asks for it, JSON else. Stores nothing."""
        delivery = Delivery(
            source=source,
            headers=http.texts(request.scope["headers"]),
            query=http.query(request.scope),
            body=await request.body(),
            received_at=time.time(),
        )
        as_text = "text/plain" in request.headers.get("accept", "")
        # A large payload takes long to explain, and deliveries need not wait for it.
        explained = await asyncio.to_thread(explain, delivery, as_text=as_text)
        if explained is None:
            problem = http.problem(HTTPStatus.NOT_FOUND, f"there is no source `{source}`")
            return Response(problem, media_type=http.PROBLEM.decode(), status_code=404)
        kind = "text/plain" if as_text else http.JSON.decode()
        # It repeats what was sent, which no browser is to take for a page.
        headers = {"x-content-type-options": "nosniff"}
        return Response(f"{explained}\n".encode(), media_type=kind, headers=headers)

    return Litestar(
        [
            metrics,
            metrics_series,
            metrics_process,
            healthy,
            readiness,
            reload_now,
            replay_now,
            try_request,
        ],
        openapi_config=None,
        exception_handlers={Exception: problem_response},
        logging_config=None,
    )


def _refused(status: HTTPStatus, error: Exception) -> Response[bytes]:
    body = http.problem(status, str(error))
    return Response(body, media_type=http.PROBLEM.decode(), status_code=status)


async def _catch_up(pipeline: Pipeline) -> None:
    """Has the series know what others have committed by now, where the journal can be asked."""
    with contextlib.suppress(JournalUnavailable, TimeoutError):
        async with asyncio.timeout(CATCH_UP):
            await pipeline.shown.catch_up()


class Render(Protocol):
    """Renders a scrape as it was when it was asked for; can run in a thread beside deliveries."""

    def __call__(self, *, compressed: bool) -> bytes: ...


def scrape(pipeline: Pipeline, now: int, part: Part, *, openmetrics: bool) -> Render:
    """A part of what there is to show at this time (epoch milliseconds)."""
    pipeline.series.advance(now)
    families = [] if part is Part.PROCESS else list(pipeline.series.families())
    own = None if part is Part.SERIES else pipeline.telemetry
    if own is not None:
        _observe(pipeline, own)
    return partial(_render, own, families, openmetrics=openmetrics)


def _observe(pipeline: Pipeline, telemetry: Telemetry) -> None:
    """Has the counters tell of the state of everything at this moment."""
    series, journal = pipeline.series, pipeline.journal
    telemetry.journal(
        waiting=pipeline.waiting,
        healthy=journal.healthy,
        damaged=journal.damaged,
        missing=journal.missing,
        is_folded=pipeline.shown.is_complete,
    )
    correlation = series.correlation
    telemetry.window(series.counts(), correlation.conflicts)
    telemetry.correlated(series.overflow, correlation.suspect)
    for app, coverage in correlation.changed_coverage().items():
        unjoined = coverage.deployments - coverage.joined
        telemetry.deployments(app, joined=coverage.joined, unjoined=unjoined)
    telemetry.unknown_apps(pipeline.unknown_apps)


def _render(
    own: Telemetry | None, families: list[Family], *, openmetrics: bool, compressed: bool
) -> bytes:
    counters = own.render(openmetrics=openmetrics) if own else b""
    return exposition.render(counters, families, openmetrics=openmetrics, compressed=compressed)
