"""Replays at a running gateway, beside its deliveries; and how many dead letters wait for one."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

from gateway import replay
from gateway.journal.archive import Archive
from gateway.journal.entry import JournalError
from gateway.pipeline import Pipeline
from gateway.plan import Plan
from gateway.replay import Asked, Ended, Failed, Message, Replayed

COUNTED_EVERY = 60.0
"""Seconds from one count of the open dead letters to the next."""

log = logging.getLogger("gateway")


class Replayer:
    """One for the process, on its event loop. `plans` are those of all sources, as they are served at
    the time of the call."""

    def __init__(
        self, pipeline: Pipeline, archive: Archive, plans: Callable[[], Mapping[str, Plan]]
    ) -> None:
        self._pipeline = pipeline
        self._archive = archive
        self._plans = plans
        self._is_running = False

    async def lines(self, asked: Asked, ready: Callable[[], bool]) -> AsyncGenerator[bytes]:
        """Begins a replay: its messages, each as a line of JSON. It ends early where `ready` does.
        Raises NotFound and JournalError."""
        plans = self._plans()
        work = await asyncio.to_thread(replay.prepare, self._archive, plans, asked)
        messages = replay.replay(
            work, self._archive, plans, None if asked.dry_run else self._pipeline.journal.append
        )
        if asked.dry_run:
            return _encoded(messages)
        return _encoded(self._alone(messages, ready))

    async def _alone(
        self, messages: AsyncIterator[Message], ready: Callable[[], bool]
    ) -> AsyncIterator[Message]:
        """Counts what is replayed, one replay at a time."""
        if self._is_running:
            yield Failed("another replay is running; run it again afterwards")
            return
        self._is_running = True
        try:
            async for message in messages:
                if isinstance(message, Replayed):
                    self._take_note(message)
                yield message
                if not ready() and not isinstance(message, Ended):
                    yield Failed("the gateway stops; run it again afterwards")
                    return
        finally:
            self._is_running = False
        await self.count()

    def _take_note(self, one: Replayed) -> None:
        telemetry = self._pipeline.telemetry
        telemetry.replayed(one.source, "failed" if one.problem else one.after)
        for event in one.new:
            telemetry.tally.event(event.kind)
        if one.changes:
            log.info(
                "%s %s by a replay, was %s (delivery %s)",
                one.source,
                one.after,
                one.before,
                one.delivery,
            )

    async def count(self) -> None:
        """Counts the open dead letters."""
        try:
            counts = await asyncio.to_thread(self._archive.open_dead_letters)
        except JournalError as error:
            log.error("dead letters cannot be counted: %s", error)  # noqa: TRY400  # The operator's, no bug.
        else:
            self._pipeline.telemetry.dead_letters(counts)

    async def keep_counting(self) -> None:
        """Counts them now, and again every minute."""
        while True:
            await self.count()
            await asyncio.sleep(COUNTED_EVERY)


async def _encoded(messages: AsyncIterator[Message]) -> AsyncGenerator[bytes]:
    async for message in messages:
        yield replay.encoded(message)
