"""Which commit an artefact was made from, as far as events have told, in whatever order. Pure.

An app's artefacts are known by names of four kinds: a release is tagged on an image's name, a name
stands for a digest, a digest was built from a commit. Each name leads to the names below it; at the
bottom stands a commit. Nothing is guessed: a name that leads to two commits leads to none, apart from
a digest, whose content never changes, so that the commit it was first told of is as good as another.

Every name ever told is remembered, so a name is a number here, and what is known of it stands in columns.
"""

from array import array
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from gateway.correlation.packing import (
    Keys,
    Texts,
    packed_text,
    packed_time,
    unpacked_text,
    unpacked_time,
)
from gateway.event import Event, FieldValue

SHORT, WHOLE = 7, 40
"""Digits that a SHA has at least where it is short, and where it is whole."""


class Kind(IntEnum):
    """What a name is a name of; each leads only to those before it."""

    COMMIT = 0
    DIGEST = 1
    IMAGE = 2
    RELEASE = 3


FIELDS = {
    Kind.DIGEST: "image_sha",
    Kind.COMMIT: "commit",
    Kind.IMAGE: "image",
    Kind.RELEASE: "release",
}
"""The field that holds a name of a kind, in the order in which a deployment is called by them."""

_NAMES = tuple((int(kind), field) for kind, field in FIELDS.items())
_COMMIT, _DIGEST = int(Kind.COMMIT), int(Kind.DIGEST)
_COLUMNS = frozenset(("app", "commit", "timestamp", "image_sha"))
"""Fields of a commit that have a column; the others are its details."""
_APP_BYTES = 4
_HEAD = 1 + _APP_BYTES
_FORMS = 4


class Commit(NamedTuple):
    """A commit that a name stands for: `called` is the name that it goes by, `told` the one under which
    it was told of at its earliest time. They differ where it was told short and whole."""

    called: int
    told: int


class Lineage:
    """What is known. Grows with commits and artefacts, not with deliveries."""

    def __init__(self) -> None:
        self.conflicts = 0
        self._apps = Texts()
        self._keys = Keys()
        # Commits by their first digits, from the first short SHA on: before, none is compared with another.
        self._begins: dict[bytes, list[int]] | None = None
        # Columns, by the number of the name.
        self._kinds = bytearray(1)
        # Links: the first one, and the others apart. Nothing is below a commit; what has been told of
        # one stands there.
        self._below = array("I", (0,))
        self._above = array("I", (0,))
        self._more_below: dict[int, list[int]] = {}
        self._more_above: dict[int, list[int]] = {}
        # Of commits that have been told of: their earliest time, details and digest as they were first told.
        self._time = array("d", (0.0,))
        self._details = array("I", (0,))
        self._digest = array("I", (0,))
        # Details that a later telling added to.
        self._details_now: dict[int, int] = {}
        self._known_details = _Details()
        # Names of two kinds with one text, by the first of them; they may be where the first bytes of
        # keys differ by the kind alone.
        self._twins: dict[int, int] = {}
        self._heads: set[int] = set()

    def name(self, app: str, kind: int, text: str) -> int:
        """The number of a name, which is known from now on: a commit's is compared with shorter and
        longer ones."""
        form, raw = packed_text(text)
        rest = self._apps.number(app).to_bytes(_APP_BYTES, "little") + raw
        key = bytes((kind * _FORMS + form,)) + rest
        number = self._keys.find(key)
        if number:
            return number
        number = self._keys.add(key)
        self._heads.add(key[0])
        for other in range(len(_NAMES)):
            head = other * _FORMS + form
            if other != kind and head in self._heads:
                twin = self._keys.find(bytes((head,)) + rest)
                if twin:
                    self._twins[number] = self.twin(twin)
        self._kinds.append(kind)
        if kind == _COMMIT:
            self._begin(number, text)
        self._below.append(0)
        self._above.append(0)
        return number

    def _begin(self, commit: int, text: str) -> None:
        """Makes a commit one that is found by its first digits, where that is asked for."""
        if self._begins is None:
            if len(text) >= WHOLE:
                return
            self._begins = {}
            for number in range(1, commit):
                if self._kinds[number] == _COMMIT:
                    self._begins.setdefault(self._begin_of(number), []).append(number)
        self._begins.setdefault(self._begin_of(commit), []).append(commit)

    def _begin_of(self, commit: int) -> bytes:
        """The app of a commit and its first digits."""
        return self._keys[commit][1:_HEAD] + self.text(commit)[:SHORT].encode()

    def names(self, event: Event) -> list[int]:
        """The names that an event tells, the one that it is best called by first. All of them are known
        from now on."""
        app = event.text("app")
        return [self.name(app, kind, text) for kind, field in _NAMES if (text := event.text(field))]

    def kind(self, name: int) -> int:
        return self._kinds[name]

    def text(self, name: int) -> str:
        key = self._keys[name]
        return unpacked_text(key[0] % _FORMS, key[_HEAD:])

    def twin(self, name: int) -> int:
        """The first name of the app that has the same text, of whatever kind."""
        return self._twins.get(name, name)

    def time(self, commit: int) -> float:
        """When a commit was made, in epoch seconds; 0 where it has not been told of."""
        return unpacked_time(self._time[self._below[commit]])

    def details(self, commit: int) -> int:
        """What else was told of a commit, as a number: with all that either telling knows."""
        return self._details_now.get(commit, self._details[self._below[commit]])

    def first_details(self, commit: int) -> int:
        """The same of its first telling alone."""
        return self._details[self._below[commit]]

    def has_first_details(self, commit: int) -> bool:
        """Whether no later telling added to them."""
        return commit not in self._details_now

    def detail_fields(self, details: int, commit: int) -> dict[str, FieldValue]:
        """The fields of details of this commit."""
        return self._known_details.fields(details, self.text(commit)) if details else {}

    def learn(self, commit: Event) -> list[int]:
        """Takes a commit in, and gives its names. One told twice has its earliest time and what either
        telling knows."""
        app, fields = commit.text("app"), commit.fields
        text = commit.text("commit")
        number = self.name(app, _COMMIT, text)
        at = commit.number("timestamp")
        known = place = self._below[number]
        if not place:
            place = self._below[number] = len(self._time)
            self._time.append(packed_time(at))
            self._details.append(0)
            self._digest.append(0)
        elif at < unpacked_time(self._time[place]):
            self._time[place] = packed_time(at)
        if len(fields) > 3:
            digest = commit.text("image_sha")
            if digest and not self._digest[place]:
                self._digest[place] = self.name(app, _DIGEST, digest)
            told = {name: value for name, value in fields.items() if name not in _COLUMNS}
            if told:
                self._learn_details(number, told, text, is_first=not known)
        names = [number]
        if self._digest[place]:
            names.insert(0, self._digest[place])
        details = self.details(number)
        if details and self._known_details.has_names(details):
            own = self._known_details.fields(details, text)
            names += [
                self.name(app, kind, str(own[field]))
                for kind, field in _NAMES
                if field in own and own[field] != ""
            ]
        return names

    def _learn_details(
        self, number: int, told: dict[str, FieldValue], text: str, *, is_first: bool
    ) -> None:
        if is_first:
            self._details[self._below[number]] = self._known_details.number(told, text)
            return
        known = self.details(number)
        own = self._known_details.fields(known, text) if known else {}
        if told.keys() - own.keys():
            self._details_now[number] = self._known_details.number({**told, **own}, text)

    def link(self, names: list[int]) -> None:
        """These name one artefact."""
        for name in names:
            kind = self.kind(name)
            for other in names:
                if self.kind(other) < kind:
                    self._lead(name, other, kind)

    def _lead(self, name: int, below: int, kind: int) -> None:
        first = self._below[name]
        if first:
            known = [first, *self._more_below.get(name, ())]
            if below in known:
                return
            if kind == _DIGEST:
                self.conflicts += not any(self._is_same_commit(below, one) for one in known)
                return
            self._more_below.setdefault(name, []).append(below)
        else:
            self._below[name] = below
        if self._above[below]:
            self._more_above.setdefault(below, []).append(name)
        else:
            self._above[below] = name

    def commit_of(self, name: int) -> Commit | None:
        """The commit that a name stands for; None where none is known, or more than one."""
        if self._begins is None:
            # Most names lead straight down to one commit.
            kinds, bottom = self._kinds, name
            while kinds[bottom] and bottom not in self._more_below:
                bottom = self._below[bottom]
                if not bottom:
                    return None
            if not kinds[bottom]:
                return Commit(bottom, bottom) if self._below[bottom] else None
        found = self._bottom(name)
        if not found:
            return None
        if len(found) == 1:
            return Commit(found[0], found[0])
        texts = {one: self.text(one) for one in found}
        called = max(texts, key=lambda one: len(texts[one]))
        if not all(texts[called].startswith(text) for text in texts.values()):
            return None
        # Told short by one and whole by another it is one commit, which goes by its whole name.
        return Commit(called, min(texts, key=self.time))

    def straight_down(self, name: int) -> int:
        """The commit that a name leads to by what was told first, 0 where it leads to none yet. Once
        there is one it stays."""
        while self._kinds[name]:
            name = self._below[name]
            if not name:
                break
        return name

    def _bottom(self, name: int) -> list[int]:
        """The commits that have been told of and that a name leads to, each once."""
        found: list[int] = []
        seen: set[int] = set()
        waiting = [name]
        while waiting:
            one = waiting.pop()
            if one in seen:
                continue
            seen.add(one)
            if self._kinds[one] == _COMMIT:
                found += [
                    alike for alike in self._alike(one) if self._below[alike] and alike not in found
                ]
            elif self._below[one]:
                waiting += reversed(self._more_below.get(one, ()))
                waiting.append(self._below[one])
        return found

    def _alike(self, commit: int) -> list[int]:
        """The names of this commit, shorter or longer. No whole SHA is the beginning of another."""
        if self._begins is None:
            return [commit]
        text = self.text(commit)
        short: list[int] = []
        whole: list[int] = []
        for number in self._begins[self._begin_of(commit)]:
            other = self.text(number)
            if text.startswith(other) or other.startswith(text):
                (whole if len(other) >= WHOLE else short).append(number)
        return [commit, *short] if len(text) >= WHOLE else [*short, *whole]

    def leads_nothing(self, name: int) -> bool:
        """Whether it is certain that no other name leads to this one."""
        return not self._above[name] and self._begins is None

    def led_by(self, name: int) -> Iterator[int]:
        """This name and all that lead to it: those that something new about it concerns."""
        seen: set[int] = set()
        waiting = [name]
        while waiting:
            one = waiting.pop()
            if one in seen:
                continue
            seen.add(one)
            yield one
            if self._above[one]:
                waiting.append(self._above[one])
                waiting += self._more_above.get(one, ())
            if self._kinds[one] == _COMMIT:
                waiting += self._alike(one)

    def _is_same_commit(self, one: int, other: int) -> bool:
        if self.kind(one) != _COMMIT or self.kind(other) != _COMMIT:
            return one == other
        text, longer = self.text(one), self.text(other)
        return text.startswith(longer) or longer.startswith(text)


_Detail = tuple[str, FieldValue, type]
_MARK = "\0"


class _Details:
    """Sets of fields, numbered from 1 on. Those that differ by a commit's own SHA alone, such as its
    link, are one."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[_Detail, ...], int] = {}
        self._kept: list[tuple[_Detail, ...]] = [()]

    def number(self, fields: dict[str, FieldValue], sha: str) -> int:
        # The type belongs to it: 1 and 1.0 are equal and are written differently.
        can_mark = not any(_MARK in value for value in fields.values() if isinstance(value, str))
        key = tuple(
            (
                name,
                value.replace(sha, _MARK) if can_mark and isinstance(value, str) and sha else value,
                type(value),
            )
            for name, value in fields.items()
        )
        if not can_mark:
            key = (("", 0, int), *key)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._kept)
            self._kept.append(key)
        return number

    def fields(self, number: int, sha: str) -> dict[str, FieldValue]:
        kept = self._kept[number]
        if not kept[0][0]:
            return {name: value for name, value, _ in kept[1:]}
        return {
            name: value.replace(_MARK, sha) if isinstance(value, str) else value
            for name, value, _ in kept
        }

    def has_names(self, number: int) -> bool:
        """Whether an artefact's names are among them."""
        return any(name in ("image", "release") for name, _, _ in self._kept[number])
