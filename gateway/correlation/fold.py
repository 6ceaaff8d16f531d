"""Events folded into what they mean together: events in, in the journal's order, events to show out.

A push knows a commit and its time, a registry links it to an image, a deployment names an image, a
tag or only a commit. What is shown joins them on `image_sha`: whatever name the deployment itself
gives, the same on both sides. So what a deployment is called never depends on what else is known, and
every order of arrival gives the same series. Pure: no clock and no I/O.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from enum import StrEnum

from msgspec import Struct

from gateway import event as events
from gateway.correlation.failures import Deployed, Failures, Restoration, Verdict
from gateway.correlation.lineage import Kind, Lineage, Name, names_of
from gateway.event import Event, FieldValue

EARLIEST = 946_684_800
"""2000-01-01 in epoch seconds; no system that sends webhooks deployed anything before."""
FUTURE_TOLERANCE = 24 * 60 * 60
"""Seconds by which an event may lie after its receipt; a later one is a clock or unit mistake."""


class Suspicion(StrEnum):
    """Why an event's time cannot be right, as the metric names it."""

    FUTURE = "future"
    BEFORE_2000 = "before_2000"
    BEFORE_COMMIT = "deployed_before_commit"
    BEFORE_CREATION = "resolved_before_created"


class Shown(Struct, frozen=True):
    """An event to show. An echo repeats a commit for the sake of a deployment, at that one's own
    time: it adds no count. `at` is when that happened which it tells of (epoch seconds); None where
    it is an event as it came."""

    event: Event
    echo: bool = False
    at: float | None = None


class _Deployment(Struct, frozen=True):
    """What is remembered of a deployment that has no commit yet."""

    name: Name
    namespace: str
    at: float


class Coverage(Struct, frozen=True):
    """Deployments of an app, and how many of them have a commit and thus a lead time."""

    deployments: int
    joined: int


class Correlation:
    """The fold. What it remembers grows with commits, artefacts, deployments and failures."""

    def __init__(self) -> None:
        self._lineage = Lineage()
        self._suspect: Counter[Suspicion] = Counter()
        self._carried: dict[tuple[str, str], Event] = {}
        self._deployed: set[_Deployment] = set()
        self._early: dict[Name, int] = {}
        self._waiting: dict[Name, list[_Deployment]] = {}
        self._demanded: set[Name] = set()
        self._counts: Counter[str] = Counter()
        self._joined: Counter[str] = Counter()
        # In the order of the changes.
        self._changed: dict[str, None] = {}
        self._failures: dict[str, Failures] = {}
        self._issues: dict[tuple[str, str], Restoration] = {}

    @property
    def conflicts(self) -> int:
        """How many links were told that contradict what was known."""
        return self._lineage.conflicts

    @property
    def suspect(self) -> Mapping[str, int]:
        """How many events have a time that cannot be right, by the reason why."""
        return {reason.value: self._suspect[reason] for reason in Suspicion}

    def coverage(self) -> dict[str, Coverage]:
        """Deployments by app."""
        return {app: self._coverage(app) for app in self._counts}

    def changed_coverage(self) -> dict[str, Coverage]:
        """The same of the apps of which it changed since this was last asked."""
        changed, self._changed = self._changed, {}
        return {app: self._coverage(app) for app in changed}

    def _coverage(self, app: str) -> Coverage:
        return Coverage(self._counts[app], self._joined[app])

    def fold(self, event: Event, received_at: float) -> Iterator[Shown]:
        """Learns from an event received then (epoch seconds), and yields what to show because of it.

        An event of a suspect time is counted and not shown: its value would be that time.
        """
        known = event.kind in (events.COMMIT, events.DEPLOYMENT, events.FAILURE)
        if known and (reason := _suspicion(event.number("timestamp"), received_at)):
            self._suspect[reason] += 1
            return
        match event.kind:
            case events.COMMIT:
                yield from self._commit(event)
            case events.BUILD:
                yield from self._link(names_of(event))
            case events.DEPLOYMENT:
                yield from self._deploy(event)
            case events.FAILURE:
                yield Shown(event)
                yield from self._fail(event)
            case _:
                yield Shown(event)

    # Commits and what carries them

    def _commit(self, event: Event) -> Iterator[Shown]:
        commit = self._lineage.learn(event)
        names = names_of(commit)
        yield from self._link(names)
        if len(names) == 1:
            yield from self._news(names)

    def _link(self, names: list[Name]) -> Iterator[Shown]:
        if len(names) > 1:
            self._lineage.link(names)
            yield from self._news(names)

    def _news(self, names: list[Name]) -> Iterator[Shown]:
        """What is to be shown because something new is known of these names."""
        concerned = {one: None for name in names for one in self._lineage.led_by(name)}
        for name in concerned:
            # A commit is shown for every image; for what else it is called only where a deployment
            # calls it so, which is what it has to join to.
            if name.kind <= Kind.DIGEST or name in self._demanded:
                yield from self._carry(name)
        for name in concerned:
            yield from self._join(name)

    def _carry(self, name: Name, deployed_at: float | None = None) -> Iterator[Shown]:
        """The commit of this name, if it is known; an echo where it was deployed then."""
        commit = self._lineage.commit_of(name)
        if commit is None:
            return
        # One commit per carrier for ever, with the labels that it was first shown with, whatever more
        # is learned of it: a second one would be a duplicate on one side of the join, and Prometheus
        # then gives up the whole rule, for every app.
        first = self._carried.setdefault((name.app, name.text), commit)
        if commit.text("commit").startswith(first.text("commit")):
            at = commit.fields["timestamp"]
            fields = {**first.fields, "timestamp": at, "image_sha": name.text}
            echo = deployed_at is not None
            yield Shown(Event(events.COMMIT, fields), echo, deployed_at)

    # Deployments

    def _deploy(self, event: Event) -> Iterator[Shown]:
        names = names_of(event)
        name = names[0]
        deployment = _Deployment(name, event.text("namespace"), event.number("timestamp"))
        for one in names:
            self._lineage.mention(one)
        self._demanded.add(name)
        if deployment not in self._deployed:
            self._deployed.add(deployment)
            self._counts[name.app] += 1
            self._changed[name.app] = None
            yield Shown(_called(event, name))
            yield from self._carry(name, deployment.at)
            self._waiting.setdefault(name, []).append(deployment)
            running = Deployed(deployment.at, name.text, deployment.namespace)
            yield from self._verdicts(name.app, self._failures_of(name.app).deploy(running))
        yield from self._link(names)
        yield from self._join(name)

    def _join(self, name: Name) -> Iterator[Shown]:
        """Lead times of the deployments of this name, as soon as its commit is known."""
        waiting = self._waiting.get(name)
        commit = self._lineage.commit_of(name) if waiting else None
        if not waiting or commit is None:
            return
        left = []
        for deployment in waiting:
            seconds = deployment.at - commit.number("timestamp")
            if seconds < 0:
                left.append(deployment)
                continue
            self._joined[name.app] += 1
            self._changed[name.app] = None
            yield from self._carry(name, deployment.at)
            yield Shown(_lead_time(deployment, commit, seconds), at=deployment.at)
        self._suspect[Suspicion.BEFORE_COMMIT] += len(left) - self._early.pop(name, 0)
        if left:
            self._waiting[name], self._early[name] = left, len(left)
        else:
            del self._waiting[name]

    # Failures

    def _failures_of(self, app: str) -> Failures:
        return self._failures.setdefault(app, Failures())

    def _fail(self, event: Event) -> Iterator[Shown]:
        app, issue, at = event.text("app"), event.text("issue_number"), event.number("timestamp")
        restoration = self._issues.setdefault((app, issue), Restoration())
        early = restoration.too_early
        created = event.text("event") == "created"
        for seconds in restoration.create(at) if created else restoration.resolve(at):
            fields: dict[str, FieldValue] = {"app": app, "issue_number": issue, "seconds": seconds}
            resolved = at + seconds if created else at
            yield Shown(Event(events.RESTORATION, fields), at=resolved)
        self._suspect[Suspicion.BEFORE_CREATION] += restoration.too_early - early
        if created:
            yield from self._verdicts(app, self._failures_of(app).fail(at))

    @staticmethod
    def _verdicts(app: str, verdicts: Iterator[Verdict]) -> Iterator[Shown]:
        for verdict in verdicts:
            fields: dict[str, FieldValue] = {
                "app": app,
                "image_sha": verdict.deployed.carrier,
                "namespace": verdict.deployed.namespace,
                "change": 1 if verdict.failed else -1,
            }
            yield Shown(Event(events.FAILED_DEPLOYMENT, fields), at=verdict.deployed.at)


def _suspicion(at: float, received_at: float) -> Suspicion | None:
    if at < EARLIEST:
        return Suspicion.BEFORE_2000
    return Suspicion.FUTURE if at > received_at + FUTURE_TOLERANCE else None


def _called(event: Event, name: Name) -> Event:
    return Event(event.kind, {**event.fields, "image_sha": name.text})


def _lead_time(deployment: _Deployment, commit: Event, seconds: float) -> Event:
    return Event(
        events.LEAD_TIME,
        {
            "app": deployment.name.app,
            "commit": commit.text("commit"),
            "image_sha": deployment.name.text,
            "namespace": deployment.namespace,
            "seconds": seconds,
        },
    )
