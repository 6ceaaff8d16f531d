"""The hot path, `POST /hooks/{source}`: an ASGI application of its own, without a framework's cost."""

import logging
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
from litestar.types import HTTPScope, Receive, Send

from gateway import body as bodies
from gateway.app import http, visit
from gateway.app.edge import Edge
from gateway.app.http import Disconnected, Refused
from gateway.delivery import Verdict
from gateway.pipeline import Answer, answer_json
from gateway.source import Source

log = logging.getLogger("gateway")

_PREFIX = len(b"/hooks/")
_NAME = re.compile(rb"[A-Za-z0-9._~-]{1,100}")


class Hooks:
    """The application below `/hooks/`."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        # The name as it was sent: other spellings of it are not found.
        name = scope["raw_path"][_PREFIX:]
        source = self._edge.pipeline.sources.get(name.decode("latin-1"))

        async def refuse(refused: Refused) -> None:
            self._edge.count_refusal(source, refused)
            body = http.problem(refused.status, refused.detail)
            await http.answer(
                send, refused.status, body, http.PROBLEM, refused.headers, close=refused.close
            )

        try:
            if source is None and not _NAME.fullmatch(name):
                raise Refused(HTTPStatus.NOT_FOUND, "not_found", close=True)
            answer = await self._take(source, scope, receive, refuse)
        except Refused as refused:
            await refuse(refused)
        except Disconnected:
            return
        else:
            await _send(send, answer)

    async def _take(
        self,
        source: Source | None,
        scope: HTTPScope,
        receive: Receive,
        refuse: Callable[[Refused], Awaitable[None]],
    ) -> Answer:
        http.require_post(scope, "use POST")
        _check_type(scope["headers"], source)
        needs_body = self._edge.authentication(source).needs_body
        if not needs_body and not await self._edge.is_authentic(source, scope, b""):
            raise _unauthorized()
        async with self._edge.body(scope, receive, self._edge.limits.body) as raw:
            if needs_body and not await self._edge.is_authentic(source, scope, raw):
                raise _unauthorized()
            if source is None:
                raise _unauthorized()
            answer = await self._edge.deliver(source, scope, raw, refuse)
        if answer.greeting is not None and answer.greeting.visit:
            await _visit(answer.greeting.visit, answer.source)
        return answer


def _check_type(headers: http.RawHeaders, source: Source | None) -> None:
    """Raises Refused for a body that nobody here can read, whatever is in it."""
    if (http.header(headers, b"content-encoding") or b"identity").lower() != b"identity":
        detail = "send the body without a content encoding"
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "encoding", detail, close=True)
    raw = http.header(headers, b"content-type")
    if raw == http.JSON:
        return
    content_type = (raw or b"").decode("latin-1")
    allowed = source.plan.media_types if source else ()
    if not bodies.is_readable(content_type) and bodies.media_type(content_type) not in allowed:
        detail = f"send JSON, or a form with the JSON in `payload`, not {content_type[:100]!r}"
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "media_type", detail, close=True)


def _unauthorized() -> Refused:
    # The same for an unknown source as for a wrong signature: it tells nothing of what is served. And
    # each guess costs its sender a connection.
    return Refused(HTTPStatus.UNAUTHORIZED, "unauthorized", close=True)


async def _visit(url: str, source: str) -> None:
    """Confirms a subscription. Raises Refused where that fails, so that the sender asks again."""
    failure = await visit.visited(url)
    if failure:
        log.warning("%s could not be confirmed: %s", source, failure)
        detail = f"the URL of the handshake could not be visited: {failure}"
        raise Refused(HTTPStatus.BAD_GATEWAY, "handshake", detail)
    log.info("%s is confirmed", source)


async def _send(send: Send, answer: Answer) -> None:
    if answer.malformed is not None:
        wrong = answer.malformed
        detail = f"the body is not JSON: line {wrong.line}, column {wrong.column}: {wrong.message}"
        body = http.problem(
            HTTPStatus.BAD_REQUEST,
            detail,
            delivery=answer.delivery_id,
            line=wrong.line,
            column=wrong.column,
        )
        await http.answer(send, HTTPStatus.BAD_REQUEST, body, http.PROBLEM)
    elif answer.greeting is not None and answer.greeting.answer is not None:
        said = answer.greeting.answer
        if isinstance(said, str):
            await http.answer(send, HTTPStatus.OK, said.encode(errors="replace"), http.TEXT)
        else:
            await http.answer(send, HTTPStatus.OK, msgspec.json.encode(said))
    elif answer.verdict is Verdict.REJECTED:
        body = http.problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "; ".join(str(reason) for reason in answer.reasons),
            source=answer.source,
            delivery=answer.delivery_id,
            outcome=answer.verdict,
            reasons=answer.reasons,
        )
        await http.answer(send, HTTPStatus.UNPROCESSABLE_ENTITY, body, http.PROBLEM)
    else:
        await http.answer(send, HTTPStatus.ACCEPTED, answer_json(answer))
