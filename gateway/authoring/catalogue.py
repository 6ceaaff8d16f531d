"""The reference of all checks: for each name what is wrong, and an example before and after."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from gateway import report
from gateway.authoring import cases, sampling
from gateway.mapping.checks import (
    apps,
    authentication,
    conditions,
    expressions,
    models,
    reach,
    rules,
    values,
)
from gateway.mapping.compiler import SourceFile, compile_files


class Entry(Struct, frozen=True):
    """One check. `bad` and `mended` are whole files, None where one text cannot show it; `cases` are
    the cases beside both."""

    name: str
    what: str
    bad: str | None = None
    mended: str | None = None
    cases: str = ""


_MAPPING = """\
source: shop
authenticate: {scheme: bearer, secret: {env: SHOP_WEBHOOK_SECRET}}
event: headers."x-shop-event"
rules:
  - name: a deployment finished
    when: event == 'deployed'
    emit: deploytime
    fields:
      app: body.service
      commit: body.commit
      timestamp: body.finished_at
"""
_SIGNED = """\
source: shop
authenticate:
  scheme: hmac
  header: X-Shop-Signature
  algorithm: sha256
  signed: "{body}"
  secret: {env: SHOP_WEBHOOK_SECRET}
rules:
  - name: a deployment finished
    emit: deploytime
    fields: {app: body.service, commit: body.commit, timestamp: body.finished_at}
"""
_TOKENS = """\
source: shop
authenticate:
  scheme: oidc
  issuer: https://token.actions.githubusercontent.com
  audience: https://gateway.example.com
  claims: {repository_owner: octo}
rules:
  - name: a deployment finished
    emit: deploytime
    fields: {app: body.service, commit: body.commit, timestamp: body.finished_at}
"""
_EXTENDING = """\
source: shop-staging
extends: shop
"""
_MODEL = """\
kind: release
fields:
  app: {type: app}
  size: {type: choice, choices: [major, minor]}
  timestamp: {type: timestamp}
metrics:
  - name: release_timestamp
    help: Time of a release in epoch seconds
    value: timestamp
    labels: {app: app, size: size}
"""
_APPS = """\
apps:
  - app: shop
    team: storefront
    names:
      github: [octo/shop, octo/shop-web]
      jira: SHOP
  - app: market
    names:
      github: octo/market
"""
_LIMITED = _MAPPING.replace("event: ", "allow_from: [192.0.2.1/24]\nevent: ", 1)
_KINDS = {
    "build": "{app: {type: app}, commit: {type: git-sha, required: false}, image_sha: {type: "
    "image-digest, required: false}, image: {type: text, required: false}, release: {type: text, "
    "required: false}}\nrequire_one_of: [[commit, image_sha, image], [image_sha, image, release]]",
    "committime": "{app: {type: app}, commit: {type: git-sha}, timestamp: {type: timestamp}}",
    "deploytime": "{app: {type: app}, commit: {type: git-sha, required: false}, image_sha: "
    "{type: image-digest, required: false}, image: {type: text, required: false}, release: {type: "
    "text, required: false}, namespace: {type: namespace, required: false}, "
    "timestamp: {type: timestamp, description: When the deployment was finished.}}\n"
    "require_one_of: [[image_sha, commit, image, release]]",
    "failure": "{app: {type: app}, event: {type: choice, choices: [created, resolved]}, "
    "issue_number: {type: text}, timestamp: {type: timestamp}}",
    "failed_deployment": "{app: {type: app}, change: {type: number}}",
    "leadtime": "{app: {type: app}, seconds: {type: number}}",
    "restoration": "{app: {type: app}, seconds: {type: number}}",
}
"""The bundled kinds, as far as the examples speak of them."""
_SOURCES = ("github", "jira")
"""The sources that the examples of a table of apps speak of."""


def _instead(of: str, put: str, text: str = _MAPPING) -> str:
    """An example with one part changed."""
    if of not in text:
        raise ValueError(f"the example does not hold {of!r}")
    return text.replace(of, put, 1)


def _check(check: Callable[..., Any], bad: str, mended: str, beside: str = "") -> Entry:
    """The entry of a check, whose docstring says what is wrong."""
    return Entry(check.__name__.replace("_", "-"), inspect.getdoc(check) or "", bad, mended, beside)


_CASES = """\
source: shop
cases:
  - name: the shop is deployed
    headers: {X-Shop-Event: deployed}
    payload:
      service: shop
      commit: 6b51418b3a517cf90995add3bc626b706b767b99
      finished_at: "2026-03-02T10:05:31Z"
    expect: {outcome: accepted}
"""
_SECOND_CASE = """\
  - name: the market is deployed
    after: [the shop is deployed]
    headers: {X-Shop-Event: deployed}
    payload: {service: market}
    expect: {outcome: dead_lettered}
"""
_PARAMS = _instead("rules:", "params:\n  stages: [live]\nrules:")
_EACH = _instead(
    "    emit:", "    each: body.commits\n    emit:", _instead("body.commit", "each.id")
)
_TIMED = _instead('"{body}"', '"{timestamp}.{body}"\n  timestamp_header: X-Shop-Timestamp', _SIGNED)
_OFFSET = _instead(
    "timestamp: body.finished_at", 'timestamp: {value: body.finished_at, offset: "+02:00"}'
)

_READING = (
    Entry(
        "not-utf8",
        "The file is not UTF-8, which is the only encoding that mappings and models have. The place "
        "is that of the first byte that is wrong. Save the file as UTF-8.",
    ),
    Entry(
        "too-large",
        "The file is larger than 1 MiB, which is more than a ConfigMap can hold.",
    ),
    Entry(
        "unreadable-sample",
        "A file of `--samples` is neither JSON nor a raw request with a body of JSON.",
    ),
    Entry(
        "yaml-syntax",
        "The text is not YAML: the indentation is uneven, a quote or a bracket is not closed, or a "
        "value begins with a sign that means something to YAML. An expression that holds `: ` or "
        "` #`, or that begins with a quote, a backtick, `[`, `{`, `!`, `&`, `*`, `@` or `%`, is "
        "written as a block after `>-`.",
        _instead("event == 'deployed'", "'deployed' == event"),
        _instead("event == 'deployed'", ">-\n      'deployed' == event"),
    ),
    Entry(
        "empty-document",
        "The file holds nothing but blank lines and comments.",
        "# To be written.\n",
        _MAPPING,
    ),
    Entry(
        "several-documents",
        "The file holds more than one YAML document. A mapping or a model is one file, so that its "
        "name leads to it.",
        _MAPPING + "---\nsource: market\n",
        _MAPPING,
    ),
    Entry(
        "too-deep",
        "The document is nested deeper than 64 levels, which no mapping and no model needs.",
        "source: shop\nparams: " + "[" * 65 + "]" * 65 + "\n",
        _MAPPING,
    ),
    Entry(
        "anchor-not-allowed",
        "The document uses an anchor (`&name`) or an alias (`*name`). They make a mapping say "
        "something else than what its reader sees. Write the value out; what several rules share "
        "can be a param, and what several sources share is inherited by `extends`.",
        _instead("app: body.service", "app: &service body.service"),
        _MAPPING,
    ),
    Entry(
        "tag-not-allowed",
        "A value begins with `!`, which is a tag to YAML. An expression that begins with `!` is "
        "quoted, or written as a block after `>-`.",
        _instead("event == 'deployed'", "!body.dry_run"),
        _instead("event == 'deployed'", '"!body.dry_run"'),
    ),
    Entry(
        "duplicate-key",
        "A key is set twice in one place, so one of the two would be lost.",
        _instead("      commit:", "      app: body.name\n      commit:"),
        _MAPPING,
    ),
)

_SHAPE = (
    Entry(
        "unknown-document",
        "The file is neither a mapping nor a model nor a table of apps. A mapping has a `source` and "
        "`rules`, a model has a `kind` and `fields`, a table has `apps`.",
        "name: shop\nversion: 1\n",
        _MAPPING,
    ),
    Entry(
        "unknown-key",
        "A key does not exist in this place. It is often misspelt, or indented under the wrong key.",
        _instead("    when:", "    where:"),
        _MAPPING,
    ),
    Entry(
        "missing-key",
        "A key that is needed is not there. A mapping that extends another inherits what it leaves "
        "out.",
        _instead("    emit: deploytime\n", ""),
        _MAPPING,
    ),
    Entry(
        "wrong-type",
        "A value is of another type than the one that belongs here: a number where text is expected, "
        "text where a list is, nothing at all.",
        _instead("stages: [live]", "stages: [1.10]", _PARAMS).replace(
            "event == 'deployed'", "contains(params.stages, body.version)"
        ),
        _instead("stages: [live]", 'stages: ["1.10"]', _PARAMS).replace(
            "event == 'deployed'", "contains(params.stages, body.version)"
        ),
    ),
    Entry(
        "wrong-value",
        "A value is of the right type and not one that is allowed here.",
        _instead("scheme: bearer", "scheme: oauth"),
        _MAPPING,
    ),
)

_TOGETHER = (
    Entry(
        "duplicate-source",
        "Two mappings of one folder describe the same source. Only a file of a higher layer replaces "
        "one: a user's mapping replaces the bundled one of its source.",
    ),
    Entry(
        "duplicate-kind",
        "Two models of one folder describe the same kind. Only a file of a higher layer replaces "
        "one: a user's model replaces the bundled one of its kind.",
    ),
    Entry(
        "unknown-source",
        "A mapping extends a source that no mapping describes. A mapping may extend the source of its "
        "own name only where it replaces a bundled one.",
        _EXTENDING,
        _MAPPING,
    ),
    Entry(
        "circular-extends",
        "Mappings extend each other in a circle, so none of them says what the others start from.",
    ),
    Entry(
        "long-extends",
        "A mapping extends one that extends another, and so on over more than eight steps, which no "
        "reader follows. The source in the middle of such a chain says itself what it starts from.",
    ),
    Entry(
        "unknown-rule",
        "`without_rules` names a rule that the extended source does not have, so nothing is removed. "
        "The name of a rule is its whole `name`; `gateway show` prints those of a source.",
    ),
    Entry(
        "needless-removal",
        "`without_rules` removes a rule twice, or one that the same file gives again. A rule of the "
        "same name takes the place of the inherited one by itself.",
    ),
    Entry(
        "nothing-to-remove",
        "`without_rules` stands in a mapping that extends no other, so there are no inherited rules.",
        _instead("rules:", "without_rules: [a service moved]\nrules:"),
        _MAPPING,
    ),
)

_EXPRESSIONS = (
    _check(
        expressions.expression_syntax,
        _instead("event == 'deployed'", "event = 'deployed'"),
        _MAPPING,
    ),
    _check(
        expressions.unknown_function,
        _instead("body.service", "lowercase(body.service)"),
        _instead("body.service", "lower(body.service)"),
    ),
    _check(
        expressions.wrong_arity,
        _instead("body.service", "body.service.lower()"),
        _instead("body.service", "lower(body.service)"),
    ),
    _check(
        expressions.zero_step,
        _instead("body.commit", "body.commits[::0] | [0]"),
        _instead("body.commit", "body.commits[::-1] | [0]"),
    ),
    _check(expressions.unknown_name, _instead("body.service", "service"), _MAPPING),
    _check(
        expressions.event_not_declared,
        _instead('event: headers."x-shop-event"\n', ""),
        _MAPPING,
    ),
    _check(expressions.each_outside_each, _instead("body.commit", "each.id"), _EACH),
    _check(
        expressions.unknown_param,
        _instead("event == 'deployed'", "contains(params.stages, body.stage)"),
        _instead("event == 'deployed'", "contains(params.stages, body.stage)", _PARAMS),
    ),
    _check(
        expressions.unused_param,
        _PARAMS,
        _instead("event == 'deployed'", "contains(params.stages, body.stage)", _PARAMS),
    ),
    _check(expressions.header_case, _instead("x-shop-event", "X-Shop-Event"), _MAPPING),
    _check(
        values.wrong_argument,
        _instead("body.service", "join(['harbour', body.service], '/')"),
        _instead("body.service", "join('/', ['harbour', body.service])"),
    ),
    _check(
        reach.not_in_samples,
        _instead("body.service", "body.servise || 'unknown'"),
        _MAPPING,
        _CASES,
    ),
)

_CONDITIONS = (
    _check(
        conditions.never_holds,
        _instead("event == 'deployed'", "event == 'deployed' && event == 'redeployed'"),
        _instead("event == 'deployed'", "event == 'deployed' || event == 'redeployed'"),
    ),
    _check(
        conditions.always_holds,
        _instead("event == 'deployed'", "event != 'started' || event != 'failed'"),
        _instead("event == 'deployed'", "event != 'started' && event != 'failed'"),
    ),
)

_RULES = (
    _check(rules.no_rules, _MAPPING[: _MAPPING.index("rules:")] + "rules: []\n", _MAPPING),
    _check(
        rules.duplicate_rule,
        _SIGNED + _SIGNED[_SIGNED.index("  - name") :],
        _SIGNED
        + _instead("finished\n", "announced\n    when: body.announced\n", _SIGNED)[
            _SIGNED.index("  - name") :
        ],
    ),
    _check(
        rules.repeated_rule,
        _MAPPING
        + _instead("a deployment finished", "a service moved")[_MAPPING.index("  - name") :],
        _MAPPING
        + _instead("a deployment finished", "a service moved").replace("'deployed'", "'moved'")[
            _MAPPING.index("  - name") :
        ],
    ),
    _check(rules.unknown_kind, _instead("deploytime", "deployment"), _MAPPING),
    _check(
        rules.unknown_field, _instead("      app:", "      pod: body.pod\n      app:"), _MAPPING
    ),
    _check(rules.field_not_mapped, _instead("      commit: body.commit\n", ""), _MAPPING),
    _check(
        values.refused_value,
        _instead("body.commit", "body.commit || 'unknown'"),
        _MAPPING,
    ),
    _check(
        values.each_without_items,
        _instead("each: body.commits", "each: length(body.commits)", _EACH),
        _EACH,
    ),
    _check(rules.wrong_offset, _instead('"+02:00"', "Europe/Vienna", _OFFSET), _OFFSET),
)

_AUTHENTICATION = (
    _check(authentication.secret_reference, _instead("{env: SHOP_WEBHOOK_SECRET}", "{}"), _MAPPING),
    _check(authentication.weak_algorithm, _instead("sha256", "sha1", _SIGNED), _SIGNED),
    _check(
        authentication.unsigned_body,
        _instead("  timestamp_header: X-Shop-Timestamp\n", "", _TIMED),
        _TIMED,
    ),
    _check(
        authentication.unlimited_issuer,
        _instead("{repository_owner: octo}", "{}", _TOKENS),
        _TOKENS,
    ),
    _check(
        authentication.address_range,
        _LIMITED,
        _instead("192.0.2.1/24", "192.0.2.0/24", _LIMITED),
    ),
)

_MODELS = (
    _check(models.metric_name, _instead("release_timestamp", "release-timestamp", _MODEL), _MODEL),
    _check(
        models.duplicate_metric,
        _MODEL + _MODEL[_MODEL.index("  - name") :],
        _MODEL,
    ),
    _check(models.label_name, _instead("{app: app", "{job: app", _MODEL), _MODEL),
    _check(
        models.unbounded_label,
        _instead("size: size", "size: size, at: timestamp", _MODEL),
        _MODEL,
    ),
    _check(models.unknown_model_field, _instead("size: size", "size: sice", _MODEL), _MODEL),
    _check(models.value_not_a_number, _instead("value: timestamp", "value: size", _MODEL), _MODEL),
    _check(models.wrong_limit, _instead(", choices: [major, minor]", "", _MODEL), _MODEL),
    _check(
        models.wrong_choice,
        _instead("    value:", "    when: {size: huge}\n    value:", _MODEL),
        _instead("    value:", "    when: {size: major}\n    value:", _MODEL),
    ),
    _check(
        models.correlated_kind,
        "kind: build\nfields:\n  app: {type: app}\n  image_sha: {type: image-digest}\n",
        "kind: build\nfields:\n  app: {type: app}\n  image_sha: {type: image-digest}\n"
        "  commit: {type: git-sha}\n",
    ),
)

_OF_APPS = (
    _check(apps.duplicate_app, _instead("app: market", "app: shop", _APPS), _APPS),
    _check(
        apps.claimed_name,
        _instead("github: octo/market", "github: [octo/market, octo/shop-web]", _APPS),
        _APPS,
    ),
    _check(
        apps.repeated_name,
        _instead("octo/shop-web]", "octo/shop-web, octo/shop]", _APPS),
        _APPS,
    ),
    _check(
        apps.ambiguous_app,
        _instead("github: octo/market", "github: shop", _APPS),
        _APPS,
    ),
    _check(apps.unknown_app_source, _instead("jira: SHOP", "jiro: SHOP", _APPS), _APPS),
    _check(apps.nothing_named, _instead("jira: SHOP", "jira: []", _APPS), _APPS),
    _check(apps.refused_name, _instead("jira: SHOP", 'jira: "SHOP "', _APPS), _APPS),
)

_OF_CASES = (
    Entry(
        "unclear-payload",
        "A case sends nothing, or has several bodies. A delivery has one: `payload`, `payload_file` or "
        "`body`.",
        _instead("    expect:", "    body: service=shop\n    expect:", _CASES),
        _CASES,
    ),
    Entry(
        "payload-file",
        "The file that a case names by `payload_file` is not there, lies outside of the folder of the "
        "cases, is too large, or is no JSON though the case expects that it is read.",
    ),
    Entry(
        "duplicate-case",
        "Two cases have the same name, so a failure would not say which one it is.",
        _CASES + _SECOND_CASE.replace("the market", "the shop", 1),
        _CASES + _SECOND_CASE,
    ),
    Entry(
        "unknown-case",
        "`after` names a case that does not stand before this one. Cases are sent in the order of the "
        "file.",
        _CASES + _instead("[the shop", "[the stall", _SECOND_CASE),
        _CASES + _SECOND_CASE,
    ),
)

_PARTS: tuple[tuple[str, Sequence[Entry]], ...] = (
    ("Reading the file", _READING),
    ("The shape of a document", _SHAPE),
    ("Files together", _TOGETHER),
    ("Expressions", _EXPRESSIONS),
    ("Conditions", _CONDITIONS),
    ("Rules", _RULES),
    ("Authentication", _AUTHENTICATION),
    ("Models", _MODELS),
    ("The table of apps", _OF_APPS),
    ("Cases", _OF_CASES),
)
ENTRIES: tuple[Entry, ...] = tuple(entry for _, entries in _PARTS for entry in entries)

_UNCHECKED = "<!-- check: off -->\n"
"""The examples are wrong on purpose; a test checks them one by one."""
_INTRODUCTION = """\
# The checks of `gateway check`

`gateway check` finds everything about mappings, models and cases that can be known without a
delivery. It reads the files and folders that it is given (`-` is standard input), together with the
bundled ones, and reports every mistake at its place; none hides another. An error is certain to be
one; a warning does no harm by itself, and is not what the author meant.

    gateway check my-mappings/

It exits with 0 where no error was found, with 1 where one was, and with 2 where a path cannot be
read or leads to nothing. `--deny-warnings` makes a warning an error.

`--format` chooses who reads the report: `full` for people, `concise` for one line each, `json` for
programs, `github` for the annotations of a workflow, `sarif` for code hosts, `junit` for build servers.

A finding of the full format reads like this:

{example}

The first line holds the file, the line and the column (both from 1), the severity, the name of the
check in brackets, and what is wrong. Below it stands the line with the culprit underlined. `help`
says how to mend it where that is known, and `see` leads to the section of the check on this page.
"""


def report_of(text: str, known: Sequence[SourceFile] | None = None, beside: str = "") -> str:
    """What check says about a file, among the bundled kinds or the files given, and with the cases
    beside it."""
    if known is None:
        known = [
            SourceFile(f"{kind}.yaml", f"kind: {kind}\nfields: {fields}\n")
            for kind, fields in _KINDS.items()
        ]
    if "\ncases:\n" in text:
        name = "shop.test.yaml"
        return report.render(cases.read(name, text)[1], {name: text}, 1)
    names = {"kind": "model.yaml", "apps": "apps.yaml"}
    name = names.get(text.partition(":")[0], "mapping.yaml")
    if name == "apps.yaml":
        mappings = {one: _instead("source: shop", f"source: {one}") for one in _SOURCES}
        known = [*known, *(SourceFile(f"{one}.yaml", written) for one, written in mappings.items())]
    read = cases.read("shop.test.yaml", beside)[0] if beside else None
    samples = sampling.of_cases([read] if read else [])
    found = compile_files([*known, SourceFile(name, text, layer=1)], samples).diagnostics
    return report.render(found, {name: text}, 1)


def markdown() -> str:
    """The page of all checks."""
    bad = next(entry.bad for entry in _EXPRESSIONS if entry.bad)
    contents = [
        f"- {title}: " + ", ".join(f"[`{entry.name}`](#{entry.name})" for entry in entries)
        for title, entries in _PARTS
    ]
    introduction = _INTRODUCTION.format(example=_fenced("text", report_of(bad)))
    return "\n".join([_UNCHECKED, introduction, *contents, "", *map(_section, ENTRIES)])


def _section(entry: Entry) -> str:
    parts = [f"## {entry.name}", entry.what]
    if entry.bad is not None and entry.mended is not None:
        beside = ["Beside it lie these cases:", _fenced("yaml", entry.cases)] if entry.cases else []
        parts += [
            _fenced("yaml", entry.bad),
            *beside,
            _fenced("text", report_of(entry.bad, beside=entry.cases)),
            "Mended:",
            _fenced("yaml", entry.mended),
        ]
    return "\n\n".join(parts) + "\n"


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"
