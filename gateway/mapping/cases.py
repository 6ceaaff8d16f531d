"""The cases beside a mapping: sample deliveries, and what must come out of each."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway.diagnostic import Diagnostic
from gateway.mapping import document, shape
from gateway.mapping.grammar import ParameterValue

FROZEN = 1_893_456_000.0
"""2030-01-01T00:00:00Z, when a case is received unless it says otherwise: so no case ages."""


class Expectation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a delivery must come to."""

    outcome: Annotated[
        str,
        Meta(
            pattern="^(accepted|ignored|dead_lettered|rejected|unauthorized)$",
            description="What becomes of the delivery; `unauthorized` where its headers do not prove "
            "its sender.",
        ),
    ]
    events: Annotated[
        list[dict[str, Any]],
        Meta(description="The events in order: `kind` and every field, times in epoch seconds."),
    ] = []
    fields: Annotated[
        list[str], Meta(description="The fields that a dead letter's reasons name.")
    ] = []


class Case(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One delivery. `payload` is sent as JSON."""

    name: Annotated[str, Meta(min_length=1, max_length=120, description="A sentence.")]
    payload: Annotated[Any, Meta(description="The body.")]
    expect: Annotated[Expectation, Meta(description="What must come out.")]
    params: Annotated[
        dict[str, ParameterValue], Meta(description="Params of the mapping that this case sets.")
    ] = {}
    received_at: Annotated[
        float,
        Meta(description="When it is received, in epoch seconds; the clock stands still."),
    ] = FROZEN
    sample: Annotated[
        bool,
        Meta(
            description="Whether `gateway send SOURCE` posts it; where no case is a sample, it posts "
            "them all."
        ),
    ] = False
    headers: Annotated[
        dict[str, str],
        Meta(
            description="Headers to send, besides those that sign; one of the same name replaces the "
            "signature."
        ),
    ] = {}

    def body(self) -> bytes:
        """The bytes that are sent."""
        return msgspec.json.encode(self.payload)


class CaseFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`<source>.test.yaml`."""

    source: Annotated[str, Meta(description="The source that the deliveries come from.")]
    cases: Annotated[list[Case], Meta(description="The deliveries, in the order they are sent.")]


def read(file: str, text: str) -> tuple[CaseFile | None, list[Diagnostic]]:
    """The cases of a file, or what is wrong with it."""
    node, findings = document.parse(file, text)
    if node is None:
        return None, findings
    cases, _, problems = shape.read(node, CaseFile)
    findings += problems
    return (None if findings else cases), findings
