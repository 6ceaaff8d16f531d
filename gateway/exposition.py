"""Series and the gateway's own counters as a scrape reads them."""

import re
from collections.abc import Iterable

from gateway.series import Family

# The framework adds the charset to text by itself.
TEXT = "text/plain; version=0.0.4"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def wants_openmetrics(accept: str) -> bool:
    """Whether an `Accept` header ranks OpenMetrics at least as high as the text format."""
    ranks = {"application/openmetrics-text": 0.0, "text/plain": 0.0, "*/*": 0.0}
    for part in accept.lower().split(","):
        name, _, parameters = part.partition(";")
        quality = re.search(r"\bq=([01](?:\.\d{0,3})?)", parameters)
        if name.strip() in ranks:
            rank = float(quality[1]) if quality else 1.0
            ranks[name.strip()] = max(ranks[name.strip()], rank)
    openmetrics = ranks["application/openmetrics-text"]
    return openmetrics > 0 and openmetrics >= ranks["text/plain"]


def wants_gzip(accept_encoding: str) -> bool:
    """Whether an `Accept-Encoding` header takes gzip."""
    for part in accept_encoding.lower().split(","):
        name, _, parameters = part.partition(";")
        if name.strip() in ("gzip", "*"):
            return not re.search(r"\bq=0(\.0*)?\s*$", parameters)
    return False


def render(own: bytes, families: Iterable[Family], *, openmetrics: bool) -> bytes:
    """The body of a scrape: `own` counters as they are, then each family with its samples."""
    parts: list[str] = []
    for family in families:
        parts.append(f"# HELP {family.name} {family.help}\n# TYPE {family.name} gauge\n")
        if openmetrics:
            parts += [line.openmetrics for line in family.lines]
        else:
            parts += [line.text for line in family.lines]
    if openmetrics:
        parts.append("# EOF\n")
    return own + "".join(parts).encode()
