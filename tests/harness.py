"""What tests share: a real gateway process, signed deliveries, and what a machine may lack."""

import contextlib
import fcntl
import hashlib
import hmac
import http.client
import io
import itertools
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
CORPUS = Path(os.environ.get("GATEWAY_TEST_CORPUS", ROOT / "../shared/corpus")).resolve()
REQUIRE_ALL = "GATEWAY_TEST_REQUIRE_ALL"
"""Set where every service must be there: a skip for a lack is then a failure."""

GITHUB_SECRET = "a test secret for github"
GITLAB_SECRET = "a test secret for gitlab"
JIRA_SECRET = "a test secret for jira"
PELORUS_SECRET = "My Secret Token"
SECRETS = {
    "GITHUB_WEBHOOK_SECRET": GITHUB_SECRET,
    "GITLAB_WEBHOOK_SECRET": GITLAB_SECRET,
    "JIRA_WEBHOOK_SECRET": JIRA_SECRET,
    "PELORUS_WEBHOOK_SECRET": PELORUS_SECRET,
}


def lacking(what: str) -> None:
    """Skips for something that this machine lacks, or fails where nothing may be lacking."""
    if os.environ.get(REQUIRE_ALL):
        pytest.fail(f"{what} is missing, and {REQUIRE_ALL} is set", pytrace=False)
    pytest.skip(f"{what} is missing")


def require_program(name: str) -> str:
    """The path of a program that a test needs."""
    path = shutil.which(name)
    if path is None:
        lacking(f"the program {name}")
    return str(path)


def require_corpus() -> Path:
    """The folder of real payloads."""
    if not CORPUS.is_dir():
        lacking(f"the corpus of payloads ({CORPUS})")
    return CORPUS


PORTS = range(12_000, 32_000)
"""Below those that systems give to outgoing connections, any of which may take a port at any moment."""
PORTS_OF_ONE = 250
"""How many of them a process of tests has for itself."""


@cache
def _own_ports() -> Iterator[int]:
    """The ports of this process, over and over: a block that it holds locked until it ends, so that
    no other process of tests hands them out."""
    folder = Path(tempfile.gettempdir()) / f"pelorus-gateway-ports-{os.geteuid()}"
    folder.mkdir(exist_ok=True)
    for first in PORTS[::PORTS_OF_ONE]:
        lock = os.open(folder / str(first), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return itertools.cycle(range(first, first + PORTS_OF_ONE))
    pytest.fail(f"all blocks of ports are taken ({folder})")


def free_port() -> int:
    """A port that nothing listens on, and that this process was not given for as long as possible."""
    for port in itertools.islice(_own_ports(), PORTS_OF_ONE):
        with socket.socket() as probe:
            # As servers do: connections that ended a moment ago are no hindrance.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("", port))
                return port
    pytest.fail(f"no port of {PORTS} that this process may use is free")


def eventually(check: Callable[[], Any], timeout: float = 60, every: float = 0.1) -> Any:
    """The first truthy answer of `check`; fails with the last answer where none comes in time."""
    deadline = time.monotonic() + timeout
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"did not come true within {timeout} seconds; last answer: {answer!r}")
        time.sleep(every)


class Answer:
    """An HTTP answer."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:300]!r}>"


def request(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, dict(headers or {}))
        return Answer(connection.getresponse())
    finally:
        connection.close()


def hub_signature(body: bytes, secret: str) -> str:
    """`sha256=` and the HMAC of a body, as GitHub, Jira and Pelorus sign."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class Gateway:
    """A gateway process: `gateway serve` with a journal, secrets and ports of its own. A start may take
    `patience` seconds, and is looked at `every` so many."""

    patience: float = 15
    every: float = 0.1

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "gateway"),
    ) -> None:
        self.folder = folder
        self.program = program
        self.public = free_port()
        self.internal = free_port()
        self.arguments = arguments
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GATEWAY_", "GITHUB_", "GITLAB_", "JIRA_", "PELORUS_"))
        }
        self.environment = {
            **inherited,
            **(SECRETS if environment is None else environment),
            "PYTHONUNBUFFERED": "1",
        }
        self.process: subprocess.Popen[str] | None = None
        self._log = folder / "gateway.log"

    @property
    def output(self) -> str:
        """All that the process has printed so far, over every start."""
        return self._log.read_text() if self._log.exists() else ""

    def start(self) -> "Gateway":
        """Starts the process and waits until it takes deliveries."""
        command = [
            *self.program,
            "serve",
            *("--listen", f"127.0.0.1:{self.public}"),
            *("--internal-listen", f"127.0.0.1:{self.internal}"),
            *self.arguments,
        ]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
        eventually(self._ready, self.patience, self.every)
        return self

    def _ready(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            pytest.fail(f"the gateway ended with {self.process.returncode}:\n{self.output}")
        with contextlib.suppress(OSError):
            return self.get("/-/ready").status == 200
        return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends the process with a signal; its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        self.process = None
        return code

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """A request to the internal listener."""
        return request(self.internal, "GET", path, headers=headers)

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """A request to the public listener, as JSON where no other type is given."""
        given = {"Content-Type": "application/json", **(headers or {})}
        return request(self.public, "POST", path, body, given)

    def github(
        self, event: str, payload: Any, delivery: str = "", secret: str = GITHUB_SECRET
    ) -> Answer:
        """A signed delivery as GitHub sends it; `payload` is a value, or the bytes themselves."""
        body = _bytes(payload)
        headers = {"X-GitHub-Event": event, "X-Hub-Signature-256": hub_signature(body, secret)}
        if delivery:
            headers["X-GitHub-Delivery"] = delivery
        return self.post("/hooks/github", body, headers)

    def gitlab(self, payload: Any, delivery: str = "") -> Answer:
        """A delivery as GitLab sends it."""
        headers = {"X-Gitlab-Token": GITLAB_SECRET, "X-Gitlab-Event": "Push Hook"}
        if delivery:
            headers["Idempotency-Key"] = delivery
        return self.post("/hooks/gitlab", _bytes(payload), headers)

    def jira(self, payload: Any, delivery: str = "") -> Answer:
        """A signed delivery as Jira sends it."""
        body = _bytes(payload)
        headers = {"X-Hub-Signature": hub_signature(body, JIRA_SECRET)}
        if delivery:
            headers["X-Atlassian-Webhook-Identifier"] = delivery
        return self.post("/hooks/jira", body, headers)

    def pelorus(self, event: str, payload: Any) -> Answer:
        """A signed delivery to Pelorus's own route, as a Pelorus sender posts it."""
        body = _bytes(payload)
        headers = {
            "User-Agent": "Pelorus-Webhook/test",
            "X-Pelorus-Event": event,
            "X-Hub-Signature-256": hub_signature(body, PELORUS_SECRET),
        }
        return self.post("/pelorus/webhook", body, headers)

    def samples(self) -> dict[str, tuple[float, int]]:
        """The scrape's samples of events: series to (value, sample time in milliseconds)."""
        found = {}
        for line in self.get("/metrics").body.decode().splitlines():
            match = re.fullmatch(r"(\w+\{.*\}) (\S+) (\d{13})", line)
            if match:
                found[match[1]] = (float(match[2]), int(match[3]))
        return found

    def counter(self, series: str) -> float:
        """A counter of the gateway's own, 0 where it is not exposed yet."""
        for line in self.get("/metrics").body.decode().splitlines():
            if line.startswith(series + " "):
                return float(line.rpartition(" ")[2])
        return 0.0


def _bytes(payload: Any) -> bytes:
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


@contextlib.contextmanager
def running(
    folder: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = (sys.executable, "-m", "gateway"),
) -> Iterator[Gateway]:
    """A gateway for the length of a block."""
    gateway = Gateway(folder, *arguments, environment=environment, program=program)
    try:
        yield gateway.start()
    finally:
        if gateway.process is not None:
            gateway.stop(signal.SIGKILL)


def run_process(
    *arguments: str,
    cwd: Path = ROOT,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """One run of the `gateway` command as a process, to its end."""
    command = [sys.executable, "-m", "gateway", *arguments]
    return run_to_end(command, cwd, environment, input=stdin)


def run_to_end(
    command: Sequence[str],
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    **more: Any,
) -> subprocess.CompletedProcess[str]:
    """One run of a command that may be the `gateway` of this repository, wherever it is run; `more` is for
    `subprocess.run`."""
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        encoding="utf-8",
        timeout=120,
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
    )


def run_cli(
    *arguments: str,
    cwd: Path = ROOT,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """The same within this process, in a tenth of the time; not for what a process has to itself, as its
    signals, its threads and its log."""
    given = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)
    )
    with pytest.MonkeyPatch.context() as here:
        here.chdir(cwd)
        # As wide as what is no terminal.
        for name, value in {"COLUMNS": "80", **(environment or {})}.items():
            here.setenv(name, value)
        for name, stream in (("stdin", given), ("stdout", out), ("stderr", err)):
            here.setattr(sys, name, stream)
        try:
            code: object = main(arguments)
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int), code
    out.flush()
    err.flush()
    # Line ends as they are read from a process.
    printed, told = (
        stream.detach().getvalue().decode().replace("\r\n", "\n") for stream in (out, err)
    )
    return subprocess.CompletedProcess(["gateway", *arguments], code, printed, told)
