"""Why a request does not prove its sender, in words: for the operator, never for the sender. Pure."""

from urllib.parse import urlencode

from gateway.authentication import (
    Authentication,
    Basic,
    Bearer,
    Hmac,
    Oidc,
    QueryToken,
    Scheme,
    StandardWebhooks,
    Token,
    epoch,
)
from gateway.delivery import Delivery

AUTHENTIC = "authentic"
REFUSED = "refused"


def judge(
    scheme: Scheme | None,
    authentication: Authentication,
    delivery: Delivery,
) -> str:
    """`authentic`, `open`, or `refused` and why."""
    if scheme is None:
        return "open: the mapping says `authenticate: none`"
    if verify(authentication, delivery):
        return AUTHENTIC
    if authentication.fault is not None:
        return f"{REFUSED}: {authentication.fault(_raw(delivery), delivery.received_at)}"
    return f"{REFUSED}: {_fault(scheme, delivery)}"


def verify(authentication: Authentication, delivery: Delivery) -> bool:
    """Whether a request is authentic that was put together again as a delivery."""
    query = urlencode(delivery.query).encode()
    raw = _raw(delivery)
    return authentication.verify(raw, delivery.body, delivery.received_at, query)


def _raw(delivery: Delivery) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in delivery.headers.items()
    ]


def carries_proof(scheme: Scheme | None, delivery: Delivery) -> bool:
    """Whether a request has anything that this scheme looks at."""
    if isinstance(scheme, QueryToken):
        return scheme.parameter in delivery.query
    return scheme is not None and any(name in delivery.headers for name, _ in _wanted(scheme))


def _wanted(scheme: Scheme) -> list[tuple[str, str]]:
    """The headers that a scheme looks at, in lower case, each with the prefix of its value."""
    match scheme:
        case Hmac():
            clock = [(scheme.timestamp_header.lower(), "")] if scheme.timestamp_header else []
            return [(scheme.header.lower(), scheme.prefix), *clock]
        case Token():
            return [(scheme.header.lower(), scheme.prefix)]
        case Bearer() | Oidc():
            return [("authorization", "Bearer ")]
        case Basic():
            return [("authorization", "Basic ")]
        case QueryToken():
            return []
        case StandardWebhooks():
            return [
                ("webhook-signature", "v1,"),
                ("webhook-timestamp", ""),
                ("webhook-id", ""),
            ]


def _fault(scheme: Scheme, delivery: Delivery) -> str:
    headers, now = delivery.headers, delivery.received_at
    if isinstance(scheme, QueryToken):
        is_there = scheme.parameter in delivery.query
        wrong = "carries another secret" if is_there else "is missing"
        return f"the parameter `{scheme.parameter}` of the URL {wrong}"
    for name, prefix in _wanted(scheme):
        if name not in headers:
            return f"the header `{name}` is missing"
        if not any(part.strip().startswith(prefix) for part in _parts(scheme, headers[name])):
            return f"the header `{name}` does not begin with `{prefix}`"
    match scheme:
        case Hmac() if scheme.timestamp_header:
            clock = scheme.timestamp_header.lower()
            stale = _staleness(clock, headers[clock], now, scheme)
        case Hmac() if scheme.timestamp_prefix:
            header, prefix = scheme.header.lower(), scheme.timestamp_prefix
            parts = [part.strip() for part in _parts(scheme, headers[header])]
            moments = [part.removeprefix(prefix) for part in parts if part.startswith(prefix)]
            stale = f"the header `{header}` has no time after `{prefix}`"
            if len(moments) == 1:
                stale = _staleness(header, moments[0], now, scheme)
        case StandardWebhooks():
            clock = "webhook-timestamp"
            stale = _staleness(clock, headers[clock], now, scheme)
        case _:
            stale = ""
    if stale:
        return stale
    name = _wanted(scheme)[0][0]
    if isinstance(scheme, Hmac | StandardWebhooks):
        return (
            f"the signature in `{name}` is not that of this body: the secrets differ, or the body is "
            "not byte for byte what was signed"
        )
    return f"what `{name}` carries is not the secret"


def _parts(scheme: Scheme, value: str) -> list[str]:
    separator = scheme.separator if isinstance(scheme, Hmac) else ""
    return value.split(separator) if separator else [value]


def _staleness(name: str, moment: str, now: float, scheme: Hmac | StandardWebhooks) -> str:
    form = scheme.timestamp_format if isinstance(scheme, Hmac) else "epoch"
    seconds = epoch(moment, form)
    if seconds is None:
        written = "in epoch seconds" if form == "epoch" else "in ISO 8601"
        return f"the header `{name}` is not a time {written}"
    away = abs(now - seconds)
    if away <= scheme.tolerance:
        return ""
    return (
        f"the time in `{name}` is {away:.0f} seconds away from now, {scheme.tolerance} are allowed"
    )
