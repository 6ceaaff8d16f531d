"""The how-to pages for Kubernetes and OpenShift: what a reader who follows them applies, renders and fits."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli.options import OPTIONS
from gateway.mapping import library
from tests import kubernetes
from tests.documentation import DOCS, Fence, fences
from tests.harness import require_program, run_cli, running
from tests.kubernetes import RELEASES, RESTRICTED, Objects, overlay

PAGES = ("run-in-kubernetes", "run-on-openshift")


def page(name: str) -> str:
    """The text of a page."""
    return (DOCS / "how-to" / f"{name}.md").read_text()


def marked(name: str, word: str) -> Iterator[tuple[str, Fence]]:
    """The fences of a page under a mark such as `file: deploy/kustomization.yaml`, with what it names."""
    for fence in fences(page(name)):
        for mark in fence.marks:
            if mark.startswith(f"{word}: "):
                yield mark.partition(": ")[2], fence


def commands(name: str) -> str:
    """The commands of a page, in one text, continued lines joined."""
    texts = [fence.text for fence in fences(page(name)) if fence.language == "sh"]
    return "\n".join(texts).replace("\\\n", " ")


def secret_names(name: str) -> set[str]:
    """The keys of `gateway-secrets` as a page creates it."""
    (create,) = re.findall(r"create secret generic gateway-secrets\s+(.*)", commands(name))
    return set(re.findall(r"--from-literal=(\w+)=", create))


def written(name: str, root: Path) -> Path:
    """A clone with the files that the page has its reader write; `root` is the clone's."""
    for folder in ("kubernetes", "grafana"):
        shutil.copytree(DOCS / folder, root / "docs" / folder)
    for path, fence in marked(name, "file"):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(fence.text)
    return root


def merged(file: Path, more: Any) -> None:
    """Puts the lists of a snippet behind those of a file."""
    whole = yaml.safe_load(file.read_text())
    for key, values in more.items():
        whole[key] = [*whole.get(key, []), *values]
    file.write_text(yaml.safe_dump(whole))


def snippets() -> list[Any]:
    """Every snippet that a page adds to the reader's kustomization, with its page."""
    return [
        pytest.param(name, path, fence.text, id=f"{name}-{fence.line}")
        for name in PAGES
        for path, fence in marked(name, "merge")
    ]


def bundled_mappings() -> dict[str, Any]:
    """The bundled mapping files as plain YAML, by source."""
    files = library.yaml_files(library.bundled("mappings"))
    mappings = [yaml.safe_load(file.read_text()) for file in files]
    return {mapping["source"]: mapping for mapping in mappings}


def same_but(objects: Objects, profile: Objects) -> set[str]:
    """What an overlay of the reader's changes in a profile: kinds and names without hashes."""

    def by_name(some: Objects) -> dict[str, Any]:
        return {
            f"{one['kind']}/{re.sub('-[a-z0-9]{10}$', '', one['metadata']['name'])}": one
            for one in some
        }

    mine, theirs = by_name(objects), by_name(profile)
    return {name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)}


@pytest.mark.parametrize("name", PAGES)
def test_what_the_reader_writes_can_be_applied(name: str, tmp_path: Path) -> None:
    """It renders, every object is of its schema, and pods are restricted."""
    root = written(name, tmp_path)
    folders = {
        (root / path).parent
        for path, _ in marked(name, "file")
        if path.endswith("kustomization.yaml")
    }
    assert folders
    for folder in folders:
        objects = kubernetes.rendered(folder)
        for one in objects:
            for release in RELEASES:
                kubernetes.validate(one, release)
        for template in objects.templates().values():
            assert all(holds(template["spec"]) for holds in RESTRICTED.values())
            (container,) = template["spec"]["containers"]
            assert re.fullmatch(r"\S+/pelorus-gateway:0\.1\.0", container["image"])


def test_the_reader_changes_what_is_the_readers(tmp_path: Path) -> None:
    """Settings, mappings, image and host, and nothing else of the profile."""
    root = written("run-in-kubernetes", tmp_path)
    objects = kubernetes.rendered(root / "deploy")
    assert same_but(objects, overlay("sqlite")) == {
        "ConfigMap/gateway-mappings",
        "ConfigMap/gateway-settings",
        "StatefulSet/gateway",
    }
    root = written("run-on-openshift", tmp_path / "openshift")
    objects = kubernetes.rendered(root / "deploy")
    assert same_but(objects, overlay("openshift")) == {"StatefulSet/gateway"}


@pytest.mark.parametrize(("name", "path", "text"), snippets())
def test_what_is_added_takes_effect(name: str, path: str, text: str, tmp_path: Path) -> None:
    """Each snippet fits into the reader's file, and changes what is applied."""
    root = written(name, tmp_path)
    before = kubernetes.rendered(shutil.copytree(root / "deploy", root / "before"))
    merged(root / path, yaml.safe_load(text))
    after = kubernetes.rendered(root / "deploy")
    assert same_but(after, before)
    for one in after:
        kubernetes.validate(one, RELEASES[-1])
    for template in after.templates().values():
        assert all(holds(template["spec"]) for holds in RESTRICTED.values())


def test_every_setting_exists() -> None:
    """The reader sets options of `serve` and params of bundled mappings, and nothing else."""
    params = {
        f"{source.upper().replace('-', '_')}_PARAM_{param.upper()}"
        for source, mapping in bundled_mappings().items()
        for param in mapping.get("params", {})
    }
    settings = {
        literal.partition("=")[0]
        for name in PAGES
        for path, fence in marked(name, "file")
        if path.endswith("kustomization.yaml")
        for generator in yaml.safe_load(fence.text).get("configMapGenerator", [])
        for literal in generator.get("literals", [])
    }
    assert settings
    assert settings <= {option.variable for option in OPTIONS} | params


def test_the_mapping_passes_the_checks(tmp_path: Path) -> None:
    """`gateway check` finds neither an error nor a warning in what the reader adds."""
    root = written("run-in-kubernetes", tmp_path)
    mappings = kubernetes.rendered(root / "deploy")["ConfigMap", "gateway-mappings"]["data"]
    folder = tmp_path / "mounted"
    folder.mkdir()
    for name, text in mappings.items():
        (folder / name).write_text(text)
    checked = run_cli("check", "--deny-warnings", str(folder))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_secrets_are_those_that_the_sources_wait_for() -> None:
    """Each key of `gateway-secrets` is asked for by a mapping, and the reader's own mapping finds its own."""
    bundled = {
        secret["env"]
        for mapping in bundled_mappings().values()
        if isinstance(mapping.get("authenticate"), dict)
        and isinstance(secret := mapping["authenticate"].get("secret"), dict)
    }
    own = {
        yaml.safe_load(fence.text)["authenticate"]["secret"]["env"]
        for path, fence in marked("run-in-kubernetes", "file")
        if "/mappings/" in path
    }
    for name in PAGES:
        assert secret_names(name) <= bundled | own
    assert own <= secret_names("run-in-kubernetes")


@pytest.mark.parametrize("name", PAGES)
def test_commands_name_what_is_there(name: str, tmp_path: Path) -> None:
    """Folders and files of the clone, workloads of the manifests, and the namespace that they are in."""
    root = written(name, tmp_path)
    text = commands(name)
    for path in re.findall(r"(?:apply|delete) -[fk] (\S+)", text):
        assert (root / path).exists(), path
    rendered = [overlay("sqlite"), overlay("postgresql")]
    names = {
        f"{one['kind'].lower()}/{one['metadata']['name']}" for some in rendered for one in some
    }
    named = set(re.findall(r"\b(?:statefulset|deployment)/[\w-]+", text))
    assert named
    assert named <= names
    namespaces = {one["metadata"].get("namespace") for one in rendered[0]} | {"monitoring"}
    assert set(re.findall(r"--namespace ([\w-]+)", text)) <= namespaces


def test_the_target_is_the_internal_service(tmp_path: Path) -> None:
    """Without the Operator, the scraped address is the Service's name in its namespace and its port."""
    (text,) = [
        fence.text
        for fence in fences(page("run-in-kubernetes"))
        if fence.text.startswith("scrape_configs:")
    ]
    (job,) = yaml.safe_load(text)["scrape_configs"]
    (group,) = job["static_configs"]
    objects = overlay("sqlite")
    service = objects["Service", "gateway-internal"]
    address = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    assert group["targets"] == [f"{address}:{service['spec']['ports'][0]['port']}"]
    interval = int(job["scrape_interval"].removesuffix("s"))
    assert interval <= int(objects.settings()["GATEWAY_SCRAPE_INTERVAL"])
    file = tmp_path / "prometheus.yml"
    file.write_text(text)
    checked = subprocess.run(
        [require_program("promtool"), "check", "config", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_backup_has_what_the_journal_has(tmp_path: Path) -> None:
    """The page's own commands copy the journal of a gateway that runs; another gateway shows the same from it."""
    (command,) = re.findall(r"exec gateway-0 -- gateway (journal .*)", page("run-in-kubernetes"))
    payload = {"ref": "refs/heads/main", "repository": {"full_name": "octo/shop"}}
    folders = [tmp_path / name for name in ("data", "restored")]
    for folder in folders:
        folder.mkdir()
    with running(folders[0], "--journal", f"sqlite:///{folders[0]}/journal.sqlite") as gateway:
        assert gateway.github("deployment_status", payload, delivery="d-1").status == 202
        arguments = command.replace("/data/", f"{folders[0]}/").split()
        journal = {"GATEWAY_JOURNAL": f"sqlite:///{folders[0]}/journal.sqlite"}
        done = run_cli(*arguments, environment=journal)
        assert done.returncode == 0, done.stderr
    shutil.move(folders[0] / "backup.sqlite", folders[1] / "journal.sqlite")
    with running(folders[1], "--journal", f"sqlite:///{folders[1]}/journal.sqlite") as gateway:
        again = gateway.github("deployment_status", payload, delivery="d-1")
        assert again.json()["outcome"] == "duplicate"


def test_the_journal_is_restored_by_a_restricted_pod(tmp_path: Path) -> None:
    """It mounts the claim that the StatefulSet made."""
    (text,) = [
        fence.text for path, fence in marked("run-in-kubernetes", "file") if path == "restore.yaml"
    ]
    pod = yaml.safe_load(text)
    for release in RELEASES:
        kubernetes.validate(pod, release)
    assert all(holds(pod["spec"]) for holds in RESTRICTED.values())
    workload = overlay("sqlite")["StatefulSet", "gateway"]
    (template,) = workload["spec"]["volumeClaimTemplates"]
    (volume,) = pod["spec"]["volumes"]
    claim = f"{template['metadata']['name']}-{workload['metadata']['name']}-0"
    assert volume["persistentVolumeClaim"]["claimName"] == claim


@pytest.mark.parametrize("name", PAGES)
def test_every_flag_and_variable_named_in_the_text_exists(name: str) -> None:
    """The prose names no option that is not there."""
    prose = page(name)
    assert set(re.findall(r"`(--[a-z-]+)`", prose)) <= {option.flag for option in OPTIONS}
    variables = {option.variable for option in OPTIONS}
    assert set(re.findall(r"\bGATEWAY_[A-Z_]+\b", prose)) <= variables
