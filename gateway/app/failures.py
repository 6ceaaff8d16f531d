"""What the log says of requests that were refused for their proof: a few lines a minute, however many there are."""

import time
from collections.abc import Callable

PERIOD = 60.0
"""Seconds."""
LINES = 5
"""Lines for each source within them."""


class Failures:
    """Bounded by the number of sources: names that nobody serves share one. Metrics count each. `say`
    takes a level and a line."""

    def __init__(
        self, say: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._since: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def note(self, source: str, address: object, why: str) -> None:
        """One more request of a source, empty for one that is not served, and the address it came from."""
        now = self._clock()
        untold = max(0, self._counts.get(source, 0) - LINES)
        if now - self._since.get(source, float("-inf")) >= PERIOD:
            self._since[source], self._counts[source] = now, 0
            more = f"; {untold} more before, not told" if untold else ""
        else:
            more = ""
        self._counts[source] += 1
        if self._counts[source] <= LINES:
            named = source or "a source that is not served"
            self._say("WARNING", f"{named} refused, from {address}: {why}{more}")
