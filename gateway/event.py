"""What a delivery means once the sender's words are gone: a kind and its fields."""

import hashlib

import msgspec
from msgspec import Struct

FieldValue = str | int | float
"""Text, or a number; a timestamp is epoch seconds, whole where the source gave no fraction."""

# Kinds that correlation knows by name; any other kind feeds its metric as it comes.
COMMIT = "committime"
BUILD = "build"
DEPLOYMENT = "deploytime"
FAILURE = "failure"
# Kinds that correlation yields.
LEAD_TIME = "leadtime"
RESTORATION = "restoration"
FAILED_DEPLOYMENT = "failed_deployment"


class Event(Struct, frozen=True, gc=False):
    """One event; `fields` is named as in the model of its kind, absent ones left out."""

    kind: str
    fields: dict[str, FieldValue]

    def text(self, name: str) -> str:
        """The field as text, empty where it is absent."""
        return str(self.fields.get(name, ""))

    def number(self, name: str) -> float:
        """The field as a number, 0 where it is absent or no number."""
        value = self.fields.get(name, 0)
        return value if isinstance(value, int | float) else 0


def identity(event: Event) -> bytes:
    """Equal for two events exactly when they are the same event: same kind, fields and time."""
    canonical = msgspec.json.encode([event.kind, event.fields], order="sorted")
    return hashlib.blake2b(canonical, digest_size=16).digest()
