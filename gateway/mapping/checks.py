"""The checks of mappings and models: each is one function that states one mistake.

A check's name is its function's name with hyphens. Its docstring is its page in the reference: what
is wrong, and why; the examples beside it are in `catalogue`.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from msgspec import UNSET, Struct

from gateway.authentication import Basic, Hmac, SecretReference
from gateway.diagnostic import Diagnostic, Severity, Span, did_you_mean
from gateway.event import BUILD, COMMIT, DEPLOYMENT
from gateway.fieldtype import FieldType, parse_offset
from gateway.mapping import functions, grammar
from gateway.mapping.expression import Expression, ExpressionError, Use
from gateway.mapping.reads import Place
from gateway.mapping.shape import Path, Places

SCOPE = ("body", "each", "event", "headers", "params", "query", "received_at")
CORRELATED: Mapping[str, frozenset[str]] = {
    COMMIT: frozenset({"app", "commit", "timestamp"}),
    BUILD: frozenset({"app", "commit", "image_sha"}),
    DEPLOYMENT: frozenset({"app", "timestamp", "image_sha", "commit"}),
}
"""Fields that correlation reads from the kinds it knows by name."""

OWN_PREFIXES = ("gateway_", "python_", "process_")


class MappingView(Struct, frozen=True, kw_only=True):
    """A mapping as the checks see it. `expressions` holds those that parse, `broken` the others;
    `reads` is what they read of their scope, and `models` are all known kinds."""

    mapping: grammar.Mapping
    places: Places
    expressions: Mapping[Path, Expression]
    broken: Mapping[Path, ExpressionError]
    reads: Place
    models: Mapping[str, grammar.Model]


class ModelView(Struct, frozen=True, kw_only=True):
    """A model as the checks see it; `metrics` maps the metric names of other kinds to their kind."""

    model: grammar.Model
    places: Places
    metrics: Mapping[str, str]


Findings = Iterator[Diagnostic]


def _finding(
    check: Callable[..., Findings], span: Span, message: str, mend: str = ""
) -> Diagnostic:
    return Diagnostic(span, check.__name__.replace("_", "-"), message, mend)


# Expressions


def expression_syntax(view: MappingView) -> Findings:
    """The text is not a JMESPath expression."""
    for path, error in view.broken.items():
        span = view.places.within(path, error.offset)
        yield _finding(expression_syntax, span, error.message, error.mend)


def unknown_function(view: MappingView) -> Findings:
    """The expression calls a function that does not exist.

    JMESPath itself finds this out only when the first delivery arrives.
    """
    for path, expression in view.expressions.items():
        for call in expression.calls:
            if call.name not in functions.ARITIES:
                span = view.places.within(path, call.offset, len(call.name))
                message = f"there is no function `{call.name}()`"
                mend = did_you_mean(call.name, functions.ARITIES)
                yield _finding(unknown_function, span, message, mend)


def wrong_arity(view: MappingView) -> Findings:
    """A function is called with too many or too few arguments."""
    for path, expression in view.expressions.items():
        for call in expression.calls:
            arity = functions.ARITIES.get(call.name)
            if arity is None:
                continue
            if not arity.takes(call.arguments):
                span = view.places.within(path, call.offset, len(call.name))
                noun = "argument" if str(arity) == "1" else "arguments"
                message = f"`{call.name}()` takes {arity} {noun}, not {call.arguments}"
                is_method = expression.text[: call.offset].rstrip().endswith(".")
                mend = (
                    f"a function is no method: write `{call.name}(body.key)`" if is_method else ""
                )
                yield _finding(wrong_arity, span, message, mend)


def zero_step(view: MappingView) -> Findings:
    """A slice has the step zero, so it can never be taken."""
    for path, expression in view.expressions.items():
        if expression.zero_step:
            span = view.places.within(path, 0, len(expression.text))
            yield _finding(zero_step, span, "a slice cannot have the step 0")


def unknown_name(view: MappingView) -> Findings:
    """The expression reads a name that no delivery has at its top level.

    Expressions read `body`, `headers`, `query`, `params`, `event`, `received_at` and, in a rule with
    `each:`, `each`. Anything else finds nothing, whatever the sender sends. `event` and `delivery_id`
    are found first, so they cannot read `event` or `each` themselves.
    """
    for path, expression in view.expressions.items():
        first = path[0] in ("event", "delivery_id")
        known = [name for name in SCOPE if not (first and name in ("each", "event"))]
        for use in expression.roots:
            if use.name not in known:
                message = f"there is no `{use.name}` to read here"
                mend = _name_mend(expression, use, known)
                yield _finding(unknown_name, _use_span(view, path, use), message, mend)


def _name_mend(expression: Expression, use: Use, known: list[str]) -> str:
    if expression.text[use.offset] == '"':
        return f"text stands between single quotes: `'{use.name}'`"
    if use.name in ("true", "false", "null"):
        return f"a value that is no text stands between backticks: `` `{use.name}` ``"
    nearest = did_you_mean(use.name, known)
    if use.name in SCOPE or "did you mean" in nearest:
        return nearest
    mend = f"the payload is below `body`: `body.{use.name}`; {nearest}"
    if expression.text.strip() == use.name:
        mend = f"for the text itself write `\"'{use.name}'\"`; {mend}"
    return mend


def event_not_declared(view: MappingView) -> Findings:
    """An expression reads `event`, and the mapping does not say where to find it.

    `event` is what the mapping's own `event:` finds in a delivery. Without one it is always nothing,
    so a comparison with it never holds.
    """
    if view.mapping.event is not UNSET or ("event",) in view.places.nodes:
        return
    for path, expression in view.expressions.items():
        for use in expression.roots:
            if use.name == "event" and path[0] == "rules":
                message = "`event` is always nothing: the mapping has no `event:`"
                mend = 'say where the sender names it, such as `event: headers."x-github-event"`'
                yield _finding(event_not_declared, _use_span(view, path, use), message, mend)


def each_outside_each(view: MappingView) -> Findings:
    """`each` is read in a rule that has no `each:`, or in the `each:` itself."""
    for path, expression in view.expressions.items():
        if path[0] != "rules" or not isinstance(path[1], int):
            continue
        rule = view.mapping.rules[path[1]]
        if rule.each is not UNSET and path[2] != "each":
            continue
        for use in expression.roots:
            if use.name == "each":
                message = "`each` is read outside of a rule with `each:`"
                mend = "give the rule an `each:` that finds a list"
                if path[2] == "each":
                    message = "`each` cannot be read by the `each:` that finds it"
                    mend = "find the list in `body`"
                yield _finding(each_outside_each, _use_span(view, path, use), message, mend)


def unknown_param(view: MappingView) -> Findings:
    """The expression reads a parameter that the mapping does not declare."""
    for path, expression in view.expressions.items():
        for parent, use in expression.members:
            if parent == "params" and use.name not in view.mapping.params:
                message = f"there is no param `{use.name}`"
                mend = did_you_mean(use.name, view.mapping.params)
                yield _finding(unknown_param, _use_span(view, path, use), message, mend)


def unused_param(view: MappingView) -> Findings:
    """A parameter is declared and no expression reads it, so setting it changes nothing."""
    used = {
        use.name
        for expression in view.expressions.values()
        for parent, use in expression.members
        if parent == "params"
    }
    whole = any(
        expression.whole_scope
        or [use.name for use in expression.roots].count("params")
        > [parent for parent, _ in expression.members].count("params")
        for expression in view.expressions.values()
    )
    if whole or view.broken or not view.mapping.rules:
        return
    own = view.places.span().file
    for name in view.mapping.params:
        # What is inherited is used where it comes from.
        if name not in used and view.places.key("params", name).file == own:
            finding = _finding(
                unused_param,
                view.places.key("params", name),
                f"no expression reads `params.{name}`",
            )
            yield Diagnostic(
                finding.span, finding.name, finding.message, "remove it", Severity.WARNING
            )


def header_case(view: MappingView) -> Findings:
    """A header is read by a name with upper-case letters; header names are lower case here."""
    for path, expression in view.expressions.items():
        for parent, use in expression.members:
            if parent == "headers" and use.name != use.name.lower():
                message = f"no header is named `{use.name}`: names are lower case here"
                mend = f'write `headers."{use.name.lower()}"`'
                yield _finding(header_case, _use_span(view, path, use), message, mend)


def _use_span(view: MappingView, path: Path, use: Use) -> Span:
    return view.places.within(path, use.offset, use.width)


# Rules


def no_rules(view: MappingView) -> Findings:
    """The mapping has no rules, so every delivery would be ignored."""
    if not view.mapping.rules and view.places.is_list("rules"):
        yield _finding(no_rules, view.places.span("rules"), "there are no rules")


def duplicate_rule(view: MappingView) -> Findings:
    """Two rules have the same name, so a reason that names the rule would not say which."""
    seen: dict[str, int] = {}
    for index, rule in enumerate(view.mapping.rules):
        place = view.places.text("rules", index, "name")
        if place is None:
            continue
        if rule.name in seen:
            first = view.places.span("rules", seen[rule.name], "name").line
            message = f"the rule of line {first} has the same name"
            yield _finding(duplicate_rule, place.span, message, "give each rule its own name")
        seen.setdefault(rule.name, index)


def unknown_kind(view: MappingView) -> Findings:
    """A rule emits a kind of event that no model describes."""
    for index, rule in enumerate(view.mapping.rules):
        place = view.places.text("rules", index, "emit")
        if place is not None and rule.emit not in view.models:
            message = f"there is no kind `{rule.emit}`"
            mend = did_you_mean(rule.emit, view.models)
            yield _finding(unknown_kind, place.span, message, mend)


def unknown_field(view: MappingView) -> Findings:
    """A rule maps a field that the model of its kind does not have."""
    for index, rule in enumerate(view.mapping.rules):
        model = view.models.get(rule.emit)
        for name in rule.fields if model else ():
            if model and name not in model.fields:
                span = view.places.key("rules", index, "fields", name)
                message = f"`{rule.emit}` has no field `{name}`"
                yield _finding(unknown_field, span, message, did_you_mean(name, model.fields))


def field_not_mapped(view: MappingView) -> Findings:
    """A rule does not map a field that the model of its kind requires."""
    for index, rule in enumerate(view.mapping.rules):
        model = view.models.get(rule.emit)
        if model is None or not view.places.is_table("rules", index, "fields"):
            continue
        span = view.places.key("rules", index, "fields")
        for name, field in model.fields.items():
            if field.required and name not in rule.fields:
                message = f"`{rule.emit}` requires the field `{name}`"
                yield _finding(field_not_mapped, span, message, field.description)
        for group in model.require_one_of:
            if not any(name in rule.fields for name in group):
                message = f"`{rule.emit}` requires one of the fields {', '.join(group)}"
                yield _finding(field_not_mapped, span, message)


def wrong_offset(view: MappingView) -> Findings:
    """`offset:` is not an offset from UTC, or the field is no timestamp."""
    for index, rule in enumerate(view.mapping.rules):
        model = view.models.get(rule.emit)
        for name, field in rule.fields.items():
            if not isinstance(field, grammar.MappedField) or not field.offset:
                continue
            span = view.places.span("rules", index, "fields", name, "offset")
            if parse_offset(field.offset) is None:
                message = f"`{field.offset}` is no offset from UTC"
                yield _finding(wrong_offset, span, message, "write `+02:00`, `-0800` or `UTC`")
            elif (
                model
                and name in model.fields
                and model.fields[name].type is not FieldType.TIMESTAMP
            ):
                yield _finding(wrong_offset, span, f"`{name}` is no timestamp", "remove it")


# Authentication


def secret_reference(view: MappingView) -> Findings:
    """A secret is read from exactly one place: `env: NAME` or `file: PATH`."""
    scheme = view.mapping.authenticate
    if isinstance(scheme, str):
        return
    references: list[tuple[Path, SecretReference]] = []
    base: Path = ("authenticate",)
    if isinstance(scheme, Basic):
        references.append(((*base, "username"), scheme.username))
    if isinstance(scheme.secret, list):
        references += [((*base, "secret", n), one) for n, one in enumerate(scheme.secret)]
        if not scheme.secret and view.places.is_list(*base, "secret"):
            yield _finding(
                secret_reference, view.places.span(*base, "secret"), "the list of secrets is empty"
            )
    else:
        references.append(((*base, "secret"), scheme.secret))
    for path, reference in references:
        written = [key for key in ("env", "file") if (*path, key) in view.places.nodes]
        readable = all(view.places.text(*path, key) for key in written)
        if not view.places.is_table(*path) or not readable:
            continue
        span = view.places.span(*path)
        if bool(reference.env) == bool(reference.file):
            message = "a secret needs exactly one of `env` and `file`"
            yield _finding(secret_reference, span, message, "write `{env: NAME}` or `{file: PATH}`")
        elif reference.env and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", reference.env):
            message = f"`{reference.env}` is no name of an environment variable"
            yield _finding(
                secret_reference, span, message, "the secret itself is never written here"
            )


def weak_algorithm(view: MappingView) -> Findings:
    """SHA-1 is declared without saying that its weakness is accepted."""
    scheme = view.mapping.authenticate
    written = view.places.text("authenticate", "algorithm")
    if written is None or written.value != "sha1":
        return
    if isinstance(scheme, Hmac) and not scheme.allow_weak:
        mend = "use sha256; where the sender knows no other, add `allow_weak: true`"
        yield _finding(weak_algorithm, written.span, "sha1 is weak", mend)


def unsigned_body(view: MappingView) -> Findings:
    """What the sender signs must contain the body, and a timestamp must come from a header.

    `signed` is made of `{body}`, `{timestamp}` and text that stands for itself.
    """
    scheme = view.mapping.authenticate
    if not isinstance(scheme, Hmac):
        return
    written = view.places.text("authenticate", "signed")
    if written is None and ("authenticate", "signed") in view.places.nodes:
        return
    span = written.span if written else view.places.key("authenticate", "timestamp_header")
    if scheme.signed.count("{body}") != 1:
        yield _finding(unsigned_body, span, "`signed` must contain `{body}` once")
    if ("{timestamp}" in scheme.signed) != bool(scheme.timestamp_header):
        message = "`{timestamp}` in `signed` and `timestamp_header` belong together"
        mend = 'write what the sender signs, such as `signed: "{timestamp}.{body}"`'
        if not scheme.timestamp_header:
            mend = "name the header that holds the time: `timestamp_header: X-Request-Timestamp`"
        yield _finding(unsigned_body, span, message, mend)
    for word in re.findall(r"\{\w*\}", scheme.signed):
        if word not in ("{body}", "{timestamp}"):
            message = f"`{word}` in `signed` stands for nothing"
            yield _finding(unsigned_body, span, message, "known: {body}, {timestamp}")


# Models


def metric_name(view: ModelView) -> Findings:
    """A metric's name is not one that Prometheus takes, or belongs to the gateway itself."""
    for index, metric in enumerate(view.model.metrics):
        place = view.places.text("metrics", index, "name")
        if place is None:
            continue
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", metric.name):
            mend = "letters, digits and underscores, not beginning with a digit"
            yield _finding(metric_name, place.span, f"`{metric.name}` is no metric name", mend)
        elif metric.name.startswith(OWN_PREFIXES):
            message = f"`{metric.name}` begins like a metric of the gateway itself"
            yield _finding(metric_name, place.span, message, "choose another prefix")


def duplicate_metric(view: ModelView) -> Findings:
    """Two metrics have the same name; a scrape can hold one family of a name only."""
    seen: set[str] = set()
    for index, metric in enumerate(view.model.metrics):
        place = view.places.text("metrics", index, "name")
        if place is not None and (metric.name in seen or metric.name in view.metrics):
            owner = view.metrics.get(metric.name, view.model.kind)
            message = f"`{metric.name}` is a metric of `{owner}` already"
            yield _finding(duplicate_metric, place.span, message)
        seen.add(metric.name)


def label_name(view: ModelView) -> Findings:
    """A label's name is not one that Prometheus takes, or is one that it sets itself."""
    for index, metric in enumerate(view.model.metrics):
        for label in metric.labels:
            span = view.places.key("metrics", index, "labels", label)
            if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", label) or label.startswith("__"):
                mend = "letters, digits and underscores, not beginning with a digit or with `__`"
                yield _finding(label_name, span, f"`{label}` is no label name", mend)
            elif label in ("job", "instance", "le", "quantile"):
                message = f"the label `{label}` is set by Prometheus"
                yield _finding(label_name, span, message, "choose another name")


def unknown_model_field(view: ModelView) -> Findings:
    """A metric or `require_one_of` names a field that the model does not have."""
    fields = view.model.fields
    if not view.places.is_table("fields"):
        return
    uses: list[tuple[Path, str, bool]] = []
    for index, metric in enumerate(view.model.metrics):
        uses.append((("metrics", index, "value"), metric.value, False))
        uses += [
            (("metrics", index, "labels", key), name, False) for key, name in metric.labels.items()
        ]
        uses += [(("metrics", index, "when", name), name, True) for name in metric.when]
    for group, names in enumerate(view.model.require_one_of):
        uses += [(("require_one_of", group, at), name, False) for at, name in enumerate(names)]
    for path, name, is_key in uses:
        if view.places.text(*path) and name not in fields:
            span = view.places.key(*path) if is_key else view.places.span(*path)
            message = f"`{view.model.kind}` has no field `{name}`"
            yield _finding(unknown_model_field, span, message, did_you_mean(name, fields))


def value_not_a_number(view: ModelView) -> Findings:
    """A metric's value comes from a field that is no number and no timestamp, or may be absent."""
    for index, metric in enumerate(view.model.metrics):
        field = view.model.fields.get(metric.value)
        if field is None or not _is_typed(view, metric.value):
            continue
        span = view.places.span("metrics", index, "value")
        if field.type not in (FieldType.NUMBER, FieldType.TIMESTAMP):
            message = f"`{metric.value}` is of the type `{field.type}`, which is no number"
            mend = "known: " + ", ".join(_numbers(view))
            yield _finding(value_not_a_number, span, message, mend if _numbers(view) else "")
        elif not field.required:
            message = f"`{metric.value}` is optional, a sample needs a value"
            mend = "take another field, or remove its `required: false`"
            yield _finding(value_not_a_number, span, message, mend)


def _numbers(view: ModelView) -> list[str]:
    """The fields that a metric's value can come from."""
    return [
        name
        for name, field in view.model.fields.items()
        if field.type in (FieldType.NUMBER, FieldType.TIMESTAMP) and field.required
    ]


def _is_typed(view: ModelView, name: str) -> bool:
    """Whether a field's type is one of those that exist, so that more can be said about it."""
    written = view.places.text("fields", name, "type")
    return written is not None and written.value in list(FieldType)


def wrong_limit(view: ModelView) -> Findings:
    """A field declares a limit that its type does not have, or lacks the one that it needs."""
    text = (FieldType.APP, FieldType.TEXT, FieldType.NAMESPACE, FieldType.URL)
    for name, field in view.model.fields.items():
        if not _is_typed(view, name):
            continue
        if field.max_length is not UNSET and field.type not in text:
            span = view.places.key("fields", name, "max_length")
            message = f"the type `{field.type}` takes no `max_length`"
            yield _finding(wrong_limit, span, message, "remove it")
        if field.type is FieldType.CHOICE and not field.choices:
            message = "a `choice` needs its `choices`"
            mend = "list the values: `choices: [created, resolved]`"
            yield _finding(wrong_limit, view.places.key("fields", name), message, mend)
        if field.choices and field.type is not FieldType.CHOICE:
            span = view.places.key("fields", name, "choices")
            message = "`choices` belong to the type `choice`"
            mend = f"remove them, or write `type: choice` for `{field.type}`"
            yield _finding(wrong_limit, span, message, mend)


def wrong_choice(view: ModelView) -> Findings:
    """A metric waits for a value that its field never has."""
    for index, metric in enumerate(view.model.metrics):
        for name, value in metric.when.items():
            field = view.model.fields.get(name)
            place = view.places.text("metrics", index, "when", name)
            if place and field and field.choices and value not in field.choices:
                message = f"`{name}` is never `{value}`"
                yield _finding(
                    wrong_choice, place.span, message, did_you_mean(value, field.choices)
                )


def correlated_kind(view: ModelView) -> Findings:
    """A model replaces a kind that correlation reads and lacks a field that correlation needs."""
    if not view.places.is_table("fields"):
        return
    needed = CORRELATED.get(view.model.kind, frozenset())
    for name in sorted(needed - view.model.fields.keys()):
        message = f"`{view.model.kind}` needs the field `{name}`: correlation reads it"
        yield _finding(correlated_kind, view.places.key("fields"), message)


MAPPING_CHECKS: tuple[Callable[[MappingView], Findings], ...] = (
    expression_syntax,
    unknown_function,
    wrong_arity,
    zero_step,
    unknown_name,
    event_not_declared,
    each_outside_each,
    unknown_param,
    unused_param,
    header_case,
    no_rules,
    duplicate_rule,
    unknown_kind,
    unknown_field,
    field_not_mapped,
    wrong_offset,
    secret_reference,
    weak_algorithm,
    unsigned_body,
)
MODEL_CHECKS: tuple[Callable[[ModelView], Findings], ...] = (
    metric_name,
    duplicate_metric,
    label_name,
    unknown_model_field,
    value_not_a_number,
    wrong_limit,
    wrong_choice,
    correlated_kind,
)
