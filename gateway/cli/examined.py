"""The files that a check is about, and those beside them that it reads for reference."""

import glob
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gateway.mapping import library
from gateway.mapping.compiler import SourceFile
from gateway.mapping.library import CASES_SUFFIX, EXTENDS, KIND, SOURCE, Unreadable

PAGES = (".md", ".markdown")
_SUFFIXES = (".yaml", ".yml", *PAGES)


def named(paths: Iterable[str]) -> list[Path]:
    """The files that paths name, each once: themselves, those of a folder (not of the folders in it,
    and no pages), those that a pattern such as `docs/**/*.md` matches. Raises Unreadable."""
    found = [file for path in paths for file in _files(path)]
    return list({file.resolve(): file for file in found}.values())


def _files(path: str) -> list[Path]:
    if not path:
        raise Unreadable("a path is empty; `.` is the folder that you are in")
    if not Path(path).exists() and glob.has_magic(path):
        matched = [Path(one) for one in sorted(glob.glob(path, recursive=True))]  # noqa: PTH207  # The pattern may be absolute.
        files = [one for one in matched if one.suffix in _SUFFIXES and one.is_file()]
        if not files:
            raise Unreadable(f"no file of YAML or Markdown matches {path}")
        return files
    files = library.yaml_files(Path(path))
    if Path(path).is_dir():
        files = sorted([*files, *_case_files(Path(path))])
        if not files:
            raise Unreadable(f"there is no mapping, model or case in {path}")
    return files


def is_page(name: str) -> bool:
    """Whether a file is Markdown."""
    return Path(name).suffix.lower() in PAGES


def is_cases(name: str) -> bool:
    """Whether a file holds cases."""
    return name.endswith(CASES_SUFFIX)


def _case_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{CASES_SUFFIX}") if not path.name.startswith("."))


# What a file says that it is, and that it needs

_EMIT = re.compile(r"\bemit:[ \t]*[\"']?([\w-]+)")
_TABLE, _KEY = re.compile(r"^apps:", re.MULTILINE), re.compile(r"([\w-]+)[\"']?:")


def source_of(text: str) -> str:
    """The source that a mapping or a file of cases is about, empty where it is neither."""
    found = SOURCE.search(text)
    return found[1] if found else ""


def _described(texts: Iterable[str]) -> set[tuple[str, str]]:
    """The sources and kinds that mappings and models describe."""
    return {
        (what, word)
        for text in texts
        for what, pattern in (("source", SOURCE), ("kind", KIND))
        for word in pattern.findall(text)
    }


def _needed(texts: Iterable[str]) -> set[tuple[str, str]]:
    return {
        (what, word)
        for text in texts
        for what, pattern in (
            ("source", EXTENDS),
            ("kind", _EMIT),
            # In a table of apps, any key may be a source.
            *([("source", _KEY)] if _TABLE.search(text) else []),
        )
        for word in pattern.findall(text)
    }


def references(
    examined: Sequence[SourceFile], cases: Sequence[SourceFile], known: Sequence[SourceFile]
) -> list[SourceFile]:
    """The files beside those examined that describe what they need and nobody else describes."""
    beside = [
        SourceFile(str(path), path.read_text("utf-8-sig", errors="replace"), layer=1)
        for folder in sorted({Path(file.name).parent for file in (*examined, *cases)})
        for path in _readable(folder)
    ]
    taken: list[SourceFile] = []
    while True:
        described = _described(file.text for file in (*examined, *known, *taken))
        needed = _needed(file.text for file in (*examined, *taken))
        needed |= {("source", source_of(file.text)) for file in cases}
        more = [
            file
            for what in sorted(needed - described)
            for file in beside
            if what in _described([file.text]) and file not in taken
        ]
        if not more:
            return taken
        # One at a time: two of them may describe the same.
        taken.append(more[0])


def _readable(folder: Path) -> Iterator[Path]:
    try:
        yield from library.yaml_files(folder)
    except Unreadable:
        return


def cases_beside(
    examined: Sequence[SourceFile], cases: Sequence[SourceFile], others: Sequence[SourceFile]
) -> list[SourceFile]:
    """The files of cases that lie beside the examined mappings, or beside what those extend where they
    have none of their own."""
    files = {source_of(file.text): file for file in (*others, *examined)}
    extended = _extended((*others, *examined))
    covered = {source_of(file.text) for file in cases}
    found: dict[str, SourceFile] = {}
    for file in examined:
        name, asked = source_of(file.text), set[str]()
        while name in files and name not in asked | covered:
            own = _cases_of(name, Path(files[name].name).parent)
            found |= {one.name: one for one in own}
            asked.add(name)
            name = "" if own else extended.get(name, "")
    return list(found.values())


def _extended(files: Iterable[SourceFile]) -> Mapping[str, str]:
    return {
        source_of(file.text): parent[1] for file in files if (parent := EXTENDS.search(file.text))
    }


def _cases_of(source: str, folder: Path) -> list[SourceFile]:
    files, _ = library.read_files(_case_files(folder), layer=1)
    return [file for file in files if source_of(file.text) == source]
