"""The schemes: what each takes, and that it takes nothing else."""

import ast
import base64
import hashlib
import hmac as reference
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.authentication import (
    Authentication,
    Basic,
    Bearer,
    Hmac,
    QueryToken,
    SecretReference,
    Shared,
    StandardWebhooks,
    Token,
    _matches,
    authentication,
    nobody,
    strength,
)
from tests.harness import ROOT

NOW = 1_790_000_000.0
KEY = b"a key of some length"
OLD_KEY = b"the key before that one"
SECRET = SecretReference(env="SECRET")
HMAC = Hmac(secret=SECRET, header="X-Signature", prefix="sha256=")
SCHEMES: list[Shared] = [
    HMAC,
    Hmac(secret=SECRET, header="X-Signature", encoding="base64", algorithm="sha512"),
    Hmac(
        secret=SECRET,
        header="X-Signature",
        prefix="v1=",
        signed="{timestamp}:{body}",
        timestamp_header="X-Timestamp",
    ),
    Hmac(secret=SECRET, header="X-Signature", prefix="v1=", separator=","),
    Hmac(
        secret=SECRET,
        header="X-Signature",
        prefix="signature=",
        timestamp_prefix="timestamp=",
        separator=",",
        signed="{timestamp}.{body}",
    ),
    Hmac(
        secret=SECRET,
        header="X-Signature",
        encoding="base64",
        timestamp_header="X-Signature-Timestamp",
        timestamp_format="iso",
        signed="{timestamp}{body}",
    ),
    Token(secret=SECRET, header="X-Token", prefix="Token "),
    Bearer(secret=SECRET),
    Basic(secret=SECRET, username=SecretReference(env="USER")),
    StandardWebhooks(secret=SECRET),
]
IDS = [f"{type(scheme).__name__}-{number}" for number, scheme in enumerate(SCHEMES)]


def headers_of(signed: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in signed.items()]


def ready(scheme: Shared, *keys: bytes) -> Authentication:
    return authentication(scheme, keys or (KEY,), b"user")


def test_github_s_own_example_fits() -> None:
    """The published vector. Row 4 of the table in docs/explanation/security.md."""
    scheme = Hmac(secret=SECRET, header="X-Hub-Signature-256", prefix="sha256=")
    signature = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    checked = ready(scheme, b"It's a Secret to Everybody")
    assert checked.verify([(b"x-hub-signature-256", signature)], b"Hello, World!", NOW)


@pytest.mark.parametrize("scheme", SCHEMES, ids=IDS)
def test_what_is_signed_is_verified(scheme: Shared) -> None:
    """`sign` is what a sender of the scheme does."""
    checked = ready(scheme)
    for body in (b"", b"{}", b"\xff\x00" * 100):
        assert checked.verify(headers_of(checked.sign(body, NOW)), body, NOW)


@pytest.mark.parametrize("scheme", SCHEMES, ids=IDS)
def test_another_secret_another_body_or_no_header_is_refused(scheme: Shared) -> None:
    """And so is every header sent twice. Rows 1 and 7 of the table in docs/explanation/security.md."""
    checked = ready(scheme)
    headers = headers_of(checked.sign(b"{}", NOW))
    assert not ready(scheme, b"another key altogether").verify(headers, b"{}", NOW)
    assert not checked.verify([], b"{}", NOW)
    for header in headers:
        assert not checked.verify([one for one in headers if one != header], b"{}", NOW)
        assert not checked.verify([*headers, header], b"{}", NOW)
        assert not checked.verify([*headers, (header[0], b"x")], b"{}", NOW)
    if checked.needs_body:
        assert not checked.verify(headers, b"{ }", NOW)


@pytest.mark.parametrize("scheme", SCHEMES, ids=IDS)
def test_both_secrets_fit_while_rotating(scheme: Shared) -> None:
    """The newest signs; the one that was taken off the list fits no more. Row 12 of the table in
    docs/explanation/security.md."""
    both = ready(scheme, KEY, OLD_KEY)
    for key in (KEY, OLD_KEY):
        assert both.verify(headers_of(ready(scheme, key).sign(b"{}", NOW)), b"{}", NOW)
    old = headers_of(ready(scheme, OLD_KEY).sign(b"{}", NOW))
    assert not ready(scheme, KEY).verify(old, b"{}", NOW)
    assert ready(scheme, KEY).verify(headers_of(both.sign(b"{}", NOW)), b"{}", NOW)


@given(st.integers(0, 8 * 71 - 1), st.integers(0, 8 * 12 - 1))
def test_every_single_bit_matters(in_signature: int, in_body: int) -> None:
    """A flipped bit of the signature or of the body is refused. Row 1 of the table in
    docs/explanation/security.md."""
    checked = ready(HMAC)
    body = b'{"a": "b12"}'
    ((name, value),) = headers_of(checked.sign(body, NOW))
    flipped = _flipped(value, in_signature)
    if flipped.lower() != value:  # Hexadecimal digits mean the same in both cases.
        assert not checked.verify([(name, flipped)], body, NOW)
    assert not checked.verify([(name, value)], _flipped(body, in_body), NOW)


@pytest.mark.parametrize("scheme", SCHEMES, ids=IDS)
def test_every_single_bit_of_every_header_matters(scheme: Shared) -> None:
    """All of them, of every scheme. Row 1."""
    checked = ready(scheme)
    body = b'{"a": 12}'
    headers = headers_of(checked.sign(body, NOW))
    for place, (name, value) in enumerate(headers):
        for bit in range(8 * len(value)):
            flipped = _flipped(value, bit)
            if checked.needs_body and flipped.lower() == value.lower():
                continue  # Hexadecimal digits mean the same in both cases, base64's do not.
            sent = [*headers[:place], (name, flipped), *headers[place + 1 :]]
            assert not checked.verify(sent, body, NOW), (name, flipped)


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(st.binary(max_size=120))
def test_no_header_value_breaks_a_scheme(value: bytes) -> None:
    """Any bytes are an answer, not an error. Row 3 of the table in docs/explanation/security.md."""
    for scheme in SCHEMES:
        checked = ready(scheme)
        headers = [(name, value) for name, _ in headers_of(checked.sign(b"{}", NOW))]
        assert not checked.verify(headers, b"{}", NOW)


@pytest.mark.parametrize(
    "scheme",
    [SCHEMES[2], SCHEMES[4], SCHEMES[5], SCHEMES[9]],
    ids=["header", "beside", "iso", "standard-webhooks"],
)
def test_a_signed_time_must_be_near(scheme: Shared) -> None:
    """Five minutes, in both directions; a delivery recorded and sent later is refused. Row 11 of the
    table in docs/explanation/security.md."""
    checked = ready(scheme)
    headers = headers_of(checked.sign(b"{}", NOW))
    for shift, fits in ((0, True), (299, True), (-299, True), (301, False), (-301, False)):
        assert checked.verify(headers, b"{}", NOW + shift) is fits


def _digits(text: str, zero: str) -> str:
    """A text with the digits of another script, whose zero is given."""
    return "".join(chr(ord(zero) + int(one)) if one.isdigit() else one for one in text)


NO_SECONDS = [
    *("", " ", "-1", "1e9", "1790000000.0", "1790000000.5", "0x6ab13b00", "1_790_000_000"),
    *("9" * 20, "9" * 5_000, "+1790000000", "-1790000000", " 1790000000", "nan", "inf", "²"),
    # The digits of this very second in another script.
    *("٣", _digits("1790000000", "\u0660"), _digits("1790000000", "\uff10")),
]


@pytest.mark.parametrize("moment", NO_SECONDS)
def test_a_time_that_is_no_count_of_seconds_is_refused(moment: str) -> None:
    """Even where its signature fits. Row 11 of the table in docs/explanation/security.md."""
    body, stamp = b"{}", moment.encode()
    digest = reference.new(KEY, stamp + b":" + body, hashlib.sha256).hexdigest()
    headers = [(b"x-signature", f"v1={digest}".encode()), (b"x-timestamp", stamp)]
    assert not ready(SCHEMES[2]).verify(headers, body, NOW)
    digest = reference.new(KEY, stamp + b"." + body, hashlib.sha256).hexdigest()
    value = b"timestamp=" + stamp + f",signature={digest}".encode()
    assert not ready(SCHEMES[4]).verify([(b"x-signature", value)], body, NOW)
    signature = base64.b64encode(reference.digest(KEY, b"id." + stamp + b"." + body, "sha256"))
    headers = [
        (b"webhook-id", b"id"),
        (b"webhook-timestamp", stamp),
        (b"webhook-signature", b"v1," + signature),
    ]
    assert not ready(SCHEMES[9]).verify(headers, body, NOW)


@pytest.mark.parametrize(
    "moment",
    [
        *("", "now", "2026-09-21T14:13:20", "2026-09-21", "0001-01-01T00:00:00+23:59"),
        *(
            "9999-12-31T23:59:59-23:59",
            _digits("2026-09-21T14:13:20Z", "\u0660"),
            "1790000000",
            "2026-W39-1T14:13:20Z",
        ),
        *("2026-13-45T00:00:00Z", "2026-09-21T14:13:20+99:99", "9" * 5_000),
    ],
)
def test_a_time_that_is_no_point_in_time_is_refused(moment: str) -> None:
    """Where ISO 8601 is declared, one with an offset, written in full. Row 11."""
    stamp = moment.encode()
    signature = base64.b64encode(reference.digest(KEY, stamp + b"{}", "sha256"))
    headers = [(b"x-signature", signature), (b"x-signature-timestamp", stamp)]
    if moment == "2026-W39-1T14:13:20Z":
        # Another spelling of now is now.
        assert ready(SCHEMES[5]).verify(headers, b"{}", NOW)
    else:
        assert not ready(SCHEMES[5]).verify(headers, b"{}", NOW)


def test_standard_webhooks_takes_any_of_several_signatures() -> None:
    """As its specification has it, with a secret in its own spelling."""
    key = b"twenty-four bytes of key"
    secret = b"whsec_" + base64.b64encode(key)
    checked = authentication(StandardWebhooks(secret=SECRET), (secret,))
    digest = base64.b64encode(reference.digest(key, b"msg_1.1790000000.{}", "sha256"))
    headers = [
        (b"webhook-id", b"msg_1"),
        (b"webhook-timestamp", b"1790000000"),
        (b"webhook-signature", b"v1a,x v1,AAAA v1," + digest),
    ]
    assert checked.verify(headers, b"{}", NOW)


def test_the_declared_algorithm_is_the_only_one() -> None:
    """A good SHA-1 is no SHA-256, under whatever prefix; and a SHA-256 under a header that others use for
    SHA-1 is one, where it is declared. Row 5 of the table in docs/explanation/security.md."""
    weak = Hmac(secret=SECRET, header="X-Signature", prefix="sha1=", algorithm="sha1")
    headers = headers_of(ready(weak).sign(b"{}", NOW))
    assert ready(weak).verify(headers, b"{}", NOW)
    assert not ready(HMAC).verify(headers, b"{}", NOW)
    renamed = [(name, value.replace(b"sha1=", b"sha256=")) for name, value in headers]
    assert not ready(HMAC).verify(renamed, b"{}", NOW)
    bitbucket = Hmac(secret=SECRET, header="X-Hub-Signature", prefix="sha256=")
    good = reference.new(KEY, b"{}", hashlib.sha256).hexdigest()
    assert ready(bitbucket).verify([(b"x-hub-signature", f"sha256={good}".encode())], b"{}", NOW)
    short = reference.new(KEY, b"{}", hashlib.sha1).hexdigest()
    for value in (f"sha1={short}", f"sha256={short}"):
        assert not ready(bitbucket).verify([(b"x-hub-signature", value.encode())], b"{}", NOW)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
    )
)
def test_the_body_is_signed_as_it_was_sent(value: Any) -> None:
    """The same JSON in another spacing, order or spelling is another body. Row 4 of the table in
    docs/explanation/security.md."""
    checked = ready(HMAC)
    document = {"value": value, "é": 1}
    sent = json.dumps(document).encode()
    headers = headers_of(checked.sign(sent, NOW))
    assert checked.verify(headers, sent, NOW)
    for other in (
        json.dumps(document, separators=(",", ":")),
        json.dumps(document, indent=1),
        json.dumps(document, ensure_ascii=False),
        json.dumps(dict(reversed(document.items()))),
        sent.decode() + "\n",
        " " + sent.decode(),
    ):
        assert json.loads(other) == document
        assert not checked.verify(headers, other.encode(), NOW)


COMPARED = {
    "key",
    "keys",
    "expected",
    "candidate",
    "signature",
    "signatures",
    "digest",
    "raw",
    "secret",
}

_EQUALITY = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)


def test_secrets_are_compared_in_constant_time() -> None:
    """No operator compares them, in no module that holds them: `compare_digest` does, on bytes. Row 2 of
    the table in docs/explanation/security.md."""
    for module in ("authentication.py", "pelorus_signature.py", "source.py", "app/edge.py"):
        tree = ast.parse((ROOT / "gateway" / module).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], _EQUALITY):
                names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
                assert not names & COMPARED, f"{module}: {ast.unparse(node)}"
    for text in ("key", 5):
        with pytest.raises(TypeError):
            _matches(text, (KEY,))  # type: ignore[arg-type]  # What must not come in does not.


def test_nobody_passes_nobody() -> None:
    """What an unknown source is checked with."""
    checked: Any = nobody()
    assert not checked.verify([], b"", NOW)
    assert not checked.verify([(b"x-hub-signature-256", b"sha256=" + b"0" * 64)], b"", NOW)


def test_an_open_source_takes_everyone() -> None:
    """None is what `authenticate: none` becomes."""
    assert authentication(None, ()).verify([], b"", NOW)


def test_one_of_several_signatures_in_a_header_is_enough() -> None:
    """As a sender that rotates its secrets sends them; other versions are passed over."""
    checked = ready(Hmac(secret=SECRET, header="X-Signature", prefix="v1=", separator=","))
    fitting = checked.sign(b"{}", NOW)["X-Signature"]
    for value in (f"v1={'0' * 64},{fitting}", f"{fitting}, v2=abc", f"v1=,v1=x, {fitting}"):
        assert checked.verify([(b"x-signature", value.encode())], b"{}", NOW)
    for value in (f"v2={fitting.removeprefix('v1=')}", "v1=,v1=", ",", f"v1={'0' * 64}"):
        assert not checked.verify([(b"x-signature", value.encode())], b"{}", NOW)
    assert not checked.verify([(b"x-signature", b"v1=x," * 20 + fitting.encode())], b"{}", NOW)


def test_a_time_beside_the_signature_is_signed_and_fresh() -> None:
    scheme = Hmac(
        secret=SECRET,
        header="X-Signature",
        prefix="v1=",
        timestamp_prefix="t=",
        separator=",",
        signed="{timestamp}.{body}",
    )
    checked = ready(scheme)
    value = checked.sign(b"{}", NOW)["X-Signature"].encode()
    assert value.startswith(b"t=1790000000,v1=")
    turned = b",".join(reversed(value.split(b",")))
    assert checked.verify([(b"x-signature", turned)], b"{}", NOW)
    assert not checked.verify([(b"x-signature", value)], b"{}", NOW + 301)
    for wrong in (
        value.replace(b"t=1790000000", b"t=1790000001"),
        value.replace(b"t=1790000000,", b""),
        value + b",t=1790000000",
        value.replace(b"t=1790000000", b"t=now"),
    ):
        assert not checked.verify([(b"x-signature", wrong)], b"{}", NOW)


def test_a_token_in_the_url_is_the_only_one_of_its_name() -> None:
    checked = ready(QueryToken(secret=SECRET, parameter="token"), KEY, OLD_KEY)
    assert checked.parameters == {"token": KEY.decode()}
    for key in (KEY, OLD_KEY):
        for beside in ("1", "é"):
            query = urlencode({"a": beside, "token": key}).encode()
            assert checked.verify([], b"", NOW, query)
    assert checked.verify([], b"", NOW, b"\xff=%FF&token=" + KEY)
    one = urlencode({"token": KEY}).encode()
    for query in (b"", b"token=", b"token=wrong", one + b"&" + one, one.upper(), b"&" * 200 + one):
        assert not checked.verify([], b"", NOW, query)


def test_the_spelling_of_a_secret_is_no_part_of_its_strength() -> None:
    """Sixteen characters of Standard Webhooks' base64 are fewer than sixteen bytes to guess. Row 6 of the
    table in docs/explanation/security.md."""
    scheme = StandardWebhooks(secret=SECRET)
    key = bytes(range(16))
    for spelled in (b"whsec_" + base64.b64encode(key), base64.b64encode(key)):
        assert strength(scheme, spelled) == 16
    assert strength(scheme, b"whsec_AAAAAAAA") == 6
    assert strength(scheme, b"no base64 at all") == 16
    assert strength(HMAC, b"whsec_AAAAAAAA") == 14
