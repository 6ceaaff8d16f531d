"""The functions of expressions: what their documentation says, their edges, and their bounds."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jmespath import functions as package
from jmespath.exceptions import JMESPathError

from gateway.cli.main import main
from gateway.mapping import functions
from gateway.mapping.expression import parse
from gateway.mapping.functions import addresses, patterns, times
from gateway.mapping.functions.entry import Example, Function, NotLiteral
from tests.harness import ROOT

STANDARD = package.Functions.FUNCTION_TABLE
OURS = {name: one for name, one in functions.FUNCTIONS.items() if one.call}
EXAMPLES = [
    pytest.param(example, id=example.expression)
    for function in functions.FUNCTIONS.values()
    for example in function.examples
]


# The table


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_true(example: Example) -> None:
    """The result with its types, or the failure."""
    scope = {"body": json.loads(example.body or "null")}
    evaluate = parse(example.expression).evaluate
    if example.fails:
        with pytest.raises(JMESPathError) as caught:
            evaluate(scope)
        assert example.fails in str(caught.value)
    else:
        assert repr(evaluate(scope)) == repr(json.loads(example.result))


@pytest.mark.parametrize("function", functions.FUNCTIONS.values(), ids=lambda one: one.name)
def test_a_function_has_examples_that_call_it(function: Function) -> None:
    called = {call.name for one in function.examples for call in parse(one.expression).calls}
    assert function.name in called


@pytest.mark.parametrize("function", OURS.values(), ids=lambda one: one.name)
def test_one_of_our_own_shows_an_edge(function: Function) -> None:
    """Nothing found, nothing given, or a failure, besides what it is for."""
    edges = [one for one in function.examples if one.fails or not json.loads(one.result)]
    plain = [one for one in function.examples if one not in edges]
    assert plain
    assert edges


def test_every_function_of_jmespath_is_there() -> None:
    """With the types that the package checks; ours take no name of JMESPath's."""
    assert functions.FUNCTIONS.keys() - OURS.keys() == STANDARD.keys()
    for name, entry in STANDARD.items():
        parameters = functions.SIGNATURES[name].parameters
        assert [list(one.types) for one in parameters] == [
            one["types"] for one in entry["signature"]
        ]
        assert [one.variadic for one in parameters] == [
            one.get("variadic", False) for one in entry["signature"]
        ]


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_signature_has_the_names_and_defaults_of_its_function(name: str) -> None:
    call: Any = OURS[name].call
    parameters = functions.SIGNATURES[name].parameters
    code = call.__code__
    assert tuple(one.name for one in parameters) == code.co_varnames[: code.co_argcount]
    assert sum(one.optional for one in parameters) == len(call.__defaults__ or ())


def test_a_signature_reads_as_it_is_written() -> None:
    written = "split(subject: string, search: string, count?: number) -> array[string]"
    assert str(functions.SIGNATURES["split"]) == written
    assert str(functions.SIGNATURES["not_null"]) == "not_null(...values: any) -> any"
    assert str(functions.SIGNATURES["map"]) == "map(each: expression, items: array) -> array"
    assert str(functions.ARITIES["split"]) == "2 to 3"
    assert functions.ARITIES["merge"].takes(5)
    assert not functions.ARITIES["merge"].takes(0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
TEXTS = st.text() | st.sampled_from(
    ["nginx", "ghcr.io/o/s:1@sha256:" + "0" * 64, "https://u@h:1/p?q", "git@h:o/s.git", "(?<a>.*)b?",
     "(", "7/Oct/2026", "%d/%b/%Y", "%d/%b/%Y %z", "%I", "%", "Z", "+02:00", "\ud800", "\0", "[[:alpha:]]"]
)  # fmt: skip


@settings(max_examples=1_000)
@given(st.sampled_from(sorted(OURS)), st.data())
def test_our_own_take_anything(name: str, data: st.DataObject) -> None:
    """They give a JSON value, the same each time, or fail as JMESPath's own do.
    Row 37 of the table in docs/explanation/security.md."""
    arity = functions.ARITIES[name]
    count = data.draw(st.integers(arity.least, arity.most or arity.least))
    arguments = [data.draw(TEXTS | JSON) for _ in range(count)]
    call = functions.direct(name, count)
    assert call is not None
    try:
        result = call(*arguments)
    except JMESPathError:
        return
    assert call(*arguments) == result
    assert json.dumps(result)


# Patterns


@pytest.mark.parametrize(
    ("subject", "pattern", "result"),
    [
        ("v1.2", "v(?<a>.+)", {"a": "1.2"}),
        ("v1.2", "v(?P<a>.+)", {"a": "1.2"}),
        ("xx v1 v2", r"v(?<a>\d)", {"a": "1"}),
        ("v", "v(?<a>.*)", {"a": ""}),
        ("a", "(?<a>a)|(?<b>b)", {"a": "a", "b": None}),
        ("ab", "(a)(?<x>b)", {"x": "b"}),
        ("übergrößeß", "(?<x>ß.*)", {"x": "ßeß"}),
        ("😀x😀", "(?<x>.)$", {"x": "😀"}),
        ("a\nb", "^(?<x>.*)$", None),
        ("a\nb", "(?s)^(?<x>.*)$", {"x": "a\nb"}),
        ("", "(?<x>a)", None),
        ("\ud800a", "(?<x>[a-z])", {"x": "a"}),
        ("é", r"(?<x>\C)", {"x": "�"}),
        ("(?<a>", r"\(\?<(?<name>\w)>", {"name": "a"}),
    ],
)
def test_capture(subject: str, pattern: str, result: Any) -> None:
    """The named parts of the first match."""
    assert patterns.capture(subject, pattern) == result


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("a(b", "missing )"),
        ("[a", "missing ]"),
        ("*a", "no argument for repetition operator"),
        ("a(?=b)", "looks around"),
        ("(?<!a)b", "looks around"),
        (r"(a)\1", "refers back"),
        (r"a\Z", "invalid escape sequence"),
        (r"\pL{1000}", "needs more than 1 MiB"),
        ("a" * 1_001, "at most 1000 characters, not 1001"),
    ],
)
def test_a_wrong_pattern_says_why(pattern: str, part: str) -> None:
    """Before any delivery, and in the reason of a dead letter."""
    assert part in (patterns.pattern_error(pattern) or "")
    for call in (patterns.matches, patterns.capture):
        with pytest.raises(JMESPathError, match=part.replace(")", r"\)").replace("]", r"\]")):
            call("a", pattern)


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("v(.+)", "names nothing to capture"),
        (r"\(?<a>", "names nothing to capture"),
        ("[(?<a>)]", "names nothing to capture"),
        ("(?<a>x)|(?<a>y)", "two groups named `a`"),
        (r"(?<a>x)\(?<a>y", None),
        (r"(?<a>x)\Q(?<a>\E", None),
        ("(?<a>x)[(?<a>[:alpha:](?<a>]", None),
        ("(?<a>x)", None),
    ],
)
def test_a_capture_names_each_part_once(pattern: str, part: str | None) -> None:
    found = patterns.pattern_error(pattern, named=True)
    assert patterns.pattern_error(pattern) is None
    assert found is None if part is None else part in (found or "")


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "^(a|a)*$", "(a|b|ab)*c", "^(([a-z])+.)+[A-Z]([a-z])+$"]
)
def test_no_text_is_searched_for_long(pattern: str) -> None:
    """Python's own engine would be busy with these for years. Row 39."""
    text = "a" * (patterns.MAX_SUBJECT - 1) + "!"
    assert not patterns.matches(text, pattern)
    assert patterns.capture(text, f"(?<x>{pattern})") is None


def test_a_text_that_is_searched_is_bounded() -> None:
    """Row 39."""
    assert patterns.matches("a" * patterns.MAX_SUBJECT, "a$")
    for call in (patterns.matches, patterns.capture):
        with pytest.raises(JMESPathError, match=f"more than {patterns.MAX_SUBJECT} characters"):
            call("a" * (patterns.MAX_SUBJECT + 1), "(?<x>a)$")


def test_a_pattern_is_compiled_once() -> None:
    """At the latest by the first delivery; `gateway check` and `serve` have done it by then."""
    evaluate = parse("capture(body, '^once-(?<x>.)')").evaluate
    assert patterns.pattern_error("^once-(?<x>.)", named=True) is None
    before = patterns._compiled.cache_info().misses
    assert [evaluate({"body": f"once-{index}"}) for index in range(3)] == [
        {"x": "0"},
        {"x": "1"},
        {"x": "2"},
    ]
    assert patterns._compiled.cache_info().misses == before


# Images and addresses

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("nginx", ("docker.io", "library/nginx", None, None)),
        ("nginx:1.27", ("docker.io", "library/nginx", "1.27", None)),
        ("octo/shop", ("docker.io", "octo/shop", None, None)),
        ("docker.io/nginx", ("docker.io", "library/nginx", None, None)),
        ("index.docker.io/octo/shop", ("docker.io", "octo/shop", None, None)),
        ("ghcr.io/octo/shop:v1", ("ghcr.io", "octo/shop", "v1", None)),
        (f"ghcr.io/octo/shop@{DIGEST}", ("ghcr.io", "octo/shop", None, DIGEST)),
        (
            f"localhost:5000/a/b:tag@{DIGEST}",
            ("localhost:5000", "a/b", "tag", DIGEST),
        ),
        ("localhost/a", ("localhost", "a", None, None)),
        ("registry:5000/a", ("registry:5000", "a", None, None)),
        ("[::1]:5000/a/b:1", ("[::1]:5000", "a/b", "1", None)),
        ("10.0.0.7/a", ("10.0.0.7", "a", None, None)),
        ("REGISTRY/a", ("REGISTRY", "a", None, None)),
        ("quay.io/a/b/c/d__e.f-g", ("quay.io", "a/b/c/d__e.f-g", None, None)),
        ("registry:5000", ("docker.io", "library/registry", "5000", None)),
        (f"x@sha512:{'0' * 128}", ("docker.io", "library/x", None, f"sha512:{'0' * 128}")),
        ("x:" + "t" * 128, ("docker.io", "library/x", "t" * 128, None)),
        ("ghcr.io/" + "a" * 255, ("ghcr.io", "a" * 255, None, None)),
    ],
)
def test_parse_image(text: str, result: Any) -> None:
    """Registry, repository, tag, digest."""
    found = addresses.parse_image(text)
    assert found is not None
    assert tuple(found) == ("registry", "repository", "tag", "digest")
    assert tuple(found.values()) == result


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "/", ":", "@", "a:", "a@", "a b", " nginx", "nginx\n", "Nginx", "ghcr.io/Octo/shop", "ghcr.io/",
        "ghcr.io//a", "a/", "/a", "a..b", "a___b", "-a", "a-", "a:-tag", "a:b:c", "a:b/c:d:e",
        "https://ghcr.io/octo/shop", f"a@{DIGEST[:-1]}", f"a@{DIGEST}0", f"a@{DIGEST}@{DIGEST}",
        "a@sha256:" + "A" * 64, "a@md5", DIGEST, DIGEST[7:], "x:" + "t" * 129, "ghcr.io/" + "a" * 256,
        "a" * 1_001, "-.example/a", "ex_ample.org/a", "é/a",
    ],
)  # fmt: skip
def test_text_that_names_no_image(text: str) -> None:
    assert addresses.parse_image(text) is None


@pytest.mark.parametrize(
    ("text", "host", "path", "repository"),
    [
        ("https://github.com/octo/shop", "github.com", "/octo/shop", "octo/shop"),
        ("https://github.com/octo/shop.git", "github.com", "/octo/shop.git", "octo/shop"),
        ("https://github.com/octo/shop/", "github.com", "/octo/shop/", "octo/shop"),
        ("HTTPS://u:p@GitHub.com:443/o/s?x=/y#/z", "github.com", "/o/s", "o/s"),
        ("ssh://git@h.example:7999/~u/r.git", "h.example", "/~u/r.git", "~u/r"),
        ("git://[2001:DB8::1]:9418/r", "[2001:db8::1]", "/r", "r"),
        ("https://h.example", "h.example", "/", None),
        ("https://h.example?x=1", "h.example", "/", None),
        ("https://h.example/a%2Fb/c", "h.example", "/a%2Fb/c", "a%2Fb/c"),
        ("file:///srv/r.git", None, "/srv/r.git", "srv/r"),
        ("git@h.example:o/s.git", None, None, "o/s"),
        ("git@h.example:/o/s", None, None, "o/s"),
        ("https://h.example/digit.github.io", "h.example", "/digit.github.io", "digit.github.io"),
        ("o/s", None, None, None),
        ("h.example/o/s", None, None, None),
        ("", None, None, None),
        ("https://h.example/a b", None, None, None),
        ("https://", None, "/", None),
        ("mailto:a@b.example", None, None, None),
        ("C:/x", None, None, None),
    ],
)
def test_addresses(text: str, host: Any, path: Any, repository: Any) -> None:
    """The host and the path of a URL, and the path of a repository."""
    assert addresses.url_host(text) == host
    assert addresses.url_path(text) == path
    assert addresses.repository_path(text) == repository


# Times


def _at(*parts: int, hours: int = 0) -> float:
    return datetime(*parts[:6], tzinfo=timezone(timedelta(hours=hours))).timestamp()  # type: ignore[misc,arg-type]  # Six numbers at most.


@pytest.mark.parametrize(
    ("text", "look", "offset", "result"),
    [
        ("2026-10-07", "%Y-%m-%d", "UTC", _at(2026, 10, 7)),
        ("7.10.26", "%d.%m.%y", "+02:00", _at(2026, 10, 7, hours=2)),
        (" 7.10.2026 ", "%d.%m.%Y", "-0500", _at(2026, 10, 7, hours=-5)),
        ("20261007150214", "%Y%m%d%H%M%S", "Z", _at(2026, 10, 7, 15, 2, 14)),
        ("Wed Oct  7 15:02:14 UTC 2026", "%a %b %d %H:%M:%S %z %Y", None, _at(2026, 10, 7, 15, 2, 14)),
        ("wednesday, OCTOBER 7, 2026 12:00 a.m.", "%A, %B %d, %Y %I:%M %p", "Z", _at(2026, 10, 7)),
        ("07/May/2026 12:30 PM", "%d/%B/%Y %I:%M %p", "Z", _at(2026, 5, 7, 12, 30)),
        ("2026-10-07T15:02:14,25+02", "%Y-%m-%dT%H:%M:%S,%f%z", None, _at(2026, 10, 7, 13, 2, 14) + 0.25),
        ("2026-10-07 15:02:14.1234567890"[:-1], "%Y-%m-%d %H:%M:%S.%f", "Z",
         _at(2026, 10, 7, 15, 2, 14) + 0.123457),
        ("100% 1/2/2026", "100%% %d/%m/%Y", "Z", _at(2026, 2, 1)),
        ("[2026](10)*7", "[%Y](%m)*%d", "Z", _at(2026, 10, 7)),
    ],
)  # fmt: skip
def test_parse_time(text: str, look: str, offset: str | None, result: float) -> None:
    given = (text, look) if offset is None else (text, look, offset)
    assert times.parse_time(*given) == pytest.approx(result, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    ["", "7.10.2026 x", "x 7.10.2026", "7.10.26", "0.10.2026", "7.13.2026", "30.2.2026", "\u0667.10.2026",
     "007.10.2026", "7.10.2026\n8.10.2026", "1" * 101, "null"],
)  # fmt: skip
def test_a_text_of_another_look_is_no_time(text: str) -> None:
    """The reason shows it, shortened."""
    with pytest.raises(JMESPathError, match=r"is no time as `%d.%m.%Y`") as caught:
        times.parse_time(text, "%d.%m.%Y", "UTC")
    assert text[:80] in str(caught.value)


@pytest.mark.parametrize("offset", ["+0099", "+01:60", "+14:01", "CET"])
def test_a_text_with_an_offset_that_is_none_is_no_time(offset: str) -> None:
    with pytest.raises(JMESPathError, match="is no time as"):
        times.parse_time(f"7.10.2026 {offset}", "%d.%m.%Y %z")


@pytest.mark.parametrize(
    ("arguments", "index", "part"),
    [
        (["%Y-%m-%q", "Z"], 1, "has `%q`; known: %Y,"),
        (["%Y-%m-%d%", "Z"], 1, "has `%`"),
        (["%Y-%m-%d %Y", "Z"], 1, "has `%Y` twice"),
        (["%b %B %d %Y", "Z"], 1, "has `%B` twice"),
        (["%d.%m.", "Z"], 1, "needs `%Y` or `%y`"),
        (["%d %Y", "Z"], 1, "needs `%m` or `%b`"),
        (["%m/%Y", "Z"], 1, "needs `%d`"),
        (["%d %m %b %Y", "Z"], 1, "has both `%m` and `%b`"),
        (["%d %m %Y %I", "Z"], 1, "needs `%I` and `%p` together"),
        (["%d %m %Y %H %p", "Z"], 1, "needs `%I` and `%p` together"),
        (["%d %m %Y %H %I %p", "Z"], 1, "has both `%H` and `%I`"),
        (["%d %m %Y" + "x" * 100, "Z"], 1, "at most 100 characters, not 108"),
        (["%d %m %Y"], 1, "reads no offset from UTC"),
        (["%d %m %Y %z", "Z"], 2, "reads the offset itself"),
        (["%d %m %Y", "CEST"], 2, "`CEST` is no offset"),
        (["%d %m %Y", "+15:00"], 2, "`+15:00` is no offset"),
        (["%d %m %Y", "+00:99"], 2, "`+00:99` is no offset"),
    ],
)
def test_a_wrong_format_says_why(arguments: list[str], index: int, part: str) -> None:
    """Before any delivery, and in the reason of a dead letter."""
    found = functions.misuse("parse_time", [NotLiteral.VALUE, *arguments])
    assert found is not None
    assert found.argument == index
    assert part in found.message
    with pytest.raises(JMESPathError) as caught:
        times.parse_time("1 2 2026", *arguments)
    assert part in str(caught.value)


@given(
    st.floats(946_684_800, 4_102_444_799),
    st.sampled_from(
        ["%Y-%m-%d %H:%M:%S.%f%z", "%y%m%d%H%M%S.%f", "%d/%b/%Y %I:%M:%S.%f %p", "%A, %d %B %Y %H:%M:%S.%f"]
    ),
)  # fmt: skip
def test_a_time_that_was_formatted_is_read_again(seconds: float, look: str) -> None:
    """The directives mean what they mean to `strftime`."""
    moment = datetime.fromtimestamp(seconds, UTC)
    text = moment.strftime(look)
    offset = () if "%z" in look else ("UTC",)
    assert times.parse_time(text, look, *offset) == pytest.approx(moment.timestamp(), abs=1e-5)


# Calls that can never succeed

VALUE = NotLiteral.VALUE
REFERENCE = NotLiteral.REFERENCE


@pytest.mark.parametrize(
    ("name", "arguments", "index", "message"),
    [
        ("lower", [1], 0, "`subject` takes string, not a number"),
        ("lower", [None], 0, "`subject` takes string, not null"),
        ("lower", [{}], 0, "`subject` takes string, not an object"),
        ("split", [VALUE, ",", "1"], 2, "`count` takes number, not a string"),
        ("split", [VALUE, ",", True], 2, "`count` takes number, not a boolean"),
        ("join", [",", ["a", 1]], 1, "`strings` takes array[string], not an array of other values"),
        ("join", [["a"], ","], 0, "`glue` takes string, not an array"),
        ("sum", ["1"], 0, "`items` takes array[number], not a string"),
        ("sort", [["a", 1]], 0, "`items` takes array[string]|array[number], not an array of other values"),
        ("sort_by", [VALUE, VALUE], 1, "`by` is an expression behind `&`, such as `&name`"),
        ("sort_by", [VALUE, "name"], 1, "`by` is an expression behind `&`, such as `&name`"),
        ("lower", [REFERENCE], 0, "`subject` takes string, not an expression behind `&`"),
        ("merge", [VALUE, {}, []], 2, "`objects` takes object, not an array"),
        ("matches", [VALUE, "("], 1, "`(` is no pattern: missing ): ("),
        ("capture", [VALUE, "a"], 1,
         "`a` names nothing to capture; write `(?<name>...)` around the part to take"),
    ],
)  # fmt: skip
def test_a_call_with_constants_that_never_fit(
    name: str, arguments: list[Any], index: int, message: str
) -> None:
    """Row 36."""
    found = functions.misuse(name, arguments)
    assert found is not None
    assert (found.argument, found.message) == (index, message)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("lower", [VALUE]),
        ("lower", []),
        ("lower", [1, 2]),
        ("unknown", [1]),
        ("split", [VALUE, VALUE, 1]),
        ("split", [VALUE, ",", 1.0]),
        ("join", [",", []]),
        ("join", [",", VALUE]),
        ("sort", [["a", "b"]]),
        ("sort", [[1, 2.5]]),
        ("sort_by", [VALUE, REFERENCE]),
        ("not_null", [None, 1, VALUE]),
        ("contains", [VALUE, None]),
        ("overlap", [None, VALUE]),
        ("matches", [VALUE, VALUE]),
        ("capture", [VALUE, "(?<a>b)"]),
        ("parse_time", [VALUE, VALUE]),
        ("parse_time", [VALUE, VALUE, VALUE]),
        ("parse_time", [VALUE, "%Y-%m-%d", VALUE]),
        ("parse_time", [VALUE, "%Y-%m-%d %z"]),
    ],
)
def test_a_call_that_may_succeed_is_none_of_these(name: str, arguments: list[Any]) -> None:
    """Nor is one whose name or number of arguments is wrong: that is said elsewhere."""
    assert functions.misuse(name, arguments) is None


# The command


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("coalesce", "not_null"),
        ("default", "not_null"),
        ("lowercase", "lower"),
        ("to_lower", "lower"),
        ("startsWith", "starts_with"),
        ("regex_match", "matches"),
        ("strptime", "parse_time"),
        ("parse-image", "parse_image"),
        ("splt", "split"),
        ("xyzzyq", None),
    ],
)
def test_a_name_leads_to_the_function_that_is_meant(word: str, meant: str | None) -> None:
    """Called so elsewhere, or spelled alike."""
    assert functions.nearest(word) == meant


def test_other_names_are_no_names_of_functions_and_lead_where_they_say() -> None:
    """A word may be looked for under several; then any of them will do."""
    for function in functions.FUNCTIONS.values():
        assert not set(function.keywords) & functions.FUNCTIONS.keys(), function.name
        for word in function.keywords:
            assert functions.nearest(word) is not None


def test_the_command_lists_all_functions(capsys: pytest.CaptureFixture[str]) -> None:
    """With signature and first sentence, by group."""
    assert main(["functions"]) == 0
    out = capsys.readouterr().out
    for group in functions.GROUPS:
        assert f"{group.title}\n" in out
    for function in functions.FUNCTIONS.values():
        assert f"  {function.signature}\n" in out
    assert "](" not in out


@pytest.mark.parametrize("name", ["split", "split()"])
def test_the_command_shows_a_function(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole, with examples, and what `body` is where they read it."""
    assert main(["functions", name]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{functions.SIGNATURES['split']}\n\n  The parts of a text between ")
    assert """  split('refs/heads/main', '/')\n    -> ["refs", "heads", "main"]\n""" in out
    assert (
        "  where `body` is {}\n  split(body.ref, '/')\n    fails: takes string, not null\n" in out
    )


def test_the_command_gives_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["functions", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found] == list(functions.FUNCTIONS)
    assert main(["functions", "lower", "--format", "json"]) == 0
    (lower,) = json.loads(capsys.readouterr().out)
    assert lower == next(one for one in found if one["name"] == "lower")
    assert lower["origin"] == "gateway"
    assert lower["group"] == "Text"
    assert lower["arguments"] == [
        {"name": "subject", "types": ["string"], "optional": False, "variadic": False}
    ]
    assert {"expression": "lower('PROD')", "result": "prod"} in lower["examples"]


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("coalesce", "did you mean `not_null()`?"),
        ("splt()", "did you mean `split()`?"),
        ("xyzzyq", "known: abs, avg,"),
    ],
)
def test_the_command_refuses_a_name_that_is_none(
    name: str, mend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["functions", name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gateway: there is no function `{name.removesuffix('()')}()`; {mend}")


def test_the_engine_of_patterns_is_loaded_by_a_pattern_only(tmp_path: Path) -> None:
    """It takes longer than the checking of a mapping without one."""
    mapping = tmp_path / "shop.yaml"
    mapping.write_text(
        "source: shop\nauthenticate: none\nrules:\n  - name: a\n    emit: deploytime\n"
        "    fields: {app: lower(body.a), commit: body.b, timestamp: body.c}\n"
    )
    script = (
        "import sys; from gateway.cli.main import main\n"
        f"assert main(['check', {str(mapping)!r}]) == 0\n"
        "assert main(['functions']) == 0\n"
        "assert 're2' not in sys.modules\n"
        "from gateway.mapping.functions import patterns\n"
        "assert patterns.matches('a', 'a') and 're2' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
