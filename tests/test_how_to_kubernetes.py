"""The manifests of the how-to page: what they set exists, fits together, and passes the checks."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from gateway.cli.options import OPTIONS
from gateway.mapping import library
from tests.harness import ROOT, require_program, run_cli

PAGE = ROOT / "docs/how-to/run-in-kubernetes.md"


def fences(language: str) -> list[str]:
    """The texts of the page's fences of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def manifests() -> dict[tuple[str, str], Any]:
    """The page's Kubernetes objects by kind and name."""
    documents = [document for text in fences("yaml") for document in yaml.safe_load_all(text)]
    objects = [document for document in documents if "kind" in document]
    found = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    assert len(found) == len(objects)
    return found


def pod() -> Any:
    """The pod of the page's Deployment."""
    return manifests()["Deployment", "gateway"]["spec"]["template"]["spec"]


def container() -> Any:
    """The one container of the pod."""
    (one,) = pod()["containers"]
    return one


def config_map() -> dict[str, str]:
    """The mapping files of the page's ConfigMap by name."""
    found: dict[str, str] = manifests()["ConfigMap", "gateway-mappings"]["data"]
    return found


def secret_names() -> set[str]:
    """The keys of the Secret that the page creates."""
    return set(re.findall(r"--from-literal=(\w+)=", "\n".join(fences("sh"))))


def bundled_mappings() -> dict[str, Any]:
    """The bundled mapping files as plain YAML, by source."""
    files = library.yaml_files(library.bundled("mappings"))
    mappings = [yaml.safe_load(file.read_text()) for file in files]
    return {mapping["source"]: mapping for mapping in mappings}


def test_every_flag_and_variable_exists() -> None:
    """The Deployment uses options of `serve`, and params of bundled mappings, and nothing else."""
    command, *arguments = container()["args"]
    assert command == "serve"
    flags = {word for word in arguments if word.startswith("-")}
    assert flags <= {option.flag for option in OPTIONS}
    params = {
        f"{source.upper().replace('-', '_')}_PARAM_{param.upper()}"
        for source, mapping in bundled_mappings().items()
        for param in mapping.get("params", {})
    }
    variables = {one["name"] for one in container()["env"]}
    assert variables <= {option.variable for option in OPTIONS} | params


def test_every_flag_and_variable_named_in_the_text_exists() -> None:
    """The page's prose names no option that is not there."""
    prose = PAGE.read_text()
    flags = {option.flag for option in OPTIONS}
    assert set(re.findall(r"`(--[a-z-]+)`", prose)) <= flags
    variables = {option.variable for option in OPTIONS}
    # What Kubernetes would set for a Service of the name `gateway`, named as an example.
    assert set(re.findall(r"\bGATEWAY_[A-Z_]+\b", prose)) - {"GATEWAY_PORT"} <= variables


def test_the_mapping_passes_the_checks(tmp_path: Path) -> None:
    """`gateway check` finds neither an error nor a warning in the ConfigMap."""
    for name, text in config_map().items():
        (tmp_path / name).write_text(text)
    checked = run_cli("check", "--deny-warnings", str(tmp_path))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_secrets_are_those_that_the_sources_wait_for() -> None:
    """Each key of the Secret is asked for by a mapping, and each of the page's mappings finds its own."""

    def wanted(texts: list[Any]) -> set[str]:
        return {mapping["authenticate"]["secret"]["env"] for mapping in texts}

    own = wanted([yaml.safe_load(text) for text in config_map().values()])
    assert own <= secret_names()
    github = wanted([bundled_mappings()["github"]])
    assert secret_names() == own | github


def test_the_objects_fit_together() -> None:
    """Volumes, mounts, claims, selectors and ports name one another."""
    objects = manifests()
    sources = {}
    for volume in pod()["volumes"]:
        match volume:
            case {"persistentVolumeClaim": {"claimName": claim}}:
                assert ("PersistentVolumeClaim", claim) in objects
                sources[volume["name"]] = "claim"
            case {"configMap": {"name": name}}:
                assert ("ConfigMap", name) in objects
                sources[volume["name"]] = "config"
            case {"secret": {"secretName": name}}:
                assert f"secret generic {name} " in "\n".join(fences("sh"))
                sources[volume["name"]] = "secret"
    mounts = {mount["name"]: mount for mount in container()["volumeMounts"]}
    assert mounts.keys() == sources.keys()
    assert [name for name, mount in mounts.items() if not mount.get("readOnly")] == ["journal"]
    labels = objects["Deployment", "gateway"]["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"public": 8080, "internal": 8081}
    for name in ("public", "internal"):
        service = objects["Service", f"gateway-{name}"]["spec"]
        assert service["selector"].items() <= labels.items()
        (port,) = service["ports"]
        assert (port["port"], port["targetPort"]) == (ports[name], name)
    (rule,) = objects["Ingress", "gateway"]["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": "gateway-public", "port": {"name": "public"}}
    monitor = objects["ServiceMonitor", "gateway"]["spec"]["selector"]["matchLabels"]
    monitored = [
        name
        for (kind, name), one in objects.items()
        if kind == "Service" and monitor.items() <= one["metadata"].get("labels", {}).items()
    ]
    assert monitored == ["gateway-internal"]


def test_what_is_mounted_is_kept_up_to_date() -> None:
    """Whole folders: Kubernetes never updates a single file that is mounted, and a reload reads them."""
    assert not any("subPath" in mount for mount in container()["volumeMounts"])


def test_one_gateway_holds_the_journal() -> None:
    """The old pod is gone before the new one comes."""
    spec = manifests()["Deployment", "gateway"]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_the_container_has_no_privileges() -> None:
    """Any user but root, a read-only root, no capabilities."""
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_liveness_does_not_ask_for_readiness() -> None:
    """All probes ask the internal listener; only readiness asks whether deliveries are taken."""
    probes = {kind: container()[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")}
    asked = {kind: (one["httpGet"]["path"], one["httpGet"]["port"]) for kind, one in probes.items()}
    assert asked == {
        "startup": ("/-/healthy", "internal"),
        "liveness": ("/-/healthy", "internal"),
        "readiness": ("/-/ready", "internal"),
    }


def test_the_scrape_is_not_rarer_than_the_gateway_expects() -> None:
    """The scrape interval is at most GATEWAY_SCRAPE_INTERVAL, in both ways of scraping."""
    expected = {one["name"]: one["value"] for one in container()["env"]}["GATEWAY_SCRAPE_INTERVAL"]
    (endpoint,) = manifests()["ServiceMonitor", "gateway"]["spec"]["endpoints"]
    for interval in (
        _scrape_config()["scrape_configs"][0]["scrape_interval"],
        endpoint["interval"],
    ):
        assert int(interval.removesuffix("s")) <= int(expected)


def test_the_target_is_the_internal_service() -> None:
    """The scraped address is the Service's name in its namespace and its port."""
    service = manifests()["Service", "gateway-internal"]
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    (job,) = _scrape_config()["scrape_configs"]
    (group,) = job["static_configs"]
    assert group["targets"] == [f"{name}.{namespace}.svc:{service['spec']['ports'][0]['port']}"]


def test_prometheus_accepts_the_scrape_config(tmp_path: Path) -> None:
    """promtool finds nothing wrong."""
    promtool = require_program("promtool")
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(_scrape_config()))
    checked = subprocess.run(
        [promtool, "check", "config", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def _scrape_config() -> Any:
    (text,) = [text for text in fences("yaml") if text.startswith("scrape_configs:")]
    return yaml.safe_load(text)
