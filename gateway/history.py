"""The journal folded into series: at the start, and for other models or apps beside what is shown.

While a history is folded anew, in a thread, deliveries go on being committed. The journal's order has
places, so that what was committed meanwhile is folded after the history, and once.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import msgspec
from msgspec import Struct

from gateway.apps import Naming
from gateway.event import Event
from gateway.journal.entry import Recorded, Stored
from gateway.model import Model
from gateway.series import Series

FEW = 100
"""Commits that may be folded in one turn of the event loop."""


class History(Protocol):
    """What a journal holds, readable in any thread."""

    def events(self, until: int | None = None) -> Iterator[Recorded]:
        """All events in the order they were committed, or those up to a place in this order. Raises
        JournalUnavailable."""
        ...

    def last_event(self) -> int:
        """The place of the last event in this order, 0 where there is none. Raises
        JournalUnavailable."""
        ...


class View(Struct, frozen=True):
    """What the journal's events show: their series, and the names under which they enter these."""

    series: Series
    naming: Naming


def fold(view: View, stored: Stored) -> None:
    """Takes in the events of one commit."""
    _fold(view, stored.new_events, stored.received_at, stored.source)


def fold_history(
    view: View, history: History, is_abandoned: Callable[[], bool] = lambda: False
) -> int:
    """Takes in all that the journal holds; the place of the last event that was taken in.
    Raises JournalUnavailable."""
    last = history.last_event()
    for event, received_at, source in history.events(last):
        if is_abandoned():
            break
        _fold(view, (event,), received_at, source)
    return last


def _fold(view: View, events: Iterable[Event], received_at: float, source: str) -> None:
    milliseconds = round(received_at * 1000)
    for event in events:
        for named in view.naming.named(event, source):
            view.series.fold(named, milliseconds)
    # Without a scraper, too, what left the window must not pile up.
    view.series.advance(milliseconds)


def feeds(models: Mapping[str, Model]) -> bytes:
    """All that series take from models, as text: equal where they show the same of every event."""
    return msgspec.json.encode(
        [
            (
                model.kind,
                model.metrics,
                [(field.name, field.type) for field in model.fields.values()],
            )
            for model in models.values()
        ]
    )


class Refold:
    """A history folded into an empty view while commits go on, each of which is told to `commit`."""

    def __init__(self, view: View, history: History) -> None:
        self._view = view
        self._history = history
        self._late: list[Stored] = []
        self._last = 0
        self._abandoned = threading.Event()

    def commit(self, stored: Stored) -> None:
        if stored.new_events:
            self._late.append(stored)

    async def run(self) -> None:
        """Folds until few commits are left. Raises JournalUnavailable."""
        try:
            self._last = await asyncio.to_thread(
                fold_history, self._view, self._history, self._abandoned.is_set
            )
            while len(self._late) > FEW:
                late, self._late = self._late, []
                await asyncio.to_thread(self._catch_up, late)
        finally:
            # A thread cannot be cancelled; where this task was, it is told.
            self._abandoned.set()

    def finished(self) -> View:
        """The view up to this moment; no commit may come between this and its use."""
        self._catch_up(self._late)
        return self._view

    def _catch_up(self, late: Iterable[Stored]) -> None:
        for stored in late:
            if stored.last_event > self._last:
                fold(self._view, stored)
