"""The how-to page for one host: its unit, its proxies and its scrape are taken by the programs that read them."""

import contextlib
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.options import OPTIONS
from tests import samples
from tests.documentation import DOCS, fences
from tests.harness import (
    GITHUB_SECRET,
    Answer,
    Gateway,
    eventually,
    free_port,
    hub_signature,
    require_program,
    running,
)

PAGE = DOCS / "how-to/run-on-one-host.md"
UNIT = "etc/systemd/system/pelorus-gateway.service"
NGINX = "etc/nginx/conf.d/pelorus-gateway.conf"
CADDY = "etc/caddy/Caddyfile"
HOST = "webhooks.example.com"
NOW = 1_790_000_000


def file(path: str) -> str:
    """A file that the page has its reader write."""
    (text,) = [one.text for one in fences(PAGE.read_text()) if f"file: {path}" in one.marks]
    return text


def run(*command: str) -> str:
    """The output of a program that finds nothing wrong."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def settings() -> dict[str, str]:
    """The variables that the unit sets."""
    return dict(re.findall(r"^Environment=(\w+)=(.*)$", file(UNIT), re.MULTILINE))


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """It knows every key and value; only the program is another one, as the page's is not installed here."""
    text = file(UNIT).replace("/opt/pelorus-gateway/bin/gateway", "/bin/true")
    unit = tmp_path / "pelorus-gateway.service"
    unit.write_text(text)
    said = run(require_program("systemd-analyze"), "verify", "--man=no", str(unit))
    assert "pelorus-gateway" not in said, said


def test_the_service_is_kept_from_what_it_does_not_need(tmp_path: Path) -> None:
    """systemd's own measure of exposure, from 0 to 10, is below 2."""
    unit = tmp_path / "pelorus-gateway.service"
    unit.write_text(file(UNIT))
    program = require_program("systemd-analyze")
    said = run(program, "security", "--offline=true", "--threshold=20", "--no-pager", str(unit))
    assert "Overall exposure level" in said


def test_the_unit_sets_what_exists() -> None:
    """Settings of `serve`; it stops later than the gateway does by itself."""
    known = {option.variable: option for option in OPTIONS}
    assert {name for name in settings() if name.startswith("GATEWAY_")} <= known.keys()
    match = re.search(r"^TimeoutStopSec=(\d+)$", file(UNIT), re.MULTILINE)
    assert match
    assert int(match[1]) > float(known["GATEWAY_SHUTDOWN_TIMEOUT"].default)


def test_the_gateway_lives_without_writable_code(tmp_path: Path) -> None:
    """As under the unit's MemoryDenyWriteExecute: it serves where no memory is both written and run."""
    code = (
        "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True);"
        "libc.prctl(65, 1, 0, 0, 0) and sys.exit('no PR_SET_MDWE');"
        "os.execv(sys.executable, [sys.executable, '-m', 'gateway', *sys.argv[1:]])"
    )
    with running(tmp_path, program=(sys.executable, "-c", code)) as gateway:
        answer = gateway.github("push", samples.github_push("octo/shop", samples.SHA, NOW))
        assert answer.json()["outcome"] == "accepted"


def test_promtool_takes_the_scrape_config(tmp_path: Path) -> None:
    """It names the unit's internal address."""
    config = tmp_path / "prometheus.yml"
    config.write_text(file("etc/prometheus/prometheus.yml"))
    run(require_program("promtool"), "check", "config", str(config))
    assert f'["{settings()["GATEWAY_INTERNAL_LISTEN"]}"]' in config.read_text()


def test_the_backup_names_the_journal_of_the_unit() -> None:
    """And the how-to of Kubernetes tests the same commands."""
    assert f"--journal {settings()['GATEWAY_JOURNAL']}\n" in PAGE.read_text()


def test_commands_run_as_the_service_does(tmp_path: Path) -> None:
    """With the user, folder, program and files of the unit, by options that systemd-run has."""
    text = file("usr/local/sbin/pelorus-gateway")
    script = tmp_path / "pelorus-gateway"
    script.write_text(text)
    run("sh", "-n", str(script))
    unit = dict(re.findall(r"^(\w+)=(.*)$", file(UNIT), re.MULTILINE))
    assert f"--uid={unit['User']} --gid={unit['Group']} " in text
    assert f"--working-directory={unit['WorkingDirectory']} " in text
    assert f"--property=EnvironmentFile={unit['EnvironmentFile']} " in text
    assert f'    {unit["ExecStart"].removesuffix("serve")}"$@"\n' in text
    known = run(require_program("systemd-run"), "--help")
    command = re.sub(r"\$\(.*\)", "", text.partition("exec systemd-run ")[2].partition("/opt/")[0])
    for option in re.findall(r"(?<=\s)--[a-z-]+", f" {command}"):
        assert f"{option} " in known or f"{option}=" in known, option


# The proxies


class Proxy:
    """A proxy that leads to a gateway."""

    def __init__(self, port: int, authority: Path | None) -> None:
        self.port = port
        self._authority = authority

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request, over TLS where the proxy ends it."""
        connection: http.client.HTTPConnection
        if self._authority is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        else:
            context = ssl.create_default_context(cafile=str(self._authority))
            connection = http.client.HTTPSConnection(
                "localhost", self.port, timeout=20, context=context
            )
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {"Host": HOST, **named})
            return Answer(connection.getresponse())
        finally:
            connection.close()


@contextlib.contextmanager
def nginx(folder: Path, target: int) -> Iterator[Proxy]:
    """nginx with the page's server, its ports and certificates elsewhere."""
    program = require_program("nginx")
    key, certificate = folder / "privkey.pem", folder / "fullchain.pem"
    run(
        *(require_program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"),
        *("-keyout", str(key), "-out", str(certificate)),
    )
    port = free_port()
    server = file(NGINX)
    for old, new in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("    listen [::]:443 ssl;\n", ""),
        (f"/etc/letsencrypt/live/{HOST}", str(folder)),
        (settings()["GATEWAY_LISTEN"], f"127.0.0.1:{target}"),
    ):
        assert old in server
        server = server.replace(old, new)
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{places}{server}}}\n"
    )
    command = (program, "-p", str(folder), "-c", str(config))
    run(*command, "-t")
    with _process(folder, command):
        yield Proxy(port, certificate)


@contextlib.contextmanager
def caddy(folder: Path, target: int) -> Iterator[Proxy]:
    """Caddy with the page's site over plain HTTP: certificates are its own affair."""
    program = require_program("caddy")
    port = free_port()
    site = file(CADDY)
    for old, new in (
        (f"{HOST} {{", f"http://{HOST}:{port} {{"),
        (settings()["GATEWAY_LISTEN"], f"127.0.0.1:{target}"),
    ):
        assert old in site
        site = site.replace(old, new)
    config = folder / "Caddyfile"
    config.write_text(f"{{\n\tadmin off\n}}\n{site}")
    command = ("--adapter", "caddyfile", "--config", str(config))
    run(program, "validate", *command)
    with _process(folder, (program, "run", *command)):
        yield Proxy(port, None)


@contextlib.contextmanager
def _process(folder: Path, command: tuple[str, ...]) -> Iterator[None]:
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with (folder / "proxy.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


@pytest.fixture(params=[nginx, caddy], name="behind")
def _behind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Proxy, Gateway]]:
    with running(tmp_path) as gateway, request.param(tmp_path, gateway.public) as proxy:

        def is_there() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return bool(proxy.ask("GET", "/healthz").status == 200)
            return False

        eventually(is_there)
        yield proxy, gateway


def test_a_delivery_comes_through_a_proxy(behind: tuple[Proxy, Gateway]) -> None:
    """Signed over its bytes, larger than the proxy's default limit and below the gateway's; and it counts."""
    proxy, gateway = behind
    push = samples.github_push("octo/shop", samples.SHA, NOW)
    body = json.dumps({**push, "padding": "x" * 8_000_000}).encode()
    answer = proxy.ask(
        "POST",
        "/hooks/github",
        body,
        Content_Type="application/json",
        X_GitHub_Event="push",
        X_GitHub_Delivery="d-1",
        X_Hub_Signature_256=hub_signature(body, GITHUB_SECRET),
    )
    assert (answer.status, answer.json()["outcome"]) == (202, "accepted")
    assert any(samples.SHA in series for series in gateway.samples())


def test_a_proxy_refuses_what_the_gateway_would(behind: tuple[Proxy, Gateway]) -> None:
    """A body over 25 MiB."""
    proxy, _ = behind
    body = b"x" * (26 << 20)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        assert proxy.ask("POST", "/hooks/github", body).status in {400, 413}


def test_a_proxy_leads_to_deliveries_alone(behind: tuple[Proxy, Gateway]) -> None:
    """Nothing of the internal listener, nor anything else."""
    proxy, _ = behind
    for path in ("/", "/metrics", "/-/ready", "/-/reload", "/hooks", "/hooks/../metrics"):
        assert proxy.ask("GET", path).status in {400, 404}, path
