"""`gateway show`: the mapping in force as YAML that reads back the same, each line with its origin."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.authoring import writer
from gateway.cli.main import main
from gateway.diagnostic import Span
from gateway.mapping import document, grammar, library, shape
from gateway.mapping.compiler import CompiledMapping, SourceFile, compile_files
from gateway.mapping.document import Scalar, Sequence, Table
from tests import documentation
from tests.harness import ROOT, run_cli

SOURCES = sorted(library.bundled_sources())
HERE = Span("here.yaml")
ENTERPRISE = """\
source: github-enterprise
title: "Enterprise: GitHub"
extends: github
without_rules: [a failure was reported, a failure was resolved]
params:
  environments: [live, "on"]
rules:
  - name: a service moved
    when: |
      event == 'moved'
      && body.to
    emit: deploytime
    fields:
      app: "'shop'"
      commit: body.commit
      timestamp: {value: body.at, offset: "+02:00"}
"""

Show = Callable[..., tuple[int, str]]


@pytest.fixture
def show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Show:
    """Runs `gateway show` in a folder of its own; its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["show", *arguments])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def compiled(text: str, source: str) -> CompiledMapping:
    """A mapping above the bundled files, in which nothing is wrong but params that nothing reads."""
    files = [*library.bundled_files(library.needed([text])), SourceFile("shown.yaml", text, 2)]
    found = compile_files(files)
    assert {one.name for one in found.diagnostics} <= {"unused-param"}
    return found.mappings[source]


def meaning(mapping: CompiledMapping) -> dict[str, Any]:
    """All that a mapping says, with its expressions as they are written, without how it was put
    together."""
    written, _, findings = shape.read(mapping.document, grammar.Mapping)
    assert findings == []
    said: dict[str, Any] = msgspec.to_builtins(written)
    return {key: said[key] for key in said if key not in ("extends", "without_rules")}


# The round trip


@pytest.mark.parametrize("source", SOURCES)
def test_a_bundled_mapping_shown_is_the_same_mapping(
    source: str, show: Show, tmp_path: Path
) -> None:
    """It compiles without a finding, says the same, and passes the cases of the one in the file."""
    code, shown = show(source)
    assert code == 0
    bundled = compile_files(library.bundled_files([source])).mappings[source]
    again = compiled(shown, source)
    assert meaning(again) == meaning(bundled)
    assert again.scheme == bundled.scheme
    assert [rule.name for rule in again.plan.rules] == [rule.name for rule in bundled.plan.rules]
    (tmp_path / f"{source}.yaml").write_text(shown)
    for path in library.bundled("mappings").glob(f"{source}.test.yaml"):
        shutil.copy(path, tmp_path)
    assert main(["test", str(tmp_path)]) == 0


def test_a_derived_mapping_shown_is_whole(show: Show, tmp_path: Path) -> None:
    """`check` takes it as it is, and it says what the derived one says."""
    (tmp_path / "enterprise.yaml").write_text(ENTERPRISE)
    code, shown = show("github-enterprise", "--mappings", "enterprise.yaml")
    assert code == 0
    assert not re.search("^(extends|without_rules)", shown, re.MULTILINE)
    found = compile_files([*library.bundled_files(), SourceFile("enterprise.yaml", ENTERPRISE, 1)])
    again = compiled(shown, "github-enterprise")
    assert meaning(again) == meaning(found.mappings["github-enterprise"])
    checked = run_cli("check", "-", stdin=shown)
    assert checked.returncode == 0, checked.stdout
    # What is shown of what was shown is the same but for the places.
    (tmp_path / "shown.yaml").write_text(shown)
    once_more = show("github-enterprise", "--mappings", "shown.yaml")[1]
    assert without_notes(once_more) == without_notes(shown)


def without_notes(shown: str) -> list[str]:
    return [line.partition("  # ")[0].rstrip() for line in shown.splitlines()[1:]]


# Origins


def test_every_line_names_the_place_where_it_was_written(show: Show, tmp_path: Path) -> None:
    """File and line hold the key, or the item, that the line shows."""
    (tmp_path / "enterprise.yaml").write_text(ENTERPRISE)
    _, shown = show("github-enterprise", "--mappings", "enterprise.yaml")
    texts = {
        "enterprise.yaml": ENTERPRISE.splitlines(),
        "bundled/mappings/github.yaml": (ROOT / "mappings/github.yaml").read_text().splitlines(),
    }
    named = re.findall(r"^ *(?:- )?(\w+):.*  # (.+):(\d+)$", shown, re.MULTILINE)
    assert len(named) > 60
    for key, file, line in named:
        assert f"{key}:" in texts[file][int(line) - 1]
    assert {file for _, file, _ in named} == set(texts)


def test_the_whole_of_a_small_mapping(show: Show, tmp_path: Path) -> None:
    """Notes stand in one column; expressions of several lines keep their lines."""
    (tmp_path / "base.yaml").write_text(
        "source: base\nauthenticate: none\nparams: {stages: [live], limit: 3}\nrules:\n"
        "  - {name: one, emit: committime, fields: {app: body.a, commit: body.c, timestamp: body.t}}\n"
        "  - name: two\n    when: >-\n      params.limit > `1`\n      && contains(params.stages, body.s)\n"
        "    emit: committime\n    fields: {app: body.a, commit: body.c, timestamp: body.t}\n"
    )
    (tmp_path / "child.yaml").write_text(
        "source: child\nextends: base\nwithout_rules: [one]\nparams:\n  stages: [a, 'no']\n"
    )
    code, shown = show("child", "--mappings", ".")
    assert code == 0
    assert (
        shown
        == """\
# child.yaml, extends base
source: child            # child.yaml:1
authenticate: none       # base.yaml:2
params:                  # child.yaml:4
  stages: [a, "no"]      # child.yaml:5
  limit: 3               # base.yaml:3
rules:                   # base.yaml:4
  - name: two            # base.yaml:6
    when: >-             # base.yaml:7
      params.limit > `1`
      && contains(params.stages, body.s)
    emit: committime     # base.yaml:10
    fields:              # base.yaml:11
      app: body.a        # base.yaml:11
      commit: body.c     # base.yaml:11
      timestamp: body.t  # base.yaml:11
"""
    )


def test_params_of_the_environment_are_shown_as_serve_applies_them(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variable for an origin, and with the type that the param has."""
    monkeypatch.setenv("GITHUB_PARAM_ENVIRONMENTS", "live, on,1.10")
    monkeypatch.setenv("GITHUB_PARAM_FAILURE_LABELS", "")
    _, shown = show("github")
    lines = [line.split("  # ") for line in shown.splitlines() if "# environment" in line]
    assert [(text.strip(), note) for text, note in lines] == [
        ('environments: [live, "on", "1.10"]', "environment: GITHUB_PARAM_ENVIRONMENTS"),
        ("failure_labels: []", "environment: GITHUB_PARAM_FAILURE_LABELS"),
    ]
    params = compiled(shown, "github").plan.params
    assert params["environments"] == ["live", "on", "1.10"]
    assert params["failure_labels"] == []


def test_a_variable_that_sets_no_param_is_refused_as_serve_refuses_it(
    show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_PARAM_ENVIROMENTS", "live")
    code, printed = show("github")
    assert code == 2
    assert "did you mean `GITHUB_PARAM_ENVIRONMENTS`?" in printed


def test_json_has_the_mapping_and_the_origin_of_each_part(
    show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Origins are keyed by JSON pointers into the mapping, and every part has one."""
    monkeypatch.setenv("GITHUB_ENTERPRISE_PARAM_BRANCHES", "main")
    (tmp_path / "enterprise.yaml").write_text(ENTERPRISE)
    arguments = ("github-enterprise", "--mappings", "enterprise.yaml")
    shown = json.loads(show(*arguments, "--format", "json")[1])
    assert (shown["file"], shown["extends"]) == ("enterprise.yaml", "github")
    assert shown["mapping"] == yaml.safe_load(show(*arguments)[1])
    origins = shown["origins"]
    assert origins["/source"] == {"file": "enterprise.yaml", "line": 1}
    assert origins["/params/branches/0"] == {"variable": "GITHUB_ENTERPRISE_PARAM_BRANCHES"}
    assert origins["/rules/6/fields/timestamp/offset"] == {"file": "enterprise.yaml", "line": 16}
    assert set(origins) == set(pointers(shown["mapping"], ""))


def pointers(value: Any, path: str) -> list[str]:
    """The JSON pointers of all parts of a value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for name, part in parts:
        found.append(f"{path}/{name}")
        if isinstance(part, dict | list):
            found += pointers(part, f"{path}/{name}")
    return found


def test_the_reference_shows_what_is_shown(show: Show, tmp_path: Path) -> None:
    """The lines of its example, in their order; `…` stands for lines that are left out."""
    marked = {
        fence.marks[-1]: fence.text
        for fence in documentation.fences((ROOT / "docs/reference/mapping.md").read_text())
        if fence.marks
    }
    (tmp_path / "github.yaml").write_text(marked["shown: github.yaml"])
    arguments = ("github", "--mappings", "github.yaml")
    code, shown = show(*arguments)
    assert code == 0
    parts = marked[f"of: gateway show {' '.join(arguments)}"].split("…\n")
    at = 0
    for part in parts:
        at = shown.index(part, at) + len(part)


# Lists and errors


def test_without_a_source_all_are_listed(show: Show, tmp_path: Path) -> None:
    """Name, title, file, what it extends, and which bundled file is not in force because of it."""
    (tmp_path / "enterprise.yaml").write_text(ENTERPRISE)
    (tmp_path / "jira.yaml").write_text("source: jira\nextends: jira\n")
    listed = yaml.safe_load(show("--mappings", ".")[1])
    assert [one["source"] for one in listed] == sorted([*SOURCES, "github-enterprise"])
    by_name = {one["source"]: one for one in listed}
    assert by_name["github"] == {
        "source": "github",
        "title": "GitHub",
        "file": "bundled/mappings/github.yaml",
    }
    assert by_name["github-enterprise"] == {
        "source": "github-enterprise",
        "title": "Enterprise: GitHub",
        "file": "enterprise.yaml",
        "extends": "github",
    }
    assert by_name["jira"] == {
        "source": "jira",
        "title": "jira",
        "file": "jira.yaml",
        "extends": "jira",
        "replaces": "bundled/mappings/jira.yaml",
    }
    assert json.loads(show("--mappings", ".", "--format", "json")[1]) == listed
    heading = "# jira.yaml, extends jira, replaces bundled/mappings/jira.yaml\n"
    assert show("jira", "--mappings", ".")[1].startswith(heading)


def test_mappings_and_models_may_be_named_by_the_settings_of_serve(
    show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what is shown in a container is what is served there; a flag wins."""
    (tmp_path / "enterprise.yaml").write_text(ENTERPRISE)
    monkeypatch.setenv("GATEWAY_MAPPINGS", str(tmp_path / "enterprise.yaml"))
    assert show("github-enterprise")[0] == 0
    (tmp_path / "other").mkdir()
    assert show("github-enterprise", "--mappings", "other")[0] == 2


def test_an_unknown_source_is_one_sentence(show: Show) -> None:
    code, printed = show("githb")
    assert code == 2
    assert printed.startswith("gateway: there is no source `githb`; did you mean `github`?")


def test_what_is_wrong_is_reported_as_check_reports_it(show: Show, tmp_path: Path) -> None:
    """Nothing is in force then."""
    (tmp_path / "shop.yaml").write_text("source: shop\nextends: gitub\n")
    code, printed = show("github", "--mappings", "shop.yaml")
    assert code == 1
    assert printed == run_cli("check", "shop.yaml", cwd=tmp_path).stdout.replace(
        "in 1 file", f"in {len(library.bundled_files()) + 1} files"
    )


# Writing


TEXTS = [
    *("", " ", "-", "- a", "a: b", "a:", ": a", "a #b", "#a", "a#b", "~", "null", "Null", "true"),
    *("yes", "on", "Off", "n", "y", "=", "<<", "12", "1.10", "1e3", "0x1F", "0o17", "017", "1_000"),
    *("12:30", "12:30:45", "2026-01-31", "2026-01-31T10:00:00Z", ".5", "-.inf", ".nan", "+1", "-"),
    *("'", '"', "'a'", '"a"', "it's", "'\"", "\\", "a\\b", "`a`", "@", "%a", "!a", "&a", "*a", "|"),
    *(">", ">-", "[", "]", "[a]", "{a: b}", "{}", "a, b", "a,b", "?", "? a", "---", "...", "--- a"),
    *(" a", "a ", "\ta", "a\t", "a\nb", "a\n", "\na", "a\n\nb", "a\n  b", "a\r\nb", "a\n\n", "\n"),
    *(
        "é",
        "日本語",
        "😀",
        "\u2028",
        "a\u2028b",
        "\x85",
        "\ufeff",
        "\x00",
        "\x1b[1m",
        "\u202e",
        "\x7f",
    ),
    *("\u00a0", "a\u00a0", "\U000e0001", "sha256=", "body.a == 'x' && b", "k: {}", "{}: x", "k"),
]


@pytest.mark.parametrize("text", TEXTS, ids=[ascii(text) for text in TEXTS])
def test_any_text_reads_back_as_itself(text: str) -> None:
    """As a value, as an item of a list and as a key; other readers of YAML agree."""
    reads_back(text)


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("a: b # c")
def test_random_text_reads_back_as_itself(text: str) -> None:
    reads_back(text)


@given(st.text("ab:#-'\"\\ \n\t[]{},&*!|>%@`01.e~é\u2028"))
def test_text_of_what_means_something_to_yaml_reads_back_as_itself(text: str) -> None:
    reads_back(text)


@given(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.sampled_from([float("inf"), float("-inf"), 1e22, 1e-7, 0.0, -0.0])
)
def test_values_that_are_no_text_read_back_with_their_type(value: Any) -> None:
    node, findings = document.parse("", f"k: {writer.scalar(value)}\n")
    assert findings == []
    assert isinstance(node, Table)
    read = shape.plain(node)["k"]
    assert (read, type(read)) == (value, type(value))


def reads_back(text: str) -> None:
    value = Scalar(text, HERE)
    table = Table(
        (
            (Scalar("value", HERE), value),
            (Scalar("list", HERE), Sequence((value, Scalar("x", HERE)), HERE)),
            (Scalar("tables", HERE), Sequence((Table(((value, value),), HERE),), HERE)),
        ),
        HERE,
    )
    written = writer.write(table, lambda _path, _span: "a note: # of 'its' own")
    node, findings = document.parse("", written)
    assert findings == [], written
    assert node is not None
    assert shape.plain(node) == shape.plain(table)
    assert yaml.safe_load(written) == shape.plain(table)
    assert all(char == "\n" or char.isprintable() for char in written)


@pytest.mark.parametrize(
    "block",
    [
        ">-\n  a\n  && b\n",
        ">\n  a\n  && b\n",
        "|-\n  a\n  && b\n",
        "|\n  a\n  && b\n",
        "|\n  a\n\n  b\n",
        "|+\n  a\n  b\n\n\n",
        ">-\n  a.[\n    b,\n    c\n  ] | [0]\n",
        ">-\n  a\n\n  b\n",
        "a\n  && b\n",
        '"a\n  && b"\n',
        "'it''s\n  here'\n",
        '"a \\\n  b"\n',
        "|2\n    a\n  b\n",
        ">-\n  " + "a" * 200 + "\n  b\n",
    ],
)
def test_a_text_of_several_lines_is_shown_in_lines(block: str) -> None:
    """As its author broke it where a block can hold that; it reads back the same either way."""
    node, findings = document.parse(
        "", f"rules:\n  - when: {block.replace(chr(10), chr(10) + '    ')}\n"
    )
    assert findings == []
    assert isinstance(node, Table)
    written = writer.write(node, lambda _path, span: f"line {span.line}")
    again, findings = document.parse("", written)
    assert findings == []
    assert again is not None
    assert shape.plain(again) == shape.plain(node), written
    if "\\" not in block and "+" not in block and "|2" not in block:
        assert len(written.splitlines()) > 2, written


def test_a_list_that_was_written_in_lines_stays_so() -> None:
    """Each item has a place of its own then."""
    node, _ = document.parse(
        "f", "params:\n  a:\n    - x\n    - 'no'\n  b: [x, y]\n  c: {}\n  d: []\n"
    )
    assert isinstance(node, Table)
    assert writer.write(node, lambda _path, span: str(span.line)).splitlines() == [
        "params:      # 1",
        "  a:         # 2",
        "    - x      # 3",
        '    - "no"   # 4',
        "  b: [x, y]  # 5",
        "  c: {}      # 6",
        "  d: []      # 7",
    ]
