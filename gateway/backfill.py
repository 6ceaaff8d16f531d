"""All events ever as samples at their own times, in the text that Prometheus takes as back-fill.

A scrape shows an event at its receipt, which is what Prometheus can still take. A back-fill has no such
bound, so each sample stands where it belongs: a deployment and its lead time at the deployment, a
restoration at the resolution, a failed deployment at that deployment, a commit at its own time and at
every deployment that joins to it. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct

from gateway.correlation.fold import Correlation, Shown
from gateway.event import COMMIT, FAILED_DEPLOYMENT, Event
from gateway.fieldtype import FieldType
from gateway.model import Metric, Model
from gateway.series import Labels, heading, label_pairs, written

APART = 2
"""Milliseconds between two samples of a series at least. Times are decimal seconds in this format, of
which Prometheus may lose one millisecond as it reads them; two samples at one time it refuses."""


class Span(Struct, frozen=True):
    """A time from `since` on and before `until`, in epoch seconds."""

    since: float = 0.0
    until: float = float("inf")

    def holds(self, seconds: float) -> bool:
        return self.since <= seconds < self.until


EVER = Span()


class Wanted(Struct, frozen=True, kw_only=True):
    """Samples that stand in one span, of what was received in another."""

    standing: Span = EVER
    received: Span = EVER


_NEVER: frozenset[int] = frozenset()


class _Sample(NamedTuple):
    """`at` is in epoch milliseconds."""

    labels: str
    at: int
    value: float


class _Carried(NamedTuple):
    """A commit and when what carries it was deployed. The time of it that is known last holds for all
    of its samples."""

    metric: str
    labels: str
    value: float
    made: int
    deployed: frozenset[int]


class Backfill:
    """The fold of all events, and then its text. What it remembers grows with the samples. `extra`
    labels are put on every series: those by which Prometheus names what it scraped."""

    def __init__(
        self, models: Mapping[str, Model], wanted: Wanted, extra: Mapping[str, str] | None = None
    ) -> None:
        self._models = models
        self._wanted = wanted
        self._extra = ",".join(label_pairs(extra or {}))
        self._correlation = Correlation()
        self._time_fields = {kind: _time_field(model) for kind, model in models.items()}
        self._labels = {
            metric.name: Labels(model, metric)
            for model in models.values()
            for metric in model.metrics
        }
        self._samples: dict[str, list[_Sample]] = {}
        self._commits: dict[tuple[str, str], _Carried] = {}

    def fold(self, event: Event, received_at: float) -> None:
        """Takes in an event received then (epoch seconds), in the journal's order. What was received
        before what is wanted is only learned from, what was received after it is nothing yet."""
        if received_at >= self._wanted.received.until:
            return
        for shown in self._correlation.fold(event, received_at):
            if received_at < self._wanted.received.since:
                continue
            model = self._models.get(shown.event.kind)
            metric = model.metric_of(shown.event) if model else None
            if model is None or metric is None:
                continue
            if shown.event.kind == COMMIT:
                self._carry(metric, shown, received_at)
            else:
                sample = _Sample(
                    self._labels[metric.name].of(shown.event),
                    self._own_time(shown, received_at),
                    shown.event.number(metric.value),
                )
                self._samples.setdefault(metric.name, []).append(sample)

    def _own_time(self, shown: Shown, received_at: float) -> int:
        """When it happened, in epoch milliseconds; the receipt where that is unknown or would lie after
        it: what lies ahead in Prometheus's database keeps it from taking anything new."""
        at = shown.at
        if at is None:
            at = shown.event.number(self._time_fields[shown.event.kind]) or received_at
        return round(min(at, received_at) * 1000)

    def _carry(self, metric: Metric, shown: Shown, received_at: float) -> None:
        event = shown.event
        key = (event.text("app"), event.text("image_sha"))
        known = self._commits.get(key)
        deployed = known.deployed if known else _NEVER
        if shown.at is not None:
            deployed |= {self._own_time(shown, received_at)}
        self._commits[key] = _Carried(
            metric.name,
            self._labels[metric.name].of(event),
            event.number(metric.value),
            self._own_time(Shown(event), received_at),
            deployed,
        )

    def lines(self) -> Iterator[str]:
        """The text, line by line, each series in the order of time. It can be read once: what was
        written is forgotten."""
        self._place_commits()
        for model in self._models.values():
            for metric in model.metrics:
                samples = self._samples.pop(metric.name, [])
                yield from self._family(metric, samples, adds_up=model.kind == FAILED_DEPLOYMENT)
        yield "# EOF\n"

    def _place_commits(self) -> None:
        while self._commits:
            _, one = self._commits.popitem()
            # A deployment before its commit does not join to it.
            times = {one.made, *(at for at in one.deployed if at >= one.made)}
            samples = self._samples.setdefault(one.metric, [])
            samples += [_Sample(one.labels, at, one.value) for at in times]

    def _family(self, metric: Metric, samples: list[_Sample], *, adds_up: bool) -> Iterator[str]:
        # Of one series at one time in the journal's order: sorts are stable.
        samples.sort(key=attrgetter("at"))
        samples.sort(key=attrgetter("labels"))
        is_begun = False
        for labels, series in groupby(samples, key=attrgetter("labels")):
            name = ",".join(filter(None, (labels, self._extra)))
            for at, value in _spaced(_summed(series) if adds_up else series):
                if not self._wanted.standing.holds(at / 1000):
                    continue
                if not is_begun:
                    is_begun = True
                    yield heading(metric.name, metric.help, openmetrics=True)
                seconds, rest = divmod(at, 1000)
                yield f"{metric.name}{{{name}}} {written(value)} {seconds}.{rest:03}\n"


def _time_field(model: Model) -> str:
    """The field that says when an event of a kind happened: `timestamp`, or the only one that is a
    time; empty where there is none."""
    times = [field.name for field in model.fields.values() if field.type is FieldType.TIMESTAMP]
    return "timestamp" if "timestamp" in times else times[0] if len(times) == 1 else ""


def _summed(series: Iterable[_Sample]) -> Iterator[_Sample]:
    """What came to be known of one moment bit by bit, as it was in the end; zero is nothing."""
    for at, alike in groupby(series, key=attrgetter("at")):
        total = sum(sample.value for sample in alike)
        if total:
            yield _Sample("", at, total)


def _spaced(series: Iterable[_Sample]) -> Iterator[tuple[int, float]]:
    last = -APART
    for sample in series:
        last = max(sample.at, last + APART)
        yield last, sample.value
