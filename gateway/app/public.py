"""The public listener: `POST /hooks/{source}`, `POST /pelorus/webhook`, `GET /healthz`, no more."""

from typing import cast

from litestar import Litestar, asgi, get
from litestar.types import HTTPScope, Receive, Scope, Send

from gateway.app.edge import Edge, Limits
from gateway.app.hooks import Hooks
from gateway.app.pelorus import PelorusWebhook
from gateway.app.problems import problem_response
from gateway.pipeline import Pipeline


@get("/healthz", sync_to_thread=False)
def healthz() -> dict[str, str]:
    """Says that the process answers, and nothing of what it serves."""
    return {"status": "ok"}


def public_app(pipeline: Pipeline, limits: Limits) -> Litestar:
    """The application of the public listener."""
    edge = Edge(pipeline, limits)
    hooks = Hooks(edge)
    pelorus = PelorusWebhook(edge)

    # A mount: the framework fails on path parameters of a bare ASGI route.
    @asgi("/hooks", is_mount=True)
    async def hook(scope: Scope, receive: Receive, send: Send) -> None:
        await hooks(cast("HTTPScope", scope), receive, send)

    @asgi("/pelorus/webhook")
    async def pelorus_webhook(scope: Scope, receive: Receive, send: Send) -> None:
        await pelorus(cast("HTTPScope", scope), receive, send)

    return Litestar(
        [hook, pelorus_webhook, healthz],
        openapi_config=None,
        exception_handlers={Exception: problem_response},
        logging_config=None,
    )
