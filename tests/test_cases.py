"""`gateway test`: cases beside mappings, run through authentication and mapping with the clock stopped."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.harness import run_cli

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
  no case reaches the rule `a failure`
0 passed, 3 failed; 1 of 2 rules reached (50%)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(MAPPING)
    return tmp_path


def test_the_bundled_mappings_pass_and_reach_every_rule() -> None:
    done = run_cli("test", "mappings", "--min-coverage", "100")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("20 of 20 rules reached (100%)\n")


def test_cases_that_come_out_as_they_say_pass(folder: Path) -> None:
    (folder / "shop.test.yaml").write_text(PASSING)
    done = run_cli("test", ".", cwd=folder)
    assert done.stdout == (
        "shop.test.yaml: 5 cases, 0 failed\n"
        "  no case reaches the rule `a failure`\n"
        "5 passed, 0 failed; 1 of 2 rules reached (50%)\n"
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
    assert last == "shop.test.yaml: 50% of the rules are reached, 80% are asked for"


def test_a_junit_report_names_every_case(folder: Path) -> None:
    (folder / "shop.test.yaml").write_text(FAILING)
    run_cli("test", ".", "--junit", "report.xml", cwd=folder)
    (suite,) = ET.parse(folder / "report.xml").getroot()
    assert suite.attrib == {"name": "shop", "tests": "3", "failures": "3"}
    assert suite[0].attrib["name"] == "another commit than it says"
    assert "c0ffee0ddba11" in str(suite[0][0].text)


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
        (["nowhere"], "nowhere is neither a folder nor a file of cases"),
        (["."], "there are no cases"),
        ([".", "--min-coverage", "most"], "--min-coverage is `most`, expected a number"),
        (["other.test.yaml"], "other.test.yaml is about `shpo`, and there is no such source"),
    ],
)
def test_nothing_to_run_is_one_sentence(folder: Path, arguments: list[str], words: str) -> None:
    if "other.test.yaml" in arguments:
        (folder / "other.test.yaml").write_text(PASSING.replace("source: shop", "source: shpo"))
    done = run_cli("test", *arguments, cwd=folder)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
