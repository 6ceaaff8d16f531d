"""The folders that mapping and model files are read from: the bundled ones, then the user's.

Files may change while they are read: Kubernetes swaps a mounted ConfigMap by turning the link
`..data` to another hidden folder, and an editor writes one file after the other. So a set of files
counts as read only where all of them were the same before and after.
"""

import os
import re
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from gateway.diagnostic import Diagnostic, Span
from gateway.mapping.compiler import SourceFile

T = TypeVar("T")

CASES_SUFFIX = ".test.yaml"


def _words(key: str) -> re.Pattern[str]:
    return re.compile(rf"^{key}:[ \t]*[\"']?([\w-]+)", re.MULTILINE)


# What a file says that it is, and that it needs: enough to find files; the compiler reads them.
SOURCE, KIND, EXTENDS = _words("source"), _words("kind"), _words("extends")
_ANY = re.compile(r"^(kind|apps):", re.MULTILINE)
ATTEMPTS = 8
"""How often files that change while they are read are read again."""
_PAUSE = 0.05
_DATA = "..data"
_PACKAGE = Path(__file__).resolve().parents[1]

Look = tuple[tuple[str, str, tuple[int, ...]], ...]
"""What files look like from outside: of each its name, where it lies with every link followed, and
its inode, size and times in nanoseconds. Two looks differ where the files do."""


class Unreadable(Exception):
    """A file or folder that was named cannot be read; the message says which and why."""


def bundled(folder: str) -> Path:
    """The folder of bundled `mappings` or `schemas`: in the package, or beside it in a checkout."""
    packaged = _PACKAGE / "bundled" / folder
    return packaged if packaged.is_dir() else _PACKAGE.parent / folder


def bundled_files(wanted: Iterable[str] | None = None) -> list[SourceFile]:
    """The bundled models and mappings, the lowest layer; of the mappings those of the wanted sources,
    with what they extend. Each has its source's name."""
    mappings = yaml_files(bundled("mappings"))
    if wanted is not None:
        mappings = [path for path in mappings if path.stem in _with_parents(set(wanted), mappings)]
    files, _ = read_files([*yaml_files(bundled("schemas")), *mappings], 0)
    return files


def _with_parents(wanted: set[str], mappings: Iterable[Path]) -> set[str]:
    texts = {path.stem: path.read_text(encoding="utf-8") for path in mappings}
    found: set[str] = set()
    while wanted - found:
        found |= wanted
        wanted = {name for one in found for name in EXTENDS.findall(texts.get(one, ""))}
    return found


def bundled_sources() -> frozenset[str]:
    """The names of the bundled sources."""
    return frozenset(path.stem for path in yaml_files(bundled("mappings")))


def needed(texts: Iterable[str]) -> set[str] | None:
    """The sources that these files can have to do with: enough of them to compile the files, as far as a
    look at their text tells. None where that may be any: a table of apps speaks of all sources, a model
    may be that of a bundled kind, and what is misspelled is compared with all there is."""
    described, extended = set(), set()
    for text in texts:
        if _ANY.search(text):
            return None
        described |= set(SOURCE.findall(text))
        extended |= set(EXTENDS.findall(text))
    return None if extended - described - bundled_sources() else described | extended


def yaml_files(path: Path) -> list[Path]:
    """The mapping and model files that a path names: itself, or those of a folder, sorted.

    Test cases and hidden files are passed over. Raises Unreadable.
    """
    try:
        return [named for named, _ in _located(path)]
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}") from error


def _located(path: Path) -> list[tuple[Path, Path]]:
    """The same files, each with the file that it is right now. Raises OSError."""
    if not path.is_dir():
        path.stat()
        return [(path, path)]
    real = Path(os.path.realpath(path, strict=True))
    found = {child.name: child for child in real.iterdir() if not _leads_into_data(child)}
    if (real / _DATA).is_symlink():
        # Followed once, so that all files are of one generation of the volume.
        generation = Path(os.path.realpath(real / _DATA, strict=True))
        found |= {child.name: child for child in generation.iterdir()}
    return [(path / name, child) for name, child in sorted(found.items()) if _is_source(child)]


def _leads_into_data(path: Path) -> bool:
    return path.is_symlink() and str(path.readlink()).startswith(f"{_DATA}/")


def _is_source(path: Path) -> bool:
    return (
        path.suffix in (".yaml", ".yml")
        and not path.name.endswith(CASES_SUFFIX)
        and not path.name.startswith(".")
        and path.is_file()
    )


def look(paths: Iterable[Path]) -> Look:
    """A look at the mapping and model files that paths name; never fails."""
    seen: list[tuple[str, str, tuple[int, ...]]] = []
    for path in paths:
        try:
            for named, real in _located(path):
                seen.append((str(named), os.path.realpath(real), _stamp(real)))
        except OSError as error:
            seen.append((str(path), "", (error.errno or 0,)))
    return tuple(seen)


def look_at(files: Iterable[Path]) -> Look:
    """A look at files of any kind, by their names; never fails."""
    return tuple((str(file), os.path.realpath(file), _stamp(file)) for file in files)


def _stamp(file: Path) -> tuple[int, ...]:
    """Changes with the file. Of one that is not there: why not."""
    try:
        found = file.stat()
    except OSError as error:
        return (error.errno or 0,)
    if not stat.S_ISREG(found.st_mode):
        # A pipe's times change by being read, and what was read of it is not there a second time.
        return (found.st_ino,)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def steadily(look: Callable[[], Look], read: Callable[[], T]) -> tuple[T, Look]:
    """What `read` gives while no look differs, with that look.

    Raises Unreadable where it changes again and again, and what `read` raises while nothing changes.
    """
    changed: set[str] = set()
    for attempt in range(ATTEMPTS):
        before = look()
        try:
            found = read()
        except Exception:
            after = look()
            if after == before:
                raise
        else:
            after = look()
            if after == before:
                return found, before
        changed = {name for name, _, _ in set(before) ^ set(after)}
        time.sleep(_PAUSE * attempt)
    raise Unreadable(
        f"{', '.join(sorted(changed)[:3])} changed while it was read, {ATTEMPTS} times over"
    )


class Texts(Struct, frozen=True):
    """The files that were read, a diagnostic for each that is not UTF-8, and what they looked like."""

    files: tuple[SourceFile, ...]
    findings: tuple[Diagnostic, ...]
    look: Look


def read_paths(paths: Iterable[Path], layer: int) -> Texts:
    """The mapping and model files that paths name, as they were at one moment. Raises Unreadable."""
    given = tuple(paths)

    def read() -> tuple[list[SourceFile], list[Diagnostic]]:
        located = []
        for path in given:
            try:
                located += _located(path)
            except OSError as error:
                raise Unreadable(f"cannot read {path}: {error.strerror}") from error
        return _read(located, layer)

    (files, findings), seen = steadily(lambda: look(given), read)
    return Texts(tuple(files), tuple(findings), seen)


def read_files(paths: Iterable[Path], layer: int) -> tuple[list[SourceFile], list[Diagnostic]]:
    """The texts of files as they were at one moment, and a diagnostic for each that is not UTF-8.
    Raises Unreadable."""
    named = tuple(paths)
    read, _ = steadily(
        lambda: look_at(named), lambda: _read([(path, path) for path in named], layer)
    )
    return read


def _read(
    located: Iterable[tuple[Path, Path]], layer: int
) -> tuple[list[SourceFile], list[Diagnostic]]:
    files: list[SourceFile] = []
    findings: list[Diagnostic] = []
    for named, real in located:
        try:
            read = decode(str(named), real.read_bytes(), layer)
        except OSError as error:
            raise Unreadable(f"cannot read {named}: {error.strerror}") from error
        if isinstance(read, SourceFile):
            files.append(read)
        else:
            findings.append(read)
    return files, findings


def decode(name: str, raw: bytes, layer: int) -> SourceFile | Diagnostic:
    """The file of these bytes, or what is wrong where they are not UTF-8."""
    try:
        return SourceFile(name, raw.decode("utf-8-sig"), layer)
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        column = len(before.rpartition(b"\n")[2].decode()) + 1
        message = f"the byte 0x{error.object[error.start]:02X} is not UTF-8"
        span = Span(name, before.count(b"\n") + 1, column)
        return Diagnostic(span, "not-utf8", message, "save the file as UTF-8")
