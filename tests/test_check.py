"""`gateway check`: every broken example gives exactly its report, and every good one gives none."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from gateway.cli.main import main
from tests.harness import ROOT, run_cli, run_process

BROKEN = ROOT / "tests/broken"
CASES = sorted(path for path in BROKEN.iterdir() if path.suffix != ".txt")
ARGUMENTS = {
    "sample-is-no-json": "--samples=tests/broken/sample-is-no-json/sample.json",
    "sample-of-another-system": "--samples=tests/broken/sample-of-another-system",
}
"""What an example is checked with, besides its path."""
GENERATED = {"file-is-larger-than-a-mebibyte": "# padding\n" * 110_000}
"""Examples that are too large to be kept; their reports are."""
WRONG = "tests/broken/mapping-compares-with-a-single-equals-sign.yaml"
GOOD = """\
source: shop
authenticate: {scheme: bearer, secret: {env: SHOP_WEBHOOK_SECRET}}
event: headers."x-shop-event"
rules:
  - name: a deployment finished
    when: event == 'deployed'
    emit: deploytime
    fields: {app: body.service, commit: body.commit, timestamp: body.finished_at}
"""
CASES_OF_SHOP = """\
source: shop
cases:
  - name: the shop is deployed
    headers: {X-Shop-Event: deployed}
    payload: {service: shop, commit: 6b51418, finished_at: 1772445931}
    expect: {outcome: accepted}
"""
EXTENDING = """\
source: github-enterprise
extends: github
params:
  environments: [live]
"""

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Check:
    """Runs `gateway check` from the top of the repository; its exit code and what it printed."""
    monkeypatch.chdir(ROOT)

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["check", *arguments])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def golden(path: Path) -> Path:
    """The report that belongs to an example."""
    return path.with_suffix(".txt") if path.is_file() else path.with_name(path.name + ".txt")


def arguments(path: Path) -> list[str]:
    """The command line of an example."""
    given = [ARGUMENTS[path.stem]] if path.stem in ARGUMENTS else []
    return [*given, str(path.relative_to(ROOT))]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_broken_example_gives_exactly_its_report(path: Path, check: Check) -> None:
    """The report of each example is the one beside it.
    Rows 27, 31, 33, 36 and 43 of the table in docs/explanation/security.md."""
    code, printed = check(*arguments(path))
    if os.environ.get("UPDATE_GOLDEN"):
        golden(path).write_text(printed)
    assert printed == golden(path).read_text()
    assert code == (1 if re.search(r"^\d+ errors?\b", printed, re.MULTILINE) else 0)
    assert check("--deny-warnings", *arguments(path)) == (1, printed)


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_example_gives_exactly_its_report(
    name: str, tmp_path: Path, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the others, only that the example is written first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{name}.yaml").write_text(GENERATED[name])
    code, printed = check(f"{name}.yaml")
    report = BROKEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        report.write_text(printed)
    assert (code, printed) == (1, report.read_text())


def test_there_are_many_broken_examples_and_no_report_without_one() -> None:
    """Every report in the folder belongs to an example."""
    assert len(CASES) >= 190
    generated = {BROKEN / f"{name}.txt" for name in GENERATED}
    assert {golden(path) for path in CASES} | generated == set(BROKEN.glob("*.txt"))


@pytest.mark.parametrize("path", CASES[:3] + CASES[-2:], ids=lambda path: path.stem)
def test_the_command_itself_gives_the_same_report(path: Path) -> None:
    """A process prints what the function prints, and ends with 1."""
    process = run_process("check", str(path.relative_to(ROOT)))
    assert (process.returncode, process.stderr) == (1, "")
    assert process.stdout == golden(path).read_text()


def test_the_bundled_mappings_and_models_are_fine(check: Check) -> None:
    """What is shipped passes, with warnings denied, named or not."""
    code, printed = check("--deny-warnings", "mappings", "schemas")
    assert code == 0
    assert re.fullmatch(r"no problems in \d+ files\n", printed)
    assert check() == (code, printed)


def test_a_path_that_does_not_exist_is_one_sentence_and_exit_code_2(check: Check) -> None:
    """What cannot be examined is neither right nor wrong."""
    sentence = "gateway: cannot read nowhere.yaml: No such file or directory\n"
    assert check("nowhere.yaml") == (2, sentence)


def test_a_folder_is_examined_as_one(tmp_path: Path, check: Check) -> None:
    """Mappings, models and cases are read; hidden files, other folders and others are not."""
    (tmp_path / "shop.yaml").write_text(GOOD)
    (tmp_path / "market.yml").write_text(GOOD.replace("source: shop", "source: market"))
    (tmp_path / "shop.test.yaml").write_text(CASES_OF_SHOP)
    (tmp_path / "more").mkdir()
    for passed_over in (".hidden.yaml", ".hidden.test.yaml", "notes.txt", "more/not.yaml"):
        (tmp_path / passed_over).write_text("neither: this\n")
    assert check("--deny-warnings", str(tmp_path)) == (0, "no problems in 3 files\n")


def test_what_leads_to_nothing_is_one_sentence_and_exit_code_2(
    tmp_path: Path, check: Check
) -> None:
    """A pattern without a match and an empty folder are mistakes of the command line."""
    (tmp_path / "notes.txt").write_text("no mapping\n")
    sentence = f"gateway: there is no mapping, model or case in {tmp_path}\n"
    assert check(str(tmp_path)) == (2, sentence)
    sentence = f"gateway: no file of YAML or Markdown matches {tmp_path}/*\n"
    assert check(f"{tmp_path}/*") == (2, sentence)


def test_a_pattern_names_files_in_folders_below(tmp_path: Path, check: Check) -> None:
    """`**` is any number of folders; what is neither YAML nor Markdown is left out."""
    (tmp_path / "teams/shop").mkdir(parents=True)
    (tmp_path / "teams/shop/shop.yaml").write_text(GOOD)
    (tmp_path / "teams/market.yml").write_text(GOOD.replace("source: shop", "source: market"))
    (tmp_path / "teams/notes.txt").write_text("no mapping\n")
    assert check(f"{tmp_path}/**/*") == (0, "no problems in 2 files\n")
    assert check(f"{tmp_path}/teams/*.yml") == (0, "no problems in 1 file\n")


def test_a_file_alone_is_read_with_what_it_needs_from_beside_it(
    tmp_path: Path, check: Check
) -> None:
    """A parent, a model and a mapping with cases are found, and nothing is reported of them."""
    model = "kind: release\nfields: {app: {type: app}}\nmetrics: [{name: a}]\n"
    child = "source: market\nextends: shop\ntitle: A market\n"
    emitting = GOOD.replace("source: shop", "source: stall").replace("deploytime", "release")
    emitting = emitting.replace(", commit: body.commit, timestamp: body.finished_at", "")
    for name, text in (
        ("shop.yaml", GOOD.replace("rules:", "params: {unused: 1}\nrules:")),
        ("market.yaml", child),
        ("release.model.yaml", model),
        ("stall.yaml", emitting),
        ("shop.test.yaml", CASES_OF_SHOP),
        ("broken.yaml", "source: [\n"),
    ):
        (tmp_path / name).write_text(text)
    for name in ("market.yaml", "stall.yaml", "shop.test.yaml"):
        assert check("--deny-warnings", str(tmp_path / name)) == (0, "no problems in 1 file\n")
    both = [str(tmp_path / name) for name in ("market.yaml", "shop.test.yaml")]
    assert check("--deny-warnings", *both) == (0, "no problems in 2 files\n")
    assert check(str(tmp_path / "shop.yaml"))[1].endswith("1 warning in 1 file\n")


def test_models_of_another_folder_are_named_for_reference(tmp_path: Path, check: Check) -> None:
    """What `--schemas` names is read and not reported on."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/release.yaml").write_text("kind: release\nfields: {app: {type: app}}\n")
    (tmp_path / "shop.yaml").write_text(
        GOOD.replace("deploytime", "release").replace(
            ", commit: body.commit, timestamp: body.finished_at", ""
        )
    )
    path = str(tmp_path / "shop.yaml")
    assert check("--format=concise", path)[0] == 1
    assert check(f"--schemas={tmp_path}/schemas", path) == (0, "no problems in 1 file\n")


def test_samples_are_of_one_mapping(check: Check) -> None:
    """With several, it is not clear which one sends them."""
    sample = "tests/broken/sample-of-another-system"
    code, printed = check(f"--samples={sample}", "mappings")
    assert code == 2
    assert re.fullmatch(
        r"gateway: --samples are deliveries of one mapping, and these are \d+: (\S+, ){5}…\n",
        printed,
    )
    code, printed = check(f"--samples={sample}", "schemas")
    assert (code, printed.endswith("and none is named\n")) == (2, True)
    code, printed = check("--samples=docs", "mappings/jira.yaml")
    assert (code, printed) == (2, "gateway: there is no sample (*.json, *.http) in docs\n")


def test_a_name_that_one_sample_of_many_has_is_fine(tmp_path: Path, check: Check) -> None:
    """Samples are held together: some deliveries lack what others have."""
    (tmp_path / "shop.yaml").write_text(GOOD)
    (tmp_path / "samples").mkdir()
    for number, key in enumerate(("service", "commit", "finished_at")):
        (tmp_path / f"samples/{number}.json").write_text(json.dumps({key: "x"}))
    samples = f"--samples={tmp_path}/samples"
    arguments = ("--deny-warnings", samples, str(tmp_path / "shop.yaml"))
    assert check(*arguments) == (0, "no problems in 4 files\n")
    (tmp_path / "samples/1.json").unlink()
    code, printed = check("--format=concise", *arguments)
    assert code == 1
    assert "warning[not-in-samples]: `body.commit` resolved in 0 of 2 samples\n" in printed


def test_the_junit_format_has_a_test_case_for_each_file(check: Check) -> None:
    """Errors are failures, warnings are what a test case printed; both fail where they are denied."""
    warned = "tests/broken/model-has-a-label-for-each-time.yaml"
    code, printed = check("--format=junit", WRONG, warned, "mappings/jira.yaml")
    suite = ET.fromstring(printed)[0]
    assert (code, suite.get("tests"), suite.get("failures")) == (1, "3", "1")
    cases = {case.get("name"): case for case in suite}
    failure = cases[WRONG].find("failure")
    assert failure is not None
    assert (failure.get("type"), failure.get("message")) == ("expression-syntax", "unexpected `=`")
    assert f"{WRONG}:9:17: error" in str(failure.text)
    assert "unbounded-label" in str(cases[warned].findtext("system-out"))
    assert len(cases["mappings/jira.yaml"]) == 0
    code, printed = check("--format=junit", "--deny-warnings", warned)
    assert (code, ET.fromstring(printed).get("failures")) == (1, "1")


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path, check: Check) -> None:
    """A file does not collide with itself."""
    (tmp_path / "shop.yaml").write_text(GOOD)
    assert check(str(tmp_path), str(tmp_path / "shop.yaml")) == (0, "no problems in 1 file\n")


def test_a_mapping_may_extend_a_bundled_one(tmp_path: Path, check: Check) -> None:
    """What it inherits is used, and not reported as unused."""
    (tmp_path / "enterprise.yaml").write_text(EXTENDING)
    assert check("--deny-warnings", str(tmp_path)) == (0, "no problems in 1 file\n")


def test_a_mapping_that_extends_another_of_the_same_folder_is_fine(
    tmp_path: Path, check: Check
) -> None:
    """A param that only replaced rules read is not unused where it was declared."""
    rule = GOOD.replace("source: shop", "source: market\nextends: shop").replace("deployed", "live")
    parent = GOOD.replace("rules:", "params: {stages: [live]}\nrules:")
    parent = parent.replace("event == 'deployed'", "contains(params.stages, body.stage)")
    (tmp_path / "shop.yaml").write_text(parent)
    (tmp_path / "market.yaml").write_text(rule)
    assert check("--deny-warnings", str(tmp_path)) == (0, "no problems in 2 files\n")


def test_a_model_that_breaks_a_bundled_mapping_is_reported(tmp_path: Path, check: Check) -> None:
    """A kind that is replaced without a field that a bundled mapping maps would end its source."""
    model = "kind: failure\nfields: {app: {type: app}, timestamp: {type: timestamp}}\n"
    (tmp_path / "failure.yaml").write_text(model)
    code, printed = check("--format=json", str(tmp_path))
    found = json.loads(printed)
    assert code == 1
    assert {finding["name"] for finding in found} == {"unknown-field", "correlated-kind"}
    assert {"jira.yaml"} <= {Path(finding["span"]["file"]).name for finding in found}


def test_a_metric_that_two_files_claim_is_the_mistake_of_the_users(
    tmp_path: Path, check: Check
) -> None:
    """A replaced kind is not a reason to report the bundled kind after it."""
    build = (ROOT / "schemas/build.yaml").read_text()
    (tmp_path / "build.yaml").write_text(
        build + "metrics:\n  - {name: deploy_timestamp, help: A build, value: timestamp, "
        "labels: {app: app}}\n"
    )
    _, printed = check("--format=concise", str(tmp_path))
    metric = next(line for line in printed.splitlines() if "duplicate-metric" in line)
    assert metric.startswith(str(tmp_path))


def test_standard_input_is_a_file_too() -> None:
    """`-` reads one file from standard input, under a name of its own."""
    good = run_process("check", "-", stdin=GOOD)
    assert (good.returncode, good.stdout) == (0, "no problems in 1 file\n")
    wrong = run_cli("check", "--format=concise", "-", stdin=GOOD.replace("==", "="))
    assert wrong.returncode == 1
    assert wrong.stdout.startswith("<stdin>:6:17: error[expression-syntax]: unexpected `=`\n")


def test_standard_input_that_is_not_utf8_is_reported() -> None:
    """The place is named as in a file."""
    process = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "--format=concise", "-"],
        cwd=ROOT,
        input="source: shop\ntitle: Café\n".encode("latin-1"),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 1
    report = b"<stdin>:2:11: error[not-utf8]: the byte 0xE9 is not UTF-8\n"
    assert process.stdout.startswith(report)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path, check: Check) -> None:
    """Editors that write one are forgiven."""
    (tmp_path / "shop.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert check(str(tmp_path)) == (0, "no problems in 1 file\n")


def test_lines_may_end_as_windows_ends_them(tmp_path: Path, check: Check) -> None:
    """The place is the same whatever a line ends with."""
    text = GOOD.replace("==", ">-\n      body.live\n      && event =").replace(
        "when: event ", "when: "
    )
    (tmp_path / "shop.yaml").write_bytes(text.encode().replace(b"\n", b"\r\n"))
    _, printed = check("--format=concise", str(tmp_path))
    assert "shop.yaml:8:16: error[expression-syntax]: unexpected `=`" in printed


def test_warnings_may_be_denied(check: Check) -> None:
    """A warning alone is exit code 0, or 1 where warnings are denied."""
    path = "tests/broken/mapping-declares-a-param-that-nothing-reads.yaml"
    assert check(path)[0] == 0
    assert check("--deny-warnings", path)[0] == 1


def test_the_concise_format_is_one_line_for_each_finding(check: Check) -> None:
    """The line names the place, the severity, the check and the mistake."""
    assert check("--format=concise", WRONG) == (
        1,
        f"{WRONG}:9:17: error[expression-syntax]: unexpected `=`\n1 error in 1 file\n",
    )


def test_the_json_format_is_the_diagnostics_themselves(check: Check) -> None:
    """Each finding has a place, a name, a message, a help and a severity."""
    code, printed = check("--format=json", WRONG)
    assert code == 1
    assert json.loads(printed) == [
        {
            "span": {"file": WRONG, "line": 9, "column": 17, "width": 1},
            "name": "expression-syntax",
            "message": "unexpected `=`",
            "help": "write `==` to compare",
            "severity": "error",
        }
    ]


def test_the_json_of_no_findings_is_an_empty_list(check: Check) -> None:
    """A program can read it all the same."""
    code, printed = check("--format=json", "mappings")
    assert (code, json.loads(printed)) == (0, [])


def test_the_github_format_is_an_annotation_for_each_finding(check: Check) -> None:
    """A workflow shows it beside the line."""
    code, printed = check("--format=github", WRONG)
    assert code == 1
    assert printed.splitlines()[0] == (
        f"::error file={WRONG},line=9,col=17,title=expression-syntax::"
        "unexpected `=` (write `==` to compare)"
    )


def test_the_sarif_format_has_what_sarif_2_1_0_requires(check: Check) -> None:
    """Version, runs, the tool's name, and for each result a message and a rule that is declared."""
    code, printed = check("--format=sarif", "tests/broken/mapping-misspells-a-key.yaml")
    log: dict[str, Any] = json.loads(printed)
    assert code == 1
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    assert run["tool"]["driver"]["name"] == "gateway check"
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert rules == {"missing-key", "unknown-key"}
    for result in run["results"]:
        assert result["ruleId"] in rules
        assert result["level"] == "error"
        assert result["message"]["text"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "tests/broken/mapping-misspells-a-key.yaml"
        assert 1 <= place["region"]["startLine"] <= 15
        assert place["region"]["startColumn"] < place["region"]["endColumn"]


def test_an_unknown_format_is_refused(check: Check) -> None:
    """The command line is wrong, not the mapping."""
    with pytest.raises(SystemExit) as ended:
        check("--format=xml", "mappings")
    assert ended.value.code == 2


def _bomb(levels: int) -> str:
    """Anchors of which each repeats the one before ten times."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        repeated = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} [{repeated}]")
    return "\n".join(lines) + "\n"


def _merge_bomb(levels: int) -> str:
    """Merge keys of which each takes the one before ten times."""
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, levels):
        repeated = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} {{<<: [{repeated}]}}")
    return "\n".join(lines) + "\n"


HOSTILE = {
    "nested-brackets": ("params: " + "[" * 30_000, "too-deep"),
    "closed-nested-brackets": ("params: " + "[" * 30_000 + "]" * 30_000, "too-deep"),
    "nested-braces": ("params: " + "{a: " * 30_000, "too-deep"),
    "nested-sequences": ("- " * 30_000 + "x", "too-deep"),
    "nested-complex-keys": ("? " * 30_000 + "x", "too-deep"),
    "alias-bomb": (_bomb(12), "anchor-not-allowed"),
    "merge-key-bomb": (_merge_bomb(12), "anchor-not-allowed"),
    "nul-character": (GOOD.replace("shop", "sh\0op"), "yaml-syntax"),
    "escape-beyond-unicode": ('source: "\\UFFFFFFFF"\n', "yaml-syntax"),
    "half-a-surrogate-pair": ('source: "\\ud800"\n', "yaml-syntax"),
    "other-line-breaks": ('source: "a\u2028b\u2029c\x85d"\n', "wrong-value"),
    "huge-number": ("source: " + "9" * 100_000, "wrong-value"),
    "huge-file": ("# " + "x" * 1024 * 1024, "too-large"),
    "deep-expression": (GOOD.replace("body.service", "(" * 900 + "a"), "expression-syntax"),
    "long-expression": (GOOD.replace("body.service", "body." + "a" * 3_000), "expression-syntax"),
    "brackets-in-an-expression": (
        GOOD.replace("body.service", '"' + "[" * 30_000 + '"'),
        "expression-syntax",
    ),
    "many-operands": (GOOD.replace("body.service", "a && " * 390 + "a"), "expression-syntax"),
    "many-alternatives": (
        GOOD.replace("event == 'deployed'", "(a || b) && " * 110 + "a"),
        "unknown-name",
    ),
    "python-object": ("source: !!python/object/apply:os.system [ls]\n", "tag-not-allowed"),
    "many-keys": ("".join(f"key{n}: {n}\n" for n in range(5_000)) + GOOD, "unknown-key"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_reported_and_the_command_ends(name: str, tmp_path: Path) -> None:
    """No file exhausts the stack, the memory or the patience of who checks it. Rows 40, 41 and 42."""
    text, expected = HOSTILE[name]
    path = tmp_path / f"{name}.yaml"
    path.write_text(text)
    process = run_cli("check", "--format=concise", str(path))
    assert (process.returncode, process.stderr) == (1, "")
    assert f"error[{expected}]" in process.stdout


HOSTILE_PAGES = {
    "brackets-in-a-fence": ("```yaml\nsource: " + "[" * 30_000 + "\n```\n", "too-deep"),
    "a-fence-that-never-ends": ("```yaml\nsource: shop\nrules: 1\n", "wrong-type"),
    "many-fences": (f"```yaml\n{GOOD}```\n" * 300, "too-large"),
}


@pytest.mark.parametrize("name", HOSTILE_PAGES)
def test_a_hostile_page_is_reported_and_the_command_ends(name: str, tmp_path: Path) -> None:
    """As for a file of YAML."""
    text, expected = HOSTILE_PAGES[name]
    path = tmp_path / f"{name}.md"
    path.write_text(text)
    process = run_cli("check", "--format=concise", str(path))
    assert (process.returncode, process.stderr) == (1, "")
    assert f"error[{expected}]" in process.stdout


@pytest.mark.parametrize("text", ["[" * 30_000, '{"a": ' * 30_000, "POST / HTTP/1.1\n" * 9])
def test_a_hostile_sample_is_reported_and_the_command_ends(text: str, tmp_path: Path) -> None:
    """What is no delivery is no reason to end otherwise."""
    (tmp_path / "shop.yaml").write_text(GOOD)
    (tmp_path / "sample.json").write_text(text)
    arguments = ["--format=concise", "--samples", "sample.json", "shop.yaml"]
    process = run_cli("check", *arguments, cwd=tmp_path)
    assert (process.returncode, process.stderr) == (1, "")
    assert "error[unreadable-sample]" in process.stdout


def test_the_readme_shows_what_check_says(tmp_path: Path) -> None:
    """Its mapping has no problem; misspelled as shown, it gets the report that is shown."""
    readme = (ROOT / "README.md").read_text()
    mapping = readme.partition("```yaml\n")[2].partition("```")[0]
    report = readme.partition("```\nshop.yaml")[2].partition("```")[0]
    (tmp_path / "shop.yaml").write_text(mapping)
    assert run_cli("check", "shop.yaml", cwd=tmp_path).stdout == "no problems in 1 file\n"
    (tmp_path / "shop.yaml").write_text(mapping.replace("when: body.", "when: bdoy."))
    done = run_cli("check", "shop.yaml", cwd=tmp_path)
    assert done.stdout == f"shop.yaml{report}\n1 error in 1 file\n"
