"""The fields of a form or of a query string: names and values between `&`, as the bytes that they stand for."""

from urllib.parse import unquote_to_bytes

_PIECE = 64 * 1024


def fields(text: bytes, most: int, *, strict: bool = False) -> list[tuple[bytes, bytes]]:
    """Each name with its value, in their order. A field without `=` is a name with an empty value, and an
    error where this is strict; so is an empty field, which is left out elsewhere.

    Bytes throughout: the standard library's reader of bytes finds nothing but ASCII before Python 3.13.
    Raises ValueError for such a field, and for more than `most` of them.
    """
    if text.count(b"&") >= most:
        raise ValueError(f"more than {most:,} fields")
    found = []
    for field in text.split(b"&") if text else ():
        name, equals, value = field.partition(b"=")
        if strict and not equals:
            raise ValueError(f"the field `{_short(field)}` has no `=`")
        if field:
            found.append((_unquoted(name), _unquoted(value)))
    return found


def _unquoted(text: bytes) -> bytes:
    text = text.replace(b"+", b" ")
    # Piece by piece: of text that is all escapes, `unquote_to_bytes` takes seventy times the memory.
    pieces = []
    start = 0
    while start < len(text):
        end = start + _PIECE
        # An escape stays in one piece.
        escape = text.rfind(b"%", end - 2, end)
        end = end if escape < 0 else escape
        pieces.append(unquote_to_bytes(text[start:end]))
        start = end
    return b"".join(pieces)


def _short(field: bytes) -> str:
    shown = field[:60].decode(errors="replace")
    return shown if len(field) <= 60 else f"{shown}..."
