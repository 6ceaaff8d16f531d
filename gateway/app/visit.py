"""The one request that the gateway makes itself: a URL visited to confirm a subscription."""

import asyncio
import contextlib
import http.client
import ssl
import threading
from urllib.parse import urlsplit

TIMEOUT = 5
"""Seconds for each step."""
PATIENCE = 8
"""Seconds for all of it; the sender waits for it."""


async def visited(url: str) -> str:
    """`fetch` without its wait. The thread is given up where it takes too long, and when the process
    ends: a host that answers byte by byte, or a resolver that does not, keeps nobody."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def settle(failure: str) -> None:
        if not answer.done():
            answer.set_result(failure)

    def run() -> None:
        failure = fetch(url)
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits.
            loop.call_soon_threadsafe(settle, failure)

    threading.Thread(target=run, name="visit", daemon=True).start()
    try:
        async with asyncio.timeout(PATIENCE):
            return await answer
    except TimeoutError:
        return f"it did not answer within {PATIENCE} seconds"
    except asyncio.CancelledError:
        return "the gateway stops"


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
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return "" if 200 <= status < 300 else f"it answered {status}"
