"""The image: built from the Containerfile on a base made here, and run as platforms run it.

The base, a small Debian, and the wheels are kept in the folder named by GATEWAY_TEST_CACHE; images and
containers lie in a storage of their own, which goes with the tests.
"""

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import kubernetes
from tests import test_how_to_kubernetes as how_to
from tests.harness import (
    GITHUB_SECRET,
    ROOT,
    Gateway,
    eventually,
    free_port,
    hub_signature,
    lacking,
    require_program,
)
from tests.test_killed import KILLS, LIMITS, survives

# Whichever process of tests runs one of these runs them all: the image is built but once.
pytestmark = pytest.mark.xdist_group("image")

CACHE = Path(
    os.environ.get("GATEWAY_TEST_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pelorus-gateway-tests"
)
LOCKS = ("requirements.txt", "requirements-build.txt", "requirements-dev.txt")
SUITE = "bookworm"
GATEWAY_VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DOCKER_STOP = 10
"""Seconds that `docker stop` waits before it kills, unless told otherwise."""
ANY_USER = 1_234_567


class Mount(NamedTuple):
    """A folder of this machine at a path of the container."""

    folder: Path
    target: str
    writable: bool = False


_ISOLATED = (
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc"),
    "--kill-child",
)
"""What runs a program as the first process of a container, with a view of the mounts of its own."""


class Image:
    """The built image, its configuration, and the root of one container made from it."""

    def __init__(self, root: Path, inspected: Any) -> None:
        self.root = root
        self.config = inspected["OCIv1"]["config"]
        self.docker = inspected["Docker"]["config"]
        pairs = (pair.partition("=") for pair in self.config["Env"])
        self.environment = {name: value for name, _, value in pairs}

    def command(
        self,
        arguments: Sequence[str],
        mounts: Sequence[Mount] = (),
        user: int = ANY_USER,
        groups: Sequence[int] = (),
    ) -> list[str]:
        """What runs a program in the container, as its process 1: see tests/entering.py."""
        task = {
            "root": str(self.root),
            "folder": self.config["WorkingDir"],
            "arguments": list(arguments),
            "mounts": [(str(one.folder), one.target, one.writable) for one in mounts],
            "user": user,
            "groups": list(groups),
        }
        here = [sys.executable, str(ROOT / "tests/entering.py"), json.dumps(task)]
        return [*_ISOLATED, *here]

    def run(
        self, *arguments: str, mounts: Sequence[Mount] = (), environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """One run of a program to its end."""
        return subprocess.run(
            self.command(arguments, mounts),
            cwd=ROOT,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


class Container(Gateway):
    """A gateway in the image; its ports are the machine's, so each listener gets a free one."""

    def __init__(
        self,
        folder: Path,
        image: Image,
        *arguments: str,
        mounts: Sequence[Mount],
        environment: Mapping[str, str] | None = None,
        user: int = ANY_USER,
        groups: Sequence[int] = (),
    ) -> None:
        super().__init__(folder)
        # The address is the image's own; only the port is changed, as publishing it would.
        internal_host = image.environment["GATEWAY_INTERNAL_LISTEN"].rpartition(":")[0]
        self.environment = {
            **image.environment,
            "GATEWAY_LISTEN": f"0.0.0.0:{self.public}",
            "GATEWAY_INTERNAL_LISTEN": f"{internal_host}:{self.internal}",
            **(environment or {}),
        }
        inside = [*image.config["Entrypoint"], *(arguments or image.config["Cmd"])]
        self._command = image.command(inside, mounts, user, groups)

    def launch(self) -> subprocess.Popen[str]:
        """Starts the process, and does not wait for anything."""
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
        return self.process

    def start(self) -> "Container":
        self.launch()
        eventually(self._ready, timeout=60)
        return self

    @property
    def first(self) -> int:
        """Process 1 of the container, as this machine numbers it."""
        assert self.process is not None
        outside = self.process.pid
        return int(eventually(lambda: children(outside))[0])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends process 1 with a signal, as a runtime does; its exit code."""
        assert self.process is not None
        for pid in children(self.process.pid):
            os.kill(pid, number)
        code = self.process.wait(timeout=60)
        self.process = None
        return code


def children(pid: int) -> list[int]:
    """The processes that a process started and has not waited for."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


# The base, the wheels and the image


class Storage:
    """buildah with a storage of its own; `vfs` and `chroot` ask nothing of the machine but root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str, timeout: float = 300) -> str:
        own = ("--root", self.folder / "root", "--runroot", self.folder / "run")
        finished = subprocess.run(
            ["buildah", "--storage-driver", "vfs", *own, *arguments],
            cwd=ROOT,
            env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if finished.returncode:
            pytest.fail(f"buildah {' '.join(arguments)}:\n{finished.stdout}\n{finished.stderr}")
        return finished.stdout.strip()


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The image, built once without network, and one container of it."""
    for program in ("buildah", "debootstrap", "unshare", "mount", "tar"):
        require_program(program)
    if os.geteuid() != 0:
        lacking("the right to be root")
    if subprocess.run([*_ISOLATED, "true"], timeout=30, check=False).returncode:
        lacking("the right to mount, or to number processes anew")
    with _cache_locked():
        base = _base()
        wheels = _wheels(base)
    folder = Path(tempfile.mkdtemp(prefix="gateway-image-"))
    buildah = Storage(folder)
    try:
        _import(buildah, base)
        tag = "localhost/pelorus-gateway:test"
        # `docker` is the format that keeps HEALTHCHECK; the rest is the same in both.
        buildah(
            *("build", "--format", "docker", "--pull-never", "--network", "none"),
            *("--volume", f"{wheels}:/mnt:ro", "--build-arg", f"BASE={_BASE}"),
            *("--build-arg", "PIP_NO_INDEX=1", "--build-arg", "PIP_FIND_LINKS=/mnt"),
            *(word for name, value in GIVEN.items() for word in ("--build-arg", f"{name}={value}")),
            *("--tag", tag, "--file", "Containerfile", "."),
            timeout=600,
        )
        container = buildah("from", "--pull-never", tag)
        inspected = json.loads(buildah("inspect", "--type", "image", tag))
        yield Image(Path(buildah("mount", container)), inspected)
    finally:
        # Images and containers are plain folders here: `vfs` mounts nothing.
        shutil.rmtree(folder, ignore_errors=True)


_BASE = "localhost/python-base:test"
GIVEN = {
    "REVISION": "6dcb09b5b57875f334f61aebed695e2e4193db5e",
    "CREATED": "2026-11-20T10:00:00Z",
    "SOURCE": "https://git.example/pelorus-gateway",
    "DOCUMENTATION": "https://docs.example/pelorus-gateway",
}
"""What whoever builds says of the build."""


@contextlib.contextmanager
def _cache_locked() -> Iterator[None]:
    """One run at a time fills the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("wb") as lock:
        deadline = time.monotonic() + 900
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    pytest.fail(f"another run holds {CACHE}")
                time.sleep(1)
        yield


def _base() -> Path:
    """A tar of Debian with Python and its venv module, in the cache."""
    tar = CACHE / f"{SUITE}.tar"
    if tar.exists():
        return tar
    with tempfile.TemporaryDirectory(prefix="gateway-base-") as folder:
        include = "--include=python3,python3-venv,ca-certificates"
        # What debootstrap mounts goes with the mount namespace, even where it is stopped half-way.
        made = subprocess.run(
            ["unshare", "--mount", "debootstrap", "--variant=minbase", include, SUITE, folder],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if made.returncode:
            lacking(f"a Debian mirror ({_last_line(made.stdout + made.stderr)})")
        partial = tar.with_suffix(".partial")
        left_out = (
            *("./proc/*", "./sys/*", "./dev/*", "./var/cache/apt/*", "./var/lib/apt/lists/*"),
            *("./usr/share/doc/*", "./usr/share/locale/*", "./usr/share/man/*"),
        )
        subprocess.run(
            ["tar", "-C", folder, "-cf", partial, *(f"--exclude={one}" for one in left_out), "."],
            check=True,
            timeout=300,
        )
        partial.rename(tar)
    return tar


def _wheels(base: Path) -> Path:
    """A folder with every locked wheel for the base's Python, in the cache."""
    listed = subprocess.run(
        ["tar", "-tf", base], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    found = re.search(r"^\./usr/bin/python(3\.\d+)$", listed, re.MULTILINE)
    assert found
    locks = [ROOT / "requirements.txt", ROOT / "requirements-build.txt"]
    digest = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()
    folder = CACHE / f"wheels-{found[1]}-{digest[:16]}"
    if folder.exists():
        return folder
    if importlib.util.find_spec("pip") is None:
        lacking("pip beside the tests' Python")
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        partial = Path(temporary) / "wheels"
        fetched = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes"),
                *("--only-binary", ":all:", "--python-version", found[1], "--dest", partial),
                *(word for lock in locks for word in ("-r", str(lock))),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if "DO NOT MATCH THE HASHES" in fetched.stderr:
            pytest.fail(fetched.stderr)
        if fetched.returncode:
            lacking(f"a package index ({_last_line(fetched.stderr)})")
        partial.rename(folder)
    return folder


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1]


def _import(buildah: Storage, base: Path) -> None:
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(base), "/")
    buildah("commit", "--quiet", "--rm", "--disable-compression", container, _BASE)


# What a platform mounts


@pytest.fixture
def data(tmp_path: Path) -> Mount:
    """The volume as OpenShift gives it: the root user's, writable for group 0."""
    folder = tmp_path / "volume"
    folder.mkdir()
    folder.chmod(0o770)
    return Mount(folder, "/data", writable=True)


def projected(folder: Path, files: Mapping[str, str], target: str) -> Mount:
    """Files as a ConfigMap or a Secret is mounted: links to a generation in a hidden folder."""
    generation = folder / "..2026_11_20_10_00_00.1"
    generation.mkdir(parents=True)
    for name, text in files.items():
        (generation / name).write_text(text)
        (generation / name).chmod(0o440)
        (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data").symlink_to(generation.name)
    return Mount(folder, target)


@pytest.fixture
def secrets(tmp_path: Path, image: Image) -> Mount:
    """A mounted Secret, where the image looks for it."""
    files = {"GITHUB_WEBHOOK_SECRET": GITHUB_SECRET, "TRAIN_SECRET": "a secret for the train"}
    return projected(tmp_path / "secrets", files, image.environment["GATEWAY_SECRETS"])


@contextlib.contextmanager
def started(container: Container) -> Iterator[Container]:
    """A container for the length of a block."""
    try:
        yield container.start()
    finally:
        if container.process is not None:
            container.stop(signal.SIGKILL)


COMMIT = "6dcb09b5b57875f334f61aebed695e2e4193db5e"


def deployment(environment: str = "production") -> dict[str, Any]:
    """GitHub's delivery of a deployment that succeeded, with what the mapping reads of it."""
    return {
        "repository": {"full_name": "acme/shop"},
        "deployment": {"sha": COMMIT, "environment": environment, "payload": {}},
        "deployment_status": {"state": "success", "created_at": "2026-11-20T10:00:00Z"},
    }


def deployments(gateway: Gateway) -> dict[str, tuple[float, int]]:
    """The scrape's samples of deployments."""
    samples = gateway.samples().items()
    return {series: value for series, value in samples if series.startswith("deploy_timestamp{")}


# Running it


def test_any_user_of_group_0_serves_from_a_read_only_root(
    tmp_path: Path, image: Image, data: Mount, secrets: Mount
) -> None:
    """A delivery becomes a series, which is there again, the same, after kill -9; and the delivery, when
    it comes again, is a duplicate. Row 55 of the table in docs/explanation/security.md."""
    with started(Container(tmp_path, image, mounts=[data, secrets])) as gateway:
        told = ("deployment_status", deployment(), "a delivery")
        assert gateway.github(*told).json()["outcome"] == "accepted"
        before = eventually(lambda: deployments(gateway))
        assert len(before) == 1
        gateway.stop(signal.SIGKILL)
        gateway.start()
        assert eventually(lambda: deployments(gateway)) == before
        assert gateway.github(*told).json()["outcome"] == "duplicate"
        assert deployments(gateway) == before
        assert gateway.stop(signal.SIGTERM) == 0
    journal = (data.folder / "journal.sqlite").stat()
    assert (journal.st_uid, journal.st_gid) == (ANY_USER, 0)


def test_whatever_was_acknowledged_survives_kills(
    tmp_path: Path, image: Image, data: Mount, secrets: Mount
) -> None:
    """Under senders that retry, nothing acknowledged is lost, doubled or altered."""
    arguments = ("serve", "--scrape-interval", "0", *LIMITS)
    with started(Container(tmp_path, image, *arguments, mounts=[data, secrets])) as gateway:
        survives(gateway, data.folder / "journal.sqlite", KILLS // 2)


def test_a_stop_ends_before_a_runtime_loses_patience(
    tmp_path: Path, image: Image, data: Mount, secrets: Mount
) -> None:
    """A sender that is half-way and goes no further holds the end up for less than the ten seconds after
    which `docker stop` kills; what comes meanwhile is kept."""
    with started(Container(tmp_path, image, mounts=[data, secrets])) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.public)) as slow:
            slow.sendall(b"POST /hooks/github HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
            os.kill(gateway.first, signal.SIGTERM)
            eventually(lambda: gateway.get("/-/ready").status == 503)
            assert gateway.github("deployment_status", deployment()).status == 202
            assert gateway.process is not None
            assert gateway.process.wait(timeout=DOCKER_STOP) == 0
    with started(gateway):
        assert eventually(lambda: deployments(gateway))


def test_a_stop_during_the_start_ends_it(tmp_path: Path, image: Image, data: Mount) -> None:
    """A gateway whose workers are not ready yet ends at a SIGTERM, too, and they end with it: for process 1
    of a container the kernel has no default."""
    container = Container(tmp_path, image, "serve", "--workers", "2", mounts=[data])
    try:
        container.launch()
        workers = eventually(lambda: _others(container, ()), every=0.01)
        os.kill(container.first, signal.SIGTERM)
        assert container.process is not None
        assert container.process.wait(timeout=DOCKER_STOP) == 128 + signal.SIGTERM
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
        assert "is ready" not in container.output
    finally:
        container.stop(signal.SIGKILL)


def test_workers_serve_are_replaced_and_end(
    tmp_path: Path, image: Image, data: Mount, secrets: Mount
) -> None:
    """`--workers` starts the environment's own Python; a worker that dies leaves no zombie; a stop ends
    all. A module on the volume is nobody's."""
    for name in ("json.py", "gateway.py", "urllib.py"):
        (data.folder / name).write_text("raise SystemExit(9)\n")
    arguments = ("serve", "--workers", "2")
    with started(Container(tmp_path, image, *arguments, mounts=[data, secrets])) as gateway:
        assert gateway.github("deployment_status", deployment()).status == 202
        before = children(gateway.first)
        assert len(before) == 2
        for pid in before:
            program = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
            assert program.startswith(b"/opt/gateway/bin/python")
        os.kill(before[0], signal.SIGKILL)
        after = eventually(lambda: _others(gateway, before))
        assert before[0] not in after
        assert gateway.github("deployment_status", deployment("live")).status == 202
        assert gateway.stop() == 0
        assert [pid for pid in (*before, *after) if Path(f"/proc/{pid}").exists()] == []


def _others(container: Container, before: Sequence[int]) -> list[int]:
    """The workers, as soon as there are two and one of them is new."""
    now = children(container.first)
    return now if len(now) == 2 and now != list(before) else []


def test_the_image_s_own_user_serves_without_secrets(
    tmp_path: Path, image: Image, data: Mount
) -> None:
    """The volume's owner in the image may write it; an absent folder of secrets is no error."""
    user, group = (int(number) for number in image.config["User"].split(":"))
    assert (user, group) == (1001, 0)
    own = (image.root / "data").stat()
    assert (own.st_uid, own.st_gid, own.st_mode & 0o777) == (1001, 0, 0o770)
    os.chown(data.folder, own.st_uid, own.st_gid)
    with started(Container(tmp_path, image, mounts=[data], user=user)) as gateway:
        assert gateway.get("/-/healthy").status == 200
        assert "no source is live" in gateway.output


def test_new_secrets_can_lie_on_the_volume(tmp_path: Path, image: Image, data: Mount) -> None:
    """To try the image, no secret need be prepared: every bundled source is live."""
    folder = {"GATEWAY_SECRETS": "/data/secrets"}
    arguments = ("serve", "--new-secrets")
    container = Container(tmp_path, image, *arguments, mounts=[data], environment=folder)
    with started(container) as gateway:
        assert "wait for a secret" not in gateway.output
    assert (data.folder / "secrets/GITHUB_WEBHOOK_SECRET").read_text()


def test_a_mounted_folder_of_mappings_adds_a_source(
    tmp_path: Path, image: Image, data: Mount, secrets: Mount
) -> None:
    """A ConfigMap's folder is read through its links, and each mapping once."""
    mapping = {
        "source": "train",
        "title": "Release train",
        "authenticate": {
            "scheme": "hmac",
            "header": "X-Train-Signature",
            "prefix": "sha256=",
            "secret": {"env": "TRAIN_SECRET"},
        },
        "event": "body.type",
        "rules": [
            {
                "name": "a release reached production",
                "when": "event == 'released'",
                "emit": "deploytime",
                "fields": {"app": "body.app", "commit": "body.commit", "timestamp": "body.at"},
            }
        ],
    }
    target = "/etc/gateway/mappings"
    mappings = projected(tmp_path / "mappings", {"train.yaml": yaml.safe_dump(mapping)}, target)
    container = Container(
        tmp_path,
        image,
        mounts=[data, secrets, mappings],
        environment={"GATEWAY_MAPPINGS": target},
    )
    with started(container) as gateway:
        release = {"type": "released", "app": "till", "commit": COMMIT, "at": 1_763_632_800}
        body = json.dumps(release).encode()
        signature = hub_signature(body, "a secret for the train")
        answer = gateway.post("/hooks/train", body, {"X-Train-Signature": signature})
        assert (answer.status, answer.json()["outcome"]) == (202, "accepted")
        assert 'app="/till/"' in next(iter(eventually(lambda: deployments(gateway))))


def test_the_how_to_s_pod_runs(tmp_path: Path, image: Image) -> None:
    """What the page's reader applies, with its ConfigMaps, Secret and volume, takes both kinds of delivery."""
    objects = kubernetes.rendered(
        how_to.written("run-in-kubernetes", tmp_path / "clone") / "deploy"
    )
    pod = objects.gateway()["spec"]
    (spec,) = pod["containers"]
    group = pod["securityContext"]["fsGroup"]
    places = {mount["name"]: mount["mountPath"] for mount in spec["volumeMounts"]}
    claim = tmp_path / "claim"
    claim.mkdir()
    secret_files = {
        name: f"a secret for {name}" for name in how_to.secret_names("run-in-kubernetes")
    }
    mounts = [
        Mount(claim, places["journal"], writable=True),
        *(
            projected(
                tmp_path / name,
                objects["ConfigMap", f"gateway-{name}"].get("data", {}),
                places[name],
            )
            for name in ("mappings", "schemas")
        ),
        projected(tmp_path / "secrets", secret_files, places["secrets"]),
    ]
    # What fsGroup does to volumes, and to the process.
    for path in (claim, *(tmp_path / "secrets").rglob("*")):
        os.chown(path, 0, group)
    claim.chmod(0o2770)
    for file in (tmp_path / "mappings").rglob("*.yaml"):
        file.chmod(0o644)
    container = Container(
        tmp_path,
        image,
        *spec["args"],
        mounts=mounts,
        environment=objects.settings(),
        user=1001,
        groups=[group],
    )
    with started(container) as gateway:
        secret = secret_files["GITHUB_WEBHOOK_SECRET"]
        assert gateway.github("deployment_status", deployment("live"), "", secret).status == 202
        release = {
            "type": "released",
            "service": "till",
            "commit": COMMIT,
            "environment": "production",
            "finished_at": "2026-11-20T11:00:00Z",
        }
        body = json.dumps(release).encode()
        signature = hub_signature(body, secret_files["RELEASE_TRAIN_WEBHOOK_SECRET"])
        answer = gateway.post("/hooks/release-train", body, {"X-Train-Signature": signature})
        assert (answer.status, answer.json()["outcome"]) == (202, "accepted")
        eventually(lambda: len(deployments(gateway)) == 2)
        assert _probes(gateway, spec) == {"startup": 200, "liveness": 200, "readiness": 200}


def _probes(gateway: Gateway, spec: Any) -> dict[str, int]:
    kinds = ("startup", "liveness", "readiness")
    return {kind: gateway.get(spec[f"{kind}Probe"]["httpGet"]["path"]).status for kind in kinds}


def test_only_the_volume_can_be_written(image: Image, data: Mount) -> None:
    """The root is read-only here, even where anyone may write; the volume is not. Row 55."""
    program = (
        "import pathlib\n"
        "for folder in ('/tmp', '/data'):\n"
        "    try: (pathlib.Path(folder) / 'x').touch(); print(0)\n"
        "    except OSError as error: print(error.errno)\n"
    )
    ran = image.run("python", "-c", program, mounts=[data], environment={})
    assert ran.stdout.split() == [str(errno.EROFS), "0"], ran.stderr


def test_without_a_volume_it_says_so(image: Image) -> None:
    """On a read-only root without a volume, one sentence tells what cannot be written."""
    listen = {
        "GATEWAY_LISTEN": f"127.0.0.1:{free_port()}",
        "GATEWAY_INTERNAL_LISTEN": f"127.0.0.1:{free_port()}",
    }
    ran = image.run("gateway", "serve", environment=listen)
    assert ran.returncode == 2
    assert ran.stderr.startswith("gateway: ")
    assert "/data/journal.sqlite" in ran.stderr


def test_the_health_check_asks_the_process(
    tmp_path: Path, image: Image, data: Mount, secrets: Mount
) -> None:
    """The image's health check succeeds while the gateway runs, and fails when it does not."""
    kind, *check = image.docker["Healthcheck"]["Test"]
    assert kind == "CMD"
    with started(Container(tmp_path, image, mounts=[data, secrets])) as gateway:
        assert image.run(*check, environment=gateway.environment).returncode == 0
        gateway.stop(signal.SIGTERM)
        assert image.run(*check, environment=gateway.environment).returncode != 0


# What is in it


def test_the_configuration_is_what_platforms_expect(image: Image) -> None:
    """`gateway serve` with the journal on the one volume, both ports, and labels of this version."""
    config = image.config
    assert (config["Entrypoint"], config["Cmd"]) == (["gateway"], ["serve"])
    assert set(config["Volumes"]) == {"/data"}
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8081/tcp"}
    own = {name: value for name, value in image.environment.items() if "GATEWAY" in name}
    assert own == {
        "GATEWAY_JOURNAL": "sqlite:////data/journal.sqlite",
        "GATEWAY_INTERNAL_LISTEN": "0.0.0.0:8081",
        "GATEWAY_DRAIN": "5",
        "GATEWAY_SHUTDOWN_TIMEOUT": "3",
        "GATEWAY_SECRETS": "/run/secrets/gateway",
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "org.opencontainers.image."
    labels = config["Labels"].items()
    assert {name.removeprefix(prefix): value for name, value in labels if prefix in name} == {
        "title": "Pelorus gateway",
        "description": project["description"],
        "licenses": project["license"],
        "version": project["version"],
        "base.name": _BASE,
        **{name.lower(): value for name, value in GIVEN.items()},
    }


def test_it_holds_what_runs_and_nothing_else(image: Image) -> None:
    """No compiler, no installer, no build tool, no tests, no caches, nothing of the build."""
    folders = [
        image.root / folder for folder in ("usr", "opt", "root", "tmp", "mnt", "build", "data")
    ]
    paths = [path for folder in folders for path in folder.rglob("*")]
    programs = {path.name for path in paths if path.parent.name in ("bin", "sbin")}
    unwanted = (
        r"(cc|c\+\+|gcc|g\+\+|clang|cpp|ld|as|make|cmake|cargo|rustc|git|pip|uv|hatch)[-\d.]*"
    )
    assert [name for name in programs if re.fullmatch(unwanted, name)] == []
    installed = image.root / "opt/gateway"
    packages = {path.name.partition("-")[0] for path in installed.rglob("*.dist-info")}
    assert {canonicalize_name(name) for name in packages} == _expected()
    libraries = ("site-packages", "dist-packages")
    modules = {path.name for path in paths if path.parent.name in libraries}
    assert modules.isdisjoint({"pip", "setuptools", "wheel", "hatchling", "pytest", "mypy"})
    assert [path for path in paths if path.name == "ensurepip"] == []
    assert [path for path in paths if path.suffix in (".whl", ".gz") and "/opt/" in str(path)] == []
    assert [path for path in installed.rglob("*") if path.name in ("tests", "conftest.py")] == []
    for emptied in ("root/.cache", "build", "tmp", "mnt", "data"):
        assert list((image.root / emptied).glob("*")) == []
    assert not (image.root / "build").exists()


def _expected() -> set[str]:
    """The packages that are in the image: the gateway, and what is locked but for what is left out."""
    text = (ROOT / "Containerfile").read_text()
    left_out = re.search(r"uninstall --yes ([^&]+?)\n[A-Z]", text)
    assert left_out
    names = set(left_out[1].replace("\\", "").split())
    locked = set(_pins("requirements.txt"))
    windows_only = {"colorama", "tzdata"}
    assert locked > names | windows_only
    return {"pelorus-gateway"} | locked - names - windows_only


def test_nothing_that_is_left_out_is_missed(image: Image) -> None:
    """Every module of the gateway can be imported in the image, those of its extras, too."""
    program = (
        "import gateway, importlib, pkgutil\n"
        "for one in pkgutil.walk_packages(gateway.__path__, 'gateway.'):\n"
        "    if one.name != 'gateway.__main__': importlib.import_module(one.name); print(one.name)\n"
        "import jwt.algorithms, psycopg, psycopg_binary, re2\n"
        "assert jwt.algorithms.has_crypto\n"
    )
    ran = image.run("python", "-c", program, environment={})
    assert ran.returncode == 0, ran.stderr
    assert {"gateway.journal.postgres", "gateway.oidc"} <= set(ran.stdout.split())


def test_its_sbom_lists_what_is_installed(image: Image) -> None:
    """A valid CycloneDX document, with each package and its version as it is in the image."""
    text = (image.root / "opt/gateway/sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    parts = [*bom["components"], bom["metadata"]["component"]]
    listed = {one["name"]: one["version"] for one in parts}
    pins = _pins("requirements.txt")
    assert listed.keys() == _expected()
    assert {name: pins.get(name, GATEWAY_VERSION) for name in listed} == listed
    assert len({one["purl"] for one in parts}) == len(parts)


def test_nothing_in_it_is_writable_for_the_group(image: Image) -> None:
    """A user of group 0 can change no file of the program, read-only root or not. Row 55."""
    loose = [
        path
        for path in (image.root / "opt").rglob("*")
        if not path.is_symlink() and path.stat().st_mode & 0o022
    ]
    assert loose == []


def test_the_bundled_mappings_are_in_it(image: Image) -> None:
    """`gateway check` finds nothing wrong with what the image bundles."""
    ran = image.run("gateway", "check", environment={})
    assert ran.returncode == 0, ran.stdout + ran.stderr


# The lock files


def _pins(lock: str) -> dict[str, str]:
    """The locked versions by name."""
    text = (ROOT / lock).read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_version_has_hashes(lock: str) -> None:
    """Each line pins one version and at least one hash, and tells of no index or folder. A package may
    have several lines, each for other Pythons. Row 54."""
    text = (ROOT / lock).read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    assert [entry for entry in entries if not re.match(r"[a-z0-9-]+==\S+ ", entry)] == []
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert (
        re.findall(r"(?:https?|file):|--(?:extra-)?index-url|--find-links|(?<=\s)/\S+", text) == []
    )


def test_the_locks_satisfy_the_project() -> None:
    """Every requirement of pyproject.toml is locked at a version that it allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    runtime = project["project"]["dependencies"]
    build = [*groups["build"], *project["build-system"]["requires"]]
    dev = [one for one in groups["dev"] if isinstance(one, str)]
    for lock, wanted in zip(LOCKS, (runtime, build, [*runtime, *build, *dev]), strict=True):
        pins = _pins(lock)
        for requirement in map(Requirement, wanted):
            pin = pins.get(canonicalize_name(requirement.name), "none")
            assert requirement.specifier.contains(pin), f"{lock}: {requirement}, but {pin}"


def test_the_locks_agree() -> None:
    """What is tested is what is built and run: the same versions in every lock."""
    dev = _pins("requirements-dev.txt").items()
    assert _pins("requirements.txt").items() <= dev
    assert _pins("requirements-build.txt").items() <= dev
