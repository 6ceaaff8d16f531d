"""What a check of the chain says: how it is, in a sentence, and what to do about it."""

from enum import StrEnum

from msgspec import Struct


class State(StrEnum):
    """How a link of the chain is. A problem keeps events or numbers from somebody, a warning may."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNCHECKED = "not checked"


class Finding(Struct, frozen=True):
    """A check may find several things. `mend` is empty where there is nothing to do."""

    state: State
    sentence: str
    mend: str = ""


class Unchecked(Exception):
    """A check cannot be made; the message says why."""


def ok(sentence: str) -> Finding:
    return Finding(State.OK, sentence)


def warning(sentence: str, mend: str) -> Finding:
    return Finding(State.WARNING, sentence, mend)


def problem(sentence: str, mend: str) -> Finding:
    return Finding(State.PROBLEM, sentence, mend)


def unchecked(reason: str) -> Finding:
    return Finding(State.UNCHECKED, reason)


_FEW = 5


def listing(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - _FEW
    shown = ", ".join(names[:_FEW])
    return f"{shown} and {more} more" if more > 0 else shown


def age(seconds: float) -> str:
    """A span of time in its largest unit, in words."""
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return f"{max(0, int(seconds))} seconds"
