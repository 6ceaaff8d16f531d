"""A kind of event at run time: its fields and the metrics it feeds."""

from collections.abc import Mapping
from datetime import timezone
from typing import Any

from msgspec import Struct

from gateway.delivery import Reason
from gateway.event import Event, FieldValue
from gateway.fieldtype import FieldError, FieldType, Read


class Field(Struct, frozen=True, kw_only=True):
    name: str
    type: FieldType
    required: bool
    read: Read

    def value(self, raw: Any, offset: timezone | None) -> FieldValue | None:
        """The field's value of a raw one, None where it is absent. Raises FieldError."""
        if raw is None or (raw == "" and not self.required):
            if self.required:
                raise FieldError("required, but its expression found nothing")
            return None
        return self.read(raw, offset)


class Metric(Struct, frozen=True, kw_only=True):
    """A gauge: `labels` maps label names to fields, `value` names the field that is its value, and
    `when` the field values that an event must have to feed it."""

    name: str
    help: str
    value: str
    labels: Mapping[str, str]
    when: Mapping[str, str]


class Model(Struct, frozen=True, kw_only=True):
    """A compiled model file."""

    kind: str
    title: str
    fields: Mapping[str, Field]
    require_one_of: tuple[tuple[str, ...], ...]
    metrics: tuple[Metric, ...]

    def metric_of(self, event: Event) -> Metric | None:
        """The metric that an event of this kind feeds, if any."""
        for metric in self.metrics:
            if all(event.fields.get(name) == value for name, value in metric.when.items()):
                return metric
        return None

    def read(
        self,
        raw: Mapping[str, Any],
        offsets: Mapping[str, timezone],
        rule: str,
    ) -> Event | list[Reason]:
        """An event of raw values by field name, or every reason why they are none.

        Null and a missing value are the same: absent. So is empty text where a field is optional,
        because that is how many systems spell "none".
        """
        fields: dict[str, FieldValue] = {}
        reasons: list[Reason] = []
        for name, field in self.fields.items():
            try:
                value = field.value(raw.get(name), offsets.get(name))
            except FieldError as error:
                reasons.append(Reason(str(error), rule, name))
            else:
                if value is not None:
                    fields[name] = value
        if not reasons:
            reasons = [
                Reason(f"one of {', '.join(group)} is required, but none was found", rule)
                for group in self.require_one_of
                if not any(name in fields for name in group)
            ]
        return reasons or Event(self.kind, fields)
