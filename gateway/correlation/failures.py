"""Which deployment a failure came with, and how long each failure lasted. Pure.

A failure belongs to the latest deployment of its app before it: that is what was running. A
deployment fails once, however many failures it has. A deployment that is learned late can take
failures over from the one before it, which then did not fail after all; so that the number of failed
deployments is right whatever the order of arrival.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

from msgspec import Struct


class Deployed(Struct, frozen=True, order=True):
    """A deployment as failures see it: its time, and what it is called by."""

    at: float
    carrier: str
    namespace: str


class Verdict(Struct, frozen=True):
    """A deployment that is found to have failed, or not to have failed after all."""

    deployed: Deployed
    failed: bool


class Failures:
    """The deployments and failures of one app."""

    def __init__(self) -> None:
        self._deployed: list[Deployed] = []
        self._failures: list[float] = []

    def deploy(self, deployed: Deployed) -> Iterator[Verdict]:
        """Takes in a deployment."""
        at = bisect_right(self._deployed, deployed)
        until = self._deployed[at].at if at < len(self._deployed) else float("inf")
        taken = self._has_failures(deployed.at, until)
        before = self._deployed[at - 1] if at else None
        insort(self._deployed, deployed)
        if not taken:
            return
        yield Verdict(deployed, failed=True)
        if before is not None and not self._has_failures(before.at, deployed.at):
            yield Verdict(before, failed=False)

    def fail(self, created: float) -> Iterator[Verdict]:
        """Takes in a failure, created at this time (epoch seconds)."""
        at = bisect_right(self._deployed, created, key=lambda one: one.at)
        if at:
            deployed = self._deployed[at - 1]
            until = self._deployed[at].at if at < len(self._deployed) else float("inf")
            if not self._has_failures(deployed.at, until):
                yield Verdict(deployed, failed=True)
        insort(self._failures, created)

    def _has_failures(self, since: float, until: float) -> bool:
        # A failure at the very moment of a deployment came with it.
        first = bisect_left(self._failures, since)
        return first < len(self._failures) and self._failures[first] < until


class Restoration:
    """One issue: when it was created and resolved, each as often as it was told. A resolution ends
    the latest creation before it."""

    def __init__(self) -> None:
        self._created: list[float] = []
        self._waiting: list[float] = []

    def create(self, at: float) -> Iterator[float]:
        """Seconds of each failure that this completes."""
        insort(self._created, at)
        fitting = [resolved for resolved in self._waiting if resolved >= at]
        self._waiting = [resolved for resolved in self._waiting if resolved < at]
        yield from (resolved - at for resolved in fitting)

    def resolve(self, at: float) -> Iterator[float]:
        """Seconds that the failure lasted, where its creation is known."""
        before = bisect_right(self._created, at)
        if before:
            yield at - self._created[before - 1]
        else:
            self._waiting.append(at)

    @property
    def too_early(self) -> int:
        """How many resolutions lie before every creation."""
        return len(self._waiting) if self._created else 0
