"""Why a request does not prove its sender, in words: for the operator, never for the sender. Pure."""

from collections.abc import Mapping

from gateway.authentication import (
    Authentication,
    Basic,
    Bearer,
    Hmac,
    Scheme,
    StandardWebhooks,
    Token,
)

AUTHENTIC = "authentic"
REFUSED = "refused"


def judge(
    scheme: Scheme | None,
    authentication: Authentication,
    headers: Mapping[str, str],
    body: bytes,
    now: float,
) -> str:
    """`authentic`, `open`, or `refused` and why. Header names are in lower case."""
    if scheme is None:
        return "open: the mapping says `authenticate: none`"
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    if authentication.verify(raw, body, now):
        return AUTHENTIC
    return f"{REFUSED}: {_fault(scheme, headers, now)}"


def carries_proof(scheme: Scheme | None, headers: Mapping[str, str]) -> bool:
    """Whether a request has any of the headers that this scheme looks at."""
    return scheme is not None and any(name in headers for name, _ in _wanted(scheme))


def _wanted(scheme: Scheme) -> list[tuple[str, str]]:
    """The headers that a scheme looks at, in lower case, each with the prefix of its value."""
    match scheme:
        case Hmac():
            clock = [(scheme.timestamp_header.lower(), "")] if scheme.timestamp_header else []
            return [(scheme.header.lower(), scheme.prefix), *clock]
        case Token():
            return [(scheme.header.lower(), scheme.prefix)]
        case Bearer():
            return [("authorization", "Bearer ")]
        case Basic():
            return [("authorization", "Basic ")]
        case StandardWebhooks():
            return [
                ("webhook-signature", "v1,"),
                ("webhook-timestamp", ""),
                ("webhook-id", ""),
            ]


def _fault(scheme: Scheme, headers: Mapping[str, str], now: float) -> str:
    for name, prefix in _wanted(scheme):
        if name not in headers:
            return f"the header `{name}` is missing"
        if not headers[name].startswith(prefix):
            return f"the header `{name}` does not begin with `{prefix}`"
    match scheme:
        case Hmac() if scheme.timestamp_header:
            stale = _staleness(scheme.timestamp_header.lower(), headers, now, scheme.tolerance)
        case StandardWebhooks():
            stale = _staleness("webhook-timestamp", headers, now, scheme.tolerance)
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


def _staleness(name: str, headers: Mapping[str, str], now: float, tolerance: int) -> str:
    moment = headers[name]
    if not moment.isascii() or not moment.isdigit() or len(moment) > 12:
        return f"the header `{name}` is not a time in epoch seconds"
    away = abs(now - int(moment))
    if away <= tolerance:
        return ""
    return f"the time in `{name}` is {away:.0f} seconds away from now, {tolerance} are allowed"
