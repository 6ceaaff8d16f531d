"""Errors of the ordinary routes as problem documents."""

import logging
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException

from gateway.app import http

log = logging.getLogger("gateway")


def problem_response(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Errors of ordinary routes as problem documents; a bug stays a bare 500, its traceback logged."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("a bug", exc_info=error)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return Response(
        http.problem(status), status_code=status, media_type=http.PROBLEM.decode(), headers=headers
    )
