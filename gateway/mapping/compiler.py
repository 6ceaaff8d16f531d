"""The compiler: the texts of mapping and model files in, plans and models or diagnostics out. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timezone

from msgspec import Struct, UnsetType

from gateway import authentication, fieldtype, model, plan
from gateway.diagnostic import Diagnostic, Span, did_you_mean, has_errors
from gateway.mapping import checks, closures, document, expression, grammar, shape
from gateway.mapping.document import Node, Scalar, Table
from gateway.mapping.document import Sequence as ListNode
from gateway.mapping.expression import Expression, ExpressionError
from gateway.mapping.shape import Path, Places


class SourceFile(Struct, frozen=True):
    """A file to compile. A file of a higher layer overrides one of a lower layer that describes the
    same source or kind; `name` is how diagnostics call it."""

    name: str
    text: str
    layer: int = 0


class CompiledMapping(Struct, frozen=True, kw_only=True):
    """A plan, how its source authenticates (None is open), and where the mapping says so."""

    plan: plan.Plan
    scheme: authentication.Scheme | None
    authenticate_at: Span
    layer: int


class Compilation(Struct, frozen=True, kw_only=True):
    """All that a set of files means. Where a diagnostic is an error, its file's part is missing."""

    models: Mapping[str, model.Model]
    mappings: Mapping[str, CompiledMapping]
    diagnostics: Sequence[Diagnostic]


class _Parsed(Struct, frozen=True):
    file: SourceFile
    node: Table
    key: str  # The source or kind that it describes, empty where that is not said.
    place: Span


def compile_files(files: Iterable[SourceFile]) -> Compilation:
    """Compiles models first, then the mappings that emit their kinds."""
    findings: list[Diagnostic] = []
    mapping_files: list[_Parsed] = []
    model_files: list[_Parsed] = []
    for file in files:
        node, problems = document.parse(file.name, file.text)
        findings += problems
        if node is not None:
            findings += _classify(file, node, mapping_files, model_files)
    model_files = _overridden(model_files, "kind", findings)
    grammars, models = _compile_models(model_files, findings)
    lower = list(mapping_files)
    mapping_files = _overridden(mapping_files, "source", findings)
    mappings: dict[str, CompiledMapping] = {}
    for parsed in mapping_files:
        unresolved: list[Diagnostic] = []
        merged = _extended(parsed, lower, unresolved, ())
        findings += unresolved
        compiled = _compile_mapping(
            parsed, merged, grammars, models, findings, is_whole=not unresolved
        )
        if compiled is not None:
            mappings[compiled.plan.source] = compiled
    return Compilation(models=models, mappings=mappings, diagnostics=sorted(set(findings)))


def _classify(
    file: SourceFile, node: Node, mappings: list[_Parsed], models: list[_Parsed]
) -> list[Diagnostic]:
    """Files the document where it belongs: a mapping has a `source`, a model has a `kind`."""
    if not isinstance(node, Table):
        message = "expected keys and values at the top level"
        return [Diagnostic(node.span, "wrong-type", message, _BEGINNINGS)]
    source, kind = node.get("source"), node.get("kind")
    is_model = kind is not None and not node.get("rules")
    if is_model or (source is None and node.get("fields") and not node.get("rules")):
        models.append(_Parsed(file, node, _word(kind), (kind or node).span))
    elif source is not None or node.get("rules") is not None or node.get("extends") is not None:
        mappings.append(_Parsed(file, node, _word(source), (source or node).span))
    else:
        message = "neither a mapping nor a model"
        return [Diagnostic(node.span, "unknown-document", message, _BEGINNINGS)]
    return []


_BEGINNINGS = "a mapping begins with `source:`, a model with `kind:`"


def _word(node: Node | None) -> str:
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else ""


def _overridden(files: list[_Parsed], what: str, findings: list[Diagnostic]) -> list[_Parsed]:
    """The files in force: of one name the highest layer; twice in one layer is a mistake."""
    chosen: dict[str, _Parsed] = {}
    nameless: list[_Parsed] = []
    for parsed in files:
        if not parsed.key:
            nameless.append(parsed)
            continue
        other = chosen.get(parsed.key)
        if other is not None and other.file.layer == parsed.file.layer:
            message = f"the {what} `{parsed.key}` is described in {other.file.name} already"
            mend = f"give each {what} one file"
            findings.append(Diagnostic(parsed.place, f"duplicate-{what}", message, mend))
        elif other is None or other.file.layer < parsed.file.layer:
            chosen[parsed.key] = parsed
    # Lower layers first: what two files cannot both have is the mistake of the higher one.
    return [*sorted(chosen.values(), key=lambda parsed: parsed.file.layer), *nameless]


# Models


def _compile_models(
    files: list[_Parsed], findings: list[Diagnostic]
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
            if not problems:
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


# Mappings


def _extended(
    parsed: _Parsed, files: list[_Parsed], findings: list[Diagnostic], seen: tuple[str, ...]
) -> Table:
    """The document with what it inherits; every part keeps the place where it was written."""
    extends = parsed.node.get("extends")
    name = _word(extends)
    if extends is None or not name:
        return parsed.node
    # A source may extend the one of its own name that it overrides, in a lower layer.
    candidates = [
        other
        for other in files
        if other.key == name
        and (other.file.layer < parsed.file.layer if name == parsed.key else True)
    ]
    if not candidates:
        known = {other.key for other in files if other.key and other.key != parsed.key}
        mend = did_you_mean(name, known)
        message = f"there is no source `{name}` to extend"
        findings.append(Diagnostic(extends.span, "unknown-source", message, mend))
        return parsed.node
    parent = max(candidates, key=lambda other: other.file.layer)
    if parent.file.name in seen:
        message = f"`{name}` extends this source in turn"
        mend = "one of them must say by itself what the others start from"
        findings.append(Diagnostic(extends.span, "circular-extends", message, mend))
        return parsed.node
    inherited = _extended(parent, files, findings, (*seen, parsed.file.name))
    return _merged(inherited, parsed.node)


def _merged(parent: Table, child: Table) -> Table:
    entries = {str(key.value): (key, value) for key, value in parent.entries}
    entries.pop("title", None)
    for key, value in child.entries:
        inherited = entries.get(str(key.value), (key, None))[1]
        entries[str(key.value)] = (key, _inheriting(str(key.value), inherited, value))
    return Table(tuple(entries.values()), child.span)


def _inheriting(key: str, parent: Node | None, child: Node) -> Node:
    match key, parent, child:
        case "params", Table(), Table():
            return Table(_united(parent.entries, child.entries), child.span)
        case "rules", ListNode(), ListNode():
            return ListNode(_with_rules(parent.items, child.items), child.span)
    return child


def _united(
    parent: tuple[tuple[Scalar, Node], ...], child: tuple[tuple[Scalar, Node], ...]
) -> tuple[tuple[Scalar, Node], ...]:
    united = {key.value: (key, value) for key, value in parent}
    united |= {key.value: (key, value) for key, value in child}
    return tuple(united.values())


def _with_rules(parent: tuple[Node, ...], child: tuple[Node, ...]) -> tuple[Node, ...]:
    rules = list(parent)
    names = [_rule_name(rule) for rule in parent]
    for rule in child:
        name = _rule_name(rule)
        if name and name in names:
            # A second rule of the name is not a replacement: both stay, to be found as duplicates.
            rules[names.index(name)] = rule
            names[names.index(name)] = ""
        else:
            rules.append(rule)
    return tuple(rules)


def _rule_name(rule: Node) -> str:
    return _word(rule.get("name")) if isinstance(rule, Table) else ""


def _compile_mapping(
    parsed: _Parsed,
    node: Table,
    grammars: Mapping[str, grammar.Model],
    models: Mapping[str, model.Model],
    findings: list[Diagnostic],
    *,
    is_whole: bool,
) -> CompiledMapping | None:
    """`is_whole` is false where what the mapping extends was not found: what is only missing for
    that reason is not reported as well."""
    written, places, problems = shape.read(node, grammar.Mapping)
    expressions, broken = _expressions(written, places)
    view = checks.MappingView(
        mapping=written, places=places, expressions=expressions, broken=broken, models=grammars
    )
    problems += [finding for check in checks.MAPPING_CHECKS for finding in check(view)]
    if not is_whole:
        problems = [finding for finding in problems if not _may_be_inherited(finding, node)]
    findings += problems
    broken_models = any(rule.emit not in models for rule in written.rules)
    if not is_whole or broken_models or has_errors(problems):
        return None
    scheme = written.authenticate
    return CompiledMapping(
        plan=_plan(written, expressions, models),
        scheme=None if isinstance(scheme, str) else scheme,
        authenticate_at=places.key("authenticate"),
        layer=parsed.file.layer,
    )


def _may_be_inherited(finding: Diagnostic, node: Table) -> bool:
    missing = finding.name == "missing-key" and finding.span == node.span
    return missing or finding.name in ("unknown-param", "event-not-declared", "unused-param")


def _expressions(
    written: grammar.Mapping, places: Places
) -> tuple[dict[Path, Expression], dict[Path, ExpressionError]]:
    paths: list[Path] = [("delivery_id",), ("event",)]
    for index, rule in enumerate(written.rules):
        paths += [("rules", index, "when"), ("rules", index, "each")]
        for name, field in rule.fields.items():
            long = isinstance(field, grammar.MappedField)
            paths.append(("rules", index, "fields", name, *(("value",) if long else ())))
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


def _plan(
    written: grammar.Mapping,
    expressions: Mapping[Path, Expression],
    models: Mapping[str, model.Model],
) -> plan.Plan:
    def evaluate(*path: str | int) -> plan.Evaluate | None:
        found = expressions.get(path)
        return found.evaluate if found else None

    return plan.Plan(
        source=written.source,
        title=written.title or written.source,
        params=written.params,
        rules=tuple(
            _rule(index, rule, expressions, models[rule.emit])
            for index, rule in enumerate(written.rules)
        ),
        delivery_id=evaluate("delivery_id"),
        event=evaluate("event"),
        on_invalid=written.on_invalid,
        read_headers=frozenset(
            use.name
            for found in expressions.values()
            for parent, use in found.members
            if parent == "headers"
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
        path: Path = ("rules", index, "fields", name)
        if isinstance(field, grammar.MappedField):
            path = (*path, "value")
            offset = fieldtype.parse_offset(field.offset) if field.offset else None
            if offset is not None:
                offsets[name] = offset
        fields[name] = expressions[path].evaluate
    return plan.Rule(
        name=rule.name,
        model=kind,
        when=closures.condition(when.evaluate) if when else None,
        when_each=when is not None and each is not None and when.reads("each"),
        each=each.evaluate if each else None,
        fields=fields,
        offsets=offsets,
    )
