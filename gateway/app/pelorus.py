"""`POST /pelorus/webhook`: the route of Pelorus's own exporter, for senders that already speak to it.

Headers, bodies, status codes and the order of the checks are that exporter's; so are its answers,
down to their words. What is mapped and kept is the source `pelorus`.
"""

import json
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec
from litestar.types import HTTPScope, Receive, Send

from gateway.app import http
from gateway.app.edge import Edge
from gateway.app.http import Disconnected, Refused
from gateway.body import is_json
from gateway.delivery import Verdict
from gateway.pelorus_signature import SOURCE
from gateway.source import Source

MAX_BODY = 100_000
MAX_REPEATED = 1_000
"""Characters of a body that is no JSON, in its answer."""
_USER_AGENT = b"pelorus-webhook/"
_EVENT = b"x-pelorus-event"
_SIGNATURE = b"x-hub-signature-256"
_EVENTS = (b"committime", b"deploytime", b"failure", b"ping")
_SIGNATURE_FORM = re.compile(rb"sha256=[0-9a-fA-F]{64}")
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Answered(Exception):
    """The answer is known before the delivery reaches the pipeline."""

    def __init__(self, status: HTTPStatus, detail: object, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.detail = detail
        self.reason = reason


class PelorusWebhook:
    """The application at `/pelorus/webhook`."""

    path = b"/pelorus/webhook"

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        source = self._edge.pipeline.sources.get(SOURCE)

        async def refuse(refused: Refused) -> None:
            self._edge.count_refusal(source, refused)
            detail = refused.detail or refused.status.phrase
            if refused.status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                detail = "Content length too big."
            await _send(
                send, refused.status, {"detail": detail}, refused.headers, close=refused.close
            )

        try:
            status, document = await self._take(source, scope, receive, refuse)
        except _Answered as answered:
            refused = Refused(answered.status, answered.reason)
            if answered.status >= HTTPStatus.BAD_REQUEST:
                self._edge.count_refusal(source, refused)
            await _send(send, answered.status, {"detail": answered.detail})
        except Refused as refused:
            await refuse(refused)
        except Disconnected:
            return
        else:
            await _send(send, status, document)

    async def _take(
        self,
        source: Source | None,
        scope: HTTPScope,
        receive: Receive,
        refuse: Callable[[Refused], Awaitable[None]],
    ) -> tuple[HTTPStatus, object]:
        http.require_post(scope, "Method Not Allowed")
        headers = scope["headers"]
        async with self._edge.body(scope, receive, MAX_BODY) as raw:
            _check_request(headers, raw)
            user_agent = http.header(headers, b"user-agent") or b""
            if not user_agent.lower().startswith(_USER_AGENT):
                raise _Answered(
                    HTTPStatus.PRECONDITION_FAILED, "Unsupported request.", "user_agent"
                )
            _check_headers(headers)
            if source is None:
                # Never open without saying so; a sender learns no more than a wrong signature tells.
                raise _unauthentic("Invalid signature.")
            if source.authentication.headers and http.header(headers, _SIGNATURE) is None:
                raise _unauthentic("Non existing signature.")
            if not await self._edge.is_authentic(source, scope, raw):
                raise _unauthentic("Invalid signature.")
            answer = await self._edge.deliver(source, scope, raw, refuse)
        if http.header(headers, _EVENT) == b"ping":
            return HTTPStatus.OK, {"detail": "pong"}
        if answer.verdict in (Verdict.REJECTED, Verdict.DEAD_LETTERED):
            return HTTPStatus.UNPROCESSABLE_ENTITY, {"detail": "Invalid payload."}
        return HTTPStatus.ACCEPTED, {
            "http_response": "Webhook Received",
            "http_response_code": HTTPStatus.OK,
        }


def _unauthentic(detail: str) -> _Answered:
    return _Answered(HTTPStatus.BAD_REQUEST, detail, "unauthorized")


def _check_request(headers: http.RawHeaders, raw: bytes) -> None:
    """What Pelorus's framework checks before its own code runs: a length, and a JSON object."""
    problems: list[dict[str, Any]] = []
    if http.header(headers, b"content-length") is None:
        problems.append(_missing("header", "content-length"))
    problem = _body_problem(headers, raw)
    if problem is not None and problem["type"] == "value_error.jsondecode":
        problems = [problem]
    elif problem is not None:
        problems.append(problem)
    if problems:
        raise _Answered(HTTPStatus.UNPROCESSABLE_ENTITY, problems, "not_json")


def _body_problem(headers: http.RawHeaders, raw: bytes) -> dict[str, Any] | None:
    content_type = (http.header(headers, b"content-type") or b"").decode("latin-1")
    value: Any = "" if raw else None
    if raw and is_json(content_type):
        try:
            # The standard library's parser, because its messages are part of the answer.
            value = json.loads(raw)
        except (ValueError, RecursionError) as error:
            # The standard library lets half a surrogate pair through, which no answer can repeat.
            if isinstance(error, json.JSONDecodeError) and not _SURROGATE.search(error.doc):
                return _not_json(error)
            detail = "There was an error parsing the body"
            raise _Answered(HTTPStatus.BAD_REQUEST, detail, "not_json") from None
    if value is None:
        return _missing("body")
    if not isinstance(value, dict):
        return {"loc": ["body"], "msg": "value is not a valid dict", "type": "type_error.dict"}
    return None


def _missing(*location: str) -> dict[str, Any]:
    return {"loc": list(location), "msg": "field required", "type": "value_error.missing"}


def _not_json(error: json.JSONDecodeError) -> dict[str, Any]:
    context = {
        "msg": error.msg,
        # Pelorus repeats it all, six times as long where it is written as escapes, to whoever asks.
        "doc": error.doc[:MAX_REPEATED],
        "pos": error.pos,
        "lineno": error.lineno,
        "colno": error.colno,
    }
    return {
        "loc": ["body", error.pos],
        "msg": str(error),
        "type": "value_error.jsondecode",
        "ctx": context,
    }


def _check_headers(headers: http.RawHeaders) -> None:
    signature = http.header(headers, _SIGNATURE)
    well_formed = signature is None or _SIGNATURE_FORM.fullmatch(signature)
    if http.header(headers, _EVENT) not in _EVENTS or not well_formed:
        raise _Answered(HTTPStatus.BAD_REQUEST, "Improper headers.", "headers")


async def _send(
    send: Send,
    status: HTTPStatus,
    document: object,
    headers: http.RawHeaders = (),
    *,
    close: bool = False,
) -> None:
    body = msgspec.json.encode(document)
    await http.answer(send, status, body, headers=headers, close=close)
