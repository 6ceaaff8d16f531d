"""The documentation as a site: every page is on it and can be reached, every link leads somewhere, nothing
comes from another host, and a page says there what a code host shows.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from markdown_it import MarkdownIt

from tests.documentation import DOCS
from tests.harness import ROOT

pytestmark = pytest.mark.xdist_group("site")

PAGES = [
    pytest.param(path, id=path.relative_to(DOCS).as_posix()) for path in sorted(DOCS.rglob("*.md"))
]
LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}
"""What a browser fetches without being asked, and where it is named."""
COUNTED = {"ul", "ol", "li", "pre", "code", "table", "tr", "strong", "em", "blockquote", "img"}
COUNTED |= {f"h{level}" for level in range(1, 7)}


class Link(NamedTuple):
    """Where an element of a page leads, or what it loads."""

    element: str
    target: str


class Html(HTMLParser):
    """What matters of a page: its anchors, its links, and how often it has which element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors = {""}
        self.links: list[Link] = []
        self.loads: list[Link] = []
        self.elements: Counter[str] = Counter()
        self._inside = "<article" not in text
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._inside = self._inside or tag == "article"
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(Link(tag, given["href"]))
        if tag in LOADED and LOADED[tag] in given:
            self.loads.append(Link(tag, given[LOADED[tag]]))
        if self._inside and tag in COUNTED:
            self.elements[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._inside = False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


@cache
def _html(path: Path) -> Html:
    return Html(path.read_text(encoding="utf-8"))


def _pages(site: Path) -> list[Path]:
    """All pages, but for the one that a server shows for what is not there: its links are absolute."""
    return [path for path in sorted(site.rglob("*.html")) if path != site / "404.html"]


def _inner(page: Path) -> Iterator[tuple[str, Path, str]]:
    """The links of a page within the site: as written, the file, and the anchor."""
    for link in _html(page).links:
        parts = urlsplit(link.target)
        if not parts.scheme and not parts.netloc:
            there = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            yield link.target, there, unquote(parts.fragment)


def _built(page: Path, site: Path) -> Path:
    """The page of the site that is made of one of `docs/`."""
    name = page.relative_to(DOCS)
    name = name.with_name("index.md") if name.name == "README.md" else name
    return site / name.with_suffix(".html")


def test_links_and_anchors_lead_somewhere(site: Path) -> None:
    """Also those to files of the repository, which are on the site."""
    broken = []
    for page in _pages(site):
        for written, there, anchor in _inner(page):
            is_there = there.is_file() and there.is_relative_to(site)
            if not is_there or (there.suffix == ".html" and anchor not in _html(there).anchors):
                broken.append((page.relative_to(site).as_posix(), written))
    assert not broken


def test_every_page_can_be_reached(site: Path) -> None:
    """From the first page, by the navigation and by links."""
    reached = {site / "index.html"}
    waiting = list(reached)
    while waiting:
        found = {there for _, there, _ in _inner(waiting.pop()) if there.suffix == ".html"}
        waiting += found - reached
        reached |= found
    assert reached == set(_pages(site))


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    """No script, style, font, image or frame: the site works in a closed network."""
    loaded = {
        (page.relative_to(site).as_posix(), link)
        for page in [*_pages(site), site / "404.html"]
        for link in _html(page).loads
        if urlsplit(link.target).netloc
    }
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        loaded |= {
            (sheet.name, Link("url", target))
            for target in re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", text)
            if urlsplit(target).netloc
        }
    assert not loaded


def test_what_a_page_loads_is_there(site: Path) -> None:
    for page in _pages(site):
        for link in _html(page).loads:
            assert (page.parent / urlsplit(link.target).path).is_file(), (page, link)


def test_the_navigation_has_every_folder_of_pages() -> None:
    """In an order for readers; a folder that is new has to be given its place."""
    config = yaml.load((ROOT / "mkdocs.yml").read_text(), _Tolerant)
    named = [target for entry in config["nav"] for target in entry.values()]
    folders = {f"{page.parent.relative_to(DOCS).as_posix()}/" for page in DOCS.rglob("*.md")}
    assert named[0] == "index.md"
    assert {name for name in named if name.endswith("/")} == folders - {"./"}


class _Tolerant(yaml.SafeLoader):
    """Reads MkDocs' configuration without the Python objects that it names."""


def _nothing(loader: Any, suffix: str, node: Any) -> None:
    return None


_Tolerant.add_multi_constructor("tag:yaml.org,2002:python/", _nothing)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_the_same_parts_on_the_site_as_on_a_code_host(path: Path, site: Path) -> None:
    """Python-Markdown, which makes the site, and CommonMark, which code hosts show, differ in lists and
    blocks that are indented or lack an empty line: no page leans on that."""
    shown = Html(MarkdownIt("commonmark").enable("table").render(path.read_text(encoding="utf-8")))
    assert _parts(_html(_built(path, site)).elements) == _parts(shown.elements)


def _parts(elements: Mapping[str, int]) -> dict[str, int]:
    return {name: elements[name] for name in sorted(COUNTED) if elements[name]}
