"""A finding about what an author wrote, as a value: where it is, what is wrong, how to mend it."""

from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum

from msgspec import Struct


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


class Span(Struct, frozen=True, order=True):
    """A stretch of one line of one file.

    `line` and `column` count from 1, columns in code points. `width` is at least 1; a finding that
    covers several lines points at the first.
    """

    file: str
    line: int = 1
    column: int = 1
    width: int = 1


class Diagnostic(Struct, frozen=True, order=True):
    """One finding. Ordered by place first, so that a report reads in file order."""

    span: Span
    name: str
    message: str
    help: str = ""
    severity: Severity = Severity.ERROR


MANY, FEW = 16, 8


def did_you_mean(word: str, known: Iterable[str], most: int = MANY) -> str:
    """The help for a name that is not among the known ones: the nearest, then all of them, or only
    the first few where they are more than `most`."""
    names = sorted(known)
    if not names:
        return ""
    nearest = get_close_matches(word, names, n=1, cutoff=0.6)
    listing = "known: " + ", ".join(names if len(names) <= most else names[:FEW])
    if len(names) > most:
        listing += f" and {len(names) - FEW} more"
    return f"did you mean `{nearest[0]}`? {listing}" if nearest else listing


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    return any(finding.severity is Severity.ERROR for finding in diagnostics)
