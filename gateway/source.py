"""A source that is served: its mapping made ready, and how its senders prove themselves."""

from msgspec import Struct

from gateway.authentication import Authentication
from gateway.plan import Plan


class Source(Struct, frozen=True):
    """One sending system with one URL."""

    plan: Plan
    authentication: Authentication
