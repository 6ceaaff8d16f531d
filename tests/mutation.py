"""Payloads, texts and headers changed at random, towards what breaks readers; the same seed, the same changes."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

import msgspec

NASTY = (
    "",
    " ",
    "\0",
    "\x01\x1b[31m",
    "\x7f\x80\x9f",
    "a\nb",
    "a\r\nb",
    "\t",
    "\\",
    "\\n",
    'a"b',
    '"',
    '\\"',
    '"} 1\n# EOF\n',
    '",x="y',
    "{}",
    "# HELP a b",
    "a\u2028b\u2029c",
    "\ufeff",
    "\ufffe\uffff",
    "e\u0301",
    "\u202e\u2066",
    "\u200b",
    "\U0001f600\U0010ffff",
    "\ud7ff\ue000",
    "a" * 199,
    "a" * 200,
    "a" * 201,
    "\u00e9" * 1_000,
    "NaN",
    "Infinity",
    "1e400",
    "-1",
    "0",
    "\u0661\u0662\u0663",
    "1_000",
    "null",
    "true",
    "2026-13-45T99:99:99Z",
    "2026-01-31T09:30:00",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "253402300800",
    "../../etc/passwd",
    "https://",
    "javascript:alert(1)",
    '"><script>alert(1)</script>',
    "sha256:" + "0" * 64,
    "0" * 40,
    "$(id)",
    "${jndi:ldap://x}",
    "' OR 1=1 --",
    "%s%n{0}",
)
"""Texts that break what takes them for plain: controls, quotes, lengths, numbers, times, markup."""

_OTHERS: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64 - 1, -(2**63), 0.5, -0.0, 1e308, 5e-324,
    1_790_000_000, 1_790_000_000_000, 946_684_799, 4_102_444_800, [], {}, [[]], [None], {"": None},
)  # fmt: skip
_RAW = (
    b"1e400", b"-1e400", b"NaN", b"Infinity", b"-0", b"01", b"1.", b".5", b"0x10", b"'a'", b"undefined",
    b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u0000"', b'"\xed\xa0\x80"', b'"\xff"', b'"\xc0\xaf"', b'"\\x"',
    b'"a\nb"', b"9" * 400, b"9" * 4_300, b"9" * 5_000, b"-" + b"9" * 400, b"1" + b"0" * 308 + b".5",
    b"[" * 100 + b"]" * 100, b"[" * 3_000 + b"]" * 3_000, b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
    b"[" * 50_000, b'{"a":1,"a":2,"a":{"a":[]}}', b'"' + b"a" * 70_000 + b'"', b"/* */ 1", b"1,", b"",
)  # fmt: skip
"""JSON, or not, that no value can be written as."""
_LARGE = 1_000_000
"""Bytes."""
_HOLE = "a hole for raw JSON"


def payload(chance: random.Random, body: bytes) -> bytes:
    """A body changed in one to a few of the ways that there are."""
    try:
        value = msgspec.json.decode(body)
    except ValueError:
        return _bytes(chance, body)
    if chance.random() < 0.15:
        return _bytes(chance, body)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        value = chance.choice(_WAYS)(chance, value)
    if chance.random() < 0.1:
        value = at_random(chance, value, lambda _: _HOLE)
    whole = msgspec.json.encode(value)
    if chance.random() < 0.1:
        # The same text with other spaces, and every character beyond ASCII escaped.
        whole = json.dumps(value, indent=chance.choice((None, 1))).encode()
    return whole.replace(f'"{_HOLE}"'.encode(), chance.choice(_RAW))


def at_random(chance: random.Random, value: Any, change: Callable[[Any], Any]) -> Any:
    """The value with one part of it, found at random, replaced by what `change` makes of that."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(list(value))
        return {**value, name: at_random(chance, value[name], change)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        return [*value[:place], at_random(chance, value[place], change), *value[place + 1 :]]
    return change(value)


def every_text(value: Any, change: Callable[[str], Any]) -> Any:
    """The value with what `change` makes of each text in it; names stay."""
    if isinstance(value, dict):
        return {name: every_text(inner, change) for name, inner in value.items()}
    if isinstance(value, list):
        return [every_text(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value


def text(chance: random.Random, like: str = "") -> str:
    """A nasty text, alone or within another one."""
    nasty = chance.choice(NASTY)
    if chance.random() < 0.5:
        return nasty
    place = chance.randrange(len(like) + 1)
    return f"{like[:place]}{nasty}{like[place:]}"


def _other(chance: random.Random, value: Any) -> Any:
    return at_random(chance, value, lambda _: chance.choice(_OTHERS))


def _nasty(chance: random.Random, value: Any) -> Any:
    return at_random(chance, value, lambda was: text(chance, was if isinstance(was, str) else ""))


def _all_nasty(chance: random.Random, value: Any) -> Any:
    share = chance.random()
    return every_text(value, lambda was: text(chance, was) if chance.random() < share else was)


def _fresh(chance: random.Random, value: Any) -> Any:
    """Other digits in some part of it: in ids, hashes and times, which is another delivery of the same look."""
    return at_random(chance, value, lambda was: _renewed(chance, was))


def _all_fresh(chance: random.Random, value: Any) -> Any:
    return _renewed(chance, value)


def _renewed(chance: random.Random, value: Any) -> Any:
    # Of a time the day and the hour stay, and a minute has no digit above 5; words that conditions ask for stay.
    if isinstance(value, dict):
        return {name: _renewed(chance, inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_renewed(chance, inner) for inner in value]
    if isinstance(value, str) and len(value) > 14:
        kept = 14 if value[4] == "-" else 0
        digits = [str(chance.randrange(6)) if one in "0123456789" else one for one in value[kept:]]
        return value[:kept] + "".join(digits)
    if isinstance(value, int) and not isinstance(value, bool):
        return value + chance.randrange(1_000)
    return value


def _gone(chance: random.Random, value: Any) -> Any:
    def without(was: Any) -> Any:
        if isinstance(was, dict) and was:
            name = chance.choice(list(was))
            return {key: inner for key, inner in was.items() if key != name}
        return None

    return at_random(chance, value, without)


def _nested(chance: random.Random, value: Any) -> Any:
    def nested(was: Any) -> Any:
        for _ in range(chance.choice((1, 5, 60))):
            was = [was] if chance.random() < 0.5 else {"a": was}
        return was

    return at_random(chance, value, nested)


def _many(chance: random.Random, value: Any) -> Any:
    def many(was: Any) -> Any:
        most = _LARGE // len(msgspec.json.encode(was))
        return [was] * min(most, chance.choice((2, 30, 500)))

    return at_random(chance, value, many)


def _renamed(chance: random.Random, value: Any) -> Any:
    def renamed(was: Any) -> Any:
        if isinstance(was, dict) and was:
            name = chance.choice(list(was))
            return {text(chance, name) if key == name else key: was[key] for key in was}
        return was

    return at_random(chance, value, renamed)


_WAYS = (
    _other, _nasty, _nasty, _all_nasty, _fresh, _all_fresh, _all_fresh, _all_fresh, _gone, _nested, _many, _renamed,
)  # fmt: skip


def _bytes(chance: random.Random, body: bytes) -> bytes:
    """Bytes flipped, cut, doubled, thrown in, whatever they mean."""
    changed = bytearray(body)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        place = chance.randrange(len(changed) + 1)
        end = min(len(changed), place + chance.choice((1, 2, 8, 100)))
        match chance.randrange(6):
            case 0 if changed:
                changed[place % len(changed)] ^= 1 << chance.randrange(8)
            case 1:
                del changed[place:end]
            case 2:
                changed[place:place] = changed[place:end]
            case 3:
                changed[place:place] = chance.choice(_RAW)
            case 4:
                changed[place:place] = chance.randbytes(chance.choice((1, 2, 16)))
            case _:
                del changed[place:]
    return bytes(changed)


def header(chance: random.Random, value: str) -> bytes:
    """A header's value changed; without line breaks and NUL, which no server lets through."""
    raw = text(chance, value).encode()
    return bytes(one for one in raw if one not in b"\0\r\n") or b"x"


def document(chance: random.Random, source: str) -> str:
    """The text of a YAML file with characters, lines or blocks of it changed; or its expressions alone, so
    that it mostly stays YAML."""
    lines = source.splitlines(keepends=True)
    if chance.random() < 0.6:
        for place in chance.sample(range(len(lines)), min(len(lines), chance.choice((1, 1, 2, 5)))):
            lines[place] = _expression(chance, lines[place])
        return "".join(lines)
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = chance.randrange(len(lines) + 1)
        end = min(len(lines), place + chance.choice((1, 1, 3, 10)))
        match chance.randrange(8):
            case 0:
                del lines[place:end]
            case 1:
                lines[place:place] = lines[place:end]
            case 2:
                other = chance.randrange(len(lines) + 1)
                lines[place:end] = lines[other : other + end - place]
            case 3 if place < len(lines):
                lines[place] = " " * chance.choice((1, 2, 4)) + lines[place]
            case 4:
                lines[place:place] = [f"{text(chance)}\n"]
            case _ if place < len(lines):
                lines[place] = _line(chance, lines[place])
    return "".join(lines)


_PIECES = (
    *NASTY, ": ", "- ", "{", "}", "[", "]", "&a ", "*a", "<<: ", "!!python/name:os.system ", "|\n", ">\n", "? ",
    "---\n", "(", ")", "[?", "[*]", "[::0]", "&", "@", "`", "||", "&&", "|", "!", "'", "map(&", "body.",
    "params.", "length(", "(" * 60, "[" * 80, "9" * 400, "null", "true", "~", "kind: ", "extends: ", "%",
)  # fmt: skip


def _line(chance: random.Random, line: str) -> str:
    """A line with a piece thrown in or cut out."""
    place = chance.randrange(len(line))
    if chance.random() < 0.3:
        return line[:place] + line[place + chance.randrange(1, 12) :]
    return line[:place] + chance.choice(_PIECES) + line[place:]


_TOKENS = (
    "body", "each", "params", "headers", "event", "received_at", "nothing", "length", "join", "capture", "split",
    "(@)", "(@, @)", "(&a, @)", "()", "[0]", "[*]", "[]", "[::0]", "[::-1]", "[?@]", "[?a == b]", ".*", ".a", ".",
    "@", "!", "&&", "||", "|", "==", "<", ",", "'a'", "''", "`1`", "`[]`", "null", "(", ")", "[", "]", "(?<x>a+)",
)  # fmt: skip


def _expression(chance: random.Random, line: str) -> str:
    """A line whose words, behind its key, are other ones, or fewer, or more."""
    key, colon, value = line.rpartition(": ")
    words = re.split(r"(\w+|\s+)", value)
    for _ in range(chance.choice((1, 1, 2))):
        place = chance.randrange(len(words))
        if not words[place].isspace():
            words[place] = chance.choice(("", words[place] * 2, *chance.sample(_TOKENS, 6)))
    return key + colon + "".join(words)
