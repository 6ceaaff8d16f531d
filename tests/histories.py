"""A long history, written into a journal by the journal's own code."""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.delivery import Verdict
from gateway.event import Event, FieldValue
from gateway.journal.batch import candidate
from gateway.journal.entry import Entry
from gateway.journal.sqlite import SqliteStore

APPS = 200
OF_DELIVERY = 4
"""Events."""
AT_ONCE = 1_000
"""Deliveries of one commit."""
RECENT = 3_000
"""Events of the last half hour. The others came a day and more before."""
HALF_HOUR, DAY = 1_800, 86_400


class Happened(NamedTuple):
    """An event, and the epoch seconds of its receipt."""

    event: Event
    received_at: float


def history(count: int, end: float) -> Iterator[Happened]:
    """Commits, their images, deployments and failures of a busy organisation, up to a time (epoch
    seconds). The same numbers give the same history."""
    before = count - min(count, RECENT)
    for number in range(count):
        received = end - DAY - 60 * (before - number)
        if number >= before:
            received = end - HALF_HOUR + (number - before) * HALF_HOUR / RECENT
        yield Happened(_event(number, received), received)


def _event(number: int, at: float) -> Event:
    turn, what = divmod(number, 4)
    app, commit = f"team/app-{turn % APPS}", hashlib.sha1(b"%d" % turn).hexdigest()
    image = f"sha256:{turn:064x}"
    fields: dict[str, FieldValue]
    match what:
        case 0:
            fields = {"app": app, "commit": commit, "timestamp": at - 3600}
            return Event("committime", fields)
        case 1:
            return Event("build", {"app": app, "commit": commit, "image_sha": image})
        case 2:
            fields = {"app": app, "image_sha": image, "timestamp": at, "namespace": "prod"}
            return Event("deploytime", fields)
    fields = {"app": app, "event": "created", "issue_number": str(turn), "timestamp": at}
    return Event("failure", fields)


def write(path: Path, count: int, end: float) -> None:
    """Makes a journal of a history."""
    entries = _entries(history(count, end))
    with closing(SqliteStore(path)) as store:
        while some := list(islice(entries, AT_ONCE)):
            store.commit([candidate(entry) for entry in some])


def _entries(events: Iterator[Happened]) -> Iterator[Entry]:
    while some := list(islice(events, OF_DELIVERY)):
        body = msgspec.json.encode([one.event.fields for one in some])
        yield Entry(
            source="github",
            delivery_id=hashlib.md5(body).hexdigest(),
            event="push",
            received_at=some[-1].received_at,
            verdict=Verdict.ACCEPTED,
            reasons=(),
            events=tuple(one.event for one in some),
            headers={"content-type": "application/json", "x-github-event": "push"},
            query={},
            body=body,
        )
