"""The hooks for pre-commit, and the recipes for CI: every command of the page runs, and finds what is
wrong."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from tests import documentation
from tests.documentation import DOCS
from tests.harness import ROOT

PAGE = DOCS / "how-to" / "check-in-ci.md"
HOOKS: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
IMAGE = "registry.example/pelorus-gateway:0.1.0"
# The keys that pre-commit documents for hooks.
KNOWN = {
    *("id", "name", "entry", "language", "files", "exclude", "types", "types_or", "exclude_types"),
    *("always_run", "fail_fast", "verbose", "pass_filenames", "require_serial", "description"),
    *(
        "language_version",
        "minimum_pre_commit_version",
        "args",
        "stages",
        "additional_dependencies",
    ),
}


def marked(mark: str) -> list[str]:
    """The blocks of the page under a mark."""
    fences = documentation.fences(PAGE.read_text(encoding="utf-8"))
    return [fence.text for fence in fences if mark in fence.marks]


def recipe(mark: str) -> Any:
    """The one YAML block of the page under a mark; every scalar as text."""
    (text,) = marked(mark)
    return yaml.load(text, Loader=yaml.BaseLoader)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's repository: a model, a mapping and its cases, those of the guide about kinds."""
    guide = (DOCS / "how-to" / "add-a-kind.md").read_text(encoding="utf-8")
    for fence in documentation.fences(guide):
        for mark in fence.marks:
            if mark.startswith(("file: mappings/", "file: schemas/")):
                path = tmp_path / mark.removeprefix("file: ")
                path.parent.mkdir(exist_ok=True)
                path.write_text(fence.text)
    return tmp_path


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command of a recipe, with the `gateway` of this environment."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-euc", script],
        cwd=folder,
        env={**os.environ, "PATH": programs},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# The hooks


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_a_hook_is_as_pre_commit_documents_hooks(hook: dict[str, Any]) -> None:
    """Required keys, no unknown ones, a pattern that compiles, and a program that is installed with
    the package, which is what `language: python` makes an environment of."""
    assert {"id", "name", "entry", "language"} <= set(hook) <= KNOWN
    assert re.compile(hook["files"])
    assert hook["language"] == "python"
    assert all(isinstance(argument, str) for argument in hook["args"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert shlex.split(hook["entry"])[0] in project["project"]["scripts"]


def test_hooks_have_names_of_their_own() -> None:
    assert [hook["id"] for hook in HOOKS] == ["gateway-check", "gateway-test"]


def hook_of(name: str, folder: Path, staged: list[str], **changes: Any) -> int | None:
    """What pre-commit does with a hook at a commit: nothing where no staged file fits, else the entry
    with its arguments. Its exit code."""
    hook = {**next(one for one in HOOKS if one["id"] == name), **changes}
    if not any(re.search(hook["files"], path) for path in staged):
        return None
    given = staged if hook["pass_filenames"] else []
    return run(shlex.join([*shlex.split(hook["entry"]), *hook["args"], *given]), folder).returncode


CONFIGURED: dict[str, dict[str, Any]] = {
    hook["id"]: {key: hook[key] for key in ("args", "files")}
    for hook in recipe("pre-commit")["repos"][0]["hooks"]
}


@pytest.mark.parametrize("name", CONFIGURED)
def test_a_configured_hook_passes_what_is_right(name: str, repository: Path) -> None:
    staged = ["mappings/lighthouse.yaml"]
    assert hook_of(name, repository, staged, **CONFIGURED[name]) == 0
    assert hook_of(name, repository, ["README.md", "src/schemas/x.py"], **CONFIGURED[name]) is None


@pytest.mark.parametrize("name", CONFIGURED)
def test_a_changed_model_breaks_a_mapping_that_was_not_touched(name: str, repository: Path) -> None:
    """Which is why hooks take folders, and no names of files."""
    model = repository / "schemas/slo.yaml"
    model.write_text(model.read_text().replace("kind: slo", "kind: level"))
    assert hook_of(name, repository, ["schemas/slo.yaml"], **CONFIGURED[name]) == 1


def test_a_mapping_alone_would_be_reported_for_a_kind_that_is_there(repository: Path) -> None:
    """The other half of the reason: with its name alone, its model would not be known."""
    staged = ["mappings/lighthouse.yaml"]
    changes = {"args": [], "pass_filenames": True}
    assert hook_of("gateway-check", repository, staged, **changes) == 1
    both = [*staged, "schemas/slo.yaml", "mappings/lighthouse.test.yaml"]
    assert hook_of("gateway-check", repository, both, **changes) == 0


@pytest.mark.parametrize("name", CONFIGURED)
def test_as_they_come_hooks_look_at_the_mappings(name: str, repository: Path) -> None:
    """Models may lie there too."""
    (repository / "schemas/slo.yaml").rename(repository / "mappings/slo.yaml")
    assert hook_of(name, repository, ["mappings/slo.yaml"]) == 0
    assert hook_of(name, repository, ["other/mappings.yaml"]) is None
    (repository / "mappings/slo.yaml").unlink()
    assert hook_of(name, repository, ["mappings/lighthouse.yaml"]) == 1


def test_a_failing_case_fails_the_hook(repository: Path) -> None:
    cases = repository / "mappings/lighthouse.test.yaml"
    cases.write_text(cases.read_text().replace("ratio: 1\n", "ratio: 2\n"))
    staged = ["mappings/lighthouse.test.yaml"]
    assert hook_of("gateway-test", repository, staged, **CONFIGURED["gateway-test"]) == 1


# The pipelines


def scripts() -> Iterator[Any]:
    """Every command of the page that runs the gateway, with the recipe that it is of."""
    for number, text in enumerate(marked("run")):
        yield pytest.param(text, id=f"shell-{number}")
    for text in marked("container"):
        for line in text.replace("\\\n", " ").splitlines():
            runner, image, arguments = line.partition(IMAGE)
            assert runner.startswith("podman run --rm"), line
            assert image, line
            yield pytest.param(f"gateway {arguments}", id=f"container-{arguments.split()[0]}")
    for step in recipe("github")["jobs"]["mappings"]["steps"]:
        if step.get("run", "").startswith("gateway "):
            words = step["run"].split()
            yield pytest.param(step["run"], id=f"github-{words[1]}-{words[3]}")
    for line in recipe("gitlab")["mappings"]["script"]:
        yield pytest.param(line, id=f"gitlab-{line.split()[1]}")


SCRIPTS = list(scripts())


def test_every_recipe_has_its_commands() -> None:
    """None was passed over."""
    made = [str(script.id).partition("-")[0] for script in SCRIPTS]
    assert {name: made.count(name) for name in set(made)} == {
        "shell": 2,
        "container": 2,
        "github": 3,
        "gitlab": 2,
    }
    fences = documentation.fences(PAGE.read_text(encoding="utf-8"))
    assert all(fence.marks for fence in fences)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_command_of_the_page_passes_what_is_right(script: str, repository: Path) -> None:
    done = run(script, repository)
    assert done.returncode == 0, done.stdout + done.stderr


def misspell(repository: Path) -> None:
    mapping = repository / "mappings/lighthouse.yaml"
    mapping.write_text(mapping.read_text().replace("each.window", "eahc.window"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_command_of_the_page_fails_for_what_is_wrong(script: str, repository: Path) -> None:
    misspell(repository)
    assert run(script, repository).returncode == 1


def test_the_workflow_uploads_what_it_wrote(repository: Path) -> None:
    """The SARIF file is whole where there are findings, and the step that uploads it runs then."""
    misspell(repository)
    steps = recipe("github")["jobs"]["mappings"]["steps"]
    (writing,) = [step for step in steps if "--format sarif" in step.get("run", "")]
    (upload,) = [step for step in steps if "upload-sarif" in step.get("uses", "")]
    assert run(writing["run"], repository).returncode == 1
    log = json.loads((repository / upload["with"]["sarif_file"]).read_text())
    results = log["runs"][0]["results"]
    assert {result["ruleId"] for result in results} == {"unknown-name"}
    places = [result["locations"][0]["physicalLocation"] for result in results]
    assert {place["artifactLocation"]["uri"] for place in places} == {"mappings/lighthouse.yaml"}
    assert writing["if"] == upload["if"] == "always()"
    assert recipe("github")["permissions"]["security-events"] == "write"


@pytest.mark.parametrize(
    ("read", "script"),
    [
        (lambda: recipe("gitlab")["mappings"]["artifacts"]["reports"]["junit"], "gitlab-test"),
        (lambda: "cases.xml", "github-test---schemas"),
    ],
    ids=["gitlab", "github"],
)
def test_the_report_of_cases_is_where_the_recipe_says(
    read: Callable[[], str], script: str, repository: Path
) -> None:
    """With a failing case in it by its name."""
    cases = repository / "mappings/lighthouse.test.yaml"
    cases.write_text(cases.read_text().replace("ratio: 1\n", "ratio: 2\n"))
    (command,) = [one.values[0] for one in SCRIPTS if one.id == script]
    assert run(str(command), repository).returncode == 1
    tree = ET.parse(repository / read())
    failed = [
        case.get("name") for case in tree.iter("testcase") if case.find("failure") is not None
    ]
    assert failed == ["a report is final"]


def test_the_page_names_hooks_that_exist() -> None:
    assert list(CONFIGURED) == [hook["id"] for hook in HOOKS]
