"""The manifests of `docs/kubernetes` as kustomize renders them, and what the API server would say of them."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import kubernetes_validate  # type: ignore[import-untyped]
import msgspec
import yaml
from msgspec import Struct

from tests.harness import ROOT, require_program

MANIFESTS = ROOT / "docs/kubernetes"
OVERLAYS = ("sqlite", "postgresql", "openshift")
RELEASES = ("1.29", kubernetes_validate.latest_version())
"""The oldest release of Kubernetes that the manifests are for, and the newest whose schemas are at hand."""
RULE_FILES = ("recording-rules", "alerts")


class Objects:
    """The objects of one rendering."""

    def __init__(self, documents: list[Any]) -> None:
        self._all = {(one["kind"], one["metadata"]["name"]): one for one in documents}
        assert len(self._all) == len(documents)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._all.values())

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._all

    def __getitem__(self, key: tuple[str, str]) -> Any:
        return self._all[key]

    def of(self, *kinds: str) -> list[Any]:
        """The objects of some kinds."""
        return [one for one in self if one["kind"] in kinds]

    def templates(self) -> dict[str, Any]:
        """The pods that come of the workloads, as `metadata` and `spec`, by the workload's kind."""
        found = {
            one["kind"]: one["spec"]["template"] for one in self.of("StatefulSet", "Deployment")
        }
        for one in self.of("CronJob"):
            found["CronJob"] = one["spec"]["jobTemplate"]["spec"]["template"]
        return found

    def gateway(self) -> Any:
        """The one pod that serves."""
        (template,) = [pod for kind, pod in self.templates().items() if kind != "CronJob"]
        return template

    def settings(self) -> dict[str, str]:
        """The variables of the serving container, those from a Secret left out."""
        (container,) = self.gateway()["spec"]["containers"]
        (source,) = container["envFrom"]
        found: dict[str, str] = self["ConfigMap", source["configMapRef"]["name"]]["data"]
        return found


@cache
def rendered(folder: Path) -> Objects:
    """What `kubectl apply -k` would send."""
    run = subprocess.run(
        [require_program("kubectl"), "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert not run.stderr, "kustomize warns"
    return Objects(list(yaml.safe_load_all(run.stdout)))


def overlay(name: str) -> Objects:
    """One of `docs/kubernetes/overlays`."""
    return rendered(MANIFESTS / "overlays" / name)


def component(name: str, file: str) -> Any:
    """One object of a component, as its file says it."""
    return yaml.safe_load((MANIFESTS / "components" / name / file).read_text())


def in_the_image(variable: str) -> str:
    """What the image sets a variable to."""
    containerfile = (ROOT / "Containerfile").read_text()
    match = re.search(rf"^    {variable}=(\S+)", containerfile, re.MULTILINE)
    assert match
    return match[1]


def selects(selector: Any, labels: Mapping[str, str]) -> bool:
    """Whether a label selector of exact labels fits; the empty one fits all."""
    assert selector.keys() <= {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def rules_of_the_operator() -> str:
    """The PrometheusRules that hold the rule files of `docs/prometheus`, comments and all."""
    documents = [
        "# Generated from the files of docs/prometheus by `UPDATE_GOLDEN=1 sh .ci/test tests/test_kubernetes.py`.\n"
    ]
    for name in RULE_FILES:
        text = (ROOT / f"docs/prometheus/{name}.yaml").read_text()
        indented = "".join(
            f"  {line}" if line.strip() else line for line in text.splitlines(keepends=True)
        )
        documents.append(
            "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n"
            f"  name: gateway-{name}\n  labels:\n    app.kubernetes.io/name: pelorus-gateway\n"
            f"spec:\n{indented}"
        )
    return documents[0] + "---\n".join(documents[1:])


# What a custom resource may say, of what we use.


class _Closed(Struct, forbid_unknown_fields=True, rename="camel"):
    """No key but these."""


class _Labels(_Closed):
    match_labels: dict[str, str]


class _Relabeling(_Closed):
    source_labels: list[str] = []
    separator: str = ";"
    regex: str = "(.*)"
    target_label: str = ""
    replacement: str = "$1"
    action: Literal["replace", "labeldrop"] = "replace"


class _Endpoint(_Closed):
    port: str
    path: str
    interval: str
    relabelings: list[_Relabeling]
    honor_timestamps: bool = True


class _ServiceMonitor(_Closed):
    selector: _Labels
    endpoints: list[_Endpoint]


class _PodMonitor(_Closed):
    selector: _Labels
    pod_metrics_endpoints: list[_Endpoint]


class _Rule(_Closed):
    expr: str
    record: str = ""
    alert: str = ""
    keep_firing_for: str = msgspec.field(name="keep_firing_for", default="")
    waits: str = msgspec.field(name="for", default="")
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Group(_Closed):
    name: str
    rules: list[_Rule]
    interval: str = "1m"


class _PrometheusRule(_Closed):
    groups: list[_Group]


class _To(_Closed):
    kind: Literal["Service"]
    name: str
    weight: int = 100


class _RoutePort(_Closed):
    target_port: str


class _RouteTLS(_Closed):
    termination: Literal["edge"]
    insecure_edge_termination_policy: Literal["None"] = msgspec.field(
        name="insecureEdgeTerminationPolicy"
    )


class _Route(_Closed):
    to: _To
    port: _RoutePort
    tls: _RouteTLS
    host: str = ""
    wildcard_policy: Literal["None"] = "None"


class _ConfigMapRef(_Closed):
    name: str
    key: str


class _GrafanaDashboard(_Closed):
    config_map_ref: _ConfigMapRef


_CUSTOM: Mapping[tuple[str, str], type[_Closed]] = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _ServiceMonitor,
    ("monitoring.coreos.com/v1", "PodMonitor"): _PodMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): _PrometheusRule,
    ("route.openshift.io/v1", "Route"): _Route,
    ("integreatly.org/v1alpha1", "GrafanaDashboard"): _GrafanaDashboard,
}


def validate(one: Any, release: str) -> None:
    """Raises where an object is not of its schema: Kubernetes' own, or ours of a custom resource."""
    custom = _CUSTOM.get((one["apiVersion"], one["kind"]))
    if custom is None:
        kubernetes_validate.validate(one, release, strict=True)
        return
    assert one.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert one["metadata"].keys() <= {"name", "namespace", "labels", "annotations"}
    msgspec.convert(one["spec"], custom)


# The restricted Pod Security standard, and what we ask beyond it.

_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}


def _pod_is_unprivileged(spec: Any) -> bool:
    context = spec["securityContext"]
    return (
        not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
        and context.keys() <= {"runAsNonRoot", "seccompProfile", "fsGroup", "fsGroupChangePolicy"}
        and context["runAsNonRoot"] is True
        and context["seccompProfile"] == {"type": "RuntimeDefault"}
    )


def _container_is_unprivileged(container: Any) -> bool:
    no_host_ports = not any("hostPort" in port for port in container.get("ports", []))
    return no_host_ports and container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


RESTRICTED: Mapping[str, Callable[[Any], bool]] = {
    "nothing of the host, no user of its own, any but root": _pod_is_unprivileged,
    "no escalation, no capability, a read-only root": lambda spec: all(
        _container_is_unprivileged(container) for container in spec["containers"]
    ),
    "volumes of the allowed types": lambda spec: all(
        volume.keys() - {"name"} <= _VOLUMES for volume in spec.get("volumes", [])
    ),
    "no token of a service account": lambda spec: spec["automountServiceAccountToken"] is False,
    "no variables of other Services": lambda spec: spec["enableServiceLinks"] is False,
    "bounded memory": lambda spec: all(
        "memory" in container["resources"]["limits"] for container in spec["containers"]
    ),
}


def scrape_config(monitor: Any) -> Any:
    """The jobs that the Operator makes of a ServiceMonitor's relabelings, without its own."""

    def snake(name: str) -> str:
        return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)

    (endpoint,) = monitor["spec"]["endpoints"]
    return {
        "job_name": monitor["metadata"]["name"],
        "metrics_path": endpoint["path"],
        "scrape_interval": endpoint["interval"],
        "honor_timestamps": endpoint["honorTimestamps"],
        "relabel_configs": [
            {snake(key): value for key, value in one.items()} for one in endpoint["relabelings"]
        ],
    }


def dashboards() -> dict[str, Any]:
    """The files of `docs/grafana` by name."""
    return {
        file.name: json.loads(file.read_text()) for file in (ROOT / "docs/grafana").glob("*.json")
    }
