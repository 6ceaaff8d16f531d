"""All checks of the chain in their order, each run for itself: what one cannot ask keeps no other from asking."""

from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from gateway.doctor import clock, deliveries, journal, mappings, ports, rules, scrapes, secrets
from gateway.doctor.chain import Chain
from gateway.doctor.finding import Finding, State, Unchecked, problem, unchecked
from gateway.journal.entry import JournalError

Check = Callable[[Chain], Iterator[Finding]]

AREAS: Mapping[str, tuple[Check, ...]] = {
    "ports": ports.CHECKS,
    "mappings": mappings.CHECKS,
    "secrets": secrets.CHECKS,
    "journal": journal.CHECKS,
    "clocks": clock.CHECKS,
    "Prometheus": scrapes.CHECKS,
    "rules": rules.CHECKS,
    "deliveries": deliveries.CHECKS,
}


class Result(Struct, frozen=True, kw_only=True):
    """What a check found, with the check's area and name."""

    area: str
    check: str
    state: State
    sentence: str
    mend: str = ""


def examine(chain: Chain) -> Iterator[Result]:
    """What every check finds, as soon as it does."""
    for area, checks in AREAS.items():
        for check in checks:
            for one in _found(check, chain):
                yield Result(
                    area=area,
                    check=name(check),
                    state=one.state,
                    sentence=one.sentence,
                    mend=one.mend,
                )


def name(check: Check) -> str:
    """What a check is called: `one-target`."""
    return check.__name__.replace("_", "-")


def _found(check: Check, chain: Chain) -> Iterator[Finding]:
    try:
        yield from check(chain)
    except Unchecked as error:
        yield unchecked(str(error))
    except JournalError as error:
        yield problem(str(error), "`gateway journal verify` names what is damaged")
    except PermissionError as error:
        yield unchecked(f"{error.filename} cannot be read: {error.strerror}")
