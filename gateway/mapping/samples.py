"""Deliveries that a source is known to send, and what can be found in them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from msgspec import Struct

from gateway.mapping.unparse import spelled

ITEM = "[]"
"""The name of an item of a list in a path."""
MAX_PATHS = 20_000
"""Paths of all samples of a source; what lies beyond is not suggested."""

Path = tuple[str, ...]


class Sample(Struct, frozen=True):
    """One delivery: its payload as JSON, and its headers by their names in lower case, or None where
    they are not known."""

    payload: Any
    headers: Mapping[str, str] | None = None

    @property
    def scope(self) -> dict[str, Any]:
        """What expressions read of it, as far as it is known."""
        known = {"body": self.payload, "headers": self.headers}
        return {name: value for name, value in known.items() if value is not None}


def values(samples: Iterable[Sample], path: Path) -> Iterator[Any]:
    """Whatever stands at a path in any of the samples."""
    for sample in samples:
        yield from _at(sample.scope, path)


def _at(value: Any, path: Path) -> Iterator[Any]:
    if not path:
        yield value
    elif path[0] == ITEM:
        for item in value if isinstance(value, list) else ():
            yield from _at(item, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])


def nearest(samples: Sequence[Sample], path: Path, missing: int) -> Path | None:
    """The path that the samples have and that is nearest to one of which they lack the name at
    the index `missing`: another name in its place, the same name elsewhere, a like path."""
    known = _paths(samples)
    before, name, after = path[:missing], path[missing], path[missing + 1 :]
    siblings = sorted({found[missing] for found in known if _is_below(found, before)})
    for sibling in get_close_matches(name, siblings, n=3, cutoff=0.6):
        for length in range(len(after), -1, -1):
            if (*before, sibling, *after[:length]) in known:
                return (*before, sibling, *after[:length])
    leaves = {text(found): found for found in known if found[-1] == path[-1]}
    everything = {text(found): found for found in known}
    for among, cutoff in ((leaves, 0.0), (everything, 0.7)):
        close = get_close_matches(text(path), among, n=1, cutoff=cutoff)
        if close:
            return among[close[0]]
    return None


def text(path: Path) -> str:
    """A path as an expression writes it: `body.commits[].id`."""
    first, *rest = path
    return first + "".join(name if name == ITEM else f".{spelled(name)}" for name in rest)


def _is_below(path: Path, above: Path) -> bool:
    return len(path) > len(above) and path[: len(above)] == above


def _paths(samples: Iterable[Sample]) -> set[Path]:
    """Every path that some sample has."""
    found: set[Path] = set()
    for sample in samples:
        for path in _walk(sample.scope, ()):
            found.add(path)
            if len(found) >= MAX_PATHS:
                return found
    return found


def _walk(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, dict):
        children = [(str(name), child) for name, child in value.items()]
    else:
        children = [(ITEM, item) for item in value] if isinstance(value, list) else []
    for name, child in children:
        yield (*path, name)
        yield from _walk(child, (*path, name))
