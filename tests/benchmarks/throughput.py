"""Deliveries per second: signed pushes of 8 KB, each another commit, on disk before they are answered."""

from collections.abc import Iterator, Mapping
from functools import partial

from tests.benchmarks import contenders
from tests.benchmarks.load import Lacking, Measured, Start, alternate
from tests.benchmarks.report import Bar, Options, Row

PROGRAMS = {
    "wrk": ("wrk", "-v"),
    "webhook": ("webhook", "-version"),
    "pushgateway": ("prometheus-pushgateway", "--version"),
    "node": ("node", "--version"),
    "PostgreSQL": ("postgres", "--version"),
}
CONNECTIONS = 64
GATEWAY = "the gateway"
LIMIT = "bare uvicorn, which reads the body and answers"
OTHERS: Mapping[str, tuple[Start, Bar | None]] = {
    LIMIT: (contenders.bare, Bar(first=0.30, goal=0.40)),
    "Debian's `webhook`, the same HMAC rule, no command run": (
        contenders.webhook,
        Bar(first=2.0, goal=3.0),
    ),
    f"node with `{contenders.OCTOKIT}`": (contenders.octokit, Bar(first=1.0, goal=1.3)),
    "`prometheus-pushgateway`, one series a push": (contenders.pushgateway, None),
}


def rows(options: Options) -> Iterator[Row]:
    starts = {GATEWAY: contenders.gateway(), **{name: start for name, (start, _) in OTHERS.items()}}
    measured = alternate(starts, options, CONNECTIONS)
    for name, (_, bar) in OTHERS.items():
        yield _row(_subject(CONNECTIONS), name, measured[GATEWAY], measured[name], bar)
    for connections in (32, 128):
        two = alternate(
            {GATEWAY: contenders.gateway(), LIMIT: contenders.bare}, options, connections
        )
        yield _row(_subject(connections), LIMIT, two[GATEWAY], two[LIMIT])
    pair = {str(number): partial(contenders.workers, number=number) for number in (1, 2)}
    by_workers = alternate(pair, options, CONNECTIONS)
    yield _row(
        "deliveries/s with 2 workers, on all cores",
        "1 worker, on all cores",
        by_workers["2"],
        by_workers["1"],
        Bar(first=1.4, goal=1.7),
    )
    stores = {"PostgreSQL": contenders.with_postgresql, "SQLite": contenders.gateway()}
    by_store = alternate(stores, options, CONNECTIONS)
    yield _row(
        "deliveries/s with the journal in PostgreSQL",
        "the journal in SQLite",
        by_store["PostgreSQL"],
        by_store["SQLite"],
        Bar(first=0.6, goal=0.9),
    )


def _subject(connections: int) -> str:
    return f"deliveries/s over {connections} connections"


def _row(
    subject: str,
    against: str,
    one: Measured | Lacking,
    other: Measured | Lacking,
    bar: Bar | None = None,
) -> Row:
    if isinstance(one, Lacking) or isinstance(other, Lacking):
        why = (
            one.why if isinstance(one, Lacking) else other.why if isinstance(other, Lacking) else ""
        )
        return Row(subject=subject, against=against, ratio=None, bar=bar, lack=why)
    return Row(
        subject=subject,
        against=against,
        ratio=one.per_second / other.per_second,
        bar=bar,
        details=f"{one} against {other}",
    )
