"""Which deployment a failure came with, and how long each failure lasted. Pure.

A failure belongs to the latest deployment of its app before it: that is what was running. A
deployment fails once, however many failures it has. A deployment that is learned late can take
failures over from the one before it, which then did not fail after all; so that the number of failed
deployments is right whatever the order of arrival.
"""

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from typing import NamedTuple

from gateway.correlation.packing import Keys, Texts, packed_text, packed_time, unpacked_time


class Deployed(NamedTuple):
    """A deployment as failures see it: its time, and the numbers of its name and its namespace."""

    at: float
    name: int
    namespace: int


class Verdict(NamedTuple):
    """A deployment that is found to have failed, or not to have failed after all."""

    deployed: Deployed
    failed: bool


_NAMESPACE_BITS = 32
_NO_FAILURES = array("d")


class Failures:
    """The deployments and failures of one app, each in the order of time. `rank` orders deployments of
    one time, of whose order of arrival nothing may depend. There may be a million apps, so one with a
    single deployment is kept small."""

    __slots__ = ("_deployed", "_deployed_at", "_failures", "_rank")

    def __init__(self, rank: Callable[[Deployed], tuple[str, str]]) -> None:
        self._rank = rank
        self._deployed_at = array("d")
        self._deployed = array("Q")
        self._failures = _NO_FAILURES

    def __contains__(self, deployed: Deployed) -> bool:
        at, ends = bisect_left(self._deployed_at, deployed.at), len(self._deployed_at)
        packed = _packed(deployed)
        while at < ends and self._deployed_at[at] == deployed.at:
            if self._deployed[at] == packed:
                return True
            at += 1
        return False

    def deploy(self, deployed: Deployed) -> list[Verdict]:
        """Takes in a deployment."""
        at = self._place(deployed)
        until = self._deployed_at[at] if at < len(self._deployed_at) else float("inf")
        taken = self._has_failures(deployed.at, until)
        before = self._nth(at - 1) if at else None
        self._deployed_at.insert(at, deployed.at)
        self._deployed.insert(at, _packed(deployed))
        if not taken:
            return []
        verdicts = [Verdict(deployed, failed=True)]
        if before is not None and not self._has_failures(before.at, deployed.at):
            verdicts.append(Verdict(before, failed=False))
        return verdicts

    def _place(self, deployed: Deployed) -> int:
        """Where a deployment comes to stand, after those that are equal."""
        at = bisect_right(self._deployed_at, deployed.at)
        if at and self._deployed_at[at - 1] == deployed.at:
            rank = self._rank(deployed)
            while at and self._deployed_at[at - 1] == deployed.at:
                if self._rank(self._nth(at - 1)) <= rank:
                    break
                at -= 1
        return at

    def _nth(self, at: int) -> Deployed:
        packed = self._deployed[at]
        namespace = packed & ((1 << _NAMESPACE_BITS) - 1)
        return Deployed(self._deployed_at[at], packed >> _NAMESPACE_BITS, namespace)

    def fail(self, created: float) -> list[Verdict]:
        """Takes in a failure, created at this time (epoch seconds)."""
        verdicts = []
        at = bisect_right(self._deployed_at, created)
        if at:
            until = self._deployed_at[at] if at < len(self._deployed_at) else float("inf")
            if not self._has_failures(self._deployed_at[at - 1], until):
                verdicts.append(Verdict(self._nth(at - 1), failed=True))
        if self._failures is _NO_FAILURES:
            self._failures = array("d")
        insort(self._failures, created)
        return verdicts

    def _has_failures(self, since: float, until: float) -> bool:
        # A failure at the very moment of a deployment came with it.
        first = bisect_left(self._failures, since)
        return first < len(self._failures) and self._failures[first] < until


def _packed(deployed: Deployed) -> int:
    """The name and the namespace of a deployment as one number."""
    return deployed.name << _NAMESPACE_BITS | deployed.namespace


class Restoration:
    """One issue: when it was created and resolved, each as often as it was told. A resolution ends
    the latest creation before it."""

    def __init__(self, *created: float) -> None:
        self._created = list(created)
        self._waiting: list[float] = []

    def create(self, at: float) -> list[float]:
        """Seconds of each failure that this completes."""
        insort(self._created, at)
        fitting = [resolved for resolved in self._waiting if resolved >= at]
        self._waiting = [resolved for resolved in self._waiting if resolved < at]
        return [resolved - at for resolved in fitting]

    def resolve(self, at: float) -> list[float]:
        """Seconds that the failure lasted, where its creation is known."""
        before = bisect_right(self._created, at)
        if before:
            return [at - self._created[before - 1]]
        self._waiting.append(at)
        return []

    @property
    def too_early(self) -> int:
        """How many resolutions lie before every creation."""
        return len(self._waiting) if self._created else 0


class Issues:
    """The issues of all apps. Most are created once, and of these only that time is kept."""

    def __init__(self) -> None:
        self._apps = Texts()
        self._keys = Keys()
        self._created = array("d", (0.0,))
        self._others: dict[int, Restoration] = {}
        self.too_early = 0

    def tell(self, app: str, issue: str, at: float, *, created: bool) -> list[float]:
        """Takes in that an issue was created, or else resolved; seconds of each failure that this
        completes."""
        form, raw = packed_text(issue)
        key = self._apps.number(app).to_bytes(4, "little") + bytes((form,)) + raw
        number = self._keys.find(key)
        if not number:
            number = self._keys.add(key)
            self._created.append(packed_time(at) if created else 0.0)
            if created:
                return []
        restoration = self._others.get(number)
        if restoration is None:
            only = self._created[number]
            if only and not created and at >= (since := unpacked_time(only)):
                return [at - since]
            restoration = Restoration(unpacked_time(only)) if only else Restoration()
            self._others[number] = restoration
        early = restoration.too_early
        completed = restoration.create(at) if created else restoration.resolve(at)
        self.too_early += restoration.too_early - early
        return completed
