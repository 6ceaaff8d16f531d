"""The fields of forms and query strings: as the standard library reads them as text, in bytes."""

from typing import cast
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.types import HTTPScope

from gateway import urlencoded
from gateway.app import http

TEXTS = st.text(st.sampled_from("aé€😀&=+% %4;"), max_size=12)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5))
def test_what_was_encoded_comes_back(pairs: list[tuple[str, str]]) -> None:
    """Names and values of any characters, in their order and as often as they stand there."""
    found = urlencoded.fields(urlencode(pairs).encode(), 100, strict=True)
    assert [(name.decode(), value.decode()) for name, value in found] == pairs


@given(TEXTS)
def test_any_text_is_read_as_the_standard_library_reads_it(text: str) -> None:
    """Which reads text rightly, and bytes only where they are ASCII."""
    found = urlencoded.fields(text.encode(), 100)
    wanted = parse_qsl(text, keep_blank_values=True)
    assert [
        (name.decode(errors="replace"), value.decode(errors="replace")) for name, value in found
    ] == wanted


@pytest.mark.parametrize("shift", range(5))
def test_an_escape_is_never_cut_in_two(shift: int) -> None:
    """A long value is read piece by piece."""
    value = "x" * shift + "€" * 100_000
    raw = urlencode({"a": value}).encode()
    assert urlencoded.fields(raw, 1) == [(b"a", value.encode())]


def test_fields_are_counted_before_they_are_read() -> None:
    """The limit itself is none too many."""
    assert len(urlencoded.fields(b"&".join([b"a=1"] * 3), 3)) == 3
    with pytest.raises(ValueError, match="more than 3 fields"):
        urlencoded.fields(b"&".join([b"a=1"] * 4), 3)


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"", {}),
        (b"a=1&b=&a=2&c", {"a": "1", "b": "", "c": ""}),
        (b"gr%C3%B6%C3%9Fe=%E2%82%AC+%2B", {"größe": "€ +"}),
        ("größe=é".encode(), {"größe": "é"}),
        (b"a=%FF", {"a": "\ufffd"}),
        (b"&".join([b"a=1"] * 101), {}),
    ],
)
def test_a_query_is_the_first_value_of_each_name(raw: bytes, found: dict[str, str]) -> None:
    """In UTF-8, as an expression reads it."""
    assert http.query(cast("HTTPScope", {"query_string": raw})) == found
