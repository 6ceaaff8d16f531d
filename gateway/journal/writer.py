"""Deliveries committed in groups: one thread takes whatever waits, without waiting for more.

A batch is all that came while the one before was committed, so nobody pays for a delay and a slow disk
makes batches larger. It is handed over as a whole: the thread and the event loop share one interpreter,
and each time that they pass it to and fro costs more than a row. The thread alone writes to its store.
Once a second it looks after the store, and finds out whether one that failed works again.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from msgspec import Struct

from gateway.journal.batch import Candidate, candidate
from gateway.journal.entry import Entry, JournalUnavailable, Overloaded, Recorded, Stored

BATCH = 200
MAX_WAITING = 2_000
TICK = 1.0
"""Seconds."""

log = logging.getLogger("gateway")


class Store(Protocol):
    """A database that holds the journal. Every method raises JournalUnavailable."""

    @property
    def is_shared(self) -> bool:
        """Whether others write into it, too."""
        ...

    @property
    def damaged(self) -> int:
        """How many rows were found that are not what was written, and are left out."""
        ...

    @property
    def missing(self) -> int:
        """How many deliveries were acknowledged before the start that are not there."""
        ...

    def commit(self, batch: Sequence[Candidate]) -> list[Stored]:
        """Commits a batch durably, all of it or nothing."""
        ...

    def tend(self) -> bool:
        """Removes a little of what is kept no longer; whether there is more of it to remove. Fails
        where `commit` would."""
        ...

    def watch(self, news: Callable[[], None]) -> None:
        """Has `news` called, from any thread, when somebody else may have committed."""
        ...

    def events(self, after: int = 0, until: int | None = None) -> Iterator[Recorded]:
        """Events in their order, from behind a place up to another one. In any thread."""
        ...

    def last_event(self) -> int:
        """The place of the last event, 0 where there is none. In any thread."""
        ...

    def close(self) -> None: ...


class _Waiting(Struct, frozen=True):
    entry: Entry
    answer: "asyncio.Future[Stored]"


Listener = Callable[[Sequence[Recorded]], None]


class Writer:
    """The journal as the pipeline knows it. `append` is called on the event loop given to `start`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._batches: queue.SimpleQueue[list[_Waiting] | None] = queue.SimpleQueue()
        self._pending: list[_Waiting] = []
        self._committing = 0
        self._is_called = False
        self._failure = ""
        self._listener: Listener = lambda _events: None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_shared(self) -> bool:
        return self._store.is_shared

    @property
    def damaged(self) -> int:
        return self._store.damaged

    @property
    def missing(self) -> int:
        return self._store.missing

    @property
    def waiting(self) -> int:
        return len(self._pending) + self._committing

    @property
    def healthy(self) -> bool:
        return not self._failure

    def follow(self, listener: Listener) -> None:
        self._listener = listener

    def start(self) -> None:
        """Starts the writer; called once, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        if self._store.missing:
            log.error(
                "the journal ends %d deliveries before what was acknowledged: it was damaged, cut, or put "
                "back from an older copy; look for a newer one before it is written on",
                self._store.missing,
            )
        self._store.watch(lambda: self._tell(self._listener, ()))
        self._thread = threading.Thread(target=self._write, name="journal")
        self._thread.start()

    def close(self) -> None:
        """Commits what waits, then lets go of the store."""
        if self._thread is not None:
            if self._pending:
                self._batches.put(self._pending)
            self._batches.put(None)
            self._thread.join()
        self._store.close()

    async def append(self, entry: Entry) -> Stored:
        if self._loop is None:
            raise JournalUnavailable("the journal is not started")
        if self.waiting >= MAX_WAITING:
            raise Overloaded(f"{self.waiting} deliveries wait already")
        answer: asyncio.Future[Stored] = self._loop.create_future()
        self._pending.append(_Waiting(entry, answer))
        self._call()
        # Where its sender has gone, this is cancelled, and the commit happens all the same.
        return await answer

    def _call(self) -> None:
        """Has what waits handed over, once this turn of the loop has brought all that it brings."""
        if self._loop is not None and not self._is_called and not self._committing:
            self._is_called = True
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._is_called = False
        batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
        self._committing = len(batch)
        self._batches.put(batch)

    def events(self, after: int = 0, until: int | None = None) -> Iterator[Recorded]:
        return self._store.events(after, until)

    def last_event(self) -> int:
        return self._store.last_event()

    # The writer thread

    def _write(self) -> None:
        due = time.monotonic() + TICK
        while True:
            try:
                batch = self._batches.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                # While nobody waits, all that is to be removed is; else a little every second.
                due = time.monotonic() + (0.0 if self._tend() else TICK)
                continue
            if batch is None:
                return
            self._commit(batch)
            if time.monotonic() > due:
                self._tend()
                due = time.monotonic() + TICK

    def _commit(self, batch: list[_Waiting]) -> None:
        try:
            results = self._store.commit([candidate(waiting.entry) for waiting in batch])
        except Exception as error:  # noqa: BLE001  # A bug; raised again to whoever waits.
            self._tell(self._failed, batch, error)
        else:
            recorded = [event for stored in results for event in stored.new_events]
            self._tell(self._committed, batch, results, recorded)

    def _tend(self) -> bool:
        """Whether there is more to do at once."""
        try:
            more = self._store.tend()
        except JournalUnavailable as error:
            self._tell(self._judge, str(error))
            return False
        except Exception:
            log.exception("a bug")
            return False
        if self._failure:
            self._tell(self._judge, "")
        return more

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits for it.
                self._loop.call_soon_threadsafe(callback, *arguments)

    # Back on the event loop

    def _committed(
        self, batch: list[_Waiting], results: list[Stored], recorded: list[Recorded]
    ) -> None:
        self._judge("")
        self._committing = 0
        if recorded:
            self._listener(recorded)
        for waiting, stored in zip(batch, results, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(stored)
        if self._pending:
            self._call()

    def _failed(self, batch: list[_Waiting], error: Exception) -> None:
        self._judge(str(error))
        self._committing = 0
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
        if self._pending:
            self._call()

    def _judge(self, failure: str) -> None:
        """Takes note of why the journal fails, nothing where it works, and says so when that changes."""
        if failure and not self._failure:
            log.error("no delivery can be kept: %s", failure)
        elif self._failure and not failure:
            log.info("deliveries are kept again")
        self._failure = failure
