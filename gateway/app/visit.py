"""The one request that the gateway makes itself: a URL visited to confirm a subscription."""

import http.client
import ssl
from urllib.parse import urlsplit

TIMEOUT = 5
"""Seconds for each step; the sender waits for it."""


def fetch(url: str) -> str:
    """Visits an HTTPS URL, whose host was allowed before; empty where it answered 2xx, else why not.
    No redirect is followed, so it is that host's answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(
        parts.hostname or "", 443, timeout=TIMEOUT, context=ssl.create_default_context()
    )
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return "" if 200 <= status < 300 else f"it answered {status}"
