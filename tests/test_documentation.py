"""The documentation says what the code does: generated parts, links, examples, and the tutorial."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gateway.authoring import cases
from gateway.delivery import Accepted, DeadLetter, Delivery
from gateway.mapping import expression, library
from gateway.mapping.compiler import Compilation, SourceFile, compile_files
from tests import documentation
from tests.documentation import DOCS, Fence
from tests.harness import REQUIRE_ALL, ROOT, eventually, free_port, require_program

PAGES = [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in documentation.pages()]
OF_MISTAKES = DOCS / "reference" / "checks.md"
"""Its examples are wrong on purpose, and have tests of their own."""


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PAGES)
def test_generated_parts_are_current(path: Path) -> None:
    """`UPDATE_GOLDEN=1` writes them anew."""
    text = _read(path)
    made = documentation.generated(text)
    if os.environ.get("UPDATE_GOLDEN") and made != text:
        path.write_text(made, encoding="utf-8")
        text = made
    assert text == made


def test_every_part_that_can_be_generated_is_on_a_page() -> None:
    shown = {
        name.split()[0]
        for path in documentation.pages()
        for name in re.findall(r"<!-- generated: ([\w -]+) -->", _read(path))
    }
    assert shown == set(documentation.PARTS)


# Links


def _anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    found: dict[str, int] = {}
    anchors = set()
    without = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#{1,6} (.+)$", without, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower().strip()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        anchors.add(f"{slug}-{count}" if count else slug)
    return anchors


@pytest.mark.parametrize("path", PAGES)
def test_links_lead_somewhere(path: Path) -> None:
    """To a file or folder of the repository, and to a heading of it."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", documentation.prose(_read(path))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        is_there = there.exists() and there.is_relative_to(ROOT)
        if not is_there or (anchor and anchor not in _anchors(_read(there))):
            broken.append(target)
    assert not broken


def test_every_page_is_on_the_map() -> None:
    """The pages of sources, and decision records, are listed on maps of their own."""
    index = _read(DOCS / "index.md")
    catalogue = _read(DOCS / "sources" / "index.md")
    assert "(sources/index.md)" in index
    for path in DOCS.rglob("*.md"):
        name = path.relative_to(DOCS).as_posix()
        if path.parent == DOCS / "sources":
            assert path.name == "index.md" or f"({path.name})" in catalogue, name
        else:
            assert name == "index.md" or f"({name})" in index or name.startswith("adr/0"), name


# Sources


def test_every_bundled_source_is_in_one_group_of_the_catalogue() -> None:
    grouped = [source for sources in documentation.GROUPS.values() for source in sources]
    assert sorted(grouped) == list(documentation.SOURCES)


@pytest.mark.parametrize("source", documentation.SOURCES)
def test_every_bundled_source_has_a_page(source: str) -> None:
    """It shows what is read and what is a param, by itself or on a page that it leads to."""
    page = DOCS / "sources" / f"{source}.md"
    text = _read(page)
    linked = re.findall(r"\]\((\.\./how-to/[\w-]+\.md)\)", text)
    whole = "".join([text, *(_read(page.parent / name) for name in linked)])
    assert f"/hooks/{source}" in whole
    assert f"<!-- generated: rules {source} -->" in whole
    if documentation.mapping(source)[0].plan.params:
        assert f"<!-- generated: params {source} -->" in whole
    assert f"gateway send {source}" in whole


# Examples


def _is(fence: Fence, what: str) -> bool:
    return fence.language == "yaml" and bool(re.search(rf"^{what}:", fence.text, re.MULTILINE))


def _is_cases(fence: Fence) -> bool:
    return _is(fence, "source") and _is(fence, "cases")


def _files(path: Path) -> tuple[list[SourceFile], list[SourceFile]]:
    """The mappings and the models on a page; a table of apps counts among the mappings."""
    mappings: list[SourceFile] = []
    models: list[SourceFile] = []
    if path == OF_MISTAKES:
        return mappings, models
    for fence in documentation.fences(_read(path)):
        file = SourceFile(f"{path.name}:{fence.line}", fence.text, 1)
        if _is_cases(fence) or _is(fence, "apiVersion"):
            continue
        if _is(fence, "source") or _is(fence, "apps"):
            mappings.append(file)
        elif _is(fence, "kind"):
            models.append(file)
    return mappings, models


@cache
def _compiled(path: Path) -> tuple[tuple[SourceFile, Compilation], ...]:
    """Each mapping and model of a page with the page's models above the bundled files."""
    return tuple(_compiling(path))


def _compiling(path: Path) -> Iterator[tuple[SourceFile, Compilation]]:
    mappings, models = _files(path)
    for file in mappings:
        # Which sources there are is the affair of the whole page for a table of apps alone.
        beside = (
            [one for one in mappings if one is not file] if "\napps:" in f"\n{file.text}" else []
        )
        yield file, compile_files([*library.bundled_files(), *models, *beside, file])
    for file in models:
        yield file, compile_files([*library.bundled_files(), file])


@pytest.mark.parametrize("path", PAGES)
def test_mappings_and_models_compile(path: Path) -> None:
    """As they stand on the page, without a warning."""
    for file, compilation in _compiled(path):
        assert not compilation.diagnostics, file.name


@pytest.mark.parametrize("path", PAGES)
def test_cases_come_true(path: Path) -> None:
    """Those that stand on a page, with a mapping of the page or a bundled one."""
    plans = {
        source: mapping.plan
        for _, compilation in _compiled(path)
        for source, mapping in compilation.mappings.items()
        if mapping.layer == 1
    }
    for fence in documentation.fences(_read(path)):
        if not _is_cases(fence) or path == OF_MISTAKES:
            continue
        read, findings = cases.read(f"{path.name}:{fence.line}", fence.text)
        assert read is not None, findings
        plan = plans.get(read.source) or _plan_of_another_page(read.source)
        for case in read.cases:
            headers = {name.lower(): value for name, value in case.headers.items()}
            delivery = Delivery(
                source=read.source,
                headers={"content-type": "application/json", **headers},
                query={},
                body=case.body(),
                received_at=1_790_000_000,
            )
            found: list[Any] = ["ignored", [], []]
            match plan.read(delivery).outcome:
                case Accepted(events):
                    found = ["accepted", [{"kind": e.kind, **e.fields} for e in events], []]
                case DeadLetter(reasons):
                    word = "rejected" if plan.on_invalid == "reject" else "dead_lettered"
                    found = [word, [], [reason.field for reason in reasons]]
            expected = case.expect
            assert isinstance(expected, cases.Expectation)
            assert found == [expected.outcome, expected.events, expected.fields], case.name


def _plan_of_another_page(source: str) -> Any:
    for _, compilation in _compiled(DOCS / "reference" / "mapping.md"):
        if source in compilation.mappings:
            return compilation.mappings[source].plan
    raise LookupError(source)


def test_expressions_give_what_the_reference_says() -> None:
    found = list(documentation.fences(_read(DOCS / "reference" / "mapping.md")))
    (scope,) = [json.loads(fence.text) for fence in found if "scope" in fence.marks]
    examples = [
        line for fence in found if fence.language == "jmespath" for line in fence.text.splitlines()
    ]
    assert examples
    for line in examples:
        text, _, result = line.rpartition(" -> ")
        parsed = expression.parse(text)
        assert parsed.evaluate(scope) == json.loads(result), line


@pytest.mark.parametrize("path", PAGES)
def test_json_is_json(path: Path) -> None:
    for fence in documentation.fences(_read(path)):
        if fence.language == "json":
            json.loads(fence.text)


@pytest.mark.parametrize("path", PAGES)
def test_settings_on_a_page_exist(path: Path) -> None:
    """Flags of `serve`, variables of settings and of params."""
    text = _read(path)
    variables = set(re.findall(r"\bGATEWAY_[A-Z_]*[A-Z]\b", text))
    known = set(re.findall(r"`(GATEWAY_\w+)`", documentation.part("settings")))
    known |= set(re.findall(r"\[(GATEWAY_\w+)\]", documentation.part("arguments doctor")))
    # What Kubernetes sets for a Service of that name, where a sender keeps what it sends, and what says
    # how long tests take are none of the gateway's.
    foreign = {"GATEWAY_PORT", "GATEWAY_TOKEN"}
    ours = {name for name in variables if not name.startswith("GATEWAY_TEST_")}
    assert ours - foreign <= known
    prefixes = "|".join(source.upper().replace("-", "_") for source in documentation.SOURCES)
    params = {
        variable
        for source in documentation.SOURCES
        for variable in re.findall(r"`(\w+_PARAM_\w+)`", documentation.params(source))
    }
    for variable in re.findall(rf"\b(?:{prefixes})_PARAM_[A-Z_]*[A-Z]\b", text):
        assert variable in params


# The tutorial


class Terminal:
    """Runs the commands of a page in a folder, with free ports for the ones that it names."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.ports = {str(port): str(free_port()) for port in (8080, 8081, 9090)}
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not re.match(r"(GATEWAY|GITHUB|GITLAB|JIRA|PELORUS)_|VIRTUAL_ENV|PYTHON", name)
        }
        self.environment: Mapping[str, str] = {
            **inherited,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "GATEWAY_LISTEN": f"127.0.0.1:{self.ports['8080']}",
            "GATEWAY_INTERNAL_LISTEN": f"127.0.0.1:{self.ports['8081']}",
        }
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        self.output = ""
        self._again = ""

    def here(self, text: str) -> str:
        """The text with the ports of this run."""
        for port, free in self.ports.items():
            text = re.sub(rf"\b{port}\b", free, text)
        return text

    def run(self, script: str, *, until: bool = False) -> None:
        """Runs a block to its end; its output is what `shows` looks at."""
        url = f"gateway send --url http://127.0.0.1:{self.ports['8080']} "
        script = self.here(script).replace("gateway send ", url)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        self.output = done.stdout
        self._again = script if until else ""

    def start(self, name: str, command: str) -> None:
        """Starts a program that goes on running; its output is what `shows` looks at."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            self.started[name] = subprocess.Popen(
                shlex.split(self.here(command)),
                cwd=self.folder,
                env={**self.environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        ready = {"gateway": "is ready", "prometheus": "ready to receive web requests"}[name]
        eventually(lambda: ready in log.read_text(), timeout=60)
        self.output = log.read_text()

    def stop(self, name: str, number: int) -> str:
        """Ends a program; all that it printed."""
        process = self.started.pop(name)
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
        return (self.folder / f"{name}.log").read_text()

    def shows(self, text: str) -> None:
        """Each line of the text is in the output, in this order; `…` stands for anything."""
        lines = [re.escape(self.here(line)).replace("…", ".*") for line in text.splitlines()]
        pattern = re.compile("^" + "$(?:\n.*)*?\n".join(lines) + "$", re.MULTILINE)

        def is_shown() -> bool:
            if self._again and not pattern.search(self.output):
                self.run(self._again, until=True)
            return bool(pattern.search(self.output))

        if self._again:
            with contextlib.suppress(pytest.fail.Exception):
                eventually(is_shown, timeout=60, every=1)
        assert is_shown(), f"{text}\n--- is not in ---\n{self.output}"


def test_the_tutorial_works(tmp_path: Path) -> None:
    """Every command, in its order, to a lead time in a real Prometheus, and over a restart."""
    for program in ("prometheus", "promtool", "curl", "bash", "python3"):
        require_program(program)
    for name in ("gateway", "mappings", "schemas"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    terminal = Terminal(tmp_path, tmp_path / ".venv" / "bin")
    series = _walk(terminal, DOCS / "tutorial" / "first-lead-time.md")
    assert len(series) == 2
    assert series[0] == series[1]


def test_the_tutorial_of_a_system_of_ones_own_works(tmp_path: Path) -> None:
    """Every command, from a sample to a series; to Prometheus where there is one."""
    for program in ("curl", "bash"):
        require_program(program)
    page = DOCS / "tutorial" / "your-own-system.md"
    if os.environ.get(REQUIRE_ALL) or (shutil.which("prometheus") and shutil.which("promtool")):
        require_program("prometheus")
        require_program("promtool")
    else:
        whole, page = _read(page), tmp_path / "page.md"
        page.write_text(whole.partition("\n## 8. ")[0], encoding="utf-8")
    terminal = Terminal(tmp_path, Path(sys.executable).parent)
    (series,) = _walk(terminal, page)
    assert len(series) == 1


def test_adding_a_source_works(tmp_path: Path) -> None:
    """Every command of the guide, with its files."""
    for program in ("curl", "bash", "openssl"):
        require_program(program)
    terminal = Terminal(tmp_path, Path(sys.executable).parent)
    assert _walk(terminal, DOCS / "how-to" / "add-a-source.md")


def test_adding_a_kind_works(tmp_path: Path) -> None:
    """Every command of the guide, with its files, to an error budget in a real Prometheus."""
    for program in ("curl", "bash", "openssl", "prometheus", "promtool"):
        require_program(program)
    terminal = Terminal(tmp_path, Path(sys.executable).parent)
    assert _walk(terminal, DOCS / "how-to" / "add-a-kind.md")


def test_giving_one_app_one_name_works(tmp_path: Path) -> None:
    """Every command of the guide, with its files, to a lead time from two sources."""
    for program in ("curl", "bash", "openssl"):
        require_program(program)
    terminal = Terminal(tmp_path, Path(sys.executable).parent)
    assert _walk(terminal, DOCS / "how-to" / "one-app-many-names.md")


def _walk(terminal: Terminal, page: Path) -> list[list[str]]:
    """Does what a page says; the series that its commands showed."""
    series = []
    try:
        for fence, mark in _steps(_read(page)):
            word, _, subject = mark.partition(": ")
            match word:
                case "run":
                    terminal.run(fence.text, until=subject == "until")
                    if "/metrics" in fence.text:
                        series.append(sorted(terminal.output.splitlines()))
                case "start":
                    terminal.start(subject, fence.text)
                case "stop":
                    assert terminal.stop(subject, signal.SIGINT).endswith("stopped\n")
                case "file":
                    path = terminal.folder / subject
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(terminal.here(fence.text))
                case "shows":
                    terminal.shows(fence.text)
        return series
    finally:
        for process in terminal.started.values():
            process.kill()
            process.wait()


def _steps(text: str) -> Iterator[tuple[Fence, str]]:
    """The marked blocks of a page and what its marks ask for, in order."""
    blocks = {fence.line: fence for fence in documentation.fences(text)}
    for match in re.finditer(
        r"^<!-- ((?:run|start|stop|file|shows)(?:: .*?)?) -->$", text, re.MULTILINE
    ):
        line = text.count("\n", 0, match.end()) + 2
        if match[1].startswith("stop"):
            yield Fence("", "", (), line), match[1]
        else:
            yield blocks.pop(line), match[1]
    unmarked = [fence for fence in blocks.values() if fence.language == "sh"]
    assert not unmarked, "every command of the page is run"
