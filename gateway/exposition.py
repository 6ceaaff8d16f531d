"""Series and the gateway's own counters as a scrape reads them.

A window of a hundred thousand series is tens of megabytes of text, of which a scrape finds most as the
one before it left it. So chunks of lines are rendered, and compressed, once, and put together anew. What
comes out is one gzip member, not one for each chunk: browsers and curl read the first member alone.
"""

import re
from collections.abc import Iterable, Iterator

from isal import isal_zlib

from gateway.series import Chunk, Family, Rendered, heading

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


def render(
    own: bytes, families: Iterable[Family], *, openmetrics: bool, compressed: bool = False
) -> bytes:
    """The body of a scrape: `own` counters as they are, then each family with its samples; with gzip
    where it is to be compressed. Can run in a thread beside the fold."""
    pieces = _pieces(own, families, openmetrics=openmetrics, compressed=compressed)
    return _gzip(pieces) if compressed else b"".join(piece.body for piece in pieces)


def _pieces(
    own: bytes, families: Iterable[Family], *, openmetrics: bool, compressed: bool
) -> Iterator[Rendered]:
    plain = [own]
    for family in families:
        plain.append(heading(family.name, family.help, openmetrics=openmetrics).encode())
        if family.chunks:
            yield _piece(b"".join(plain), compressed=compressed)
            plain.clear()
        for chunk in family.chunks:
            yield _rendered(chunk, openmetrics=openmetrics, compressed=compressed)
    if openmetrics:
        plain.append(b"# EOF\n")
    yield _piece(b"".join(plain), compressed=compressed)


def _rendered(chunk: Chunk, *, openmetrics: bool, compressed: bool) -> Rendered:
    key = f"{openmetrics} {compressed}"
    known = chunk.rendered.get(key)
    if known is None:
        if openmetrics:
            text = "".join([line.openmetrics for line in chunk.lines])
        else:
            text = "".join([line.text for line in chunk.lines])
        known = chunk.rendered[key] = _piece(text.encode(), compressed=compressed)
    return known


# Compression

_LEVEL = 1
_RAW = -15
_HEADER = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 4, 255))
"""Of a gzip member made with deflate, without a name or time, by the fastest means."""
_END = bytes((3, 0))
"""The last block of deflate, with nothing in it."""


def _piece(plain: bytes, *, compressed: bool) -> Rendered:
    if not compressed:
        return Rendered(plain)
    deflate = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW)
    # A full flush ends at a byte, and refers to nothing before it.
    body = deflate.compress(plain) + deflate.flush(isal_zlib.Z_FULL_FLUSH)
    return Rendered(body, isal_zlib.crc32(plain) ^ _past_zeros(0, len(plain)), len(plain))


def _gzip(pieces: Iterable[Rendered]) -> bytes:
    """One gzip member of what was compressed piece by piece."""
    parts, checksum, length = [_HEADER], 0, 0
    for piece in pieces:
        parts.append(piece.body)
        # CRC is linear: what comes before has the effect that it has before as many zeros, and the
        # piece's own share was computed when it was compressed.
        checksum = _past_zeros(checksum, piece.length) ^ piece.checksum
        length += piece.length
    trailer = checksum.to_bytes(4, "little") + (length % 2**32).to_bytes(4, "little")
    return b"".join([*parts, _END, trailer])


_ZEROS = memoryview(bytes(256 * 1024))


def _past_zeros(checksum: int, count: int) -> int:
    """The checksum of what has this one and so many zeros after it."""
    while count > 0:
        checksum = isal_zlib.crc32(_ZEROS[:count], checksum)
        count -= len(_ZEROS)
    return checksum
