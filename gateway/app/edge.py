"""What the public routes share: bodies under limits, authentication, and the way into the pipeline."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable

from litestar.types import HTTPScope, Receive
from msgspec import Struct

from gateway import addresses
from gateway.addresses import Address, Networks
from gateway.app import http
from gateway.app.deliveries_log import DeliveriesLog
from gateway.app.failures import Failures
from gateway.app.http import Body, Budget, Disconnected, Refused
from gateway.authentication import Authentication, nobody
from gateway.delivery import Delivery
from gateway.journal.entry import JournalUnavailable, Overloaded
from gateway.pipeline import Answer, Pipeline
from gateway.source import Source

log = logging.getLogger("gateway")

SET_BACK = 1.0
"""Seconds; a clock that is only kept right is set back by less."""
_NO_COMMIT = "the journal cannot commit now"


class Limits(Struct, frozen=True):
    """Bytes of one body and of all, seconds for a body to arrive and for an answer."""

    body: int
    in_flight: int
    body_timeout: float
    answer_timeout: float


class Edge:
    """One for the public listener: the limits hold over all its routes. What trusted proxies say of
    whom they forward for is believed."""

    def __init__(self, pipeline: Pipeline, limits: Limits, trusted: Networks = ()) -> None:
        self.pipeline = pipeline
        self._trusted = trusted
        self.limits = limits
        self._budget = Budget(limits.in_flight)
        self._nobody = nobody()
        self._last_receipt = 0.0
        self._log = DeliveriesLog()
        self._failures = Failures(self._log.line)

    def body(self, scope: HTTPScope, receive: Receive, limit: int) -> Body:
        deadline = self.limits.body_timeout
        return Body(scope, receive, min(limit, self.limits.body), deadline, self._budget)

    def authentication(self, source: Source | None) -> Authentication:
        """That of a source; for an unknown one another that no request passes, at the same cost."""
        return source.authentication if source else self._nobody

    async def is_authentic(self, source: Source | None, scope: HTTPScope, raw: bytes) -> bool:
        """Whether a request is from whom it claims. Raises Refused where that cannot be told now.

        Everyone's proof is looked at, whatever failed before: who makes wrong ones locks nobody out.
        """
        checked = self.authentication(source)
        headers, now = scope["headers"], time.time()
        is_admitted = (
            source is None
            or not source.allow_from
            or addresses.holds(source.allow_from, self._sender(scope))
        )
        if is_admitted and checked.prepare is not None and not await checked.prepare(headers):
            detail = "the keys that tell who sends cannot be had now"
            raise http.unavailable("issuer", detail, close=True)
        is_proven = checked.verify(headers, raw, now, scope["query_string"])
        if is_proven and is_admitted:
            return source is not None
        # Looked for in any case: that there is no such source takes as long to say.
        why = checked.told_fault(headers, now)
        if source is None:
            why = "nothing is served under its name"
        elif is_proven:
            why = "its proof holds, and `allow_from` does not have the address"
        self._failures.note(source.plan.source if source else "", self._sender(scope), why)
        return False

    def _sender(self, scope: HTTPScope) -> Address | None:
        peer = scope["client"]
        return addresses.sender(peer[0] if peer else "", scope["headers"], self._trusted)

    async def deliver(
        self,
        source: Source,
        scope: HTTPScope,
        raw: bytes,
        refuse: Callable[[Refused], Awaitable[None]],
    ) -> Answer:
        """Sends an authentic body down the pipeline. Raises Refused where it cannot be kept.

        Where that takes too long, `refuse` answers, and this waits on, so that what the journal has not
        let go of stays in the budget; then Disconnected is raised.
        """
        started = time.perf_counter()
        delivery = Delivery(
            source=source.plan.source,
            headers=http.texts(scope["headers"]),
            query=http.query(scope),
            body=raw,
            received_at=self._receipt(),
        )
        late = _Late(source.plan.source, refuse)
        timer = asyncio.get_running_loop().call_later(self.limits.answer_timeout, late)
        try:
            answer = await self.pipeline.receive(source, delivery, os.urandom(16).hex())
        except Overloaded as error:
            raise await late.refusal("overloaded", "too many deliveries at once") from error
        except JournalUnavailable as error:
            log.error(  # noqa: TRY400  # Trouble of the operator's, not a bug: no traceback.
                "nothing was kept of a delivery from %s: %s", source.plan.source, error
            )
            raise await late.refusal("journal", _NO_COMMIT) from error
        except asyncio.CancelledError:
            # The server cancels what is unfinished when the time to shut down in order is over.
            raise await late.refusal("stopping", "the gateway stops", close=True) from None
        finally:
            timer.cancel()
        self.pipeline.telemetry.tally.delivery(
            answer.source, answer.verdict, time.perf_counter() - started
        )
        self._log_answer(answer)
        if await late.has_answered():
            raise Disconnected
        return answer

    def _receipt(self) -> float:
        """Now in epoch seconds, later than the receipt before: two events whose time is that of
        their receipt are two events, however close they come."""
        now, last = time.time(), self._last_receipt
        # A clock that was ahead and is set back is believed: else all that comes would stay ahead with it.
        self._last_receipt = last + 1e-6 if now <= last < now + SET_BACK else now
        return self._last_receipt

    def _log_answer(self, answer: Answer) -> None:
        number = len(answer.events)
        found = f", {number} event{'s' * (number > 1)}" if number else ""
        line = f"{answer.source} {answer.verdict}{found} (delivery {answer.delivery_id})"
        if answer.reasons:
            why = "; ".join(str(reason) for reason in answer.reasons[:3])
            self._log.line("WARNING", f"{line}: {why}")
        else:
            self._log.line("INFO", line)

    def count_refusal(self, source: Source | None, refused: Refused) -> None:
        """Counts under the source's name; names that nobody serves share one, to bound their number."""
        self.pipeline.telemetry.tally.refuse(source.plan.source if source else "", refused.reason)


class _Late:
    """Answers in place of a delivery whose commit takes too long, when it is called."""

    def __init__(self, source: str, refuse: Callable[[Refused], Awaitable[None]]) -> None:
        self._source = source
        self._refuse = refuse
        self._task: asyncio.Future[None] | None = None

    def __call__(self) -> None:
        log.error("a delivery from %s was answered 503: the journal takes too long", self._source)
        refused = http.unavailable("journal", _NO_COMMIT)
        self._task = asyncio.ensure_future(self._refuse(refused))

    async def has_answered(self) -> bool:
        """Whether it was called; returns when its answer is out, which may have only just begun."""
        if self._task is None:
            return False
        await self._task
        return True

    async def refusal(self, reason: str, detail: str, *, close: bool = False) -> Exception:
        """What to raise: a refusal, unless it was answered already."""
        if await self.has_answered():
            return Disconnected()
        return http.unavailable(reason, detail, close=close)
