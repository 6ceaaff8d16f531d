"""The table of apps: declared and checked, and events under one name whatever their sources call it."""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.apps import NO_TABLE, Apps, Naming
from gateway.delivery import Verdict
from gateway.event import Event, FieldValue, identity
from gateway.journal.entry import Entry, Recorded
from gateway.journal.sqlite import SqliteStore
from gateway.journal.writer import Writer
from gateway.mapping import library
from gateway.mapping.compiler import Compilation, SourceFile, compile_files
from gateway.pipeline import Pipeline
from gateway.series import Series, Window
from gateway.telemetry import Telemetry
from tests.expressions import thorough
from tests.harness import Gateway, hub_signature, request, run_cli, running
from tests.test_reload import ENVIRONMENT, NEVER, SECRET

TABLE = """\
apps:
  - app: shop
    team: storefront
    names:
      github: [octo/shop, octo/shop-web]
      jira: SHOP
      launchpad: shop-prod
  - app: market
    names: {jira: MKT}
"""
LAUNCHPAD = """\
source: launchpad
authenticate:
  scheme: hmac
  header: X-Signature
  prefix: sha256=
  secret: {env: SHOP_SECRET}
rules:
  - name: a sync finished
    emit: deploytime
    fields: {app: body.app, commit: body.revision, namespace: body.namespace, timestamp: body.at}
"""
SLO = """\
kind: slo
fields:
  service: {type: app}
  title: {type: text}
  ratio: {type: number}
metrics:
  - {name: slo_ratio, help: The share, value: ratio, labels: {service: service, title: title}}
"""
APPS = Apps(
    names={
        ("github", "octo/shop"): "shop",
        ("github", "octo/shop-web"): "shop",
        ("jira", "SHOP"): "shop",
        ("launchpad", "shop-prod"): "shop",
        ("jira", "MKT"): "market",
    },
    teams={"shop": "storefront", "market": ""},
)
WINDOW = Window(length=3_000_000, spacing=5_000)
START = 1_790_000_000


def compiled(*tables: str, layer: int = 1) -> Compilation:
    files = [SourceFile("launchpad.yaml", LAUNCHPAD, 1), SourceFile("slo.yaml", SLO, 1)]
    files += [SourceFile(f"apps-{n}.yaml", text, layer) for n, text in enumerate(tables)]
    return compile_files([*library.bundled_files(), *files])


MODELS = compiled().models


# The table


def test_a_table_is_compiled_with_the_mappings() -> None:
    """Names lead to apps; every app is there with its team."""
    found = compiled(TABLE)
    assert not found.diagnostics
    assert found.apps == APPS


def test_without_a_file_there_is_no_table() -> None:
    assert compiled().apps == NO_TABLE


def test_files_of_one_folder_are_one_table() -> None:
    """A team may keep its own; nothing is merged silently within an app."""
    first, second = TABLE.split("  - app: market")
    assert compiled(first, f"apps:\n  - app: market{second}").apps == APPS


def test_the_table_of_a_higher_layer_takes_the_place_of_a_lower_one() -> None:
    """As a mapping does: an example on a page is not checked against the table beside it."""
    files = [SourceFile("low.yaml", TABLE, 1), SourceFile("high.yaml", "apps: [{app: shop}]\n", 2)]
    found = compile_files([*library.bundled_files(), SourceFile("a.yaml", LAUNCHPAD, 1), *files])
    assert not found.diagnostics
    assert found.apps == Apps(teams={"shop": ""})


def test_a_wrong_table_is_no_table() -> None:
    """And its mistakes are reported; none is half in force."""
    found = compiled(TABLE.replace("launchpad", "argo"))
    assert [one.name for one in found.diagnostics] == ["unknown-app-source"]
    assert found.apps == NO_TABLE


def test_a_source_whose_mapping_is_wrong_is_known_all_the_same() -> None:
    """The mistake is that of the mapping alone."""
    broken = SourceFile("launchpad.yaml", LAUNCHPAD.replace("body.app", "body.app ||"), 1)
    table = SourceFile("apps.yaml", TABLE, 1)
    found = compile_files([*library.bundled_files(), broken, table])
    assert [one.name for one in found.diagnostics] == ["expression-syntax"]


def test_a_table_alone_is_checked_with_the_mappings_beside_it(tmp_path: Path) -> None:
    """As a mapping alone is, with what it extends."""
    (tmp_path / "apps.yaml").write_text(TABLE)
    alone = run_cli("check", "--format=concise", "apps.yaml", cwd=tmp_path)
    assert (alone.returncode, "unknown-app-source" in alone.stdout) == (1, True)
    (tmp_path / "launchpad.yaml").write_text(LAUNCHPAD)
    for path in ("apps.yaml", "."):
        checked = run_cli("check", "--deny-warnings", path, cwd=tmp_path)
        assert (checked.returncode, checked.stdout[:11]) == (0, "no problems")


# Events under their apps' names


def event(kind: str, app: str, **more: FieldValue) -> Event:
    return Event(kind, {"app": app, **more})


def named(naming: Naming, told: Event, source: str) -> list[Event]:
    return list(naming.named(told, source))


def test_an_event_gets_the_name_of_its_app() -> None:
    """By its source: another source's word for it means nothing."""
    naming = Naming(APPS, MODELS)
    told = event("failure", "SHOP", event="created", issue_number="SHOP-1", timestamp=START)
    (found,) = named(naming, told, "jira")
    assert found == event(
        "failure", "shop", event="created", issue_number="SHOP-1", timestamp=START
    )
    assert named(naming, told, "github") == [told]
    assert naming.unknown == {"github": 1, "jira": 0, "launchpad": 0}


def test_an_app_s_own_name_means_the_app_in_every_source() -> None:
    """Also in one that the table does not mention."""
    naming = Naming(APPS, MODELS)
    told = event("committime", "shop", commit="a" * 40, timestamp=START)
    assert named(naming, told, "gitlab") == [told]
    assert naming.unknown == {"github": 0, "jira": 0, "launchpad": 0}


def test_an_event_that_two_sources_tell_by_two_names_is_one() -> None:
    """As it would be if both had used the app's name."""
    naming = Naming(APPS, MODELS)
    told = [
        (event("failure", name, event="created", issue_number="1", timestamp=START), source)
        for name, source in [("SHOP", "jira"), ("octo/shop", "github"), ("shop", "gitlab")]
    ]
    assert [len(named(naming, one, source)) for one, source in told] == [1, 0, 0]


def test_every_field_that_names_an_app_is_renamed() -> None:
    """Whatever a kind calls it; text that happens to read alike is left alone."""
    told = Event("slo", {"service": "SHOP", "title": "SHOP", "ratio": 1})
    (found,) = Naming(APPS, MODELS).named(told, "jira")
    assert found.fields == {"service": "shop", "title": "SHOP", "ratio": 1}


def test_names_that_are_not_in_the_table_are_counted_once() -> None:
    """By source, and only where there is a table."""
    for apps, expected in ((APPS, {"github": 2, "jira": 1, "launchpad": 0}), (NO_TABLE, {})):
        naming = Naming(apps, MODELS)
        for name, source in [("a", "github"), ("b", "github"), ("a", "jira"), ("a", "github")]:
            told = event("committime", name, commit="a" * 40, timestamp=START)
            assert named(naming, told, source) == [told]
        assert naming.unknown == expected


NAMES: Mapping[str, Mapping[str, str]] = {
    "github": {"octo/shop": "shop", "octo/shop-web": "shop", "octo/other": "octo/other"},
    "jira": {"SHOP": "shop", "MKT": "market", "OPS": "OPS"},
    "launchpad": {"shop-prod": "shop", "market": "market", "OPS": "OPS"},
}
"""What each source calls apps, and what these are by the table."""


@st.composite
def _recorded(draw: st.DrawFn) -> Recorded:
    source = draw(st.sampled_from(sorted(NAMES)))
    app = draw(st.sampled_from(sorted(NAMES[source])))
    fields: dict[str, FieldValue] = {"timestamp": START - draw(st.integers(0, 3)) * 100}
    kind = draw(st.sampled_from(["committime", "build", "deploytime", "failure", "slo"]))
    match kind:
        case "failure":
            fields |= {"event": draw(st.sampled_from(["created", "resolved"])), "issue_number": "1"}
        case "slo":
            return Recorded(
                Event(kind, {"service": app, "title": "x", "ratio": 1}), START, source, 0
            )
        case _:
            fields |= {"commit": draw(st.sampled_from("ab")) * 40}
            if kind != "committime":
                fields |= {"image_sha": "sha256:" + draw(st.sampled_from("12")) * 64}
    return Recorded(event(kind, app, **fields), START + draw(st.integers(0, 60)), source, 0)


def _journalled(events: Iterable[Recorded]) -> Iterator[Recorded]:
    """As the journal keeps them: none of them twice."""
    known: set[bytes] = set()
    for one in events:
        if identity(one.event) not in known:
            known.add(identity(one.event))
            yield one


def _by_its_app(one: Recorded) -> Recorded:
    names = NAMES[one.source]
    fields = {
        name: names[str(value)] if name in ("app", "service") else value
        for name, value in one.event.fields.items()
    }
    return one._replace(event=Event(one.event.kind, fields))


def _shown(events: Sequence[Recorded], apps: Apps) -> list[Any]:
    series, naming = Series(MODELS, WINDOW), Naming(apps, MODELS)
    for told, received_at, source, _ in _journalled(events):
        for one in naming.named(told, source):
            series.fold(one, round(received_at * 1000))
    series.advance((START + 120) * 1000)
    families = [(one.name, sorted(one.lines)) for one in series.families()]
    return [families, series.correlation.coverage(), series.correlation.suspect]


@thorough
@given(st.lists(_recorded(), max_size=20))
def test_renaming_gives_what_the_apps_names_would_have_given(events: list[Recorded]) -> None:
    """Whatever is told, by whom, and however often."""
    assert _shown(events, APPS) == _shown([_by_its_app(one) for one in events], NO_TABLE)


# The journal


def _entry(number: int, app: str, source: str) -> Entry:
    told = event("committime", app, commit=f"{number:040x}", timestamp=START + number)
    return Entry(
        source=source,
        delivery_id=f"d-{number}",
        event="",
        received_at=START + float(number),
        verdict=Verdict.ACCEPTED,
        reasons=(),
        events=(told,),
        headers={},
        query={},
        body=b"{}",
    )


def _series(pipeline: Pipeline) -> list[Any]:
    pipeline.series.advance((START + 10_000) * 1000)
    return [sorted(family.lines) for family in pipeline.series.families()]


def test_another_table_gives_the_series_of_a_restart(tmp_path: Path) -> None:
    """Also of what is committed while the history is folded anew; an equal table keeps the series."""
    journal = Writer(SqliteStore(tmp_path / "journal.sqlite"))
    new_series = partial(Series, window=Window(length=30_000_000, spacing=5_000))
    other = Apps(names={("jira", "SHOP"): "kiosk"}, teams={"kiosk": "corner"})

    async def pipeline_of(apps: Apps) -> Pipeline:
        pipeline = Pipeline(
            {}, MODELS, new_series, journal, Telemetry("0"), apps, clock=lambda: START
        )
        await pipeline.shown.begin()
        return pipeline

    async def append(numbers: Iterable[int]) -> None:
        told = [("octo/shop", "github"), ("SHOP", "jira"), ("unknown", "jira")]
        entries = [_entry(number, *told[number % 3]) for number in numbers]
        await asyncio.gather(*map(journal.append, entries))

    async def story() -> None:
        journal.start()
        pipeline = await pipeline_of(NO_TABLE)
        await append(range(1_500))
        last = 1_500
        for apps in (APPS, other, NO_TABLE):
            adopting = asyncio.create_task(pipeline.adopt({}, MODELS, apps))
            while not adopting.done():
                await append(range(last, last + 30))
                last += 30
            await adopting
            fresh = await pipeline_of(apps)
            assert _series(pipeline) == _series(fresh)
            assert pipeline.unknown_apps == fresh.unknown_apps
            assert bool(pipeline.unknown_apps) is bool(apps.teams)
            # Later deliveries are not told to anybody else than the pipeline.
            journal.follow(pipeline.shown.tell)
        before = pipeline.series
        await pipeline.adopt({}, MODELS, Apps())
        assert pipeline.series is before

    try:
        asyncio.run(story())
    finally:
        journal.close()


# Served

SHA = "6b51418b3a517cf90995add3bc626b706b767b99"
AT = 1_772_445_600
PUSH = {
    "ref": "refs/heads/main",
    "deleted": False,
    "repository": {"full_name": "octo/shop", "html_url": "https://github.com/octo/shop"},
    "commits": [
        {"id": SHA, "timestamp": "2026-03-02T10:00:00Z", "url": "https://github.com/octo/shop/c"}
    ],
}
ISSUE = {
    "webhookEvent": "jira:issue_created",
    "issue": {
        "key": "SHOP-7",
        "fields": {
            "project": {"key": "SHOP"},
            "issuetype": {"name": "Bug"},
            "created": "2026-03-02T10:30:00.000+0000",
        },
    },
}
SYNC = {"app": "shop-prod", "revision": SHA, "namespace": "prod", "at": AT + 900}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the mapping of a source of one's own, and the table."""
    folder = tmp_path / "mappings"
    folder.mkdir()
    (folder / "launchpad.yaml").write_text(LAUNCHPAD)
    (folder / "apps.yaml").write_text(TABLE)
    return folder


@pytest.fixture
def gateway(tmp_path: Path, files: Path) -> Iterator[Gateway]:
    """A gateway that serves them, and watches nothing."""
    arguments = ("--mappings", str(files), "--scrape-interval", "1", *NEVER)
    with running(tmp_path, *arguments, environment=ENVIRONMENT) as started:
        yield started


def deliver(gateway: Gateway) -> None:
    """A push, a deployment and a failure, each from a source with a name of its own for the shop."""
    raw = json.dumps(SYNC).encode()
    answers = [
        gateway.github("push", PUSH),
        gateway.post("/hooks/launchpad", raw, {"X-Signature": hub_signature(raw, SECRET)}),
        gateway.jira(ISSUE),
    ]
    assert [answer.status for answer in answers] == [202, 202, 202]
    told = [answer.json()["events"][0]["app"] for answer in answers]
    # A sender is answered in its own words.
    assert told == ["octo/shop", "shop-prod", "SHOP"]


def values(gateway: Gateway, name: str) -> dict[str, float]:
    """The series of a metric."""
    return {
        series: value
        for series, (value, _) in gateway.samples().items()
        if series.startswith(name + "{")
    }


def own(gateway: Gateway, name: str) -> dict[str, float]:
    """The series of a metric of the gateway's own."""
    lines = gateway.get("/metrics").body.decode().splitlines()
    found = [line.rpartition(" ") for line in lines if line.startswith(name + "{")]
    return {series: float(value) for series, _, value in found}


def test_three_sources_join_under_one_name(gateway: Gateway) -> None:
    """Lead time and failure of one app, in the series and over a restart."""
    deliver(gateway)
    labels = f'app="/shop/",image_sha="{SHA}",namespace="prod"'
    samples = gateway.samples()
    assert not [series for series in samples if 'app="/shop/"' not in series]
    assert values(gateway, "deploy_timestamp") == {f"deploy_timestamp{{{labels}}}": AT + 900}
    assert list(values(gateway, "commit_timestamp").values()) == [AT]
    assert list(values(gateway, "failure_creation_timestamp").values()) == [AT + 1800]
    joined = 'gateway_deployments{app="/shop/",joined="true"}'
    assert gateway.counter(joined) == 1
    assert own(gateway, "gateway_app_info") == {
        'gateway_app_info{app="/shop/",team="storefront"}': 1,
        'gateway_app_info{app="/market/",team=""}': 1,
    }
    gateway.stop()
    gateway.start()
    assert gateway.samples() == samples
    assert gateway.counter(joined) == 1


def test_lead_time_and_failed_deployment_are_of_the_app(gateway: Gateway) -> None:
    """Both need what two sources told."""
    deliver(gateway)
    of_deployment = f'image_sha="{SHA}",namespace="prod"'
    assert values(gateway, "dora_lead_time_seconds") == {
        f'dora_lead_time_seconds{{app="/shop/",commit="{SHA}",{of_deployment}}}': 900
    }
    assert values(gateway, "dora_failed_deployments") == {
        f'dora_failed_deployments{{app="/shop/",{of_deployment}}}': 1
    }


def test_a_changed_table_changes_what_is_shown(gateway: Gateway, files: Path) -> None:
    """As a restart would, and names that it no longer knows are counted."""
    deliver(gateway)
    shared = gateway.samples()
    (files / "apps.yaml").write_text(TABLE.replace("      launchpad: shop-prod\n", ""))
    answer = request(gateway.internal, "POST", "/-/reload", b"")
    assert answer.json()["files"] == [str(files / "apps.yaml")]
    apart = gateway.samples()
    assert list(values(gateway, "deploy_timestamp")) == [
        f'deploy_timestamp{{app="/shop-prod/",image_sha="{SHA}",namespace="prod"}}'
    ]
    assert own(gateway, "gateway_unknown_apps") == {
        'gateway_unknown_apps{source="github"}': 0,
        'gateway_unknown_apps{source="jira"}': 0,
        'gateway_unknown_apps{source="launchpad"}': 1,
    }
    assert set(own(gateway, "gateway_deployments")) == {
        'gateway_deployments{app="/shop-prod/",joined="true"}',
        'gateway_deployments{app="/shop-prod/",joined="false"}',
    }
    gateway.stop()
    gateway.start()
    assert gateway.samples() == apart

    (files / "apps.yaml").write_text(TABLE.replace("shop-prod", "[shop-prod"))
    assert request(gateway.internal, "POST", "/-/reload", b"").status == 422
    assert gateway.samples() == apart
    (files / "apps.yaml").write_text(TABLE)
    assert request(gateway.internal, "POST", "/-/reload", b"").status == 200
    assert gateway.samples() == shared
    (files / "apps.yaml").unlink()
    assert request(gateway.internal, "POST", "/-/reload", b"").status == 200
    assert own(gateway, "gateway_unknown_apps") == own(gateway, "gateway_app_info") == {}


def test_a_dry_run_says_what_the_table_makes_of_an_app(
    gateway: Gateway, files: Path, tmp_path: Path
) -> None:
    """`gateway try`, `POST /try/` and `gateway explain`."""
    by_table = '"SHOP" is the app "shop", by the table of apps'
    (tmp_path / "issue.json").write_text(json.dumps(ISSUE))
    tried = run_cli("try", "jira", "issue.json", "--mappings", str(files), cwd=tmp_path)
    assert by_table in tried.stdout
    text = {"Accept": "text/plain", "Content-Type": "application/json"}
    asked = request(gateway.internal, "POST", "/try/jira", json.dumps(ISSUE).encode(), text)
    assert by_table in asked.body.decode()
    payload = json.dumps(ISSUE).replace("SHOP", "OPS").encode()
    answer = request(gateway.internal, "POST", "/try/jira", payload, {"Accept": "application/json"})
    assert answer.json()["apps"] == {"OPS": None}
    assert gateway.jira(ISSUE, delivery="issue-7").status == 202
    explained = run_cli("explain", "issue-7", "--mappings", str(files), cwd=tmp_path)
    assert by_table in explained.stdout
