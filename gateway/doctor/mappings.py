"""The doctor at the mappings: do they compile, do their cases come true, are they what is served?"""

from collections.abc import Iterator

from gateway.doctor.chain import Chain
from gateway.doctor.finding import Finding, Unchecked, listing, ok, problem, warning

_CHECK = "`gateway check` shows each at its place"


def compiled(chain: Chain) -> Iterator[Finding]:
    """Mappings and models, the bundled ones and yours, can be read and have no errors."""
    found = chain.compiled
    if found.fault:
        yield problem(f"mappings or models cannot be read: {found.fault}", "mend the path")
    elif found.errors:
        first, count = found.errors[0], len(found.errors)
        counted = "an error" if count == 1 else f"{count} errors"
        yield problem(f"mappings or models have {counted}: {first}", _CHECK)
    elif found.warnings:
        yield warning(f"mappings and models compile, with {found.warnings} warnings", _CHECK)
    else:
        own = len(found.readied.own)
        yield ok(f"mappings and models compile, {own or 'none'} of them your own")


def cases(chain: Chain) -> Iterator[Finding]:
    """The cases of your own mappings come true. Those of the bundled ones did when they were released."""
    if chain.compiled.compilation is None:
        raise Unchecked("mappings or models are wrong")
    if chain.compiled.cases is None:
        raise Unchecked("--quick leaves them out")
    runs = chain.compiled.cases
    if not chain.compiled.readied.own:
        raise Unchecked("there are no mappings of your own")
    for run in runs:
        if run.fault:
            yield problem(f"{run.file} cannot be used: {run.fault}", "mend it, or take it away")
        elif run.failed:
            yield problem(
                f"{len(run.failed)} of {run.cases} cases of {run.file} fail: {listing(list(run.failed))}",
                f"`gateway test {run.file}` shows what differs",
            )
    if not runs:
        yield warning(
            "your mappings have no cases", "`gateway new` drafts cases beside a mapping; add some"
        )
    elif not any(run.fault or run.failed for run in runs):
        yield ok(f"{sum(run.cases for run in runs)} cases of your own mappings pass")


def in_force(chain: Chain) -> Iterator[Finding]:
    """What the running gateway serves is what is on disk: its last reload succeeded."""
    if chain.running is None:
        raise Unchecked("no gateway answers")
    if chain.running.value("gateway_config_last_reload_successful") == 0:
        yield problem(
            "the gateway serves what it read before: what is on disk now is wrong",
            "`gateway check` says what; the gateway's log, too. A restart would not come up",
        )
    else:
        yield ok("the gateway serves what is on disk, or will within --watch seconds")


CHECKS = (compiled, cases, in_force)
