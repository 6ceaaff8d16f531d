"""How long the journal keeps what."""

from msgspec import Struct


class Retention(Struct, frozen=True, kw_only=True):
    """Ages in seconds and sizes in bytes; 0 is no limit. Deliveries are kept, with their bodies, for
    being explained and replayed; events for the series. `min_free` is what the disk must have left for
    a delivery to be taken."""

    deliveries: float = 0
    events: float = 0
    size: int = 0
    min_free: int = 0


KEEP_ALL = Retention()
