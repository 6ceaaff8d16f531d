"""`gateway test --update`: expectations written anew in place, all else byte for byte, after review."""

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.authoring import cases
from gateway.authoring.cases import Expectation
from gateway.authoring.revision import CannotRevise, revised
from tests.harness import run_cli

BEFORE = """\
# yaml-language-server: $schema=test.schema.json
source: shop   # ours
cases:

  # In one line.
  - name: flow
    payload: {stage:   live}   # as it comes
    expect: {outcome: ignored}   # why

  - name: block
    expect:   # what must come out
      outcome: accepted
      events:
        # the first
        - {kind: deploytime, app: 'shop', commit: 0ddba11, timestamp: 1769851800.0}  # here
        - kind: failure
          # its number
          issue_number: "41"   # text
          app: shop

    payload: >-
      text
  - {name: braces, payload: 1, expect: {outcome: ignored}}
  - name: series
    payload: {}
    expect:
      outcome: accepted
      series: |
        a{} 1 2

    sample: true
  - name: none yet
    payload: {}  # nothing
  - {name: none in braces, payload: []}
  - name: last
    payload:
      a: {b: c}
"""
EVENTS: list[dict[str, Any]] = [
    {"kind": "deploytime", "app": "shop", "commit": "0ddba11", "timestamp": 1769851800},
    {"kind": "failure", "issue_number": "42", "app": "shop"},
]
ACCEPTED = Expectation(outcome="accepted", events=EVENTS)
DEAD = Expectation(outcome="dead_lettered", fields=["app", "timestamp"])


@pytest.mark.parametrize(
    ("index", "wanted", "old", "new"),
    [
        pytest.param(
            0,
            DEAD,
            "expect: {outcome: ignored}   # why",
            "expect: {outcome: dead_lettered, fields: [app, timestamp]}   # why",
            id="flow stays flow where it is short",
        ),
        pytest.param(
            0,
            ACCEPTED,
            "    expect: {outcome: ignored}   # why\n",
            """\
    expect:  # why
      outcome: accepted
      events:
        - kind: deploytime
          app: shop
          commit: 0ddba11
          timestamp: 1769851800
        - kind: failure
          issue_number: "42"
          app: shop
""",
            id="flow becomes block where events come",
        ),
        pytest.param(
            1, ACCEPTED, '"41"   # text', '"42"   # text', id="one value, and comments stay"
        ),
        pytest.param(
            1,
            DEAD,
            BEFORE[
                BEFORE.index("      outcome: accepted\n      events:") : BEFORE.index(
                    "\n    payload: >-"
                )
            ],
            "      outcome: dead_lettered\n      fields: [app, timestamp]\n",
            id="block stays block",
        ),
        pytest.param(
            2,
            ACCEPTED,
            "expect: {outcome: ignored}}",
            "expect: {outcome: accepted, events: [{kind: deploytime, app: shop, commit: 0ddba11, "
            'timestamp: 1769851800}, {kind: failure, issue_number: "42", app: shop}]}}',
            id="within braces everything is flow",
        ),
        pytest.param(
            3,
            Expectation(outcome="accepted", series='a{b="c"} 1 2\nd{} 3 4'),
            "        a{} 1 2\n",
            '        a{b="c"} 1 2\n        d{} 3 4\n',
            id="series are lines",
        ),
        pytest.param(
            4,
            DEAD,
            "payload: {}  # nothing\n",
            "payload: {}  # nothing\n"
            "    expect: {outcome: dead_lettered, fields: [app, timestamp]}\n",
            id="filled in behind all else",
        ),
        pytest.param(
            5,
            DEAD,
            "payload: []}",
            "payload: [], expect: {outcome: dead_lettered, fields: [app, timestamp]}}",
            id="filled in within braces",
        ),
        pytest.param(
            6,
            ACCEPTED,
            "      a: {b: c}\n",
            """\
      a: {b: c}
    expect:
      outcome: accepted
      events:
        - kind: deploytime
          app: shop
          commit: 0ddba11
          timestamp: 1769851800
        - kind: failure
          issue_number: "42"
          app: shop
""",
            id="filled in at the end of the file",
        ),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_only_the_expectation_of_a_case_changes(
    index: int, wanted: Expectation, old: str, new: str, end: str
) -> None:
    """The whole file is as before but for those characters."""
    assert BEFORE.count(old) == 1
    after = BEFORE.replace(old, new)
    found = revised("shop.test.yaml", BEFORE.replace("\n", end), index, wanted)
    assert found == after.replace("\n", end)


def test_a_file_without_a_last_line_break() -> None:
    text = BEFORE.rstrip("\n")
    after = text + "\n    expect: {outcome: ignored}"
    assert revised("f", text, 6, Expectation(outcome="ignored")) == after


def test_a_text_of_several_lines_or_of_many_words_is_one_value() -> None:
    """Also where the field has the name of the expectation's own key."""
    text = (
        "source: shop\ncases:\n  - name: one\n    payload: {}\n"
        "    expect:\n      outcome: accepted\n      events:\n"
        "        - kind: slo\n          series: old\n          words: old\n"
    )
    events = [{"kind": "slo", "series": "a\nb", "words": "many words " * 12}]
    after = revised("f", text, 0, Expectation(outcome="accepted", events=events))
    assert after == text.replace("series: old", 'series: "a\\nb"').replace(
        "words: old", f'words: "{"many words " * 12}"'
    )


def test_what_cannot_be_written_in_place_is_left_as_it_is() -> None:
    """A text that keeps its blank lines would lose them to whatever is put behind it."""
    text = "source: shop\ncases:\n  - name: one\n    body: |+\n      text\n\n\n"
    with pytest.raises(CannotRevise, match="f:3: the expectation cannot be written in place"):
        revised("f", text, 0, Expectation(outcome="ignored"))


def test_a_file_that_one_reader_of_yaml_takes_and_another_does_not() -> None:
    """Its places are not known for certain, so nothing is written."""
    text = "source: shop\ncases:\n  - name: one\n    payload: [0?]\n"
    with pytest.raises(CannotRevise, match="write the expectation by hand"):
        revised("f", text, 0, Expectation(outcome="ignored"))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "1e5",
        "on",
        "~",
        "a, b",
        "a: b",
        "# no",
        "{x}",
        "'",
        '"',
        "- a",
        "0o7",
        "null",
        " a",
        "!a",
        "0?",
        "\n",
        "a\nb",
        "many words " * 12,
    ]
)
EVENT = st.dictionaries(
    st.sampled_from(["kind", "app", "commit", "series", "timestamp"]),
    TEXTS | st.integers(-(2**53), 2**53) | st.floats(0, 1e12),
    min_size=1,
)
EXPECTATIONS = st.builds(
    Expectation,
    outcome=st.sampled_from(["accepted", "ignored", "dead_lettered"]),
    events=st.lists(EVENT, max_size=3),
    fields=st.lists(TEXTS, max_size=3),
    series=st.lists(st.sampled_from(['a{b="c"} 1 2', "d{} 3 4"]), min_size=1).map("\n".join),
)


@given(
    first=EXPECTATIONS,
    second=EXPECTATIONS,
    index=st.integers(0, 6),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_is_written_reads_back(
    first: Expectation, second: Expectation, index: int, end: str
) -> None:
    """And is written over again; the other cases never notice."""
    text = BEFORE.replace("\n", end)
    before, _ = cases.read("f", text)
    assert before is not None
    for wanted in (first, second):
        text = revised("f", text, index, wanted)
        now, findings = cases.read("f", text)
        assert now is not None, findings
        for number, (was, case) in enumerate(zip(before.cases, now.cases, strict=True)):
            if number == index:
                assert isinstance(case.expect, Expectation)
                assert case.expect.comparable() == wanted.comparable()
            else:
                assert case == was
        assert text.count("\n") == text.count(end)


# The command

MAPPING = """\
source: shop
authenticate: none
rules:
  - name: a deployment
    when: body.stage == 'live'
    emit: deploytime
    fields: {app: body.app, commit: body.sha, timestamp: received_at}
"""
FAILING = b"""\
source: shop
cases:
  - name: one
    payload: {stage: live, app: shop, sha: 0ddba11c0ffee}
    expect: {outcome: ignored}
  - name: two
    payload: {stage: staging}
    expect: {outcome: accepted}   # not so
  - name: three
    payload: {stage: live, app: shop}
"""
ONE = """\
    expect:
      outcome: accepted
      events:
        - kind: deploytime
          app: shop
          commit: 0ddba11c0ffee
          timestamp: 1893456000
"""
ASKED = "accept? [y]es, [n]o, [a]ll that follow, [q]uit: "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(MAPPING)
    (tmp_path / "shop.test.yaml").write_bytes(FAILING)
    return tmp_path


def on_a_terminal(folder: Path, answers: str, *arguments: str) -> tuple[int, str]:
    """The exit code and the output of an update whose questions are answered on a terminal."""
    main, terminal = pty.openpty()
    command: Sequence[str] = (sys.executable, "-m", "gateway", "test", ".", "--update", *arguments)
    try:
        os.write(main, answers.encode())
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        for descriptor in (main, terminal):
            with contextlib.suppress(OSError):
                os.close(descriptor)
    return done.returncode, done.stdout + done.stderr


def test_with_yes_all_failing_cases_are_updated_and_pass(folder: Path) -> None:
    done = run_cli("test", ".", "--update", "--yes", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  -    expect: {outcome: accepted}   # not so\n" in done.stdout
    assert "  +    expect: {outcome: ignored}   # not so\n" in done.stdout
    assert "shop.test.yaml: 3 cases, 0 failed\n" in done.stdout
    after = FAILING.decode().replace("    expect: {outcome: ignored}\n", ONE)
    after = after.replace("{outcome: accepted}   # not so", "{outcome: ignored}   # not so")
    after += "    expect: {outcome: dead_lettered}\n"
    assert (folder / "shop.test.yaml").read_text() == after


def test_what_passes_is_left_alone(folder: Path) -> None:
    run_cli("test", ".", "--update", "--yes", cwd=folder)
    path = folder / "shop.test.yaml"
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert run_cli("test", ".", "--update", "--yes", cwd=folder).returncode == 0
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_the_mark_at_the_beginning_and_line_ends_of_windows_stay(folder: Path) -> None:
    path = folder / "shop.test.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + FAILING.replace(b"\n", b"\r\n"))
    assert run_cli("test", ".", "--update", "--yes", cwd=folder).returncode == 0
    after = path.read_bytes()
    assert after.startswith(b"\xef\xbb\xbfsource: shop\r\n")
    assert after.count(b"\n") == after.count(b"\r\n") > FAILING.count(b"\n")


def test_each_case_is_asked_about_on_a_terminal(folder: Path) -> None:
    """Something else than an answer is asked again."""
    code, output = on_a_terminal(folder, "n\nwhat\ny\nno\n")
    assert code == 1
    assert output.count(ASKED) == 4
    assert "3 cases, 2 failed" in output
    text = (folder / "shop.test.yaml").read_text()
    assert text == FAILING.decode().replace("{outcome: accepted}   #", "{outcome: ignored}   #")


def test_all_that_follow_can_be_accepted(folder: Path) -> None:
    code, output = on_a_terminal(folder, "n\na\n")
    assert (code, output.count(ASKED)) == (1, 2)
    assert "3 cases, 1 failed" in output


def test_a_review_can_be_left_with_what_was_accepted(folder: Path) -> None:
    code, output = on_a_terminal(folder, "y\nq\n")
    assert (code, output.count(ASKED)) == (1, 2)
    assert (folder / "shop.test.yaml").read_text() == FAILING.decode().replace(
        "    expect: {outcome: ignored}\n", ONE
    )


def test_the_end_of_the_input_leaves_a_review(folder: Path) -> None:
    code, output = on_a_terminal(folder, "\x04")
    assert (code, output.count(ASKED)) == (1, 1)
    assert (folder / "shop.test.yaml").read_bytes() == FAILING


def test_only_chosen_cases_are_updated(folder: Path) -> None:
    run_cli("test", ".", "--update", "--yes", "-k", "two", cwd=folder)
    text = (folder / "shop.test.yaml").read_text()
    assert text == FAILING.decode().replace("{outcome: accepted}   #", "{outcome: ignored}   #")


def test_a_program_reads_the_report_alone(folder: Path) -> None:
    done = run_cli("test", ".", "--update", "--yes", "--format", "json", cwd=folder)
    assert done.stdout.startswith("{\n")
    assert "+    expect: {outcome: ignored}   # not so" in done.stderr
