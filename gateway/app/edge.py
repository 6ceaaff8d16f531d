"""What the public routes share: bodies under limits, authentication, and the way into the pipeline."""

import asyncio
import logging
import time
from uuid import uuid4

from litestar.types import HTTPScope, Receive
from msgspec import Struct

from gateway.app import http
from gateway.app.http import Body, Budget, Refused
from gateway.authentication import Authentication, nobody
from gateway.delivery import Delivery
from gateway.journal.entry import JournalUnavailable, Overloaded
from gateway.pipeline import Answer, Pipeline
from gateway.source import Source

log = logging.getLogger("gateway")


class Limits(Struct, frozen=True):
    """Bytes of one body and of all, seconds for a body to arrive and for an answer."""

    body: int
    in_flight: int
    body_timeout: float
    answer_timeout: float


class Edge:
    """One for the public listener: the limits hold over all its routes."""

    def __init__(self, pipeline: Pipeline, limits: Limits) -> None:
        self.pipeline = pipeline
        self.limits = limits
        self._budget = Budget(limits.in_flight)
        self._nobody = nobody()
        self._last_receipt = 0.0

    def body(self, scope: HTTPScope, receive: Receive, limit: int) -> Body:
        deadline = self.limits.body_timeout
        return Body(scope, receive, min(limit, self.limits.body), deadline, self._budget)

    def authentication(self, source: Source | None) -> Authentication:
        """That of a source; for an unknown one another that no request passes, at the same cost."""
        return source.authentication if source else self._nobody

    async def deliver(self, source: Source, scope: HTTPScope, raw: bytes) -> Answer:
        """Sends an authentic body down the pipeline. Raises Refused where it cannot be kept."""
        started = time.perf_counter()
        delivery = Delivery(
            source=source.plan.source,
            headers=http.texts(scope["headers"]),
            query=http.query(scope),
            body=raw,
            received_at=self._receipt(),
        )
        try:
            async with asyncio.timeout(self.limits.answer_timeout):
                answer = await self.pipeline.receive(source, delivery, uuid4().hex)
        except Overloaded as error:
            raise http.unavailable("overloaded", "too many deliveries at once") from error
        except (JournalUnavailable, TimeoutError) as error:
            log.error(  # noqa: TRY400  # Trouble of the operator's, not a bug: no traceback.
                "nothing was kept of a delivery from %s: %s", source.plan.source, error
            )
            raise http.unavailable("journal", "the journal cannot commit now") from error
        self.pipeline.telemetry.tally.delivery(
            answer.source, answer.verdict, time.perf_counter() - started
        )
        _log(answer)
        return answer

    def _receipt(self) -> float:
        """Now in epoch seconds, later than every receipt before: two events whose time is that of
        their receipt are two events, however close they come."""
        self._last_receipt = max(time.time(), self._last_receipt + 1e-6)
        return self._last_receipt

    def count_refusal(self, source: Source | None, refused: Refused) -> None:
        """Counts under the source's name; names that nobody serves share one, to bound their number."""
        self.pipeline.telemetry.tally.refuse(source.plan.source if source else "", refused.reason)


def _log(answer: Answer) -> None:
    number = len(answer.events)
    found = f", {number} event{'s' * (number > 1)}" if number else ""
    why = "; ".join(str(reason) for reason in answer.reasons[:3])
    level = logging.WARNING if answer.reasons else logging.INFO
    log.log(
        level,
        "%s %s%s (delivery %s)%s",
        answer.source,
        answer.verdict,
        found,
        answer.delivery_id,
        f": {why}" if why else "",
    )
