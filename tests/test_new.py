"""`gateway new`: a mapping and its cases from samples, which pass `check` and `test` whatever was sent."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import body
from gateway.authoring import cases, draft, draft_text, recognise, trial
from gateway.authoring.credentials import credentials
from gateway.authoring.draft import Draft, Rule
from gateway.authoring.draft_text import Files
from gateway.authoring.recognise import Sample
from gateway.mapping import document, expression, library, samples
from gateway.mapping.compiler import SourceFile, compile_files
from tests.harness import require_corpus, run_cli

BUNDLED = [file for file in library.bundled_files() if "schemas" in Path(file.name).parts]
SHA = "6b51418b3a517cf90995add3bc626b706b767b99"
OTHER_SHA = "97a2791a8c6bb3cefb547b6242419a29a88b15b3"
DIGEST = "sha256:" + "f323caf9faa3115a084765bc3efc90a6ac5fd3baa3c1710cdd0ddb2f8ec4327a"
DEPLOYMENT = {
    "event": "deployment.finished",
    "status": "succeeded",
    "service": "tide-table",
    "environment": "production",
    "git": {"sha": SHA, "branch": "main"},
    "created_at": "2026-03-02T10:01:12Z",
    "finished_at": "2026-03-02T10:05:31Z",
}


def drafted(
    *payloads: Any,
    headers: Mapping[str, str] | None = None,
    emit: str = "",
    models: Sequence[SourceFile] = (),
    source: str = "shipyard",
) -> tuple[Draft, Files]:
    """The draft of these payloads, which passes `check` and `test`."""
    given = [
        Sample(name=f"number {number}", headers=headers or {}, payload=payload)
        for number, payload in enumerate(payloads)
    ]
    files = [*BUNDLED, *models]
    made = draft.draft(source, given, draft.kinds(files), emit)
    written = draft_text.files(made, given, files, "shipyard.yaml")
    passes(source, written, files)
    return made, written


def passes(source: str, written: Files, models: Sequence[SourceFile]) -> None:
    """What `check --deny-warnings` and `test` ask of the two files."""
    all_pass({source: written}, models)


def all_pass(drafts: Mapping[str, Files], models: Sequence[SourceFile]) -> None:
    """The same of the drafts of several sources."""
    found: dict[str, list[cases.Case]] = {}
    for source, written in drafts.items():
        read, findings = cases.read(f"{source}.test.yaml", written.cases)
        assert read is not None, (findings, written.cases)
        assert not findings
        assert len(read.cases) == len(written.outcomes)
        found[source] = read.cases
    mappings = [SourceFile(f"{name}.yaml", one.mapping, 2) for name, one in drafts.items()]
    compilation = compile_files(
        [*models, *mappings],
        {source: [*map(_shown, of_source)] for source, of_source in found.items()},
    )
    assert not compilation.diagnostics
    for source, of_source in found.items():
        for case in of_source:
            result = trial.run(compilation.mappings[source], case)
            assert result.passed, (result.actual, case)


def _shown(case: cases.Case) -> samples.Sample:
    headers = {name.lower(): value for name, value in case.headers.items()}
    return samples.Sample(case.payload, headers or None)


def fields(rule: Rule) -> dict[str, str]:
    return {field.name: field.expression for field in rule.fields}


# What a draft says


DEPLOYMENT_DRAFT = """\
# yaml-language-server: $schema=../schemas/mapping.schema.json
# Drafted from samples by `gateway new`. Every `decide:` asks for your decision.
source: shipyard
title: Shipyard
authenticate:
  # decide: no header of the sample proves the sender; this one is a guess.
  scheme: token
  header: X-Webhook-Token
  secret: {env: SHIPYARD_WEBHOOK_SECRET}
# decide: what stays the same when a delivery is sent again? Then add it as `delivery_id:`.
event: body.event
params:
  # Only what reaches these environments counts.
  environments: [production]
rules:
  - name: a deployment that users got
    when: >-
      event == 'deployment.finished'
      && body.status == 'succeeded'
      && contains(params.environments, body.environment)
    emit: deploytime
    fields:
      app: body.service
      commit: body.git.sha
      namespace: body.environment
      timestamp: body.finished_at
"""
DEPLOYMENT_CASES = f"""\
# yaml-language-server: $schema=../schemas/test.schema.json
source: shipyard
cases:
  - name: the sample number 0
    payload:
      event: deployment.finished
      status: succeeded
      service: tide-table
      environment: production
      git: {{sha: {SHA}, branch: main}}
      created_at: "2026-03-02T10:01:12Z"
      finished_at: "2026-03-02T10:05:31Z"
    expect:
      outcome: accepted
      events:
        - kind: deploytime
          app: tide-table
          commit: {SHA}
          namespace: production
          timestamp: 1772445931
"""


def test_a_deployment_of_an_in_house_tool() -> None:
    _, written = drafted(DEPLOYMENT)
    assert written.mapping == DEPLOYMENT_DRAFT
    assert written.cases == DEPLOYMENT_CASES


def test_the_runner_up_is_named_where_a_person_must_decide() -> None:
    payload = {"service": "buoy", "sha": SHA, "deployed_at": 1772445931, "finished_at": 1772445999}
    _, written = drafted(payload)
    assert "# decide: also found: body.finished_at.\n      timestamp: body.deployed_at" in (
        written.mapping
    )


def test_a_time_without_an_offset_is_asked_about() -> None:
    _, written = drafted({**DEPLOYMENT, "finished_at": "2026-03-02 10:05:31"})
    assert "timestamp: {value: body.finished_at, offset: UTC}" in written.mapping
    assert "the time says no offset from UTC; is it this one?" in written.mapping


@pytest.mark.parametrize(
    "time",
    [
        "2026-03-02T10:05:31Z",
        "2026-03-02T11:05:31.250+01:00",
        "2026-03-02 10:05:31 UTC",
        "2026-03-02T10:05:31.000+0000",
        "2026-03-02 11:05:31 +0100",
        1772445931,
        1772445931.5,
        1772445931000,
        "1772445931",
    ],
)
def test_times_are_recognised_in_every_form_that_a_field_takes(time: Any) -> None:
    made, written = drafted({**DEPLOYMENT, "finished_at": time})
    assert fields(made.rules[0])["timestamp"] == "body.finished_at"
    assert written.outcomes[0][1].outcome == "accepted"


def test_a_number_is_a_time_only_where_its_name_says_so() -> None:
    payload = {"service": "buoy", "sha": SHA, "build": 1772445931}
    assert fields(drafted(payload)[0].rules[0])["timestamp"] == "received_at"


@pytest.mark.parametrize(
    ("git", "expected"),
    [
        ({"sha": "6b51418"}, "body.git.sha"),
        ({"name": "6b51418", "before": OTHER_SHA, "after": SHA}, "body.git.after"),
        (
            {"commit_url": f"https://git.example/c/{SHA}"},
            "split(not_null(body.git.commit_url, ''), '/')[-1]",
        ),
        ({"parents": [OTHER_SHA], "revision": SHA}, "body.git.revision"),
        ({"sha": "a" * 64}, "body.git.sha"),
    ],
)
def test_commits_are_recognised(git: Any, expected: str) -> None:
    assert fields(drafted({**DEPLOYMENT, "git": git})[0].rules[0])["commit"] == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (DIGEST, "body.image"),
        (f"registry.example/tide-table@{DIGEST}", "split(not_null(body.image, ''), '@')[-1]"),
    ],
)
def test_image_digests_and_references_are_recognised(image: str, expected: str) -> None:
    payload = {key: value for key, value in DEPLOYMENT.items() if key != "git"} | {"image": image}
    made, written = drafted(payload)
    assert fields(made.rules[0])["image_sha"] == expected
    assert written.outcomes[0][1].events[0]["image_sha"] == DIGEST


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"repository": {"full_name": "works/tide", "name": "tide"}}, "body.repository.full_name"),
        (
            {"project": {"path_with_namespace": "works/tide", "name": "Tide"}},
            "body.project.path_with_namespace",
        ),
        ({"user": {"name": "Mara"}, "app": "tide"}, "body.app"),
        ({"application": {"name": "tide"}}, "body.application.name"),
        ({"app-name": "tide"}, 'body."app-name"'),
    ],
)
def test_names_of_apps_are_recognised(where: Any, expected: str) -> None:
    payload = {key: value for key, value in DEPLOYMENT.items() if key != "service"} | where
    assert fields(drafted(payload)[0].rules[0])["app"] == expected


def test_a_list_of_commits_is_gone_through() -> None:
    commits = [
        {"id": sha, "timestamp": "2026-03-02T09:12:04Z", "url": f"https://git.example/commit/{sha}"}
        for sha in (SHA, OTHER_SHA)
    ]
    payload = {"event": "push", "repository": {"full_name": "works/tide"}, "commits": commits}
    (rule,) = drafted({**payload, "after": SHA, "before": "0" * 40})[0].rules
    assert (rule.emit, rule.each) == ("committime", "body.commits")
    assert fields(rule) == {
        "app": "body.repository.full_name",
        "commit": "each.id",
        "timestamp": "each.timestamp",
        "commit_link": "each.url",
    }


def test_a_list_at_the_top_is_gone_through() -> None:
    payload = [{"service": "tide", "sha": SHA, "deployed_at": 1772445931}]
    (rule,) = drafted(payload)[0].rules
    assert rule.each == "body"
    assert fields(rule)["commit"] == "each.sha"


ALERTS = [
    {
        "status": "firing",
        "labels": {"service": "tide"},
        "fingerprint": "a1",
        "startsAt": 1772445931,
    },
    {
        "status": "resolved",
        "labels": {"service": "tide"},
        "fingerprint": "b2",
        "startsAt": 1772445931,
        "endsAt": 1772449999,
    },
]


def test_the_states_of_alerts_make_a_rule_each() -> None:
    made, written = drafted({"version": "4", "status": "firing", "alerts": ALERTS})
    firing, resolved = made.rules
    assert (firing.each, firing.when) == ("body.alerts", ("each.status == 'firing'",))
    assert fields(firing) == {
        "app": "each.labels.service",
        "event": "'created'",
        "issue_number": "each.fingerprint",
        "timestamp": "each.startsAt",
    }
    assert resolved.when == ("each.status == 'resolved'",)
    assert fields(resolved)["timestamp"] == "each.endsAt"
    assert [event["event"] for event in written.outcomes[0][1].events] == ["created", "resolved"]


def test_several_samples_are_told_apart_by_their_event() -> None:
    incident = {"service": "tide", "incident": {"number": 41}, "opened_at": 1772445931}
    made, written = drafted(
        {**DEPLOYMENT},
        {**DEPLOYMENT, "status": "failed"},
        {**incident, "event": "incident.opened"},
        {**incident, "event": "incident.resolved", "resolved_at": 1772449999},
        {"event": "ping"},
    )
    assert [rule.emit for rule in made.rules] == ["deploytime", "failure", "failure"]
    assert [outcome.outcome for _, outcome in written.outcomes] == [
        "accepted",
        "ignored",
        "accepted",
        "accepted",
        "ignored",
    ]
    assert fields(made.rules[1])["timestamp"] == "body.opened_at"
    assert fields(made.rules[2])["timestamp"] == "body.resolved_at"
    assert fields(made.rules[2])["event"] == "'resolved'"


def test_an_environment_that_is_not_production_is_asked_about() -> None:
    _, written = drafted({**DEPLOYMENT, "environment": "staging"})
    assert "only production counts; body.environment is `staging` here." in written.mapping
    assert "params" not in written.mapping


def test_values_are_compared_over_all_samples() -> None:
    """A path that holds a time in one sample and other text in the next is no time."""
    made, _ = drafted(
        {**DEPLOYMENT, "done": "2026-03-02T10:05:31Z"},
        {**DEPLOYMENT, "finished_at": "soon", "done": "2026-03-02T11:05:31Z"},
    )
    assert fields(made.rules[0])["timestamp"] == "body.done"


# Which kind


def test_emit_overrides_the_kind() -> None:
    (rule,) = drafted(DEPLOYMENT, emit="committime")[0].rules
    assert rule.emit == "committime"


def test_a_kind_that_no_model_describes_is_refused() -> None:
    with pytest.raises(draft.UnknownKind):
        drafted(DEPLOYMENT, emit="deployment")


SLO = SourceFile(
    "slo.yaml",
    """\
kind: slo
title: A service level, measured
fields:
  app: {type: app}
  objective: {type: choice, choices: [availability, latency]}
  ratio: {type: number, description: The share of good requests.}
  measured_at: {type: timestamp}
metrics:
  - {name: slo_ratio, help: Share, value: ratio, labels: {app: app, objective: objective}}
""",
    1,
)


def test_a_kind_that_a_user_declared_is_recognised_by_its_model() -> None:
    payload = {
        "time": "2026-03-02T10:00:00Z",
        "levels": [
            {"service": "tide", "objective": "latency", "ratio": 0.995, "measured_at": 1772445931}
        ],
    }
    (rule,) = drafted(payload, models=[SLO], source="reports")[0].rules
    assert (rule.emit, rule.each) == ("slo", "body.levels")
    assert fields(rule) == {
        "app": "each.service",
        "objective": "each.objective",
        "ratio": "each.ratio",
        "measured_at": "each.measured_at",
    }


# How it proves itself


HEX = "ab" * 32


@pytest.mark.parametrize(
    ("headers", "keys"),
    [
        (
            {"X-A-Signature": f"sha256={HEX}"},
            {"scheme": "hmac", "header": "X-A-Signature", "prefix": "sha256="},
        ),
        ({"X-A-Signature": HEX}, {"scheme": "hmac", "header": "X-A-Signature"}),
        (
            {"X-A-Signature": HEX * 2},
            {"scheme": "hmac", "header": "X-A-Signature", "algorithm": "sha512"},
        ),
        (
            {"X-A-Signature": "ab" * 20},
            {"scheme": "hmac", "header": "X-A-Signature", "algorithm": "sha1", "allow_weak": True},
        ),
        (
            {"X-A-Hmac": "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="},
            {"scheme": "hmac", "header": "X-A-Hmac", "encoding": "base64"},
        ),
        (
            {"X-Hub-Signature": "sha1=" + "ab" * 20, "X-Hub-Signature-256": f"sha256={HEX}"},
            {"scheme": "hmac", "header": "X-Hub-Signature-256", "prefix": "sha256="},
        ),
        ({"X-Gitlab-Token": "abc"}, {"scheme": "token", "header": "X-Gitlab-Token"}),
        ({"authorization": "Bearer abc"}, {"scheme": "bearer"}),
        ({"Authorization": "Basic YTpi"}, {"scheme": "basic"}),
        (
            {"Authorization": "ApiKey abc"},
            {"scheme": "token", "header": "Authorization", "prefix": "ApiKey "},
        ),
        ({"Authorization": "abc"}, {"scheme": "token", "header": "Authorization"}),
        (
            {
                "webhook-id": "msg_1",
                "webhook-timestamp": "1772445931",
                "webhook-signature": "v1,abc=",
            },
            {"scheme": "standard-webhooks"},
        ),
        ({"Content-Type": "application/json"}, {"scheme": "token", "header": "X-Webhook-Token"}),
    ],
)
def test_authentication_is_recognised_by_headers(
    headers: dict[str, str], keys: dict[str, object]
) -> None:
    assert credentials(headers).keys == keys
    given = {**headers, "X-A-Event": "deployed"}
    _, written = drafted(DEPLOYMENT, headers=given)
    read, _ = cases.read("shipyard.test.yaml", written.cases)
    assert read is not None
    assert not {*headers} & {*read.cases[0].headers}


def test_a_signed_time_is_asked_about() -> None:
    found = credentials({"X-Bot-Signature": f"v0={HEX}", "X-Bot-Request-Timestamp": "1772445931"})
    assert "is X-Bot-Request-Timestamp signed too?" in found.decide


def test_ids_and_events_are_found_in_headers() -> None:
    headers = {"X-Yard-Event": "deployed", "X-Yard-Delivery": "4711", "User-Agent": "yard"}
    made, written = drafted({key: DEPLOYMENT[key] for key in ("service", "git")}, headers=headers)
    assert made.event is not None
    assert made.event.expression == 'headers."x-yard-event"'
    assert made.delivery_id is not None
    assert made.delivery_id.expression == 'headers."x-yard-delivery"'
    assert 'headers: {X-Yard-Event: deployed, X-Yard-Delivery: "4711"}' in written.cases


def test_an_id_that_samples_share_is_none_of_a_delivery() -> None:
    made, _ = drafted({**DEPLOYMENT, "event_id": "a"}, {**DEPLOYMENT, "event_id": "b"})
    assert made.delivery_id is not None
    made, _ = drafted({**DEPLOYMENT, "event_id": "a"}, {**DEPLOYMENT, "event_id": "a"})
    assert made.delivery_id is None


def test_the_id_of_what_a_delivery_is_about_is_none_of_the_delivery() -> None:
    """Two deliveries about one build would count as one."""
    assert drafted({**DEPLOYMENT, "id": "8123"})[0].delivery_id is None


# Whatever is sent


HOSTILE: list[Any] = [
    {},
    [],
    None,
    True,
    0,
    "text",
    [[[]]],
    {"": ""},
    {"": {"": {"sha": SHA}}},
    {"app": 'it\'s "quoted"\n: # & * ! | > %@`'},
    {"event": "it's", "status": "a\\"},
    {"event": "`true`", "app": "'"},
    {"a.b": {"c-d": SHA}, "e f": "2026-03-02T10:05:31Z"},
    {"приложение": "прилив", "время": "2026-03-02T10:05:31Z", "commit": SHA},
    {"app\u2028name": "x", "com\x85mit": SHA, "\ud7ff\ufeff": 1, "\x7f": "\x00", "😀": "😀"},
    {'"': SHA, "'": "2026-03-02T10:05:31Z", "`": "x", "\\": "y", "\n": "z"},
    {"null": SHA, "true": 1, "on": 2, "1": 3, "~": 4, "- a": 5, "? b": 6, "#c": 7, "{d}": 8},
    {"values": ["null", "~", "1e3", "0o17", "0x1f", "yes", "12:30", "1_000", ".5", "-", "=", "<<"]},
    {"big": 10**50, "small": -(10**50), "float": 1e308, "tiny": 5e-324, "minus": -0.0},
    {"status": True, "success": False, "state": None, "result": 1.5},
    {"app": "a" * 10_000, "commit": SHA, "k" * 5_000: {"sha": SHA}},
    {"commits": [{"id": SHA}] * 3_000, "name": "x"},
    {"deep": json.loads('{"a":' * 80 + "1" + "}" * 80), "sha": SHA},
    {"alerts": [{"status": "firing"}, {"status": "resolved"}, 1, None, "x"]},
    {"event": ["push"], "action": {"a": 1}, "type": None},
    {"time": "2026-02-30T10:00:00Z", "timestamp": "0000-00-00", "created_at": 10**18},
    {"environment": "production\n", "env": "", "namespace": "n" * 64, "sha": SHA},
]


@pytest.mark.parametrize("payload", HOSTILE, ids=range(len(HOSTILE)))
def test_a_draft_of_anything_passes(payload: Any) -> None:
    drafted(payload)
    drafted({"data": payload, "service": "tide"}, payload)


@pytest.mark.parametrize("emit", ["deploytime", "committime", "failure", "build"])
def test_a_draft_of_nothing_passes_for_every_kind(emit: str) -> None:
    """A name and a time can be filled in; what cannot waits as a dead letter until it is decided."""
    made, written = drafted({}, emit=emit)
    assert "# decide: nothing in the sample looks like it" in written.mapping
    assert written.outcomes[0][1].outcome == "dead_lettered"
    assert fields(made.rules[0])["app"] == "'name-of-the-app'"


def test_of_a_large_sample_only_what_is_read_is_kept() -> None:
    payload = {**DEPLOYMENT, "log": ["a line of a log\n" * 4] * 20_000}
    assert len(json.dumps(payload)) > 1_000_000
    _, written = drafted(payload)
    assert len(written.cases) < 2_000
    assert "# The sample is larger than suits a case" in written.cases
    assert written.outcomes[0][1].outcome == "accepted"


_KEYS = st.one_of(
    st.sampled_from(
        (
            *("app", "service", "commit", "sha", "id", "status", "event", "type", "finished_at"),
            *(
                "env",
                "environment",
                "image",
                "commits",
                "alerts",
                "number",
                "incident",
                "url",
                "data",
            ),
        )
    ),
    st.text(max_size=12),
)
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(
        (
            *(SHA, OTHER_SHA, DIGEST, f"a@{DIGEST}", f"https://a/commit/{SHA}", "0" * 40),
            *("2026-03-02T10:05:31Z", "2026-03-02 10:05:31", "1772445931", "https://a.example/x"),
            *("success", "firing", "resolved", "deployment", "production", "tide"),
            *("it's", "null", "\\", "`"),
        )
    ),
)
_JSON = st.recursive(
    _VALUES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=6),
    max_leaves=25,
)
_OBJECTS = st.dictionaries(_KEYS, _JSON, max_size=8)
_HEADERS = st.dictionaries(
    st.from_regex(r"\A(X-|webhook-|ce-)?(Event|Delivery|Signature|Token|Authorization|Id|id)\Z"),
    st.from_regex(r"\A[!-~]([ -~]{0,30}[!-~])?\Z"),
    max_size=3,
)


@settings(max_examples=60)
@given(st.lists(_OBJECTS | _JSON, min_size=1, max_size=3), _HEADERS)
def test_a_draft_of_any_json_passes(payloads: list[Any], headers: dict[str, str]) -> None:
    drafted(*payloads, headers=headers, models=[SLO])


@given(st.text())
def test_text_as_yaml_reads_back(text: str) -> None:
    """As a value, as an item of a list on one line, and as a key."""
    in_flow = draft_text.scalar(text, in_flow=True)
    for written in (
        f"a: {draft_text.scalar(text)}",
        f"a: [{in_flow}]",
        f"{draft_text.written_key(text)}: a",
    ):
        assert written.isprintable()
        node, findings = document.parse("", written)
        assert not findings
        assert isinstance(node, document.Table)
        ((key, value),) = node.entries
        items = value.items if isinstance(value, document.Sequence) else (value,)
        assert text in [one.value for one in (key, *items) if isinstance(one, document.Scalar)]


@given(st.text(min_size=1))
def test_a_key_is_read_by_its_name(key: str) -> None:
    text = recognise.reading((key,), None)
    assert text.isprintable()
    assert expression.parse(text).evaluate({"body": {key: "found"}}) == "found"


# Real payloads


def corpus() -> list[tuple[str, Sample]]:
    found = []
    for path in sorted(require_corpus().glob("*/*.meta.json")):
        meta = json.loads(path.read_text())
        beside = path.with_name(meta.get("body_file") or path.name.replace(".meta.json", ".json"))
        raw = beside.read_bytes()
        form = body.FORM if beside.suffix == ".body" else ""
        name = f"{path.parent.name}/{path.name.removesuffix('.meta.json')}"
        found.append(
            (name, Sample(name=name, headers=meta["headers"], payload=body.read(raw, form)))
        )
    return found


def test_drafts_of_real_payloads_pass() -> None:
    models = draft.kinds(BUNDLED)
    drafts: dict[str, Files] = {}
    for number, (_, sample) in enumerate(corpus()):
        made = draft.draft(f"vendor-{number}", [sample], models)
        drafts[made.source] = draft_text.files(made, [sample], BUNDLED, f"{made.source}.yaml")
    assert len(drafts) > 200
    all_pass(drafts, BUNDLED)


REAL: dict[str, tuple[str, dict[str, str]]] = {
    "github/push.argocd-master": (
        "committime",
        {
            "app": "body.repository.full_name",
            "commit": "each.id",
            "timestamp": "each.timestamp",
            "commit_link": "each.url",
        },
    ),
    "github/deployment_status.success": (
        "deploytime",
        {
            "app": "body.repository.full_name",
            "commit": "body.deployment.sha",
            "namespace": "body.deployment_status.environment",
            "timestamp": "body.deployment_status.updated_at",
        },
    ),
    "github/issues.opened-bug": (
        "failure",
        {
            "app": "body.repository.full_name",
            "event": "'created'",
            "issue_number": "body.issue.number",
            "timestamp": "body.issue.created_at",
        },
    ),
    "gitlab/deployment.success": (
        "deploytime",
        {
            "app": "body.project.path_with_namespace",
            "commit": "split(not_null(body.commit_url, ''), '/')[-1]",
            "namespace": "body.environment",
            "timestamp": "body.status_changed_at",
        },
    ),
    "gitlab/pipeline.success": (
        "committime",
        {
            "app": "body.project.path_with_namespace",
            "commit": "body.object_attributes.sha",
            "timestamp": "body.commit.timestamp",
            "commit_link": "body.commit.url",
        },
    ),
    "gitlab/issue.close": (
        "failure",
        {
            "app": "body.project.path_with_namespace",
            "event": "'resolved'",
            "issue_number": "body.object_attributes.iid",
            "timestamp": "body.object_attributes.closed_at",
        },
    ),
    "pagerduty/incident.triggered": (
        "failure",
        {
            "app": "body.event.data.service.summary",
            "event": "'created'",
            "issue_number": "body.event.data.number",
            "timestamp": "body.event.occurred_at",
        },
    ),
    "harbor/PUSH_ARTIFACT.by-digest": (
        "build",
        {
            "app": "body.event_data.repository.repo_full_name",
            "image_sha": "each.digest",
            "timestamp": "body.occur_at",
        },
    ),
    "alertmanager/resolved.two-alerts": (
        "failure",
        {
            "app": "each.labels.app",
            "event": "'resolved'",
            "issue_number": "each.fingerprint",
            "timestamp": "each.endsAt",
        },
    ),
    "argocd/on-deployed": (
        "deploytime",
        {
            "app": "body.app",
            "commit": "body.revision",
            "image_sha": "split(not_null(body.images[0], ''), '@')[-1]",
            "namespace": "body.namespace",
            "timestamp": "body.finishedAt",
        },
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_fields_of_real_payloads_are_found(name: str) -> None:
    sample = dict(corpus())[name]
    made = draft.draft(name.partition("/")[0], [sample], draft.kinds(BUNDLED))
    (rule,) = made.rules
    assert (rule.emit, fields(rule)) == REAL[name]


# The command


RAW = f"""\
### what the yard sends
POST /hooks/shipyard HTTP/1.1
Content-Type: application/json
X-Yard-Event: deployed
X-Yard-Signature: sha256={HEX}

{json.dumps(DEPLOYMENT)}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deployment.http").write_text(RAW)
    (tmp_path / "deployment.json").write_text(json.dumps(DEPLOYMENT))
    return tmp_path


def test_the_command_writes_files_that_check_and_test_accept(folder: Path) -> None:
    done = run_cli("new", "shipyard", "--sample", "deployment.http", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    for line in (
        "wrote mappings/shipyard.yaml",
        "wrote mappings/shipyard.test.yaml",
        "  authenticate: hmac in X-Yard-Signature, a sha256 hash in hex",
        '  event: headers."x-yard-event" = `deployed`, a header\'s name',
        f"    commit: body.git.sha = `{SHA}`, 40 hexadecimal digits",
        "  the sample deployment: accepted, 1 event",
        "  gateway check mappings/shipyard.yaml",
        "  gateway test mappings/shipyard.test.yaml",
    ):
        assert line in done.stdout.splitlines()
    checked = run_cli("check", "mappings", "--deny-warnings", cwd=folder)
    assert checked.returncode == 0, checked.stdout
    tested = run_cli("test", "mappings", cwd=folder)
    assert tested.returncode == 0, tested.stdout


def test_nothing_is_overwritten_unless_it_is_asked_for(folder: Path) -> None:
    (folder / "shipyard.test.yaml").write_text("mine")
    arguments = ("new", "shipyard", "--sample", "deployment.json", "--output", ".")
    done = run_cli(*arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stderr == "gateway: shipyard.test.yaml exist already; --force writes over them\n"
    assert not (folder / "shipyard.yaml").exists()
    assert run_cli(*arguments, "--force", cwd=folder).returncode == 0
    assert (folder / "shipyard.test.yaml").read_text() != "mine"


def test_the_mapping_can_be_printed_for_check(folder: Path) -> None:
    done = run_cli(
        "new",
        "shipyard",
        "--sample",
        "-",
        "--output",
        "-",
        cwd=folder,
        stdin=json.dumps(DEPLOYMENT),
    )
    assert done.stdout == DEPLOYMENT_DRAFT
    assert done.stderr.startswith("recognised\n")
    assert not (folder / "mappings").exists()
    assert run_cli("check", "-", stdin=done.stdout).returncode == 0


def test_headers_can_be_given_beside_a_payload(folder: Path) -> None:
    arguments = ("-H", "X-Yard-Token: abc", "-H", "X-Yard-Event: deployed", "--output", "-")
    done = run_cli("new", "shipyard", "--sample", "deployment.json", *arguments, cwd=folder)
    assert "  scheme: token\n  header: X-Yard-Token\n" in done.stdout
    assert 'event: headers."x-yard-event"' in done.stdout


def test_a_kind_of_ones_own_is_offered(folder: Path) -> None:
    (folder / "slo.yaml").write_text(SLO.text)
    level = {"service": "tide", "objective": "latency", "ratio": 0.99, "measured_at": 1772445931}
    done = run_cli(
        *("new", "reports", "--sample", "-", "--schemas", "slo.yaml"),
        cwd=folder,
        stdin=json.dumps(level),
    )
    assert done.returncode == 0, done.stderr
    assert "rule `a service level`, of the kind slo" in done.stdout
    tested = run_cli("test", "mappings", "--schemas", "slo.yaml", cwd=folder)
    assert tested.returncode == 0, tested.stdout


def test_the_name_of_a_bundled_source_is_to_be_decided(folder: Path) -> None:
    """The draft would take the place of the whole bundled mapping, which is hardly meant."""
    for source, is_told in (("shipyard", False), ("github", True)):
        done = run_cli("new", source, "--sample", "deployment.json", cwd=folder)
        assert done.returncode == 0, done.stderr
        to_decide = done.stdout.partition("to decide\n")[2].partition("\n\n")[0]
        assert (f"`{source}` is the name of a bundled mapping" in to_decide) == is_told


def test_the_schemas_that_a_draft_names_are_there_or_said_how_to_get(folder: Path) -> None:
    """Where the editor looks for them."""
    output = folder / "deep" / "er"
    done = run_cli(
        *("new", "shipyard", "--sample", "deployment.json", "--output", str(output)), cwd=folder
    )
    schemas = folder / "deep" / "schemas"
    said = re.findall(r"gateway (schema \w+) > (\S+)", done.stdout)
    assert [path for _, path in said] == [
        f"{schemas}/mapping.schema.json",
        f"{schemas}/test.schema.json",
    ]
    schemas.mkdir()
    for words, path in said:
        Path(path).write_text(run_cli(*words.split()).stdout)
    named = re.search(r"\$schema=(\S+)", (output / "shipyard.yaml").read_text())
    assert named
    assert (output / named[1]).is_file()
    again = run_cli(
        *("new", "shipyard", "--sample", "deployment.json", "--output", str(output), "--force"),
        cwd=folder,
    )
    assert "gateway schema" not in again.stdout


def test_a_sample_in_utf16_is_called_so(tmp_path: Path) -> None:
    """By every command that takes one."""
    (tmp_path / "sample.json").write_bytes('{"a": 1}'.encode("utf-16"))
    for words in (["new", "shipyard", "--sample"], ["try", "generic"], ["send", "generic"]):
        environment = {"GENERIC_WEBHOOK_SECRET": "a test secret of some length"}
        done = run_cli(*words, "sample.json", cwd=tmp_path, environment=environment)
        assert done.returncode == 2
        assert "sample.json is in UTF-16, as PowerShell's `>` writes" in done.stderr
    (tmp_path / "shop.yaml").write_text("source: shop\n")
    done = run_cli("check", "--samples", "sample.json", "shop.yaml", cwd=tmp_path)
    assert "the sample is in UTF-16" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["Shipyard", "--sample", "-"], "{}", "`Shipyard` is no name for a source"),
        (["shipyard", "--sample", "-"], '{\n"a": }', "<stdin> is not JSON: line 2, column 6"),
        (["shipyard", "--sample", "-"], "", "<stdin> is not JSON: line 1, column 1"),
        (
            ["shipyard", "--sample", "-"],
            "X-A: b\n\n{,}",
            "<stdin> is not JSON: the body, line 1, column 2",
        ),
        (["shipyard", "--sample", "nowhere.json"], "", "cannot read nowhere.json"),
        (
            ["shipyard", "--sample", "-", "--emit", "deploy"],
            "{}",
            "there is no kind `deploy` to emit",
        ),
        (
            ["shipyard", "--sample", "-"],
            "POST /\nX-A: b\n c\n\n{}",
            "<stdin>: line 3: a line of a header",
        ),
    ],
)
def test_what_cannot_be_drafted_is_one_sentence(
    tmp_path: Path, arguments: list[str], stdin: str, words: str
) -> None:
    done = run_cli("new", *arguments, cwd=tmp_path, stdin=stdin)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not [*tmp_path.iterdir()]
