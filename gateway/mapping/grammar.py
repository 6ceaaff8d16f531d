"""What an author writes in a mapping, a model file or a table of apps, as types: nothing here is compiled.

The shape check, the JSON Schemas for editors and the reference pages all come from these types.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.authentication import Scheme
from gateway.fieldtype import MAX_TEXT_LENGTH, FieldType

Expression = Annotated[str, Meta(description="A JMESPath expression.", examples=["body.ref"])]
ParameterValue = list[str] | str | bool | int | float


class MappedField(Struct, frozen=True, forbid_unknown_fields=True):
    """A field in its long form."""

    value: Annotated[Expression, Meta(description="The expression that finds the value.")]
    offset: Annotated[
        str,
        Meta(
            description="The offset from UTC of times that carry none, such as `+02:00` or `UTC`."
        ),
    ] = ""


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When something holds of a delivery, it yields events of one kind."""

    name: Annotated[str, Meta(min_length=1, max_length=120, description="A sentence, unique here.")]
    emit: Annotated[str, Meta(description="The kind of event, as a model names it.")]
    fields: Annotated[
        dict[str, Expression | MappedField], Meta(description="An expression for each field.")
    ]
    when: Annotated[
        Expression | UnsetType,
        Meta(
            description="The rule applies where this holds; always, where it is left out. In a rule "
            "with `each`, it may read `each` and is then asked of every item."
        ),
    ] = UNSET
    each: Annotated[
        Expression | UnsetType,
        Meta(
            description="A list; the rule yields one event per item, which it reads as `each`. Where "
            "nothing is found, there are no items."
        ),
    ] = UNSET


class Handshake(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a sender wants to be answered before it sends, such as by a challenge or a subscription."""

    when: Annotated[Expression, Meta(description="Where this holds, the delivery is a handshake.")]
    answer: Annotated[
        Expression | UnsetType,
        Meta(description="What is answered: text as it is, anything else as JSON."),
    ] = UNSET
    visit: Annotated[
        Expression | UnsetType,
        Meta(
            description="A URL that is visited to confirm, by GET; never more than its host allows."
        ),
    ] = UNSET
    hosts: Annotated[
        list[Annotated[str, Meta(pattern=r"^[A-Za-z0-9*-]+(\.[A-Za-z0-9*-]+)+$")]],
        Meta(
            description="The hosts that may be visited, over HTTPS; `*` stands for anything but a dot, such "
            "as `sns.*.example.com`."
        ),
    ] = []


class Mapping(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the deliveries of one source become events."""

    source: Annotated[
        str,
        Meta(
            pattern="^[a-z][a-z0-9-]{0,62}$",
            description="The name in the URL, `/hooks/<source>`: lower case, digits, hyphens.",
        ),
    ]
    authenticate: Annotated[
        Literal["none"] | Scheme,
        Meta(description="How the sender proves itself; `none` serves everyone."),
    ]
    rules: Annotated[list[Rule], Meta(description="All rules that apply to a delivery are used.")]
    allow_from: Annotated[
        list[str],
        Meta(
            description="Networks such as `192.0.2.0/24`, or addresses, from which alone deliveries come; "
            "besides the proof, not in its place. Everyone, where it is left out."
        ),
    ] = []
    title: Annotated[str, Meta(max_length=120, description="The system's name for people.")] = ""
    extends: Annotated[
        str,
        Meta(
            description="Another source whose mapping this one starts from. Keys given here replace "
            "its keys; params are merged by name; a rule replaces the rule of the same name. The title "
            "is not inherited."
        ),
    ] = ""
    without_rules: Annotated[
        list[str],
        Meta(
            description="Names of rules that are not inherited; only in a mapping that extends "
            "another."
        ),
    ] = []
    delivery_id: Annotated[
        Expression | UnsetType,
        Meta(
            description="What identifies a delivery, the same when it is sent again. Without it, only "
            "known events tell a duplicate."
        ),
    ] = UNSET
    event: Annotated[
        Expression | UnsetType,
        Meta(description="The sender's name for what happened; the rules read it as `event`."),
    ] = UNSET
    params: Annotated[
        dict[str, ParameterValue],
        Meta(description="Values that the rules read as `params.<name>` and that users override."),
    ] = {}
    handshakes: Annotated[
        list[Handshake],
        Meta(
            description="Answers that the sender waits for; such a delivery is ignored by the rules."
        ),
    ] = []
    media_types: Annotated[
        list[Annotated[str, Meta(pattern="^[a-z]+/[a-z0-9.+-]+$")]],
        Meta(
            description="Content types that hold JSON, besides those that say so, such as `text/plain`."
        ),
    ] = []
    on_invalid: Annotated[
        Literal["keep", "reject"],
        Meta(
            description="A delivery that a rule cannot map is kept either way; `keep` answers 202, "
            "`reject` answers 422 to tell the sender."
        ),
    ] = "keep"


class ModelField(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field of a kind."""

    type: Annotated[FieldType, Meta(description="What the field takes and what it becomes.")]
    required: Annotated[bool, Meta(description="Whether an event needs it.")] = True
    description: Annotated[str, Meta(description="What it is, for people.")] = ""
    max_length: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_TEXT_LENGTH)] | UnsetType,
        Meta(description="Characters, for the types that are text."),
    ] = UNSET
    choices: Annotated[list[str], Meta(description="The values that a `choice` takes.")] = []


class Metric(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gauge that events of a kind feed."""

    name: Annotated[str, Meta(description="The metric's name in Prometheus.")]
    help: Annotated[str, Meta(min_length=1, max_length=200, description="The metric's help text.")]
    value: Annotated[str, Meta(description="The field that is the sample's value.")]
    labels: Annotated[dict[str, str], Meta(description="Label names, each with its field.")]
    when: Annotated[
        dict[str, str], Meta(description="Field values that an event must have to feed it.")
    ] = {}


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kind of event."""

    kind: Annotated[
        str,
        Meta(
            pattern="^[a-z][a-z0-9_]{0,62}$",
            description="The kind's name, as rules emit it: lower case, digits, underscores.",
        ),
    ]
    fields: Annotated[dict[str, ModelField], Meta(description="The fields of such an event.")]
    title: Annotated[str, Meta(max_length=120, description="The kind's name for people.")] = ""
    require_one_of: Annotated[
        list[list[str]], Meta(description="Of each list, an event needs at least one field.")
    ] = []
    metrics: Annotated[list[Metric], Meta(description="The metrics that such events feed.")] = []


class App(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An app, and what sources call it."""

    app: Annotated[str, Meta(description="The app's own name, as the series show it.")]
    team: Annotated[str, Meta(description="Whose app it is, for `gateway_app_info`.")] = ""
    names: Annotated[
        dict[str, list[str] | str],
        Meta(
            description="For each source, the name that it gives the app, or a list of them. A source "
            "that calls the app by its own name need not be listed."
        ),
    ] = {}


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Apps that sources call by different names."""

    apps: Annotated[list[App], Meta(description="The apps.")]
