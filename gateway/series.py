"""Events folded into series, and the window of them that a scrape sees. Pure: no clock, no I/O.

Every sample carries an explicit time, that of its event's receipt: so an event counts exactly once
however often it is scraped, and a late one still counts. A series shows one sample at a time; where
the same series gets another event before a scrape can have seen the first, the second one's time is
moved on by `spacing`, so that each is shown for long enough to be scraped.
"""

import heapq
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gateway.correlation import Correlation
from gateway.event import Event, FieldValue
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
    labels: str
    value: str


class Series:
    """The fold of all events. `window` and `spacing` are in milliseconds."""

    def __init__(self, models: Mapping[str, Model], window: int, spacing: int) -> None:
        self.correlation = Correlation()
        self._models = models
        self._window = window
        self._spacing = spacing
        self._folded = 0
        self._last: dict[tuple[str, str], int] = {}
        self._due: list[_Due] = []
        self._ages: list[tuple[int, str, str]] = []
        self._shown: dict[str, dict[str, Line]] = {
            metric.name: {} for model in models.values() for metric in model.metrics
        }
        self._help = {
            metric.name: metric.help for model in models.values() for metric in model.metrics
        }

    def fold(self, event: Event, received_at: int) -> None:
        """Takes in an event received at this time (epoch milliseconds), in the journal's order."""
        at = received_at
        for shown in self.correlation.fold(event):
            model = self._models.get(shown.event.kind)
            metric = model.metric_of(shown.event) if model else None
            if model is None or metric is None:
                continue
            # What correlation adds to an event stands at that event's own time: rules that join the
            # two look at both at one moment.
            if shown.event.kind == event.kind and not shown.echo:
                at = self._show(model, metric, shown.event, received_at, self._spacing)
            else:
                self._show(model, metric, shown.event, at, 0)

    def _show(self, model: Model, metric: Metric, event: Event, at: int, spacing: int) -> int:
        labels = _labels(model, metric, event)
        last = self._last.get((metric.name, labels))
        if last is not None:
            if not spacing and last >= at:
                return last
            at = max(at, last + spacing)
        self._last[metric.name, labels] = at
        self._folded += 1
        value = _number(event.number(metric.value))
        heapq.heappush(self._due, _Due(at, self._folded, metric.name, labels, value))
        return at

    def advance(self, now: int) -> None:
        """Brings the window to this time (epoch milliseconds)."""
        while self._due and self._due[0].at <= now:
            due = heapq.heappop(self._due)
            if due.at > now - self._window:
                self._shown[due.metric][due.labels] = _line(due)
                heapq.heappush(self._ages, (due.at, due.metric, due.labels))
            else:
                self._forget(due.metric, due.labels, due.at)
        while self._ages and self._ages[0][0] <= now - self._window:
            at, metric, labels = heapq.heappop(self._ages)
            line = self._shown[metric].get(labels)
            if line is not None and line.at == at:
                del self._shown[metric][labels]
            self._forget(metric, labels, at)

    def _forget(self, metric: str, labels: str, at: int) -> None:
        # A series that left the window has no bearing on the times of later samples.
        if self._last.get((metric, labels)) == at:
            del self._last[metric, labels]

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


def _labels(model: Model, metric: Metric, event: Event) -> str:
    return ",".join(
        f'{label}="{_escaped(_value(model, name, event.fields.get(name, "")))}"'
        for label, name in metric.labels.items()
    )


def _value(model: Model, name: str, value: FieldValue) -> str:
    # Pelorus's dashboards look for an app between slashes.
    return f"/{value}/" if model.fields[name].type is FieldType.APP and value else str(value)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(value)
