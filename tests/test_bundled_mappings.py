"""The bundled mappings: their cases and what these cover, and what `gateway test` does not ask of them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from gateway import body
from gateway.authoring import cases, coverage, trial
from gateway.authoring.cases import Case, Expectation
from gateway.cli import wiring
from gateway.correlation.fold import Correlation
from gateway.delivery import Accepted, DeadLetter, Delivery
from gateway.event import Event
from gateway.mapping import library
from gateway.mapping.compiler import Compilation, CompiledMapping, compile_files
from gateway.mapping.document import Sequence
from gateway.plan import Plan, Rule

RECEIVED_AT = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
JSON = "application/json"
FOLDER = library.bundled("mappings")
SOURCES = sorted(path.stem for path in library.yaml_files(FOLDER))

Found = tuple[str, list[dict[str, Any]], list[str]]
"""An outcome, its events, and the fields that its reasons name."""


@cache
def compilation() -> Compilation:
    found = compile_files(library.bundled_files())
    assert not found.diagnostics
    return found


@cache
def plans() -> Mapping[str, Plan]:
    return {source: mapping.plan for source, mapping in compilation().mappings.items()}


@cache
def read_all_cases(source: str) -> tuple[Case, ...]:
    path = FOLDER / f"{source}{library.CASES_SUFFIX}"
    read, findings = cases.read(path.name, path.read_text(encoding="utf-8"))
    assert read is not None, findings
    assert read.source == source
    return tuple(read.cases)


@cache
def read_cases(source: str) -> tuple[Case, ...]:
    """The cases that set no params."""
    return tuple(case for case in read_all_cases(source) if not case.params)


def expected(case: Case) -> Expectation:
    assert isinstance(case.expect, Expectation)
    return case.expect


def named(source: str, name: str) -> Case:
    return next(case for case in read_cases(source) if case.name == name)


def outcome(plan: Plan, case: Case, content: bytes, content_type: str = JSON) -> Found:
    headers = {name.lower(): value for name, value in case.headers.items()}
    delivery = Delivery(
        source=plan.source,
        headers={**headers, "content-type": content_type},
        query={},
        body=content,
        received_at=RECEIVED_AT,
    )
    match plan.read(delivery).outcome:
        case Accepted(events):
            return "accepted", [{"kind": event.kind, **event.fields} for event in events], []
        case DeadLetter(reasons):
            word = "rejected" if plan.on_invalid == "reject" else "dead_lettered"
            return word, [], [reason.field for reason in reasons if reason.field]
        case other:
            return type(other).__name__.lower(), [], []


def kinds(found: Found) -> list[str]:
    """`committime`, or `failure created`, for each event."""
    return [" ".join(filter(None, (one["kind"], one.get("event")))) for one in found[1]]


def with_params(source: str, params: Mapping[str, Any]) -> Plan:
    plan = plans()[source]
    assert params.keys() <= plan.params.keys()
    return msgspec.structs.replace(plan, params={**plan.params, **params})


def own_rules(mapping: CompiledMapping) -> set[str]:
    """The names of the rules that are written in the mapping's own file; those that it inherits are
    tried where they are written."""
    rules = mapping.document.get("rules")
    assert isinstance(rules, Sequence)
    return {
        rule.name
        for rule, node in zip(mapping.plan.rules, rules.items, strict=True)
        if node.span.file == mapping.document.span.file
    }


def test_every_bundled_mapping_has_cases_and_compiles() -> None:
    beside = {path.name.removesuffix(library.CASES_SUFFIX) for path in FOLDER.glob("*.test.yaml")}
    assert set(SOURCES) == beside == set(plans())


@pytest.mark.parametrize("source", SOURCES)
def test_cases_come_true_and_try_all_that_a_mapping_says(source: str) -> None:
    mapping = compilation().mappings[source]
    trials = trial.run_all(mapping, compilation().models, read_all_cases(source))
    assert [one.case.name for one in trials if not one.passed] == []
    tried = coverage.cover(mapping, [one.asked for one in trials if one.asked is not None])
    assert [(item.rule, item.text or item.field, item.lacking) for item in tried.lacking] == []
    assert tried.count(coverage.What.RULE)[1] == len(own_rules(mapping))


IN_JSON = [
    case
    for case in read_cases("github")
    if not isinstance(case.text, str) and case.outcome != "unauthorized"
]


@pytest.mark.parametrize("case", [pytest.param(one, id=one.name) for one in IN_JSON])
def test_github_says_the_same_in_a_form(case: Case) -> None:
    form = urlencode({"payload": case.body()}).encode()
    wanted = expected(case)
    found = outcome(plans()["github"], case, form, body.FORM)
    assert found == (wanted.outcome, wanted.events, wanted.fields)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_shows_each_way_that_a_delivery_can_go(source: str) -> None:
    """An event, nothing to count, what cannot be mapped, and a sender that proves nothing."""
    invalid = "rejected" if plans()[source].on_invalid == "reject" else "dead_lettered"
    outcomes = {case.outcome for case in read_all_cases(source)}
    assert {"accepted", "ignored", invalid} - outcomes == set()
    if compilation().mappings[source].scheme is not None:
        assert "unauthorized" in outcomes


@pytest.mark.parametrize("source", SOURCES)
def test_every_rule_has_a_case_that_it_accepts_alone(source: str) -> None:
    """With the params of the case: the other rules of the mapping need not apply."""
    mapping = compilation().mappings[source]
    trials = trial.run_all(mapping, compilation().models, read_all_cases(source))
    accepted = {
        rule.name
        for one in trials
        if one.asked is not None and one.actual.outcome == "accepted"
        for rule in one.asked[0].plan.rules
        if _yields(one.asked[0].plan, rule, one.asked[1])
    }
    assert own_rules(mapping) - accepted == set()


def _yields(plan: Plan, rule: Rule, delivery: Delivery) -> bool:
    alone = msgspec.structs.replace(plan, rules=(rule,))
    return isinstance(alone.read(delivery).outcome, Accepted)


@pytest.mark.parametrize("source", SOURCES)
def test_the_samples_make_every_kind_that_a_source_yields_as_it_comes(source: str) -> None:
    """What `gateway send` posts counts, or is passed over on purpose, with the params as they are."""
    every = {kind for case in read_cases(source) for kind in _expected_kinds(case)}
    known = read_all_cases(source)
    samples = [case for case in known if case.sample] or list(known)
    assert {case.outcome for case in samples} <= {"accepted", "ignored"}
    assert not [case.name for case in samples if case.params]
    assert {kind for case in samples for kind in _expected_kinds(case)} == every


def _expected_kinds(case: Case) -> list[str]:
    return kinds((case.outcome, expected(case).events, []))


@pytest.mark.parametrize("source", SOURCES)
def test_a_secret_has_the_name_that_the_catalogue_says(source: str) -> None:
    mapping = compilation().mappings[source]
    prefix = source.upper().replace("-", "_")
    named = [one.env for one in (*wiring.user_names(mapping), *wiring.references(mapping))]
    assert set(named) <= {f"{prefix}_WEBHOOK_USERNAME", f"{prefix}_WEBHOOK_SECRET"}


@pytest.mark.parametrize("source", ["github", "gitlab", "pelorus"])
def test_the_first_commit_and_the_first_deployment_join(source: str) -> None:
    correlation = Correlation()
    shown = [
        one.event
        for case in read_cases(source)[:2]
        for event in expected(case).events
        for one in correlation.fold(_event(event), case.received_at)
    ]
    carried = {kind: _carriers(shown, kind) for kind in ("committime", "deploytime")}
    assert carried["deploytime"] <= carried["committime"]
    assert len(carried["deploytime"]) == 1


def _event(written: Mapping[str, Any]) -> Event:
    return Event(written["kind"], {name: written[name] for name in written if name != "kind"})


def _carriers(shown: list[Event], kind: str) -> set[str]:
    return {event.text("image_sha") for event in shown if event.kind == kind}


@pytest.mark.parametrize("source", SOURCES)
def test_no_two_commits_of_the_cases_claim_one_image(source: str) -> None:
    correlation = Correlation()
    for case in read_cases(source):
        for event in expected(case).events:
            list(correlation.fold(_event(event), case.received_at))
    assert correlation.conflicts == 0


def test_a_deploying_workflow_is_a_deployment_where_it_is_named() -> None:
    plan = with_params("github", {"deploy_workflows": ["Deploy"]})
    case = named("github", "a workflow named Deploy succeeds")
    run = case.payload["workflow_run"]
    assert outcome(plan, case, case.body()) == (
        "accepted",
        [
            {
                "kind": "deploytime",
                "app": "harbour-works/tide-table",
                "commit": run["head_sha"],
                "timestamp": int(datetime.fromisoformat(run["updated_at"]).timestamp()),
            }
        ],
        [],
    )


DEPLOYING = {"deploy_workflows": ["Deploy"]}
ONLY_MAIN = {"branches": ["main"]}
ONLY_RELEASE = {"branches": ["release"]}
ONLY_STAGING = {"environments": ["staging"]}


@pytest.mark.parametrize(
    ("source", "params", "name", "expected"),
    [
        ("github", DEPLOYING, "a workflow named Deploy fails", []),
        ("github", DEPLOYING, "a workflow named Deploy is requested", []),
        ("github", DEPLOYING, "a workflow named Test succeeds", []),
        ("github", ONLY_MAIN, "a commit is pushed to main", ["committime"]),
        ("github", ONLY_MAIN, "a push to a branch with a slash in its name", []),
        (
            "github",
            {"branches": ["main", "fix/neap-tides"]},
            "a push to a branch with a slash in its name",
            ["committime"],
        ),
        ("github", ONLY_MAIN, "a pull request is merged", ["committime"]),
        ("github", ONLY_RELEASE, "a pull request is merged", []),
        ("github", ONLY_STAGING, "a deployment to staging succeeds", ["deploytime"]),
        ("github", ONLY_STAGING, "that commit is deployed to production", []),
        (
            "github",
            {"failure_labels": ["enhancement"]},
            "an issue with other labels is opened",
            ["failure created"],
        ),
        ("github", {"failure_labels": []}, "a bug is reported", []),
        ("github", {"failure_labels": []}, "the bug is fixed and its issue closed", []),
        ("gitlab", ONLY_MAIN, "a commit is pushed to main", ["committime"]),
        ("gitlab", ONLY_MAIN, "a push tells its last two commits of three", []),
        ("gitlab", ONLY_MAIN, "a merge request is merged", ["committime"]),
        ("gitlab", ONLY_RELEASE, "a merge request is merged", []),
        ("gitlab", ONLY_MAIN, "a pipeline starts on main", ["committime"]),
        ("gitlab", ONLY_MAIN, "a pipeline fails on a branch", []),
        ("gitlab", ONLY_STAGING, "a deployment to staging succeeds", ["deploytime"]),
        ("gitlab", ONLY_STAGING, "that commit is deployed to production", []),
        ("gitlab", {"failure_labels": []}, "a bug is reported", []),
        ("gitlab", {"failure_labels": []}, "an incident needs no label", ["failure created"]),
        ("gitlab", {"failure_labels": []}, "an incident is closed", ["failure resolved"]),
        ("jira", {"projects": ["TIDE"]}, "a bug is reported", ["failure created"]),
        ("jira", {"projects": ["TIDE"]}, "the bug is resolved", ["failure resolved"]),
        (
            "jira",
            {"projects": ["TIDE"]},
            "a bug is done in a workflow without resolutions",
            ["failure resolved"],
        ),
        ("jira", {"projects": ["BUOY"]}, "a bug is reported", []),
        ("jira", {"projects": ["BUOY"]}, "the bug is resolved", []),
        ("jira", {"projects": ["BUOY"]}, "a bug is done in a workflow without resolutions", []),
        ("jira", {"issue_types": ["Story"]}, "a story is created", ["failure created"]),
        ("jira", {"issue_types": ["Story"]}, "a story is resolved", ["failure resolved"]),
        (
            "jira",
            {"issue_types": ["Story"]},
            "a story is done without a resolution",
            ["failure resolved"],
        ),
    ],
)
def test_params_say_what_counts(
    source: str, params: Mapping[str, Any], name: str, expected: list[str]
) -> None:
    case = named(source, name)
    assert kinds(outcome(with_params(source, params), case, case.body())) == expected
