"""What a release consists of: its archives have all that they need and nothing else, and the wheel works in an
environment that has what the lock file says and nothing else. The forge's workflows make it so.
"""

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.harness import GITHUB_SECRET, ROOT, require_program, running

pytestmark = pytest.mark.xdist_group("package")

VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
NAME = f"pelorus_gateway-{VERSION}"
CLEAN: Mapping[str, str] = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PYTHON", "GATEWAY_", "GITHUB_", "VIRTUAL_ENV"))
}


def release(dist: Path, *tag: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """One run of `.ci/release`, at a fixed time."""
    made = {"DIST": str(dist), "PYTHON": sys.executable, "SOURCE_DATE_EPOCH": "1790000000"}
    return subprocess.run(
        ["sh", str(root / ".ci" / "release"), *tag],
        env={**CLEAN, **made},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a release."""
    require_program("sha256sum")
    folder = tmp_path_factory.mktemp("dist")
    done = release(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return dist / f"{NAME}-py3-none-any.whl"


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`gateway` in an environment of the wheel and of what the lock file says; it is not this one's."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    python = folder / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    for there, name in _locked():
        (packages / name).symlink_to(there)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    install = ["install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel)]
    for arguments in (install, ["check"]):
        done = subprocess.run(
            [*pip, *arguments], env=CLEAN, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin" / "gateway"


def _locked() -> Iterator[tuple[Path, str]]:
    """The files and folders of what is locked for this platform, as this environment has it, and their names."""
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, Path] = {}
    for line in re.findall(r"^[a-z0-9].*", lock, re.MULTILINE):
        locked = Requirement(line.partition(" --hash")[0])
        if locked.marker is not None and not locked.marker.evaluate():
            continue
        distribution = importlib.metadata.distribution(locked.name)
        for file in distribution.files or ():
            top = file.parts[0]
            if top not in {"..", "__pycache__"}:
                found[top] = Path(str(distribution.locate_file(top)))
    for name, there in found.items():
        yield there, name


def _run(program: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        cwd=folder,
        env=CLEAN,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _tree(folder: str, into: str) -> dict[str, bytes]:
    """The files of a folder of the repository, by their names below another."""
    return {
        f"{into}/{path.relative_to(ROOT / folder).as_posix()}": path.read_bytes()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _wheel_files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_the_package_its_mappings_and_models_and_the_licence(wheel: Path) -> None:
    """No test, no page and no file of the build."""
    files = _wheel_files(wheel)
    about = f"{NAME}.dist-info"
    described = {name: files.pop(name) for name in list(files) if name.startswith(f"{about}/")}
    assert files == {
        **_tree("gateway", "gateway"),
        **_tree("mappings", "gateway/bundled/mappings"),
        **_tree("schemas", "gateway/bundled/schemas"),
    }
    assert described[f"{about}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert {name.removeprefix(f"{about}/") for name in described} == {
        *("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }


def test_the_source_archive_has_what_the_wheel_is_made_of(dist: Path) -> None:
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        files = {one.name.removeprefix(f"{NAME}/") for one in archive.getmembers() if one.isfile()}
    made_of = {
        name for folder in ("gateway", "mappings", "schemas") for name in _tree(folder, folder)
    }
    about = {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", ".gitignore", "PKG-INFO"}
    assert files == made_of | about


def test_the_repository_and_the_source_archive_give_the_same_wheel(
    wheel: Path, tmp_path: Path
) -> None:
    """Byte for byte; the release's is made of the archive. Row 54."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        env={**CLEAN, "SOURCE_DATE_EPOCH": "1790000000"},
        capture_output=True,
        timeout=300,
        check=True,
    )
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_the_checksums_are_those_of_the_files(dist: Path) -> None:
    """Row 54."""
    lines = (dist / "SHA256SUMS").read_text().splitlines()
    summed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    assert summed == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in dist.iterdir()
        if path.name != "SHA256SUMS"
    }
    assert set(summed) == {f"{NAME}.tar.gz", f"{NAME}-py3-none-any.whl", f"{NAME}.cdx.json"}


def test_the_sbom_names_what_is_locked(dist: Path) -> None:
    """Every package with its version, for all platforms, and the gateway itself as what it is about.
    Row 54."""
    found = json.loads((dist / f"{NAME}.cdx.json").read_text())
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    locked = re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE)
    assert found["bomFormat"] == "CycloneDX"
    assert found["metadata"]["component"]["name"] == "pelorus-gateway"
    assert found["metadata"]["component"]["version"] == VERSION
    assert {(canonicalize_name(one["name"]), one["version"]) for one in found["components"]} == {
        (canonicalize_name(name), version) for name, version in locked
    }


@pytest.mark.parametrize(
    ("tag", "heading", "said"),
    [
        ("v99.0.0", f"## {VERSION} (2026-03-02)", "is not"),
        (f"v{VERSION}", f"## {VERSION} (unreleased)", "has no heading"),
    ],
)
def test_a_release_that_is_not_ready_is_refused(
    tag: str, heading: str, said: str, tmp_path: Path
) -> None:
    """Where the tag is another version's, or the changelog has no date for it, nothing is built."""
    root = tmp_path / "repository"
    (root / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "release", root / ".ci")
    shutil.copy(ROOT / "pyproject.toml", root)
    (root / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n")
    done = release(tmp_path / "dist", tag, root=root)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / "dist").exists()


def test_the_wheel_works_alone(program: Path, tmp_path: Path) -> None:
    """Its version, a check, and the bundled cases, without a file of the repository."""
    assert _run(program, tmp_path, "--version").stdout == f"gateway {VERSION}\n"
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings" / "shop.yaml").write_text(
        "source: shop\nextends: github\nparams: {environments: [live]}\n"
    )
    checked = _run(program, tmp_path, "check", "mappings")
    assert (checked.returncode, checked.stdout) == (0, "no problems in 1 file\n"), checked.stderr
    sources = _run(program, tmp_path, "sources")
    assert sources.returncode == 0, sources.stderr
    assert "github" in sources.stdout


def test_the_wheel_serves_a_delivery(program: Path, tmp_path: Path) -> None:
    """A signed story of GitHub in, its series out."""
    environment = {"GITHUB_WEBHOOK_SECRET": GITHUB_SECRET}
    with running(tmp_path, environment=environment, program=(str(program),)) as gateway:
        sent = subprocess.run(
            [program, "send", "github", "--url", f"http://127.0.0.1:{gateway.public}"],
            cwd=tmp_path,
            env={**CLEAN, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert sent.returncode == 0, sent.stdout + sent.stderr
        assert any(series.startswith("deploy_timestamp{") for series in gateway.samples())


# The forge's workflows


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def _workflow(name: str) -> Any:
    """A workflow; YAML 1.1 takes its key `on` for a truth value, which no test looks at."""
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())


def _steps(workflow: Any) -> Iterator[Any]:
    for job in workflow["jobs"].values():
        yield from job.get("steps", [job])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_what_is_in_the_repository(path: Path) -> None:
    """With no action but the forge's own, and no right that a step does not need."""
    workflow = _workflow(path.name)
    assert workflow["permissions"] == {"contents": "read"}
    for step in _steps(workflow):
        used = step.get("uses", "./.ci")
        assert used == "actions/checkout@v4" or (ROOT / used).exists()
        script = step.get("run", "")
        parsed = subprocess.run(["bash", "-n"], input=script, text=True, timeout=30, check=False)
        assert parsed.returncode == 0, script
        for name in re.findall(r"\.ci/\w+|requirements[\w-]*\.txt", script):
            assert (ROOT / name).is_file(), name


def test_all_tests_run_on_each_python_that_the_package_claims() -> None:
    workflow = _workflow("ci.yml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == claimed
    assert ".ci/run" in [step.get("run") for step in _steps(workflow)]


def test_a_release_tells_its_entry_of_the_changelog(tmp_path: Path) -> None:
    """That of its own version, without the others."""
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## 1.1.0 (2026-05-01)\n\n- new\n\n## 1.0.0 (2026-03-02)\n\n- old\n"
    )
    script = _workflow("release.yml")["jobs"]["release"]["steps"][-1]["run"]
    (line,) = [line for line in script.splitlines() if "notes.md" in line and "CHANGELOG" in line]
    for tag, told in (("v1.1.0", "- new"), ("v1.0.0", "- old")):
        done = {**CLEAN, "GITHUB_REF_NAME": tag}
        subprocess.run(["bash", "-euc", line], cwd=tmp_path, env=done, timeout=30, check=True)
        assert (tmp_path / "notes.md").read_text().strip() == told


def test_few_packages_are_needed() -> None:
    """Twelve at most to serve. Row 54 of the table in docs/explanation/security.md."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(project["dependencies"]) <= 12
