"""What an expression reads of a delivery: followed through its tree, without evaluating it.

The answer is a tree of its own, of the places that expressions mention. It is sound: whatever an
expression can find, it finds in a copy that holds only these places. So the decoder need not build
the rest, and a place that no sample has can be pointed at where it is written.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

Node = Mapping[str, Any]


class Mention(Struct, frozen=True):
    """Where a name stands: `where` is whatever the caller calls its expression, `offset` counts
    characters from 0."""

    where: Any
    offset: int


class Place:
    """A place in a value: the members and items that are read of it, and whether its whole value is
    (`is_whole`), for itself or for its truth."""

    def __init__(self) -> None:
        self.members: dict[str, Place] = {}
        self.items: Place | None = None
        self.is_whole = False
        self.mentions: list[Mention] = []

    def member(self, name: str) -> "Place":
        return self.members.setdefault(name, Place())

    def item(self) -> "Place":
        if self.items is None:
            self.items = Place()
        return self.items

    def walk(self, *path: str) -> Iterator[tuple[tuple[str, ...], "Place"]]:
        """Every place below this one with its path; an item of a list is `[]`."""
        for name, place in self.members.items():
            yield (*path, name), place
            yield from place.walk(*path, name)
        if self.items is not None:
            yield (*path, "[]"), self.items
            yield from self.items.walk(*path, "[]")


class Seen(Struct, frozen=True):
    """A value that an expression can come to have: what stands at any of these places, a list of
    `listed` values, or one that was computed, where it is neither. `bound` are names that the scope
    has besides its members."""

    places: tuple[Place, ...] = ()
    listed: tuple["Seen", ...] = ()
    bound: Mapping[str, "Seen"] = {}

    def member(self, name: str, mention: Mention) -> "Seen":
        if name in self.bound:
            return self.bound[name]
        found = tuple(place.member(name) for place in self.places)
        for place in found:
            place.mentions.append(mention)
        return Seen(found)

    def items(self) -> "Seen":
        return _any(Seen(tuple(place.item() for place in self.places)), *self.listed)

    def use(self) -> None:
        """Notes that the value itself is needed."""
        for place in self.places:
            place.is_whole = True
        for value in (*self.listed, *self.bound.values()):
            value.use()


_COMPUTED = Seen()


def _any(*values: Seen) -> Seen:
    for value in values:
        # Of a scope among other values only its members are followed.
        for name in value.bound.values():
            name.use()
    return Seen(
        tuple(place for value in values for place in value.places),
        tuple(item for value in values for item in value.listed),
    )


def follow(node: Node, value: Seen, where: Any) -> Seen:
    """What the expression of a parsed tree comes to, asked of a value."""
    children = node["children"]

    def inner(child: Node, of: Seen = value) -> Seen:
        return follow(child, of, where)

    match node["type"]:
        case "field":
            return value.member(node["value"], Mention(where, node.get("start", 0)))
        case "current" | "identity":
            return value
        case "index":
            return value.items()
        case "slice":
            # A part of a list: what is read of its items is read of the list's.
            return Seen(listed=(value.items(),))
        case "subexpression" | "index_expression" | "pipe":
            for child in children:
                value = inner(child, value)
            return value
        case "projection":
            return Seen(listed=(inner(children[1], inner(children[0]).items()),))
        case "flatten":
            items = inner(children[0]).items()
            return Seen(listed=(_any(items, items.items()),))
        case "filter_projection":
            items = inner(children[0]).items()
            inner(children[2], items).use()
            return Seen(listed=(inner(children[1], items),))
        case "or_expression" | "and_expression":
            left = inner(children[0])
            left.use()
            return _any(left, inner(children[1]))
        case "multi_select_list":
            return Seen(listed=tuple(inner(child) for child in children))
        case "value_projection":
            # Members of any name: all of them, so the whole.
            inner(children[0]).use()
            return _COMPUTED
        case "expref":
            # It is asked of parts of the other arguments, which are read whole.
            return _COMPUTED
        case "literal":
            return _COMPUTED
        case "key_val_pair":
            inner(children[0]).use()
            return _COMPUTED
        case "comparator" | "not_expression" | "function_expression" | "multi_select_dict":
            for child in children:
                inner(child).use()
            return _COMPUTED
    raise AssertionError(
        node["type"]
    )  # pragma: no cover  # The parser makes no other kind of node.
