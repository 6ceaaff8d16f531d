"""Which commit an image carries, in whatever order that is learned: events in, events to show out.

A push knows a commit and its time, a registry links a commit to an image, a deployment names an
image or only a commit. What is shown joins them on `image_sha`: the image, or, where no image is
known, the commit in its place on both sides. Pure: no clock and no I/O.
"""

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from gateway import event as events
from gateway.event import Event

Key = tuple[str, str]
"""An app, and a commit or a carrier of it: an image, or the commit itself."""


class Shown(Struct, frozen=True):
    """An event to show. An echo repeats a commit for the sake of a deployment: it adds no count."""

    event: Event
    echo: bool = False


class Correlation:
    """The fold. What it remembers grows with the apps' commits, not with deliveries."""

    def __init__(self) -> None:
        self.conflicts = 0
        self._commits: dict[Key, Event] = {}
        self._images: dict[Key, list[str]] = {}
        self._carried: dict[Key, str] = {}
        self._stand_ins: set[Key] = set()

    def fold(self, event: Event) -> Iterator[Shown]:
        """Learns from an event, and yields what is to be shown because of it."""
        match event.kind:
            case events.COMMIT:
                yield from self._commit(event)
            case events.BUILD:
                yield from self._build(event)
            case events.DEPLOYMENT:
                yield from self._deployment(event)
            case _:
                yield Shown(event)

    def _commit(self, event: Event) -> Iterator[Shown]:
        key = (event.text("app"), event.text("commit"))
        self._commits[key] = _earlier(self._commits.get(key), event)
        if image := event.text("image_sha"):
            self._link(*key, image)
        carriers = list(self._images.get(key, ()))
        if not carriers or key in self._stand_ins:
            carriers.append(key[1])
        for carrier in carriers:
            yield from self._carried_by(key, carrier, echo=False)

    def _build(self, event: Event) -> Iterator[Shown]:
        key = (event.text("app"), event.text("commit"))
        image = event.text("image_sha")
        self._link(*key, image)
        if key in self._commits:
            yield from self._carried_by(key, image, echo=False)

    def _deployment(self, event: Event) -> Iterator[Shown]:
        app, commit, image = (event.text(name) for name in ("app", "commit", "image_sha"))
        if image and commit:
            self._link(app, commit, image)
        if not image:
            image = self._images.get((app, commit), [commit])[-1]
        if image == commit:
            self._stand_ins.add((app, commit))
        yield Shown(_with_image(event, image))
        key = (app, self._carried.get((app, image), commit))
        if key in self._commits:
            yield from self._carried_by(key, image, echo=True)

    def _link(self, app: str, commit: str, image: str) -> None:
        images = self._images.setdefault((app, commit), [])
        if image not in images:
            images.append(image)
        self._carried.setdefault((app, image), commit)

    def _carried_by(self, key: Key, carrier: str, *, echo: bool) -> Iterator[Shown]:
        # One commit per carrier for ever: a second one would be a duplicate on one side of the join,
        # and Prometheus then gives up the whole rule, for every app.
        if self._carried.setdefault((key[0], carrier), key[1]) != key[1]:
            self.conflicts += not echo
            return
        yield Shown(_with_image(self._commits[key], carrier), echo)


def _earlier(known: Event | None, event: Event) -> Event:
    """One commit told twice: its earliest time, and whatever either telling knows."""
    if known is None:
        return event
    fields = {**event.fields, **known.fields}
    fields["timestamp"] = min(known.number("timestamp"), event.number("timestamp"))
    return Event(events.COMMIT, fields)


def _with_image(event: Event, image: str) -> Event:
    return msgspec.structs.replace(event, fields={**event.fields, "image_sha": image})
