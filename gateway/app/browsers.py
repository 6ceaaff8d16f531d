"""Keeps the internal listener from pages in somebody's browser, which may reach it where their authors cannot."""

import ipaddress
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from gateway.app import http

_OWN_SITES = (b"same-origin", b"none")


def no_pages(app: ASGIApp, bound: str, named: str, refused: Callable[[str], None]) -> ASGIApp:
    """The application without requests that a page of another site makes: 403 for each, and `refused` is
    told the reason.

    `bound` is the address that is listened on, `named` what the operator calls it. On a loopback
    address a name in `Host` must be that one or `localhost`: any other may be a page's, whose author has
    it resolve to this machine, and the page could read the answers as its own.
    """
    names = {"localhost", named.lower()} if ipaddress.ip_address(bound).is_loopback else None

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        # The server is told to serve no other protocol.
        detail = _objection(cast("HTTPScope", scope), names)
        if detail is None:
            await app(scope, receive, send)
            return
        refused("browser")
        body = http.problem(HTTPStatus.FORBIDDEN, detail)
        await http.answer(send, HTTPStatus.FORBIDDEN, body, http.PROBLEM, close=True)

    return guarded


def _objection(scope: HTTPScope, names: set[str] | None) -> str | None:
    """Why a request may be a page's; None where it is not."""
    headers = scope["headers"]
    host = (http.header(headers, b"host") or b"").lower()
    own = (b"http://" + host, b"https://" + host)
    if any(value.lower() not in own for name, value in headers if name == b"origin"):
        return "a page of another origin may ask nothing here"
    sites = [value for name, value in headers if name == b"sec-fetch-site"]
    if scope["method"] == "POST" and any(one not in _OWN_SITES for one in sites):
        return "a page of another site may ask for nothing to be done here"
    if names is not None and host and not _is_address_or(names, host.decode("latin-1")):
        return "this address is for this machine alone: name it by its IP address or as localhost"
    return None


def _is_address_or(names: set[str], host: str) -> bool:
    """Whether a `Host` is an IP address or one of the names, with or without a port."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name.removesuffix(".") in names:
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
