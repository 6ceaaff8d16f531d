"""The compiler: the texts of mappings, models and tables of apps in, what they mean or diagnostics out. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timezone
from functools import lru_cache
from typing import cast

from msgspec import UNSET, Struct, UnsetType

from gateway import authentication, fieldtype, model, plan
from gateway.addresses import Networks, network
from gateway.apps import NO_TABLE, Apps
from gateway.body import Decode
from gateway.diagnostic import Diagnostic, Span, has_errors
from gateway.mapping import (
    checks,
    closures,
    dispatch,
    document,
    expression,
    grammar,
    inheritance,
    projection,
    shape,
)
from gateway.mapping.document import Node, Table
from gateway.mapping.expression import Expression, ExpressionError
from gateway.mapping.inheritance import Document, Whole, word
from gateway.mapping.reads import Place, Seen, follow
from gateway.mapping.samples import Sample
from gateway.mapping.shape import Path, Places


class SourceFile(Struct, frozen=True):
    """A file to compile. A file of a higher layer overrides one of a lower layer that describes the
    same source or kind; `name` is how diagnostics call it."""

    name: str
    text: str
    layer: int = 0


class CompiledMapping(Struct, frozen=True, kw_only=True):
    """A plan, the expressions that it was made of, how its source authenticates (None is open), and
    where the mapping says so.

    `document` is what it was compiled from, with what it inherits, every part at the place where it
    was written; `replaces` is the mapping of a lower layer that is not in force because of this one.
    """

    plan: plan.Plan
    expressions: Mapping[Path, Expression]
    scheme: authentication.Scheme | None
    authenticate_at: Span
    allow_from: Networks
    layer: int
    document: Table
    replaces: Document | None


class Compilation(Struct, frozen=True, kw_only=True):
    """All that a set of files means. Where a diagnostic is an error, its file's part is missing."""

    models: Mapping[str, model.Model]
    mappings: Mapping[str, CompiledMapping]
    apps: Apps
    diagnostics: Sequence[Diagnostic]


def compile_files(
    files: Iterable[SourceFile], samples: Mapping[str, Sequence[Sample]] | None = None
) -> Compilation:
    """Compiles models first, then the mappings that emit their kinds. `samples` are deliveries by the
    source that sends them, to hold its mapping against."""
    findings: list[Diagnostic] = []
    mapping_files: list[Document] = []
    model_files: list[Document] = []
    tables: list[Document] = []
    for file in files:
        node, problems = document.parse(file.name, file.text)
        findings += problems
        if node is not None:
            findings += _classify(file, node, mapping_files, model_files, tables)
    model_files = _overridden(model_files, "kind", findings)
    grammars, models = _compile_models(model_files, findings)
    lower = list(mapping_files)
    mapping_files = _overridden(mapping_files, "source", findings)
    mappings: dict[str, CompiledMapping] = {}
    replaced = {parsed.key for parsed in model_files if parsed.layer}
    for parsed in mapping_files:
        whole = inheritance.whole(parsed, lower)
        findings += whole.findings
        known = _samples(parsed, lower, samples or {})
        compiled = _compile_mapping(
            parsed, whole, lower, grammars, models, known, findings, replaced
        )
        if compiled is not None and not has_errors(whole.findings):
            mappings[compiled.plan.source] = compiled
    apps = _compile_apps(tables, frozenset(parsed.key for parsed in lower) - {""}, findings)
    return Compilation(
        models=models, mappings=mappings, apps=apps, diagnostics=sorted(set(findings))
    )


def _classify(
    file: SourceFile,
    node: Node,
    mappings: list[Document],
    models: list[Document],
    tables: list[Document],
) -> list[Diagnostic]:
    """Files the document where it belongs: a mapping has a `source`, a model has a `kind`, a table has
    `apps`."""
    if not isinstance(node, Table):
        message = "expected keys and values at the top level"
        return [Diagnostic(node.span, "wrong-type", message, _BEGINNINGS)]
    source, kind = node.get("source"), node.get("kind")
    is_model = kind is not None and not node.get("rules")
    if is_model or (source is None and node.get("fields") and not node.get("rules")):
        models.append(Document(file.name, file.layer, node, word(kind), (kind or node).span))
    elif source is not None or node.get("rules") is not None or node.get("extends") is not None:
        mappings.append(Document(file.name, file.layer, node, word(source), (source or node).span))
    elif node.get("apps") is not None:
        tables.append(Document(file.name, file.layer, node, "", node.span))
    else:
        message = "neither a mapping nor a model nor a table of apps"
        return [Diagnostic(node.span, "unknown-document", message, _BEGINNINGS)]
    return []


_BEGINNINGS = "a mapping begins with `source:`, a model with `kind:`, a table of apps with `apps:`"


def _overridden(files: list[Document], what: str, findings: list[Diagnostic]) -> list[Document]:
    """The files in force: of one name the highest layer; twice in one layer is a mistake."""
    chosen: dict[str, Document] = {}
    nameless: list[Document] = []
    for parsed in files:
        if not parsed.key:
            nameless.append(parsed)
            continue
        other = chosen.get(parsed.key)
        if other is not None and other.layer == parsed.layer:
            message = f"the {what} `{parsed.key}` is described in {other.file} already"
            mend = f"give each {what} one file"
            findings.append(Diagnostic(parsed.place, f"duplicate-{what}", message, mend))
        elif other is None or other.layer < parsed.layer:
            chosen[parsed.key] = parsed
    # Lower layers first: what two files cannot both have is the mistake of the higher one.
    return [*sorted(chosen.values(), key=lambda parsed: parsed.layer), *nameless]


# Models


def _compile_models(
    files: list[Document], findings: list[Diagnostic]
) -> tuple[dict[str, grammar.Model], dict[str, model.Model]]:
    grammars: dict[str, grammar.Model] = {}
    models: dict[str, model.Model] = {}
    metrics: dict[str, str] = {}
    for parsed in files:
        written, places, problems = shape.read(parsed.node, grammar.Model)
        view = checks.ModelView(model=written, places=places, metrics=metrics)
        problems += [finding for check in checks.MODEL_CHECKS for finding in check(view)]
        findings += problems
        if written.kind:
            grammars[written.kind] = written
            metrics |= {metric.name: written.kind for metric in written.metrics}
            if not has_errors(problems):
                models[written.kind] = _model(written)
    return grammars, models


def _model(written: grammar.Model) -> model.Model:
    fields = {
        name: model.Field(
            name=name,
            type=field.type,
            required=field.required,
            read=fieldtype.reader(
                field.type,
                None if isinstance(field.max_length, UnsetType) else field.max_length,
                tuple(field.choices),
            ),
        )
        for name, field in written.fields.items()
    }
    metrics = tuple(
        model.Metric(
            name=metric.name,
            help=metric.help,
            value=metric.value,
            labels=metric.labels,
            when=metric.when,
        )
        for metric in written.metrics
    )
    return model.Model(
        kind=written.kind,
        title=written.title or written.kind,
        fields=fields,
        require_one_of=tuple(tuple(group) for group in written.require_one_of),
        metrics=metrics,
    )


# Apps


def _compile_apps(
    files: list[Document], sources: frozenset[str], findings: list[Diagnostic]
) -> Apps:
    """The table of the highest layer that has one; there it may be spread over files."""
    highest = max((parsed.layer for parsed in files), default=0)
    in_force = [parsed for parsed in files if parsed.layer == highest]
    read = [shape.read(parsed.node, grammar.Table) for parsed in in_force]
    problems = [finding for _, _, found in read for finding in found]
    view = checks.AppsView(
        tables=tuple((written, places) for written, places, _ in read), sources=sources
    )
    problems += [finding for check in checks.APPS_CHECKS for finding in check(view)]
    findings += problems
    if has_errors(problems):
        return NO_TABLE
    return Apps(
        names={(one.source, one.name): one.app for one in view.names()},
        teams={written.app: written.team for _, written in view.apps()},
    )


# Mappings


def _compile_mapping(
    parsed: Document,
    whole: Whole,
    others: Sequence[Document],
    grammars: Mapping[str, grammar.Model],
    models: Mapping[str, model.Model],
    samples: tuple[Sample, ...],
    findings: list[Diagnostic],
    replaced: set[str],
) -> CompiledMapping | None:
    """Where what the mapping extends was not found, that a part is missing for that reason is not
    reported as well. `replaced` are the kinds whose models are not bundled."""
    # The lowest layer is the same in every compilation; a version of what lies above is compiled but
    # once, and so would be a document that was put together for this compilation.
    is_lasting = not parsed.layer and whole.node is parsed.node
    said = _remembered(_Same(whole.node)) if is_lasting else _said(whole.node)
    written, places, problems = said.mapping, said.places, list(said.findings)
    view = checks.MappingView(
        mapping=written,
        places=places,
        expressions=said.expressions,
        broken=said.broken,
        reads=said.reads,
        models=grammars,
        samples=samples,
    )
    # The bundled mappings were checked before they were shipped, with the bundled models.
    if parsed.layer or replaced & {rule.emit for rule in written.rules}:
        problems += [finding for check in checks.MAPPING_CHECKS for finding in check(view)]
    if not whole.is_whole:
        problems = [finding for finding in problems if not _may_be_inherited(finding, whole.node)]
    findings += problems
    broken_models = any(rule.emit not in models for rule in written.rules)
    if not whole.is_whole or broken_models or has_errors(problems):
        return None
    scheme = written.authenticate
    return CompiledMapping(
        plan=_plan(said, models),
        expressions=said.expressions,
        scheme=None if isinstance(scheme, str) else scheme,
        authenticate_at=places.key("authenticate"),
        allow_from=tuple(map(network, written.allow_from)),
        layer=parsed.layer,
        document=whole.node,
        replaces=max(
            (other for other in others if other.key == parsed.key and other.layer < parsed.layer),
            key=lambda other: other.layer,
            default=None,
        ),
    )


class _Said(Struct, frozen=True, kw_only=True):
    """All that a mapping's document says by itself, whatever models there are. `broken` are the
    expressions that do not parse."""

    mapping: grammar.Mapping
    places: Places
    findings: Sequence[Diagnostic]
    expressions: Mapping[Path, Expression]
    broken: Mapping[Path, ExpressionError]
    reads: Place
    decode: Decode


def _said(node: Table) -> _Said:
    written, places, findings = shape.read(node, grammar.Mapping)
    expressions, broken = _expressions(written, places)
    reads = _reads(written, expressions)
    return _Said(
        mapping=written,
        places=places,
        findings=findings,
        expressions=expressions,
        broken=broken,
        reads=reads,
        # `@` reads the body too, and everything else.
        decode=projection.decoder(reads if reads.is_whole else reads.member("body")),
    )


class _Same:
    """A document that is the same only where it is the very one: to compare whole documents costs as
    much as to read them."""

    def __init__(self, node: Table) -> None:
        self.node = node

    def __hash__(self) -> int:
        return id(self.node)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.node is other.node


@lru_cache(maxsize=128)
def _remembered(same: _Same) -> _Said:
    return _said(same.node)


def _samples(
    parsed: Document, mappings: Sequence[Document], samples: Mapping[str, Sequence[Sample]]
) -> tuple[Sample, ...]:
    """The samples of a source; where it has none of its own, those of what it extends."""
    extended = {other.key: word(other.node.get("extends")) for other in mappings}
    name, asked = parsed.key, set[str]()
    while name and name not in asked:
        if samples.get(name):
            return tuple(samples[name])
        asked.add(name)
        name = extended.get(name, "")
    return ()


def _may_be_inherited(finding: Diagnostic, node: Table) -> bool:
    missing = finding.name == "missing-key" and finding.span == node.span
    return missing or finding.name in ("unknown-param", "event-not-declared", "unused-param")


_HANDSHAKE = ("when", "answer", "visit")
"""The expressions of a handshake."""


def _expressions(
    written: grammar.Mapping, places: Places
) -> tuple[dict[Path, Expression], dict[Path, ExpressionError]]:
    paths: list[Path] = [("delivery_id",), ("event",)]
    for index, _ in enumerate(written.handshakes):
        paths += [("handshakes", index, part) for part in _HANDSHAKE]
    for index, rule in enumerate(written.rules):
        paths += [("rules", index, "when"), ("rules", index, "each")]
        paths += [_field_path(index, name, field) for name, field in rule.fields.items()]
    parsed: dict[Path, Expression] = {}
    broken: dict[Path, ExpressionError] = {}
    for path in paths:
        text = places.text(*path)
        if text is None:
            continue
        try:
            parsed[path] = expression.parse(str(text.value))
        except ExpressionError as error:
            broken[path] = error
    return parsed, broken


def _reads(written: grammar.Mapping, expressions: Mapping[Path, Expression]) -> Place:
    """All that the expressions read of their scope."""
    root = Place()

    def read(path: Path, scope: Seen) -> Seen:
        found = expressions.get(path)
        return follow(found.tree, scope, path) if found else Seen()

    scope = Seen((root,))
    read(("delivery_id",), scope).use()
    read(("event",), scope).use()
    for index, _ in enumerate(written.handshakes):
        for part in _HANDSHAKE:
            read(("handshakes", index, part), scope).use()
    for index, rule in enumerate(written.rules):
        items = read(("rules", index, "each"), scope).items()
        inner = Seen((root,), bound={"each": items}) if rule.each is not UNSET else scope
        read(("rules", index, "when"), inner).use()
        for name, field in rule.fields.items():
            read(_field_path(index, name, field), inner).use()
    return root


def _field_path(index: int, name: str, field: str | grammar.MappedField) -> Path:
    """Where the expression of a field stands: the long form has it below a key."""
    long = isinstance(field, grammar.MappedField)
    return ("rules", index, "fields", name, *(("value",) if long else ()))


def _plan(said: _Said, models: Mapping[str, model.Model]) -> plan.Plan:
    written, expressions = said.mapping, said.expressions

    def evaluate(*path: str | int) -> plan.Evaluate | None:
        found = expressions.get(path)
        return found.evaluate if found else None

    rules = tuple(
        _rule(index, rule, expressions, models[rule.emit])
        for index, rule in enumerate(written.rules)
    )
    names = {name for rule in rules for name in rule.events or ()}
    return plan.Plan(
        source=written.source,
        title=written.title or written.source,
        params=written.params,
        rules=rules,
        named_rules={
            name: tuple(rule for rule in rules if rule.events is None or name in rule.events)
            for name in names
        },
        other_rules=tuple(rule for rule in rules if rule.events is None),
        delivery_id=evaluate("delivery_id"),
        event=evaluate("event"),
        handshakes=tuple(
            _handshake(index, handshake, evaluate)
            for index, handshake in enumerate(written.handshakes)
        ),
        media_types=frozenset(written.media_types),
        on_invalid=written.on_invalid,
        decode=said.decode,
        read_headers=frozenset(
            use.name
            for found in expressions.values()
            for parent, use in found.members
            if parent == "headers"
        ),
    )


def _handshake(
    index: int,
    handshake: grammar.Handshake,
    evaluate: Callable[..., plan.Evaluate | None],
) -> plan.Handshake:
    # Its schema demands it.
    when = cast("plan.Evaluate", evaluate("handshakes", index, "when"))
    return plan.Handshake(
        when=closures.condition(when),
        answer=evaluate("handshakes", index, "answer"),
        visit=evaluate("handshakes", index, "visit"),
        hosts=tuple(
            re.compile(re.escape(host.lower()).replace(r"\*", "[a-z0-9-]+"))
            for host in handshake.hosts
        ),
    )


def _rule(
    index: int, rule: grammar.Rule, expressions: Mapping[Path, Expression], kind: model.Model
) -> plan.Rule:
    when = expressions.get(("rules", index, "when"))
    each = expressions.get(("rules", index, "each"))
    fields: dict[str, plan.Evaluate] = {}
    offsets: dict[str, timezone] = {}
    for name, field in rule.fields.items():
        if isinstance(field, grammar.MappedField) and field.offset:
            offset = fieldtype.parse_offset(field.offset)
            if offset is not None:
                offsets[name] = offset
        fields[name] = expressions[_field_path(index, name, field)].evaluate
    when_each = when is not None and each is not None and when.reads("each")
    return plan.Rule(
        name=rule.name,
        # Where `each` comes first, it may fail whatever the event is.
        events=dispatch.event_names(when.tree) if when and not when_each else None,
        model=kind,
        when=closures.condition(when.evaluate) if when else None,
        when_each=when_each,
        each=each.evaluate if each else None,
        fields=fields,
        offsets=offsets,
    )
