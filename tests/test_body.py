"""What of a body is JSON, and what it costs to read."""

import tracemalloc
from typing import Any

import msgspec
import pytest

from gateway import body
from gateway.delivery import Delivery
from tests.test_bundled_mappings import RECEIVED_AT, plans

JSON = "application/json"


@pytest.mark.parametrize("depth", [20_000, 1_000_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("is_closed", [True, False])
def test_what_is_nested_too_deeply_is_no_json(
    depth: int, opening: bytes, closing: bytes, *, is_closed: bool
) -> None:
    """Also below a key that no mapping reads. Row 23 of the table in docs/explanation/security.md."""
    nested = opening * depth + (b"1" + closing * depth) * is_closed
    for text in (nested, b'{"ref": "a", "unread": ' + nested + b"}" * is_closed):
        with pytest.raises(body.NotJSON):
            body.read(text, JSON)
        with pytest.raises(body.NotJSON):
            body.read(text, JSON, plans()["github"].decode)


@pytest.mark.parametrize(
    "text",
    [
        rb'"\ud800"', rb'"\udc00\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b'"\xc0\xaf"', b"NaN", b"-Infinity", b"1e400",
        b"9" * 4_400, b"01", b"+1", b"0x1", b"'a'", b"[1,]", b'{"a":1,}', b"// a\n1", b"\xef\xbb\xbf1", b'"a\nb"',
        '"a"'.encode("utf-16"),
    ],
)  # fmt: skip
def test_what_other_readers_take_is_no_json(text: bytes) -> None:
    """Half a surrogate pair, numbers that are none, and what people like to write. Rows 25 and 26."""
    with pytest.raises(body.NotJSON):
        body.read(text, JSON)


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    """Row 27."""
    assert body.read(b'{"a": 1, "a": {"b": 1}, "a": 2}', JSON) == {"a": 2}


def test_what_is_not_read_takes_no_memory() -> None:
    """A megabyte of the smallest lists, where a mapping reads nothing of the kind. Row 28."""
    filler = b"[" + b",".join([b"[]"] * 400_000) + b"]"
    text = b'{"ref": "refs/heads/main", "filler": ' + filler + b"}"
    delivery = Delivery(
        source="github",
        headers={"content-type": JSON, "x-github-event": "push"},
        query={},
        body=text,
        received_at=RECEIVED_AT,
    )
    plan = plans()["github"]
    plan.read(msgspec.structs.replace(delivery, body=b"{}"))
    tracemalloc.start()
    outcome: Any = plan.read(delivery).outcome
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert outcome is not None
    assert peak < len(text) // 4


@pytest.mark.parametrize("smallest", [b"[]", b"{}", b"0", b'""', b'{"a":[]}'])
@pytest.mark.parametrize("before", [b"", b'{"commits":', b"{"])
def test_a_body_of_nothing_but_values_is_not_built(smallest: bytes, before: bytes) -> None:
    """Nor is it read to its end for what else is wrong with it. Row 28."""
    text = before + b"[" + b",".join([smallest] * (body.MAX_VALUES + 1)) + b"]"
    tracemalloc.start()
    with pytest.raises(body.NotJSON, match="more than 2,000,000 values"):
        body.read(text, JSON)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * len(text)


def test_a_large_body_of_ordinary_values_is_read() -> None:
    """As large as a delivery may be."""
    value = {"id": "a" * 40, "message": "one, two", "added": ["docs/read/me.md"]}
    most = 25 * 1024 * 1024
    text = msgspec.json.encode([value] * (most // (len(msgspec.json.encode(value)) + 1)))
    assert most - 1024 < len(text) <= most
    assert body.read(text, JSON)[-1] == value


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (b"payload=%7B%22m%22%3A%22%C3%A9%22%7D", {"m": "é"}),
        ('payload={"m":"é"}'.encode(), {"m": "é"}),
        (b"payload=%22%E2%82%AC+%2B+%26+%3D%22", "€ + & ="),
        (b"note=%C3%A9&payload=1", 1),
        (b"payload=1&payload=2", 1),
        (b"name=%C3%A9&gr%C3%B6%C3%9Fe=1", {"name": "é", "größe": "1"}),
        ("name=é".encode(), {"name": "é"}),
        (b"a=1+2&b=1%2B2&c=&d==&e=%zz%", {"a": "1 2", "b": "1+2", "c": "", "d": "=", "e": "%zz%"}),
        (b"a=1&b=2&a=3", {"a": "1", "b": "2"}),
        (b"", {}),
    ],
)
def test_a_form_is_its_payload_or_its_fields(form: bytes, value: Any) -> None:
    """In UTF-8, whether it is escaped or not. Of fields of one name the first counts."""
    assert body.read(form, body.FORM) == value


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (b"payload", "not a form: the field `payload` has no `=`"),
        (b'{"m": "' + b"x" * 100, 'not a form: the field `{"m": "' + "x" * 53 + "...` has no `=`"),
        (b"a=1&", "not a form: the field `` has no `=`"),
        (b"\xff", "not a form: the field `\ufffd` has no `=`"),
        (b"a=1&b=%FF", "not a form: the field `b` is not UTF-8"),
        (b"%FF=1", "not a form: the name of a field is not UTF-8"),
        (b"payload=%22%FF%22", "invalid UTF-8"),
        (b"a=1&" * 1_000 + b"a=1", "not a form: more than 1,000 fields"),
    ],
)
def test_what_is_no_form_is_refused_in_words(form: bytes, words: str) -> None:
    """They name the field, and are short however long it is."""
    with pytest.raises(body.NotJSON) as refused:
        body.read(form, body.FORM)
    assert refused.value.message == words


def test_a_form_that_is_all_escapes_is_read_in_little_memory() -> None:
    """A few times what was sent. Row 28."""
    form = b"payload=" + b"%31" * 1_000_000
    tracemalloc.start()
    with pytest.raises(body.NotJSON):
        body.read(form, body.FORM)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * len(form)
