"""Deliveries of the journal mapped again by the mappings of now: what that changes, and what is appended of it.

    kept delivery -> plan.read -> Reading -> compared with the journal -> journal.append -> fold

A replay is an entry of its own behind all others. Its events are shown at the time of the replay, so
that Prometheus takes them; nothing that was told before is taken back. Where nothing changes nothing
is appended, so a second replay does nothing.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from uuid import uuid4

import msgspec
from msgspec import Struct

from gateway.delivery import Reason, Verdict
from gateway.diagnostic import did_you_mean
from gateway.event import Event, identity
from gateway.journal.archive import OPEN, Archive, Kept, NotFound, Selection
from gateway.journal.entry import Entry, JournalError, JournalUnavailable, Stored
from gateway.pipeline import judged
from gateway.plan import Plan

GROUP = 50
"""Deliveries that are committed together: few enough that new ones need not wait for them."""
FAILED = (Verdict.DEAD_LETTERED, Verdict.REJECTED)


class Asked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which deliveries are to be mapped again: all that fit every one of these. `ids` are ids of deliveries
    or their first characters, `since` and `until` epoch seconds of their receipt, 0 where it does not
    matter. Without ids and outcomes the open dead letters are meant. `dry_run` appends nothing."""

    ids: tuple[str, ...] = ()
    source: str = ""
    outcomes: tuple[Verdict, ...] = ()
    since: float = 0.0
    until: float = 0.0
    dry_run: bool = False


class Began(Struct, frozen=True, tag="began"):
    """How many deliveries there are to map."""

    deliveries: int


class Replayed(Struct, frozen=True, kw_only=True, tag="replayed", omit_defaults=True):
    """A delivery mapped again; `number` is its place in the journal. Of the events that it yields now,
    those that the journal did not know are `new`; `gone` are those that it yielded before and does no
    more. `problem` says why it could not be mapped at all."""

    number: int
    delivery: str
    source: str
    event: str
    received_at: float
    before: Verdict
    after: Verdict
    new: tuple[Event, ...] = ()
    known: tuple[Event, ...] = ()
    gone: tuple[Event, ...] = ()
    reasons: tuple[Reason, ...] = ()
    problem: str = ""

    @property
    def changes(self) -> bool:
        """Whether there is something to append."""
        return self.after is not self.before or bool(self.new)

    @property
    def fails(self) -> bool:
        """Whether there still is something to mend."""
        return bool(self.problem) or self.after in FAILED


class Ended(Struct, frozen=True, kw_only=True, tag="ended"):
    """How many deliveries were mapped again; to how many that made a difference; how many are dead
    letters now, or could not be mapped; and how many events are new."""

    deliveries: int = 0
    changed: int = 0
    dead_letters: int = 0
    problems: int = 0
    events: int = 0

    def with_one(self, one: Replayed) -> "Ended":
        return Ended(
            deliveries=self.deliveries + 1,
            changed=self.changed + one.changes,
            dead_letters=self.dead_letters + (one.fails and not one.problem),
            problems=self.problems + bool(one.problem),
            events=self.events + len(one.new),
        )


class Failed(Struct, frozen=True, tag="failed"):
    """Why a replay ended early. What was told before of it holds."""

    detail: str


Message = Began | Replayed | Ended | Failed
Append = Callable[[Entry], Awaitable[Stored]]


class Work(Struct, frozen=True):
    """A replay that can begin: what is selected by now, up to the number `last`."""

    wanted: Selection
    deliveries: int
    last: int


def prepare(archive: Archive, plans: Mapping[str, Plan], asked: Asked) -> Work:
    """What is asked for. Raises NotFound for a delivery or a source that does not exist, and
    JournalError."""
    wanted = Selection(
        source=asked.source,
        outcomes=tuple(outcome.value for outcome in asked.outcomes),
        since=asked.since,
        until=asked.until,
        numbers=tuple(archive.only(name, asked.source).number for name in asked.ids),
        limit=GROUP,
    )
    if not asked.ids and not asked.outcomes:
        wanted = msgspec.structs.replace(wanted, outcomes=OPEN.outcomes, settled=OPEN.settled)
    last, deliveries = archive.last(), archive.count(wanted)
    if not deliveries and asked.source and asked.source not in plans:
        raise NotFound(f"there is no source `{asked.source}`; {did_you_mean(asked.source, plans)}")
    return Work(wanted, deliveries, last)


async def replay(
    work: Work,
    archive: Archive,
    plans: Mapping[str, Plan],
    append: Append | None,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[Message]:
    """Maps deliveries again in the order in which they came, and appends what changes; tells of each
    once it is committed. A dry run has nothing to append with. `now` is the time in epoch seconds."""
    yield Began(work.deliveries)
    ended, told = Ended(), set[bytes]()
    after = 0
    try:
        while page := await asyncio.to_thread(_page, archive, work, after):
            after = page[-1].number
            group = []
            for kept in page:
                # Each by itself, off the event loop: deliveries go on between any two of them.
                one = await asyncio.to_thread(_mapped, archive, plans, kept, told)
                told.update(map(identity, one.new))
                group.append(one)
            if append is not None:
                group = await _appended(group, append, now)
                told.clear()
            for one in group:
                ended = ended.with_one(one)
                yield one
    except (JournalError, JournalUnavailable) as error:
        yield Failed(str(error))
    else:
        yield ended


def _page(archive: Archive, work: Work, after: int) -> list[Kept]:
    found = archive.oldest(msgspec.structs.replace(work.wanted, after=after))
    return [kept for kept in found if kept.number <= work.last]


def _mapped(archive: Archive, plans: Mapping[str, Plan], kept: Kept, told: set[bytes]) -> Replayed:
    """A delivery read by the mapping of now; `told` are new events of deliveries before it."""
    plan = plans.get(kept.source)
    if plan is None:
        return _replayed(kept, problem=f"there is no mapping of the source `{kept.source}`")
    try:
        delivery, before = archive.load(kept.number), archive.events_of(kept.number)
    except JournalError as error:
        return _replayed(kept, problem=str(error))
    verdict, reasons, events = judged(plan.read(delivery), plan)
    found = {identity(event): event for event in events}
    known = archive.known(list(found)) | (told & found.keys())
    new = tuple(event for key, event in found.items() if key not in known)
    if events and not new:
        # They came another way; or by this delivery, which then stays what it was.
        verdict = Verdict.ACCEPTED if kept.outcome is Verdict.ACCEPTED else Verdict.DUPLICATE
    return msgspec.structs.replace(
        _replayed(kept),
        after=verdict,
        new=new,
        known=tuple(found[key] for key in found if key in known),
        gone=tuple(event for event in before if identity(event) not in found),
        reasons=reasons,
    )


def _replayed(kept: Kept, problem: str = "") -> Replayed:
    """A delivery to which nothing happened yet."""
    return Replayed(
        number=kept.number,
        delivery=kept.delivery,
        source=kept.source,
        event=kept.event,
        received_at=kept.received_at,
        before=kept.outcome,
        after=kept.outcome,
        problem=problem,
    )


async def _appended(
    group: list[Replayed], append: Append, now: Callable[[], float]
) -> list[Replayed]:
    """The group with what the journal made of it, which others write too. Raises JournalUnavailable."""
    changed = {one.number: one for one in group if one.changes and not one.problem}
    # In order: tasks begin in the order of their making, and the journal takes what waits in order.
    stored = await asyncio.gather(*(append(_entry(one, now())) for one in changed.values()))
    results = dict(zip(changed, stored, strict=True))
    return [_settled(one, results[one.number]) if one.number in results else one for one in group]


def _entry(one: Replayed, now: float) -> Entry:
    return Entry(
        source=one.source,
        delivery_id=one.delivery,
        event=one.event,
        received_at=now,
        verdict=Verdict.ACCEPTED if one.after is Verdict.DUPLICATE else one.after,
        reasons=one.reasons,
        events=(*one.new, *one.known),
        headers={},
        query={},
        body=b"",
        receipt=uuid4().hex,
        replay_of=one.number,
    )


def _settled(one: Replayed, stored: Stored) -> Replayed:
    new = tuple(recorded.event for recorded in stored.new_events)
    late = tuple(event for event in one.new if event not in new)
    return msgspec.structs.replace(one, after=stored.verdict, new=new, known=(*one.known, *late))


def encoded(message: Message) -> bytes:
    """A message as a line of JSON."""
    return msgspec.json.encode(message) + b"\n"


def decoded(line: bytes) -> Message:
    """Raises msgspec.DecodeError."""
    message: Message = _DECODER.decode(line)
    return message


_DECODER = msgspec.json.Decoder(Message)
