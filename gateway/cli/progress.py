"""How far long work has come: one line on a terminal that is written over, and nothing elsewhere."""

import sys
import time

_EVERY = 0.1
"""Seconds between two drawings: more could not be read."""
_ERASE = "\r\x1b[K"


class Progress:
    """Counts `noun`s on standard error, of `total` where it is known. A pipe or a log sees the notes only."""

    def __init__(self, total: int | None, noun: str) -> None:
        self._total = total
        self._noun = noun
        self._shows = sys.stderr.isatty()
        self._drawn = float("-inf")

    def update(self, count: int) -> None:
        """Shows how many are done by now."""
        if not self._shows or time.monotonic() - self._drawn < _EVERY:
            return
        self._drawn = time.monotonic()
        done = f"{count:,}" if self._total is None else f"{count:,} of {self._total:,}"
        self._write(f"{_ERASE}{done} {self._noun}")

    def note(self, text: str) -> None:
        """Says something that is to stay, on a line of its own."""
        self.done()
        self._write(f"{text}\n")

    def done(self) -> None:
        """Takes the line away."""
        if self._shows and self._drawn > float("-inf"):
            self._write(_ERASE)
            self._drawn = float("-inf")

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
