"""Where a part of an expression stands in its text: the tree knows only where names begin."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jmespath import lexer

Node = Mapping[str, Any]

_OPENING = ("lparen", "lbracket", "lbrace", "filter")
_CLOSING = ("rparen", "rbracket", "rbrace")
_BETWEEN = ("and", "or", "pipe", "comma", "eof")


class Extent(NamedTuple):
    """Characters of a text; `offset` counts from 0."""

    offset: int
    width: int

    @property
    def end(self) -> int:
        return self.offset + self.width


class Extents:
    """The parts of one expression. `text` and `tree` belong together."""

    def __init__(self, text: str, tree: Node) -> None:
        self.text = text
        self._tokens = list(lexer.Lexer().tokenize(text))
        written = [index for index, one in enumerate(self._tokens) if one["type"] == "literal"]
        # A tree holds its literals in the order of the text, once a filter is put where it stands.
        self._literals = {
            id(node): self._token(index)
            for node, index in zip(_literals(tree), written, strict=True)
        }

    def of(self, node: Node) -> Extent:
        """A literal, or the operand of `&&`, `||` and `|` that begins where the node does."""
        if id(node) in self._literals:
            return self._literals[id(node)]
        start = min(self._starts(node), default=0)
        at = next(n for n, one in enumerate(self._tokens) if one["start"] >= start)
        first, last = at, at
        while first > 0 and self._is_inside(first - 1, -1, at):
            first -= 1
        while self._is_inside(last + 1, 1, at):
            last += 1
        offset = self._token(first).offset
        return Extent(offset, self._token(last).end - offset)

    def arguments(self, call: int) -> list[Extent]:
        """The arguments of the function whose name begins at an offset."""
        at = next(n for n, one in enumerate(self._tokens) if one["start"] == call) + 1
        found, depth, first = [], 0, at + 1
        for index in range(at, len(self._tokens)):
            kind = self._tokens[index]["type"]
            depth += (kind in _OPENING) - (kind in _CLOSING)
            if (depth == 1 and kind == "comma") or depth == 0:
                offset = self._token(first).offset
                found.append(Extent(offset, self._token(index - 1).end - offset))
                first = index + 1
            if depth == 0:
                break
        return found

    def _starts(self, node: Any) -> Iterator[int]:
        if isinstance(node, Mapping):
            if "start" in node:
                yield node["start"]
            if id(node) in self._literals:
                yield self._literals[id(node)].offset
            for child in node["children"]:
                yield from self._starts(child)

    def _is_inside(self, index: int, step: int, at: int) -> bool:
        """Whether the token belongs to the same operand as the one at `at`."""
        depth = 0
        for n in range(at + step, index + step, step):
            kind = self._tokens[n]["type"]
            depth += step * ((kind in _OPENING) - (kind in _CLOSING))
            if depth < 0 or (depth == 0 and kind in _BETWEEN):
                return False
        return True

    def _token(self, index: int) -> Extent:
        token = self._tokens[index]
        following = self._tokens[index + 1]["start"] if index + 1 < len(self._tokens) else None
        offset = token["start"]
        # What a token's `end` means depends on its type: it reaches to the next, without the blanks.
        written = self.text[offset:following].rstrip()
        return Extent(offset, len(written))


def _literals(node: Any) -> Iterator[Node]:
    if not isinstance(node, Mapping):
        return
    if node["type"] == "literal":
        yield node
    children = list(node["children"])
    if node["type"] == "filter_projection":
        children = [children[0], children[2], children[1]]
    for child in children:
        yield from _literals(child)
