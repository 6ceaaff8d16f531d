"""Functions of time: points in time from texts that no field type reads."""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from msgspec import Struct

from gateway.fieldtype import parse_offset
from gateway.mapping.functions.entry import Example, FunctionError, Group, Misuse

GROUP = Group("Times")

MAX_LENGTH = 100
"""Characters of a time and of a format."""

# In English whatever the machine's language is: what a vendor sends does not depend on it.
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


def _names(words: Sequence[str]) -> str:
    """A pattern of the words and of their first three letters."""
    return "|".join(f"{word[:3]}(?:{word[3:]})?" for word in words)


_DIRECTIVES = {
    "Y": r"\d{4}",
    "y": r"\d\d",
    "m": r"\d{1,2}",
    "b": _names(_MONTHS),
    "d": r"\d{1,2}",
    "a": _names(_DAYS),
    "H": r"\d{1,2}",
    "I": r"\d{1,2}",
    "p": r"[ap]\.?m\.?",
    "M": r"\d{1,2}",
    "S": r"\d{1,2}",
    "f": r"\d{1,9}",
    "z": r"Z|UTC|GMT|[-+]\d\d(?::?\d\d)?",
}
_NUMERIC = frozenset("YymdHIMSf")
_SAME = {"B": "b", "A": "a"}
_ITEM = r"%(?P<directive>.?)|(?P<space>\s+)|(?P<literal>.)"


class _Format(Struct, frozen=True):
    pattern: re.Pattern[str]
    reads_offset: bool


@lru_cache(128)
def _format(text: str) -> _Format:
    """The compiled form of a format. Raises FunctionError."""
    if len(text) > MAX_LENGTH:
        raise FunctionError(f"a format has at most {MAX_LENGTH} characters, not {len(text)}")
    parts: list[str] = []
    seen: list[str] = []
    items = list(re.finditer(_ITEM, text, re.DOTALL))
    for index, item in enumerate(items):
        word = item["directive"]
        if item["space"]:
            parts.append(r"\s+")
        elif word is None or word == "%":
            parts.append(re.escape(word or item["literal"]))
        else:
            letter = _SAME.get(word, word)
            if letter not in _DIRECTIVES:
                known = ", ".join(f"%{one}" for one in (*_DIRECTIVES, *_SAME, "%"))
                raise FunctionError(f"the format `{text}` has `%{word}`; known: {known}")
            if letter in seen:
                raise FunctionError(f"the format `{text}` has `%{word}` twice")
            pattern = _DIRECTIVES[letter]
            if _touches_digits(items, index):
                # Without anything between two numbers only their widths tell them apart.
                pattern = pattern.replace("{1,2}", "{2}")
            parts.append(f"(?P<{letter}>{pattern})")
            seen.append(letter)
    _refuse_incomplete(text, frozenset(seen))
    return _Format(re.compile("".join(parts), re.ASCII | re.IGNORECASE), "z" in seen)


def _touches_digits(items: list[re.Match[str]], index: int) -> bool:
    beside = items[max(0, index - 1) : index] + items[index + 1 : index + 2]
    return any(item["directive"] in _NUMERIC for item in beside)


def _refuse_incomplete(text: str, seen: frozenset[str]) -> None:
    for one, other in (("Y", "y"), ("m", "b"), ("d", "d")):
        if one not in seen and other not in seen:
            both = f"`%{one}`" if one == other else f"`%{one}` or `%{other}`"
            raise FunctionError(f"the format `{text}` needs {both}")
    for one, other in (("Y", "y"), ("m", "b"), ("H", "I")):
        if one in seen and other in seen:
            raise FunctionError(f"the format `{text}` has both `%{one}` and `%{other}`")
    if ("I" in seen) is not ("p" in seen):
        raise FunctionError(f"the format `{text}` needs `%I` and `%p` together")


def _refuse(arguments: Sequence[Any]) -> Misuse | None:
    """What is wrong with the format and the offset, as far as they are constants."""
    text = arguments[1]
    try:
        reads_offset = _format(text).reads_offset if isinstance(text, str) else None
    except FunctionError as error:
        return Misuse(1, str(error))
    if reads_offset is False and len(arguments) < 3:
        message = f"the format `{text}` reads no offset from UTC"
        return Misuse(1, f"{message}; add `%z`, or a third argument such as '+00:00'")
    if reads_offset and len(arguments) > 2:
        return Misuse(2, f"the format `{text}` reads the offset itself, by `%z`")
    if len(arguments) > 2 and isinstance(arguments[2], str) and parse_offset(arguments[2]) is None:
        return Misuse(2, f"`{arguments[2]}` is no offset from UTC such as '+02:00'")
    return None


@GROUP.function(
    "parse_time(subject: string, format: string, offset?: string) -> number",
    """The point in time that a text spells, in seconds since 1970. What the text looks like is said by
    [directives](#the-directives-of-a-time). A format without `%z` needs the `offset` from UTC, such as
    `'+02:00'`. A text of another look is an error, so that the dead letter's reason shows it. A field
    of the type `timestamp` reads ISO 8601 and counts of seconds, milliseconds, microseconds and
    nanoseconds by itself.""",
    Example("parse_time('07/Oct/2026 5:02 PM', '%d/%b/%Y %I:%M %p', '+02:00')", "1791385320"),
    Example("parse_time('Wed, 7 Oct 2026 17:02:14 +0200', '%a, %d %b %Y %H:%M:%S %z')", "1791385334"),
    Example("parse_time('20261007T150214.25Z', '%Y%m%dT%H%M%S.%f%z')", "1791385334.25"),
    Example("parse_time(body.finished, '%d.%m.%Y', 'UTC')", "1791331200", '{"finished": "7.10.2026"}'),
    Example("parse_time('2026-10-07', '%d.%m.%Y', 'UTC')", fails="`2026-10-07` is no time"),
    Example("parse_time('31.02.2026', '%d.%m.%Y', 'UTC')", fails="`31.02.2026` is no time"),
    Example("parse_time('7.10.2026', '%d.%m.%Y')", fails="reads no offset from UTC"),
    keywords=("strptime", "date", "time", "timestamp", "to_epoch", "parse_date", "todate", "mktime",
              "fromdate", "to_time", "from_milliseconds", "datetime"),
    refuse=_refuse,
)  # fmt: skip
def parse_time(subject: str, format: str, offset: str | None = None) -> float:  # noqa: A002  # Its name for authors.
    given = (subject, format) if offset is None else (subject, format, offset)
    wrong = _refuse(given)
    if wrong:
        raise FunctionError(f"parse_time(): {wrong.message}")
    text = subject.strip()
    found = _format(format).pattern.fullmatch(text) if len(text) <= MAX_LENGTH else None
    try:
        if found is None:
            raise ValueError
        return _seconds(found.groupdict(), offset)
    except (ValueError, OverflowError):
        raise FunctionError(f"parse_time(): `{text[:80]}` is no time as `{format}`") from None


def _seconds(parts: dict[str, str], offset: str | None) -> float:
    """Raises ValueError where the parts are no time, such as the 31st of February."""
    zone = parse_offset(parts["z"] if offset is None else offset)
    if zone is None:
        raise ValueError
    moment = datetime(
        int(parts.get("Y") or f"20{parts['y']}"),
        int(parts.get("m") or 0) or _month(parts["b"]),
        int(parts["d"]),
        _hour(parts),
        int(parts.get("M") or 0),
        int(parts.get("S") or 0),
        tzinfo=zone,
    )
    seconds = moment.timestamp() + round(float(f"0.{parts.get('f') or 0}"), 6)
    return int(seconds) if seconds.is_integer() else seconds


def _month(name: str) -> int:
    return [word[:3] for word in _MONTHS].index(name[:3].lower()) + 1


def _hour(parts: dict[str, str]) -> int:
    if "I" not in parts:
        return int(parts.get("H") or 0)
    hour = int(parts["I"])
    if not 1 <= hour <= 12:
        raise ValueError
    return hour % 12 + (12 if parts["p"][0] in "pP" else 0)
