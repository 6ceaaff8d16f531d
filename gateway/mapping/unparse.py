"""A parsed expression as text again, in one spelling: for a part of one, which has no text of its own."""

import json
import re
from collections.abc import Mapping
from typing import Any

Node = Mapping[str, Any]

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_STRENGTH = {"expref": 0, "pipe": 1, "or_expression": 2, "and_expression": 3, "comparator": 5}
_OPERATORS = {"pipe": "|", "or_expression": "||", "and_expression": "&&"}
_TIGHT = 8
"""Above every operator between two operands: what negates, and what reads on."""
_PROJECTIONS = ("projection", "filter_projection", "value_projection")


def unparse(node: Node) -> str:
    """The expression of a tree; parsed again, it gives the same tree."""
    return _text(node) or "@"


def _text(node: Node) -> str:
    kind, children = node["type"], node["children"]
    match kind:
        case "literal":
            return _literal(node["value"])
        case "current":
            return "@"
        case "not_expression":
            return "!" + _operand(children[0], _TIGHT)
        case "expref":
            return "&" + unparse(children[0])
        case "comparator":
            return _binary(node, _SIGNS[node["value"]])
        case "pipe" | "or_expression" | "and_expression":
            return _binary(node, _OPERATORS[kind])
        case "key_val_pair":
            return f"{spelled(node['value'])}: {unparse(children[0])}"
    return _path(node, reads_on=False)


def _binary(node: Node, sign: str) -> str:
    strength = _STRENGTH[node["type"]]
    left, right = node["children"]
    # Operators of one strength gather from the left.
    return f"{_operand(left, strength)} {sign} {_operand(right, strength + 1)}"


def _operand(node: Node, strength: int) -> str:
    text = unparse(node)
    return f"({text})" if _STRENGTH.get(node["type"], _TIGHT) < strength else text


def _path(node: Node, *, reads_on: bool) -> str:
    """The text of what reads on from a value; `reads_on` where the value stands before it."""
    kind, children = node["type"], node["children"]
    dot = "." if reads_on else ""
    match kind:
        case "identity":
            return ""
        case "field":
            return dot + spelled(node["value"])
        case "multi_select_list":
            return f"{dot}[{', '.join(unparse(child) for child in children)}]"
        case "multi_select_dict":
            return f"{dot}{{{', '.join(_text(child) for child in children)}}}"
        case "function_expression":
            return f"{dot}{node['value']}({', '.join(unparse(child) for child in children)})"
        case "index":
            return f"[{node['value']}]"
        case "slice":
            start, stop, step = ("" if part is None else str(part) for part in children)
            return f"[{start}:{stop}:{step}]" if step else f"[{start}:{stop}]"
        case "subexpression" | "index_expression":
            first, *rest = children
            from_it = _base if kind == "subexpression" else _indexed
            steps = "".join(_path(child, reads_on=True) for child in rest)
            return from_it(first, reads_on=reads_on) + steps
        case "flatten":
            # It ends a projection before it, so that one needs no parentheses.
            inner = children[0]
            if inner["type"] in _PROJECTIONS:
                return f"{_path(inner, reads_on=reads_on)}[]"
            return f"{_base(inner, reads_on=reads_on)}[]"
        case "projection":
            base, each = children
            if base["type"] == "flatten" or _is_sliced(base):
                return _path(base, reads_on=reads_on) + _path(each, reads_on=True)
            return f"{_indexed(base, reads_on=reads_on)}[*]{_path(each, reads_on=True)}"
        case "filter_projection":
            base, each, condition = children
            before, after = _base(base, reads_on=reads_on), _path(each, reads_on=True)
            return f"{before}[?{unparse(condition)}]{after}"
        case "value_projection":
            before = _base(children[0], reads_on=reads_on)
            star = ".*" if before or reads_on else "*"
            return f"{before}{star}{_path(children[1], reads_on=True)}"
    text = unparse(node)
    return f"({text})" if kind in _STRENGTH or kind == "not_expression" else text


def _is_sliced(node: Node) -> bool:
    """Whether it is a slice that projects by itself. One right behind an index does not."""
    if node["type"] != "index_expression":
        return False
    _, *steps = node["children"]
    return len(steps) == 1 and steps[0]["type"] == "slice"


def _base(node: Node, *, reads_on: bool) -> str:
    """What is read on from: a projection in parentheses, or it would go on itself.

    Behind a value nothing stands in parentheses. There one that is read on from has ended by itself, as
    `[?b].{c: d}` does before `[0]` in `a[][?b].{c: d}[0]`.
    """
    text = _path(node, reads_on=reads_on)
    return f"({text})" if node["type"] in _PROJECTIONS and not reads_on else text


def _indexed(node: Node, *, reads_on: bool) -> str:
    """The same before an index, a slice or `[*]`, which belong to the last name before them alone: in
    `a.b[0]` to `b`, in `(a.b)[0]` to both."""
    text = _base(node, reads_on=reads_on)
    return f"({text})" if node["type"] == "subexpression" and not reads_on else text


def spelled(name: str) -> str:
    """A name as an expression writes it: between quotes where it needs them."""
    return name if _PLAIN_NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _literal(value: Any) -> str:
    if isinstance(value, str) and "\\" not in value:
        return "'" + value.replace("'", "\\'") + "'"
    return "`" + json.dumps(value, ensure_ascii=False).replace("`", "\\`") + "`"
