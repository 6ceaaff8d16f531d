"""The doctor at the ports: does our gateway answer at both listeners, or who else does?"""

from collections.abc import Iterator

import msgspec

from gateway.app.server import CannotListen, bind
from gateway.doctor import asking
from gateway.doctor.asking import NoAnswer
from gateway.doctor.chain import Chain
from gateway.doctor.finding import Finding, ok, problem, warning
from gateway.settings import Address


def internal_listener(chain: Chain) -> Iterator[Finding]:
    """A gateway of this version answers at `--internal-listen` and is ready; where none runs, the port
    can be had."""
    address, gateway = chain.settings.internal_listen, chain.gateway
    if isinstance(gateway, NoAnswer):
        yield _absent(chain, address, gateway, "--internal-listen")
    elif not gateway.is_ready:
        yield problem(
            f"the gateway at {address.url} is not ready: it starts, it stops, or its journal fails",
            "look at its log; senders get 503 until it is ready, and most try again",
        )
    elif gateway.version != chain.version:
        yield warning(
            f"the gateway at {address.url} is of version {gateway.version}, this command of {chain.version}",
            "restart the gateway, or examine it with the command of its own version",
        )
    else:
        yield ok(f"the gateway {gateway.version} answers at {address.url} and is ready")


def public_listener(chain: Chain) -> Iterator[Finding]:
    """A gateway answers at `--listen`, where senders post; where none runs, the port can be had."""
    address = chain.settings.listen
    try:
        answer = asking.get(address.url, "/healthz")
    except NoAnswer as error:
        yield _absent(chain, address, error, "--listen")
        return
    try:
        told = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = None
    if answer.status == 200 and told == {"status": "ok"}:
        yield ok(f"deliveries are taken at {address.url}/hooks/<source>")
    else:
        yield _absent(chain, address, NoAnswer("another program answers there"), "--listen")


def _absent(chain: Chain, address: Address, why: NoAnswer, flag: str) -> Finding:
    if not why.is_silent:
        return problem(
            f"no gateway answers at {address.url}: {why}",
            f"end the program that has the port, or give the gateway another {flag}",
        )
    if chain.running is not None or chain.is_in_use:
        return problem(
            f"a gateway runs, but {why}: {address.url}",
            f"examine it with the {flag} that it was started with, or restart it",
        )
    try:
        bind(address).close()
    except CannotListen as error:
        return problem(
            f"no gateway could listen: {error}",
            f"end the program that has the port, or give the gateway another {flag}",
        )
    return warning(
        f"no gateway runs: nothing answers at {address.url}, and the port is free",
        "start it with `gateway serve`",
    )


CHECKS = (internal_listener, public_listener)
