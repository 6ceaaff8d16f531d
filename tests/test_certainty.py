"""What the checks call certain is so, on any expression and document."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.mapping import certainty, closures
from gateway.mapping.checks import conditions
from gateway.mapping.expression import ExpressionError, parse
from gateway.mapping.extent import Extents
from gateway.mapping.functions.entry import NotLiteral
from tests.expressions import DOCUMENTS, EXPRESSIONS, SCALARS, thorough

_VALUES = st.sampled_from(["a", "b", "length(a)", "a == b", "type(a)", "starts_with(a, 'a')"])
_CONSTANTS = st.sampled_from(["'a'", "'ab'", "''", "`0`", "`1`", "`2`", "`true`", "`null`", "'1'"])
_SIGNS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
_TESTS = st.one_of(
    st.tuples(_VALUES, _SIGNS, _CONSTANTS).map("({0[0]}) {0[1]} {0[2]}".format),
    st.tuples(_CONSTANTS, _SIGNS, _VALUES).map("{0[0]} {0[1]} ({0[2]})".format),
    st.sampled_from(["a", "b", "length(a)", "'a'", "`false`", "starts_with(a, 'a')"]),
    st.sampled_from(["starts_with(a, 'ab')", "ends_with(a, 'b')", "contains(['a', 'ab'], a)"]),
)
CONDITIONS = st.recursive(
    _TESTS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("({0[0]}) && ({0[1]})".format),
        st.tuples(inner, inner).map("({0[0]}) || ({0[1]})".format),
        inner.map("!({})".format),
    ),
    max_leaves=6,
)


@thorough
@given(EXPRESSIONS, DOCUMENTS)
def test_a_result_is_of_one_of_its_types(text: str, document: Any) -> None:
    """Also the result of what is constant, which is the same for every document."""
    try:
        tree = parse(text).tree
        result = closures.closure(tree)(document)
    except Exception:
        return
    assert certainty.type_of(result) in certainty.types(tree, present=document is not None)
    constant = certainty.constant(tree, present=document is not None)
    assert isinstance(constant, NotLiteral) or repr(constant) == repr(result)


@thorough
@given(CONDITIONS | EXPRESSIONS, st.fixed_dictionaries({"a": SCALARS, "b": SCALARS}) | DOCUMENTS)
def test_what_always_or_never_holds_does(text: str, document: Any) -> None:
    """Of every part that is blamed, whatever it is asked of; where it can be evaluated at all."""
    try:
        tree = parse(text).tree
    except ExpressionError:
        return
    for piece in conditions.pieces(tree, present=document is not None):
        try:
            result = closures.closure(piece.node)(document)
        except Exception:
            continue
        assert closures.is_false(result) is not piece.always, (text, piece)


def test_the_conditions_of_these_tests_are_often_certain() -> None:
    """Otherwise the property above would say little."""
    certain = ["a == 'a' && a == 'b'", "a || !a", "!(length(a))", "a > `2` && a < `1`"]
    assert all(list(conditions.pieces(parse(text).tree, present=True)) for text in certain)


@thorough
@given(EXPRESSIONS)
def test_every_part_of_an_expression_has_its_place(text: str) -> None:
    """Every literal stands where it is said to, every function has as many arguments as are written."""
    try:
        expression = parse(text)
    except ExpressionError:
        return
    extents = Extents(text, expression.tree)
    for call in expression.calls:
        given = extents.arguments(call.offset)
        assert len(given) == call.arguments
        assert all(text[one.offset : one.end].strip() for one in given)
    for literal in certainty.endings(expression.tree):
        extent = extents.of(literal)
        assert parse(text[extent.offset : extent.end]).tree["value"] == literal["value"]
