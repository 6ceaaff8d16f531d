"""One HTTP request of the doctor's: the answer with the time at which it was given, or why there is none."""

import base64
import http.client
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urlsplit

from msgspec import Struct

TIMEOUT = 10.0
"""Seconds."""
MOST = 64 * 1024 * 1024
"""Bytes of an answer that are read."""


class NoAnswer(Exception):
    """Nobody answers, or what answers speaks no HTTP. `is_silent` where nothing takes connections."""

    def __init__(self, sentence: str, *, is_silent: bool = False) -> None:
        super().__init__(sentence)
        self.is_silent = is_silent


class Answer(Struct, frozen=True):
    """`at` is this machine's time at the answer, `date` that of its `Date` header, None where it has
    none; both in epoch seconds."""

    status: int
    body: bytes
    at: float
    date: float | None


def get(url: str, path: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    """Asks a server directly, through no proxy of the environment. A name and a password in the URL are
    sent as such. Raises NoAnswer."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT)
    sent = dict(headers or {})
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        sent["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}{path}", headers=sent)
        response = connection.getresponse()
        at = time.time()
        body = response.read(MOST)
    except ConnectionRefusedError as error:
        raise NoAnswer("nothing takes connections there", is_silent=True) from error
    except ssl.SSLCertVerificationError as error:
        raise NoAnswer(
            f"its certificate is not to be trusted ({error.verify_message}); for an authority of your own "
            "set SSL_CERT_FILE to its certificate"
        ) from error
    except OSError as error:
        raise NoAnswer(str(error.strerror or error)) from error
    except http.client.HTTPException as error:
        raise NoAnswer("what takes connections there speaks no HTTP") from error
    finally:
        connection.close()
    return Answer(response.status, body, at, _date(response.getheader("date")))


def _date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except ValueError:
        return None
