"""The checks of models: their fields, their limits and the metrics that they feed."""

import re
from collections.abc import Mapping

from msgspec import UNSET

from gateway.diagnostic import did_you_mean
from gateway.event import BUILD, COMMIT, DEPLOYMENT, FAILURE
from gateway.fieldtype import DEFAULT_TEXT_LENGTH, FieldType
from gateway.mapping.checks.view import Findings, ModelView, finding, warning
from gateway.mapping.grammar import ModelField
from gateway.mapping.shape import Path

CORRELATED: Mapping[str, frozenset[str]] = {
    COMMIT: frozenset({"app", "commit", "timestamp"}),
    BUILD: frozenset({"app", "commit", "image_sha"}),
    DEPLOYMENT: frozenset({"app", "timestamp", "image_sha", "commit"}),
    FAILURE: frozenset({"app", "event", "issue_number", "timestamp"}),
}
"""Fields that correlation reads from the kinds it knows by name."""

OWN_PREFIXES = ("gateway_", "python_", "process_")


def metric_name(view: ModelView) -> Findings:
    """A metric's name is not one that Prometheus takes, or belongs to the gateway itself."""
    for index, metric in enumerate(view.model.metrics):
        place = view.places.text("metrics", index, "name")
        if place is None:
            continue
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", metric.name):
            mend = "letters, digits and underscores, not beginning with a digit"
            yield finding(metric_name, place.span, f"`{metric.name}` is no metric name", mend)
        elif metric.name.startswith(OWN_PREFIXES):
            message = f"`{metric.name}` begins like a metric of the gateway itself"
            yield finding(metric_name, place.span, message, "choose another prefix")


def duplicate_metric(view: ModelView) -> Findings:
    """Two metrics have the same name; a scrape can hold one family of a name only."""
    seen: set[str] = set()
    for index, metric in enumerate(view.model.metrics):
        place = view.places.text("metrics", index, "name")
        if place is not None and (metric.name in seen or metric.name in view.metrics):
            owner = view.metrics.get(metric.name, view.model.kind)
            message = f"`{metric.name}` is a metric of `{owner}` already"
            yield finding(duplicate_metric, place.span, message)
        seen.add(metric.name)


def label_name(view: ModelView) -> Findings:
    """A label's name is not one that Prometheus takes, or is one that it sets itself."""
    for index, metric in enumerate(view.model.metrics):
        for label in metric.labels:
            span = view.places.key("metrics", index, "labels", label)
            if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", label) or label.startswith("__"):
                mend = "letters, digits and underscores, not beginning with a digit or with `__`"
                yield finding(label_name, span, f"`{label}` is no label name", mend)
            elif label in ("job", "instance", "le", "quantile"):
                message = f"the label `{label}` is set by Prometheus"
                yield finding(label_name, span, message, "choose another name")


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
            yield finding(unknown_model_field, span, message, did_you_mean(name, fields))


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
            yield finding(value_not_a_number, span, message, mend if _numbers(view) else "")
        elif not field.required:
            message = f"`{metric.value}` is optional, a sample needs a value"
            mend = "take another field, or remove its `required: false`"
            yield finding(value_not_a_number, span, message, mend)


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
            yield finding(wrong_limit, span, message, "remove it")
        if field.type is FieldType.CHOICE and not field.choices:
            message = "a `choice` needs its `choices`"
            mend = "list the values: `choices: [created, resolved]`"
            yield finding(wrong_limit, view.places.key("fields", name), message, mend)
        if field.choices and field.type is not FieldType.CHOICE:
            span = view.places.key("fields", name, "choices")
            message = "`choices` belong to the type `choice`"
            mend = f"remove them, or write `type: choice` for `{field.type}`"
            yield finding(wrong_limit, span, message, mend)


def wrong_choice(view: ModelView) -> Findings:
    """A metric waits for a value that its field never has."""
    for index, metric in enumerate(view.model.metrics):
        for name, value in metric.when.items():
            field = view.model.fields.get(name)
            place = view.places.text("metrics", index, "when", name)
            if place and field and field.choices and value not in field.choices:
                message = f"`{name}` is never `{value}`"
                yield finding(wrong_choice, place.span, message, did_you_mean(value, field.choices))


def correlated_kind(view: ModelView) -> Findings:
    """A model replaces a kind that correlation reads and lacks a field that correlation needs."""
    if not view.places.is_table("fields"):
        return
    needed = CORRELATED.get(view.model.kind, frozenset())
    for name in sorted(needed - view.model.fields.keys()):
        message = f"`{view.model.kind}` needs the field `{name}`: correlation reads it"
        yield finding(correlated_kind, view.places.key("fields"), message)


def unbounded_label(view: ModelView) -> Findings:
    """A label takes a time, a number or long text, so each event makes a series of its own, and none of
    them can be asked for by that label.

    A label that names what the event is about is fine, even where each event has its own: a commit, a
    digest, a link, an id. A series lasts only as long as its event is shown, so their number is that of
    the events in the window. A time or a measured number names nothing: it is a metric's value. Text of
    more than 200 characters is a message, not a name.
    """
    for index, metric in enumerate(view.model.metrics):
        for label, name in metric.labels.items():
            field = view.model.fields.get(name)
            if field is None or not _is_typed(view, name):
                continue
            span = view.places.span("metrics", index, "labels", label)
            if field.type in (FieldType.TIMESTAMP, FieldType.NUMBER):
                message = f"the label `{label}` makes a series for each `{field.type}`"
                mend = "make it the metric's `value`; an id that is a number is a `text`"
                yield warning(unbounded_label, span, message, mend)
            elif field.type is FieldType.TEXT and _length(field) > DEFAULT_TEXT_LENGTH:
                message = f"the label `{label}` takes {field.max_length} characters of any text"
                mend = f"give `{name}` a `max_length` of {DEFAULT_TEXT_LENGTH} or less"
                yield warning(unbounded_label, span, message, mend)


def _length(field: ModelField) -> int:
    return field.max_length if isinstance(field.max_length, int) else DEFAULT_TEXT_LENGTH


CHECKS = (
    metric_name,
    duplicate_metric,
    label_name,
    unbounded_label,
    unknown_model_field,
    value_not_a_number,
    wrong_limit,
    wrong_choice,
    correlated_kind,
)
