"""Case files from disk, with the payload files that they name."""

import os
from collections.abc import Iterable
from pathlib import Path

from gateway.authoring import cases
from gateway.authoring.cases import CasesRead, Load, Params, UnusablePayload
from gateway.diagnostic import Diagnostic
from gateway.mapping import document, library
from gateway.mapping.compiler import SourceFile
from gateway.mapping.document import Sequence, Table
from gateway.settings import SettingsError

MAX_BYTES = 25 * 1024 * 1024
"""The largest payload that a vendor sends."""


def loader(case_file: Path) -> Load:
    """Reads the payload files that a case file names: those in its folder or below, no others."""
    folder = Path(os.path.realpath(case_file.parent))

    def load(name: str) -> bytes:
        if "\0" in name:
            raise UnusablePayload(f"there is no file {name!r}", "no file's name holds U+0000")
        path = Path(os.path.realpath(folder / name))
        if Path(name).is_absolute() or not path.is_relative_to(folder):
            mend = "write it as a path from there, such as `samples/push.json`"
            raise UnusablePayload(f"{name} lies outside of the folder of this file", mend)
        if not path.is_file():
            mend = "the path begins in the folder of this file"
            raise UnusablePayload(f"there is no file {name}", mend)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise UnusablePayload(f"{name} is larger than 25 MiB", "no vendor sends that much")
            return path.read_bytes()
        except OSError as error:
            raise UnusablePayload(f"{name} cannot be read: {error.strerror}") from error

    return load


def text(path: Path) -> SourceFile | Diagnostic:
    """The text of a case file, or what is wrong where it is not UTF-8. Raises SettingsError."""
    try:
        return library.decode(str(path), path.read_bytes(), layer=1)
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error


def read(path: Path, known: Params | None = None) -> tuple[CasesRead | None, list[Diagnostic], str]:
    """The cases of a file or what is wrong with it, and its text. Raises SettingsError."""
    file = text(path)
    if isinstance(file, Diagnostic):
        return None, [file], ""
    found, findings = cases.read_with_places(file.name, file.text, loader(path), known)
    return found, findings, file.text


def of_source(source: str, paths: Iterable[Path]) -> Path | None:
    """The file with the cases of a source: in the folders of these paths, the last one first, or among
    the bundled ones."""
    folders = [path if path.is_dir() else path.parent for path in reversed(list(paths))]
    name = f"{source}{library.CASES_SUFFIX}"
    beside = [folder / name for folder in (*folders, library.bundled("mappings"))]
    return next((path for path in beside if path.is_file()), None)


def count(path: Path | None) -> int:
    """How many cases a file has, right or wrong; 0 where there is no file. Raises SettingsError."""
    file = text(path) if path is not None else None
    node = document.parse(file.name, file.text)[0] if isinstance(file, SourceFile) else None
    found = node.get("cases") if isinstance(node, Table) else None
    return len(found.items) if isinstance(found, Sequence) else 0
