"""Events folded into what they mean together: events in, in the journal's order, events to show out.

A push knows a commit and its time, a registry links it to an image, a deployment names an image, a
tag or only a commit. What is shown joins them on `image_sha`: whatever name the deployment itself
gives, the same on both sides. So what a deployment is called never depends on what else is known, and
every order of arrival gives the same series. Pure: no clock and no I/O.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from msgspec import Struct

from gateway import event as events
from gateway.correlation.failures import Deployed, Failures, Issues, Verdict
from gateway.correlation.lineage import FIELDS, Commit, Kind, Lineage
from gateway.correlation.packing import Texts
from gateway.event import Event, FieldValue

EARLIEST = 946_684_800
"""2000-01-01 in epoch seconds; no system that sends webhooks deployed anything before."""
FUTURE_TOLERANCE = 24 * 60 * 60
"""Seconds by which an event may lie after its receipt; a later one is a clock or unit mistake."""

_TIMED = (events.COMMIT, events.DEPLOYMENT, events.FAILURE)
"""The kinds of which a metric's value is the event's time."""
_DIGEST = int(Kind.DIGEST)
_DEMANDED, _CARRIES_PLAINLY = 1, 2
"""Marks of a name: that a deployment was called so; that it carries the commit which it leads straight
down to, with the details of that one's first telling."""


class Suspicion(StrEnum):
    """Why an event's time cannot be right, as the metric names it."""

    FUTURE = "future"
    BEFORE_2000 = "before_2000"
    BEFORE_COMMIT = "deployed_before_commit"
    BEFORE_CREATION = "resolved_before_created"


class Shown(NamedTuple):
    """An event to show. An echo repeats a commit for the sake of a deployment, at that one's own
    time: it adds no count. `at` is when that happened which it tells of (epoch seconds); None where
    it is an event as it came."""

    event: Event
    echo: bool = False
    at: float | None = None


class Coverage(Struct, frozen=True):
    """Deployments of an app, and how many of them have a commit and thus a lead time."""

    deployments: int
    joined: int


class _Carried(NamedTuple):
    """A commit as a name first carried it: what it was called, and its details by the commit that was
    told with them."""

    called: int
    told: int
    details: int


class Correlation:
    """The fold. What it remembers grows with commits, artefacts, deployments and failures."""

    def __init__(self) -> None:
        self._lineage = Lineage()
        self._namespaces = Texts()
        self._suspect: Counter[Suspicion] = Counter()
        # By the number of the name.
        self._marks = bytearray()
        self._specially_carried: dict[int, _Carried] = {}
        self._early: dict[int, int] = {}
        self._waiting: dict[int, list[Deployed]] = {}
        self._counts: Counter[str] = Counter()
        self._joined: Counter[str] = Counter()
        # In the order of the changes.
        self._changed: dict[str, None] = {}
        self._failures: dict[str, Failures] = {}
        # One for all of them, and none that leads back here: what was folded goes at once, as a whole.
        self._rank = partial(_rank, self._lineage, self._namespaces)
        self._issues = Issues()

    @property
    def conflicts(self) -> int:
        """How many links were told that contradict what was known."""
        return self._lineage.conflicts

    @property
    def suspect(self) -> Mapping[str, int]:
        """How many events have a time that cannot be right, by the reason why."""
        counted = {reason.value: self._suspect[reason] for reason in Suspicion}
        return {**counted, Suspicion.BEFORE_CREATION.value: self._issues.too_early}

    def coverage(self) -> dict[str, Coverage]:
        """Deployments by app."""
        return {app: self._coverage(app) for app in self._counts}

    def changed_coverage(self) -> dict[str, Coverage]:
        """The same of the apps of which it changed since this was last asked."""
        changed, self._changed = self._changed, {}
        return {app: self._coverage(app) for app in changed}

    def _coverage(self, app: str) -> Coverage:
        return Coverage(self._counts[app], self._joined[app])

    def fold(self, event: Event, received_at: float) -> list[Shown]:
        """Learns from an event received then (epoch seconds); what to show because of it.

        An event of a suspect time is counted and not shown: its value would be that time.
        """
        kind = event.kind
        if kind == events.BUILD:
            return self._build(event)
        if kind not in _TIMED:
            return [Shown(event)]
        if reason := suspicion(event, received_at):
            self._suspect[reason] += 1
            return []
        if kind == events.COMMIT:
            return self._commit(event)
        return self._deploy(event) if kind == events.DEPLOYMENT else self._fail(event)

    # Commits and what carries them

    def _commit(self, event: Event) -> list[Shown]:
        shown: list[Shown] = []
        if not event.text("commit"):
            return shown
        names = self._lineage.learn(event)
        self._lineage.link(names)
        self._news(event.text("app"), names, shown)
        return shown

    def _build(self, event: Event) -> list[Shown]:
        shown: list[Shown] = []
        if sum(field in event.fields for field in FIELDS.values()) > 1:
            names = self._lineage.names(event)
            self._link(event.text("app"), names, shown)
        return shown

    def _link(self, app: str, names: list[int], shown: list[Shown]) -> None:
        if len(names) > 1:
            self._lineage.link(names)
            self._news(app, names, shown)

    def _news(self, app: str, names: list[int], shown: list[Shown]) -> None:
        """What is to be shown because something new is known of these names."""
        lineage = self._lineage
        if len(names) == 1 and lineage.leads_nothing(names[0]):
            concerned = dict.fromkeys(names)
        else:
            concerned = {one: None for name in names for one in lineage.led_by(name)}
        self._make_room(max(concerned))
        for name in concerned:
            # A commit is shown for every image; for what else it is called only where a deployment
            # calls it so, which is what it has to join to.
            if self._marks[name] & _DEMANDED or lineage.kind(name) <= _DIGEST:
                self._carry(app, name, shown)
        if self._waiting:
            for name in concerned:
                if name in self._waiting:
                    self._join(app, name, shown)

    def _make_room(self, name: int) -> None:
        missing = name + 1 - len(self._marks)
        if missing > 0:
            self._marks += bytes(missing)

    def _carry(
        self, app: str, name: int, shown: list[Shown], deployed_at: float | None = None
    ) -> Commit | None:
        """Shows the commit of this name, if it is known; as an echo where it was deployed then."""
        lineage = self._lineage
        commit = lineage.commit_of(name)
        if commit is None:
            return None
        # One commit per carrier for ever, with the labels that it was first shown with, whatever more
        # is learned of it: a second one would be a duplicate on one side of the join, and Prometheus
        # then gives up the whole rule, for every app.
        first = self._first_carried(lineage.twin(name), commit)
        text = lineage.text(first.called)
        if commit.called == first.called or lineage.text(commit.called).startswith(text):
            fields: dict[str, FieldValue] = {
                "app": app,
                "commit": text,
                "image_sha": text if name == first.called else lineage.text(name),
                "timestamp": lineage.time(commit.told),
            }
            if first.details:
                fields.update(lineage.detail_fields(first.details, first.told))
            event = Event(events.COMMIT, fields)
            shown.append(Shown(event, deployed_at is not None, deployed_at))
        return commit

    def _first_carried(self, name: int, commit: Commit) -> _Carried:
        lineage = self._lineage
        if self._marks[name] & _CARRIES_PLAINLY:
            called = lineage.straight_down(name)
            return _Carried(called, called, lineage.first_details(called))
        first = self._specially_carried.get(name)
        if first is not None:
            return first
        called, told = commit
        is_plain = called == told == lineage.straight_down(name)
        first = _Carried(called, told, lineage.details(told))
        if is_plain and lineage.has_first_details(told):
            self._marks[name] |= _CARRIES_PLAINLY
        else:
            self._specially_carried[name] = first
        return first

    # Deployments

    def _deploy(self, event: Event) -> list[Shown]:
        app, text = event.text("app"), event.text("namespace")
        names = self._lineage.names(event)
        name = names[0]
        self._make_room(max(names))
        self._marks[name] |= _DEMANDED
        deployed = Deployed(event.number("timestamp"), name, self._namespaces.number(text))
        failures = self._failures_of(app)
        shown: list[Shown] = []
        if deployed not in failures:
            self._counts[app] += 1
            self._changed[app] = None
            shown.append(_called(event, self._lineage.text(name)))
            carried = self._carry(app, name, shown, deployed.at)
            self._verdicts(app, failures.deploy(deployed), shown)
            if carried and len(names) == 1 and deployed.at >= self._lineage.time(carried.told):
                # Most are joined at once, by the commit that was just shown.
                self._lead(app, deployed, carried, shown)
                return shown
            self._waiting.setdefault(name, []).append(deployed)
        self._link(app, names, shown)
        self._join(app, name, shown)
        return shown

    def _join(self, app: str, name: int, shown: list[Shown]) -> None:
        """Lead times of the deployments of this name, as soon as its commit is known."""
        waiting = self._waiting.get(name)
        commit = self._lineage.commit_of(name) if waiting else None
        if not waiting or commit is None:
            return
        left = []
        made = self._lineage.time(commit.told)
        for deployed in waiting:
            if deployed.at < made:
                left.append(deployed)
                continue
            self._carry(app, name, shown, deployed.at)
            self._lead(app, deployed, commit, shown)
        self._suspect[Suspicion.BEFORE_COMMIT] += len(left) - self._early.pop(name, 0)
        if left:
            self._waiting[name], self._early[name] = left, len(left)
        else:
            del self._waiting[name]

    def _lead(self, app: str, deployed: Deployed, commit: Commit, shown: list[Shown]) -> None:
        self._joined[app] += 1
        self._changed[app] = None
        fields: dict[str, FieldValue] = {
            "app": app,
            "commit": self._lineage.text(commit.called),
            "image_sha": self._lineage.text(deployed.name),
            "namespace": self._namespaces[deployed.namespace],
            "seconds": deployed.at - self._lineage.time(commit.told),
        }
        shown.append(Shown(Event(events.LEAD_TIME, fields), at=deployed.at))

    # Failures

    def _failures_of(self, app: str) -> Failures:
        failures = self._failures.get(app)
        if failures is None:
            failures = self._failures[app] = Failures(self._rank)
        return failures

    def _fail(self, event: Event) -> list[Shown]:
        app, issue, at = event.text("app"), event.text("issue_number"), event.number("timestamp")
        created = event.text("event") == "created"
        shown = [Shown(event)]
        for seconds in self._issues.tell(app, issue, at, created=created):
            fields: dict[str, FieldValue] = {"app": app, "issue_number": issue, "seconds": seconds}
            resolved = at + seconds if created else at
            shown.append(Shown(Event(events.RESTORATION, fields), at=resolved))
        if created:
            self._verdicts(app, self._failures_of(app).fail(at), shown)
        return shown

    def _verdicts(self, app: str, verdicts: Iterable[Verdict], shown: list[Shown]) -> None:
        for verdict in verdicts:
            fields: dict[str, FieldValue] = {
                "app": app,
                "image_sha": self._lineage.text(verdict.deployed.name),
                "namespace": self._namespaces[verdict.deployed.namespace],
                "change": 1 if verdict.failed else -1,
            }
            shown.append(Shown(Event(events.FAILED_DEPLOYMENT, fields), at=verdict.deployed.at))


def _rank(lineage: Lineage, namespaces: Texts, deployed: Deployed) -> tuple[str, str]:
    """What orders deployments of one time."""
    return lineage.text(deployed.name), namespaces[deployed.namespace]


def suspicion(event: Event, received_at: float) -> Suspicion | None:
    """Why the time of an event that was received then (epoch seconds) cannot be right, whatever else
    is known; None where it may be."""
    if event.kind not in _TIMED:
        return None
    at = event.number("timestamp")
    if at < EARLIEST:
        return Suspicion.BEFORE_2000
    return Suspicion.FUTURE if at > received_at + FUTURE_TOLERANCE else None


def _called(event: Event, name: str) -> Shown:
    return Shown(Event(event.kind, {**event.fields, "image_sha": name}))
