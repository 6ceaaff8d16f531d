"""A source that is served: its mapping made ready, and how its senders prove themselves."""

from msgspec import Struct

from gateway.addresses import Networks
from gateway.authentication import Authentication
from gateway.plan import Plan


class Source(Struct, frozen=True):
    """One sending system with one URL. Where `allow_from` is not empty, no other address may send."""

    plan: Plan
    authentication: Authentication
    allow_from: Networks = ()
