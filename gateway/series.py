"""Events folded into series, and the window of them that a scrape sees. Pure: no clock, no I/O.

Every sample carries an explicit time, that of its event's receipt: so an event counts exactly once
however often it is scraped, and a late one still counts. A series shows one sample at a time; where
the same series gets another event before a scrape can have seen the first, the second one's time is
moved on by `spacing`, so that each is shown for long enough to be scraped.
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gateway.correlation.fold import Correlation
from gateway.event import COMMIT, Event, FieldValue
from gateway.fieldtype import FieldType
from gateway.model import Metric, Model


class Line(NamedTuple):
    """A sample, rendered when its event came: `at` is in epoch milliseconds."""

    at: int
    text: str
    openmetrics: str


class Family(NamedTuple):
    """The samples of one metric that a scrape shows."""

    name: str
    help: str
    lines: list[Line]


class _Due(NamedTuple):
    at: int
    order: int
    metric: str
    app: str
    labels: str
    value: str


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
        self._models = models
        self._window = window
        self._folded = 0
        self._last: dict[tuple[str, str], int] = {}
        self._due: list[_Due] = []
        self._ages: list[_Due] = []
        self._ages_of_app: dict[str, deque[_Due]] = {}
        self._sizes: Counter[str] = Counter()
        self._size = 0
        self._shown: dict[str, dict[str, Line]] = {
            metric.name: {} for model in models.values() for metric in model.metrics
        }
        self._help = {
            metric.name: metric.help for model in models.values() for metric in model.metrics
        }

    def fold(self, event: Event, received_at: int) -> None:
        """Takes in an event received at this time (epoch milliseconds), in the journal's order."""
        at = received_at
        for shown in self.correlation.fold(event, received_at / 1000):
            model = self._models.get(shown.event.kind)
            metric = model.metric_of(shown.event) if model else None
            if model is None or metric is None:
                continue
            if shown.event.kind == COMMIT:
                # It joins and is not counted. Beside a deployment it stands at that one's own time:
                # rules that join the two look at both at one moment.
                self._show(model, metric, shown.event, at if shown.echo else received_at, 0)
            else:
                time = self._time(shown.event, metric, received_at)
                moved = self._show(model, metric, shown.event, time, self._window.spacing)
                if shown.event.kind == event.kind:
                    at = moved

    def _time(self, event: Event, metric: Metric, received_at: int) -> int:
        """Where a sample stands before it is spaced."""
        if not self._window.own_times or metric.value != "timestamp":
            return received_at
        own = round(event.number("timestamp") * 1000)
        return own if received_at - self._window.length < own <= received_at else received_at

    def _show(self, model: Model, metric: Metric, event: Event, at: int, spacing: int) -> int:
        labels = labels_of(model, metric, event)
        last = self._last.get((metric.name, labels))
        if last is not None:
            if not spacing and last >= at:
                return last
            at = max(at, last + spacing)
        self._last[metric.name, labels] = at
        self._folded += 1
        value = written(event.number(metric.value))
        due = _Due(at, self._folded, metric.name, event.text("app"), labels, value)
        heapq.heappush(self._due, due)
        return at

    def advance(self, now: int) -> None:
        """Brings the window to this time (epoch milliseconds)."""
        oldest = now - self._window.length
        while self._due and self._due[0].at <= now:
            due = heapq.heappop(self._due)
            if due.at > oldest:
                self._enter(due)
            else:
                self._forget(due)
        while self._ages and self._ages[0].at <= oldest:
            due = heapq.heappop(self._ages)
            self._leave(due)
            self._forget(due)

    def _enter(self, due: _Due) -> None:
        lines = self._shown[due.metric]
        if due.labels not in lines:
            self._size += 1
            self._sizes[due.app] += 1
        lines[due.labels] = _line(due)
        heapq.heappush(self._ages, due)
        of_app = self._ages_of_app.setdefault(due.app, deque())
        of_app.append(due)
        while self._sizes[due.app] > self._window.series_of_app:
            self.overflow += self._leave(of_app[0])
        while self._size > self._window.series:
            due = heapq.heappop(self._ages)
            self.overflow += self._leave(due)
            self._forget(due)

    def _leave(self, due: _Due) -> bool:
        """Takes a sample out of the window; whether it was still the one that its series shows."""
        is_shown = self._is_shown(due)
        if is_shown:
            del self._shown[due.metric][due.labels]
            self._size -= 1
            self._sizes[due.app] -= 1
        of_app = self._ages_of_app.get(due.app)
        while of_app and not self._is_shown(of_app[0]):
            of_app.popleft()
        if of_app is not None and not of_app:
            del self._ages_of_app[due.app], self._sizes[due.app]
        return is_shown

    def _is_shown(self, due: _Due) -> bool:
        line = self._shown[due.metric].get(due.labels)
        return line is not None and line.at == due.at

    def _forget(self, due: _Due) -> None:
        # A series that left the window has no bearing on the times of later samples.
        if self._last.get((due.metric, due.labels)) == due.at:
            del self._last[due.metric, due.labels]

    def families(self) -> Iterator[Family]:
        """The window as it stands after the last `advance`, metrics in the models' order."""
        for name, lines in self._shown.items():
            yield Family(name, self._help[name], list(lines.values()))

    def counts(self) -> dict[str, int]:
        """How many samples of each metric the window shows."""
        return {name: len(lines) for name, lines in self._shown.items()}


def _line(due: _Due) -> Line:
    sample = f"{due.metric}{{{due.labels}}} {due.value}"
    seconds, milliseconds = divmod(due.at, 1000)
    return Line(due.at, f"{sample} {due.at}\n", f"{sample} {seconds}.{milliseconds:03}\n")


def labels_of(model: Model, metric: Metric, event: Event) -> str:
    """The labels that name an event's series, as the formats write them."""
    return ",".join(
        label_pairs(
            {
                label: _value(model, name, event.fields.get(name, ""))
                for label, name in metric.labels.items()
            }
        )
    )


def label_pairs(labels: Mapping[str, str]) -> Iterator[str]:
    """Each label with its value, as the formats write them."""
    return (f'{label}="{_escaped(value)}"' for label, value in labels.items())


def _value(model: Model, name: str, value: FieldValue) -> str:
    # Pelorus's dashboards look for an app between slashes.
    return f"/{value}/" if model.fields[name].type is FieldType.APP and value else str(value)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def written(value: float) -> str:
    """A value as the formats write it, in full."""
    return str(value) if isinstance(value, int) else repr(value)
