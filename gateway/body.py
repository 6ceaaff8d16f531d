"""The bytes of a request body read as JSON, or the line and column where they stop being JSON."""

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

from gateway import urlencoded

Decode = Callable[[bytes], Any]
"""Makes a JSON value of bytes. Raises what `msgspec.json.decode` does."""

FORM = "application/x-www-form-urlencoded"
MAX_VALUES = 2_000_000
"""Values of a body. Small ones take many times their bytes in memory, and whoever builds them keeps the
interpreter from everyone else. Real deliveries have one in twenty bytes or more, and 25 MiB at most."""
MAX_FIELDS = 1_000
"""Fields of a form."""
_PAYLOAD_FIELD = "payload"
_BYTE_OFFSET = re.compile(r" \(byte (\d+)\)$")
_JSON_PATH = re.compile(r" - at `[^`]*`$")


class NotJSON(Exception):
    """The body is not JSON. `line` and `column` count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message = message
        self.line = line
        self.column = column


def media_type(content_type: str) -> str:
    """`application/json` from `application/json; charset=utf-8`."""
    return content_type.partition(";")[0].strip().lower()


def is_json(content_type: str) -> bool:
    """Whether a content type says JSON, by any of its names; a missing type counts as JSON."""
    kind = media_type(content_type)
    return kind in ("", "application/json") or (
        kind.startswith("application/") and kind.endswith("+json")
    )


def is_readable(content_type: str) -> bool:
    """Whether a body of this content type can be read."""
    return is_json(content_type) or media_type(content_type) == FORM


def read(body: bytes, content_type: str, decode: Decode = msgspec.json.decode) -> Any:
    """The JSON value of a body, of the `payload` field of a form, or of a form's fields, as far as
    `decode` builds it.

    Raises NotJSON, also for NaN, lone surrogates, invalid UTF-8, and for nesting too deep or more values
    than are read.
    """
    if media_type(content_type) == FORM:
        body = _form(body)
    if len(body) > MAX_VALUES and sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise NotJSON(f"more than {MAX_VALUES:,} values", *_position(body, len(body)))
    try:
        return decode(body)
    except RecursionError:
        raise NotJSON("nested too deeply", *_position(body, _deepest(body))) from None
    except UnicodeDecodeError as error:
        raise NotJSON("invalid UTF-8", *_position(body, _utf8_error(body))) from error
    except ValueError as error:
        raise _fault(body, error) from error


def _fault(body: bytes, error: ValueError) -> NotJSON:
    """The fault with its place: the standard library's where it finds one too, since it points at
    the start of what is wrong; it takes more than JSON, so else the reader's own."""
    try:
        json.loads(body)
    except json.JSONDecodeError as found:
        return NotJSON(found.msg[:1].lower() + found.msg[1:], found.lineno, found.colno)
    except (ValueError, RecursionError):
        pass
    message = _JSON_PATH.sub("", str(error).removeprefix("JSON is malformed: "))
    offset = _BYTE_OFFSET.search(message)
    place = int(offset[1]) if offset else len(body)
    return NotJSON(_BYTE_OFFSET.sub("", message), *_position(body, place))


def _form(body: bytes) -> bytes:
    """The JSON in the field `payload` of a form, or its fields as JSON where it has none. Of fields of one
    name the first counts."""
    try:
        fields = urlencoded.fields(body, MAX_FIELDS, strict=True)
    except ValueError as error:
        raise NotJSON(f"not a form: {error}", 1, 1) from error
    found = {_utf8(name, "the name of a field"): value for name, value in reversed(fields)}
    if _PAYLOAD_FIELD in found:
        return found[_PAYLOAD_FIELD]
    texts = {name: _utf8(value, f"the field `{name[:60]}`") for name, value in found.items()}
    return msgspec.json.encode(texts)


def _utf8(text: bytes, what: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise NotJSON(f"not a form: {what} is not UTF-8", 1, 1) from error


def _utf8_error(body: bytes) -> int:
    # msgspec reports an offset within one string of the body; the body's own is wanted.
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(body)


def _deepest(body: bytes, limit: int = 900) -> int:
    """Offset of the first bracket nested deeper than any reader takes; quotes are respected."""
    depth = 0
    for token in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', body):
        first = token.group()[:1]
        depth += (first in b"[{") - (first in b"]}")
        if depth > limit:
            return token.start()
    return len(body)


def _position(body: bytes, offset: int) -> tuple[int, int]:
    before = body[:offset]
    return before.count(b"\n") + 1, offset - (before.rfind(b"\n") + 1) + 1
