"""`gateway try`, `deliveries` and `explain`: why a payload becomes what it becomes, before and after."""

import hashlib
import hmac
import http.client
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import (
    GITHUB_SECRET,
    ROOT,
    Answer,
    Gateway,
    hub_signature,
    request,
    run_cli,
    running,
)
from tests.samples import gitlab_push

MAPPING = """\
source: shop
authenticate:
  scheme: hmac
  header: X-Shop-Signature
  signed: "{timestamp}.{body}"
  timestamp_header: X-Shop-Time
  secret: {env: SHOP_SECRET}
params: {stages: [live]}
rules:
  - name: a deployment
    when: contains(params.stages, body.stage)
    emit: deploytime
    fields: {app: body.app, commit: body.sha, timestamp: body.at}
"""
PAYLOAD = json.dumps(
    {"stage": "live", "app": "shop", "sha": "0ddba11c0ffee", "at": "2026-01-31T09:30:00Z"}
)
SECRET = {"SHOP_SECRET": "a secret of the shop"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(MAPPING)
    (tmp_path / "live.json").write_text(PAYLOAD)
    return tmp_path


def _try(folder: Path, *arguments: str, stdin: str = "", **environment: str) -> Any:
    return run_cli(
        *("try", "shop", *arguments, "--mappings", "shop.yaml"),
        cwd=folder,
        stdin=stdin,
        environment={**SECRET, **environment},
    )


def _signed(body: str, moment: float | None = None, secret: str = SECRET["SHOP_SECRET"]) -> str:
    """A raw request as the shop sends it."""
    stamp = str(int(time.time() if moment is None else moment))
    digest = hmac.new(secret.encode(), f"{stamp}.{body}".encode(), hashlib.sha256).hexdigest()
    return (
        "POST /hooks/shop HTTP/1.1\nHost: gateway.example\nContent-Type: application/json\n"
        f"X-Shop-Time: {stamp}\nX-Shop-Signature: {digest}\n\n{body}\n"
    )


def test_a_payload_from_a_file_is_explained(folder: Path) -> None:
    run = _try(folder, "live.json")
    assert run.returncode == 0
    assert "authentication  not checked: the request carries no proof of its sender" in run.stdout
    assert "rule `a deployment`: applies" in run.stdout
    assert run.stdout.endswith(
        "outcome         accepted\n"
        '  deploytime  app="shop"  commit="0ddba11c0ffee"  timestamp=1769851800\n'
    )


@pytest.mark.parametrize(
    ("at", "why"),
    [
        ("2999-01-31T09:30:00Z", "its time is more than a day after its receipt"),
        ("1999-01-31T09:30:00Z", "its time is before the year 2000"),
    ],
)
def test_an_event_that_will_not_be_shown_is_told_so(folder: Path, at: str, why: str) -> None:
    """It is accepted, and would look entirely well."""
    payload = PAYLOAD.replace("2026-01-31T09:30:00Z", at)
    run = _try(folder, "-", stdin=payload)
    assert run.returncode == 0
    assert run.stdout.endswith(f"    {why}: it is counted as suspect and not shown\n"), run.stdout
    told = json.loads(_try(folder, "-", "--format", "json", stdin=payload).stdout)
    assert told["doubts"] == [f"{why}: it is counted as suspect and not shown"]
    assert "doubts" not in json.loads(_try(folder, "live.json", "--format", "json").stdout)


def test_a_condition_that_cannot_be_judged_is_told_in_our_words(tmp_path: Path) -> None:
    """With what was found there."""
    (tmp_path / "list.json").write_text("[1]")
    run = run_cli("try", "github", "list.json", "-H", "X-GitHub-Event:push", cwd=tmp_path)
    assert run.returncode == 1
    assert "rule `commits pushed to a branch`: cannot be judged\n" in run.stdout
    assert (
        "  -    starts_with(body.ref, 'refs/heads/')    "
        "starts_with(): `subject` takes string, not null; body.ref = null\n"
    ) in run.stdout
    assert run.stdout.endswith("field `when`: starts_with(): `subject` takes string, not null\n")


def test_standard_input_and_params_of_the_environment(folder: Path) -> None:
    run = _try(folder, "-", stdin=PAYLOAD, SHOP_PARAM_STAGES="staging")
    assert run.returncode == 0
    assert (
        '  a deployment  no  contains(params.stages, body.stage)    params.stages = ["staging"]'
        in run.stdout
    )
    assert run.stdout.endswith("outcome         ignored\n")


def test_a_raw_request_is_authenticated(folder: Path) -> None:
    run = _try(folder, "-", stdin=_signed(PAYLOAD))
    assert run.returncode == 0, run.stdout
    assert "authentication  authentic" in run.stdout


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            lambda: _signed(PAYLOAD, secret="a secret of another shop"),
            "refused: the signature in `x-shop-signature` is not that of this body: the secrets "
            "differ, or the body is not byte for byte what was signed",
        ),
        (
            lambda: _signed(PAYLOAD, moment=1_700_000_000),
            "seconds away from now, 300 are allowed",
        ),
        (
            lambda: _signed(PAYLOAD).replace("X-Shop-Signature", "X-Shop-Sign"),
            "refused: the header `x-shop-signature` is missing",
        ),
        (
            lambda: _signed(PAYLOAD, moment=time.time()).replace("X-Shop-Time: ", "X-Shop-Time: T"),
            "refused: the header `x-shop-time` is not a time in epoch seconds",
        ),
    ],
)
def test_what_is_wrong_with_a_proof_is_told(folder: Path, text: Any, why: str) -> None:
    run = _try(folder, "-", stdin=text())
    assert run.returncode == 1
    assert why in run.stdout
    assert "outcome         unauthorized" in run.stdout
    # What it would have become is told all the same.
    assert "rule `a deployment`: applies" in run.stdout


def test_without_its_secret_a_proof_is_not_checked(folder: Path) -> None:
    run = run_cli("try", "shop", "live.json", "--mappings", "shop.yaml", cwd=folder)
    assert "authentication  not checked: the secret SHOP_SECRET is not set" in run.stdout
    assert run.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "header", "why"),
    [
        (("gitlab",), "X-Gitlab-Token:wrong", "what `x-gitlab-token` carries is not the secret"),
        (
            ("github",),
            "X-Hub-Signature-256:sha1=00",
            "the header `x-hub-signature-256` does not begin with `sha256=`",
        ),
    ],
)
def test_other_schemes_tell_what_is_wrong_too(
    folder: Path, arguments: tuple[str, ...], header: str, why: str
) -> None:
    secrets = {
        "GITLAB_WEBHOOK_SECRET": "a secret of gitlab's",
        "GITHUB_WEBHOOK_SECRET": "a secret of github's",
    }
    run = run_cli("try", *arguments, "live.json", "-H", header, cwd=folder, environment=secrets)
    assert f"authentication  refused: {why}" in run.stdout
    assert run.returncode == 1


def test_as_json_it_is_for_programs(folder: Path) -> None:
    run = _try(folder, "live.json", "--format", "json")
    explained = json.loads(run.stdout)
    assert explained["outcome"] == "accepted"
    (rule,) = explained["rules"]
    assert rule["applies"] is True
    assert rule["when"] == {
        "expression": "contains(params.stages, body.stage)",
        "holds": True,
        "values": [
            {"expression": "params.stages", "value": ["live"]},
            {"expression": "body.stage", "value": "live"},
        ],
    }
    fields = {one["field"]: one for one in rule["attempts"][0]["fields"]}
    assert fields["timestamp"] == {
        "field": "timestamp",
        "expression": "body.at",
        "type": "timestamp",
        "found": "2026-01-31T09:30:00Z",
        "value": 1769851800,
    }


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (("shop", "gone.json"), "", "cannot read gone.json: No such file or directory"),
        (("shoop", "live.json"), "", "there is no source `shoop`; did you mean `shop`?"),
        (("shop", "live.json", "-H", "nonsense"), "", "--header: `nonsense` is no header"),
        (
            ("shop", "-"),
            "POST / HTTP/1.1\nno header\n\n{}",
            "<stdin>: line 2: `no header` is no header",
        ),
    ],
)
def test_what_cannot_be_tried_is_one_sentence(
    folder: Path, arguments: tuple[str, ...], stdin: str, message: str
) -> None:
    run = run_cli("try", *arguments, "--mappings", "shop.yaml", cwd=folder, stdin=stdin)
    assert run.returncode == 2
    assert run.stderr.startswith(f"gateway: {message}")


def test_a_broken_mapping_is_reported_as_check_does(folder: Path) -> None:
    (folder / "shop.yaml").write_text(MAPPING.replace("body.stage", "bdy.stage"))
    run = _try(folder, "live.json")
    assert run.returncode == 2
    assert "shop.yaml:11:35: error[unknown-name]: there is no `bdy` to read here" in run.stderr


# The journal


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that has taken an event, a dead letter, and two that mean nothing."""
    with running(tmp_path_factory.mktemp("served")) as gateway:
        push = {
            "ref": "refs/heads/main",
            "repository": {"full_name": "harbour-works/tide-table"},
            "commits": [{"id": "0ddba11c0ffee", "timestamp": "2026-01-31T09:30:00Z", "url": ""}],
        }
        assert gateway.github("push", push, "1d0c-push").status == 202
        push["commits"][0]["timestamp"] = "noon"  # type: ignore[index]  # A payload is anything.
        assert gateway.github("push", push, "1d0c-noon").status == 202
        assert gateway.github("star", {"action": "created"}, "77aa-star").status == 202
        sent = gateway.gitlab(gitlab_push("harbour/map", "c0ffee0ddba11", 1_769_851_800), "9e-lab")
        assert sent.status == 202
        yield gateway


def _journal(gateway: Gateway, *arguments: str) -> Any:
    return run_cli(*arguments, cwd=gateway.folder)


def test_deliveries_are_listed_while_the_gateway_serves(served: Gateway) -> None:
    run = _journal(served, "deliveries")
    assert run.returncode == 0, run.stderr
    heading, *lines = run.stdout.splitlines()
    assert heading.split() == ["received", "source", "event", "outcome", "events", "delivery"]
    rows = [line.split() for line in lines if not line.startswith(" ")]
    assert [row[2:] for row in rows] == [
        ["gitlab", "push", "accepted", "1", "9e-lab"],
        ["github", "star", "ignored", "-", "77aa-star"],
        ["github", "push", "dead_lettered", "-", "1d0c-noon"],
        ["github", "push", "accepted", "1", "1d0c-push"],
    ]
    (reason,) = [line for line in lines if line.startswith(" ")]
    assert "rule `commits pushed to a branch`, field `timestamp`:" in reason


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (("--source", "gitlab"), ["9e-lab"]),
        (("--outcome", "dead_lettered", "--outcome", "ignored"), ["77aa-star", "1d0c-noon"]),
        (("--event", "push", "--limit", "2"), ["9e-lab", "1d0c-noon"]),
        (("--since", "1h"), ["9e-lab", "77aa-star", "1d0c-noon", "1d0c-push"]),
        (("--since", "2199-01-01"), []),
    ],
)
def test_deliveries_are_selected(
    served: Gateway, arguments: tuple[str, ...], ids: list[str]
) -> None:
    run = _journal(served, "deliveries", "--format", "json", *arguments)
    assert [json.loads(line)["delivery"] for line in run.stdout.splitlines()] == ids


def test_a_delivery_that_was_kept_is_explained(served: Gateway) -> None:
    run = _journal(served, "explain", "1d0c-noon")
    assert run.returncode == 0, run.stderr
    assert "delivery        1d0c-noon" in run.stdout
    assert "and kept as dead_lettered" in run.stdout
    assert "WRONG" in run.stdout
    assert "outcome         dead_lettered" in run.stdout


def test_the_mapping_of_now_explains_it(served: Gateway) -> None:
    """What a mended mapping would make of a dead letter is known before it is replayed."""
    mended = served.folder / "mended.yaml"
    mended.write_text(
        "source: github\nextends: github\nrules:\n  - name: commits pushed to a branch\n"
        "    when: event == 'push'\n    each: body.commits\n    emit: committime\n    fields:\n"
        "      {app: body.repository.full_name, commit: each.id, timestamp: received_at}\n"
    )
    run = _journal(served, "explain", "1d0c-noon", "--mappings", "mended.yaml")
    assert "kept as dead_lettered" in run.stdout
    assert "outcome         accepted" in run.stdout


def test_the_beginning_of_an_id_is_enough_where_it_fits_one(served: Gateway) -> None:
    assert "delivery        77aa-star" in _journal(served, "explain", "77aa").stdout
    run = _journal(served, "explain", "1d0c")
    assert run.returncode == 2
    assert "`1d0c` fits 2 deliveries: 1d0c-noon of github, 1d0c-push of github" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explain", "nowhere"), "the journal holds no delivery `nowhere`"),
        (
            ("explain", "9e-lab", "--source", "github"),
            "no delivery `9e-lab` of the source `github`",
        ),
        (("deliveries", "--since", "yesterday"), "--since is `yesterday`, expected an age"),
        (("deliveries", "--journal", "sqlite:///gone.sqlite"), "there is no journal gone.sqlite"),
        (("deliveries", "--journal", "sqlite:///other.sqlite"), "a database of another program"),
        (
            ("deliveries", "--journal", "sqlite:///text.sqlite"),
            "cannot read the journal text.sqlite",
        ),
    ],
)
def test_what_the_journal_cannot_tell_is_one_sentence(
    served: Gateway, arguments: tuple[str, ...], message: str
) -> None:
    other = sqlite3.connect(served.folder / "other.sqlite")
    other.execute("CREATE TABLE IF NOT EXISTS things (name TEXT)")
    other.close()
    (served.folder / "text.sqlite").write_text("nothing like a database, though a long text\n" * 99)
    run = _journal(served, *arguments)
    assert run.returncode == 2
    assert message in run.stderr


def test_a_journal_is_read_when_its_gateway_has_stopped(tmp_path: Path) -> None:
    with running(tmp_path) as gateway:
        gateway.github("star", {"action": "created"}, "77aa-star")
        gateway.stop()
        assert "77aa-star" in _journal(gateway, "deliveries").stdout


def test_what_explains_keeps_no_secret(served: Gateway) -> None:
    """Neither the secret nor a signature made with it is in the journal to be told."""
    for command in (("explain", "1d0c-push", "--format", "json"), ("deliveries",)):
        told = _journal(served, *command).stdout
        assert GITHUB_SECRET not in told
        assert hub_signature(b"", GITHUB_SECRET)[:7] not in told


# A running gateway


def _dry_run(gateway: Gateway, source: str, body: bytes, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(gateway.internal, "POST", f"/try/{source}", body, named)


PUSH = json.dumps(
    {
        "ref": "refs/heads/main",
        "repository": {"full_name": "harbour-works/tide-table"},
        "commits": [{"id": "5ca1ab1e0ff1ce", "timestamp": "2026-01-31T09:30:00Z"}],
    }
).encode()


def test_a_dry_run_explains_and_keeps_nothing(served: Gateway) -> None:
    before = served.samples(), _journal(served, "deliveries").stdout
    answer = _dry_run(served, "github", PUSH, X_GitHub_Event="push")
    assert answer.status == 200
    explained = answer.json()
    assert explained["outcome"] == "accepted"
    assert explained["authentication"].startswith("not checked")
    assert (served.samples(), _journal(served, "deliveries").stdout) == before
    assert served.counter('gateway_deliveries_total{outcome="accepted",source="github"}') == 1


def test_a_dry_run_judges_the_proof(served: Gateway) -> None:
    for secret, said, outcome in (
        (GITHUB_SECRET, "authentic", "accepted"),
        ("another secret than that", "refused: the signature", "unauthorized"),
    ):
        headers = {"X_GitHub_Event": "push", "X_Hub_Signature_256": hub_signature(PUSH, secret)}
        explained = _dry_run(served, "github", PUSH, **headers).json()
        assert explained["authentication"].startswith(said)
        assert explained["outcome"] == outcome


def test_a_dry_run_is_text_where_text_is_asked_for(served: Gateway) -> None:
    answer = _dry_run(served, "github", PUSH, X_GitHub_Event="push", Accept="text/plain")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "rule `commits pushed to a branch`: applies" in answer.body.decode()


def test_a_dry_run_of_anything_is_answered(served: Gateway) -> None:
    assert _dry_run(served, "github", b"{").json()["outcome"] == "dead_lettered"
    assert _dry_run(served, "github", b"").json()["outcome"] == "dead_lettered"
    assert _dry_run(served, "nowhere", PUSH).status == 404
    # It is not read, so whoever sent all of it might meet a closed connection before the answer.
    connection = http.client.HTTPConnection("127.0.0.1", served.internal, timeout=20)
    connection.putrequest("POST", "/try/github")
    connection.putheader("Content-Length", str(26 * 1024 * 1024))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_the_guide_shows_what_comes_out(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "find-out-why.md").read_text()
    blocks = re.findall(r"```(sh|text)\n(.*?)```", page, re.DOTALL)
    (_, commands), (_, shown), *_ = blocks
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "-c", commands],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout.startswith(shown), run.stdout
