"""`gateway serve`, `send` and `schema` as a person uses them: start, refuse, try, stop, start again."""

import gzip
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.cli.main import COMMANDS
from gateway.cli.options import OPTIONS
from gateway.mapping import library
from tests import samples
from tests.harness import GITHUB_SECRET, ROOT, SECRETS, Gateway, free_port, run_process, running

SOURCES = sorted(library.bundled_sources())
MAPPING = """\
source: shop
authenticate: {scheme: bearer, secret: {env: SHOP_SECRET}}
params: {environments: [production], strict: true, depth: 3, name: x}
rules:
  - name: a deployment
    when: contains(params.environments, body.env) && params.strict && params.depth && params.name
    emit: deploytime
    fields: {app: body.app, commit: body.commit, timestamp: body.at}
"""


def _serve(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A `gateway serve` that is expected to end by itself."""
    ports = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    command = ["serve", "--listen", ports[0], "--internal-listen", ports[1], *arguments]
    return run_process(*command, cwd=folder, environment=environment or {})


# Starting


def test_the_terminal_says_what_is_served_and_what_to_try(tmp_path: Path) -> None:
    """URLs, live sources, how many others wait, and the next commands."""
    with running(tmp_path, environment={"GITHUB_WEBHOOK_SECRET": GITHUB_SECRET}) as gateway:
        output = gateway.output
        assert f"http://127.0.0.1:{gateway.public}/hooks/github" in output
        assert f"http://127.0.0.1:{gateway.internal}/metrics" in output
        assert f"    github  live  http://127.0.0.1:{gateway.public}/hooks/github\n" in output
        waiting = len(SOURCES) - 1
        assert f"{waiting} bundled sources wait for a secret: `python -m gateway sources" in output
        assert "/hooks/gitlab" not in output
        assert f"python -m gateway send github --url http://127.0.0.1:{gateway.public}" in output
        assert GITHUB_SECRET not in output
        assert gateway.counter('gateway_source_live{source="github"}') == 1
        assert gateway.counter('gateway_source_live{source="gitlab"}') == 0
        assert gateway.gitlab(samples.gitlab_push("g/a", samples.SHA, 1)).status == 401


def test_new_secrets_make_every_bundled_source_live(tmp_path: Path) -> None:
    """Random, readable by their owner alone, the same at the next start, and used by `send`."""
    with running(tmp_path, "--new-secrets", environment={}) as gateway:
        folder = tmp_path / "data" / "secrets"
        written = {path.name: path.read_text() for path in folder.iterdir()}
        names = {name: text for name, text in written.items() if name.endswith("_USERNAME")}
        secrets = {name: text for name, text in written.items() if name not in names}
        assert len(secrets) == len(SOURCES)
        assert all(len(text.strip()) == 64 for text in secrets.values())
        assert names["TEAMCITY_WEBHOOK_USERNAME"] == "teamcity\n"
        told = f"wrote {len(written)} new secrets to data/secrets, readable by their owner alone\n"
        assert gateway.output.startswith(told)
        assert "wait for a secret" not in gateway.output
        assert len(set(written.values())) == len(written)
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
        url = f"http://127.0.0.1:{gateway.public}"
        for source in SOURCES:
            assert gateway.counter(f'gateway_source_live{{source="{source}"}}') == 1
        for source in ("github", "teamcity", "jenkins", "pelorus"):
            sent = run_process("send", source, "--url", url, cwd=tmp_path)
            assert "202 accepted" in sent.stdout, sent
        assert any(series.startswith("deploy_timestamp") for series in gateway.samples())
        gateway.stop()
        gateway.start()
        assert {path.name: path.read_text() for path in folder.iterdir()} == written


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    """Of its variable's name, in the secrets folder; one line break at its end is not part of it."""
    secrets = tmp_path / "mounted"
    secrets.mkdir()
    (secrets / "GITHUB_WEBHOOK_SECRET").write_text(GITHUB_SECRET + "\n")
    with running(tmp_path, "--secrets", str(secrets), environment={}) as gateway:
        assert gateway.github("ping", {}).status == 202


def test_params_come_from_the_environment(tmp_path: Path) -> None:
    """`<SOURCE>_PARAM_<NAME>`, a list separated by commas."""
    environment = {**SECRETS, "GITHUB_PARAM_ENVIRONMENTS": "live, eu-live"}
    with running(tmp_path, environment=environment) as gateway:
        for name, outcome in (("eu-live", "accepted"), ("production", "ignored")):
            payload = samples.github_deployment("octo/a", samples.SHA, 1_790_000_000, name)
            answer = gateway.github("deployment_status", payload)
            assert answer.json()["outcome"] == outcome


def test_params_come_from_a_file(tmp_path: Path) -> None:
    """A mapping that extends the bundled one of the same name."""
    (tmp_path / "github.yaml").write_text(
        "source: github\nextends: github\nparams: {environments: [live]}\n"
    )
    with running(tmp_path, "--mappings", str(tmp_path)) as gateway:
        payload = samples.github_deployment("octo/a", samples.SHA, 1_790_000_000, "live")
        answer = gateway.github("deployment_status", payload)
        assert answer.json()["outcome"] == "accepted"


# Refusing to start


def test_what_check_refuses_serve_refuses_with_the_same_text(tmp_path: Path) -> None:
    """And with the same exit code, 1."""
    path = tmp_path / "shop.yaml"
    path.write_text(MAPPING.replace("contains(", "contians("))
    checked = run_process("check", "shop.yaml", cwd=tmp_path)
    served = _serve(tmp_path, "--mappings", "shop.yaml", environment={"SHOP_SECRET": "s" * 20})
    assert checked.returncode == served.returncode == 1
    assert checked.stdout == served.stderr
    assert "did you mean `contains`" in served.stderr
    assert not (tmp_path / "data").exists()


def test_a_mapping_of_the_user_s_needs_its_secret(tmp_path: Path) -> None:
    """It is meant to be served, so it is an error, at its place."""
    (tmp_path / "shop.yaml").write_text(MAPPING)
    served = _serve(tmp_path, "--mappings", "shop.yaml")
    assert served.returncode == 1
    assert "shop.yaml:2:1: error[secret-not-set]" in served.stderr
    assert run_process("check", "shop.yaml", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--listen", "nonsense"], {}, "--listen is `nonsense`, expected host:port"),
        ([], {"GATEWAY_WINDOW": "soon"}, "GATEWAY_WINDOW is `soon`, expected a number"),
        (["--window", "7200"], {}, "--window is `7200`, expected a number from 10 to 3500"),
        (
            ["--keep-events", "20"],
            {},
            "--keep-events is shorter than --keep-deliveries: a replay would count again what is forgotten",
        ),
        (["--window", "30"], {}, "--scrape-interval is `60`, expected a number from 0 to 30"),
        (["--journal", "mysql://x"], {}, "--journal is `mysql://x`, expected sqlite:///PATH"),
        (["--mappings", "nowhere"], {}, "cannot read nowhere: No such file"),
        ([], {"GITHUB_WEBHOOK_SECRET": "short"}, "shorter than 16 bytes"),
        ([], {"GITHUB_PARAM_ENVIROMENTS": "x"}, "did you mean `GITHUB_PARAM_ENVIRONMENTS`"),
        (["--journal", "sqlite:////proc/j.sqlite"], {}, "cannot write the journal"),
    ],
)
def test_wrong_settings_are_one_sentence(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], words: str
) -> None:
    """That names the setting, its value and what it takes; exit code 2."""
    served = _serve(tmp_path, *arguments, environment=environment)
    assert served.returncode == 2
    assert words in served.stderr
    assert len(served.stderr.splitlines()) == 1
    assert served.stderr.startswith("gateway: ")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [("STRICT", "maybe", "expected true or false"), ("DEPTH", "deep", "expected a number")],
)
def test_a_param_has_the_type_of_its_default(
    tmp_path: Path, variable: str, value: str, words: str
) -> None:
    """Or the gateway does not start."""
    (tmp_path / "shop.yaml").write_text(MAPPING)
    environment = {"SHOP_SECRET": "s" * 20, f"SHOP_PARAM_{variable}": value}
    served = _serve(tmp_path, "--mappings", "shop.yaml", environment=environment)
    assert served.returncode == 2
    assert words in served.stderr


def test_a_second_gateway_says_what_is_in_use(gateway: Gateway) -> None:
    """The port, or the journal."""
    port = f"127.0.0.1:{gateway.public}"
    served = run_process("serve", "--listen", port, cwd=gateway.folder)
    assert (served.returncode, len(served.stderr.splitlines())) == (2, 1)
    assert f"cannot listen on {port}: Address already in use" in served.stderr
    served = _serve(gateway.folder)
    assert served.returncode == 2
    assert "in use by another gateway" in served.stderr


# Stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(gateway: Gateway, number: int) -> None:
    """Exit code 0, no traceback, also with a connection that never ends its request."""
    gateway.github("ping", {})
    with socket.create_connection(("127.0.0.1", gateway.internal), timeout=5) as idle:
        idle.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
        assert gateway.stop(number) == 0
    assert "Traceback" not in gateway.output
    assert gateway.output.rstrip().endswith("stopped")


def test_an_upload_that_never_ends_does_not_keep_it_from_stopping(tmp_path: Path) -> None:
    """Its sender is asked to try again, and the gateway ends within its time."""
    with running(tmp_path, "--shutdown-timeout", "1") as gateway:
        with socket.create_connection(("127.0.0.1", gateway.public), timeout=20) as sender:
            sender.sendall(
                b"POST /hooks/github HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            gateway.get("/-/ready")
            assert gateway.stop() == 0
            assert sender.recv(4096).startswith(b"HTTP/1.1 503 ")
    assert "Traceback" not in gateway.output


# The internal listener


def test_metrics_come_in_the_format_that_is_asked_for(shared_gateway: Gateway) -> None:
    """Text, OpenMetrics, and either compressed."""
    shared_gateway.github("issues", samples.github_issue("octo/a", 1, "opened", 1_790_000_000))
    text = shared_gateway.get("/metrics")
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    asked = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
    openmetrics = shared_gateway.get("/metrics", asked)
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.headers["content-encoding"] == "gzip"
    body = gzip.decompress(openmetrics.body).decode()
    assert body.endswith("# EOF\n")
    assert body.count("# EOF") == 1
    assert 'failure_creation_timestamp{app="/octo/a/",issue_number="1"} 1790000000 ' in body
    assert not re.search(r"^\w+_created\b", body, re.MULTILINE)


def test_health_has_its_own_routes(shared_gateway: Gateway) -> None:
    """And deliveries have none here."""
    assert shared_gateway.get("/-/healthy").status == 200
    assert shared_gateway.get("/-/ready").status == 200
    for path in ("/hooks/github", "/schema", "/nothing"):
        answer = shared_gateway.get(path)
        assert answer.status == 404
        assert answer.headers["content-type"] == "application/problem+json"


# Sending


def test_send_signs_a_file_of_one_s_own(shared_gateway: Gateway, tmp_path: Path) -> None:
    """With the headers that its vendor would add."""
    path = tmp_path / "push.json"
    path.write_text(json.dumps(samples.github_push("octo/sent", samples.SHA, 1_790_000_000)))
    url = f"http://127.0.0.1:{shared_gateway.public}"
    arguments = ("send", "github", str(path), "-H", "X-GitHub-Event: push", "--url", url)
    sent = run_process(*arguments, environment=SECRETS)
    assert sent.returncode == 0
    assert "202 accepted" in sent.stdout
    assert f"kind=committime app=octo/sent commit={samples.SHA}" in sent.stdout
    refused = run_process(
        *arguments, environment={"GITHUB_WEBHOOK_SECRET": "another secret of some length"}
    )
    assert refused.returncode == 1
    assert "401 Unauthorized" in refused.stdout
    piped = run_process("send", "pelorus", "-", "--url", url, stdin="{", environment=SECRETS)
    assert piped.returncode == 1
    assert "400 the body is not JSON: line 1, column 2" in piped.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["githbu"], "there is no source `githbu`; did you mean `github`?"),
        (["github", "--case", "nothing like it"], "no case's name holds"),
        (["github", "nowhere.json"], "cannot read nowhere.json"),
        (["github", "--url", "ftp://x"], "expected http://host:port"),
        (["github", "-H", "no colon"], "write NAME:VALUE"),
        (["github"], "no gateway answers at http://127.0.0.1:9"),
    ],
)
def test_send_says_what_keeps_it_from_sending(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    """In one sentence, with exit code 2."""
    port = [] if "--url" in arguments else ["--url", "http://127.0.0.1:9"]
    sent = run_process("send", *arguments, *port, cwd=tmp_path, environment=SECRETS)
    assert sent.returncode == 2
    assert words in sent.stderr
    assert len(sent.stderr.splitlines()) == 1


def test_send_to_the_wrong_place_says_which_is_right(shared_gateway: Gateway) -> None:
    """A bare 404 is what the internal listener says, and what the public one says of a path that the
    command has added to another."""
    send = ("send", "pelorus", "-", "--url")
    internal = f"http://127.0.0.1:{shared_gateway.internal}"
    sent = run_process(*send, internal, stdin="{}", environment=SECRETS)
    assert sent.returncode == 1
    assert f"nothing is at {internal}/hooks/pelorus: --url names the public listener" in sent.stdout
    public = f"http://127.0.0.1:{shared_gateway.public}"
    sent = run_process(*send, f"{public}/hooks/pelorus", stdin="{}", environment=SECRETS)
    assert sent.returncode == 1
    assert "/hooks/pelorus is added to --url: leave it out there" in sent.stdout


def test_send_without_the_secret_names_it(tmp_path: Path) -> None:
    """It cannot sign, and says where the secret is looked for."""
    sent = run_process("send", "github", "--secrets", "nowhere", cwd=tmp_path)
    assert sent.returncode == 2
    assert "GITHUB_WEBHOOK_SECRET is not set" in sent.stderr


# The rest


def test_every_command_has_help(tmp_path: Path) -> None:
    """And the gateway lists them all."""
    overview = run_process("--help", cwd=tmp_path).stdout
    for name, summary in COMMANDS.items():
        assert name in overview
        assert summary.split(",")[0] in overview
        assert run_process(name, "--help", cwd=tmp_path).returncode == 0
    served = run_process("serve", "--help", cwd=tmp_path).stdout
    for option in OPTIONS:
        assert option.flag in served
        assert option.variable in served


@pytest.mark.parametrize("kind", ["apps", "mapping", "model", "test"])
def test_the_committed_schemas_are_the_generated_ones(kind: str) -> None:
    """`UPDATE_GOLDEN=1` writes them anew."""
    path = ROOT / "schemas" / f"{kind}.schema.json"
    generated = run_process("schema", kind).stdout
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(generated)
    assert path.read_text() == generated


def test_the_wheel_works_in_an_empty_environment(tmp_path: Path) -> None:
    """It carries mappings and models, and serves outside of the repository."""
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=120)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    locked = ["--require-hashes", "-r", str(ROOT / "requirements.txt")]
    subprocess.run([*pip, *locked], check=True, timeout=300)
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True, timeout=120)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    program = str(tmp_path / "venv" / "bin" / "gateway")
    files = sum(len(list((ROOT / name).glob("*.yaml"))) for name in ("mappings", "schemas"))
    checked = subprocess.run(
        [program, "check"], cwd=elsewhere, capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, f"no problems in {files} files\n")
    with running(elsewhere, program=[program]) as gateway:
        push = samples.github_push("octo/wheel", samples.SHA, 1_790_000_000)
        assert gateway.github("push", push).json()["outcome"] == "accepted"
        assert len(gateway.samples()) == 1
