"""The cases beside a mapping: sample deliveries, and what must come out of each."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway import body
from gateway.diagnostic import Diagnostic, Span, did_you_mean
from gateway.mapping import document, shape
from gateway.mapping.grammar import ParameterValue
from gateway.mapping.shape import Places

FROZEN = 1_893_456_000.0
"""2030-01-01T00:00:00Z, when a case is received unless it says otherwise: so no case ages."""
_LATEST = 253_402_300_799
"""The last second of the year 9999."""


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
    series: Annotated[
        str | UnsetType,
        Meta(
            description="The lines of samples that a scrape shows at the moment of receipt. Compared "
            "only where it is given."
        ),
    ] = UNSET

    def comparable(self) -> "Expectation":
        """The same without what makes no difference: the fraction of a whole number, which YAML may
        write or not, and the spaces and blank lines around series."""
        events = [{name: _number(value) for name, value in one.items()} for one in self.events]
        series = self.series
        if isinstance(series, str):
            stripped = (line.strip() for line in series.splitlines())
            series = "\n".join(line for line in stripped if line)
        return msgspec.structs.replace(self, events=events, series=series)


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Case(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One delivery, with exactly one of `payload`, `payload_file` and `body`."""

    # Besides, `payload` holds the JSON value of a case that was read with another body: UNSET where
    # that is none, or was not loaded.

    name: Annotated[str, Meta(min_length=1, max_length=120, description="A sentence, unique here.")]
    payload: Annotated[Any, Meta(description="The body, sent as JSON.")] = UNSET
    payload_file: Annotated[
        str | UnsetType,
        Meta(
            description="The file that holds the body, sent as it is: a path from the folder of this "
            "file, and within it."
        ),
    ] = UNSET
    text: Annotated[
        str | UnsetType,
        Meta(description="The body as text, for what is no JSON, such as a form."),
    ] = msgspec.field(default=UNSET, name="body")
    expect: Annotated[
        Expectation | UnsetType,
        Meta(description="What must come out; `gateway test --update` fills it in."),
    ] = UNSET
    after: Annotated[
        list[str],
        Meta(description="Names of earlier cases whose events `series` shows the effect of."),
    ] = []
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
    query: Annotated[
        dict[str, str], Meta(description="Parameters of the URL that it is sent to.")
    ] = {}

    def body(self) -> bytes:
        """The bytes that are sent; those of a payload file only where it was loaded."""
        if isinstance(self.text, str):
            return self.text.encode(errors=_ANY_BYTES)
        return msgspec.json.encode(self.payload)

    @property
    def outcome(self) -> str:
        """The outcome that is expected, empty where nothing is said yet."""
        return self.expect.outcome if isinstance(self.expect, Expectation) else ""


BODIES = ("payload", "payload_file", "body")
"""The keys of a case that say what is sent."""


class CaseFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`<source>.test.yaml`."""

    source: Annotated[str, Meta(description="The source that the deliveries come from.")]
    cases: Annotated[list[Case], Meta(description="The deliveries, in the order they are sent.")]


class UnusablePayload(Exception):
    """A payload file cannot be used. `mend` says what to do about it."""

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.mend = mend


Load = Callable[[str], bytes]
"""The content of a payload file, by its path from the folder of the case file. Raises
UnusablePayload."""
Params = Mapping[str, Collection[str]]
"""The params of each source that there is."""

_ANY_BYTES = "surrogateescape"
"""How the bytes of a payload file are held as text: all of them come back."""


class CasesRead(Struct, frozen=True):
    """The cases of a file, each part with its place."""

    file: CaseFile
    places: Places

    def line(self, index: int) -> int:
        """The line where a case begins."""
        return self.places.span("cases", index).line


def read(
    file: str, text: str, load: Load | None = None, known: Params | None = None
) -> tuple[CaseFile | None, list[Diagnostic]]:
    """The cases of a file, or what is wrong with it.

    Payload files are looked at where `load` is given; that the source and the params exist, where
    `known` is.
    """
    found, findings = read_with_places(file, text, load, known)
    return (found.file if found else None), findings


def read_with_places(
    file: str, text: str, load: Load | None = None, known: Params | None = None
) -> tuple[CasesRead | None, list[Diagnostic]]:
    """The same, with the places of all parts."""
    node, findings = document.parse(file, text)
    if node is None:
        return None, findings
    written, places, problems = shape.read(node, CaseFile)
    findings += problems
    findings += _mistakes(written, places)
    if known is not None and written.source:
        findings += _unknown(written, places, known)
    complete = []
    for index, case in enumerate(written.cases):
        result: Case | Diagnostic = case
        if isinstance(case.payload_file, str) and load is not None:
            result = _loaded(
                case, case.payload_file, places.span("cases", index, "payload_file"), load
            )
        elif isinstance(case.text, str):
            result = msgspec.structs.replace(case, payload=_value(case, case.body()))
        if isinstance(result, Diagnostic):
            findings.append(result)
        else:
            complete.append(result)
    if findings:
        return None, sorted(findings)
    return CasesRead(msgspec.structs.replace(written, cases=complete), places), []


def named(known: Iterable[Case], words: str) -> list[Case]:
    """The case of this name, or those whose names hold it."""
    given = list(known)
    exact = [case for case in given if case.name == words]
    return exact or [case for case in given if words in case.name]


# What the shape of the document does not tell


def _mistakes(written: CaseFile, places: Places) -> Iterator[Diagnostic]:
    lines: dict[str, int] = {}
    for index, case in enumerate(written.cases):
        place = ("cases", index)
        if not places.is_table(*place):
            continue
        yield from _body_mistakes(case, index, places)
        for position, name in enumerate(case.after):
            if name not in lines:
                message = f"there is no earlier case `{name}`"
                mend = did_you_mean(name, lines) or "the first case has none before it"
                yield Diagnostic(
                    places.span(*place, "after", position), "unknown-case", message, mend
                )
        if case.name in lines:
            message = f"the case `{case.name}` is in line {lines[case.name]} already"
            mend = "give each case a name of its own"
            yield Diagnostic(places.span(*place, "name"), "duplicate-case", message, mend)
        elif case.name:
            lines[case.name] = places.span(*place, "name").line
        for name, value in case.headers.items():
            if not _is_header(name, value):
                shown = name if name.isprintable() else ascii(name)
                message = f"the header `{shown}` cannot be sent like this"
                mend = "a header is one line of Latin letters, digits and signs"
                yield Diagnostic(places.span(*place, "headers", name), "wrong-value", message, mend)
        if not 0 <= case.received_at <= _LATEST:
            message = f"{case.received_at:g} is no time in epoch seconds"
            yield Diagnostic(places.span(*place, "received_at"), "wrong-value", message)


def _body_mistakes(case: Case, index: int, places: Places) -> Iterator[Diagnostic]:
    keys = [key for key in BODIES if ("cases", index, key) in places.nodes]
    if not keys:
        message = "the case sends nothing"
        mend = f"give one of {', '.join(f'`{key}`' for key in BODIES)}"
        yield Diagnostic(places.span("cases", index), "unclear-payload", message, mend)
    for key in keys[1:]:
        message = f"the case has `{keys[0]}` already"
        mend = "a delivery has one body: keep one of the two"
        yield Diagnostic(places.key("cases", index, key), "unclear-payload", message, mend)


def _is_header(name: str, value: str) -> bool:
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return bool(name) and name.isascii() and name.isprintable() and not _CONTROL & set(raw)


_CONTROL = {*range(32), 127} - {ord("\t")}


def _unknown(written: CaseFile, places: Places, known: Params) -> Iterator[Diagnostic]:
    if written.source not in known:
        message = f"there is no source `{written.source}`"
        mend = did_you_mean(written.source, known)
        yield Diagnostic(places.span("source"), "unknown-source", message, mend)
        return
    params = known[written.source]
    for index, case in enumerate(written.cases):
        for name in case.params:
            if name not in params:
                message = f"`{written.source}` has no param `{name}`"
                mend = did_you_mean(name, params)
                place = places.key("cases", index, "params", name)
                yield Diagnostic(place, "unknown-param", message, mend)


def _loaded(case: Case, name: str, place: Span, load: Load) -> Case | Diagnostic:
    """The case with the content of its payload file, or why it cannot be had."""
    try:
        content = load(name)
    except UnusablePayload as error:
        return Diagnostic(place, "payload-file", str(error), error.mend)
    payload = _value(case, content)
    # A case without an outcome is one that still asks what comes of it.
    if payload is UNSET and case.outcome in ("accepted", "ignored"):
        message = f"{name} is not JSON, and cannot be {case.outcome}"
        mend = "mend the file, or expect `dead_lettered`"
        return Diagnostic(place, "payload-file", message, mend)
    return msgspec.structs.replace(case, text=content.decode(errors=_ANY_BYTES), payload=payload)


def _value(case: Case, content: bytes) -> Any:
    """The JSON value of what a case sends, by its content type; UNSET where it has none."""
    types = [value for name, value in case.headers.items() if name.lower() == "content-type"]
    try:
        return body.read(content, types[-1] if types else "")
    except body.NotJSON:
        return UNSET
