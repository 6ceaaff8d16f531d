"""Raw requests, as `.http` files and captures hold them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.authoring import request
from gateway.authoring.request import Request, RequestError

PLAIN = b"""\
POST /hooks/shop?stage=live&stage=test&dry= HTTP/1.1
Host: gateway.example
Content-Type: application/json
X-Shop-Event: deployed

{"app": "tide-table"}
"""


def test_a_request_has_headers_a_query_and_a_body() -> None:
    assert request.read(PLAIN) == Request(
        headers={
            "Host": "gateway.example",
            "Content-Type": "application/json",
            "X-Shop-Event": "deployed",
        },
        query={"stage": "live", "dry": ""},
        body=b'{"app": "tide-table"}',
    )


def test_line_breaks_may_be_of_either_kind() -> None:
    read = request.read(PLAIN.replace(b"\n", b"\r\n"))
    assert read == request.read(PLAIN)


def test_the_lines_of_a_body_stay_as_they_are() -> None:
    read = request.read(b'X-A: b\r\n\r\n{\r\n\n  "a": 1}')
    assert read.body == b'{\r\n\n  "a": 1}'


@pytest.mark.parametrize(
    "line",
    [
        "https://gateway.example/hooks/shop?stage=live",
        "/hooks/shop?stage=live",
        "POST https://gateway.example/hooks/shop?stage=live",
        "POST {{gateway}}/hooks/shop?stage=live HTTP/1.1",
        "PUT /hooks/shop?stage=live HTTP/2",
    ],
)
def test_a_request_line_may_be_short(line: str) -> None:
    read = request.read(f"{line}\nX-A: b\n\n1\n".encode())
    assert (read.headers, read.query, read.body) == ({"X-A": "b"}, {"stage": "live"}, b"1")


def test_a_request_line_may_be_missing() -> None:
    read = request.read(b"X-A: b\n\n{}")
    assert (read.headers, read.query, read.body) == ({"X-A": "b"}, {}, b"{}")


def test_remarks_and_variables_of_http_files_are_passed_over() -> None:
    raw = b"""\
### a deployment
@host = https://gateway.example

# @name deployment
// the real one
POST {{host}}/hooks/shop
# X-Old: gone
X-A: b

# not a remark here
"""
    read = request.read(raw)
    assert (read.headers, read.body) == ({"X-A": "b"}, b"# not a remark here")


def test_several_requests_stand_between_separators() -> None:
    raw = b"### one\nX-A: 1\n\n[1]\n\n###\n\n### two\nX-A: 2\n\n[2]\n"
    found = request.read_all(raw)
    assert [(one.headers["X-A"], one.body.strip()) for one in found] == [
        ("1", b"[1]"),
        ("2", b"[2]"),
    ]
    with pytest.raises(RequestError, match="line 6: 2 requests stand here, one is wanted; keep"):
        request.read(raw)


def test_headers_of_one_name_are_joined_under_its_first_spelling() -> None:
    read = request.read(b"X-A: 1\nx-b:2\nx-a: 3\n\n")
    assert read.headers == {"X-A": "1, 3", "x-b": "2"}


def test_a_line_break_at_the_end_belongs_to_the_file_unless_it_is_counted() -> None:
    assert request.read(b"X-A: b\n\n{}\n").body == b"{}"
    assert request.read(b"X-A: b\r\n\r\n{}\r\n").body == b"{}"
    assert request.read(b"Content-Length: 3\n\n{}\n").body == b"{}\n"
    assert request.read(b"Content-Length: 2\n\n{}\n").body == b"{}"


def test_a_body_may_hold_any_bytes() -> None:
    assert request.read(b"X-A: b\n\n\xff\x00\xfe").body == b"\xff\x00\xfe"


def test_the_bytes_of_a_header_are_kept() -> None:
    value = request.read("X-A: é\n\n".encode()).headers["X-A"]
    assert value.encode("latin-1") == "é".encode()


@pytest.mark.parametrize(
    ("raw", "line", "words"),
    [
        (b"", 1, "there is no request; write headers, an empty line, and the body"),
        (b"# only a remark\n\n", 1, "there is no request"),
        (b"POST /\nX-A: b\n  folded\n\n", 3, "begins with a blank; write each header on one line"),
        (b"POST /\nX-A b\n\n", 2, "`X-A b` is no header; write headers as `Name: value`"),
        (b'POST /\n{"a": 1}\n', 2, '`{"a": 1}` is no header; write headers as `Name: value`, and'),
        (b"### one\nX-A: \x00\n\n", 2, "the value of `X-A` holds a control character"),
        (b"X-A: b\n\n\n< ./body.json\n", 4, "the body is a reference to a file; write the body"),
        (b"https://[::1/\nX-A: b\n\n", 1, "is no URL"),
        (b"X-\xff\xfe: b\n\n", 1, "is no header"),
    ],
)
def test_an_error_says_the_line_and_the_mend(raw: bytes, line: int, words: str) -> None:
    with pytest.raises(RequestError) as raised:
        request.read(raw)
    assert raised.value.line == line
    assert words in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("raw", "is_one"),
    [
        (PLAIN, True),
        (b"\n### one\nX-A: b\n\n{}", True),
        (b"https://gateway.example/hooks\n\n", True),
        (b'{"a: b": 1}', False),
        (b" [1]", False),
        (b'"text: more"', False),
        (b"12", False),
        (b"null", False),
        (b"", False),
        (b"\xef\xbb\xbf{}", False),
    ],
)
def test_a_request_is_told_from_json(raw: bytes, is_one: bool) -> None:
    assert request.is_request(raw) is is_one


def test_a_header_stands_alone_as_well() -> None:
    assert request.header("X-Shop-Event:deployed") == ("X-Shop-Event", "deployed")
    with pytest.raises(RequestError, match="`deployed` is no header"):
        request.header("deployed")


@given(st.binary(max_size=200))
def test_any_bytes_are_requests_or_an_error_with_a_line(raw: bytes) -> None:
    try:
        found = request.read_all(raw)
    except RequestError as error:
        assert 1 <= error.line <= raw.count(b"\n") + 2
    else:
        assert found


@given(
    st.dictionaries(st.sampled_from(["X-A", "X-B", "Accept"]), st.sampled_from(["1", "a: b", "é"])),
    st.binary(max_size=50).filter(
        lambda body: b"\n" not in body and not body.lstrip().startswith((b"<", b"###"))
    ),
)
def test_what_is_written_is_read(headers: dict[str, str], body: bytes) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    read = request.read(b"POST /\n" + head.encode("latin-1") + b"\r\n" + body + b"\n")
    assert read.headers == headers
    assert read.body == body.removesuffix(b"\r")
