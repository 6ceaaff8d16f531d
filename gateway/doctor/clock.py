"""The doctor at the clocks: do this machine, the gateway and Prometheus agree on the time?"""

from collections.abc import Iterator

from gateway.doctor.asking import Answer
from gateway.doctor.chain import Chain
from gateway.doctor.finding import Finding, Unchecked, ok, problem

MOST = 60.0
"""Seconds by which two clocks may differ."""


def agreement(chain: Chain) -> Iterator[Finding]:
    """The `Date` of the gateway's answers, and of Prometheus's, is this machine's time, within a minute.
    Samples carry the gateway's time, and Prometheus refuses those that are too far from its own.
    Whether this machine's own clock is right is not asked."""
    answers: dict[str, Answer] = {}
    if chain.running is not None:
        answers["the gateway"] = chain.running.answer
    if chain.prometheus is not None and isinstance(chain.prometheus.first, Answer):
        answers["Prometheus"] = chain.prometheus.first
    compared = 0
    for who, answer in answers.items():
        if answer.date is None:
            continue
        compared += 1
        # The header has whole seconds, cut.
        difference = answer.date + 0.5 - answer.at
        if abs(difference) > MOST:
            direction = "ahead of" if difference > 0 else "behind"
            yield problem(
                f"the clock of {who}, by the Date of its answer, is {abs(difference):.0f} seconds "
                f"{direction} this machine's",
                "have the machines keep time (chrony, systemd-timesyncd): samples that are too far from "
                "Prometheus's clock are dropped",
            )
        else:
            yield ok(f"the clock of {who}, by the Date of its answer, agrees with this machine's")
    if not compared:
        raise Unchecked("neither a gateway nor Prometheus answers with a Date")


CHECKS = (agreement,)
