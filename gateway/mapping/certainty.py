"""What is certain of an expression whatever the delivery: its constants, the types it comes to."""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.mapping import closures, functions
from gateway.mapping.functions.entry import PYTHON_TYPES, NotLiteral

Node = Mapping[str, Any]
Types = frozenset[str]

ANYTHING: Types = frozenset(PYTHON_TYPES)
_NULL: Types = frozenset({"null"})
_CHAINS = ("subexpression", "index_expression", "pipe")
_PROJECTIONS = ("projection", "value_projection", "filter_projection", "flatten")


def type_of(value: Any) -> str:
    """JMESPath's name for the type of a JSON value."""
    return next(name for name, types in PYTHON_TYPES.items() if type(value) in types)


def constant(node: Node, *, present: bool = True) -> Any:
    """The value of an expression that reads nothing of a delivery; NotLiteral where it reads
    something, or fails. `present` says that what it is asked of is not null."""
    if node["type"] == "expref":
        return NotLiteral.REFERENCE
    if not _is_constant(node, present=present):
        return NotLiteral.VALUE
    try:
        return closures.closure(node)({})
    except Exception:  # noqa: BLE001  # Whatever an expression raises; the call is a mistake of its own.
        return NotLiteral.VALUE


def _is_constant(node: Node, *, present: bool) -> bool:
    kind, children = node["type"], node["children"]
    if kind in ("literal", "expref"):
        return True
    if kind in (*_CHAINS, *_PROJECTIONS):
        # The rest is asked of what the first one finds.
        return _is_constant(children[0], present=present)
    if kind in ("field", "current", "identity", "index", "slice"):
        return False
    if kind in ("multi_select_list", "multi_select_dict") and not present:
        return False
    return all(_is_constant(child, present=present) for child in children)


def types(node: Node, *, present: bool = True) -> Types:
    """The types that the result of an expression can have. `present` says that what it is asked of
    is certainly not null."""
    children = node["children"]
    match node["type"]:
        case "literal":
            return frozenset({type_of(node["value"])})
        case "comparator":
            is_equality = node["value"] in ("eq", "ne")
            return frozenset({"boolean"} if is_equality else {"boolean", "null"})
        case "not_expression":
            return frozenset({"boolean"})
        case "and_expression":
            left, right = (types(child, present=present) for child in children)
            # A number is never false, so the right side is what is found after one.
            return (left - {"number"}) | right
        case "or_expression":
            left, right = (types(child, present=present) for child in children)
            return left if left == {"number"} else (left - _NULL) | right
        case "subexpression" | "index_expression" | "pipe":
            return types(children[-1], present=False)
        case "multi_select_list":
            return frozenset({"array"}) if present else frozenset({"array", "null"})
        case "multi_select_dict":
            return frozenset({"object"}) if present else frozenset({"object", "null"})
        case "projection" | "value_projection" | "filter_projection" | "flatten" | "slice":
            return frozenset({"array", "null"})
        case "function_expression":
            return _returned(node, present=present)
    return ANYTHING


def _returned(node: Node, *, present: bool) -> Types:
    name = node["value"]
    if name == "not_null":
        found = [types(child, present=present) for child in node["children"]]
        return frozenset[str]().union(*(one - _NULL for one in found)) | _NULL
    signature = functions.SIGNATURES.get(name)
    words = signature.returns.split("|") if signature else []
    named = {word.partition("[")[0] for word in words}
    return frozenset(named) if named and named <= ANYTHING else ANYTHING


def endings(node: Node) -> Iterator[Node]:
    """The literals that an expression may come to."""
    kind, children = node["type"], node["children"]
    if kind == "literal":
        yield node
    elif kind == "or_expression":
        yield from (one for one in endings(children[0]) if not closures.is_false(one["value"]))
        yield from endings(children[1])
    elif kind in ("and_expression", "pipe"):
        yield from endings(children[-1])
    elif kind == "function_expression" and node["value"] == "not_null":
        for child in children:
            yield from (one for one in endings(child) if one["value"] is not None)
