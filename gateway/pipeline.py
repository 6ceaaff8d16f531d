"""The one route a delivery takes: read, journal, fold. The file to read first.

    authentic delivery -> plan.read -> Reading -> journal.append -> 2xx
                                                        |
                             series <- fold <- stored --+

A delivery is answered only after the journal has committed it, and events reach the series only from
the journal, in its order. So a restart, which folds the journal anew, gives the same series; and so
does a reload of other models or of another table of apps, which does the same while deliveries go on.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from gateway.apps import NO_TABLE, Apps
from gateway.delivery import (
    Accepted,
    DeadLetter,
    Delivery,
    Greeting,
    Ignored,
    Malformed,
    Reading,
    Reason,
    Verdict,
)
from gateway.event import Event
from gateway.history import History, NewSeries, Shown
from gateway.journal.entry import Entry, Recorded, Stored
from gateway.model import Model
from gateway.plan import Plan
from gateway.series import Series
from gateway.source import Source
from gateway.telemetry import Telemetry

LARGE_BODY = 256 * 1024
"""Bytes; a larger body is mapped off the event loop, so that the others need not wait for it."""


class Journal(History, Protocol):
    """The append-only store of deliveries and events, and the only state that matters."""

    async def append(self, entry: Entry) -> Stored:
        """Commits an entry durably, or finds it a duplicate. Raises JournalUnavailable."""
        ...

    def follow(self, listener: Callable[[Sequence[Recorded]], None]) -> None:
        """Names who is told of the events of every commit, in order, before its `append` returns; of
        none where others may have committed."""
        ...

    @property
    def waiting(self) -> int:
        """How many entries wait for their commit."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether a delivery would be kept now, as far as is known."""
        ...

    @property
    def missing(self) -> int:
        """How many deliveries were acknowledged before the start that are not there."""
        ...

    @property
    def damaged(self) -> int:
        """How many events were found that are not what was written, and are left out."""
        ...


class Answer(Struct, frozen=True, kw_only=True):
    """What became of a delivery, for its sender. `malformed` where its body is not JSON, `greeting`
    where it was a handshake."""

    source: str
    delivery_id: str
    verdict: Verdict
    events: tuple[Event, ...]
    reasons: tuple[Reason, ...]
    malformed: Malformed | None = None
    greeting: Greeting | None = None


class Pipeline:
    """Takes deliveries in; owns the series that they become. `new_series` makes empty ones; without
    `apps`, an app is what its source calls it. `begin` shows what the journal holds from before."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        models: Mapping[str, Model],
        new_series: NewSeries,
        journal: Journal,
        telemetry: Telemetry,
        apps: Apps = NO_TABLE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.sources = sources
        self.journal = journal
        self.telemetry = telemetry
        self.waiting_elsewhere: Callable[[], int] = lambda: 0
        self.shown = Shown(new_series, journal, models, apps, clock)
        telemetry.apps(apps.teams)
        journal.follow(self.shown.tell)

    @property
    def waiting(self) -> int:
        """How many deliveries wait for their commit, here and in other processes of this gateway."""
        return self.journal.waiting + self.waiting_elsewhere()

    @property
    def series(self) -> Series:
        return self.shown.view.series

    @property
    def unknown_apps(self) -> Mapping[str, int]:
        """How many names the table of apps does not know, by source; empty where there is none."""
        return self.shown.view.naming.unknown

    async def receive(self, source: Source, delivery: Delivery, fallback_id: str) -> Answer:
        """Maps and journals an authentic delivery.

        `fallback_id` names it where its sender does not. Raises JournalUnavailable.
        """
        if len(delivery.body) > LARGE_BODY:
            reading = await asyncio.to_thread(source.plan.read, delivery)
        else:
            reading = source.plan.read(delivery)
        verdict, reasons, events = judged(reading, source.plan)
        stored = await self.journal.append(
            Entry(
                source=delivery.source,
                delivery_id=reading.delivery_id or fallback_id,
                event=reading.event,
                received_at=delivery.received_at,
                verdict=verdict,
                reasons=reasons,
                events=events,
                headers=keepable(delivery.headers, source, delivery.query),
                query=keepable(delivery.query, source, delivery.query),
                body=delivery.body,
                receipt=fallback_id,
            )
        )
        for new in stored.new_events:
            self.telemetry.tally.event(new.event.kind)
        malformed = reading.outcome if isinstance(reading.outcome, Malformed) else None
        return Answer(
            source=delivery.source,
            delivery_id=reading.delivery_id or fallback_id,
            verdict=stored.verdict,
            events=events,
            reasons=reasons,
            malformed=malformed,
            greeting=reading.greeting,
        )

    async def adopt(
        self,
        sources: Mapping[str, Source],
        models: Mapping[str, Model],
        apps: Apps = NO_TABLE,
    ) -> None:
        """Serves these from now on, all at once; one call at a time. Raises JournalUnavailable, and
        then serves what it did.

        Other models or apps change what past events show: their series are folded anew from the
        journal, and shown when they have caught up.
        """
        if await self.shown.adopt(models, apps):
            self.telemetry.apps(apps.teams)
        self.sources = sources


def judged(reading: Reading, plan: Plan) -> tuple[Verdict, tuple[Reason, ...], tuple[Event, ...]]:
    """What becomes of a delivery, with the reasons or the events, apart from what the journal knows."""
    match reading.outcome:
        case Accepted(events):
            return Verdict.ACCEPTED, (), events
        case Ignored():
            return Verdict.IGNORED, (), ()
        case DeadLetter(reasons):
            rejected = plan.on_invalid == "reject"
            return Verdict.REJECTED if rejected else Verdict.DEAD_LETTERED, reasons, ()
        case Malformed(message, line, column):
            reason = Reason(f"not JSON: line {line}, column {column}: {message}")
            return Verdict.DEAD_LETTERED, (reason,), ()


_SECRET_WORDS = ("auth", "cookie", "credential", "key", "password", "secret", "signature", "token")
_MOST_ENCODINGS = 4


def keepable(values: Mapping[str, str], source: Source, query: Mapping[str, str]) -> dict[str, str]:
    """The headers or query parameters that may be kept: none that carries, or may carry, a secret.

    A mapping that reads a header by name may want it again in a replay, so it is kept even where
    its name sounds secret, unless the source authenticates with it. Where the `query` proves the
    sender, what repeats its proof is not kept, whatever its name: proxies add the URL as it came.
    """
    parameters = source.authentication.parameters
    # A parameter, and not what ends in its name.
    proofs = [rf"(?<![\w.-]){re.escape(name)}=" for name in parameters]
    proofs += [re.escape(query[name]) for name in parameters if query.get(name)]
    return {
        name: value
        for name, value in values.items()
        if name not in source.authentication.headers
        and name not in parameters
        and (name in source.plan.read_headers or not _sounds_secret(name))
        and not (proofs and _repeats(value, "|".join(proofs)))
    }


def _repeats(value: str, proofs: str) -> bool:
    """Whether a pattern is in a value, also where that is percent-encoded, several times as it comes of a
    URL within a URL."""
    for _ in range(_MOST_ENCODINGS):
        if re.search(proofs, value):
            return True
        value = unquote(value)
    return False


@lru_cache(maxsize=1_000)
def _sounds_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)


def answer_json(answer: Answer) -> bytes:
    """The JSON that a sender gets: fields named as in the models, what is absent left out."""
    return msgspec.json.encode(
        {
            "source": answer.source,
            "delivery": answer.delivery_id,
            "outcome": answer.verdict,
            "events": [{"kind": event.kind, **event.fields} for event in answer.events],
            "reasons": answer.reasons,
        }
    )
