"""What samples say of their deliveries as such: the event's name, the delivery's id, the state."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from gateway.authoring.recognise import Leaf, Path, Sample, name, reading, words


class Named(Struct, frozen=True, kw_only=True):
    """A value that stands for a whole delivery. `values` has one for each sample; `path` is None
    where a header holds it."""

    expression: str
    values: tuple[str, ...]
    score: float
    why: str
    path: Path | None = None


_SIMPLE = re.compile(r"[\w][\w .:/@+-]{0,79}")
"""Text that is compared with in a condition: it needs no escapes between quotes."""
_IDENTIFIER = re.compile(r"\S{1,200}")
_UUID_LIKE = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{13,27}|[0-9A-HJKMNP-TV-Z]{26}|[0-9a-f]{24,32}"
)


def is_simple(value: Any) -> bool:
    """Whether a value can stand between single quotes as it is."""
    return isinstance(value, str) and value.isprintable() and bool(_SIMPLE.fullmatch(value))


# The event's name

_EVENT_HEADERS: Mapping[str, float] = {
    r"(.*-)?event(-key|-type|-name)?": 9.0,
    r"ce-type": 9.0,
    r"x-.*-(topic|action|resource)": 7.0,
}
_EVENT_KEYS: Mapping[tuple[str, ...], float] = {
    ("event",): 9.0,
    ("event", "type"): 9.5,
    ("event", "name"): 9.3,
    ("event", "kind"): 9.0,
    ("event", "key"): 9.0,
    ("webhook", "event"): 9.5,
    ("object", "kind"): 9.2,
    ("notification", "type"): 7.0,
    ("type",): 7.0,
    ("message", "type"): 6.5,
    ("action",): 6.0,
    ("kind",): 5.5,
    ("topic",): 5.0,
    ("category",): 5.0,
    ("trigger",): 4.0,
}


def event(samples: Sequence[Sample], leaves: Sequence[Leaf]) -> Named | None:
    """Where the sender names what happened, the same place in all samples."""
    found = [*_headers(samples, _EVENT_HEADERS, _SIMPLE)]
    for leaf in leaves:
        if None in leaf.path or leaf.share < 1 or not all(is_simple(v) for _, v in leaf.values):
            continue
        keys = leaf.keys[-2:]
        key = tuple(words(keys[-1])) if keys else ()
        score = _EVENT_KEYS.get(key, 0.0)
        if len(keys) > 1 and words(keys[0]) == ["event"] and key in (("type",), ("name",)):
            score = 9.2
        if not score or any(_UUID_LIKE.fullmatch(value) for _, value in leaf.values):
            continue
        found.append(_in_body(leaf, score - 0.5 * (len(leaf.path) - 1)))
    return max(found, key=lambda one: one.score, default=None)


def _headers(
    samples: Sequence[Sample], patterns: Mapping[str, float], form: re.Pattern[str]
) -> list[Named]:
    """The headers that every sample has, of a name and a value that fit."""
    found = []
    lowered = [{key.lower(): value for key, value in one.headers.items()} for one in samples]
    for key in lowered[0]:
        values = tuple(one.get(key, "") for one in lowered)
        score = next((score for text, score in patterns.items() if re.fullmatch(text, key)), 0.0)
        if score and all(value.isprintable() and form.fullmatch(value) for value in values):
            expression = f"headers.{name(key)}"
            found.append(
                Named(expression=expression, values=values, score=score, why="a header's name")
            )
    return found


def _in_body(leaf: Leaf, score: float) -> Named:
    first = dict(reversed(leaf.values))
    return Named(
        expression=reading(leaf.path, None),
        values=tuple(str(first[number]) for number in sorted(first)),
        score=score,
        why=f"the name `{leaf.keys[-1]}`" if leaf.keys[-1].isprintable() else "its name",
        path=leaf.path,
    )


# The delivery's id

_ID_HEADERS: Mapping[str, float] = {
    r"(.*-)?delivery(-id)?": 10.0,
    r"idempotency-key": 10.0,
    r"ce-id": 10.0,
    r"(x-)?webhook-id": 9.0,
    r"(.*-)?(event|message)-(uu)?id": 9.0,
    r"(.*-)?webhook-identifier": 8.0,
}
_ID_KEYS: Mapping[tuple[str, ...], float] = {
    ("delivery", "id"): 8.5,
    ("event", "id"): 8.5,
    ("message", "id"): 8.5,
    ("notification", "id"): 8.0,
    ("event", "uuid"): 8.0,
    ("uuid",): 7.5,
    ("guid",): 7.5,
}


def delivery_id(samples: Sequence[Sample], leaves: Sequence[Leaf]) -> Named | None:
    """What names a delivery and no other. The id of the thing that a delivery is about is none: two
    deliveries about one build would count as one."""
    found = _headers(samples, _ID_HEADERS, _IDENTIFIER)
    for leaf in leaves:
        if None in leaf.path or leaf.share < 1 or len(leaf.path) > 2:
            continue
        if not all(isinstance(v, str) and _IDENTIFIER.fullmatch(v) for _, v in leaf.values):
            continue
        key = tuple(words(leaf.keys[-1])) if leaf.keys else ()
        score = _ID_KEYS.get(key, 0.0)
        if key == ("id",) and len(leaf.path) == 2 and words(leaf.keys[0]) == ["event"]:
            score = 8.5
        elif key == ("id",) and len(leaf.path) == 1:
            ids = all(_UUID_LIKE.fullmatch(value) for _, value in leaf.values)
            score = 7.0 if ids else 0.0
        if score and (len(leaf.path) == 1 or key == ("id",)):
            found.append(_in_body(leaf, score))
    unique = [one for one in found if len(set(one.values)) == len(samples)]
    return max(unique, key=lambda one: one.score, default=None)


# The state

STATE = frozenset({"status", "state", "result", "conclusion", "outcome", "phase", "success"})
GOOD = frozenset(
    {"success", "succeeded", "successful", "ok", "okay", "passed", "complete", "completed", "done"}
    | {"finished", "deployed", "released", "healthy", "synced", "published", "merged", "pushed"}
)


def states(leaves: Sequence[Leaf]) -> list[Leaf]:
    """The paths that hold a state, the likeliest first."""
    found: list[tuple[float, Leaf]] = []
    for leaf in leaves:
        key = words(leaf.keys[-1]) if leaf.keys else []
        if not key or key[-1] not in STATE or {"previous", "old", "last"} & set(key):
            continue
        values = [value for _, value in leaf.values]
        if not all(value is True or value is False or is_simple(value) for value in values):
            continue
        score = leaf.share * 3 - 0.6 * len(leaf.path) - 2.0 * leaf.path.count(None)
        score += 1.5 if any(is_good(value) for value in values) else 0.0
        score += 0.5 if len(key) == 1 else 0.0
        found.append((score, leaf))
    return [leaf for _, leaf in sorted(found, key=lambda one: -one[0])]


def is_good(value: Any) -> bool:
    """Whether a state says that what was meant to happen did."""
    return value is True or (isinstance(value, str) and value.lower() in GOOD)
