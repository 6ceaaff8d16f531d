"""What makes a site of the pages as they stand: the navigation, and links out of `docs/`.

Pages link files of the repository, as a code host shows them. On the site such a file is a page of its
own below `repository/`: a text with the file, a list of links for a folder. So every link leads to the
same thing in both places, whatever host the repository lives on. The search finds pages, not code.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
INDEXES = ("index.md", "README.md")
_UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n"
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The folders of the navigation become lists of their pages."""
    config.nav = [
        {title: _pages(DOCS / target) if target.endswith("/") else target}
        for entry in config.nav or []
        for title, target in entry.items()
    ]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """What pages link outside of `docs/`, or as a folder, is added as pages, with what those link in turn."""
    waiting = [DOCS / file.src_uri for file in files.documentation_pages()]
    added = set(waiting)
    while waiting:
        page = waiting.pop()
        for _, target in _links(page, _text(page)):
            if not _is_of_docs(target) and target not in added:
                added.add(target)
                waiting.append(target)
                files.append(File.generated(config, _uri(target), content=_text(target)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Links as they are in the repository become links of the site."""
    uri = page.file.src_uri
    origin = _origin(uri)
    moved = {
        written: os.path.relpath(_uri(target), Path(uri).parent)
        for written, target in _links(origin, markdown)
    }
    return _LINK.sub(lambda match: moved.get(match[1], match[1]), markdown)


def _pages(folder: Path) -> list[str]:
    """The pages of a folder as the navigation names them: its index, then the others in its order. Where
    it has none, the map of all pages has the order."""
    pages = sorted(folder.glob("*.md"))
    index = next((page for page in pages if page.name in INDEXES), DOCS / INDEXES[0])
    order = [index, *(target for _, target in _links(index, _text(index)))]
    rank = {page: place for place, page in reversed(list(enumerate(order)))}
    pages.sort(key=lambda page: rank.get(page, len(order)))
    return [_uri(page) for page in pages]


def _links(origin: Path, text: str) -> Iterator[tuple[str, Path]]:
    """The links of a text to what is in the repository: as they are written, and where they lead."""
    for written in dict.fromkeys(_LINK.findall(text)):
        target = (origin.parent / written).resolve()
        if target.exists() and ROOT in target.parents:
            yield written, target


def _text(path: Path) -> str:
    """A file or folder of the repository as Markdown."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        lines = [
            f"- [{each.name}]({path.name}/{each.name})" for each in sorted(path.glob("[!._]*"))
        ]
        return _UNSEARCHED + "\n".join([f"# {name}/", "", *lines, ""])
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    language = path.suffix.lstrip(".") or "text"
    return f"{_UNSEARCHED}# {name}\n\n``````{language}\n{text.rstrip()}\n``````\n"


def _is_of_docs(path: Path) -> bool:
    """Whether MkDocs has it on the site by itself."""
    return DOCS in path.parents and path.is_file()


def _uri(path: Path) -> str:
    """Where a file or folder of the repository is on the site."""
    if _is_of_docs(path):
        return path.relative_to(DOCS).as_posix()
    uri = f"repository/{path.relative_to(ROOT).as_posix()}"
    return uri if path.suffix == ".md" else f"{uri}.md"


def _origin(uri: str) -> Path:
    """Where a page of the site is in the repository."""
    _, outside, name = uri.rpartition("repository/")
    if not outside:
        return DOCS / uri
    path = ROOT / name
    return path if path.exists() else path.with_suffix("")
