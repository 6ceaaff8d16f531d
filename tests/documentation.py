"""The parts of `docs/` that the code says by itself, and how pages are taken apart to be tested.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. `UPDATE_GOLDEN=1`
writes all of them anew.
"""

import argparse
import ast
import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from msgspec import NODEFAULT, UNSET, Meta, inspect

from gateway import authentication, fieldtype
from gateway.authentication import Scheme, SecretReference
from gateway.authoring import cases, profile
from gateway.cli import casefiles, wiring
from gateway.cli.main import COMMANDS, module
from gateway.cli.options import OPTIONS
from gateway.doctor import examination
from gateway.fieldtype import FieldError, FieldType
from gateway.mapping import document, functions, grammar, library, shape
from gateway.mapping.compiler import CompiledMapping, compile_files
from gateway.telemetry import Telemetry
from tests.benchmarks import report
from tests.benchmarks.report import Results
from tests.harness import ROOT

DOCS = ROOT / "docs"
SOURCES = tuple(sorted(library.bundled_sources()))
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Code hosts": (
        *("azure-devops", "bitbucket", "bitbucket-server", "forgejo", "gitea", "github", "gitlab"),
        *("gogs", "harness-code"),
    ),
    "CI and CD": (
        *("argo-rollouts", "argocd", "buildkite", "circleci", "flux", "harness", "jenkins"),
        *("kubernetes-events", "octopus", "spinnaker", "teamcity", "tekton", "travis"),
    ),
    "Registries": ("azure-acr", "dockerhub", "harbor", "quay"),
    "Incidents and monitoring": (
        *("alertmanager", "aws-eventbridge", "aws-sns", "datadog", "gcp-monitoring", "grafana"),
        *("incidentio", "newrelic", "opsgenie", "pagerduty", "pingdom", "rootly", "sentry"),
        "statuspage",
    ),
    "Issues and service desks": ("jira", "linear", "servicenow", "zendesk"),
    "Standards and your own": ("cdevents", "generic", "pelorus"),
}
"""The bundled sources as the catalogue shows them."""
KINDS = ("committime", "deploytime", "failure", "build")
JOINED = ("leadtime", "restoration", "failed_deployment")
"""The kinds that correlation yields itself."""


# Pages


class Fence(NamedTuple):
    """A fenced block: its language, its text, the comments right above it, and its line."""

    language: str
    text: str
    marks: tuple[str, ...]
    line: int


_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARKS = re.compile(r"((?:^<!--[^\n]*-->\n)+)\Z", re.MULTILINE)
_GENERATED = re.compile(r"(<!-- generated: ([\w -]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> list[Path]:
    """The README and every page of `docs/`."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def fences(text: str) -> Iterator[Fence]:
    """The fenced blocks of a page, in order."""
    for match in _FENCE.finditer(text):
        above = _MARKS.search(text[: match.start()])
        marks = re.findall(r"<!-- (.*?) -->", above[1]) if above else []
        line = text.count("\n", 0, match.start()) + 1
        yield Fence(match[1], match[2], tuple(marks), line)


def prose(text: str) -> str:
    """A page without its fenced blocks and inline code."""
    return re.sub(r"`[^`\n]+`", "", _FENCE.sub("", text))


def generated(text: str) -> str:
    """A page with its generated parts as they must be."""
    return _GENERATED.sub(lambda match: f"{match[1]}{part(match[2])}\n{match[3]}", text)


def replaced(text: str, name: str, made: str) -> str | None:
    """A page with the generated part of this name as it is given; None where it has no such part."""
    found = [match for match in _GENERATED.finditer(text) if match[2] == name]
    for match in found:
        text = text.replace(match[0], f"{match[1]}{made}\n{match[3]}")
    return text if found else None


def part(name: str) -> str:
    """The text of a generated part, by its name and, after a space, what it is about."""
    word, _, subject = name.partition(" ")
    make = PARTS[word]
    return make(subject) if subject else make()


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: object) -> str:
    written = str(text)
    return f"`` {written} ``" if "`" in written else f"`{written}`"


# Settings and commands


def _settings() -> str:
    rows = [
        (
            _code(f"{option.flag} {option.metavar}"),
            _code(option.variable),
            _code(option.default) if option.default else "none",
            option.help + ("; repeatable" if option.repeatable else ""),
        )
        for option in OPTIONS
    ]
    return table(("flag", "variable", "default", "what it sets"), rows)


def _commands() -> str:
    return table(
        ("command", "what it does"),
        [(f"[`gateway {name}`](#gateway-{name})", summary) for name, summary in COMMANDS.items()],
    )


def _arguments(command: str) -> str:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"gateway.cli.{module(command)}").define(parser)
    rows = []
    for action in parser._actions:
        if action.dest == "help":
            continue
        takes = action.metavar or "|".join(map(str, action.choices or [action.dest.upper()]))
        flags = ", ".join(action.option_strings)
        shown = " ".join(filter(None, (flags, str(takes) if action.nargs != 0 else "")))
        text = (action.help or "").replace("%(default)s", str(action.default))
        rows.append((_code(shown), text))
    return table(("argument", "what it is"), rows)


def _doctor() -> str:
    """What `gateway doctor` checks, in the words of each check."""
    rows = [
        (area, _code(examination.name(check)), " ".join((check.__doc__ or "").split()))
        for area, checks in examination.AREAS.items()
        for check in checks
    ]
    return table(("area", "check", "what is well"), rows)


# The grammar


def _bare(declared: inspect.Type) -> inspect.Type:
    while isinstance(declared, inspect.Metadata):
        declared = declared.type
    return declared


_EXPRESSION: Meta = grammar.Expression.__metadata__[0]  # type: ignore[attr-defined]  # Of `Annotated`, unknown to checkers.


def _is_expression(declared: inspect.Type) -> bool:
    examples = _EXPRESSION.examples
    while isinstance(declared, inspect.Metadata):
        if (declared.extra_json_schema or {}).get("examples") == examples:
            return True
        declared = declared.type
    return False


def _takes(declared: inspect.Type) -> str:
    """A type in an author's words."""
    if _is_expression(declared):
        return "expression"
    match _bare(declared):
        case inspect.StrType():
            return "text"
        case inspect.BoolType():
            return "`true` or `false`"
        case inspect.IntType(ge=least, le=most):
            bounds = f"from {least} to {most}" if most is not None else f"at least {least}"
            return "whole number" + (f" {bounds}" if least is not None else "")
        case inspect.FloatType():
            return "number"
        case inspect.LiteralType(values=values):
            return " or ".join(_code(value) for value in values)
        case inspect.EnumType():
            return "a [field type](models.md#field-types)"
        case inspect.ListType(item_type=item):
            return f"list of {_plural(item)}"
        case inspect.DictType(value_type=value):
            return f"names, each with {_article(value)}"
        case inspect.StructType(cls=cls):
            return _LINKS.get(cls, cls.__name__)
        case inspect.UnionType(types=types) if any(
            isinstance(one, inspect.FloatType) for one in types
        ):
            return "a list of texts, a text, `true` or `false`, or a number"
        case inspect.UnionType(types=types):
            if {getattr(_bare(one), "cls", None) for one in types} >= set(Scheme.__args__):
                return "`none`, or keys of a [scheme](#authentication)"
            words = dict.fromkeys(_takes(one) for one in types)
            return " or ".join(words)
        case inspect.AnyType():
            return "anything"
    raise TypeError(declared)


_LINKS: Mapping[type, str] = {
    grammar.MappedField: "the [long form](#the-long-form-of-a-field)",
    grammar.Rule: "a [rule](#rules)",
    grammar.Handshake: "a [handshake](#handshakes)",
    grammar.ModelField: "[field keys](#fields)",
    grammar.Metric: "a [metric](#metrics)",
    grammar.App: "an [app](#keys-of-an-app)",
    SecretReference: "a [secret](#secrets)",
    cases.Case: "a [case](#cases)",
    cases.Expectation: "an [expectation](#what-is-expected)",
}


def _plural(declared: inspect.Type) -> str:
    word = _takes(declared)
    if word == "text":
        return "texts"
    return re.sub(r"^(a|an) \[(\w+)\]", r"[\2s]", word).replace("list of", "lists of")


def _article(declared: inspect.Type) -> str:
    word = _takes(declared)
    if word.startswith(("text", "list")):
        return f"a {word}"
    return f"an {word}" if word == "expression" else word


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    if field.default is UNSET or field.default is NODEFAULT:
        made = field.default_factory() if field.default_factory is not NODEFAULT else UNSET
        return "none" if made is UNSET or not made else _code(made)
    if isinstance(field.default, bool):
        return _code(str(field.default).lower())
    return _code(field.default) if field.default != "" else "none"


def _description(declared: inspect.Type) -> str:
    while isinstance(declared, inspect.Metadata):
        found = (declared.extra_json_schema or {}).get("description")
        if found and not _is_plain_expression(declared):
            return str(found)
        declared = declared.type
    return ""


def _is_plain_expression(declared: inspect.Metadata) -> bool:
    words = _EXPRESSION.description
    return bool((declared.extra_json_schema or {}).get("description") == words)


def _keys(name: str) -> str:
    declared = inspect.type_info(_STRUCTS[name])
    assert isinstance(declared, inspect.StructType)
    described = any(_description(field.type) for field in declared.fields)
    rows = []
    if declared.tag is not None:
        extra = ["Which scheme."] if described else []
        rows.append((_code(declared.tag_field), _code(declared.tag), "required", *extra))
    for field in declared.fields:
        extra = [_description(field.type)] if described else []
        rows.append((_code(field.encode_name), _takes(field.type), _default(field), *extra))
    return table(("key", "takes", "default", *(["meaning"] if described else [])), rows)


_STRUCTS: Mapping[str, type] = {
    "mapping": grammar.Mapping,
    "rule": grammar.Rule,
    "field": grammar.MappedField,
    "handshake": grammar.Handshake,
    "secret": SecretReference,
    "model": grammar.Model,
    "model-field": grammar.ModelField,
    "metric": grammar.Metric,
    "table": grammar.Table,
    "app": grammar.App,
    "case-file": cases.CaseFile,
    "case": cases.Case,
    "expectation": cases.Expectation,
}


def _schemes() -> str:
    blocks = []
    for cls in Scheme.__args__:
        declared = inspect.type_info(cls)
        assert isinstance(declared, inspect.StructType)
        words = ast.get_docstring(_class(authentication.__file__, cls.__name__)) or ""
        blocks.append(f"### `{declared.tag}`\n\n{words}\n\n{_scheme_keys(declared)}")
    return "\n\n".join(blocks)


def _scheme_keys(declared: inspect.StructType) -> str:
    rows = [(_code("scheme"), _code(declared.tag), "required")]
    rows += [
        (_code(field.encode_name), _takes(field.type), _default(field)) for field in declared.fields
    ]
    return table(("key", "takes", "default"), rows)


def _class(file: str | None, name: str) -> ast.ClassDef:
    tree = ast.parse(Path(str(file)).read_text(encoding="utf-8"))
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def _functions() -> str:
    """The reference of all functions, by group."""
    parts = []
    for group in functions.GROUPS:
        parts.append(f"## {group.title}")
        for function in sorted(group.functions, key=lambda one: one.name):
            origin = "The gateway's own." if function.call else "JMESPath's."
            words = " ".join(filter(None, (function.summary, function.details, origin)))
            parts += [f"### {function.name}", _code(function.signature), words]
            for body, examples in groupby(function.examples, key=lambda one: one.body):
                lines = [
                    f"{one.expression} -> {f'fails: {one.fails}' if one.fails else one.result}"
                    for one in examples
                ]
                parts += [f"Where `body` is {_code(body)}:"] if body else []
                parts.append("\n".join(["```jmespath", *lines, "```"]))
    return "\n\n".join(parts)


def _function_names() -> str:
    """The names of all functions with links, by group."""
    rows = [
        (
            group.title,
            ", ".join(
                f"[`{one.name}`](#{one.name})"
                for one in sorted(group.functions, key=lambda one: one.name)
            ),
        )
        for group in functions.GROUPS
    ]
    return table(("group", "functions"), rows)


# Field types


_TRIED: Mapping[FieldType, tuple[Any, ...]] = {
    FieldType.APP: ("octo/shop", " shop ", 42, "", ["shop"]),
    FieldType.TEXT: ("OPS-7", 7, True, "two\nlines"),
    FieldType.NAMESPACE: ("prod-eu", "n" * 64),
    FieldType.CHOICE: ("created", "Created"),
    FieldType.GIT_SHA: ("4F1C0FF", "4f1c0ffee0ddba11c0ffee0ddba11c0ffee0ddba", "main", 4100000),
    FieldType.IMAGE_DIGEST: ("sha256:" + "AB" * 32, "shop:latest"),
    FieldType.NUMBER: (0.995, "12.50", "1e3", "12 %", True),
    FieldType.TIMESTAMP: (
        "2026-01-31T09:30:00Z",
        "2026-01-31T10:30:00.250+01:00",
        "2026-01-31 09:30:00 UTC",
        "2026-01-31T01:30:00.000-0800",
        1769851800,
        "1769851800",
        1769851800.25,
        1769851800250,
        1769851800250000,
        "2026-01-31T09:30:00",
        "2026-01-31",
        "31/01/2026 09:30",
        1769,
    ),
    FieldType.URL: ("https://git.example/shop/commit/4f1c0ff", "git.example/shop"),
}


def _field_types() -> str:
    rows = []
    for kind in FieldType:
        read = fieldtype.reader(kind, None, ("created", "resolved"))
        for tried in _TRIED[kind]:
            try:
                became = _code(_short(read(tried, None)))
            except FieldError as error:
                became = f"refused: {_shortened(str(error))}"
            rows.append((_code(kind), _code(_short(tried)), became))
    return table(("type", "from the payload", "becomes"), rows)


def _short(value: Any) -> str:
    text = repr(value).replace("'", '"') if not isinstance(value, bool) else str(value).lower()
    return _shortened(text)


def _shortened(text: str) -> str:
    return re.sub(r"(\w{10})\w{40,}(\w{4})", r"\1…\2", text)


# Bundled files


@cache
def _bundled() -> tuple[Mapping[str, CompiledMapping], Mapping[str, str]]:
    """The bundled mappings, and the texts of the files by their names."""
    files = library.bundled_files()
    return compile_files(files).mappings, {file.name: file.text for file in files}


def mapping(source: str) -> tuple[CompiledMapping, grammar.Mapping]:
    """A bundled mapping with all that it inherits, compiled and as it is written."""
    compiled = _bundled()[0][source]
    return compiled, shape.read(compiled.document, grammar.Mapping)[0]


@cache
def model(kind: str) -> grammar.Model:
    """A bundled model as its author wrote it."""
    path = library.bundled("schemas") / f"{kind}.yaml"
    node, _ = document.parse(path.name, path.read_text(encoding="utf-8"))
    assert node is not None
    return shape.read(node, grammar.Model)[0]


def _sources() -> str:
    """A table of each group of sources."""
    parts = []
    for title, sources in GROUPS.items():
        rows = []
        for source in sources:
            compiled, _ = mapping(source)
            cases_file = library.bundled("mappings") / f"{source}{library.CASES_SUFFIX}"
            rows.append(
                (
                    f"[`{source}`]({source}.md)",
                    compiled.plan.title,
                    ", ".join(_code(kind) for kind in profile.kinds(compiled)),
                    _authentication(compiled),
                    str(casefiles.count(cases_file)),
                )
            )
        head = ("source", "title", "kinds", "authentication", "cases")
        parts.append(f"## {title}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def _authentication(compiled: CompiledMapping) -> str:
    name = _code(profile.scheme_name(compiled.scheme))
    where = profile.carrier(compiled.scheme)
    return f"{name} in {_code(where)}" if where else name


def _source_links() -> str:
    """The sources in groups, with links from the root of the repository."""
    rows = [
        (
            title,
            ", ".join(f"[{mapping(one)[0].plan.title}](docs/sources/{one}.md)" for one in sources),
        )
        for title, sources in GROUPS.items()
    ]
    return table((f"{len(SOURCES)} sources", ""), rows)


def _rules(source: str) -> str:
    _, written = mapping(source)
    rows = []
    for rule in written.rules:
        for index, (name, field) in enumerate(rule.fields.items()):
            value = field if isinstance(field, str) else field.value
            first = (rule.name, _code(rule.emit)) if index == 0 else ("", "")
            rows.append((*first, _code(name), _code(" ".join(value.split()))))
    return table(("rule", "kind", "field", "expression"), rows)


@cache
def params(source: str) -> str:
    """The table of a source's params; a sentence where it has none."""
    rows = [
        (
            _code(one.name),
            _code(wiring.variable(source, one.name)),
            _shown(one.default),
            one.meaning,
        )
        for one in profile.params(mapping(source)[0], _bundled()[1])
    ]
    return table(("param", "variable", "default", "meaning"), rows) if rows else "It has none."


def _shown(default: Any) -> str:
    if isinstance(default, list):
        return ", ".join(_code(one) for one in default) or "an empty list"
    if isinstance(default, bool):
        return _code(str(default).lower())
    return _code(default) if default != "" else "an empty text"


def _kinds() -> str:
    rows = []
    for kind in KINDS:
        written = model(kind)
        for index, (name, field) in enumerate(written.fields.items()):
            first = (_code(kind), written.title) if index == 0 else ("", "")
            groups = [
                "one of " + ", ".join(map(_code, group))
                for group in written.require_one_of
                if name in group
            ]
            need = "; ".join(groups) or ("required" if field.required else "optional")
            limits = ": " + ", ".join(map(_code, field.choices)) if field.choices else ""
            rows.append((*first, _code(name), _code(field.type) + limits, need, field.description))
    return table(("kind", "what it is", "field", "type", "needed", "meaning"), rows)


def _metrics() -> str:
    rows = []
    for kind in (*KINDS, *JOINED):
        for metric in model(kind).metrics:
            when = " and ".join(f"{_code(name)} is {_code(v)}" for name, v in metric.when.items())
            rows.append(
                (
                    _code(metric.name),
                    ", ".join(map(_code, metric.labels)),
                    _code(kind) + (f" where {when}" if when else ""),
                    metric.help,
                )
            )
    return table(("metric", "labels", "fed by", "help"), rows)


def _own_metrics() -> str:
    telemetry = Telemetry("0")
    collectors = telemetry._registry._collector_to_names
    rows = []
    for collector in collectors:
        for family in collector.collect():
            names = getattr(collector, "_labelnames", getattr(family, "_labelnames", ()))
            labels = ", ".join(map(_code, names))
            name = family.name + ("_total" if family.type == "counter" else "")
            rows.append((_code(name), family.type, labels or "none", family.documentation))
    return table(("metric", "type", "labels", "meaning"), rows)


# Rules for Prometheus


def _recorded_rules() -> str:
    """Each rule by app over 30 days, with the comment above it."""
    text = (DOCS / "prometheus/recording-rules.yaml").read_text(encoding="utf-8")
    found = re.findall(r"((?:^ +# .*\n)+)^ +- record: (app:\w+:\w+_30d)$", text, re.MULTILINE)
    rows = [(_code(name), re.sub(r"(?m)^ +# ", "", comment)) for comment, name in found]
    return table(("rule", "what it says"), rows)


def _alerts() -> str:
    text = (DOCS / "prometheus/alerts.yaml").read_text(encoding="utf-8")
    rows = [
        (
            _code(rule["alert"]),
            rule["labels"]["severity"],
            _code(" ".join(rule["expr"].split())),
            _code(rule["for"]),
            rule["annotations"]["description"],
        )
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
    ]
    return table(("alert", "severity", "where", "for", "what to do"), rows)


# Benchmarks


BENCHMARKS = DOCS / "explanation" / "performance.json"


def _benchmarks() -> str:
    return benchmark_tables(report.load(BENCHMARKS))


def benchmark_tables(results: Results) -> str:
    """A table of each benchmark, with when and where it was measured."""
    return "\n\n".join(
        "\n\n".join(
            (
                f"### {result.title}",
                f"Measured on {result.measured_on}: {result.machine}; {result.versions}.",
                table(report.COLUMNS, [row.cells() for row in result.rows]),
            )
        )
        for _, result in sorted(results.items())
    )


# Modules


def _modules() -> str:
    package = ROOT / "gateway"
    rows = []
    for path in sorted(package.rglob("*.py"), key=lambda path: (str(path.parent), path.name)):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("gateway/bundled/"):
            continue
        words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if not words:
            continue
        rows.append((_code(name), " ".join(words.split("\n\n")[0].split())))
    return table(("module", "what it does"), rows)


PARTS: Mapping[str, Callable[..., str]] = {
    "settings": _settings,
    "commands": _commands,
    "arguments": _arguments,
    "doctor": _doctor,
    "keys": _keys,
    "schemes": _schemes,
    "functions": _functions,
    "function-names": _function_names,
    "field-types": _field_types,
    "sources": _sources,
    "source-links": _source_links,
    "rules": _rules,
    "params": params,
    "kinds": _kinds,
    "metrics": _metrics,
    "own-metrics": _own_metrics,
    "recorded-rules": _recorded_rules,
    "alerts": _alerts,
    "modules": _modules,
    "benchmarks": _benchmarks,
}
