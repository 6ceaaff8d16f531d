"""A decoder of what is read gives every expression what a decoder of everything gives it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mapping.expression import ExpressionError, parse
from gateway.mapping.projection import decoder
from gateway.mapping.reads import Place, Seen, follow
from tests.expressions import DOCUMENTS, EXPRESSIONS, OBJECTS, PATHS, thorough


def _read_by(text: str) -> Place:
    place = Place()
    follow(parse(text).tree, Seen((place,)), text).use()
    return place


def _outcome(text: str, document: Any) -> Any:
    try:
        return repr(parse(text).evaluate(document))
    except Exception as error:
        return type(error).__name__, str(error)


@thorough
@given(EXPRESSIONS | PATHS, DOCUMENTS | OBJECTS)
def test_an_expression_finds_the_same_in_the_projection(text: str, document: Any) -> None:
    """The same result or the same error, from all of a document and from what is read of it."""
    try:
        read = _read_by(text)
    except ExpressionError:
        return
    projected = decoder(read)(msgspec.json.encode(document))
    assert _outcome(text, projected) == _outcome(text, document)


@thorough
@given(EXPRESSIONS, EXPRESSIONS, DOCUMENTS)
def test_items_find_the_same_in_the_projection(each: str, field: str, document: Any) -> None:
    """As a rule with `each` reads them: the second expression is asked of the items of the first."""
    place = Place()
    try:
        items = follow(parse(each).tree, Seen((place,)), "each").items()
        follow(parse(f"item | {field}").tree, Seen(bound={"item": items}), "field").use()
    except ExpressionError:
        return
    projected = decoder(place)(msgspec.json.encode(document))
    assert _of_items(each, field, projected) == _of_items(each, field, document)


@thorough
@given(EXPRESSIONS, st.lists(OBJECTS, min_size=1, max_size=3), OBJECTS)
def test_an_item_beside_the_scope_is_found_in_the_projection(
    field: str, items: list[Any], document: Any
) -> None:
    """As a field of a rule with `each` reads it, by the name `c` and wherever the scope is taken whole."""
    try:
        _finds_the_items(field, {**document, "a": items}, "a", "c")
    except ExpressionError:
        return


@pytest.mark.parametrize(
    "field",
    [
        "[@][0].each.app", "[@][].each.app", "[@][*].each.app", "[@, b][1:].each.app", "[[@]][][0].each.app",
        "(z || @).each.app", "(items && @).each.app", "[(z || @)][?each.app].each | [0]", "@.each.app",
        "@ | each.app", "[each][0].app", "{p: @}.p.each.app", "not_null(z, @).each.app",
    ],
)  # fmt: skip
def test_an_item_is_found_whatever_the_scope_goes_through(field: str) -> None:
    _finds_the_items(field, {"items": [{"app": "shop", "sha": "a"}], "b": 1}, "items", "each")


def _finds_the_items(field: str, document: Any, items: str, name: str) -> None:
    place = Place()
    bound = {name: Seen((place.member(items),)).items()}
    follow(parse(field).tree, Seen((place,), bound=bound), field).use()
    projected = decoder(place)(msgspec.json.encode(document))
    for of_projected, of_all in zip(projected[items], document[items], strict=True):
        found = _outcome(field, {**projected, name: of_projected})
        assert found == _outcome(field, {**document, name: of_all})


def _of_items(each: str, field: str, document: Any) -> Any:
    try:
        found = parse(each).evaluate(document)
    except Exception as error:
        return type(error).__name__
    return [_outcome(field, item) for item in found] if isinstance(found, list) else type(found)


@thorough
@given(st.data())
def test_a_body_that_is_not_json_is_none_for_both(data: st.DataObject) -> None:
    raw = bytearray(msgspec.json.encode(data.draw(DOCUMENTS)))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw)))
        raw[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    part = decoder(_read_by("[a.b, c[0].a, a[*].c]"))
    assert _fault(part, bytes(raw)) == _fault(msgspec.json.decode, bytes(raw))


def _fault(decode: Any, raw: bytes) -> str | None:
    try:
        decode(raw)
    except (ValueError, RecursionError) as error:
        return repr(error)
    return None


@pytest.mark.parametrize(
    ("text", "document", "projected"),
    [
        ("a.b", {"a": {"b": [1], "c": 2}, "d": 3}, {"a": {"b": [1]}}),
        ("a[0].b", {"a": [{"b": 1, "c": 2}, {"c": 3}]}, {"a": [{"b": 1}, {}]}),
        ("a[?b == `1`].c", {"a": [{"b": 1, "c": 2, "d": 3}]}, {"a": [{"b": 1, "c": 2}]}),
        ("length(a)", {"a": [{"b": 1}], "c": 2}, {"a": [{"b": 1}]}),
        ("a && 'x'", {"a": {"b": 1}, "c": 2}, {"a": {"b": 1}}),
        ("a.b", {"a": "text", "d": 3}, {"a": "text"}),
        ("a.b", [1, 2], [1, 2]),
        ("@", {"a": 1}, {"a": 1}),
        ("'nothing'", {"a": {"b": 1}}, {}),
        ('a.""', {"a": {"": 1, "b": 2}}, {"a": {"": 1}}),
        # The member that holds such a name is built whole.
        ('a."größe"', {"a": {"größe": 1, "": 2}, "b": 3}, {"a": {"größe": 1, "": 2}}),
    ],
)
def test_only_what_is_read_is_built(text: str, document: Any, projected: Any) -> None:
    """Row 28 of the table in docs/explanation/security.md."""
    assert decoder(_read_by(text))(msgspec.json.encode(document)) == projected


def test_a_number_beyond_a_double_is_a_fault_only_where_it_is_read() -> None:
    """Row 25."""
    raw = b'{"a": 1e999, "b": 1}'
    assert decoder(_read_by("b"))(raw) == {"b": 1}
    with pytest.raises(msgspec.ValidationError):
        decoder(_read_by("a"))(raw)
