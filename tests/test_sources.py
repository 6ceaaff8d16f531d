"""`gateway sources`: which sources there are, whether each is live, and what there is to know of one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.authentication import (
    Basic,
    Bearer,
    Hmac,
    QueryToken,
    Scheme,
    SecretReference,
    StandardWebhooks,
    Token,
)
from gateway.authoring import profile
from gateway.cli.main import main
from gateway.mapping import library
from gateway.mapping.compiler import CompiledMapping, SourceFile, compile_files
from tests.harness import GITHUB_SECRET

BUNDLED = library.bundled_sources()
FILES = library.bundled_files()
MAPPINGS = compile_files(FILES).mappings
SHOP = """\
source: shop
title: The shop
authenticate: {scheme: bearer, secret: {env: SHOP_SECRET}}
event: body.type
params:
  # Deployments to these stages count,
  # in lower case.
  stages: [live]
  strict: true
rules:
  - name: a deployment
    when: >-
      contains(['shipped', 'sold'], event) && !(event == 'dry') && event != 'test'
      && (starts_with(event || '', 'sh') || 'given' == event)
      && contains(params.stages, body.stage) && params.strict && body.items[?event == 'inner']
    emit: deploytime
    fields: {app: body.app, commit: body.commit, timestamp: body.at}
"""
CASES = """\
source: shop
cases:
  - {name: one, payload: {}, expect: {outcome: ignored}}
  - {name: two, payload: {}, sample: true, expect: {outcome: ignored}}
"""
SECRET = SecretReference(env="A_SECRET")

Sources = Callable[..., tuple[int, str]]


@pytest.fixture
def sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Sources:
    """Runs `gateway sources` in a folder of its own; its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["sources", *arguments])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "shop.yaml").write_text(SHOP)
    (folder / "shop.test.yaml").write_text(CASES)
    return folder


# The list


def test_all_are_listed_with_their_state(
    sources: Sources, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_WEBHOOK_SECRET", GITHUB_SECRET)
    code, printed = sources("--mappings", str(shop))
    assert code == 0
    head, *rows = printed.partition("\n\n")[0].splitlines()
    assert head.split() == ["source", "title", "kinds", "authentication", "cases", "state"]
    by_name = {row.split()[0]: row for row in rows}
    assert by_name.keys() == BUNDLED | {"shop"}
    assert by_name["github"].endswith("  live")
    assert "  committime, build, deploytime, failure  hmac " in by_name["github"]
    lacking = "  lacks TEAMCITY_WEBHOOK_USERNAME and TEAMCITY_WEBHOOK_SECRET"
    assert by_name["teamcity"].endswith(lacking)
    words = ["shop", "The", "shop", "deploytime", "bearer", "2", "lacks", "SHOP_SECRET"]
    assert by_name["shop"].split() == words
    assert GITHUB_SECRET not in printed
    assert f"{len(BUNDLED) + 1} sources, 1 live" in printed


def test_the_live_and_the_missing_ones_are_all(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets may be files, and mappings may be named by the environment."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    (folder / "GITHUB_WEBHOOK_SECRET").write_text(GITHUB_SECRET)
    (tmp_path / "open.yaml").write_text(
        SHOP.replace("source: shop", "source: open").replace(
            "{scheme: bearer, secret: {env: SHOP_SECRET}}", "none"
        )
    )
    monkeypatch.setenv("GATEWAY_MAPPINGS", str(tmp_path / "open.yaml"))

    def listed(*arguments: str) -> list[dict[str, object]]:
        code, printed = sources("--format", "json", "--secrets", str(folder), *arguments)
        assert code == 0
        found: list[dict[str, object]] = json.loads(printed)
        return found

    live, missing = listed("--live"), listed("--missing")
    assert [one["source"] for one in live] == ["github", "open"]
    assert [one["state"] for one in live] == ["live", "live"]
    assert {str(one["source"]) for one in missing} == BUNDLED - {"github"}
    assert all(one["missing"] for one in missing)
    assert sorted([*live, *missing], key=lambda one: str(one["source"])) == listed()


# One


def test_one_is_told_whole(sources: Sources, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PARAM_STAGES", "live,eu")
    code, printed = sources("shop", "--mappings", str(shop))
    assert code == 0
    assert (
        printed
        == f"""\
shop: The shop

  URL           /hooks/shop
  state         lacks SHOP_SECRET
  sender shows  the secret itself in the header `Authorization`, after `Bearer `
  file          {shop}/shop.yaml
  events        shipped, sold, sh*, given

secrets
  SHOP_SECRET is not set: set the variable, or write the file data/secrets/SHOP_SECRET

rules
  deploytime  a deployment

params
  stages = ["live"]
    Deployments to these stages count, in lower case.
    SHOP_PARAM_STAGES sets it, to ["live", "eu"]
  strict = true
    SHOP_PARAM_STRICT sets it

samples, of 2 cases
  two
  `gateway send shop` posts them
"""
    )


@pytest.mark.parametrize("source", sorted(BUNDLED))
def test_of_a_bundled_one_everything_is_known(
    sources: Sources, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As programs read it, with every secret set and none shown."""
    scheme = MAPPINGS[source].scheme
    prefix = source.upper().replace("-", "_")
    monkeypatch.setenv(f"{prefix}_WEBHOOK_SECRET", "none of your business")
    monkeypatch.setenv(f"{prefix}_WEBHOOK_USERNAME", "nobody")
    code, printed = sources(source, "--format", "json")
    assert code == 0
    assert "none of your business" not in printed
    found = json.loads(printed)
    assert (found["state"], found["missing"]) == ("live", [])
    assert found["url"] == f"/hooks/{source}"
    assert found["file"] == f"bundled/mappings/{source}.yaml"
    assert found["page"] == f"docs/sources/{source}.md"
    assert found["evidence"] == profile.evidence(scheme)
    assert all(one["is_set"] for one in found["secrets"])
    rules = [(rule.name, rule.model.kind) for rule in MAPPINGS[source].plan.rules]
    assert [(rule["name"], rule["kind"]) for rule in found["rules"]] == rules
    assert {one["name"]: one["default"] for one in found["params"]} == MAPPINGS[source].plan.params
    assert all(one["meaning"] for one in found["params"]), "each has a comment in the mapping"
    assert 0 < len(found["samples"]) <= found["cases"]


def test_what_cannot_be_told_is_said(sources: Sources, shop: Path, tmp_path: Path) -> None:
    code, printed = sources("githbu")
    assert (code, len(printed.splitlines())) == (2, 1)
    assert printed.startswith("gateway: there is no source `githbu`; did you mean `github`?")
    code, printed = sources("github", "--live")
    assert (code, len(printed.splitlines())) == (2, 1)
    assert "leave out SOURCE" in printed
    (shop / "shop.yaml").write_text(SHOP.replace("contains(params", "contians(params"))
    code, printed = sources("--mappings", str(shop))
    assert code == 1
    assert "error[unknown-function]" in printed


# In words


def _bundled(source: str) -> CompiledMapping:
    return MAPPINGS[source]


def test_events_are_those_that_rules_ask_for() -> None:
    found = compile_files([*FILES, SourceFile("shop.yaml", SHOP, 1)])
    assert profile.events(found.mappings["shop"]) == ["shipped", "sold", "sh*", "given"]
    assert "deployment_status" in profile.events(_bundled("github"))
    assert profile.events(_bundled("alertmanager")) == []


def test_params_keep_the_comments_of_what_is_extended() -> None:
    extending = SourceFile(
        "mine.yaml",
        "source: mine\nextends: github\nparams:\n  # Mine.\n  branches: [main]\n",
        1,
    )
    files = [*FILES, extending]
    found = profile.params(
        compile_files(files).mappings["mine"], {file.name: file.text for file in files}
    )
    meanings = {one.name: one.meaning for one in found}
    assert meanings["branches"] == "Mine."
    assert meanings["environments"].startswith("Deployments to these environments")


@pytest.mark.parametrize(
    ("scheme", "carrier", "words"),
    [
        (None, "", "nothing: whoever reaches the URL is believed"),
        (Token(secret=SECRET, header="X-T"), "X-T", "the secret itself in the header `X-T`"),
        (
            QueryToken(secret=SECRET, parameter="key"),
            "?key=",
            "the secret itself in the URL, as `?key=<secret>`",
        ),
        (
            Bearer(secret=SECRET),
            "Authorization",
            "the secret itself in the header `Authorization`, after `Bearer `",
        ),
        (
            Basic(username=SECRET, secret=SECRET),
            "Authorization",
            "a user name, and the secret as its password (HTTP basic authentication)",
        ),
        (
            StandardWebhooks(secret=SECRET),
            "webhook-signature",
            "a signature as Standard Webhooks has it in the header `webhook-signature`, with a time at "
            "most 300 seconds away",
        ),
        (
            Hmac(secret=SECRET, header="X-S", prefix="v1=", encoding="base64", separator=","),
            "X-S",
            "an HMAC-SHA256 of the body in the header `X-S`, in base64 after `v1=`, between other parts "
            "that `,` separates",
        ),
        (
            Hmac(
                secret=SECRET,
                header="X-S",
                algorithm="sha512",
                signed="{timestamp}.{body}",
                timestamp_header="X-At",
                tolerance=60,
            ),
            "X-S",
            "an HMAC-SHA512 of `{timestamp}.{body}` in the header `X-S`, in hexadecimal, with the time in "
            "`X-At`, at most 60 seconds away",
        ),
        (
            Hmac(secret=SECRET, header="X-S", timestamp_prefix="t=", signed="{timestamp}.{body}"),
            "X-S",
            "an HMAC-SHA256 of `{timestamp}.{body}` in the header `X-S`, in hexadecimal, with the time "
            "after `t=`, at most 300 seconds away",
        ),
    ],
)
def test_a_scheme_in_words(scheme: Scheme | None, carrier: str, words: str) -> None:
    assert (profile.carrier(scheme), profile.evidence(scheme)) == (carrier, words)
