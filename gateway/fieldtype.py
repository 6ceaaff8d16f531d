"""The types that a model's field may have: what each takes from a payload, and what it becomes.

A type turns a raw JSON value into text or a number, or says in one sentence why it cannot. Nothing
here guesses: a value that could mean two things is an error that shows the value.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.event import FieldValue

Read = Callable[[Any, timezone | None], FieldValue]
"""Raw value and the offset declared for timestamps without one, to the field's value.
Raises FieldError."""

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
LATEST = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
DEFAULT_TEXT_LENGTH = 200
MAX_TEXT_LENGTH = 1_000

# C0 and C1 controls, line and paragraph separators: none of them belongs in a label.
_NO_CONTROLS = "^[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]*$"


class FieldError(Exception):
    """A raw value is not of the field's type; the message shows the value."""


class FieldType(StrEnum):
    """The names that a model file uses."""

    APP = "app"
    CHOICE = "choice"
    GIT_SHA = "git-sha"
    IMAGE_DIGEST = "image-digest"
    NAMESPACE = "namespace"
    NUMBER = "number"
    TEXT = "text"
    TIMESTAMP = "timestamp"
    URL = "url"


def reader(kind: FieldType, max_length: int | None, choices: tuple[str, ...]) -> Read:
    """The function that reads a field of this type.

    `max_length` counts characters and applies to types that are text; `choices` to `choice`.
    """
    match kind:
        case FieldType.TIMESTAMP:
            return _timestamp
        case FieldType.NUMBER:
            return _number
        case FieldType.CHOICE:
            return _choice(choices)
        case FieldType.GIT_SHA:
            return _lower(_pattern("[0-9a-f]{7,64}", "a git SHA (7 to 64 hexadecimal digits)"))
        case FieldType.IMAGE_DIGEST:
            description = "an image digest (`sha256:` and 64 hexadecimal digits)"
            return _lower(_pattern("sha256:[0-9a-f]{64}", description))
        case FieldType.NAMESPACE:
            return _words(min(max_length or 63, 63))
        case FieldType.URL:
            return _url(max_length or MAX_TEXT_LENGTH)
        case FieldType.APP | FieldType.TEXT:
            return _words(max_length or DEFAULT_TEXT_LENGTH)


def _text(raw: Any) -> str:
    # Whole numbers are how many systems spell their ids; anything else is a mapping's mistake.
    if isinstance(raw, int) and not isinstance(raw, bool) and abs(raw) < 2**63:
        return str(raw)
    if not isinstance(raw, str):
        raise FieldError(f"expected text, got {_shown(raw)}")
    return raw


def _validator(constraint: Meta) -> Callable[[str], str]:
    """A check of text, raising msgspec's ValidationError. It is a struct of one member, because
    msgspec takes apart any other type anew at every use."""
    struct = msgspec.defstruct("Text", [("text", Annotated[str, constraint])])

    def valid(text: str) -> str:
        msgspec.convert({"text": text}, struct)
        return text

    return valid


def _words(max_length: int) -> Read:
    valid = _validator(Meta(min_length=1, max_length=max_length, pattern=_NO_CONTROLS))

    def read(raw: Any, _offset: timezone | None) -> FieldValue:
        text = _text(raw).strip()
        # What almost every text is; the validator alone says what any other may be.
        if 0 < len(text) <= max_length and text.isprintable():
            return text
        try:
            return valid(text)
        except msgspec.ValidationError:
            raise FieldError(_words_problem(text, max_length)) from None

    return read


def _words_problem(text: str, max_length: int) -> str:
    if not text:
        return "expected text, got an empty one"
    if len(text) > max_length:
        return f"expected at most {max_length} characters, got {len(text)}: {_shown(text)}"
    return f"expected text without control characters, got {_shown(text)}"


def _pattern(pattern: str, description: str) -> Read:
    matches = re.compile(pattern, re.ASCII).fullmatch

    def read(raw: Any, _offset: timezone | None) -> FieldValue:
        if isinstance(raw, str) and matches(text := raw.strip()):
            return text
        raise FieldError(f"expected {description}, got {_shown(raw)}")

    return read


def _lower(read: Read) -> Read:
    return lambda raw, offset: read(raw.lower() if isinstance(raw, str) else raw, offset)


def _url(max_length: int) -> Read:
    words = _words(max_length)

    def read(raw: Any, offset: timezone | None) -> FieldValue:
        text = words(raw, offset)
        if not re.match(r"https?://[^\s/]", str(text)):
            raise FieldError(f"expected an http or https URL, got {_shown(raw)}")
        return text

    return read


def _choice(choices: tuple[str, ...]) -> Read:
    def read(raw: Any, _offset: timezone | None) -> FieldValue:
        if isinstance(raw, str) and raw in choices:
            return raw
        raise FieldError(f"expected one of {', '.join(choices)}, got {_shown(raw)}")

    return read


def _number(raw: Any, _offset: timezone | None) -> FieldValue:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise FieldError(f"expected a number, got {_shown(raw)}")
    try:
        numeral = str(raw)
    except ValueError:
        # Python writes no whole number of more than 4,300 digits.
        numeral = ""
    # Compared before it is a float: 2⁵³ + 1 would become 2⁵³.
    exact = Decimal(numeral) if _NUMERAL.fullmatch(numeral) else None
    if exact is None or not -(2**53) <= exact <= 2**53:
        raise FieldError(f"expected a number within ±2⁵³, got {_shown(raw)}")
    number = float(exact)
    return int(number) if number.is_integer() else number


_NUMERAL = re.compile(r"[-+]?[0-9]{1,20}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?", re.ASCII)
_PLAIN_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[-+](?:0\d|1[0-3]):[0-5]\d)", re.ASCII
)
# A fraction stands after seconds: after minutes ISO 8601 means one of a minute, which nobody sends.
_DATE_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[Tt ](?P<time>\d\d:\d\d(?::\d\d)?)"
    r"(?:(?<=:\d\d:\d\d)[.,](?P<fraction>\d{1,9}))?"
    r"\s?(?P<zone>[Zz]|UTC|GMT|[-+]\d\d:?[0-5]\d|[-+]\d\d)?",
    re.ASCII,
)


def _timestamp(raw: Any, offset: timezone | None) -> FieldValue:
    """Epoch seconds, kept to the microsecond, which is about what a float of this size holds."""
    if isinstance(raw, str) and _PLAIN_TIME.fullmatch(raw):
        # What most systems write, and Python reads without help.
        try:
            return int(datetime.fromisoformat(raw).timestamp())
        except ValueError as error:
            raise FieldError(f"expected a time, got {_shown(raw)}: {error}") from None
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise FieldError(f"expected a time, got {_shown(raw)}")
    if isinstance(raw, str) and not _NUMERAL.fullmatch(raw.strip()):
        seconds = _date_time(raw.strip(), offset)
    else:
        seconds = _epoch(raw)
    seconds = round(seconds, 6)
    return int(seconds) if seconds.is_integer() else seconds


def _epoch(raw: float | str) -> float:
    try:
        number = float(raw)
    except OverflowError:
        number = float("inf")
    # Between 2000 and 2100 a count of seconds, of milliseconds, of microseconds and of nanoseconds
    # each has its own range; the ranges are far apart, so the unit is certain.
    for unit in (1, 1_000, 1_000_000, 1_000_000_000):
        if EARLIEST <= number / unit < LATEST:
            return number / unit
    raise FieldError(f"expected a time between 2000 and 2100, got {_shown(raw)}")


def _date_time(text: str, offset: timezone | None) -> float:
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise FieldError(f"expected a time such as 2026-01-31T09:30:00Z, got {_shown(text)}")
    zone = offset if match["zone"] is None else parse_offset(match["zone"])
    if zone is None and match["zone"] is None:
        raise FieldError(
            f"the time {_shown(text)} has no offset from UTC; declare one with `offset:` in the mapping"
        )
    if zone is None:
        raise FieldError(f"expected a time at most 14 hours from UTC, got {_shown(text)}")
    try:
        moment = datetime.fromisoformat(f"{match['date']} {match['time']}").replace(tzinfo=zone)
        return moment.timestamp() + float(f"0.{match['fraction'] or 0}")
    except (ValueError, OverflowError) as error:
        raise FieldError(f"expected a time, got {_shown(text)}: {error}") from None


def parse_offset(text: str) -> timezone | None:
    """An offset from UTC such as `+02:00`, `+0200`, `Z` or `UTC`, at most 14 hours; None where it is none."""
    if text.upper() in ("Z", "UTC", "GMT"):
        return UTC
    match = re.fullmatch(r"([-+])(\d\d):?([0-5]\d)?", text, re.ASCII)
    if match is None:
        return None
    span = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
    if span > timedelta(hours=14):
        return None
    return timezone(-span if match[1] == "-" else span)


def _shown(raw: Any) -> str:
    """The value for a message: short, on one line, never failing."""
    if isinstance(raw, int) and not isinstance(raw, bool) and abs(raw) >= 10**40:
        return "a number of more than 40 digits"
    text = msgspec.json.encode(raw).decode() if not isinstance(raw, float) else repr(raw)
    return f"`{text if len(text) <= 80 else text[:77] + '...'}`"
