"""The public listener: `POST /hooks/{source}`, `POST /pelorus/webhook`, `GET /healthz`, no more."""

from http import HTTPStatus
from typing import cast

from litestar import Litestar, get
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from gateway.addresses import Networks
from gateway.app import http
from gateway.app.edge import Edge, Limits
from gateway.app.hooks import Hooks
from gateway.app.pelorus import PelorusWebhook
from gateway.app.problems import problem_response
from gateway.pipeline import Pipeline


@get("/healthz", sync_to_thread=False)
def healthz() -> dict[str, str]:
    """Says that the process answers, and nothing of what it serves."""
    return {"status": "ok"}


def public_app(pipeline: Pipeline, limits: Limits, trusted: Networks = ()) -> ASGIApp:
    """The application of the public listener."""
    edge = Edge(pipeline, limits, trusted)
    hooks = Hooks(edge)
    pelorus = PelorusWebhook(edge)
    health = Litestar(
        [healthz],
        openapi_config=None,
        exception_handlers={Exception: problem_response},
        logging_config=None,
    )

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        # The server is told to serve no other protocol.
        request = cast("HTTPScope", scope)
        # The path as it was sent: another spelling of it is another path, and not found. Deliveries
        # do not pass through the framework, whose routing costs as much as their mapping does, and nor
        # does what has no route: the framework takes some other spellings for the same.
        path = request["raw_path"]
        if path.startswith(b"/hooks/"):
            await hooks(request, receive, send)
        elif path == PelorusWebhook.path:
            await pelorus(request, receive, send)
        elif path == b"/healthz":
            await health(scope, receive, send)
        else:
            body = http.problem(HTTPStatus.NOT_FOUND)
            await http.answer(send, HTTPStatus.NOT_FOUND, body, http.PROBLEM, close=True)

    return dispatch
