"""The manifests of `docs/kubernetes`: each overlay renders, is of Kubernetes' schemas, and fits together."""

import http.client
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli.options import OPTIONS
from tests import kubernetes
from tests.documentation import DOCS
from tests.harness import (
    ROOT,
    SECRETS,
    Gateway,
    eventually,
    free_port,
    request,
    require_program,
)
from tests.kubernetes import MANIFESTS, OVERLAYS, RELEASES, RESTRICTED, Objects, overlay, selects

GATEWAY = {
    "app.kubernetes.io/name": "pelorus-gateway",
    "app.kubernetes.io/component": "gateway",
}


@pytest.fixture(params=[*OVERLAYS, "redelivery"], name="objects")
def _objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """Each overlay, and one with the component that none has by itself."""
    if request.param in OVERLAYS:
        return overlay(request.param)
    folder = tmp_path_factory.mktemp("redelivery")
    relative = Path(os.path.relpath(MANIFESTS, folder))
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "namespace": "pelorus-gateway",
                "resources": [str(relative / "overlays/sqlite")],
                "components": [str(relative / "components/redelivery")],
                "images": [{"name": "pelorus-gateway", "newTag": "0.1.0"}],
            }
        )
    )
    return kubernetes.rendered(folder)


def container(objects: Objects) -> Any:
    """The one container of the pod that serves."""
    (one,) = objects.gateway()["spec"]["containers"]
    return one


def test_every_folder_is_part_of_an_overlay_or_of_a_page() -> None:
    """No component is left over."""
    used = {
        name
        for file in [*MANIFESTS.rglob("kustomization.yaml"), *(DOCS / "how-to").glob("*.md")]
        for name in re.findall(r"- \.\./(?:\S*/)?(base|[\w-]+)$", file.read_text(), re.MULTILINE)
    }
    folders = {file.parent.name for file in MANIFESTS.rglob("kustomization.yaml")}
    assert folders - set(OVERLAYS) <= used


def test_every_file_is_used() -> None:
    """Each file of a folder is named by its kustomization."""
    for file in MANIFESTS.rglob("*.yaml"):
        beside = (file.parent / "kustomization.yaml").read_text()
        assert file.name == "kustomization.yaml" or f"{file.name}\n" in beside, file


@pytest.mark.parametrize("release", RELEASES)
def test_every_object_is_of_its_schema(objects: Objects, release: str) -> None:
    """Without a key that the oldest or the newest release of Kubernetes does not know."""
    for one in objects:
        kubernetes.validate(one, release)


def test_a_key_that_does_not_exist_is_found(objects: Objects) -> None:
    """The validation is strict, of custom resources as well."""
    for kind in ("Service", "NetworkPolicy", "ServiceMonitor", "PrometheusRule"):
        one = objects.of(kind)[0]
        with pytest.raises(Exception, match=r"unexpected|unknown"):
            kubernetes.validate({**one, "spec": {**one["spec"], "mistake": 1}}, RELEASES[0])


def test_everything_is_in_one_namespace(objects: Objects) -> None:
    """The gateway's own, which admits restricted pods alone; or that of Pelorus, which is there."""
    namespaces = {one["metadata"].get("namespace") for one in objects if one["kind"] != "Namespace"}
    (name,) = namespaces
    if name == "pelorus":
        assert not objects.of("Namespace")
        return
    labels = objects["Namespace", str(name)]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("rule", RESTRICTED)
def test_pods_are_restricted(objects: Objects, rule: str) -> None:
    """As the Pod Security standard asks, and somewhat more; no user is named, so that OpenShift gives one.
    Row 55 of the table in docs/explanation/security.md."""
    for kind, template in objects.templates().items():
        assert RESTRICTED[rule](template["spec"]), kind


def test_openshift_assigns_the_group(objects: Objects) -> None:
    """A group that is named would be refused there; elsewhere the volume needs one."""
    has_volume = bool(objects.of("StatefulSet"))
    is_openshift = bool(objects.of("Route"))
    assert ("fsGroup" in objects.gateway()["spec"]["securityContext"]) == (
        has_volume and not is_openshift
    )


def test_images_have_the_version_of_this_repository(objects: Objects) -> None:
    """One tag in the overlay names the image of every pod."""
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    images = {
        one["image"]
        for template in objects.templates().values()
        for one in template["spec"]["containers"]
    }
    assert images == {f"pelorus-gateway:{version[1]}"}


def test_what_is_mounted_and_read_is_there(objects: Objects) -> None:
    """ConfigMaps are rendered, Secrets are created by the how-to page, claims are of the StatefulSet."""
    page = (DOCS / "how-to/run-in-kubernetes.md").read_text()
    secrets = set(re.findall(r"create secret (?:generic|tls) ([\w-]+)", page))
    keys = set(re.findall(r"--from-literal=(\w+)=", page))
    for template in objects.templates().values():
        spec = template["spec"]
        (one,) = spec["containers"]
        provided = {volume["name"] for volume in spec.get("volumes", [])}
        for workload in objects.of("StatefulSet"):
            if workload["spec"]["template"] is template:
                provided |= {
                    claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]
                }
        assert {mount["name"] for mount in one["volumeMounts"]} == provided
        assert not any("subPath" in mount for mount in one["volumeMounts"])
        writable = {mount["name"] for mount in one["volumeMounts"] if not mount.get("readOnly")}
        assert writable <= {"journal"}
        for volume in spec.get("volumes", []):
            match volume:
                case {"configMap": {"name": name}}:
                    assert ("ConfigMap", name) in objects
                case {"secret": {"secretName": name, "defaultMode": mode}}:
                    assert name in secrets
                    assert mode == 0o440
                case _:
                    pytest.fail(f"a volume of no known source: {volume}")
        for source in one.get("envFrom", []):
            assert ("ConfigMap", source["configMapRef"]["name"]) in objects
        for variable in one.get("env", []):
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["name"] in secrets
            assert reference["key"] in keys
    for ingress in objects.of("Ingress"):
        assert {tls["secretName"] for tls in ingress["spec"]["tls"]} <= secrets


def test_probes_ask_the_internal_port(objects: Objects) -> None:
    """Only readiness asks whether deliveries are taken: a restart mends no full disk."""
    one = container(objects)
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    assert ports == {"public": 8080, "internal": 8081}
    asked = {kind: one[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert asked == {
        "startup": {"path": "/-/healthy", "port": "internal"},
        "liveness": {"path": "/-/healthy", "port": "internal"},
        "readiness": {"path": "/-/ready", "port": "internal"},
    }


def test_a_pod_has_the_time_that_it_needs_to_end(objects: Objects) -> None:
    """It drains, then finishes what is in flight, then commits."""
    settings = objects.settings()
    (default,) = [one.default for one in OPTIONS if one.variable == "GATEWAY_SHUTDOWN_TIMEOUT"]
    drain = float(settings["GATEWAY_DRAIN"])
    shutdown = float(settings.get("GATEWAY_SHUTDOWN_TIMEOUT", default))
    assert drain > 0
    grace = objects.gateway()["spec"]["terminationGracePeriodSeconds"]
    assert grace >= drain + shutdown + 5


def test_services_and_budgets_select_the_gateway_alone(objects: Objects) -> None:
    """Not the pods of jobs; each workload selects its own."""
    templates = objects.templates()
    labels = {kind: template["metadata"]["labels"] for kind, template in templates.items()}
    serving = [kind for kind in labels if kind != "CronJob"]
    selectors = [
        *({"matchLabels": one["spec"]["selector"]} for one in objects.of("Service")),
        *(
            one["spec"]["selector"]
            for one in objects.of("StatefulSet", "Deployment", "PodDisruptionBudget", "PodMonitor")
        ),
    ]
    for selector in selectors:
        assert [kind for kind in labels if selects(selector, labels[kind])] == serving
    spread = objects.gateway()["spec"].get("topologySpreadConstraints", [])
    assert all(selects(one["labelSelector"], labels[serving[0]]) for one in spread)


def test_the_services_are_apart(objects: Objects) -> None:
    """Deliveries and metrics have a Service each, and only deliveries are led in from outside."""
    for name, port in (("public", 8080), ("internal", 8081)):
        service = objects["Service", f"gateway-{name}"]["spec"]
        assert service["ports"] == [{"name": name, "port": port, "targetPort": name}]
        assert "type" not in service
    leads = [
        *(
            (path["backend"]["service"]["name"], path["backend"]["service"]["port"]["name"])
            for ingress in objects.of("Ingress")
            for rule in ingress["spec"]["rules"]
            for path in rule["http"]["paths"]
        ),
        *(
            (route["spec"]["to"]["name"], route["spec"]["port"]["targetPort"])
            for route in objects.of("Route")
        ),
    ]
    assert leads == [("gateway-public", "public")]


def test_network_policies_close_what_they_do_not_open(objects: Objects) -> None:
    """Every pod is closed in both directions; each port is open to one place. Row 55."""
    policies = [one["spec"] for one in objects.of("NetworkPolicy")]
    templates = objects.templates()
    for template in templates.values():
        labels = template["metadata"]["labels"]
        mine = [policy for policy in policies if selects(policy["podSelector"], labels)]
        closed = [policy for policy in mine if not policy.keys() & {"ingress", "egress"}]
        assert [policy["policyTypes"] for policy in closed] == [["Ingress", "Egress"]]
    opened: dict[Any, list[Any]] = {}
    for policy in policies:
        for rule in policy.get("ingress", []):
            assert selects(policy["podSelector"], GATEWAY)
            assert rule["from"]
            for port in rule["ports"]:
                opened.setdefault(port["port"], []).extend(rule["from"])
    assert {port: len(places) for port, places in opened.items()} == {"public": 1, "internal": 1}
    assert opened["public"] != opened["internal"]


def test_nothing_leaves_but_what_must(objects: Objects) -> None:
    """A gateway with SQLite reaches nothing; one with PostgreSQL its database and DNS; the job HTTPS and DNS."""
    dns = {53, 5353}
    expected = {"StatefulSet": set(), "Deployment": {5432} | dns, "CronJob": {443} | dns}
    for kind, template in objects.templates().items():
        reached = {
            port["port"]
            for policy in objects.of("NetworkPolicy")
            if selects(policy["spec"]["podSelector"], template["metadata"]["labels"])
            for rule in policy["spec"].get("egress", [])
            for port in rule["ports"]
        }
        assert reached == expected[kind], kind


def test_a_sqlite_journal_has_one_gateway() -> None:
    """One pod, one volume that no other pod may have at the same time, and a mended template that comes through."""
    for name in ("sqlite", "openshift"):
        spec = overlay(name)["StatefulSet", "gateway"]["spec"]
        assert spec["replicas"] == 1
        assert spec["podManagementPolicy"] == "Parallel"
        (claim,) = spec["volumeClaimTemplates"]
        assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
        assert ("Service", spec["serviceName"]) in overlay(name)
        mounts = {one["name"]: one["mountPath"] for one in container(overlay(name))["volumeMounts"]}
        journal = Path(kubernetes.in_the_image("GATEWAY_JOURNAL").removeprefix("sqlite:///"))
        assert journal.is_relative_to(mounts[claim["metadata"]["name"]])


def test_postgresql_always_has_a_gateway() -> None:
    """Two of them, apart from each other; neither an upgrade nor a drained node ends the last."""
    objects = overlay("postgresql")
    spec = objects["Deployment", "gateway"]["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert objects["PodDisruptionBudget", "gateway"]["spec"]["minAvailable"] == 1
    spread = {one["topologyKey"] for one in spec["template"]["spec"]["topologySpreadConstraints"]}
    assert spread == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    (variable,) = container(objects)["env"]
    assert variable["name"] == "GATEWAY_JOURNAL"


def test_every_variable_exists(objects: Objects) -> None:
    """The manifests set settings of `serve` and nothing else."""
    names = {*objects.settings(), *(one["name"] for one in container(objects).get("env", []))}
    assert names <= {option.variable for option in OPTIONS}


# Monitoring


def test_the_rules_are_those_of_the_files(objects: Objects) -> None:
    """Rule by rule."""
    for name in kubernetes.RULE_FILES:
        rules = yaml.safe_load((DOCS / f"prometheus/{name}.yaml").read_text())
        assert objects["PrometheusRule", f"gateway-{name}"]["spec"] == rules


def test_the_file_of_rules_is_current() -> None:
    """`UPDATE_GOLDEN=1` writes it anew."""
    file = MANIFESTS / "components/monitoring/prometheusrules.yaml"
    made = kubernetes.rules_of_the_operator()
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(made)
    assert file.read_text() == made


def test_the_dashboards_are_those_of_the_files(objects: Objects) -> None:
    """Each in a ConfigMap that Grafana's sidecar finds, small enough for `kubectl apply`."""
    found: dict[str, str] = {}
    for one in objects.of("ConfigMap"):
        if one["metadata"].get("labels", {}).get("grafana_dashboard") == "1":
            found |= one["data"]
    assert {name: json.loads(text) for name, text in found.items()} == kubernetes.dashboards()
    assert all(len(text) < 262_144 for text in found.values())
    for one in objects.of("GrafanaDashboard"):
        reference = one["spec"]["configMapRef"]
        assert reference["key"] in objects["ConfigMap", reference["name"]]["data"]
        assert one["metadata"]["labels"] == {"app": "grafana"}


def test_the_scrape_is_not_rarer_than_the_gateway_expects(objects: Objects) -> None:
    """The interval of every monitor is at most GATEWAY_SCRAPE_INTERVAL."""
    expected = int(objects.settings()["GATEWAY_SCRAPE_INTERVAL"])
    for monitor in objects.of("ServiceMonitor", "PodMonitor"):
        spec = monitor["spec"]
        for endpoint in spec.get("endpoints", spec.get("podMetricsEndpoints")):
            assert int(endpoint["interval"].removesuffix("s")) <= expected
            assert endpoint["port"] == "internal"


def test_the_monitor_finds_the_internal_service(objects: Objects) -> None:
    """And no other."""
    selector = objects["ServiceMonitor", "gateway"]["spec"]["selector"]
    services = objects.of("Service")
    found = [one for one in services if selects(selector, one["metadata"].get("labels", {}))]
    assert [one["metadata"]["name"] for one in found] == ["gateway-internal"]


def test_replicas_are_one_target_and_tell_of_themselves_apart() -> None:
    """The events of both from one path, and the counters of each from another."""
    objects = overlay("postgresql")
    (series,) = objects["ServiceMonitor", "gateway"]["spec"]["endpoints"]
    (process,) = objects["PodMonitor", "gateway"]["spec"]["podMetricsEndpoints"]
    assert (series["path"], process["path"]) == ("/metrics/series", "/metrics/process")
    for name in ("sqlite", "openshift"):
        (whole,) = overlay(name)["ServiceMonitor", "gateway"]["spec"]["endpoints"]
        assert whole["path"] == "/metrics"
        assert not overlay(name).of("PodMonitor")


@pytest.mark.parametrize("name", ["postgresql", "openshift"])
def test_prometheus_makes_one_target_of_all_pods(name: str, tmp_path: Path) -> None:
    """A real one, given two pods as the Operator's discovery would: the Service's address, and labels that stay."""
    program = require_program("prometheus")
    objects = overlay(name)
    namespace = objects["ServiceMonitor", "gateway"]["metadata"]["namespace"]
    job = kubernetes.scrape_config(objects["ServiceMonitor", "gateway"])
    job["static_configs"] = [
        {
            "targets": [f"10.0.0.{number}:8081"],
            "labels": {
                "__meta_kubernetes_service_name": "gateway-internal",
                "__meta_kubernetes_namespace": namespace,
                "namespace": namespace,
                "pod": f"gateway-{number}",
                "container": "gateway",
                "endpoint": "internal",
                "service": "gateway-internal",
            },
        }
        for number in (1, 2)
    ]
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump({"scrape_configs": [job]}))
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        (target,) = eventually(lambda: _active_targets(port), timeout=30)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
    assert target["labels"] == {"instance": "pelorus-gateway", "job": "gateway"}
    path = job["metrics_path"]
    assert target["scrapeUrl"] == f"http://gateway-internal.{namespace}.svc:8081{path}"


def _active_targets(port: int) -> list[Any]:
    try:
        answer = request(port, "GET", "/api/v1/targets?state=active")
    except (OSError, http.client.HTTPException):
        return []
    targets: list[Any] = answer.json()["data"]["activeTargets"] if answer.status == 200 else []
    return targets


# The pod, run as a process


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_a_gateway_starts_with_the_settings_of_the_pod(name: str, tmp_path: Path) -> None:
    """Its folders mounted elsewhere: probes are answered, monitors read, and it ends within its grace."""
    objects = overlay(name)
    environment = dict(objects.settings())
    for variable, value in environment.items():
        if value.startswith("/etc/gateway/"):
            folder = tmp_path / Path(value).name
            folder.mkdir()
            environment[variable] = str(folder)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for variable, value in SECRETS.items():
        (secrets / variable).write_text(value)
    environment["GATEWAY_SECRETS"] = str(secrets)
    gateway = Gateway(tmp_path, environment=environment).start()
    try:
        one = container(objects)
        for kind in ("startup", "liveness", "readiness"):
            assert gateway.get(one[f"{kind}Probe"]["httpGet"]["path"]).status == 200
        for monitor in objects.of("ServiceMonitor", "PodMonitor"):
            spec = monitor["spec"]
            for endpoint in spec.get("endpoints", spec.get("podMetricsEndpoints")):
                assert gateway.get(endpoint["path"]).status == 200, endpoint["path"]
        assert gateway.github("ping", {"zen": "Design for failure."}).status == 202
    finally:
        before = time.monotonic()
        code = gateway.stop()
    assert code == 0
    assert time.monotonic() - before < objects.gateway()["spec"]["terminationGracePeriodSeconds"]
