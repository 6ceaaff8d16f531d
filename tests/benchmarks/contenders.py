"""The servers that are compared, each started as its users would start it and held to one core."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.cli.options import OPTIONS
from tests.benchmarks import deliveries
from tests.benchmarks.load import CLIENT_CORE, CORES, SERVER_CORE, Server, Start, pinned
from tests.harness import (
    GITHUB_SECRET,
    ROOT,
    Gateway,
    eventually,
    free_port,
    lacking,
    require_program,
)

OCTOKIT = "@octokit/webhooks@14.2.0"


@contextlib.contextmanager
def bare(folder: Path) -> Iterator[Server]:
    """An application on uvicorn that reads the body and answers."""
    command = [sys.executable, "-m", "tests.benchmarks.bare"]
    with _listening(folder, command, cwd=ROOT) as (port, pid):
        yield Server(port, pid, deliveries.pushes)


def gateway(*arguments: str, cores: Sequence[int] = (SERVER_CORE,)) -> Start:
    """The gateway, with more arguments of `serve` if need be."""

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Server]:
        program = (
            "taskset",
            "--cpu-list",
            ",".join(map(str, cores)),
            sys.executable,
            "-m",
            "gateway",
        )
        environment = {"GITHUB_WEBHOOK_SECRET": GITHUB_SECRET}
        process = Gateway(folder, *arguments, environment=environment, program=program)
        try:
            process.start()
            assert process.process is not None

            def check(answered: int) -> None:
                # What was under way when the load ended is kept as well; workers tell a moment later.
                accepted = 'gateway_deliveries_total{outcome="accepted",source="github"}'
                eventually(lambda: process.counter(accepted) >= answered)

            yield Server(
                process.public, process.process.pid, deliveries.pushes, check, is_distinct=True
            )
        finally:
            process.stop()

    return start


@contextlib.contextmanager
def workers(folder: Path, number: int) -> Iterator[Server]:
    """The gateway with so many workers, on all cores."""
    if "--workers" not in {option.flag for option in OPTIONS}:
        lacking("`gateway serve --workers`")
    with gateway("--workers", str(number), cores=CORES)(folder) as server:
        yield server


@contextlib.contextmanager
def with_postgresql(folder: Path) -> Iterator[Server]:
    """The gateway with its journal in PostgreSQL, which has the core of the load client: with many
    deliveries in a commit it needs little."""
    (journal,) = (option for option in OPTIONS if option.flag == "--journal")
    if "postgresql://" not in journal.help:
        lacking("`gateway serve --journal postgresql://`")
    with postgresql(folder) as url, gateway("--journal", url)(folder) as server:
        yield server


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A database of its own, as durable as PostgreSQL is by default; its URL."""
    require_program("initdb")
    data, port = folder / "postgresql", free_port()
    data.mkdir()
    # The server refuses to run as root.
    user: tuple[str, ...] = ()
    if os.geteuid() == 0:
        user = ("runuser", "-u", "postgres", "--")
        shutil.chown(data, "postgres")
        folder.chmod(0o755)
    _quietly(*user, "initdb", "--auth=trust", "--username=postgres", f"--pgdata={data}")
    settings = f"-p {port} -k {data} -c listen_addresses=127.0.0.1"
    control = (*user, "pg_ctl", "--wait", f"--pgdata={data}")
    _quietly(*pinned(CLIENT_CORE), *control, "-o", settings, f"--log={data}/log", "start")
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        _quietly(*control, "--mode=immediate", "stop")


@contextlib.contextmanager
def webhook(folder: Path) -> Iterator[Server]:
    """adnanh/webhook with the same HMAC rule, and a second rule that holds for no delivery: the
    signature is verified, and no command is run."""
    program = require_program("webhook")
    hmac = {
        "type": "payload-hmac-sha256",
        "secret": GITHUB_SECRET,
        "parameter": {"source": "header", "name": "X-Hub-Signature-256"},
    }
    never = {
        "type": "value",
        "value": "never",
        "parameter": {"source": "header", "name": "X-GitHub-Event"},
    }
    hook = {
        "id": "github",
        "execute-command": "/bin/true",
        "trigger-rule": {"and": [{"match": hmac}, {"match": never}]},
        "trigger-rule-mismatch-http-response-code": 202,
    }
    hooks = folder / "hooks.json"
    hooks.write_text(json.dumps([hook]))
    command = [program, "-hooks", str(hooks), "-ip", "127.0.0.1", "-port"]
    with _listening(folder, command) as (port, pid):
        yield Server(port, pid, deliveries.pushes)


@contextlib.contextmanager
def pushgateway(folder: Path) -> Iterator[Server]:
    """prometheus-pushgateway as it comes, which keeps what is pushed in memory."""
    program = require_program("prometheus-pushgateway")
    port = free_port()
    command = [program, "--log.level=error", f"--web.listen-address=127.0.0.1:{port}"]
    with _listening(folder, command, port=port) as (_, pid):
        yield Server(port, pid, deliveries.series)


@contextlib.contextmanager
def octokit(folder: Path) -> Iterator[Server]:
    """node with GitHub's own library."""
    node, npm = require_program("node"), require_program("npm")
    script = Path(__file__).with_name("octokit.mjs")
    shutil.copy(script, folder)
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", OCTOKIT]
    if subprocess.run(install, cwd=folder, capture_output=True, check=False).returncode:
        lacking(f"the npm package {OCTOKIT}")
    command = [node, script.name]
    with _listening(folder, command, GITHUB_SECRET, cwd=folder) as (port, pid):
        yield Server(port, pid, deliveries.pushes)


@contextlib.contextmanager
def _listening(
    folder: Path, command: Sequence[str], *more: str, port: int = 0, cwd: Path | None = None
) -> Iterator[tuple[int, int]]:
    """A program on the server's core, once it listens; its port and its process. Without a `port`
    it is told one, between its arguments."""
    told = [] if port else [str(free_port())]
    port = port or int(told[0])
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*pinned(SERVER_CORE), *command, *told, *more],
            cwd=cwd or folder,
            stdout=log,
            stderr=log,
        )

    def listens() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} ended:\n{(folder / 'server.log').read_text()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    try:
        eventually(listens)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def _quietly(*command: str) -> None:
    run = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{run.stdout}{run.stderr}")
