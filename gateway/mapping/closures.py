"""A parsed expression as plain Python callables: what a delivery costs is paid once, at start-up.

Each kind of node becomes one closure over its children's, so that evaluating an expression walks no
tree and looks up no method. The meaning is the package's interpreter's, node for node.
"""

from collections.abc import Callable, Mapping
from typing import Any

from gateway.mapping import functions

Closure = Callable[[Any], Any]
Node = Mapping[str, Any]

_NUMBERS = (int, float)
_EMPTY = (str, list, dict)
"""Types whose empty values are false."""


def closure(node: Node) -> Closure:
    """The callable of a parsed tree: takes the value that the expression is asked of."""
    return _BUILDERS[node["type"]](node)


def is_false(value: Any) -> bool:
    """JMESPath's own falsehood: nothing, false, and empty text, lists and objects. 0 is true."""
    # Most values are true to Python, too; what is not is looked at.
    return not value and (value is None or value is False or isinstance(value, _EMPTY))


def condition(evaluate: Closure) -> Callable[[Any], bool]:
    """Whether what an expression finds counts as true."""
    return lambda value: not is_false(evaluate(value))


class _Expression:
    """A reference to an expression, as functions such as `sort_by` take it. The package tells it by
    the name of its class."""

    def __init__(self, expression: Closure) -> None:
        self.expression = expression

    @staticmethod
    def visit(expression: Closure, value: Any) -> Any:
        return expression(value)


def _identity(_node: Node) -> Closure:
    return lambda value: value


def _literal(node: Node) -> Closure:
    constant = node["value"]
    return lambda _value: constant


def _field(node: Node) -> Closure:
    name = node["value"]
    return lambda value: value.get(name) if isinstance(value, dict) else None


def _index(node: Node) -> Closure:
    index = node["value"]

    def evaluate(value: Any) -> Any:
        if isinstance(value, list) and -len(value) <= index < len(value):
            return value[index]
        return None

    return evaluate


def _slice(node: Node) -> Closure:
    part = slice(*node["children"])
    return lambda value: value[part] if isinstance(value, list) else None


def _chain(node: Node) -> Closure:
    """Subexpressions, index expressions and pipes: each child is asked of what the last one found."""
    names = _path(node)
    if names is not None:
        return _fields(names)
    steps = [closure(child) for child in node["children"]]
    if len(steps) == 2:
        first, second = steps
        return lambda value: second(first(value))

    def evaluate(value: Any) -> Any:
        for step in steps:
            value = step(value)
        return value

    return evaluate


def _path(node: Node) -> tuple[str, ...] | None:
    """The names of a path that is nothing but fields, `a.b.c`; None for any other node."""
    if node["type"] == "field":
        return (node["value"],)
    if node["type"] != "subexpression":
        return None
    parts = [_path(child) for child in node["children"]]
    if any(part is None for part in parts):
        return None
    return tuple(name for part in parts if part is not None for name in part)


def _fields(names: tuple[str, ...]) -> Closure:
    if len(names) == 2:
        first, second = names

        def of_two(value: Any) -> Any:
            if isinstance(value, dict):
                inner = value.get(first)
                if isinstance(inner, dict):
                    return inner.get(second)
            return None

        return of_two

    def evaluate(value: Any) -> Any:
        for name in names:
            if not isinstance(value, dict):
                return None
            value = value.get(name)
        return value

    return evaluate


def _comparator(node: Node) -> Closure:
    left, right = (closure(child) for child in node["children"])
    constant = _text(node["children"][1])
    match node["value"]:
        # Most comparisons are with a text, which equals nothing but itself.
        case "eq" if constant is not None:
            return lambda value: left(value) == constant
        case "ne" if constant is not None:
            return lambda value: left(value) != constant
        case "eq":
            return lambda value: _equal(left(value), right(value))
        case "ne":
            return lambda value: not _equal(left(value), right(value))
        case operator:
            return _ordering(operator, left, right)


def _text(node: Node) -> str | None:
    """The text that a literal is; None for any other node."""
    is_text = node["type"] == "literal" and isinstance(node["value"], str)
    return node["value"] if is_text else None


def _equal(left: Any, right: Any) -> bool:
    # Python calls 1 and true equal, JMESPath does not; within lists and objects the package does.
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    return bool(left == right)


def _ordering(operator: str, left: Closure, right: Closure) -> Closure:
    compare: Callable[[Any, Any], bool] = {
        "lt": lambda a, b: a < b,
        "lte": lambda a, b: a <= b,
        "gt": lambda a, b: a > b,
        "gte": lambda a, b: a >= b,
    }[operator]

    def evaluate(value: Any) -> Any:
        a, b = left(value), right(value)
        return compare(a, b) if _is_comparable(a) and _is_comparable(b) else None

    return evaluate


def _is_comparable(value: Any) -> bool:
    return isinstance(value, (*_NUMBERS, str)) and not isinstance(value, bool)


def _or(node: Node) -> Closure:
    left, right = (closure(child) for child in node["children"])

    def evaluate(value: Any) -> Any:
        found = left(value)
        return found if found or not is_false(found) else right(value)

    return evaluate


def _and(node: Node) -> Closure:
    left, right = (closure(child) for child in node["children"])

    def evaluate(value: Any) -> Any:
        found = left(value)
        return right(value) if found or not is_false(found) else found

    return evaluate


def _not(node: Node) -> Closure:
    inner = closure(node["children"][0])
    return lambda value: is_false(inner(value))


def _projection(node: Node) -> Closure:
    base, each = closure(node["children"][0]), closure(node["children"][1])

    def evaluate(value: Any) -> Any:
        items = base(value)
        if not isinstance(items, list):
            return None
        return [found for item in items if (found := each(item)) is not None]

    return evaluate


def _value_projection(node: Node) -> Closure:
    base, each = closure(node["children"][0]), closure(node["children"][1])

    def evaluate(value: Any) -> Any:
        items = base(value)
        if not isinstance(items, dict):
            return None
        return [found for item in items.values() if (found := each(item)) is not None]

    return evaluate


def _filter_projection(node: Node) -> Closure:
    base, each, condition = (closure(child) for child in node["children"])

    def evaluate(value: Any) -> Any:
        items = base(value)
        if not isinstance(items, list):
            return None
        return [
            found
            for item in items
            if not is_false(condition(item)) and (found := each(item)) is not None
        ]

    return evaluate


def _flatten(node: Node) -> Closure:
    base = closure(node["children"][0])

    def evaluate(value: Any) -> Any:
        items = base(value)
        if not isinstance(items, list):
            return None
        flat: list[Any] = []
        for item in items:
            if isinstance(item, list):
                flat.extend(item)
            else:
                flat.append(item)
        return flat

    return evaluate


def _multi_select_list(node: Node) -> Closure:
    parts = [closure(child) for child in node["children"]]
    return lambda value: None if value is None else [part(value) for part in parts]


def _multi_select_dict(node: Node) -> Closure:
    parts = [(child["value"], closure(child["children"][0])) for child in node["children"]]
    return lambda value: None if value is None else {key: part(value) for key, part in parts}


def _reference(node: Node) -> Closure:
    expression = _Expression(closure(node["children"][0]))
    return lambda _value: expression


def _function(node: Node) -> Closure:
    name = node["value"]
    arguments = [closure(child) for child in node["children"]]
    direct = functions.direct(name, len(arguments))
    if direct is None:
        call = functions.LIBRARY.call_function
        return lambda value: call(name, [argument(value) for argument in arguments])
    if len(arguments) == 1:
        (only,) = arguments
        return lambda value: direct(only(value))
    if len(arguments) == 2:
        first, second = arguments
        return lambda value: direct(first(value), second(value))
    return lambda value: direct(*[argument(value) for argument in arguments])


_BUILDERS: dict[str, Callable[[Node], Closure]] = {
    "and_expression": _and,
    "comparator": _comparator,
    "current": _identity,
    "expref": _reference,
    "field": _field,
    "filter_projection": _filter_projection,
    "flatten": _flatten,
    "function_expression": _function,
    "identity": _identity,
    "index": _index,
    "index_expression": _chain,
    "literal": _literal,
    "multi_select_dict": _multi_select_dict,
    "multi_select_list": _multi_select_list,
    "not_expression": _not,
    "or_expression": _or,
    "pipe": _chain,
    "projection": _projection,
    "slice": _slice,
    "subexpression": _chain,
    "value_projection": _value_projection,
}
