"""Events folded into series, and the window of them that a scrape sees. Pure: no clock, no I/O.

Every sample carries an explicit time, that of its event's receipt: so an event counts exactly once
however often it is scraped, and a late one still counts. A series shows one sample at a time; where
the same series gets another event before a scrape can have seen the first, the second one's time is
moved on by `spacing`, so that each is shown for long enough to be scraped.
"""

import heapq
from bisect import insort
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gateway.correlation.fold import Correlation
from gateway.event import COMMIT, Event
from gateway.fieldtype import FieldType
from gateway.model import Metric, Model

CHUNK = 500
"""Lines that are kept, and rendered, together at most."""


class Line(NamedTuple):
    """A sample, rendered when its event came: `at` is in epoch milliseconds."""

    at: int
    text: str
    openmetrics: str


class Rendered(NamedTuple):
    """Lines as a reader wants them. Where they are compressed, `length` is that of the text, and
    `checksum` its share in the checksum of a longer one."""

    body: bytes
    checksum: int = 0
    length: int = 0


class Chunk:
    """Lines of one metric that stay as they are. `rendered` is what readers made of them, by the name
    of a format of theirs, kept for the next time."""

    __slots__ = ("lines", "rendered")

    def __init__(self, lines: tuple[Line, ...]) -> None:
        self.lines = lines
        self.rendered: dict[str, Rendered] = {}


class Family(NamedTuple):
    """The samples of one metric that a scrape shows."""

    name: str
    help: str
    chunks: list[Chunk]

    @property
    def lines(self) -> list[Line]:
        return [line for chunk in self.chunks for line in chunk.lines]


_Key = tuple[str, str]
"""A metric and the labels of a series."""


class _Due(NamedTuple):
    at: int
    order: int
    key: _Key
    app: str
    line: Line


class Window(NamedTuple):
    """How much a scrape shows. `length` and `spacing` are in milliseconds; `series` are shown at most,
    `series_of_app` of them for one app, the most recent ones. With `own_times` a sample stands at its
    event's own time, where the window reaches back so far."""

    length: int
    spacing: int
    series: int = 50_000
    series_of_app: int = 5_000
    own_times: bool = False


class Series:
    """The fold of all events into what the window shows."""

    def __init__(self, models: Mapping[str, Model], window: Window) -> None:
        self.correlation = Correlation()
        self.overflow = 0
        self._feeds = {kind: _Feeds(model) for kind, model in models.items()}
        self._window = window
        self._folded = 0
        self._last: dict[_Key, int] = {}
        self._due: list[_Due] = []
        self._ages: list[_Due] = []
        self._ages_of_app: dict[str, deque[_Due]] = {}
        self._sizes: Counter[str] = Counter()
        self._size = 0
        self._shown: dict[str, _Shelf] = {
            metric.name: _Shelf() for model in models.values() for metric in model.metrics
        }
        self._help = {
            metric.name: metric.help for model in models.values() for metric in model.metrics
        }
        self._never_shown = 0
        self._passed: list[tuple[int, _Key]] = []

    def skip_before(self, now: int) -> None:
        """Promises that no scrape comes before this time (epoch milliseconds). Samples that have left
        the window by then are learned from and no more: a history is folded in half the time."""
        self._never_shown = now - self._window.length

    def fold(self, event: Event, received_at: int) -> None:
        """Takes in an event received at this time (epoch milliseconds), in the journal's order."""
        at = received_at
        for shown, is_echo, _ in self.correlation.fold(event, received_at / 1000):
            feeds = self._feeds.get(shown.kind)
            metric = feeds.metric_of(shown) if feeds else None
            if feeds is None or metric is None:
                continue
            labels = feeds.labels[metric.name]
            if shown.kind == COMMIT:
                # It joins and is not counted. Beside a deployment it stands at that one's own time:
                # rules that join the two look at both at one moment.
                self._show_commit(labels, metric, shown, at if is_echo else received_at)
            else:
                time = self._time(shown, metric, received_at)
                moved = self._show(labels, metric, shown, time)
                if shown.kind == event.kind:
                    at = moved

    def _time(self, event: Event, metric: Metric, received_at: int) -> int:
        """Where a sample stands before it is spaced."""
        if not self._window.own_times or metric.value != "timestamp":
            return received_at
        own = round(event.number("timestamp") * 1000)
        return own if received_at - self._window.length < own <= received_at else received_at

    def _show_commit(self, labels: "Labels", metric: Metric, event: Event, at: int) -> None:
        if at <= self._never_shown:
            # It has no bearing on the time of any other.
            return
        key = (metric.name, labels.of(event))
        if self._last.get(key, at - 1) < at:
            self._schedule(key, metric, event, at)

    def _show(self, labels: "Labels", metric: Metric, event: Event, at: int) -> int:
        key = (metric.name, labels.of(event))
        last = self._last.get(key)
        if last is not None:
            if last >= at and not self._window.spacing:
                return last
            at = max(at, last + self._window.spacing)
        if at > self._never_shown:
            self._schedule(key, metric, event, at)
        else:
            self._last[key] = at
            heapq.heappush(self._passed, (at, key))
        return at

    def _schedule(self, key: _Key, metric: Metric, event: Event, at: int) -> None:
        self._last[key] = at
        self._folded += 1
        line = _line(key, written(event.number(metric.value)), at)
        heapq.heappush(self._due, _Due(at, self._folded, key, event.text("app"), line))

    def advance(self, now: int) -> None:
        """Brings the window to this time (epoch milliseconds)."""
        oldest = now - self._window.length
        while self._due and self._due[0].at <= now:
            due = heapq.heappop(self._due)
            if due.at > oldest:
                self._enter(due)
            else:
                self._forget(due.key, due.at)
        while self._ages and self._ages[0].at <= oldest:
            due = heapq.heappop(self._ages)
            self._leave(due)
            self._forget(due.key, due.at)
        while self._passed and self._passed[0][0] <= oldest:
            at, key = heapq.heappop(self._passed)
            self._forget(key, at)

    def _enter(self, due: _Due) -> None:
        metric, labels = due.key
        before = self._shown[metric].put(labels, due)
        if before is None:
            self._size += 1
        else:
            # Where no label says the app, the series may have been another one's.
            self._sizes[before.app] -= 1
        self._sizes[due.app] += 1
        heapq.heappush(self._ages, due)
        of_app = self._ages_of_app.get(due.app)
        if of_app is None:
            of_app = self._ages_of_app[due.app] = deque()
        # Almost all come in the order of their times. One that does not stands where it would had it come
        # in time, so that a full window shows the same after a restart.
        if of_app and due < of_app[-1]:
            insort(of_app, due)
        else:
            of_app.append(due)
        while self._sizes[due.app] > self._window.series_of_app:
            self.overflow += self._leave(of_app[0])
        while self._size > self._window.series:
            due = heapq.heappop(self._ages)
            self.overflow += self._leave(due)
            self._forget(due.key, due.at)

    def _leave(self, due: _Due) -> bool:
        """Takes a sample out of the window; whether it was still the one that its series shows."""
        is_shown = self._is_shown(due)
        if is_shown:
            metric, labels = due.key
            self._shown[metric].take(labels)
            self._size -= 1
            self._sizes[due.app] -= 1
        of_app = self._ages_of_app.get(due.app)
        while of_app and not self._is_shown(of_app[0]):
            of_app.popleft()
        if of_app is not None and not of_app:
            del self._ages_of_app[due.app], self._sizes[due.app]
        return is_shown

    def _is_shown(self, due: _Due) -> bool:
        metric, labels = due.key
        return self._shown[metric].get(labels) is due

    def _forget(self, key: _Key, at: int) -> None:
        # A series that left the window has no bearing on the times of later samples.
        if self._last.get(key) == at:
            del self._last[key]

    def families(self) -> Iterator[Family]:
        """The window as it stands after the last `advance`, metrics in the models' order. What they
        hold stays as it is, whatever comes later."""
        for name, shelf in self._shown.items():
            yield Family(name, self._help[name], shelf.chunks())

    def counts(self) -> dict[str, int]:
        """How many samples of each metric the window shows."""
        return {name: len(shelf) for name, shelf in self._shown.items()}


class _Shelf:
    """The samples of one metric in the order in which their series came, in boxes of limited size: what
    a reader made of a box holds until a line in it changes."""

    def __init__(self) -> None:
        self._boxes: dict[int, _Box] = {}
        self._newest = _Box(0)
        self._box_of: dict[str, _Box] = {}

    def __len__(self) -> int:
        return len(self._box_of)

    def get(self, labels: str) -> _Due | None:
        box = self._box_of.get(labels)
        return box.samples[labels] if box else None

    def put(self, labels: str, sample: _Due) -> _Due | None:
        """Sets the sample of a series; the one that it had."""
        box = self._box_of.get(labels)
        before = box.samples[labels] if box else None
        if box is None:
            if len(self._newest.samples) >= CHUNK or not self._boxes:
                self._newest = _Box(self._newest.number + 1)
                self._boxes[self._newest.number] = self._newest
            box = self._box_of[labels] = self._newest
        box.samples[labels] = sample
        box.chunk = None
        return before

    def take(self, labels: str) -> None:
        """Removes the sample of a series."""
        box = self._box_of.pop(labels)
        del box.samples[labels]
        box.chunk = None
        if not box.samples:
            del self._boxes[box.number]
            if box is self._newest:
                self._newest = next(reversed(self._boxes.values()), box)

    def chunks(self) -> list[Chunk]:
        return [box.closed() for box in self._boxes.values()]


class _Box:
    __slots__ = ("chunk", "number", "samples")

    def __init__(self, number: int) -> None:
        self.number = number
        self.samples: dict[str, _Due] = {}
        self.chunk: Chunk | None = None

    def closed(self) -> Chunk:
        if self.chunk is None:
            self.chunk = Chunk(tuple(sample.line for sample in self.samples.values()))
        return self.chunk


def _line(key: _Key, value: str, at: int) -> Line:
    metric, labels = key
    sample = f"{metric}{{{labels}}} {value}"
    return Line(at, f"{sample} {at}\n", f"{sample} {at // 1000}.{at % 1000:03}\n")


class Labels:
    """The labels that name the series of an event, as the formats write them."""

    def __init__(self, model: Model, metric: Metric) -> None:
        self._fields = tuple(metric.labels.values())
        # Pelorus's dashboards look for an app between slashes.
        self._apps = tuple(
            place
            for place, name in enumerate(self._fields)
            if model.fields[name].type is FieldType.APP
        )
        self._template = ",".join(f'{label}="%s"' for label in metric.labels)
        self._quotes = 2 * len(self._fields)

    def of(self, event: Event) -> str:
        get = event.fields.get
        values = [get(name, "") for name in self._fields]
        for place in self._apps:
            if values[place]:
                values[place] = f"/{values[place]}/"
        text = self._template % tuple(values)
        if "\\" in text or "\n" in text or text.count('"') != self._quotes:
            return self._template % tuple(_escaped(str(value)) for value in values)
        return text


class _Feeds:
    """The metrics of a kind."""

    def __init__(self, model: Model) -> None:
        self.labels = {metric.name: Labels(model, metric) for metric in model.metrics}
        self._model = model
        # Most kinds feed one metric, whatever the event.
        always = model.metrics and not model.metrics[0].when
        self._always = model.metrics[0] if always else None

    def metric_of(self, event: Event) -> Metric | None:
        return self._always or self._model.metric_of(event)


def label_pairs(labels: Mapping[str, str]) -> Iterator[str]:
    """Each label with its value, as the formats write them."""
    return (f'{label}="{_escaped(value)}"' for label, value in labels.items())


def heading(name: str, text: str, *, openmetrics: bool) -> str:
    """The lines before the samples of a metric. The formats write a quote in its help in two ways."""
    text = _escaped(text) if openmetrics else text.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def written(value: float) -> str:
    """A value as the formats write it, in full."""
    return str(value) if isinstance(value, int) else repr(value)
