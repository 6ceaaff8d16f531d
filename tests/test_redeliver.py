"""`gateway redeliver github`: what GitHub could not deliver is found and requested again, once."""

import argparse
import json
import os
import pty
import re
import shlex
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from gateway import github_api
from gateway.cli.redeliver import define
from gateway.github_api import GitHubError, RefusedError
from gateway.redelivery import Attempt, lost
from tests import documentation, github, kubernetes
from tests.github import TOKEN, GitHub, Refusal
from tests.harness import GITHUB_SECRET, ROOT, Gateway, free_port, require_program, run_cli

OURS = "https://gateway.example.com/hooks/github"
DELIVERIES = "/deliveries\\?"


@pytest.fixture
def hub() -> Iterator[GitHub]:
    """A repository with one webhook, number 1, that points at a gateway."""
    with github.serving(GitHub()) as served:
        served.hook(1, OURS)
        yield served


def redeliver(
    hub: GitHub,
    *arguments: str,
    token: str = TOKEN,
    of: str = "--repository=harbour-works/tide-table",
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    run = run_cli(
        *("redeliver", "github", of, "--api-url", hub.url, *arguments),
        environment={"GITHUB_TOKEN": token, **environment},
    )
    assert token not in run.stdout + run.stderr
    return run


def command(hub: GitHub) -> list[str]:
    """For a process whose environment or terminal is the test's own."""
    of = ["--repository", "harbour-works/tide-table", "--api-url", hub.url]
    return [sys.executable, "-m", "gateway", "redeliver", "github", *of]


def told(run: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(run.stdout)


# What is chosen


def test_only_what_no_attempt_brought_is_requested_once_by_its_latest_attempt(hub: GitHub) -> None:
    hub.attempted(1, 202, guid="arrived", age=500)
    hub.attempted(1, 0, guid="twice", age=400)
    hub.attempted(1, 503, guid="mended", age=390)
    earlier = hub.attempted(1, None, guid="once", age=300, event="issues", action="opened")
    hub.attempted(1, 200, guid="mended", age=200, redelivery=True)
    latest = hub.attempted(1, 504, guid="twice", age=100, redelivery=True)
    run = redeliver(hub)
    assert run.returncode == 0, run.stderr
    assert hub.requested() == [earlier["id"], latest["id"]]
    assert f"webhook 1 {OURS}: 2 did not arrive, of 6 attempts since " in run.stdout
    assert re.search(
        r"^  requested  once  .* issues\.opened: no answer, failed to connect$",
        run.stdout,
        re.MULTILINE,
    )
    assert run.stdout.endswith("\n2 requested\n")
    assert not run.stderr


def test_where_all_arrived_nothing_is_requested(hub: GitHub) -> None:
    hub.attempted(1, 202)
    run = redeliver(hub)
    assert (run.returncode, hub.requested()) == (0, [])
    assert run.stdout.endswith("\nnothing to request\n")


def test_a_delivery_that_is_known_to_have_come_is_not_lost() -> None:
    def attempt(guid: str) -> Attempt:
        return Attempt(1, guid, datetime.now(UTC), "timed out", 0, "push")

    assert [one.guid for one in lost([attempt("a"), attempt("b")], {"a"}.__contains__)] == ["b"]


def test_pages_are_followed_until_they_are_too_old(hub: GitHub) -> None:
    """What is older is neither read nor requested, and a cursor is taken as it is given."""
    hub.per_page = 2
    recent = [hub.attempted(1, 0, age=age)["id"] for age in (7000, 6000, 5000)]
    for age in (8000, 9000, 10_000, 11_000):
        hub.attempted(1, 0, age=age)
    run = redeliver(hub, "--since", "125m")
    assert run.returncode == 0
    assert hub.requested() == recent
    asked = [line.partition("?")[2] for line in hub.asked if "/deliveries?" in line]
    assert asked == ["per_page=100", "per_page=2&cursor=v1_2"]


def test_a_list_without_an_end_is_read_to_a_bound_which_is_said(hub: GitHub) -> None:
    """What was found until then is requested all the same."""
    hub.attempted(1, 0)
    hub.endless = True
    run = redeliver(hub)
    assert run.returncode == 1
    assert len([line for line in hub.asked if "/deliveries?" in line]) == github_api.PAGES
    assert len(hub.requested()) == 1
    assert "only its latest 50000 attempts were read; ask for less with --since" in run.stdout


def test_webhooks_that_point_elsewhere_or_are_off_are_left_alone(hub: GitHub) -> None:
    """The same delivery at another webhook, which has the same guid, is none of ours."""
    hub.per_page = 1
    hub.hook(2, "https://ci.example.com/github")
    hub.hook(3, "https://other.example.com/pelorus/hooks/github/", active=False)
    hub.hook(4, "https://other.example.com/pelorus/hooks/github/")
    for hook in hub.hooks:
        hub.attempted(hook, 0, guid="one event")
    found = told(redeliver(hub, "--dry-run", "--format", "json"))
    assert [hook["hook"] for hook in found["hooks"]] == [1, 4]
    found = told(redeliver(hub, "--dry-run", "--format", "json", "--url", "https://ci."))
    assert [hook["hook"] for hook in found["hooks"]] == [2]
    found = told(redeliver(hub, "--dry-run", "--format", "json", "--hook", "3"))
    assert [hook["hook"] for hook in found["hooks"]] == [3]


def test_no_webhook_to_choose_is_an_error_that_names_those_that_there_are(hub: GitHub) -> None:
    """Without what may be secret in their addresses."""
    hub.hooks.clear()
    hub.hook(7, "https://user:pass@ci.example.com/github?token=hush")
    run = redeliver(hub)
    assert run.returncode == 2
    assert run.stderr == (
        "gateway: no active webhook of harbour-works/tide-table points at /hooks/github; there are: "
        "7 https://ci.example.com/github; choose with --hook or --url\n"
    )
    hub.hooks.clear()
    assert "; there are none\n" in redeliver(hub).stderr


def test_an_organization_of_an_enterprise_server_is_asked_below_its_base() -> None:
    hub = GitHub(owner="/orgs/harbour-works")
    with github.serving(hub, base="/api/v3"):
        hub.hook(1, OURS)
        attempt = hub.attempted(1, 0)
        run = redeliver(hub, of="--organization=harbour-works")
    assert (run.returncode, hub.requested()) == (0, [attempt["id"]])
    assert all(" /api/v3/orgs/harbour-works/hooks" in line for line in hub.asked)


def test_a_dry_run_requests_nothing_and_says_what_it_would(hub: GitHub) -> None:
    attempt = hub.attempted(1, 502, event="deployment_status", action="created")
    run = redeliver(hub, "--dry-run", "--format", "json")
    assert (run.returncode, hub.requested()) == (0, [])
    document = told(run)
    assert document["of"] == "harbour-works/tide-table"
    assert document["since"] == pytest.approx(time.time() - 3 * 86_400, abs=60)
    delivered = datetime.fromisoformat(attempt["delivered_at"]).timestamp()
    assert document["hooks"] == [
        {
            "hook": 1,
            "url": OURS,
            "attempts": 1,
            "complete": True,
            "lost": [
                {
                    **{name: attempt[name] for name in ("id", "guid", "event", "action")},
                    **{name: attempt[name] for name in ("status", "status_code")},
                    "delivered_at": delivered,
                    "outcome": "planned",
                    "reason": "",
                }
            ],
        }
    ]
    assert re.search(
        r"^  planned  .* deployment_status\.created: 502 Invalid HTTP Response$",
        redeliver(hub, "--dry-run").stdout,
        re.MULTILINE,
    )


# What goes wrong


def test_a_delivery_that_is_refused_is_named_and_the_others_are_requested(hub: GitHub) -> None:
    hub.attempted(1, 0, guid="gone", age=100)
    hub.attempted(1, 0, guid="there", age=50)
    hub.refusals.append(Refusal("POST", "attempts", 422, "Delivery is too old"))
    run = redeliver(hub)
    assert run.returncode == 1
    assert re.search(
        r"  refused  gone  .*\n    GitHub refuses delivery \d+ of harbour-works/tide-table "
        r"\(422 Delivery is too old\)\n  requested  there  ",
        run.stdout,
    )
    assert run.stdout.endswith("\n1 requested, 1 refused\n")


def test_a_token_that_may_only_read_is_told_what_it_lacks(hub: GitHub) -> None:
    """At the first request; the others would fail alike, are not made, and are named too."""
    for age in (100, 50):
        hub.attempted(1, 0, age=age)
    reason = "Resource not accessible by personal access token"
    hub.refusals.append(Refusal("POST", "attempts", 403, reason))
    run = redeliver(hub, "--format", "json")
    assert (run.returncode, len(hub.requested())) == (1, 1)
    (found,) = told(run)["hooks"]
    assert [one["outcome"] for one in found["lost"]] == ["refused", "refused"]
    for one in found["lost"]:
        assert (
            f"(403 {reason}): a fine-grained token needs the repository permission `Webhooks: "
            in one["reason"]
        )


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (
            Refusal("GET", "hooks", 401, f"Bad credentials {TOKEN}\n\x1b[2J"),
            "GitHub does not take the token (401 Bad credentials [token]  [2J): it is wrong, expired or "
            "revoked",
        ),
        (
            Refusal("GET", "hooks", 403, "Resource not accessible"),
            "GitHub forbids webhooks of harbour-works (403 Resource not accessible): a fine-grained "
            "token needs the organization permission `Webhooks: read and write`, a classic one the "
            "scope `admin:org_hook`, and its user has to own the organization",
        ),
        (
            Refusal("GET", "hooks", 404, "Not Found"),
            "GitHub shows no webhooks of harbour-works (404 Not Found): the name is wrong, or the token "
            "may not see it: a fine-grained token needs the organization permission `Webhooks: read and "
            "write`, a classic one the scope `admin:org_hook`, and its user has to own the organization",
        ),
        (
            Refusal("GET", "hooks", 301, headers={"Location": "https://elsewhere.example.com/"}),
            "{url} refers to another host (301); check --api-url",
        ),
        (
            Refusal("GET", "hooks", 200, raw=b"<html>Sign in</html>"),
            "what {url} answers for webhooks is not GitHub's API (JSON is malformed: invalid character "
            "(byte 0)); check --api-url",
        ),
    ],
    ids=["token", "permission", "unseen", "redirect", "another site"],
)
def test_what_cannot_be_asked_is_one_sentence(refusal: Refusal, message: str) -> None:
    """And nothing is requested; the token is not repeated even where GitHub repeats it."""
    hub = GitHub(owner="/orgs/harbour-works", refusals=[refusal])
    with github.serving(hub):
        hub.attempted(hub.hook(1, OURS), 0)
        run = redeliver(hub, of="--organization=harbour-works")
    assert (run.returncode, run.stdout, hub.requested()) == (2, "", [])
    assert run.stderr == f"gateway: {message.replace('{url}', hub.url)}\n"


def test_a_webhook_that_is_not_there_is_named(hub: GitHub) -> None:
    run = redeliver(hub, "--hook", "99")
    assert run.returncode == 2
    assert "GitHub shows no webhook 99 of harbour-works/tide-table (404 Not Found)" in run.stderr


def test_a_renamed_repository_is_followed_on_the_same_host(hub: GitHub) -> None:
    """With the method that was meant: a POST stays one."""
    old = "/repos/harbour-works/old-name"
    attempt = hub.attempted(1, 0)
    moved = hub.owner + "/hooks"
    hub.refusals += [
        Refusal("GET", f"{old}/hooks\\?", 301, headers={"Location": f"{hub.url}{moved}"}),
        Refusal(
            "GET", f"{old}/hooks/1/", 301, headers={"Location": f"{hub.url}{moved}/1/deliveries"}
        ),
        Refusal(
            *("POST", f"{old}/hooks/1/", 307),
            headers={"Location": f"{hub.url}{moved}/1/deliveries/{attempt['id']}/attempts"},
        ),
    ]
    run = redeliver(hub, of="--repository=harbour-works/old-name")
    assert run.returncode == 0, run.stderr
    assert hub.requested() == [attempt["id"]] * 2


def test_an_address_where_nobody_answers_is_an_error() -> None:
    """After some trials, each of which is said."""
    hub = GitHub(url=f"http://127.0.0.1:{free_port()}")
    run = redeliver(hub)
    assert run.returncode == 2
    waits = [
        line for line in run.stderr.splitlines() if "GitHub fails (no answer): waiting" in line
    ]
    assert len(waits) == github_api.TRIALS - 1
    assert run.stderr.endswith(f"gateway: {hub.url} does not answer (Connection refused)\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repository", "tide-table"], "--repository is `tide-table`, expected OWNER/REPO"),
        (["--repository", "a/.."], "--repository is `a/..`, expected OWNER/REPO"),
        (["--organization", "a/b"], "--organization is `a/b`, expected its name"),
        (["--repository", "a/b", "--hook", "x"], "--hook is `x`, expected the number of a webhook"),
        (["--repository", "a/b", "--since", "x"], "--since is `x`, expected an age such as"),
        (["--repository", "a/b", "--api-url", "api.github.com"], "--api-url is no base URL"),
        (["--repository", "a/b", "--api-url", "http://[::1"], "--api-url is no base URL"),
        (
            ["--repository", "a/b", "--api-url", "http://github.example.com/api/v3"],
            "--api-url is `http://github.example.com/api/v3`: the token would cross the network readable",
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_arguments_that_cannot_be_used_are_named(arguments: list[str], message: str) -> None:
    run = run_cli("redeliver", "github", *arguments, environment={"GITHUB_TOKEN": TOKEN})
    assert run.returncode == 2
    assert run.stderr.startswith(f"gateway: {message}")


def test_the_token_may_lie_in_a_file_of_the_secrets_folder(hub: GitHub, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GITHUB_TOKEN"}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command(hub), "--secrets", str(tmp_path)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    missing = run()
    assert missing.returncode == 2
    assert missing.stderr == (
        f"gateway: there is no token: set GITHUB_TOKEN, or write it to {tmp_path}/GITHUB_TOKEN\n"
    )
    (tmp_path / "GITHUB_TOKEN").write_text(f"{TOKEN}\n")
    assert run().returncode == 0
    (tmp_path / "GITHUB_TOKEN").write_text(f"{TOKEN}\nmore")
    broken = run()
    assert broken.returncode == 2
    assert broken.stderr == (
        "gateway: GITHUB_TOKEN is no token: it is empty, or has spaces or line breaks in it\n"
    )


# On the way


def test_a_certificate_must_be_trusted(tmp_path: Path) -> None:
    """`SSL_CERT_FILE` names an authority of one's own; nothing is sent to a server without it."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(require_program("openssl"), "req", "-x509", "-nodes", "-days", "2"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    hub = GitHub()
    with github.serving(hub, tls=tls):
        attempt = hub.attempted(hub.hook(1, OURS), 0)
        run = redeliver(hub, no_proxy="localhost")
        assert run.returncode == 2
        assert re.fullmatch(
            f"gateway: the certificate of {hub.url} is not to be trusted \\(self-signed certificate\\); "
            "for an authority of your own set SSL_CERT_FILE to its certificate\n",
            run.stderr,
        )
        assert not hub.asked
        run = redeliver(hub, no_proxy="localhost", SSL_CERT_FILE=str(certificate))
    assert (run.returncode, hub.requested()) == (0, [attempt["id"]])


def test_a_proxy_of_the_environment_is_used_and_sees_no_token() -> None:
    heard: list[bytes] = []

    class Proxy(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            heard.append(self.request.recv(65_536))
            self.request.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        proxy = f"http://127.0.0.1:{server.server_address[1]}"
        run = redeliver(GitHub(url="https://github.test"), https_proxy=proxy, no_proxy="")
        server.shutdown()
        thread.join()
    assert run.returncode == 2
    assert "does not answer (Tunnel connection failed: 403 Forbidden)" in run.stderr
    assert heard
    for text in heard:
        assert text.startswith(b"CONNECT github.test:443 ")
        assert TOKEN.encode() not in text


# Limits


def test_a_pause_that_is_asked_for_is_made_and_said(hub: GitHub) -> None:
    """By `retry-after`, by a limit that is used up until a time of GitHub's own clock, and by a failure."""
    attempt = hub.attempted(1, 0)
    clock = time.time() + 86_400
    hub.refusals += [
        Refusal("GET", DELIVERIES, 429, "slow down", {"Retry-After": "1"}),
        Refusal(
            *("GET", DELIVERIES, 403, "API rate limit exceeded"),
            headers={
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": str(int(clock) + 1),
                "Date": formatdate(clock, usegmt=True),
            },
        ),
        Refusal("POST", "attempts", 502, raw=b"<html>bad gateway</html>"),
    ]
    run = redeliver(hub)
    assert run.returncode == 0, run.stderr
    assert set(hub.requested()) == {attempt["id"]}
    assert re.fullmatch(
        "GitHub asks for a pause: waiting 1 s\n"
        "GitHub's rate limit is used up: waiting [12] s\n"
        r"GitHub fails \(502\): waiting 0\.5 s\n",
        run.stderr,
    )


def test_a_pause_that_is_too_long_ends_the_run(hub: GitHub) -> None:
    """While it reads, with nothing requested; while it requests, with the rest named."""
    for age in (100, 50):
        hub.attempted(1, 0, age=age)
    limit = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 3_000)}
    hub.refusals.append(Refusal("GET", DELIVERIES, 403, "API rate limit exceeded", limit))
    run = redeliver(hub)
    assert (run.returncode, hub.requested()) == (2, [])
    assert re.fullmatch(
        r"gateway: GitHub's rate limit is used up: it asks to wait (2999|300[01]) s, and no more "
        r"than 900 s are waited in all; run it again later\n",
        run.stderr,
    )
    hub.refusals.append(Refusal("POST", "attempts", 202, headers=limit))
    run = redeliver(hub, "--format", "json")
    assert (run.returncode, len(hub.requested())) == (1, 1)
    (found,) = told(run)["hooks"]
    assert [one["outcome"] for one in found["lost"]] == ["requested", "refused"]
    assert "run it again later" in found["lost"][1]["reason"]


class Waiting:
    """A client of the API that notes its pauses rather than making them."""

    def __init__(self, hub: GitHub) -> None:
        self.pauses: list[float] = []
        self.notes: list[str] = []
        self.home = github_api.repository("harbour-works", "tide-table")
        self.api = github_api.GitHub(hub.url, TOKEN, self.notes.append, self.pauses.append)


@pytest.fixture
def waiting(hub: GitHub) -> Waiting:
    return Waiting(hub)


def test_a_secondary_limit_without_a_time_is_waited_for_longer_and_longer(
    hub: GitHub, waiting: Waiting
) -> None:
    """From a minute on, and not for ever."""
    text = "You have exceeded a secondary rate limit."
    hub.refusals += [Refusal("GET", "hooks", 403, text) for _ in range(2)]
    assert [hook.id for hook in waiting.api.hooks(waiting.home)] == [1]
    assert waiting.pauses == [60, 120]
    hub.refusals += [Refusal("GET", "hooks", 403, text) for _ in range(4)]
    with pytest.raises(GitHubError, match=r"does not give way .403 You have exceeded"):
        waiting.api.hooks(waiting.home)
    assert waiting.pauses == [60, 120, 60, 120, 240]
    hub.refusals += [Refusal("GET", "hooks", 403, text) for _ in range(4)]
    with pytest.raises(GitHubError, match="no more than 900 s are waited in all"):
        waiting.api.hooks(waiting.home)


def test_requests_that_change_something_are_a_second_apart(hub: GitHub, waiting: Waiting) -> None:
    attempts = [hub.attempted(1, 0) for _ in range(3)]
    hook = waiting.api.hook(waiting.home, 1)
    for attempt in attempts:
        one = Attempt(attempt["id"], "g", datetime.now(UTC), "", 0, "push")
        waiting.api.redeliver(waiting.home, hook, one)
    assert waiting.pauses[0] == 0
    assert all(0.5 < pause <= 1 for pause in waiting.pauses[1:])
    assert not waiting.notes


def test_a_server_that_goes_on_failing_refuses_one_request_alone(
    hub: GitHub, waiting: Waiting
) -> None:
    hub.refusals += [Refusal("GET", "hooks", 500, raw=b"oops") for _ in range(4)]
    with pytest.raises(RefusedError, match=r"GitHub refuses webhooks of .* \(500 oops\)"):
        waiting.api.hooks(waiting.home)
    assert waiting.pauses == [0.5, 1, 2]


# On a terminal


def test_progress_is_shown_on_a_terminal_and_leaves_no_trace(hub: GitHub) -> None:
    for age in (100, 50):
        hub.attempted(1, 0, age=age)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(hub),
        cwd=ROOT,
        env={**os.environ, "GITHUB_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    output, _ = process.communicate(timeout=60)
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert process.returncode == 0
    assert output.endswith("\n2 requested\n")
    erase = "\r\x1b[K"
    assert shown == (
        f"{erase}2 attempts read{erase}"
        f"{erase}1 of 2 deliveries requested again{erase}2 of 2 deliveries requested again{erase}"
    )


# The guide


GUIDE = (documentation.DOCS / "how-to" / "redeliver-from-github.md").read_text(encoding="utf-8")


def guide(language: str) -> list[str]:
    """The texts of the guide's fences of one language."""
    return [fence.text for fence in documentation.fences(GUIDE) if fence.language == language]


def test_the_commands_of_the_guide_are_such_as_the_command_takes() -> None:
    """On a shell, in the table of cron, and in the CronJob, which finds its token where it looks."""
    job = kubernetes.component("redelivery", "cronjob.yaml")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (cron,) = [text for text in guide("") if "* * * *" in text]
    shell = [text for text in guide("sh") if text.startswith("gateway ")]
    lines = [shlex.split(text)[1:] for text in shell]
    lines += [shlex.split(cron)[7:], container["args"]]
    assert len(lines) == 3
    parser = argparse.ArgumentParser()
    define(parser)
    for name, *arguments in lines:
        assert name == "redeliver"
        assert parser.parse_args(arguments).repository == "acme/shop"
    (mount,) = container["volumeMounts"]
    (volume,) = pod["volumes"]
    assert mount["name"] == volume["name"]
    assert kubernetes.in_the_image("GATEWAY_SECRETS") == mount["mountPath"]
    page = (documentation.DOCS / "how-to/run-in-kubernetes.md").read_text()
    assert f"secret generic {volume['secret']['secretName']} --from-file=GITHUB_TOKEN=" in page


def test_every_flag_of_the_guide_exists() -> None:
    known = re.findall(r"--[a-z-]+", run_cli("redeliver", "--help").stdout)
    assert set(re.findall(r"`(--[a-z-]+)", GUIDE)) <= set(known)


# From end to end


def test_what_github_could_not_deliver_comes_after_all(tmp_path: Path) -> None:
    """The gateway is down while things happen; later it has them once, and there is no more to request."""
    gateway = Gateway(tmp_path)
    hub = GitHub(secret=GITHUB_SECRET)
    moment = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    push = {
        "ref": "refs/heads/main",
        "repository": {"full_name": "harbour-works/tide-table", "default_branch": "main"},
        "commits": [
            {"id": "6b51418b3a517cf90995add3bc626b706b767b99", "timestamp": moment.isoformat()}
        ],
    }
    deployment = {
        "action": "created",
        "repository": push["repository"],
        "deployment": {
            "sha": "6b51418b3a517cf90995add3bc626b706b767b99",
            "environment": "production",
        },
        "deployment_status": {"state": "success", "created_at": moment.isoformat()},
    }
    with github.serving(hub):
        hook = hub.hook(1, f"http://127.0.0.1:{gateway.public}/hooks/github")
        failed = [
            hub.deliver(hook, "push", push),
            hub.deliver(hook, "deployment_status", deployment),
        ]
        assert [attempt["status_code"] for attempt in failed] == [0, 0]
        try:
            gateway.start()
            assert not gateway.samples()
            run = redeliver(hub)
            assert run.returncode == 0, run.stderr
            assert run.stdout.endswith("\n2 requested\n")
            series = gateway.samples()
            assert {name.partition("{")[0] for name in series} >= {
                "commit_timestamp",
                "deploy_timestamp",
            }
            assert [one["status_code"] for one in hub.attempts[hook]] == [202, 202, 0, 0]

            again = redeliver(hub)
            assert again.stdout.endswith("\nnothing to request\n")
            assert len(hub.requested()) == 2
            assert gateway.samples() == series
        finally:
            gateway.stop()
