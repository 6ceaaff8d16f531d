"""The doctor at what comes in: is a source silent, and do apps have both commits and deployments?"""

from collections import defaultdict
from collections.abc import Iterator
from difflib import get_close_matches

from msgspec import Struct

from gateway.apps import NO_TABLE, Naming
from gateway.correlation.fold import Correlation, Coverage, Suspicion
from gateway.doctor.chain import Chain
from gateway.doctor.finding import Finding, Unchecked, age, listing, ok, warning
from gateway.event import COMMIT, DEPLOYMENT, FAILURE
from gateway.journal.archive import Arrivals

ENOUGH = 10
"""Deliveries from which on a source has a habit."""
PATIENCE = 10
"""How many times longer than on average a source may be silent."""
A_DAY = 86_400.0
RECENT = 30 * A_DAY
"""Seconds; an app of which nothing came for so long is not told of."""


def arrivals(chain: Chain) -> Iterator[Finding]:
    """Every live source has delivered, and none is silent for much longer than it used to be: ten times
    its mean, and a day at least. Deliveries count as long as they are kept."""
    known = chain.archive.arrivals()
    live = sorted(chain.live)
    never = [source for source in live if source not in known]
    if never:
        yield warning(
            f"{len(never)} live {'source has' if len(never) == 1 else 'sources have'} delivered nothing that is "
            f"kept: {listing(never)}",
            "give the sender the URL and the secret (docs/sources), and look at its list of recent deliveries; "
            "`gateway_refused_total` counts what was refused",
        )
    silent = {source: _silence(known[source], chain.now) for source in live if source in known}
    for source, seconds in silent.items():
        if seconds:
            yield warning(
                f"nothing has come from `{source}` for {age(seconds)}, which is long for it",
                "look at the sender's list of recent deliveries: many switch a webhook off after errors",
            )
    if heard := [source for source in live if source in known and not silent[source]]:
        told = [f"{one} {age(chain.now - known[one].last)} ago" for one in heard]
        yield ok(f"the last deliveries: {listing(told)}")
    if not live:
        raise Unchecked("no source is live")


def _silence(one: Arrivals, now: float) -> float:
    """How long a source is silent, where that is longer than it used to be; else 0."""
    silence = now - one.last
    mean = (one.last - one.first) / (one.count - 1) if one.count >= ENOUGH else float("inf")
    return silence if silence > max(A_DAY, PATIENCE * mean) else 0.0


class Seen(Struct):
    """What was told of an app: when last of each kind, in epoch seconds of the receipt."""

    commit: float = 0.0
    deployment: float = 0.0
    failure: float = 0.0


_MEMBERS = {COMMIT: "commit", DEPLOYMENT: "deployment", FAILURE: "failure"}


def apps(chain: Chain) -> Iterator[Finding]:
    """Apps that deploy have lead times, apps that commit also deploy, and apps that fail do, too. Nothing
    but names, commits and images joins them, so where they differ, nothing does. All of the journal is
    read for it; apps of which nothing came in 30 days are left out."""
    if chain.quick:
        raise Unchecked("--quick leaves them out")
    compilation = chain.compiled.compilation
    if compilation is None:
        raise Unchecked("mappings or models are wrong")
    naming = Naming(compilation.apps, compilation.models)
    correlation, seen = Correlation(), defaultdict[str, Seen](Seen)
    archive = chain.archive
    for event, received_at, source, _ in archive.events(archive.last_event()):
        for named in naming.named(event, source):
            correlation.fold(named, received_at)
            if named.kind in _MEMBERS and named.text("app"):
                setattr(seen[named.text("app")], _MEMBERS[named.kind], received_at)
    coverage = correlation.coverage()
    if not seen:
        raise Unchecked("the journal holds no commits, deployments or failures yet")
    has_table = compilation.apps != NO_TABLE
    faults = list(_faults(seen, coverage, chain.now - RECENT, has_table=has_table))
    yield from faults
    if not faults:
        yield ok(f"{len(coverage)} apps deploy, and each has commits that were deployed")


def _faults(
    seen: dict[str, Seen], coverage: dict[str, Coverage], since: float, *, has_table: bool
) -> Iterator[Finding]:
    deploying = [app for app, one in seen.items() if one.deployment]
    committing = [app for app, one in seen.items() if one.commit]
    table = "add the name to apps.yaml" if has_table else "write a table, apps.yaml"
    alike = f"where two names mean one app, {table}: docs/how-to/one-app-many-names.md"
    unjoined = [
        app
        for app in deploying
        if seen[app].deployment >= since and app in coverage and not coverage[app].joined
    ]
    without = [app for app in unjoined if not seen[app].commit]
    if without:
        others = [app for app in committing if not seen[app].deployment]
        yield warning(
            f"apps deploy, and none of their commits is known: {_guessed(without, others)}",
            f"connect their code host; have a build tell which commit an image was made from; {alike}",
        )
    if apart := [app for app in unjoined if seen[app].commit]:
        yield warning(
            f"apps have commits and deployments that never join: {listing(apart)}",
            "the deployments name images or commits that no push and no build names; have a build tell which "
            "commit an image was made from",
        )
    for kind, at in (("commit", "commit"), ("failures", "failure")):
        idle = [
            app
            for app, one in seen.items()
            if getattr(one, at) >= max(since, 1) and not one.deployment
        ]
        if idle:
            verb = "commit" if kind == "commit" else "have failures"
            yield warning(
                f"apps {verb} and never deploy: {_guessed(idle, deploying)}",
                f"connect what deploys them; {alike}",
            )


def _guessed(apps: list[str], others: list[str]) -> str:
    """Apps, each with the name among others that may mean the same."""
    return listing([f"{app}{_guess(app, others)}" for app in sorted(apps)])


def _guess(app: str, others: list[str]) -> str:
    last = _plain(app)
    same = next((one for one in others if _plain(one) == last), None)
    nearest = get_close_matches(app, others, n=1, cutoff=0.75)
    found = same or (nearest[0] if nearest else None)
    return f" (the same as `{found}`?)" if found else ""


def _plain(app: str) -> str:
    """A name as it may stand elsewhere: without its owner, in lower case."""
    return app.rpartition("/")[2].lower().replace("_", "-")


def times(chain: Chain) -> Iterator[Finding]:
    """No event has a time that cannot be right: such ones are kept, but not shown, or give no duration. The
    running gateway has counted them."""
    if chain.running is None:
        raise Unchecked("no gateway answers")
    counted = {
        labels["reason"]: int(count)
        for labels, count in chain.running.samples.get("gateway_suspect_events", ())
        if count
    }
    if not counted:
        yield ok("no event has a time that cannot be right")
        return
    told = "; ".join(f"{count} {_WRONG[Suspicion(reason)]}" for reason, count in counted.items())
    yield warning(
        f"events have times that cannot be right: {told}",
        "a sender's clock is wrong, or a mapping takes the time from the wrong field or in the wrong unit; "
        "`gateway deliveries` lists what came, and `gateway explain ID` says of which event it is so: "
        "docs/reference/metrics.md",
    )


_WRONG = {
    Suspicion.FUTURE: "more than a day after their receipt, not shown",
    Suspicion.BEFORE_2000: "before the year 2000, not shown",
    Suspicion.BEFORE_COMMIT: "deployed before their commit, without a lead time",
    Suspicion.BEFORE_CREATION: "resolved before they were created, without a time to restore",
}

CHECKS = (arrivals, apps, times)
