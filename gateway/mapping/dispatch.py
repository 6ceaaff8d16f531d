"""Which events a rule can apply to: the names that its condition asks for before anything else."""

from collections.abc import Mapping
from typing import Any

Node = Mapping[str, Any]


def event_names(condition: Node) -> frozenset[str] | None:
    """The names of which the event must have one for the condition to hold; None where it may have
    another, or where something is asked before that, which could fail."""
    match condition:
        case {"type": "and_expression", "children": [first, *_]}:
            return event_names(first)
        case {"type": "or_expression", "children": [first, second]}:
            one, other = event_names(first), event_names(second)
            return one | other if one is not None and other is not None else None
        case {"type": "comparator", "value": "eq", "children": [one, other]}:
            return _compared(one, other) or _compared(other, one)
    return None


def _compared(field: Node, literal: Node) -> frozenset[str] | None:
    match field, literal:
        case {"type": "field", "value": "event"}, {"type": "literal", "value": str(name)}:
            return frozenset({name})
    return None
