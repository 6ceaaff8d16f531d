"""The checks of conditions: what never holds, and what always does."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any

from msgspec import Struct

from gateway.mapping import certainty, closures
from gateway.mapping.certainty import Types
from gateway.mapping.checks.values import shown
from gateway.mapping.checks.view import Findings, MappingView, code, finding, warning
from gateway.mapping.expression import Expression
from gateway.mapping.extent import Extents
from gateway.mapping.functions.entry import NotLiteral
from gateway.mapping.shape import Path
from gateway.mapping.unparse import unparse

Node = Mapping[str, Any]

MAX_ALTERNATIVES = 16
"""Ways in which a condition can hold; of one with more, nothing is said."""
MAX_TESTS = 24
"""Tests that hold together in one way; the same."""


class Test(Struct, frozen=True):
    """One thing that a condition asks of a value. `key` is the expression of the value, `types` what
    it can be; `holds` asks a value that it may be; `node` is the condition, which stands there with a
    `!` before it unless `is_plain`."""

    key: str
    types: Types
    word: str
    operand: Any
    wanted: bool
    node: Node
    is_plain: bool

    def holds(self, value: Any) -> bool:
        return _ASKED[self.word](value, self.operand) == self.wanted

    @property
    def text(self) -> str:
        text = unparse(self.node)
        if self.is_plain:
            return text
        return f"!({text})" if self.node["type"] == "comparator" else f"!{text}"


Tests = tuple[Test, ...]


def never_holds(view: MappingView) -> Findings:
    """A condition, or a part of one, that no delivery can meet: a value that would have to be two
    things at once, a number that is compared with text, a number that would have to be false.

    A rule of which `when` never holds is lost: its deliveries are ignored.
    """
    for path, expression, node in _conditions(view):
        for found in pieces(node, present=node is expression.tree):
            if not found.always:
                extent = Extents(expression.text, expression.tree).of(_culprit(found))
                span = view.places.within(path, extent.offset, extent.width)
                yield finding(never_holds, span, *_never(found))


def always_holds(view: MappingView) -> Findings:
    """A condition, or a part of one, that every delivery meets, so it asks nothing: a value that is not
    one thing *or* not another, text alone, a number (which counts as true, 0 too).
    """
    for path, expression, node in _conditions(view):
        for found in pieces(node, present=node is expression.tree):
            if found.always:
                extent = Extents(expression.text, expression.tree).of(_culprit(found))
                span = view.places.within(path, extent.offset, extent.width)
                yield warning(always_holds, span, *_always(found, node))


def _conditions(view: MappingView) -> Iterator[tuple[Path, Expression, Node]]:
    """Each `when`, and the condition of each filter."""
    for path, expression in view.expressions.items():
        if path[0] == "rules" and path[2] == "when":
            yield path, expression, expression.tree
        for node in _filters(expression.tree):
            yield path, expression, node


def _filters(node: Any) -> Iterator[Node]:
    if isinstance(node, Mapping):
        if node["type"] == "filter_projection":
            yield node["children"][2]
        for child in node["children"]:
            yield from _filters(child)


# Pieces of a condition


class Piece(Struct, frozen=True):
    """A part of a condition that always or never holds, and the tests that make it so; none of them
    where it is a constant."""

    node: Node
    always: bool
    tests: Tests


class _Whole(Struct, frozen=True):
    """A condition whose parts are looked at: whether what it is asked of is certainly not null, and
    the ways of the parts that were looked at before."""

    present: bool
    ways: dict[tuple[int, bool, bool], list[Tests] | None]


def pieces(condition: Node, *, present: bool) -> Iterator[Piece]:
    """The smallest parts of a condition that always or never hold. `present` says that what it is
    asked of is certainly not null."""
    return _pieces(condition, _Whole(present, {}))


def _pieces(node: Node, whole: _Whole) -> Iterator[Piece]:
    children = node["children"] if node["type"] in _JUNCTIONS else []
    for always in (False, True):
        tests = _impossible(node, whole, wanted=not always)
        if tests is None:
            continue
        each = "and_expression" if always else "or_expression"
        if children and (not tests or node["type"] == each):
            # A constant part decides the whole, or each part is to blame.
            break
        yield Piece(node, always, tests)
        return
    for child in children:
        if not _is_default(node, child):
            yield from _pieces(child, whole)


_JUNCTIONS = ("and_expression", "or_expression", "not_expression")


def _is_default(parent: Node, child: Node) -> bool:
    """Whether it says what counts where nothing is found: `body.draft || `false``."""
    if parent["type"] != "or_expression" or child is not parent["children"][1]:
        return False
    value = certainty.constant(child)
    return not isinstance(value, NotLiteral) and closures.is_false(value)


def _impossible(node: Node, whole: _Whole, *, wanted: bool) -> Tests | None:
    """The tests because of which a condition cannot be as wanted, or None where it can."""
    ways = _ways(node, whole, wanted=wanted, plain=True)
    if ways is None:
        return None
    blamed: Tests = ()
    for way in ways:
        found = _contradiction(way)
        if found is None:
            return None
        blamed = blamed or found
    return blamed


def _ways(node: Node, whole: _Whole, *, wanted: bool, plain: bool) -> list[Tests] | None:
    """Every way in which a condition comes to be as wanted, each as the tests that must hold
    together; None where there are too many."""
    key = (id(node), wanted, plain)
    if key not in whole.ways:
        whole.ways[key] = _ways_anew(node, whole, wanted=wanted, plain=plain)
    return whole.ways[key]


def _ways_anew(node: Node, whole: _Whole, *, wanted: bool, plain: bool) -> list[Tests] | None:
    kind, children = node["type"], node["children"]
    if kind == "not_expression":
        return _ways(children[0], whole, wanted=not wanted, plain=not plain)
    if kind not in _JUNCTIONS:
        value = certainty.constant(node, present=whole.present)
        if not isinstance(value, NotLiteral):
            return [()] if closures.is_false(value) is not wanted else []
        return [(_test(node, wanted=wanted, plain=plain, present=whole.present),)]
    left = _ways(children[0], whole, wanted=wanted, plain=plain)
    right = _ways(children[1], whole, wanted=wanted, plain=plain)
    if left is None or right is None:
        return None
    if (kind == "and_expression") is wanted:
        if len(left) * len(right) > MAX_ALTERNATIVES:
            return None
        together = [(*one, *other) for one, other in product(left, right)]
        return together if all(len(way) <= MAX_TESTS for way in together) else None
    return [*left, *right] if len(left) + len(right) <= MAX_ALTERNATIVES else None


def _test(node: Node, *, wanted: bool, plain: bool, present: bool) -> Test:
    subject, word, operand = node, "true", None
    name = str(node.get("value"))
    children = node["children"]
    # A function that is given nothing instead of its constants fails, and then nothing holds.
    certain = present or node["type"] == "function_expression"
    constants = [certainty.constant(child, present=certain) for child in children]
    known = [not isinstance(value, NotLiteral) for value in constants]
    match node["type"], name:
        case "comparator", _ if True in known and False in known:
            at = known.index(False)
            subject, operand = children[at], constants[1 - at]
            word = _MIRRORED.get(name, name) if at else name
        case "comparator", "ne":
            subject, wanted = {**node, "value": "eq"}, not wanted
        case "function_expression", "contains" if known == [True, False]:
            if isinstance(constants[0], list) and all(isinstance(one, str) for one in constants[0]):
                subject, word, operand = children[1], "in", constants[0]
        case "function_expression", ("starts_with" | "ends_with") if known == [False, True]:
            if isinstance(constants[1], str):
                subject, word, operand = children[0], name, constants[1]
    if word == "ne":
        word, wanted = "eq", not wanted
    return Test(
        key=unparse(subject),
        types=certainty.types(subject, present=False),
        word=word,
        operand=operand,
        wanted=wanted,
        node=node,
        is_plain=plain,
    )


_MIRRORED = {"lt": "gt", "gt": "lt", "lte": "gte", "gte": "lte"}


def _same(value: Any, other: Any) -> bool:
    return isinstance(value, bool) is isinstance(other, bool) and bool(value == other)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def asked(value: Any, operand: Any) -> bool:
        numbers = [one for one in (value, operand) if certainty.type_of(one) == "number"]
        # Of what is no number there is no order that is certain.
        return len(numbers) == 2 and compare(value, operand)

    return asked


_ASKED: Mapping[str, Callable[[Any, Any], bool]] = {
    "true": lambda value, _: not closures.is_false(value),
    "eq": _same,
    "in": lambda value, operand: value in operand,
    "starts_with": lambda value, operand: isinstance(value, str) and value.startswith(operand),
    "ends_with": lambda value, operand: isinstance(value, str) and value.endswith(operand),
    "lt": _ordered(lambda value, operand: value < operand),
    "lte": _ordered(lambda value, operand: value <= operand),
    "gt": _ordered(lambda value, operand: value > operand),
    "gte": _ordered(lambda value, operand: value >= operand),
}


# What cannot be together


def _contradiction(tests: Tests) -> Tests | None:
    """The fewest tests that cannot hold together."""
    if not tests:
        return None
    by_key: dict[str, list[Test]] = {}
    for test in tests:
        by_key.setdefault(test.key, []).append(test)
    for size in (1, 2):
        for group in by_key.values():
            for few in combinations(group, size):
                if _is_impossible(few):
                    return few
    for group in by_key.values():
        if _is_impossible(group):
            return tuple(group)
    return None


def _is_impossible(tests: Sequence[Test]) -> bool:
    """Whether no value meets all tests of one value."""
    candidates = _candidates(tests)
    if candidates is not None:
        return not any(all(test.holds(value) for test in tests) for value in candidates)
    wanted = {test.wanted for test in tests if test.word == "true"}
    if wanted == {True, False} or (wanted == {False} and tests[0].types == {"number"}):
        return True
    begins = [test for test in tests if test.word == "starts_with"]
    ends = [test for test in tests if test.word == "ends_with"]
    if False in wanted and any(test.wanted and test.operand for test in (*begins, *ends)):
        return True
    if _clash(begins, str.startswith) or _clash(ends, str.endswith):
        return True
    return _is_empty_range([test for test in tests if test.wanted])


def _candidates(tests: Sequence[Test]) -> list[Any] | None:
    """The only values that can meet the tests, or None where they are not so few."""
    types = tests[0].types
    for test in tests:
        if test.wanted and test.word in ("eq", "in"):
            values = [test.operand] if test.word == "eq" else test.operand
            return [value for value in values if certainty.type_of(value) in types]
    few: dict[str, list[Any]] = {"boolean": [True, False], "null": [None]}
    return [value for name in types for value in few[name]] if types <= few.keys() else None


def _clash(tests: Sequence[Test], has: Callable[[str, str], bool]) -> bool:
    for one, other in combinations(tests, 2):
        if one.wanted and other.wanted:
            if not has(one.operand, other.operand) and not has(other.operand, one.operand):
                return True
        elif one.wanted is not other.wanted:
            yes, no = (one, other) if one.wanted else (other, one)
            if has(yes.operand, no.operand):
                return True
    return False


def _is_empty_range(tests: Iterable[Test]) -> bool:
    low: tuple[float, bool] = (float("-inf"), False)
    high: tuple[float, bool] = (float("inf"), False)
    for test in tests:
        if test.word not in ("lt", "lte", "gt", "gte"):
            continue
        if certainty.type_of(test.operand) != "number":
            continue
        # A bound that is not reached itself is the narrower one.
        if test.word in ("gt", "gte"):
            low = max(low, (test.operand, test.word == "gt"))
        else:
            limit = min((high[0], not high[1]), (test.operand, test.word != "lt"))
            high = (limit[0], not limit[1])
    return low[0] > high[0] or (low[0] == high[0] and (low[1] or high[1]))


# In words


def _culprit(found: Piece) -> Node:
    """What is pointed at: the part that fits nothing before it."""
    return found.tests[-1].node if found.tests else found.node


def _never(found: Piece) -> tuple[str, str]:
    if not found.tests:
        mend = "write what must hold, or remove the rule"
        return f"{code(unparse(found.node))} never holds", mend
    first = found.tests[0]
    if len(found.tests) == 1:
        if first.word == "true":
            return f"{code(first.text)} never holds: {_NUMBER}", _compared(first.key, "==")
        if first.word == "eq":
            literal = frozenset({certainty.type_of(first.operand)})
            message = f"{code(first.text)} never holds: {code(first.key)} is {shown(first.types)}"
            if literal & first.types:
                return message, ""
            mend = _respelled(first)
            return f"{message}, and this is {shown(literal)}", mend
        return f"{code(first.text)} never holds", ""
    shown_tests = " and ".join(code(test.text) for test in found.tests)
    equal = all(test.word in ("eq", "in") and test.wanted for test in found.tests)
    mend = "to ask for either of them, write `||`" if equal else "remove one of them"
    return f"{shown_tests} never hold together", mend


_NUMBER = "a number counts as true, 0 too"


def _compared(key: str, sign: str) -> str:
    return f"compare it: `` {key} {sign} `0` ``"


def _respelled(test: Test) -> str:
    """The operand as the type that it is compared with."""
    value = test.operand
    if test.types == {"number"} and isinstance(value, str) and value.strip().isdigit():
        return f"a number stands between backticks: `` `{int(value)}` ``"
    if test.types == {"string"} and certainty.type_of(value) == "number":
        return f"text stands between single quotes: `'{value}'`"
    if test.types == {"boolean"} and value in ("true", "false"):
        return f"a value that is no text stands between backticks: `` `{value}` ``"
    return ""


def _always(found: Piece, whole: Node) -> tuple[str, str]:
    if not found.tests:
        text = unparse(found.node)
        if found.node is whole:
            return f"{code(text)} always holds", "leave `when` out where the rule always applies"
        mend = "compare it with something, or remove it"
        compared = next(_compared_keys(whole), None)
        if compared and isinstance(certainty.constant(found.node), str):
            mend = f"compare it as well: {code(f'{compared} == {text}')}"
        return f"{code(text)} alone always holds", mend
    first = found.tests[0]
    if len(found.tests) == 1:
        if first.word == "true" and first.types == {"number"}:
            return f"{code(first.text)} always holds: {_NUMBER}", _compared(first.key, ">")
        return f"{code(first.text)} always holds", "remove it"
    shown_tests = " or ".join(code(test.text) for test in found.tests)
    # The tests are those that would have to hold where the condition does not.
    unequal = all(test.word == "eq" and test.wanted for test in found.tests)
    mend = "to ask for neither of them, write `&&`" if unequal else "remove it"
    return f"{shown_tests} always holds", mend


def _compared_keys(node: Any) -> Iterator[str]:
    """What a condition compares with a constant."""
    if isinstance(node, Mapping):
        if node["type"] == "comparator":
            test = _test(node, wanted=True, plain=True, present=True)
            if test.word == "eq":
                yield test.key
        for child in node["children"]:
            yield from _compared_keys(child)


CHECKS = (
    never_holds,
    always_holds,
)
