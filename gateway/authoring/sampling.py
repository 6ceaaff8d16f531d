"""Samples made of cases, and of deliveries that were saved in files."""

from collections.abc import Iterable

from msgspec import UNSET

from gateway import body
from gateway.authoring import request
from gateway.authoring.cases import CaseFile
from gateway.diagnostic import Diagnostic, Span
from gateway.mapping.samples import Sample


def of_cases(files: Iterable[CaseFile]) -> dict[str, list[Sample]]:
    """The deliveries of all cases, by their source."""
    samples: dict[str, list[Sample]] = {}
    for file in files:
        for case in file.cases:
            if case.payload is not UNSET:
                headers = {name.lower(): value for name, value in case.headers.items()}
                # A case that gives no headers says nothing about them.
                sample = Sample(case.payload, headers or None)
                samples.setdefault(file.source, []).append(sample)
    return samples


def read(name: str, raw: bytes) -> Sample | Diagnostic:
    """The delivery that a file holds, as JSON or as a raw request, or what is wrong with it."""
    if request.is_utf16(raw):
        message, mend = "the sample is in UTF-16", "save it in UTF-8"
        return Diagnostic(Span(name), "unreadable-sample", message, mend)
    headers: dict[str, str] | None = None
    is_request = request.is_request(raw)
    try:
        if is_request:
            found = request.read(raw)
            headers = {header.lower(): value for header, value in found.headers.items()}
            raw = found.body
        content_type = (headers or {}).get("content-type", "")
        return Sample(body.read(raw, content_type), headers)
    except request.RequestError as error:
        place, message, mend = Span(name, error.line), error.message, error.mend
    except body.NotJSON as error:
        # Within a request, the place is one of its body.
        place = Span(name) if is_request else Span(name, error.line, error.column)
        message, mend = f"the sample is not JSON: {error.message}", "save it as the sender posts it"
    return Diagnostic(place, "unreadable-sample", message, mend)
