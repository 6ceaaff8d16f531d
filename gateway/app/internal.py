"""The internal listener: metrics and health, for Prometheus and the platform, never for senders."""

import asyncio
import gzip
import time
from collections.abc import Callable
from typing import Any

from litestar import Litestar, Request, Response, get

from gateway import exposition
from gateway.app.problems import problem_response
from gateway.pipeline import Pipeline

_GZIP_LEVEL = 1
_OFF_LOOP = 64 * 1024
"""Bytes; a larger scrape is compressed in a thread, so that deliveries need not wait for it."""


def internal_app(pipeline: Pipeline, ready: Callable[[], bool]) -> Litestar:
    """The application of the internal listener. `ready` says whether deliveries are being taken."""

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

    return Litestar(
        [metrics, healthy, readiness],
        openapi_config=None,
        exception_handlers={Exception: problem_response},
        logging_config=None,
    )


def scrape(pipeline: Pipeline, now: int, *, openmetrics: bool) -> bytes:
    """The body of a scrape at this time (epoch milliseconds)."""
    series, telemetry, journal = pipeline.series, pipeline.telemetry, pipeline.journal
    series.advance(now)
    telemetry.journal(waiting=journal.waiting, healthy=journal.healthy)
    telemetry.window(series.counts(), series.correlation.conflicts)
    own = telemetry.render(openmetrics=openmetrics)
    return exposition.render(own, series.families(), openmetrics=openmetrics)
