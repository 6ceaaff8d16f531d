"""Which address a request came from, and whether networks hold it: what a proxy forwards is believed of trusted ones alone."""

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]

_FORWARDED = b"x-forwarded-for"


def network(text: str) -> IPv4Network | IPv6Network:
    """A network such as `192.0.2.0/24`, or one address. Raises ValueError, in words that go on after
    the text."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            "is no network; write an address, or a network such as 192.0.2.0/24 or 2001:db8::/32"
        ) from None
    raise ValueError(f"has bits behind its prefix; did you mean `{meant}`?")


def holds(networks: Networks, address: Address | None) -> bool:
    """Whether one of the networks holds the address; none holds one that is not known."""
    return address is not None and any(address in one for one in networks)


def sender(
    peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: Networks = ()
) -> Address | None:
    """The address that a request came from; None where that cannot be told.

    It is the peer's. Where that is a trusted proxy, it is the last address in `X-Forwarded-For` that
    is none: everything before that one is what the sender claims of itself.
    """
    address = _address(peer)
    if not trusted or not holds(trusted, address):
        return address
    hops = b",".join(value for name, value in headers if name == _FORWARDED).split(b",")
    for hop in reversed(hops):
        if not hop.strip():
            continue
        address = _address(_without_port(hop.decode("latin-1").strip()))
        if not holds(trusted, address):
            return address
    return address


def _address(text: str) -> Address | None:
    """An address in its one spelling: an IPv4 address as such, also where it is written as IPv6."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _without_port(hop: str) -> str:
    """`192.0.2.1:4711` and `[2001:db8::1]:4711` without what is not of the address."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
