"""What the journal's events show: folded from all of them at the start, and from each when it is committed.

A long history is folded in a thread while deliveries are taken already; until it has caught up, nothing
of it is shown. So it is, too, for other models or another table of apps, while what was shown before is
shown on. The journal's order has places, so that each event is folded once, whoever told of it.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Protocol

import msgspec

from gateway.apps import NO_TABLE, Apps, Naming
from gateway.journal.entry import JournalUnavailable, Recorded
from gateway.model import Model
from gateway.series import Series

FEW = 200
"""Events that may be folded in one turn of the event loop."""

NewSeries = Callable[[Mapping[str, Model]], Series]


class History(Protocol):
    """What a journal holds, readable in any thread."""

    @property
    def is_shared(self) -> bool:
        """Whether others write into it, too."""
        ...

    def events(self, after: int = 0, until: int | None = None) -> Iterator[Recorded]:
        """Events in the order they were committed, from behind a place up to another one. Raises
        JournalUnavailable."""
        ...

    def last_event(self) -> int:
        """The place of the last event in this order, 0 where there is none. Raises
        JournalUnavailable."""
        ...


class View:
    """Series, the names under which events enter them, and the place of the last event they know."""

    def __init__(self, series: Series, naming: Naming) -> None:
        self.series = series
        self.naming = naming
        self.place = 0

    def take(self, events: Iterable[Recorded]) -> None:
        """Takes in events in their order, apart from those that it knows."""
        milliseconds = 0
        for event, received_at, source, place in events:
            if place <= self.place:
                continue
            milliseconds = round(received_at * 1000)
            for named in self.naming.named(event, source):
                self.series.fold(named, milliseconds)
            self.place = place
        if milliseconds:
            # Without a scraper, too, what left the window must not pile up.
            self.series.advance(milliseconds)


class Shown:
    """The view of now, on the event loop. `begin` folds what the journal holds; without it nothing is
    shown. No scrape is of a time before that which `clock` tells, in epoch seconds."""

    def __init__(
        self,
        new_series: NewSeries,
        history: History,
        models: Mapping[str, Model],
        apps: Apps = NO_TABLE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.is_complete = False
        self._is_wanted = False
        self._clock = clock
        self._new_series = new_series
        self._history = history
        self._models = models
        self._apps = apps
        self._told = 0
        self._changing = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self.view = self._empty(models, apps)

    def _empty(self, models: Mapping[str, Model], apps: Apps) -> View:
        return View(self._new_series(models), Naming(apps, models))

    async def begin(self) -> None:
        """Folds the journal; returns when all of it is shown. Raises JournalUnavailable."""
        self._is_wanted = True
        async with self._changing:
            if not self.is_complete:
                self.view = await self._folded(self._models, self._apps)
                self.is_complete = True

    def tell(self, events: Sequence[Recorded]) -> None:
        """Takes in what was just committed, in order; nothing means that others may have committed."""
        if events:
            self._told = max(self._told, events[-1].place)
        if not self.is_complete:
            return
        if events and events[0].place <= self.view.place + 1:
            self.view.take(events)
        elif self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        try:
            await self.catch_up()
        except JournalUnavailable:
            # Whatever comes next, an event or a scrape, tries again.
            return

    async def catch_up(self) -> None:
        """Returns when all is shown that was committed before the call, by whomever. Raises
        JournalUnavailable."""
        if not self.is_complete:
            return
        last = self._told
        if self._history.is_shared:
            last = max(last, await asyncio.to_thread(self._history.last_event))
        await self._bring(self.view, last)

    async def _bring(self, view: View, last: int) -> None:
        """Brings a view up to a place."""
        while view.place < last:
            until = min(last, view.place + FEW)
            events = await asyncio.to_thread(_read, self._history, view.place, until)
            view.take(events)
            # Damaged events are left out, and their places with them.
            view.place = max(view.place, until)

    async def adopt(self, models: Mapping[str, Model], apps: Apps) -> bool:
        """Shows by these from now on, folding anew where that makes a difference, and says whether it
        does. Raises JournalUnavailable, and then shows on as before."""
        async with self._changing:
            if apps == self._apps and feeds(models) == feeds(self._models):
                return False
            if not self._is_wanted:
                self._models, self._apps = models, apps
                return True
            view = await self._folded(models, apps)
            # From here on nothing is awaited, so that nothing is committed in between.
            self.view, self._models, self._apps = view, models, apps
            self.is_complete = True
            return True

    async def _folded(self, models: Mapping[str, Model], apps: Apps) -> View:
        """A new view of all that was told by the time it is returned."""
        view = self._empty(models, apps)
        view.series.skip_before(round(self._clock() * 1000))
        abandoned = threading.Event()
        try:
            before, found = inf, await asyncio.to_thread(self._fold_more, view, abandoned.is_set)
            # Each round finds less, what came during the one before; where it does not, rounds take long
            # by themselves, and what is left is brought in on the loop.
            while FEW < found < before:
                before = found
                found = await asyncio.to_thread(self._fold_more, view, abandoned.is_set)
        finally:
            # A thread cannot be cancelled; where this task was, it is told.
            abandoned.set()
        while view.place < self._told:
            await self._bring(view, self._told)
        return view

    def _fold_more(self, view: View, is_abandoned: Callable[[], bool]) -> int:
        """Folds up to the last event of now; how many there were."""
        before, last = view.place, self._history.last_event()
        few: list[Recorded] = []
        for recorded in self._history.events(before, last):
            few.append(recorded)
            if len(few) == FEW:
                view.take(few)
                few.clear()
                if is_abandoned():
                    return 0
        view.take(few)
        view.place = max(view.place, last)
        return last - before


def _read(history: History, after: int, until: int) -> list[Recorded]:
    return list(history.events(after, until))


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
