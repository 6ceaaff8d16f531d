"""A raw HTTP request, as a `.http` file or a capture holds it, into headers, query and body. Pure."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct


class Request(Struct, frozen=True, kw_only=True):
    """What a sender posts.

    `headers` keep the spelling of their names; several of one name, in whatever case, are joined by
    a comma under the first spelling. `query` holds the first value of each parameter.
    """

    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


class RequestError(Exception):
    """The text is no request; `line` counts from 1."""

    def __init__(self, message: str, line: int, mend: str = "") -> None:
        super().__init__(f"line {line}: {message}" + (f"; {mend}" if mend else ""))
        self.message = message
        self.line = line
        self.mend = mend


_LINE = re.compile(rb"[^\n]*\n|[^\n]+\Z")
_SEPARATOR = b"###"
_COMMENT = re.compile(r"#|//")
_VARIABLE = re.compile(r"@[\w.-]+\s*=")
_REQUEST_LINE = re.compile(
    r"(?:[A-Z]{3,10}\s+)?(?P<target>https?://\S+|/\S*|\{\{\S*)(?:\s+HTTP/[0-9.]+)?"
)
_HEADER = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:(?P<value>.*)")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BODY_FILE = re.compile(rb"<@?[ \t]+\S")


def is_utf16(raw: bytes) -> bool:
    """Whether a text is in the encoding that PowerShell's `>` writes, and no sender of webhooks."""
    return raw.startswith((b"\xff\xfe", b"\xfe\xff"))


def is_request(raw: bytes) -> bool:
    """Whether a text begins like a request rather than like JSON."""
    for line in _lines(raw.removeprefix(b"\xef\xbb\xbf")):
        text = _text(line)
        if text.strip() and not _is_remark(text):
            return bool(_REQUEST_LINE.fullmatch(text.strip()) or _HEADER.fullmatch(text))
    return False


def read(raw: bytes) -> Request:
    """The one request of a text. Raises RequestError."""
    first, *others = read_all(raw)
    if others:
        line = next(
            number
            for number, line in enumerate(_lines(raw), start=1)
            if number > 1 and line.startswith(_SEPARATOR)
        )
        mend = "keep one of them, or give each a file of its own"
        raise RequestError(f"{len(others) + 1} requests stand here, one is wanted", line, mend)
    return first


def read_all(raw: bytes) -> tuple[Request, ...]:
    """The requests of a text, one after the other with `###` between them. Raises RequestError.

    Line breaks are LF or CRLF. The request line may be left out, or be a bare URL. Before the body,
    lines that begin with `#` or `//` are remarks. One line break at the end of the body belongs to
    the file, unless `Content-Length` counts it.
    """
    parts: list[tuple[int, list[bytes]]] = [(1, [])]
    for number, line in enumerate(_lines(raw.removeprefix(b"\xef\xbb\xbf")), start=1):
        if line.startswith(_SEPARATOR):
            parts.append((number + 1, []))
        else:
            parts[-1][1].append(line)
    written = [(first, lines) for first, lines in parts if _says_something(lines)]
    if not written:
        mend = "write headers, an empty line, and the body"
        raise RequestError("there is no request", 1, mend)
    return tuple(_request(first, lines) for first, lines in written)


def header(text: str) -> tuple[str, str]:
    """Name and value of one header, written `Name: value`. Raises RequestError."""
    name, value = _header(text, 1)
    # As the same header in a file: a value is bytes, and goes out as those that were typed.
    return name, value.encode(errors="surrogateescape").decode("latin-1")


def _lines(raw: bytes) -> list[bytes]:
    return _LINE.findall(raw)


def _text(line: bytes) -> str:
    # Latin-1 keeps every byte as it is, which is how a server reads a header too.
    return line.decode("latin-1").removesuffix("\n").removesuffix("\r")


def _is_remark(text: str) -> bool:
    return bool(_COMMENT.match(text) or _VARIABLE.match(text))


def _says_something(lines: list[bytes]) -> bool:
    texts = [_text(line) for line in lines]
    return any(text.strip() and not _is_remark(text) for text in texts)


def _request(first: int, lines: list[bytes]) -> Request:
    found: dict[str, tuple[str, str]] = {}
    query: dict[str, str] = {}
    in_head = False
    rest = len(lines)
    for index, line in enumerate(lines):
        text, number = _text(line), first + index
        if not text.strip():
            if in_head:
                rest = index + 1
                break
            continue
        if _is_remark(text):
            continue
        if text[0] in " \t" and in_head:
            message = "a line of a header's value begins with a blank"
            raise RequestError(message, number, "write each header on one line")
        target = None if in_head else _REQUEST_LINE.fullmatch(text.strip())
        in_head = True
        if target is not None:
            query = _query(target["target"], number)
            continue
        name, value = _header(text, number)
        spelled, before = found.get(name.lower(), (name, ""))
        found[name.lower()] = (spelled, f"{before}, {value}" if name.lower() in found else value)
    body = _body(lines[rest:], first + rest, found.get("content-length", ("", ""))[1])
    return Request(headers=dict(found.values()), query=query, body=body)


def _header(text: str, number: int) -> tuple[str, str]:
    matched = _HEADER.fullmatch(text.strip(" \t\r\n"))
    if matched is None:
        mend = "write headers as `Name: value`, and an empty line before the body"
        raise RequestError(f"`{_short(text)}` is no header", number, mend)
    value = matched["value"].strip(" \t")
    if _CONTROL.search(value):
        message = f"the value of `{matched['name']}` holds a control character"
        raise RequestError(message, number, "remove it")
    return matched["name"], value


def _short(text: str) -> str:
    shown = "".join(char if char.isprintable() else "�" for char in text.strip())
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _query(target: str, number: int) -> dict[str, str]:
    try:
        pairs = parse_qsl(urlsplit(target).query, keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise RequestError(f"`{_short(target)}` is no URL: {error}", number) from None
    query: dict[str, str] = {}
    for name, value in pairs:
        query.setdefault(name, value)
    return query


def _body(lines: list[bytes], first: int, length: str) -> bytes:
    body = b"".join(lines)
    if _BODY_FILE.match(body.lstrip()):
        line = first + next(index for index, line in enumerate(lines) if line.strip())
        mend = "write the body itself here"
        raise RequestError("the body is a reference to a file", line, mend)
    if length.isascii() and length.isdigit() and len(length) <= 12 and int(length) == len(body):
        return body
    return body.removesuffix(b"\n").removesuffix(b"\r")
