"""What is counted of every delivery: plain counts, which cost next to nothing and add up over processes."""

from bisect import bisect_left
from collections.abc import Iterator
from typing import TypeVar

from msgspec import Struct, field

from gateway.delivery import Verdict

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 8.0)
"""Upper bounds of the times that are told apart; what took longer is counted behind the last."""

Pair = tuple[str, str]
Key = TypeVar("Key")


class Tally(Struct):
    """Deliveries by source and outcome, refused requests by source and reason, events by kind; and how
    many deliveries took how long, by the place in `SECONDS` of the least bound that is not below it."""

    deliveries: dict[Pair, int] = field(default_factory=dict)
    refused: dict[Pair, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    took: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    def delivery(self, source: str, verdict: Verdict, seconds: float) -> None:
        key, place = (source, verdict.value), bisect_left(SECONDS, seconds)
        self.deliveries[key] = self.deliveries.get(key, 0) + 1
        self.took[place] = self.took.get(place, 0) + 1
        self.seconds += seconds

    def refuse(self, source: str, reason: str) -> None:
        self.refused[source, reason] = self.refused.get((source, reason), 0) + 1

    def event(self, kind: str) -> None:
        self.events[kind] = self.events.get(kind, 0) + 1

    def add(self, other: "Tally") -> None:
        """Takes in what another process has counted."""
        _add(self.deliveries, other.deliveries)
        _add(self.refused, other.refused)
        _add(self.events, other.events)
        _add(self.took, other.took)
        self.seconds += other.seconds

    def taken(self) -> "Tally":
        """What was counted since this was last asked, which counts anew from here."""
        taken = Tally(self.deliveries, self.refused, self.events, self.took, self.seconds)
        self.deliveries, self.refused, self.events, self.took = {}, {}, {}, {}
        self.seconds = 0.0
        return taken

    def buckets(self) -> Iterator[tuple[str, float]]:
        """Each bound, and how many deliveries took no longer."""
        total = 0
        for place, bound in enumerate((*map(str, SECONDS), "+Inf")):
            total += self.took.get(place, 0)
            yield bound, total


def _add(counts: dict[Key, int], other: dict[Key, int]) -> None:
    for key, count in other.items():
        counts[key] = counts.get(key, 0) + count
