"""`gateway test`: cases beside mappings, run through authentication and mapping with the clock stopped."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from gateway.authoring.cases import UnusablePayload
from gateway.cli import casefiles
from tests.harness import SECRETS, Gateway, run_cli, running

MAPPING = """\
source: shop
authenticate: {scheme: hmac, header: X-Signature, signed: "{timestamp}.{body}",
               timestamp_header: X-Time, secret: {env: SHOP_SECRET}}
params: {stages: [live]}
rules:
  - name: a deployment
    when: contains(params.stages, body.stage)
    emit: deploytime
    fields: {app: body.app, commit: body.sha, timestamp: body.at || received_at}
  - name: a failure
    when: body.failed
    emit: failure
    fields: {app: body.app, event: "'created'", issue_number: body.failed, timestamp: received_at}
"""
PASSING = """\
source: shop
cases:
  - name: the shop goes live
    payload: {stage: live, app: shop, sha: 0ddba11c0ffee, at: "2026-01-31T09:30:00Z"}
    expect:
      outcome: accepted
      events:
        - {kind: deploytime, app: shop, commit: 0ddba11c0ffee, timestamp: 1769851800.0}
  - name: the clock stands still
    received_at: 1769851800
    params: {stages: [next]}
    payload: {stage: next, app: shop, sha: 0ddba11c0ffee}
    expect:
      outcome: accepted
      events: [{kind: deploytime, app: shop, commit: 0ddba11c0ffee, timestamp: 1769851800}]
  - name: staging is not live
    payload: {stage: staging}
    expect: {outcome: ignored}
  - name: a forged signature
    headers: {x-signature: forged}
    payload: {stage: live, app: shop, sha: 0ddba11c0ffee}
    expect: {outcome: unauthorized}
  - name: no commit
    payload: {stage: live, app: shop}
    expect: {outcome: dead_lettered}
"""
FAILING = """\
source: shop
cases:
  - name: another commit than it says
    payload: {stage: live, app: shop, sha: 0ddba11c0ffee, at: 1769851800}
    expect:
      outcome: accepted
      events: [{kind: deploytime, app: shop, commit: c0ffee0ddba11, timestamp: 1769851800}]
  - name: a time that is none
    payload: {stage: live, app: shop, sha: 0ddba11c0ffee, at: noon}
    expect: {outcome: ignored}
  - name: a signature of its own
    headers: {x-signature: forged}
    payload: {stage: staging}
    expect: {outcome: ignored}
"""
FAILING_REPORT = """\
shop.test.yaml: 3 cases, 3 failed
  FAILED another commit than it says
    --- expected
    +++ actual
     {
       "outcome": "accepted",
       "events": [
         {
           "kind": "deploytime",
           "app": "shop",
    -      "commit": "c0ffee0ddba11",
    +      "commit": "0ddba11c0ffee",
           "timestamp": 1769851800
         }
       ]
     }
  FAILED a time that is none
    --- expected
    +++ actual
     {
    -  "outcome": "ignored"
    +  "outcome": "dead_lettered",
    +  "fields": [
    +    "timestamp"
    +  ]
     }
  FAILED a signature of its own
    --- expected
    +++ actual
     {
    -  "outcome": "ignored"
    +  "outcome": "unauthorized"
     }
  shop.yaml:7: `contains(params.stages, body.stage)` is never false, in the rule `a deployment`
  shop.yaml:9: `received_at` is never taken for the field `timestamp` of the rule `a deployment`
  shop.yaml:10: the rule `a failure` never applies
  shop.yaml:11: `body.failed` is never true, in the rule `a failure`
0 passed, 3 failed; 42% covered: 1 of 2 rules, 2 of 4 branches, 3 of 8 fields
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(MAPPING)
    return tmp_path


def test_the_bundled_mappings_pass_and_are_covered() -> None:
    done = run_cli("test", "mappings", "--min-coverage", "100")
    assert done.returncode == 0, done.stdout
    assert re.search(
        r" 0 failed; 100% covered: (\d+) of \1 rules, (\d+) of \2 branches, (\d+) of \3 fields\n$",
        done.stdout,
    )


def test_cases_that_come_out_as_they_say_pass(folder: Path) -> None:
    (folder / "shop.test.yaml").write_text(PASSING)
    done = run_cli("test", ".", cwd=folder)
    assert done.stdout == (
        "shop.test.yaml: 5 cases, 0 failed\n"
        "  shop.yaml:10: the rule `a failure` never applies\n"
        "  shop.yaml:11: `body.failed` is never true, in the rule `a failure`\n"
        "5 passed, 0 failed; 57% covered: 1 of 2 rules, 3 of 4 branches, 4 of 8 fields\n"
    )
    assert done.returncode == 0


def test_a_difference_is_shown_as_one(folder: Path) -> None:
    (folder / "shop.test.yaml").write_text(FAILING)
    done = run_cli("test", "shop.test.yaml", cwd=folder)
    assert (done.returncode, done.stdout) == (1, FAILING_REPORT)


def test_too_little_coverage_fails(folder: Path) -> None:
    (folder / "shop.test.yaml").write_text(PASSING)
    done = run_cli("test", ".", "--min-coverage", "80", cwd=folder)
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last == "shop.test.yaml: 57% is covered, 80% is asked for"


def test_a_junit_report_names_every_case_and_the_coverage(folder: Path) -> None:
    (folder / "shop.test.yaml").write_text(FAILING)
    run_cli("test", ".", "--junit", "report.xml", cwd=folder)
    (suite,) = ET.parse(folder / "report.xml").getroot()
    assert suite.attrib == {"name": "shop", "tests": "3", "failures": "3"}
    properties = [(one.attrib["name"], one.attrib["value"]) for one in suite[0]]
    assert properties[:4] == [
        ("coverage", "42.86"),
        ("coverage.rules", "1/2"),
        ("coverage.branches", "2/4"),
        ("coverage.fields", "3/8"),
    ]
    assert properties[-1] == (
        "coverage.missing",
        "shop.yaml:11: `body.failed` is never true, in the rule `a failure`",
    )
    assert suite[1].attrib["name"] == "another commit than it says"
    assert suite[1].attrib["line"] == "3"
    assert "c0ffee0ddba11" in str(suite[1][0].text)


def test_json_holds_every_case_and_all_that_is_covered_or_not(folder: Path) -> None:
    (folder / "shop.test.yaml").write_text(FAILING)
    done = run_cli("test", ".", "--format", "json", cwd=folder)
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert (document["passed"], document["failed"]) == (0, 3)
    (suite,) = document["suites"]
    assert suite["coverage"]["branches"] == {"covered": 2, "total": 4}
    assert suite["cases"][1] == {
        "name": "a time that is none",
        "line": 8,
        "passed": False,
        "expected": {"outcome": "ignored", "events": [], "fields": []},
        "actual": {"outcome": "dead_lettered", "events": [], "fields": ["timestamp"]},
    }
    lacking = [item for item in suite["coverage"]["items"] if item["lacking"]]
    assert {
        "what": "branch",
        "rule": "a failure",
        "place": {"file": "shop.yaml", "line": 11, "column": 11, "width": 11},
        "field": "",
        "text": "body.failed",
        "lacking": "never true",
    } in lacking


# Choosing what runs


def test_some_cases_can_be_chosen_by_their_names(folder: Path) -> None:
    """Coverage is about all cases, and is not told of some."""
    (folder / "shop.test.yaml").write_text(PASSING)
    for words, count in (("a forged signature", 1), ("live", 2)):
        done = run_cli("test", ".", "-k", words, cwd=folder)
        plural = "case" if count == 1 else "cases"
        assert done.stdout == (
            f"shop.test.yaml: {count} {plural}, 0 failed\n{count} passed, 0 failed\n"
        )


def test_a_mapping_names_the_cases_beside_it(folder: Path) -> None:
    """So a pre-commit hook can hand over whatever files have changed; each file runs once."""
    (folder / "shop.test.yaml").write_text(PASSING)
    (folder / "outage.yaml").write_text("kind: outage\nfields: {app: {type: app}}\n")
    done = run_cli("test", "shop.yaml", "shop.test.yaml", "outage.yaml", cwd=folder)
    assert done.returncode == 0
    first, *_, note, last = done.stdout.splitlines()
    assert first == "shop.test.yaml: 5 cases, 0 failed"
    assert note == "outage.yaml: describes a kind of event, and has no cases"
    assert last.startswith("5 passed")
    assert run_cli("test", "outage.yaml", cwd=folder).returncode == 0


def test_cases_may_be_named_by_the_source_of_the_mapping(folder: Path) -> None:
    (folder / "shop.yaml").rename(folder / "mapping.yaml")
    (folder / "shop.test.yaml").write_text(PASSING)
    done = run_cli("test", "mapping.yaml", cwd=folder)
    assert "shop.test.yaml: 5 cases, 0 failed" in done.stdout


def test_a_named_mapping_without_cases_fails(folder: Path) -> None:
    done = run_cli("test", "shop.yaml", cwd=folder)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == (
        "shop.yaml: there are no cases beside it (shop.test.yaml)"
    )


# What a case sends


BODIES = """\
source: shop
cases:
  - name: a payload from a file is sent byte for byte
    payload_file: samples/live.json
    expect:
      outcome: accepted
      events: [{kind: deploytime, app: shop, commit: 0ddba11c0ffee, timestamp: 1769851800}]
  - name: a file that is no JSON
    payload_file: cut.json
    expect: {outcome: dead_lettered}
  - name: text that is no JSON
    body: '{"stage": "li'
    expect: {outcome: dead_lettered}
  - name: no body at all
    body: ""
    expect: {outcome: dead_lettered}
  - name: a form
    headers: {Content-Type: application/x-www-form-urlencoded}
    body: payload=%7B%22stage%22%3A%22staging%22%7D
    expect: {outcome: ignored}
  - name: null is a payload
    payload: null
    expect: {outcome: ignored}
"""
LIVE = b'{ "stage": "live",  "app": "shop", "sha": "0ddba11c0ffee", "at": 1769851800 }\n'


def test_a_delivery_may_be_a_payload_a_file_or_text(folder: Path) -> None:
    (folder / "shop.test.yaml").write_text(BODIES)
    (folder / "samples").mkdir()
    (folder / "samples/live.json").write_bytes(LIVE)
    (folder / "cut.json").write_bytes(b'{"stage": "\xff')
    done = run_cli("test", "shop.yaml", cwd=folder)
    assert done.stdout.startswith("shop.test.yaml: 6 cases, 0 failed\n"), done.stdout
    read, _, _ = casefiles.read(folder / "shop.test.yaml")
    assert read is not None
    assert [case.body() for case in read.file.cases[:2]] == [LIVE, b'{"stage": "\xff']
    assert read.file.cases[0].payload["app"] == "shop"
    assert read.file.cases[4].payload == {"stage": "staging"}


def test_a_delivery_may_have_a_query(folder: Path) -> None:
    (folder / "shop.yaml").write_text(MAPPING.replace("body.stage", "query.stage"))
    (folder / "shop.test.yaml").write_text(
        "source: shop\ncases:\n  - name: its stage is in the address\n"
        "    query: {stage: live}\n    payload: {app: shop}\n"
        "    expect: {outcome: dead_lettered}\n"
    )
    done = run_cli("test", ".", cwd=folder)
    assert done.stdout.startswith("shop.test.yaml: 1 case, 0 failed\n"), done.stdout


def test_a_payload_file_of_a_mounted_config_map_is_found(folder: Path) -> None:
    """There, every file is a link into the folder of a generation."""
    generation = folder / "mounted/..2026_03_02"
    generation.mkdir(parents=True)
    (generation / "live.json").write_bytes(LIVE)
    (folder / "mounted/..data").symlink_to("..2026_03_02")
    (folder / "mounted/live.json").symlink_to("..data/live.json")
    assert casefiles.loader(folder / "mounted/shop.test.yaml")("live.json") == LIVE


def test_a_payload_file_lies_in_the_folder_of_its_cases(folder: Path) -> None:
    (folder / "secret.json").write_bytes(LIVE)
    inner = folder / "mappings"
    inner.mkdir()
    (inner / "link.json").symlink_to("../secret.json")
    load = casefiles.loader(inner / "shop.test.yaml")
    for name in ("../secret.json", "link.json", str(folder / "secret.json")):
        with pytest.raises(UnusablePayload, match="outside of the folder"):
            load(name)
    for name in ("nothing.json", ".", "a\0b"):
        with pytest.raises(UnusablePayload, match="there is no file"):
            load(name)


MISTAKES = """\
source: shop
cases:
  - name: twice
    payload: {}
    body: text
    expect: {outcome: ignored}
  - name: twice
    expect: {outcome: ignored}
  - name: a file that is not there
    payload_file: samples/lvie.json
    expect: {outcome: ignored}
  - name: a file of the neighbours
    payload_file: ../live.json
    expect: {outcome: ignored}
  - name: a file that cannot be read
    payload_file: cut.json
    expect: {outcome: accepted}
  - name: after one that follows
    payload: {}
    after: [the last one]
    params: {stage: [live]}
    headers: {X-Shop: "two\\nlines"}
    received_at: 1e12
  - name: the last one
    payload: {}
"""


def test_mistakes_in_cases_are_findings_at_their_places(folder: Path) -> None:
    (folder / "shop.test.yaml").write_text(MISTAKES)
    (folder / "cut.json").write_bytes(b"{")
    done = run_cli("test", ".", cwd=folder)
    assert done.returncode == 1
    lines = [line for line in done.stdout.splitlines() if line.startswith("shop.test.yaml:")]
    assert lines == [
        "shop.test.yaml:5:5: error[unclear-payload]: the case has `payload` already",
        "shop.test.yaml:7:5: error[unclear-payload]: the case sends nothing",
        "shop.test.yaml:7:11: error[duplicate-case]: the case `twice` is in line 3 already",
        "shop.test.yaml:10:19: error[payload-file]: there is no file samples/lvie.json",
        "shop.test.yaml:13:19: error[payload-file]: ../live.json lies outside of the folder of "
        "this file",
        "shop.test.yaml:16:19: error[payload-file]: cut.json is not JSON, and cannot be accepted",
        "shop.test.yaml:20:13: error[unknown-case]: there is no earlier case `the last one`",
        "shop.test.yaml:21:14: error[unknown-param]: `shop` has no param `stage`",
        "shop.test.yaml:22:23: error[wrong-value]: the header `X-Shop` cannot be sent like this",
        "shop.test.yaml:23:18: error[wrong-value]: 1e+12 is no time in epoch seconds",
    ]


def test_cases_of_a_source_that_does_not_exist(folder: Path) -> None:
    (folder / "shop.test.yaml").write_text(PASSING.replace("source: shop", "source: shpo"))
    done = run_cli("test", ".", cwd=folder)
    assert done.returncode == 1
    assert "shop.test.yaml:1:9: error[unknown-source]: there is no source `shpo`" in done.stdout
    assert "did you mean `shop`?" in done.stdout


def test_a_file_that_is_not_utf8_is_a_finding(folder: Path) -> None:
    (folder / "shop.test.yaml").write_bytes(b"source: sh\xf6p\n")
    done = run_cli("test", ".", cwd=folder)
    assert (done.returncode, "not-utf8" in done.stdout) == (1, True)


# Sending the same cases


def test_all_cases_of_a_source_can_be_sent(shared_gateway: Gateway) -> None:
    """A form and a body that is cut off among them: each gets the answer that it is meant to get."""
    url = f"http://127.0.0.1:{shared_gateway.public}"
    done = run_cli("send", "github", "--all", "--url", url, environment=SECRETS)
    assert done.returncode == 0, done.stdout
    assert "a webhook is set to send forms\n  202 accepted\n" in done.stdout
    assert "a push is cut off on its way\n  400 the body is not JSON" in done.stdout


STAGED = """\
source: staged
authenticate: none
rules:
  - name: a deployment
    when: query.stage == 'live'
    emit: deploytime
    fields: {app: body.app, commit: body.sha, timestamp: received_at}
"""


def test_the_query_of_a_case_is_sent(tmp_path: Path) -> None:
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings/staged.yaml").write_text(STAGED)
    (tmp_path / "mappings/staged.test.yaml").write_text(
        "source: staged\ncases:\n  - name: its stage is in the address\n"
        "    query: {stage: live}\n    payload: {app: shop, sha: 0ddba11}\n"
    )
    with running(tmp_path, "--mappings", "mappings") as process:
        url = f"http://127.0.0.1:{process.public}"
        done = run_cli("send", "staged", "--mappings", "mappings", "--url", url, cwd=tmp_path)
    assert "202 accepted" in done.stdout, done.stdout + done.stderr


# Series


SERIES = """\
source: shop
cases:
  - name: a commit, an hour before
    received_at: 1769846400
    payload: {commits: [{sha: 0ddba11c0ffee, at: 1769840000}]}
  - name: another app's commit
    received_at: 1769846400
    payload: {app: other, commits: [{sha: 0ddba11c0ffee, at: 1769840001}]}
  - name: its deployment
    received_at: 1769850000.25
    after: ["a commit, an hour before"]
    payload: {stage: live, app: shop, sha: 0ddba11c0ffee, at: 1769850000}
    expect:
      outcome: accepted
      events: [{kind: deploytime, app: shop, commit: 0ddba11c0ffee, timestamp: 1769850000}]
      series: |
        commit_timestamp{app="/shop/",commit="0ddba11c0ffee",image_sha="0ddba11c0ffee",namespace="",commit_link=""} 1769840000 1769850000250

        deploy_timestamp{app="/shop/",image_sha="0ddba11c0ffee",namespace=""} 1769850000 1769850000250
        dora_lead_time_seconds{app="/shop/",commit="0ddba11c0ffee",image_sha="0ddba11c0ffee",namespace=""} 10000 1769850000250
  - name: its deployment again
    received_at: 1769850030
    after: [its deployment]
    payload: {stage: live, app: shop, sha: 0ddba11c0ffee, at: 1769850000}
    expect:
      outcome: accepted
      events: [{kind: deploytime, app: shop, commit: 0ddba11c0ffee, timestamp: 1769850000}]
      series: |
        commit_timestamp{app="/shop/",commit="0ddba11c0ffee",image_sha="0ddba11c0ffee",namespace="",commit_link=""} 1769840000 1769850000250
        deploy_timestamp{app="/shop/",image_sha="0ddba11c0ffee",namespace=""} 1769850000 1769850000250
        dora_lead_time_seconds{app="/shop/",commit="0ddba11c0ffee",image_sha="0ddba11c0ffee",namespace=""} 10000 1769850000250
  - name: staging shows nothing
    payload: {stage: staging}
    expect: {outcome: ignored, series: ""}
"""
PUSHES = """\
  - name: commits
    each: body.commits
    emit: committime
    fields: {app: "body.app || 'shop'", commit: each.sha, timestamp: each.at}
"""


def test_series_are_those_of_a_scrape_after_the_cases_that_came_before(folder: Path) -> None:
    """The commit that an hour ago went out of the window comes back with its deployment; what the
    journal knows already adds nothing."""
    (folder / "shop.yaml").write_text(MAPPING + PUSHES)
    (folder / "shop.test.yaml").write_text(SERIES)
    done = run_cli("test", ".", "-k", "deployment", cwd=folder)
    assert done.stdout.splitlines()[0] == "shop.test.yaml: 2 cases, 0 failed", done.stdout
    done = run_cli("test", ".", "-k", "staging", cwd=folder)
    assert done.stdout.splitlines()[0] == "shop.test.yaml: 1 case, 0 failed", done.stdout


def test_series_that_differ_are_shown_line_by_line(folder: Path) -> None:
    lone = """\
source: shop
cases:
  - name: the shop goes live
    payload: {stage: live, app: shop, sha: 0ddba11c0ffee, at: 1769851800}
    expect:
      outcome: accepted
      events: [{kind: deploytime, app: shop, commit: 0ddba11c0ffee, timestamp: 1769851800}]
      series: deploy_timestamp{app="/shop/"} 1769851800 1893456000000
"""
    (folder / "shop.test.yaml").write_text(lone)
    done = run_cli("test", ".", cwd=folder)
    assert done.returncode == 1
    assert (
        '     series:\n    -deploy_timestamp{app="/shop/"} 1769851800 1893456000000\n'
        '    +deploy_timestamp{app="/shop/",image_sha="0ddba11c0ffee",namespace=""} 1769851800 '
        "1893456000000\n"
    ) in done.stdout


def test_a_case_without_an_expectation_says_how_to_get_one(folder: Path) -> None:
    (folder / "shop.test.yaml").write_text("source: shop\ncases:\n  - name: new\n    payload: {}\n")
    done = run_cli("test", ".", cwd=folder)
    assert done.returncode == 1
    assert "    nothing is expected yet; `gateway test --update` fills it in\n    +{" in done.stdout


def test_what_check_refuses_is_reported_instead(folder: Path) -> None:
    (folder / "shop.test.yaml").write_text(PASSING.replace("payload", "paylaod", 1))
    done = run_cli("test", ".", cwd=folder)
    assert done.returncode == 1
    assert "shop.test.yaml:4:5: error[unknown-key]" in done.stdout
    (folder / "shop.yaml").write_text(MAPPING.replace("body.app", "boyd.app"))
    done = run_cli("test", ".", cwd=folder)
    assert done.returncode == 1
    assert "did you mean `body`" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere is neither a folder, nor a mapping or a file of cases"),
        (["notes.txt"], "notes.txt is neither a folder, nor a mapping or a file of cases"),
        (["empty"], "there are no cases (*.test.yaml) in empty"),
        ([".", "--min-coverage", "most"], "--min-coverage is `most`, expected a number"),
        ([".", "--min-coverage", "50", "-k", "live"], "--min-coverage is about all cases"),
        ([".", "--case", "lvie"], "no case's name holds `lvie`"),
        ([".", "--update"], "there is no terminal to ask; accept all with --yes"),
        ([".", "--yes"], "--yes answers the questions of --update"),
    ],
)
def test_nothing_to_run_is_one_sentence(folder: Path, arguments: list[str], words: str) -> None:
    (folder / "shop.test.yaml").write_text(PASSING)
    (folder / "notes.txt").write_text("")
    (folder / "empty").mkdir()
    done = run_cli("test", *arguments, cwd=folder)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
