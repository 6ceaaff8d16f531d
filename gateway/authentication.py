"""Is this request from whom it claims? The schemes as data, each able to verify and to sign.

Verification works on the raw bytes of headers and body, compares in constant time, and uses only
what the mapping declares: nothing in a request chooses an algorithm or a secret.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from typing import Annotated, Literal, assert_never

from msgspec import Meta, Struct

Headers = Iterable[tuple[bytes, bytes]]
"""Header names in lower case with their values, in the order received."""

HeaderName = Annotated[str, Meta(pattern="^[A-Za-z0-9-]{1,100}$")]


class SecretReference(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a secret is read from: exactly one of the two."""

    env: Annotated[
        str,
        Meta(description="An environment variable, or a file of that name in the secrets folder."),
    ] = ""
    file: Annotated[str, Meta(description="The path of a file.")] = ""


Secrets = Annotated[
    SecretReference | list[SecretReference],
    Meta(description="The secret, or a list of them while rotating: each is tried."),
]
Header = Annotated[HeaderName, Meta(description="The header that carries it.")]
Prefix = Annotated[str, Meta(description="What stands before it in the header.")]
Tolerance = Annotated[
    int, Meta(ge=1, le=86_400, description="Seconds that a signed time may be away from now.")
]
MinimumLength = Annotated[
    int, Meta(ge=8, description="Bytes; the gateway does not start with a shorter secret.")
]


class Hmac(
    Struct, frozen=True, kw_only=True, tag_field="scheme", tag="hmac", forbid_unknown_fields=True
):
    """A keyed hash (HMAC) of the body in a header."""

    secret: Secrets
    header: Header
    algorithm: Annotated[
        Literal["sha256", "sha512", "sha1"], Meta(description="The hash; no request chooses it.")
    ] = "sha256"
    prefix: Prefix = ""
    encoding: Annotated[
        Literal["hex", "base64"], Meta(description="How the hash is written in the header.")
    ] = "hex"
    signed: Annotated[
        str,
        Meta(
            description="What the sender hashes: `{body}`, and `{timestamp}` where it signs a time."
        ),
    ] = "{body}"
    timestamp_header: Annotated[
        str, Meta(description="The header with the signed time in epoch seconds.")
    ] = ""
    tolerance: Tolerance = 300
    allow_weak: Annotated[bool, Meta(description="Accepts that `sha1` is weak.")] = False
    minimum_secret_length: MinimumLength = 16


class Token(
    Struct, frozen=True, kw_only=True, tag_field="scheme", tag="token", forbid_unknown_fields=True
):
    """The secret itself in a header, after an optional prefix."""

    secret: Secrets
    header: Header
    prefix: Prefix = ""
    minimum_secret_length: MinimumLength = 16


class Bearer(
    Struct, frozen=True, kw_only=True, tag_field="scheme", tag="bearer", forbid_unknown_fields=True
):
    """`Authorization: Bearer <secret>`."""

    secret: Secrets
    minimum_secret_length: MinimumLength = 16


class Basic(
    Struct, frozen=True, kw_only=True, tag_field="scheme", tag="basic", forbid_unknown_fields=True
):
    """`Authorization: Basic` with a user name and the secret as password."""

    username: Annotated[SecretReference, Meta(description="Where the user name is read from.")]
    secret: Secrets
    minimum_secret_length: MinimumLength = 16


class StandardWebhooks(
    Struct,
    frozen=True,
    kw_only=True,
    tag_field="scheme",
    tag="standard-webhooks",
    forbid_unknown_fields=True,
):
    """The Standard Webhooks specification: the headers `webhook-id`, `webhook-timestamp` and
    `webhook-signature`, and a secret written as `whsec_` and base64."""

    secret: Secrets
    tolerance: Tolerance = 300
    minimum_secret_length: MinimumLength = 16


Scheme = Hmac | Token | Bearer | Basic | StandardWebhooks


class Authentication(Struct, frozen=True, kw_only=True):
    """A scheme with its secrets.

    `verify` takes headers, raw body and now (epoch seconds); `sign` takes a body and now and gives
    the headers that a sender of this scheme adds. Where `needs_body` is false, `verify` ignores the
    body, so a request can be refused before its body is read. `headers` carry credentials.
    """

    needs_body: bool
    headers: frozenset[str]
    verify: Callable[[Headers, bytes, float], bool]
    sign: Callable[[bytes, float], dict[str, str]]


def authentication(
    scheme: Scheme | None,
    keys: tuple[bytes, ...],
    username: bytes = b"",
    spellings: Callable[[bytes], Iterable[bytes]] | None = None,
) -> Authentication:
    """A scheme made ready with its secrets, newest first; None is open to everyone.

    `spellings` yields other texts that a sender may have signed in place of a body.
    """
    match scheme:
        case None:
            return _OPEN
        case Hmac():
            return _hmac(scheme, keys, spellings)
        case Token():
            return _token(scheme.header, scheme.prefix, keys)
        case Bearer():
            return _token("Authorization", "Bearer ", keys)
        case Basic():
            pairs = tuple(base64.b64encode(username + b":" + key) for key in keys)
            return _token("Authorization", "Basic ", pairs)
        case StandardWebhooks():
            return _standard_webhooks(scheme, keys)
        case _:
            assert_never(scheme)


_OPEN = Authentication(
    needs_body=False,
    headers=frozenset(),
    verify=lambda _headers, _body, _now: True,
    sign=lambda _body, _now: {},
)


def nobody() -> Authentication:
    """An authentication that costs what a real one costs and that no request passes."""
    key = secrets.token_bytes(32)
    scheme = Hmac(secret=SecretReference(), header="X-Hub-Signature-256", prefix="sha256=")
    return _hmac(scheme, (key,), None)


def _only(headers: Headers, name: bytes) -> bytes | None:
    """The value of a header that must come exactly once."""
    values = [value for header, value in headers if header == name]
    return values[0] if len(values) == 1 else None


def _token(header: str, prefix: str, keys: tuple[bytes, ...]) -> Authentication:
    name = header.lower().encode()
    expected = tuple(prefix.encode() + key for key in keys)

    def verify(headers: Headers, _body: bytes, _now: float) -> bool:
        value = _only(headers, name)
        return value is not None and _matches(value, expected)

    return Authentication(
        needs_body=False,
        headers=frozenset({header.lower()}),
        verify=verify,
        sign=lambda _body, _now: {header: expected[0].decode()},
    )


def _matches(value: bytes, expected: Iterable[bytes]) -> bool:
    # Every candidate is compared, so that the time does not tell which one fitted.
    return sum(hmac.compare_digest(value, candidate) for candidate in expected) > 0


def _hmac(
    scheme: Hmac, keys: tuple[bytes, ...], spellings: Callable[[bytes], Iterable[bytes]] | None
) -> Authentication:
    name = scheme.header.lower().encode()
    clock = scheme.timestamp_header.lower().encode()
    prefix = scheme.prefix.encode()
    before, _, after = scheme.signed.partition("{body}")

    def digest(key: bytes, body: bytes, moment: bytes) -> bytes:
        if scheme.signed != "{body}":
            stamp = moment.decode("latin-1")
            parts = [
                text.replace("{timestamp}", stamp).encode("latin-1") for text in (before, after)
            ]
            body = parts[0] + body + parts[1]
        raw = hmac.digest(key, body, scheme.algorithm)
        return prefix + (raw.hex().encode() if scheme.encoding == "hex" else base64.b64encode(raw))

    def verify(headers: Headers, body: bytes, now: float) -> bool:
        value = _only(headers, name)
        moment = _only(headers, clock) if clock else b""
        if value is None or moment is None:
            return False
        if clock and not _is_fresh(moment, now, scheme.tolerance):
            return False
        if scheme.encoding == "hex":
            value = prefix + value[len(prefix) :].lower() if value.startswith(prefix) else value
        if _matches(value, (digest(key, body, moment) for key in keys)):
            return True
        return spellings is not None and any(
            _matches(value, (digest(key, text, moment) for key in keys)) for text in spellings(body)
        )

    def sign(body: bytes, now: float) -> dict[str, str]:
        moment = str(int(now)).encode()
        signed = {scheme.header: digest(keys[0], body, moment).decode()}
        return signed | ({scheme.timestamp_header: moment.decode()} if clock else {})

    return Authentication(
        needs_body=True, headers=frozenset({scheme.header.lower()}), verify=verify, sign=sign
    )


def _is_fresh(moment: bytes, now: float, tolerance: int) -> bool:
    return moment.isdigit() and len(moment) <= 12 and abs(now - int(moment)) <= tolerance


def _standard_webhooks(scheme: StandardWebhooks, keys: tuple[bytes, ...]) -> Authentication:
    decoded = tuple(_standard_key(key) for key in keys)

    def digest(key: bytes, identifier: bytes, moment: bytes, body: bytes) -> bytes:
        content = b".".join((identifier, moment, body))
        return b"v1," + base64.b64encode(hmac.digest(key, content, "sha256"))

    def verify(headers: Headers, body: bytes, now: float) -> bool:
        identifier = _only(headers, b"webhook-id")
        moment = _only(headers, b"webhook-timestamp")
        signatures = _only(headers, b"webhook-signature")
        if identifier is None or moment is None or signatures is None:
            return False
        if not _is_fresh(moment, now, scheme.tolerance):
            return False
        expected = [digest(key, identifier, moment, body) for key in decoded]
        return sum(_matches(one, expected) for one in signatures.split(b" ")[:10]) > 0

    def sign(body: bytes, now: float) -> dict[str, str]:
        moment = str(int(now))
        identifier = "msg_" + hashlib.sha256(body).hexdigest()[:24]
        signature = digest(decoded[0], identifier.encode(), moment.encode(), body).decode()
        return {
            "webhook-id": identifier,
            "webhook-timestamp": moment,
            "webhook-signature": signature,
        }

    return Authentication(
        needs_body=True, headers=frozenset({"webhook-signature"}), verify=verify, sign=sign
    )


def _standard_key(key: bytes) -> bytes:
    try:
        return base64.b64decode(key.removeprefix(b"whsec_"), validate=True)
    except binascii.Error:
        return key
