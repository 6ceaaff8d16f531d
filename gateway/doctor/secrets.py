"""The doctor at the secrets: which sources are live, which lack theirs, who else may read them?"""

from collections.abc import Iterator

from gateway.doctor.chain import Chain
from gateway.doctor.finding import Finding, Unchecked, listing, ok, problem, warning


def live_sources(chain: Chain) -> Iterator[Finding]:
    """At least one source is served."""
    _known(chain)
    live = sorted(chain.live)
    if live:
        yield ok(
            f"{len(live)} {'source is' if len(live) == 1 else 'sources are'} live: {listing(live)}"
        )
    else:
        yield problem(
            "no source is live",
            f"write the secret of one into {chain.settings.secrets}; `gateway sources --missing` names them",
        )


def own_secrets(chain: Chain) -> Iterator[Finding]:
    """Every mapping of your own has its secret. A running gateway that serves the source has it,
    whatever this command can see."""
    _known(chain)
    readied = chain.compiled.readied
    if not readied.own:
        raise Unchecked("there are no mappings of your own")
    lacking = sorted(readied.missing.keys() & readied.own)
    for source in lacking:
        name = readied.missing[source]
        if chain.running is not None and source in chain.running.live:
            yield ok(f"the gateway has the secret {name} of `{source}`, which is not set here")
        else:
            yield problem(
                f"the secret {name} of `{source}`, a mapping of your own, is not set: `serve` refuses to start",
                f"set the variable {name}, or write the file {chain.settings.secrets / name}",
            )
    if not lacking:
        yield ok("every mapping of your own has its secret")


def usable(chain: Chain) -> Iterator[Finding]:
    """No secret is too short, cannot be read, or holds a control character, and no variable sets a param
    that does not exist."""
    _known(chain)
    found = chain.compiled.readied.unusable
    for sentence in dict.fromkeys(found.values()):
        yield problem(sentence, "`serve` refuses to start until that is mended")
    if not found:
        yield ok("the secrets and params that are set can be used")


def private(chain: Chain) -> Iterator[Finding]:
    """Nobody else on the machine can read the files of secrets."""
    folder, readable = chain.settings.secrets, chain.compiled.readied.readable
    _known(chain)
    if not folder.is_dir():
        raise Unchecked(f"there is no folder {folder}")
    if readable:
        yield warning(
            f"every user of this machine can read secrets of {folder}: {listing(list(readable))}",
            f"chmod -R o= {folder}",
        )
    else:
        yield ok(f"no other user can read the secrets of {folder}")


def _known(chain: Chain) -> None:
    if chain.compiled.compilation is None:
        raise Unchecked("mappings or models are wrong")


CHECKS = (live_sources, own_secrets, usable, private)
