"""Which commit an artefact was made from, as far as events have told, in whatever order. Pure.

An app's artefacts are known by names of four kinds: a release is tagged on an image's name, a name
stands for a digest, a digest was built from a commit. Each name leads to the names below it; at the
bottom stands a commit. Nothing is guessed: a name that leads to two commits leads to none, apart from
a digest, whose content never changes, so that the commit it was first told of is as good as another.
"""

from collections.abc import Iterator
from enum import IntEnum

from msgspec import Struct

from gateway.event import Event

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


class Name(Struct, frozen=True):
    """A name of an artefact, within an app."""

    app: str
    kind: Kind
    text: str


def names_of(event: Event) -> list[Name]:
    """The names that an event tells, the one that it is best called by first."""
    app = event.text("app")
    found = [(kind, event.text(field)) for kind, field in FIELDS.items()]
    return [Name(app, kind, text) for kind, text in found if text]


class Lineage:
    """What is known. Grows with commits and artefacts, not with deliveries."""

    def __init__(self) -> None:
        self.conflicts = 0
        self._commits: dict[Name, Event] = {}
        self._below: dict[Name, list[Name]] = {}
        self._above: dict[Name, list[Name]] = {}
        # Commits that are mentioned, by their first digits.
        self._whole: dict[tuple[str, str], dict[Name, None]] = {}
        self._short: dict[tuple[str, str], dict[Name, None]] = {}

    def learn(self, commit: Event) -> Event:
        """Takes a commit in; one told twice has its earliest time and what either telling knows."""
        name = Name(commit.text("app"), Kind.COMMIT, commit.text("commit"))
        known = self._commits.get(name)
        if known is not None:
            earliest = min(known.number("timestamp"), commit.number("timestamp"))
            fields = {**commit.fields, **known.fields, "timestamp": earliest}
            commit = Event(commit.kind, fields)
        self._commits[name] = commit
        self.mention(name)
        return commit

    def link(self, names: list[Name]) -> None:
        """These name one artefact."""
        for name in names:
            self.mention(name)
            for other in names:
                if other.kind < name.kind:
                    self._lead(name, other)

    def mention(self, name: Name) -> None:
        """Makes a commit's name one that shorter and longer ones are compared with."""
        if name.kind is Kind.COMMIT:
            names = self._whole if len(name.text) >= WHOLE else self._short
            names.setdefault((name.app, name.text[:SHORT]), {})[name] = None

    def _lead(self, name: Name, below: Name) -> None:
        known = self._below.setdefault(name, [])
        if below in known:
            return
        if name.kind is Kind.DIGEST and known:
            self.conflicts += not any(_is_same_commit(below, one) for one in known)
            return
        known.append(below)
        self._above.setdefault(below, []).append(name)

    def commit_of(self, name: Name) -> Event | None:
        """The commit that a name stands for; None where none is known, or more than one."""
        found = {one.text: self._commits[one] for one in self._bottom(name, set())}
        if not found:
            return None
        longest = max(found, key=len)
        if not all(longest.startswith(text) for text in found):
            return None
        earliest = min(found.values(), key=lambda commit: commit.number("timestamp"))
        if earliest.text("commit") == longest:
            return earliest
        # Told short by one and whole by another it is one commit, which goes by its whole name.
        return Event(earliest.kind, {**earliest.fields, "commit": longest})

    def _bottom(self, name: Name, seen: set[Name]) -> Iterator[Name]:
        if name in seen:
            return
        seen.add(name)
        if name.kind is Kind.COMMIT:
            yield from (one for one in self._alike(name) if one in self._commits)
        for below in self._below.get(name, ()):
            yield from self._bottom(below, seen)

    def _alike(self, commit: Name) -> list[Name]:
        """The names of this commit, shorter or longer. No whole SHA is the beginning of another."""
        key = (commit.app, commit.text[:SHORT])
        found = [one for one in self._short.get(key, ()) if _is_same_commit(one, commit)]
        if len(commit.text) >= WHOLE:
            return [commit, *found]
        return [*found, *(one for one in self._whole.get(key, ()) if _is_same_commit(one, commit))]

    def led_by(self, name: Name) -> Iterator[Name]:
        """This name and all that lead to it: those that something new about it concerns."""
        seen: set[Name] = set()
        waiting = [name]
        while waiting:
            one = waiting.pop()
            if one in seen:
                continue
            seen.add(one)
            yield one
            waiting += self._above.get(one, ())
            if one.kind is Kind.COMMIT:
                waiting += self._alike(one)


def _is_same_commit(one: Name, other: Name) -> bool:
    if one.kind is not Kind.COMMIT or other.kind is not Kind.COMMIT:
        return one == other
    return one.text.startswith(other.text) or other.text.startswith(one.text)
