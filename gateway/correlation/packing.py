"""Byte strings and texts known by number, packed: what is remembered for good takes tens of bytes. Pure.

A Python object takes fifty bytes and more, a dictionary as much again for each entry. A fold remembers
every commit and every image that it was ever told of, so it keeps their names end to end in one array
and finds them through tables of numbers.
"""

from array import array

_TABLES = 256
"""Tables that the keys are spread over; each grows by itself, so that no growth takes long."""
_FIRST = 8
"""Places that a table begins with."""


class Keys:
    """Byte strings, numbered from 1 on in the order in which they came; 4 GiB of them at most. Their
    places are by a hash that no sender knows, so nobody can choose keys that are in each other's way."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("I", (0,))
        self._tables = [array("I", bytes(4 * _FIRST)) for _ in range(_TABLES)]
        self._sizes = array("I", bytes(4 * _TABLES))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> bytes:
        return bytes(self._bytes[self._ends[number - 1] : self._ends[number]])

    def find(self, key: bytes) -> int:
        """The number of a key, 0 where it is unknown."""
        place = hash(key)
        table = self._tables[place % _TABLES]
        size, kept, ends = len(table), self._bytes, self._ends
        at = (place // _TABLES) % size
        while number := table[at]:
            if kept[ends[number - 1] : ends[number]] == key:
                return number
            at = (at + 1) % size
        return 0

    def add(self, key: bytes) -> int:
        """The number that a key gets; it must not be known yet."""
        self._bytes += key
        self._ends.append(len(self._bytes))
        number = len(self._ends) - 1
        place = hash(key)
        index = place % _TABLES
        table = self._tables[index]
        self._sizes[index] += 1
        if 4 * self._sizes[index] > 3 * len(table):
            table = self._tables[index] = self._grown(table)
        _enter(table, place, number)
        return number

    def _grown(self, table: "array[int]") -> "array[int]":
        grown = array("I", bytes(4 * (len(table) * 3 // 2)))
        for number in table:
            if number:
                _enter(grown, hash(self[number]), number)
        return grown


def _enter(table: "array[int]", place: int, number: int) -> None:
    size = len(table)
    at = (place // _TABLES) % size
    while table[at]:
        at = (at + 1) % size
    table[at] = number


class Texts:
    """Texts that come again and again, each kept once, numbered from 1 on; 0 is the empty one."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {"": 0}
        self._texts = [""]

    def __getitem__(self, number: int) -> str:
        return self._texts[number]

    def number(self, text: str) -> int:
        found = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = len(self._texts)
            self._texts.append(text)
        return found


_PLAIN, SHA, _DIGEST = range(3)
"""Forms of texts."""
_ALGORITHM = "sha256:"
_HEXADECIMAL = {40: SHA, 64: SHA, len(_ALGORITHM) + 64: _DIGEST}


def packed_text(text: str) -> tuple[int, bytes]:
    """A text as a form and bytes: a whole SHA or digest takes half of its digits."""
    if len(text) in _HEXADECIMAL:
        form, digits = _HEXADECIMAL[len(text)], text
        if form == _DIGEST:
            digits = text[len(_ALGORITHM) :] if text.startswith(_ALGORITHM) else ""
        try:
            raw = bytes.fromhex(digits)
        except ValueError:
            raw = b""
        if raw and raw.hex() == digits:
            return form, raw
    return _PLAIN, text.encode("utf-8", "surrogatepass")


def unpacked_text(form: int, raw: bytes) -> str:
    """The text of a form and bytes."""
    if form == _PLAIN:
        return raw.decode("utf-8", "surrogatepass")
    return _ALGORITHM + raw.hex() if form == _DIGEST else raw.hex()


def packed_time(at: float) -> float:
    """A time after 1970 as one float that knows whether it was a whole number: others are negative."""
    return float(at) if isinstance(at, int) else -at


def unpacked_time(packed: float) -> float:
    return int(packed) if packed > 0 else -packed
