"""Closed-loop load by wrk on a core of its own, and the compared servers measured in turns."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median

import msgspec
import pytest
from msgspec import Struct

from tests.benchmarks.deliveries import RequestFile
from tests.benchmarks.report import Options
from tests.harness import require_program

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[-1]
SCRIPT = Path(__file__).with_name("load.lua")
THREADS = 2
"""Of wrk, on its one core: while one waits for answers the other sends, so the server never idles."""
PER_SECOND = 15_000
"""Distinct requests that are prepared for a second of load."""
WARM_UP = 1
"""Seconds."""


def pinned(core: int) -> tuple[str, ...]:
    """The start of a command that is to run on one core."""
    return ("taskset", "--cpu-list", str(core))


class Server(Struct, frozen=True):
    """A running server. `requests` makes a file of so many requests to it; `check` is asked after a
    load, with the number of answers, and raises where these were not what they must be. Where
    `is_distinct` is set, no request may be sent twice."""

    port: int
    pid: int
    requests: Callable[[Path, int], RequestFile]
    check: Callable[[int], None] = lambda _answered: None
    is_distinct: bool = False


Start = Callable[[Path], AbstractContextManager[Server]]
"""Starts a server that keeps what it keeps in a folder."""


class Measured(Struct, frozen=True):
    """What a server did under load; `cpu` are its own microseconds of a request, `p99` seconds."""

    per_second: float
    cpu: float
    p99: float

    def __str__(self) -> str:
        return f"{self.per_second:,.0f}/s ({self.cpu:.0f} CPU µs, p99 {1e3 * self.p99:.0f} ms)"


class Lacking(Struct, frozen=True):
    """A server that cannot run here, and why."""

    why: str


def alternate(
    starts: Mapping[str, Start], options: Options, connections: int
) -> dict[str, Measured | Lacking]:
    """The median of each server, measured in turns so that other work on the machine meets all of
    them; each round begins with a server that has seen nothing."""
    runs: dict[str, list[Measured]] = {name: [] for name in starts}
    lacking: dict[str, Lacking] = {}
    for _ in range(options.rounds):
        for name, start in starts.items():
            if name in lacking:
                continue
            try:
                runs[name].append(_run(start, options, connections))
            except pytest.skip.Exception as skip:
                lacking[name] = Lacking(str(skip))
    return {name: lacking.get(name) or _median(runs[name]) for name in starts}


def _median(runs: Sequence[Measured]) -> Measured:
    return Measured(
        median(run.per_second for run in runs),
        median(run.cpu for run in runs),
        median(run.p99 for run in runs),
    )


def _run(start: Start, options: Options, connections: int) -> Measured:
    require_program("wrk")
    warm_up = 0 if options.quick else WARM_UP * PER_SECOND
    count = options.seconds * PER_SECOND
    with _scratch() as folder, start(folder) as server:
        requests = server.requests(options.folder, warm_up + count)
        before = 0
        if warm_up:
            before = _wrk(server, requests, connections, WARM_UP, 0, warm_up).answered
        used = _cpu(server.pid)
        load = _wrk(server, requests, connections, options.seconds, warm_up, count)
        used = _cpu(server.pid) - used
        server.check(before + load.answered)
    return Measured(
        load.answered / load.microseconds * 1e6, used / load.answered * 1e6, load.p99 / 1e6
    )


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="gateway-benchmark-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Load(Struct, frozen=True):
    """What load.lua says; times in microseconds."""

    answered: int
    microseconds: int
    again: int
    refused: int
    broken: int
    p50: int
    p99: int


def _wrk(
    server: Server, requests: RequestFile, connections: int, seconds: int, first: int, count: int
) -> _Load:
    arguments = (str(requests.path), requests.size, first, count, THREADS)
    run = subprocess.run(
        [
            *pinned(CLIENT_CORE),
            "wrk",
            *(f"-t{THREADS}", f"-c{connections}", f"-d{seconds}s", "-s", str(SCRIPT)),
            f"http://127.0.0.1:{server.port}",
            "--",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = run.stdout.splitlines()
    if run.returncode or not lines or not lines[-1].startswith("{"):
        raise RuntimeError(f"wrk failed:\n{run.stdout}{run.stderr}")
    load = msgspec.json.decode(lines[-1], type=_Load)
    if not load.answered or load.refused or load.broken:
        raise RuntimeError(f"the load was not answered as it must be: {load}")
    if server.is_distinct and load.again:
        raise RuntimeError(f"{count} distinct requests were too few: {load.again} were sent again")
    return load


def _cpu(pid: int) -> float:
    """Seconds that a process and all its descendants have used."""
    tick = os.sysconf("SC_CLK_TCK")
    used, parents = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            one = int(stat.parent.name)
            parents[one], used[one] = int(fields[1]), (int(fields[11]) + int(fields[12])) / tick
    return sum(seconds for one, seconds in used.items() if pid in _line(one, parents))


def _line(pid: int, parents: Mapping[int, int]) -> Iterator[int]:
    while pid:
        yield pid
        pid = parents.get(pid, 0)
