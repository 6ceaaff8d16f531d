"""What a benchmark is asked and what it answers, and the file of results that the documentation shows."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import apsw
import msgspec
from msgspec import Struct


class Options(Struct, frozen=True):
    """How much is measured. `quick` is the least that still goes all the way: its figures mean nothing.
    `folder` keeps what is costly to make from one run to the next."""

    folder: Path
    quick: bool = False

    @property
    def rounds(self) -> int:
        """How often each of the compared is measured, in turns."""
        return 1 if self.quick else 3

    @property
    def seconds(self) -> int:
        """How long one measurement under load lasts."""
        return 1 if self.quick else 3


class Bar(Struct, frozen=True, kw_only=True):
    """What a figure has to reach, and what it should reach: a ratio, or seconds where `unit` is `s`."""

    first: float
    goal: float
    better: Literal["more", "less"] = "more"
    unit: Literal["×", "s"] = "×"

    def reached(self, figure: float) -> str:
        sign = 1 if self.better == "more" else -1
        if sign * figure >= sign * self.goal:
            return "goal"
        return "first bar" if sign * figure >= sign * self.first else "no"


class Row(Struct, frozen=True, kw_only=True):
    """One claim: `subject` measured as a multiple of `against`. `details` are the figures themselves.
    The bar is about `seconds` where its unit is seconds. Where a part is missing on this machine, there
    is no ratio but `lack`, the reason."""

    subject: str
    against: str
    ratio: float | None
    details: str = ""
    bar: Bar | None = None
    seconds: float | None = None
    lack: str = ""

    @property
    def reached(self) -> str:
        if self.lack:
            return f"not measured: {self.lack}"
        figure = self.seconds if self.bar and self.bar.unit == "s" else self.ratio
        return self.bar.reached(figure) if self.bar and figure is not None else ""

    def cells(self) -> list[str]:
        """As the columns of `COLUMNS`."""
        bar = self.bar
        unit, sign = (bar.unit, "≤ " if bar.better == "less" else "") if bar else ("", "")
        first, goal = (
            (f"{sign}{one:g} {unit}" for one in (bar.first, bar.goal)) if bar else ("", "")
        )
        ratio = "" if self.ratio is None else f"{_rounded(self.ratio)} ×"
        return [self.subject, self.against, ratio, first, goal, self.reached, self.details]


COLUMNS = ("what", "against", "ratio", "first bar", "goal", "reached", "measured")


class Result(Struct, frozen=True, kw_only=True):
    """The rows of one benchmark, and when and where they were measured."""

    title: str
    measured_on: str
    machine: str
    versions: str
    rows: list[Row]


Results = dict[str, Result]


def load(path: Path) -> Results:
    """The results of a file; none where there is no file."""
    return msgspec.json.decode(path.read_bytes(), type=Results) if path.exists() else {}


def save(path: Path, results: Results) -> None:
    text = msgspec.json.format(msgspec.json.encode(dict(sorted(results.items()))), indent=2)
    path.write_bytes(text + b"\n")


def result(
    title: str, rows: Iterable[Row], programs: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> Result:
    """What was found now. `programs` are those that took part, each with the command that tells its
    version."""
    return Result(
        title=title,
        measured_on=date.today().isoformat(),  # noqa: DTZ011  # The reader's calendar.
        machine=machine(),
        versions=versions(programs),
        rows=list(rows),
    )


def machine() -> str:
    """The processor and how many cores this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    return f"{names[0] if names else platform.machine()}, {cores} core{'s' * (cores > 1)}"


def versions(programs: Mapping[str, Sequence[str]]) -> str:
    """Of Python, the packages that matter, and the programs that are there."""
    packages = ("uvicorn", "uvloop", "httptools", "msgspec", "jmespath", "prometheus-client")
    found = {
        "Python": platform.python_version(),
        "SQLite": apsw.sqlite_lib_version(),
        **{name: version(name) for name in packages},
        **{name: _version(command) for name, command in programs.items()},
    }
    return ", ".join(f"{name} {number}" for name, number in found.items() if number)


def _version(command: Sequence[str]) -> str:
    """The first version in what a command says; nothing where there is no such command."""
    if shutil.which(command[0]) is None:
        return ""
    # Some end with 1 after they have told it.
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(r"\d+(\.\d+)+", run.stdout + run.stderr)
    return match[0] if match else ""


def _rounded(number: float) -> str:
    """Two digits that count, more before the point."""
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}" if number >= 2 else f"{number:.2f}"
