"""Runs benchmarks, and writes what they found as a table and as JSON.

python -m tests.benchmarks [--quick] [--json FILE] [--markdown FILE] [NAME...]
"""

import argparse
import importlib
import pkgutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import tests.benchmarks
from tests import documentation
from tests.benchmarks import report
from tests.benchmarks.load import CORES
from tests.benchmarks.report import Options, Results

FOLDER = Path(tempfile.gettempdir()) / "pelorus-gateway-benchmarks"


def benchmarks() -> dict[str, ModuleType]:
    """Every module here that yields rows, by its name."""
    found = {}
    for info in pkgutil.iter_modules(tests.benchmarks.__path__):
        if info.name != "__main__":
            module = importlib.import_module(f"tests.benchmarks.{info.name}")
            if hasattr(module, "rows"):
                found[info.name] = module
    return found


def title(module: ModuleType) -> str:
    """The first sentence of its docstring."""
    return " ".join((module.__doc__ or "").split("\n\n")[0].split()).removesuffix(".")


def main(arguments: list[str]) -> int:
    known = benchmarks()
    options = _options(arguments, known)
    if len(CORES) < 2:
        print("there is one core only: server and load client share it", file=sys.stderr)
    options.folder.mkdir(parents=True, exist_ok=True)
    asked = Options(folder=options.folder, quick=options.quick)
    results: Results = {}
    for name in options.names or known:
        print(f"{name} ...", file=sys.stderr, flush=True)
        module = known[name]
        programs = getattr(module, "PROGRAMS", {})
        results[name] = report.result(title(module), module.rows(asked), programs)
        # After each, so that a run that is stopped loses nothing.
        if options.json:
            results = {**report.load(options.json), name: results[name]}
            report.save(options.json, results)
    table = documentation.benchmark_tables(results)
    print(table)
    if options.markdown:
        _write(options.markdown, table)
    return 0


def _options(arguments: list[str], known: dict[str, ModuleType]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"all where none is named: {', '.join(known)}"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the least that goes all the way; its figures mean nothing",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="keep the results there, in place of older ones"
    )
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write the tables there; of a page, the part that is generated",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="keep requests and journals from one run to the next there (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in known:
            parser.error(f"there is no benchmark `{name}`; known: {', '.join(known)}")
    return options


def _write(path: Path, table: str) -> None:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    page = documentation.replaced(text, "benchmarks", table)
    path.write_text(page if page is not None else table + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
