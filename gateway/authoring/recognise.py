"""What the values of sample deliveries may be: for a field of a kind, the paths that fit, best first.

A recogniser looks at one path of the samples, at its name and at all the values found there, and
says how well it fits and why. The samples' own words are compared with the words of models, so that
a kind that a user declared is recognised in the way of the bundled ones.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, timezone
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import Struct, UnsetType

from gateway import fieldtype
from gateway.fieldtype import FieldError, FieldType, Read
from gateway.mapping import grammar

Path = tuple[str | None, ...]
"""Keys below the body; None stands for any item of a list."""

MAX_DEPTH = 12
_MAX_PATHS = 3_000
_MAX_ITEMS = 50
_MAX_EXPRESSION = 300
_TRIED = 12
ACCEPTED = 3.0
"""The score that a path needs to be taken for a required field."""
ACCEPTED_OPTIONAL = 5.0


class Sample(Struct, frozen=True, kw_only=True):
    """One delivery as JSON. `name` is how people know it; header names are spelled as sent."""

    name: str
    headers: Mapping[str, str]
    payload: Any


class Leaf(Struct, frozen=True):
    """A path that leads to texts, numbers or booleans. `values` are the number of the sample and the
    value there; nulls are left out. `samples` counts the samples that were looked at."""

    path: Path
    values: tuple[tuple[int, Any], ...]
    samples: int

    @property
    def value(self) -> Any:
        return self.values[0][1]

    @property
    def share(self) -> float:
        """In how many of the samples something stands here, from 0 to 1."""
        return len({number for number, _ in self.values}) / self.samples

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for key in self.path if key is not None)


class Wanted(Struct, frozen=True, kw_only=True):
    """A field to be found. `words` are those that its model uses for it, the field's name first."""

    name: str
    type: FieldType
    required: bool
    read: Read
    choices: tuple[str, ...]
    name_words: tuple[str, ...]
    words: frozenset[str]


class Found(Struct, frozen=True, kw_only=True):
    """A path that fits, as an expression, with the first value and the reason; the higher the score
    the better. `offset` is set where a time says none."""

    path: Path
    expression: str
    value: Any
    score: float
    why: str
    offset: str = ""


def leaves(samples: Sequence[Sample]) -> list[Leaf]:
    """Every path of the samples, in the order of the first that has it."""
    found: dict[Path, list[tuple[int, Any]]] = {}
    for number, sample in enumerate(samples):
        for path, value in _walked(sample.payload):
            if value is not None and (path in found or len(found) < _MAX_PATHS):
                found.setdefault(path, []).append((number, value))
    return [Leaf(path, tuple(values), len(samples)) for path, values in found.items()]


def lists(samples: Sequence[Sample]) -> list[Path]:
    """The lists of objects that can be gone through item by item, none of them inside another."""
    found: dict[Path, None] = {}
    for sample in samples:
        for path, _ in _walked(sample.payload):
            at = path.index(None) if None in path else -1
            if 0 <= at < len(path) - 1:
                found[path[:at]] = None
    return [path for path in found if _is_short(reading(path, None))][:12]


def _walked(payload: Any) -> Iterator[tuple[Path, Any]]:
    stack: list[tuple[Path, Any]] = [((), payload)]
    while stack:
        path, value = stack.pop()
        if len(path) > MAX_DEPTH:
            continue
        match value:
            case dict():
                children = [((*path, key), child) for key, child in value.items() if key]
                stack += reversed(children)
            case list():
                stack += reversed([((*path, None), child) for child in value[:_MAX_ITEMS]])
            case _:
                yield path, value


# Expressions

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def name(key: str) -> str:
    """A key as JMESPath writes it, on one line and printable, whatever it holds."""
    if _PLAIN_NAME.fullmatch(key):
        return key
    return '"' + "".join(map(_escaped, json.dumps(key, ensure_ascii=False)[1:-1])) + '"'


def _escaped(char: str) -> str:
    return char if char.isprintable() else json.dumps(char)[1:-1]


def literal(text: str) -> str:
    """A text as JMESPath's JSON between backticks, on one line and printable."""
    written = json.dumps(text, ensure_ascii=False).replace("`", "\\`")
    return "`" + "".join(map(_escaped, written)) + "`"


def shown(value: Any, most: int = 40) -> str:
    """A value for a remark: on one line, printable, of bounded length."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = "".join(char if char.isprintable() else "�" for char in text)
    return "`" + (text if len(text) <= most else text[: most - 3] + "...") + "`"


def reading(path: Path, base: Path | None) -> str:
    """The expression that reads a path; below `base`, a list's path, it reads the rule's item."""
    text, rest = "body", path
    if base is not None and is_inside(path, base):
        text, rest = "each", path[len(base) + 1 :]
    return text + "".join("[0]" if key is None else f".{name(key)}" for key in rest)


def _is_short(expression: str) -> bool:
    return len(expression) <= _MAX_EXPRESSION


# Words

_WORD_BREAK = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STOP = _set(
    "a an and as at be by for from get got had has in is it its of on one or that the this time to "
    "type was were when where which with value id its"
)
_FAMILIES = (
    "issue incident alert problem ticket case outage fail",
    "number key iid ref code fingerprint",
    "finish complete end done deploy success",
    "resolve close fix recover clear end ok done up",
    "create open trigger fire firing report detect occur start new active alerting down",
    "made author commit",
    "link url href html",
)
"""Words that senders use for the same thing. A word stands for all that begin like it."""
_TOPICS = (
    "commit push merge",
    "deploy release rollout promote environment stage ship",
    "fail incident alert issue problem outage bug ticket monitor severity",
    "build built image artifact registry package",
)
"""Words that show what a delivery is about, by the word that a kind's name begins with."""


def words(text: str) -> list[str]:
    """The words of a name or a sentence, in lower case: `finishedAt` has two."""
    return [word.lower() for word in _WORD_BREAK.split(text) if word]


@lru_cache(maxsize=20_000)
def is_akin(left: str, right: str) -> bool:
    """Whether two words begin alike: `deployment` and `deployed`."""
    if left == right:
        return True
    shorter = min(len(left), len(right))
    size = max(4, shorter - 1)
    return shorter >= 4 and left[:size] == right[:size]


def related(given: Iterable[str]) -> frozenset[str]:
    """Words with those that senders use in their place."""
    known = {word for word in given if word not in _STOP and len(word) > 1}
    return frozenset(known).union(*map(_family, known))


@lru_cache(maxsize=2_000)
def _family(word: str) -> frozenset[str]:
    """The words of the families that a word belongs to."""
    families = (family.split() for family in _FAMILIES)
    return frozenset(
        other
        for members in families
        if any(is_akin(word, member) for member in members)
        for other in members
    )


def topic(model: grammar.Model) -> frozenset[str]:
    """The words that a delivery about this kind of event would use."""
    own = words(model.kind)
    for family in _TOPICS:
        members = family.split()
        if any(is_akin(word, members[0]) for word in own):
            return frozenset(members)
    said = [*own, *words(model.title)]
    return frozenset(word for word in said if word not in _STOP and len(word) > 2)


def count_akin(given: Iterable[str], others: Iterable[str]) -> int:
    """How many of the words begin like one of the others."""
    others = list(others)
    return sum(any(is_akin(word, other) for other in others) for word in given)


def wanted(name: str, field: grammar.ModelField, about: str = "") -> Wanted:
    """A model's field. `about` says more of what is wanted of it than its description does."""
    length = None if isinstance(field.max_length, UnsetType) else field.max_length
    described = words(about or field.description)
    return Wanted(
        name=name,
        type=field.type,
        required=field.required,
        read=fieldtype.reader(field.type, length, tuple(field.choices)),
        choices=tuple(field.choices),
        name_words=tuple(words(name)),
        words=related([*words(name), *described]),
    )


# Recognisers


class Fit(NamedTuple):
    """How well a path fits, from about 0 to 10, and why. Where `after` is set, only what stands
    behind its last occurrence is the field."""

    score: float
    why: str
    after: str = ""


class _Name(NamedTuple):
    """The words of a path's last key, of the key before it, and of those before that."""

    last: list[str]
    parent: list[str]
    above: list[str]
    text: str

    @property
    def all(self) -> list[str]:
        return [*self.last, *self.parent, *self.above]


def _named(leaf: Leaf) -> _Name:
    return _name_of(leaf.keys[-4:])


@lru_cache(maxsize=4_000)
def _name_of(keys: tuple[str, ...]) -> _Name:
    split = [words(key) for key in keys]
    last = split[-1] if split else []
    parent = split[-2] if len(split) > 1 else []
    above = [word for part in split[:-2] for word in part]
    return _Name(last, parent, above, keys[-1] if keys else "")


_PEOPLE = _set(
    "user users sender author owner pusher actor committer assignee assignees creator agent avatar "
    "reporter member reviewer operator requester"
)
_HEX = re.compile(r"[0-9a-fA-F]{7,64}")
_DIGEST = re.compile(r"sha256:[0-9a-fA-F]{64}")
_PINNED = re.compile(r"[^\s@]+@sha256:[0-9a-fA-F]{64}")
_ENDS_IN_SHA = re.compile(r"https?://\S+/[0-9a-f]{40}")
_COMMITTISH = _set("sha commit commits revision rev oid hash git head changeset")
_OTHER_COMMIT = _set("before parent parents base old previous tree blob from first destination")
_SHORT_COMMITTISH = _set("sha commit revision rev")
_NO_COMMIT = _set("digest checksum fingerprint token signature secret key image")


def _git_sha(leaf: Leaf, field: Wanted) -> Fit | None:
    if not all(isinstance(value, str) and _HEX.fullmatch(value) for _, value in leaf.values):
        return _sha_of_link(leaf)
    texts = [value for _, value in leaf.values]
    if any(set(text) == {"0"} for text in texts):
        return None
    named = _named(leaf)
    near = {*named.last, *named.parent}
    says_so = bool(near & _COMMITTISH)
    is_said = bool({*named.last[-2:]} & _SHORT_COMMITTISH)
    full = all(len(text) in (40, 64) for text in texts)
    if not full and (not is_said or any(text.isdigit() for text in texts)):
        return None
    score = (5.0 if full else 3.0) + (3.0 if says_so else 0.0)
    score += 1.0 if {"after", "head", "checkout"} & near else 0.0
    score -= 5.0 if {*named.all} & _OTHER_COMMIT else 0.0
    score -= 4.0 if set(named.last) & _NO_COMMIT else 0.0
    score -= 1.0 if any(len(text) == 64 for text in texts) else 0.0
    length = "40 hexadecimal digits" if full else "hexadecimal digits of a name that says commit"
    return Fit(score, length if full and len(texts[0]) == 40 else length.replace("40 ", ""))


def _sha_of_link(leaf: Leaf) -> Fit | None:
    if not all(
        isinstance(value, str) and _ENDS_IN_SHA.fullmatch(value) for _, value in leaf.values
    ):
        return None
    says_so = "commit" in "/".join([*_named(leaf).all, str(leaf.value)])
    return Fit(6.5, "a URL that ends in a commit", "/") if says_so else None


def _image_digest(leaf: Leaf, field: Wanted) -> Fit | None:
    texts = [value for _, value in leaf.values]
    near = {*_named(leaf).last, *_named(leaf).parent}
    less = 3.0 if near & _set("config layer layers parent base previous old") else 0.0
    if all(isinstance(text, str) and _DIGEST.fullmatch(text) for text in texts):
        more = 2.0 if near & {"digest", "sha", "sha256"} else 0.0
        return Fit(6.5 + more - less, "an image digest")
    if all(isinstance(text, str) and _PINNED.fullmatch(text) for text in texts):
        more = 1.0 if near & {"image", "images"} else 0.0
        return Fit(6.0 + more - less, "an image with its digest", "@")
    return None


_TIME_WORDS = _set(
    "at time timestamp date ts when epoch created updated modified finished completed started ended "
    "deployed occurred triggered resolved closed opened pushed"
)
_MAY_BE_TIME = re.compile(r"\s*\d{4}")
_OTHER_TIMES = _set(
    "expires expiry expiration due scheduled deadline next valid birth until estimated"
)


def _timestamp(leaf: Leaf, field: Wanted) -> Fit | None:
    named = _named(leaf)
    if not all(_MAY_BE_TIME.match(str(value)) for _, value in leaf.values):
        return None
    # A number may be anything: its name has to say that it is a time.
    if not all(isinstance(value, str) and "-" in value for _, value in leaf.values) and not (
        set(named.last) & _TIME_WORDS
    ):
        return None
    score = 5.0 + min(4.0, 2.0 * count_akin(named.last, field.words))
    score += min(1.5, 0.75 * count_akin([*named.parent, *named.above], field.words))
    score += 0.5 if {"timestamp", "time", "date"} & set(named.last) else 0.0
    score -= (
        1.0
        if count_akin(named.last, ["start", "queue", "schedule", "create"])
        and not (count_akin(named.last, field.words))
        else 0.0
    )
    score -= 6.0 if set(named.last) & _OTHER_TIMES else 0.0
    score -= (
        2.0 if {*named.parent, *named.above} & _PEOPLE and not field.words & {"commit"} else 0.0
    )
    return Fit(score, "a time" + (f" of the name {shown(named.text)}" if named.text else ""))


_APP_NAMES: Mapping[tuple[str, ...], float] = {
    ("full", "name"): 9.0,
    ("repo", "full", "name"): 9.5,
    ("path", "with", "namespace"): 9.5,
    ("app",): 9.0,
    ("application",): 9.0,
    ("service",): 8.8,
    ("microservice",): 8.8,
    ("app", "name"): 9.0,
    ("application", "name"): 9.0,
    ("service", "name"): 9.0,
    ("component",): 8.5,
    ("workload",): 8.0,
    ("repository",): 8.0,
    ("repository", "name"): 7.5,
    ("repo",): 8.0,
    ("project", "name"): 7.5,
    ("project",): 7.0,
    ("product",): 6.0,
    ("system",): 6.0,
    ("module",): 5.0,
    ("pipeline",): 5.0,
    ("job",): 5.0,
    ("metadata",): 5.0,
}
_NAME_KEYS: Mapping[str, float] = {"name": 0.0, "summary": -0.8, "slug": -0.6, "key": -0.8}
_LOOKS_LIKE_NO_NAME = re.compile(r"\w+://|git@|[0-9a-f]{8}-[0-9a-f]{4}-|sha256:|.*\n", re.DOTALL)


def _app(leaf: Leaf, field: Wanted) -> Fit | None:
    named = _named(leaf)
    if not all(isinstance(value, str) for _, value in leaf.values):
        return None
    if any(not value.strip() or _LOOKS_LIKE_NO_NAME.match(value) for _, value in leaf.values):
        return None
    last, parent = tuple(named.last), tuple(named.parent)
    score = _APP_NAMES.get(last, 0.0)
    if not score and len(last) == 1 and last[0] in _NAME_KEYS and parent:
        singular = (*parent[:-1], parent[-1].removesuffix("s"))
        score = max(0.0, _APP_NAMES.get(singular, 0.0) - 0.3 + _NAME_KEYS[last[0]])
    if not score and last == ("name",) and len(leaf.keys) == 1:
        score = 3.5
    if not score:
        return None
    score += 0.5 if last == ("full", "name") and {"repository", "project"} & set(parent) else 0.0
    score -= 8.0 if {*named.parent, *named.above} & _PEOPLE else 0.0
    score -= 2.0 if {"head", "base", "fork", "parent"} & {*named.parent, *named.above} else 0.0
    return Fit(score, f"the name {shown(_dotted(leaf))}")


_NAMESPACES: Mapping[str, float] = {
    "environment": 8.5,
    "env": 8.5,
    "namespace": 8.0,
    "stage": 7.0,
    "tier": 6.0,
    "target": 5.0,
    "cluster": 4.0,
}


def _namespace(leaf: Leaf, field: Wanted) -> Fit | None:
    named = _named(leaf)
    if not all(isinstance(value, str) and value.strip() for _, value in leaf.values):
        return None
    if any(_LOOKS_LIKE_NO_NAME.match(value) for _, value in leaf.values):
        return None
    key = named.last
    inner = 0.0
    if key in (["name"], ["slug"]) and named.parent:
        key, inner = named.parent, 0.3 if key == ["name"] else 0.6
    if len(key) == 2 and key[1] in ("name", "slug"):
        key, inner = key[:1], 0.3
    if len(key) != 1 or key[0] not in _NAMESPACES:
        return None
    around = {*named.parent, *named.above}
    less = 5.0 if around & ({"repository", "repo", "project", "package"} | _PEOPLE) else 0.0
    return Fit(_NAMESPACES[key[0]] - inner - less, f"the name {shown(_dotted(leaf))}")


_IDENTIFIERS: Mapping[str, float] = {
    "number": 4.0,
    "key": 3.8,
    "iid": 3.8,
    "fingerprint": 3.2,
    "id": 3.5,
    "ref": 3.0,
    "code": 3.0,
}


def _text(leaf: Leaf, field: Wanted) -> Fit | None:
    if any(isinstance(value, bool | float) or value == "" for _, value in leaf.values):
        return None
    named = _named(leaf)
    if {*named.parent, *named.above} & _PEOPLE:
        return None
    if named.last == list(field.name_words):
        return Fit(9.0, f"the name {shown(_dotted(leaf))}")
    *subject, last = field.name_words or ("",)
    score = 0.0
    if last in _IDENTIFIERS and named.last and named.last[-1] in _IDENTIFIERS:
        if isinstance(leaf.value, str) and re.match("https?:", leaf.value):
            return None
        score = _IDENTIFIERS[named.last[-1]]
        things = related(subject)
        if count_akin(named.last[:-1] or named.parent, things):
            score += 3.5 if named.last[:-1] or named.parent else 0.0
        elif len(leaf.keys) == 1 and not named.last[:-1]:
            score -= 0.3
        elif named.last[:-1]:
            score -= 2.0
        elif named.last == ["id"]:
            score -= 1.0
    elif named.last and is_akin(named.last[-1], last):
        score = 3.0 + count_akin(named.last, field.name_words)
    return Fit(score, f"the name {shown(_dotted(leaf))}") if score else None


def _number(leaf: Leaf, field: Wanted) -> Fit | None:
    named = _named(leaf)
    if named.last == list(field.name_words):
        return Fit(9.0, f"the name {shown(_dotted(leaf))}")
    score = 3.0 * count_akin(named.last, field.name_words)
    score += 2.0 * min(2, count_akin(named.last, field.words)) if not score else 0.0
    return Fit(score, f"a number of the name {shown(_dotted(leaf))}") if score else None


def _url(leaf: Leaf, field: Wanted) -> Fit | None:
    texts = [value for _, value in leaf.values]
    if not all(isinstance(text, str) and re.match(r"https?://", text) for text in texts):
        return None
    named = _named(leaf)
    subject = [word for word in field.name_words if word not in ("link", "url")]
    score = 2.0 + 4.0 * bool(count_akin([*named.last, *named.parent], subject))
    score += 1.0 if {"html", "web"} & set(named.last) else 0.0
    score += 1.0 if set(named.last) <= {"url", "html", "web", "link", "commit"} else 0.0
    score -= 4.0 if any("/api" in text or "//api." in text for text in texts) else 0.0
    score -= (
        4.0 if {"avatar", "icon", "git", "ssh", "clone"} & {*named.last, *named.parent} else 0.0
    )
    return Fit(score, "a URL")


def _choice(leaf: Leaf, field: Wanted) -> Fit | None:
    if not all(isinstance(value, str) and value in field.choices for _, value in leaf.values):
        return None
    # Of a state that only happens to be such a word here, other values are to be expected.
    says_so = bool(count_akin(_named(leaf).last, field.name_words))
    if not says_so and len({value for _, value in leaf.values}) < len(field.choices):
        return None
    return Fit(8.0 if says_so else 6.0, "its values are those of the field")


RECOGNISERS: Mapping[FieldType, Callable[[Leaf, Wanted], Fit | None]] = {
    FieldType.APP: _app,
    FieldType.CHOICE: _choice,
    FieldType.GIT_SHA: _git_sha,
    FieldType.IMAGE_DIGEST: _image_digest,
    FieldType.NAMESPACE: _namespace,
    FieldType.NUMBER: _number,
    FieldType.TEXT: _text,
    FieldType.TIMESTAMP: _timestamp,
    FieldType.URL: _url,
}


def _dotted(leaf: Leaf) -> str:
    return ".".join(leaf.keys[-2:])


Ranked = list[tuple[Leaf, Fit]]


def ranked(field: Wanted, found: Sequence[Leaf]) -> Ranked:
    """The paths that look like the field, best first; whether they can be read is not known yet."""
    recognise = RECOGNISERS[field.type]
    fitting: Ranked = []
    for leaf in found:
        fit = recognise(leaf, field)
        if fit is not None:
            # A name that holds the field's own is better than one that only has its shape.
            own = 1.0 if set(field.name_words) & set(_named(leaf).last) else 0.0
            missing = 3.0 * (1 - leaf.share)
            fitting.append((leaf, fit._replace(score=fit.score + own - missing)))
    return sorted(fitting, key=lambda one: -one[1].score)


def fitting(
    field: Wanted, candidates: Ranked, base: Path | None, bonus: float = 0.0
) -> list[Found]:
    """Those of the paths that the field's type takes as they are, best first. Inside of the list
    `base` they read the rule's item, and score the bonus; inside of other lists they read the first
    item, and score less."""
    found: list[Found] = []
    for leaf, fit in candidates[:_TRIED]:
        inside = is_inside(leaf.path, base)
        rest = leaf.path[len(base) + 1 :] if inside and base is not None else leaf.path
        depth = max(0, len([key for key in rest if key is not None]) - 2)
        lists_left = sum(key is None for key in rest)
        score = fit.score - 0.3 * depth - 2.5 * lists_left + (bonus if inside else 0.0)
        one = _found(field, leaf, base, fit._replace(score=score))
        if one is not None:
            found.append(one)
    return sorted(found, key=lambda one: -one.score)


def is_inside(path: Path, base: Path | None) -> bool:
    """Whether a path leads through the items of the list `base`."""
    return base is not None and path[: len(base) + 1] == (*base, None)


def _found(field: Wanted, leaf: Leaf, base: Path | None, fit: Fit) -> Found | None:
    expression = reading(leaf.path, base)
    taken = [raw for _, raw in leaf.values]
    if fit.after:
        expression = f"split(not_null({expression}, ''), '{fit.after}')[-1]"
        taken = [raw.rpartition(fit.after)[2] for raw in taken]
    if not _is_short(expression):
        return None
    offset = ""
    for raw in taken:
        if not _reads(field, raw, None):
            if field.type is not FieldType.TIMESTAMP or not _reads(field, raw, UTC):
                return None
            offset = "UTC"
    return Found(
        path=leaf.path,
        expression=expression,
        value=taken[0],
        score=fit.score,
        why=fit.why,
        offset=offset,
    )


def _reads(field: Wanted, raw: Any, offset: timezone | None) -> bool:
    try:
        field.read(raw, offset)
    except FieldError:
        return False
    return True
