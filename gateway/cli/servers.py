"""The servers that commands are told to ask: whether a URL names one, and a connection to it."""

import http.client
import re
from urllib.parse import urlsplit

from gateway.settings import SettingsError


def is_server(url: str) -> bool:
    """Whether a URL names a server that can be asked over HTTP."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    # The rest is what http.client refuses, and only as it asks.
    asked = f"{parts.hostname}{parts.path}"
    return is_usable and not re.search(r"[\x00-\x20\x7f]", asked) and parts.path.isascii()


def connection(url: str, timeout: float) -> tuple[http.client.HTTPConnection, str]:
    """A connection to the server of `--url`, not opened yet, and the path that all of its paths begin
    with. Raises SettingsError."""
    if not is_server(url):
        raise SettingsError(f"--url is `{url}`, expected http://host:port")
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=timeout), parts.path.rstrip("/")


def why(error: OSError | http.client.HTTPException) -> str:
    """What kept a server from answering, on one line."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    if isinstance(error, http.client.BadStatusLine):
        return "what takes connections there speaks no HTTP"
    return " ".join(str(error).split()) or type(error).__name__
