"""A month of a made-up organisation: what happened, what its systems deliver of it, and the four keys.

What happened is the truth: five apps with their changes, deployments and failures. The deliveries tell of
it as four systems do: out of order, some of them days late, some twice, some wrong. The four keys are
computed from the truth alone, in plain loops, with nothing of the gateway.
"""

import random
import statistics
from dataclasses import dataclass, field
from typing import Any

from tests import samples

MINUTE, HOUR, DAY = 60, 3_600, 86_400
MONTH = 29 * DAY
CHANGES = 140
"""Changes of each app in the month."""

APPS_TABLE = """
apps:
  - {app: shop, names: {github: [octo/shop], pelorus: [shop-deployer]}}
  - {app: web, names: {github: [octo/web], jira: [WEB]}}
  - {app: pay, names: {gitlab: [group/pay]}}
  - {app: ledger, names: {gitlab: [group/ledger], jira: [LED]}}
  - {app: legacy, names: {pelorus: [old-erp], jira: [LEG]}}
"""
"""What the systems call the apps."""


@dataclass
class Change:
    """A commit; `told` is whether its time will ever be known, `image` the digest built from it."""

    sha: str
    committed: int
    image: str
    told: bool = True


@dataclass
class Deployment:
    change: Change
    at: int


@dataclass
class Failure:
    """An issue; `resolved` has a time for each time that it was closed."""

    number: int
    created: int
    resolved: list[int] = field(default_factory=list)


@dataclass
class App:
    """What truly happened to an app."""

    name: str
    changes: list[Change] = field(default_factory=list)
    deployments: list[Deployment] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


@dataclass
class Delivery:
    """A webhook: when its sender gets round to it, from which system, and what it says."""

    at: float
    source: str
    event: str
    payload: dict[str, Any]
    id: str


@dataclass
class FourKeys:
    """Of one app. Times are in seconds; each change counts with its first deployment, each issue
    with its last resolution."""

    deployments: int
    joined: int
    lead_time_mean: float
    lead_time_median: float
    failed_deployments: int
    change_failure_rate: float
    restore_mean: float
    restore_median: float


def four_keys(app: App) -> FourKeys:
    """The straightforward calculation."""
    joined = 0
    lead_times: dict[str, int] = {}
    for deployment in app.deployments:
        took = deployment.at - deployment.change.committed
        if deployment.change.told and took >= 0:
            joined += 1
            sha = deployment.change.sha
            lead_times[sha] = min(took, lead_times.get(sha, took))
    failed = set()
    restored = []
    for failure in app.failures:
        running = None
        for deployment in app.deployments:
            if deployment.at <= failure.created and (running is None or deployment.at > running):
                running = deployment.at
        if running is not None:
            failed.add(running)
        after = [at for at in failure.resolved if at >= failure.created]
        if after:
            restored.append(max(after) - failure.created)
    return FourKeys(
        deployments=len(app.deployments),
        joined=joined,
        lead_time_mean=statistics.mean(lead_times.values()),
        lead_time_median=statistics.median(lead_times.values()),
        failed_deployments=len(failed),
        change_failure_rate=len(failed) / len(app.deployments),
        restore_mean=statistics.mean(restored),
        restore_median=statistics.median(restored),
    )


class Organisation:
    """A month that ends shortly before `now` (epoch seconds). The same seed gives the same month."""

    def __init__(self, now: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._now = now
        self._start = now - MONTH
        self._deliveries: list[Delivery] = []
        self._deployed_at: set[int] = set()
        self.late_claims = 0
        self.apps = [App(name) for name in ("shop", "web", "pay", "ledger", "legacy")]
        for app in self.apps:
            self._live(app)
            self._contradict(app)

    def deliveries(self) -> list[Delivery]:
        """Everything in the order in which it is sent: each within hours of what it tells, one in
        twenty days late, and one in twenty sent again, as the same delivery or as a new one."""
        pick = self._random
        sent = []
        for delivery in self._deliveries:
            late = pick.uniform(1, 9) * DAY if pick.random() < 0.05 else pick.uniform(0, 5) * HOUR
            delivery.at += late
            sent.append(delivery)
            if pick.random() < 0.05:
                again = delivery.id if pick.random() < 0.5 else f"{delivery.id}-again"
                at = delivery.at + pick.uniform(0, 2) * DAY
                sent.append(Delivery(at, delivery.source, delivery.event, delivery.payload, again))
        sent += self._second_claims()
        return sorted(sent, key=lambda delivery: delivery.at)

    # What happens

    def _live(self, app: App) -> None:
        pick = self._random
        for number in range(CHANGES):
            committed = self._start + int((number + pick.random()) * (MONTH - 4 * DAY) / CHANGES)
            change = Change(f"{pick.getrandbits(160):040x}", committed, self._digest())
            app.changes.append(change)
            # Of every thirty commits the systems never tell one; some are not deployed.
            change.told = pick.random() > 0.03
            if change.told:
                self._tell_commit(app, change)
            self._tell_build(app, change)
            if pick.random() < 0.95:
                self._deploy(app, change, committed + int(pick.uniform(0.2, 60) * HOUR))
            if pick.random() < 0.06:
                self._deploy(app, change, committed + int(pick.uniform(61, 90) * HOUR))
        for number in range(1, CHANGES // 5):
            self._fail(app, number)

    def _digest(self) -> str:
        return f"sha256:{self._random.getrandbits(256):064x}"

    def _deploy(self, app: App, change: Change, at: int) -> None:
        # One at a time, so that it is plain which was the latest before a failure.
        while at in self._deployed_at:
            at += 1
        self._deployed_at.add(at)
        app.deployments.append(Deployment(change, at))
        self._tell_deployment(app, change, at)

    def _fail(self, app: App, number: int) -> None:
        """Not at the moment of a deployment; one in six is closed, opened again, and closed."""
        pick = self._random
        created = self._start + int(pick.uniform(0.01, 0.97) * MONTH)
        while created in self._deployed_at:
            created += 1
        failure = Failure(number, created)
        app.failures.append(failure)
        self._tell_failure(app, failure, "created", created)
        if pick.random() < 0.9:
            failure.resolved.append(created + int(pick.uniform(0.1, 12) * HOUR))
            self._tell_failure(app, failure, "resolved", failure.resolved[-1])
        if failure.resolved and pick.random() < 1 / 6:
            opened = failure.resolved[-1] + int(pick.uniform(0.1, 2) * HOUR)
            self._tell_failure(app, failure, "reopened", opened)
            failure.resolved.append(opened + int(pick.uniform(0.1, 2) * HOUR))
            self._tell_failure(app, failure, "resolved", failure.resolved[-1])

    def _contradict(self, app: App) -> None:
        """What cannot be right, each once for every app."""
        pick = self._random
        middle = self._start + MONTH // 2
        # Deployed before it was committed: it counts as a deployment, without a lead time.
        early = Change(f"{pick.getrandbits(160):040x}", middle + 5 * HOUR, self._digest())
        app.changes.append(early)
        self._tell_commit(app, early)
        self._tell_build(app, early)
        self._deploy(app, early, middle + pick.randrange(HOUR))
        # Deployed in three days: no deployment.
        self._tell_deployment(app, app.changes[0], self._now + 3 * DAY + pick.randrange(HOUR))
        # Resolved before it was created: it happened, and nobody knows how long it lasted.
        wrong = Failure(900, middle + 2 * HOUR + pick.randrange(HOUR))
        while wrong.created in self._deployed_at:
            wrong.created += 1
        wrong.resolved = [wrong.created - HOUR]
        app.failures.append(wrong)
        self._tell_failure(app, wrong, "created", wrong.created)
        self._tell_failure(app, wrong, "resolved", wrong.resolved[0])

    def _second_claims(self) -> list[Delivery]:
        """Images of the shop that are said to be of another commit, after it was told of which they
        are."""
        shop = self.apps[0]
        told = {one.image: one for one in shop.changes}
        claims = []
        for delivery in self._deliveries:
            if delivery.event == "package" and self._random.random() < 0.05:
                version = delivery.payload["package"]["package_version"]
                other = self._random.choice(shop.changes)
                if other is not told[version["version"]]:
                    payload = samples.github_package("octo/shop", other.sha, version["version"])
                    at = delivery.at + self._random.uniform(0.1, 20) * HOUR
                    claims.append(
                        Delivery(at, "github", "package", payload, f"{delivery.id}-claim")
                    )
        self.late_claims = len(claims)
        return claims

    # What the systems say

    def _send(self, at: float, source: str, event: str, payload: dict[str, Any]) -> None:
        self._deliveries.append(
            Delivery(at, source, event, payload, f"{source}-{len(self._deliveries)}")
        )

    def _tell_commit(self, app: App, change: Change) -> None:
        sha, at = change.sha, change.committed
        more = [f"{self._random.getrandbits(160):040x}" for _ in range(self._random.randrange(3))]
        match app.name:
            case "shop":
                push = samples.github_push("octo/shop", *_last([*more, sha], at))
                self._send(at, "github", "push", push)
            case "web":
                push = samples.github_push("octo/web", *_last([*more, sha], at))
                self._send(at, "github", "push", push)
                self._send(at, "github", "pull_request", samples.github_merge("octo/web", sha, at))
            case "pay" | "ledger":
                push = samples.gitlab_push(f"group/{app.name}", sha, at)
                self._send(at, "gitlab", "push", push)
            case "legacy":
                commit = samples.pelorus_commit("old-erp", sha, change.image, at)
                self._send(at, "pelorus", "committime", commit)

    def _tell_build(self, app: App, change: Change) -> None:
        if app.name == "shop":
            package = samples.github_package("octo/shop", change.sha, change.image)
            self._send(change.committed + 5 * MINUTE, "github", "package", package)

    def _tell_deployment(self, app: App, change: Change, at: int) -> None:
        match app.name:
            case "shop":
                # By its digest alone.
                deployment = samples.pelorus_deployment("shop-deployer", change.image, at)
                self._send(at, "pelorus", "deploytime", deployment)
            case "web":
                deployment = samples.github_deployment("octo/web", change.sha, at)
                if self._random.random() < 0.3:
                    deployment["deployment"]["payload"] = {"image_sha": change.image}
                self._send(at, "github", "deployment_status", deployment)
            case "pay":
                deployment = samples.gitlab_deployment("group/pay", change.sha, at)
                self._send(at, "gitlab", "deployment", deployment)
            case "ledger":
                # Of the commit it tells only the first eight digits.
                deployment = samples.gitlab_deployment("group/ledger", change.sha, at)
                self._send(at, "gitlab", "deployment", {**deployment, "commit_url": None})
            case "legacy":
                deployment = samples.pelorus_deployment("old-erp", change.image, at)
                self._send(at, "pelorus", "deploytime", deployment)

    def _tell_failure(self, app: App, failure: Failure, what: str, at: int) -> None:
        """What an issue tracker says at this time; `what` is created, resolved or reopened."""
        number, created = failure.number, failure.created
        closed = at if what == "resolved" else None
        match app.name:
            case "shop":
                action = {"created": "opened", "resolved": "closed"}.get(what, what)
                issue = samples.github_issue("octo/shop", number, action, created, closed)
                self._send(at, "github", "issues", issue)
            case "pay":
                action = {"created": "open", "resolved": "close", "reopened": "reopen"}[what]
                incident = samples.gitlab_incident("group/pay", number, action, created, closed)
                self._send(at, "gitlab", "issue", incident)
            case _:
                project = {"web": "WEB", "ledger": "LED", "legacy": "LEG"}[app.name]
                event = "jira:issue_created" if what == "created" else "jira:issue_updated"
                issue = samples.jira_issue(f"{project}-{number}", event, created, closed)
                self._send(at, "jira", event, issue)


def _last(shas: list[str], at: int) -> tuple[Any, ...]:
    """The arguments of a push of these commits."""
    return (shas[0], at, *shas[1:])
