"""The folders that mapping and model files are read from: the bundled ones, then the user's."""

from collections.abc import Iterable
from pathlib import Path

from gateway.diagnostic import Diagnostic, Span
from gateway.mapping.compiler import SourceFile

CASES_SUFFIX = ".test.yaml"
_PACKAGE = Path(__file__).resolve().parents[1]


class Unreadable(Exception):
    """A file or folder that was named cannot be read; the message says which and why."""


def bundled(folder: str) -> Path:
    """The folder of bundled `mappings` or `schemas`: in the package, or beside it in a checkout."""
    packaged = _PACKAGE / "bundled" / folder
    return packaged if packaged.is_dir() else _PACKAGE.parent / folder


def bundled_files() -> list[SourceFile]:
    """The bundled mappings and models, the lowest layer."""
    folders = [bundled("schemas"), bundled("mappings")]
    files, _ = read_files([path for folder in folders for path in yaml_files(folder)], 0)
    return files


def yaml_files(path: Path) -> list[Path]:
    """The mapping and model files that a path names: itself, or those of a folder, sorted.

    Test cases and hidden files are passed over: a mounted ConfigMap keeps its generations in hidden
    folders. Raises Unreadable.
    """
    try:
        if not path.is_dir():
            path.stat()
            return [path]
        return sorted(
            child
            for child in path.iterdir()
            if child.suffix in (".yaml", ".yml")
            and not child.name.endswith(CASES_SUFFIX)
            and not child.name.startswith(".")
            and child.is_file()
        )
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}") from error


def read_files(paths: Iterable[Path], layer: int) -> tuple[list[SourceFile], list[Diagnostic]]:
    """The texts of files, and a diagnostic for each that is not UTF-8. Raises Unreadable."""
    files: list[SourceFile] = []
    findings: list[Diagnostic] = []
    for path in paths:
        try:
            read = decode(str(path), path.read_bytes(), layer)
        except OSError as error:
            raise Unreadable(f"cannot read {path}: {error.strerror}") from error
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
