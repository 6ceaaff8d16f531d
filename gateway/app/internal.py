"""The internal listener: metrics, health, reloading and dry runs, for Prometheus and the platform, never for senders."""

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from litestar import Litestar, Request, Response, get, post
from msgspec import Struct

from gateway import exposition
from gateway.app import http
from gateway.app.problems import problem_response
from gateway.delivery import Delivery
from gateway.pipeline import Pipeline

_GZIP_LEVEL = 1
_OFF_LOOP = 64 * 1024
"""Bytes; a larger scrape is compressed in a thread, so that deliveries need not wait for it."""


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
) -> Litestar:
    """The application of the internal listener. `ready` says whether deliveries are being taken;
    `reload` reads everything anew, as it is after the call; `max_body` is in bytes."""

    @get("/metrics")
    async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        """The window's series and the gateway's own counters, as the scraper asks for them."""
        openmetrics = exposition.wants_openmetrics(request.headers.get("accept", ""))
        body = scrape(pipeline, round(time.time() * 1000), openmetrics=openmetrics)
        kind = exposition.OPENMETRICS if openmetrics else exposition.TEXT
        headers = {"vary": "Accept, Accept-Encoding"}
        if exposition.wants_gzip(request.headers.get("accept-encoding", "")):
            headers["content-encoding"] = "gzip"
            if len(body) > _OFF_LOOP:
                body = await asyncio.to_thread(gzip.compress, body, _GZIP_LEVEL)
            else:
                body = gzip.compress(body, _GZIP_LEVEL)
        return Response(body, media_type=kind, headers=headers)

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

    @post("/try/{source:str}", status_code=HTTPStatus.OK, request_max_body_size=max_body)
    async def try_request(source: str, request: Request[Any, Any, Any]) -> Response[bytes]:
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
        return Response(f"{explained}\n".encode(), media_type=kind)

    return Litestar(
        [metrics, healthy, readiness, reload_now, try_request],
        openapi_config=None,
        exception_handlers={Exception: problem_response},
        logging_config=None,
    )


def scrape(pipeline: Pipeline, now: int, *, openmetrics: bool) -> bytes:
    """The body of a scrape at this time (epoch milliseconds)."""
    series, telemetry, journal = pipeline.series, pipeline.telemetry, pipeline.journal
    series.advance(now)
    telemetry.journal(
        waiting=journal.waiting,
        healthy=journal.healthy,
        damaged=journal.damaged,
        is_folded=pipeline.shown.is_complete,
    )
    correlation = series.correlation
    telemetry.window(series.counts(), correlation.conflicts)
    telemetry.correlated(series.overflow, correlation.suspect)
    for app, coverage in correlation.changed_coverage().items():
        unjoined = coverage.deployments - coverage.joined
        telemetry.deployments(app, joined=coverage.joined, unjoined=unjoined)
    telemetry.unknown_apps(pipeline.unknown_apps)
    own = telemetry.render(openmetrics=openmetrics)
    return exposition.render(own, series.families(), openmetrics=openmetrics)
