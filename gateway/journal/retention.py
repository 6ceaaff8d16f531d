"""How long the journal keeps what."""

from msgspec import Struct

from gateway.journal.batch import SIZE_IN_SQL


class Retention(Struct, frozen=True, kw_only=True):
    """Ages in seconds and sizes in bytes; 0 is no limit. Deliveries are kept, with their bodies, for
    being explained and replayed; events for the series. `min_free` is what the disk must have left for
    a delivery to be taken."""

    deliveries: float = 0
    events: float = 0
    size: int = 0
    min_free: int = 0


KEEP_ALL = Retention()
PRUNE = 500
"""Rows that are removed in one transaction, which deliveries wait for."""


def removal(table: str) -> str:
    """The SQL that removes a few of the oldest rows: of those received by one time, the ones from before
    another; of each it gives the bytes that it counted for, 0 for an event. Rows from ahead of a clock
    that was set back are passed over until their time has come."""
    size = SIZE_IN_SQL if table == "deliveries" else 0
    return (
        f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM (SELECT seq, received_at FROM {table} "  # noqa: S608  # Fixed words.
        f"WHERE received_at <= ? ORDER BY seq LIMIT {PRUNE}) AS oldest WHERE received_at < ?) "
        f"RETURNING {size} AS bytes"
    )
