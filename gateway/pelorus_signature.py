"""The other texts that a Pelorus sender may have signed in place of the body it sent.

Pelorus documents signing a file in two ways, `echo -n $(cat FILE)` and `jq -c`, and then posting it
with `curl -d @FILE`, which strips line breaks: what is signed is not what is sent. Its own exporter
tries several spacings of the JSON. The spacings here are those; tokens stay as they were sent, and
are tried once more as `jq` and Python would spell them.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

SOURCE = "pelorus"
"""The source whose senders sign this way."""
MAX_BODY = 2 * 1024
"""Bytes. Pelorus's payloads have a few hundred; a longer body is tried only as it is, because whoever
sends a wrong signature has all of them tried."""

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
_SEPARATORS = ((b", ", b": "), (b",", b":"), (b", ", b":"), (b",", b" :"), (b", ", b" :"))


def spellings(body: bytes) -> Iterator[bytes]:
    """Texts that mean the same JSON object as `body`; nothing where it is none."""
    if len(body) > MAX_BODY:
        return
    try:
        # As UTF-8 alone: the bytes of other encodings may be quotes that never close.
        value = json.loads(body.decode())
        # What can be read may still be nested too deeply to be written again.
        respelled = tuple(_respelled(value))
    except (ValueError, RecursionError):
        return
    if not isinstance(value, dict):
        return
    yield body + b"\n"
    for tokens in {tuple(_TOKEN.findall(text)) for text in (body, *respelled)}:
        for comma, colon in _SEPARATORS:
            spaced = b"".join(_spaced(tokens, comma, colon))
            inner = spaced.strip()[1:-1]
            for text in (spaced, b"{ " + inner + b" }"):
                yield text
                yield text + b"\n"


def _respelled(value: Any) -> Iterator[bytes]:
    yield json.dumps(value).encode()
    yield json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _spaced(tokens: tuple[bytes, ...], comma: bytes, colon: bytes) -> Iterator[bytes]:
    for token in tokens:
        if token == b",":
            yield comma
        elif token == b":":
            yield colon
        else:
            yield token
