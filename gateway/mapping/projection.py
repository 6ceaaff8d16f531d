"""A decoder that builds only what a mapping reads of a payload, and skips the rest.

The types are total: a place takes whatever JSON a sender puts there, so a payload of another shape
than expected is decoded, not refused. Measured by `tests/benchmarks/decoding.py`.
"""

from types import GenericAlias
from typing import Any, TypedDict

import msgspec

from gateway.body import Decode
from gateway.mapping.reads import Place

_Scalar = str | int | float | bool | None


def decoder(read: Place) -> Decode:
    """Decodes a body to what the reads of it need.

    It finds the same faults as a decoder of everything, but one: a number too large to be held is not
    noticed where nothing reads it. Raises what `msgspec.json.decode` does.
    """
    everything = msgspec.json.decode
    if read.is_whole:
        return everything
    part = msgspec.json.Decoder(_type(read))

    def decode(raw: bytes) -> Any:
        # What is skipped is not looked at for its encoding.
        if not raw.isascii() and not _is_utf8(raw):
            return everything(raw)
        try:
            return part.decode(raw)
        except ValueError:
            # For the words and the place of the fault.
            return everything(raw)

    return decode


def _type(place: Place) -> Any:
    # msgspec takes a name beyond ASCII for the empty one, unless the text has been encoded before.
    if place.is_whole or not all(name.isascii() for name in place.members):
        return Any
    members = {name: _type(member) for name, member in place.members.items()}
    read: Any = TypedDict("Read", members, total=False)  # type: ignore[misc]  # Its members are known at run time alone.
    items = GenericAlias(list, _type(place.items) if place.items is not None else Any)
    return read | items | _Scalar


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
