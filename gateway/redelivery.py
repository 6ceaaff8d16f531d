"""Which deliveries of a webhook never arrived, by the attempts that its sender made of them. Pure."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct


class Attempt(Struct, frozen=True):
    """One attempt at a delivery, under the names of GitHub's API. `guid` is the delivery's own and stays
    the same over all its attempts, `id` is the attempt's; `status` says in words how it ended, and
    `status_code` is none or 0 where there was no answer."""

    id: int
    guid: str
    delivered_at: Annotated[datetime, Meta(tz=True)]
    status: str
    status_code: int | None
    event: str
    action: str | None = None

    @property
    def arrived(self) -> bool:
        """Was it answered as taken?"""
        return 200 <= (self.status_code or 0) < 300


def _unknown(guid: str) -> bool:
    return False


def lost(attempts: Iterable[Attempt], known: Callable[[str], bool] = _unknown) -> list[Attempt]:
    """The latest attempt at each delivery that no attempt brought, the earliest of them first; without
    the deliveries whose guid is `known` to have come all the same."""
    latest: dict[str, Attempt] = {}
    arrived = set()
    for attempt in attempts:
        if attempt.arrived:
            arrived.add(attempt.guid)
        other = latest.get(attempt.guid, attempt)
        latest[attempt.guid] = max(attempt, other, key=_order)
    missing = [one for guid, one in latest.items() if guid not in arrived and not known(guid)]
    return sorted(missing, key=_order)


def _order(attempt: Attempt) -> tuple[datetime, int]:
    """Times are whole seconds, and ids grow."""
    return attempt.delivered_at, attempt.id
