"""Is this request from whom it claims? The schemes as data, each able to verify and to sign.

Verification works on the raw bytes of headers and body, compares in constant time, and uses only
what the mapping declares: nothing in a request chooses an algorithm or a secret.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal, Protocol, assert_never

from msgspec import Meta, Struct

from gateway import urlencoded

Headers = Iterable[tuple[bytes, bytes]]
"""Header names in lower case with their values, in the order received."""

MAX_PARTS = 10
"""Parts of one header that are looked at; a sender that rotates its secrets sends two signatures."""

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
    timestamp_header: Annotated[str, Meta(description="The header with the signed time.")] = ""
    timestamp_prefix: Annotated[
        str,
        Meta(
            description="What stands before the signed time, where that is another part of the header "
            "of the signature: `t=`."
        ),
    ] = ""
    timestamp_format: Annotated[
        Literal["epoch", "iso"],
        Meta(description="How the signed time is written: epoch seconds, or ISO 8601."),
    ] = "epoch"
    separator: Annotated[
        str,
        Meta(
            description="What stands between the parts of the header, where it holds several: one of "
            "the signatures must fit, those of other prefixes are passed over."
        ),
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


class QueryToken(
    Struct,
    frozen=True,
    kw_only=True,
    tag_field="scheme",
    tag="query-token",
    forbid_unknown_fields=True,
):
    """The secret itself in a parameter of the URL, for senders that can add no header. URLs are written
    to more logs than headers are."""

    secret: Secrets
    parameter: Annotated[
        str, Meta(pattern="^[A-Za-z0-9_-]{1,100}$", description="The parameter that carries it.")
    ] = "token"
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


class Oidc(
    Struct, frozen=True, kw_only=True, tag_field="scheme", tag="oidc", forbid_unknown_fields=True
):
    """`Authorization: Bearer <token>` with a token that an OpenID Connect issuer signed for the job that
    sends: no secret is shared. It proves who sends, not what is sent."""

    issuer: Annotated[
        str,
        Meta(
            pattern=r"^https://[^\s/?#]+(/[^\s?#]*)?$",
            description="The issuer, as its tokens name it.",
        ),
    ]
    audience: Annotated[
        str,
        Meta(min_length=1, description="Whom the token must be for, and nobody besides."),
    ]
    claims: Annotated[
        dict[str, list[str] | str],
        Meta(
            description="What the token must say: for each claim a text, or a list of those that may be."
        ),
    ]
    jwks_file: Annotated[
        str,
        Meta(description="A file with the issuer's keys, where they cannot be fetched from it."),
    ] = ""
    tolerance: Annotated[
        int, Meta(ge=0, le=600, description="Seconds that the clocks may differ by.")
    ] = 60


Shared = Hmac | Token | QueryToken | Bearer | Basic | StandardWebhooks
"""The schemes by which sender and gateway share a secret."""
Scheme = Shared | Oidc


class Verify(Protocol):
    """Whether a request is authentic."""

    def __call__(self, headers: Headers, body: bytes, now: float, query: bytes = b"") -> bool: ...


class Authentication(Struct, frozen=True, kw_only=True):
    """A scheme with its secrets.

    `verify` takes headers, raw body, now (epoch seconds) and the raw query of the URL; `sign` takes a
    body and now and gives the headers that a sender of this scheme adds. Where `needs_body` is false,
    `verify` ignores the body, so a request can be refused before its body is read. `headers` carry
    credentials, and so do `parameters`, which are those that a sender adds to the URL.

    `prepare`, where there is one, comes before `verify`; False where it cannot be told now whether a
    request is authentic. `fault` says why one is not, without anything that the request holds.
    """

    needs_body: bool
    headers: frozenset[str]
    verify: Verify
    sign: Callable[[bytes, float], dict[str, str]]
    parameters: Mapping[str, str] = {}
    prepare: Callable[[Headers], Awaitable[bool]] | None = None
    fault: Callable[[Headers, float], str] | None = None

    def told_fault(self, headers: Headers, now: float) -> str:
        """Why a request that is not authentic is not, as far as its operator may have to mend it; nothing
        of what the request holds."""
        if self.fault is not None:
            return self.fault(headers, now)
        for name in sorted(self.headers):
            times = sum(header == name.encode() for header, _ in headers)
            if times != 1:
                return f"it has `{name}` {times} times" if times else f"it has no header `{name}`"
        proofs = [f"`{name}`" for name in sorted(self.headers)]
        proofs += [f"`{name}` of the URL" for name in sorted(self.parameters)]
        return f"what it has in {' and '.join(proofs)} does not fit: another secret, or another time or body"


def authentication(
    scheme: Shared | None,
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
        case QueryToken():
            return _query_token(scheme.parameter, keys)
        case Bearer():
            return _token("Authorization", "Bearer ", keys)
        case Basic():
            pairs = tuple(base64.b64encode(username + b":" + key) for key in keys)
            return _token("Authorization", "Basic ", pairs)
        case StandardWebhooks():
            return _standard_webhooks(scheme, keys)
        case _:
            assert_never(scheme)


def strength(scheme: Shared, key: bytes) -> int:
    """The bytes of a secret that someone would have to guess."""
    return len(_standard_key(key) if isinstance(scheme, StandardWebhooks) else key)


def _everyone(headers: Headers, body: bytes, now: float, query: bytes = b"") -> bool:
    return True


_OPEN = Authentication(
    needs_body=False,
    headers=frozenset(),
    verify=_everyone,
    sign=lambda _body, _now: {},
)


def nobody() -> Authentication:
    """An authentication that costs what a real one costs and that no request passes."""
    key = secrets.token_bytes(32)
    scheme = Hmac(secret=SecretReference(), header="X-Hub-Signature-256", prefix="sha256=")
    return _hmac(scheme, (key,), None)


def only(headers: Headers, name: bytes) -> bytes | None:
    """The value of a header that must come exactly once."""
    values = [value for header, value in headers if header == name]
    return values[0] if len(values) == 1 else None


def _token(header: str, prefix: str, keys: tuple[bytes, ...]) -> Authentication:
    name = header.lower().encode()
    expected = tuple(prefix.encode() + key for key in keys)

    def verify(headers: Headers, body: bytes, now: float, query: bytes = b"") -> bool:
        value = only(headers, name)
        return value is not None and _matches(value, expected)

    return Authentication(
        needs_body=False,
        headers=frozenset({header.lower()}),
        verify=verify,
        sign=lambda _body, _now: {header: expected[0].decode()},
    )


def _query_token(parameter: str, keys: tuple[bytes, ...]) -> Authentication:
    def verify(headers: Headers, body: bytes, now: float, query: bytes = b"") -> bool:
        try:
            pairs = urlencoded.fields(query, 100)
        except ValueError:
            return False
        values = [value for name, value in pairs if name == parameter.encode()]
        return len(values) == 1 and _matches(values[0], keys)

    return Authentication(
        needs_body=False,
        headers=frozenset(),
        verify=verify,
        sign=lambda _body, _now: {},
        parameters={parameter: keys[0].decode(errors="replace")},
    )


def _matches(value: bytes, expected: Iterable[bytes]) -> bool:
    # Every candidate is compared, so that the time does not tell which one fitted.
    return sum(hmac.compare_digest(value, candidate) for candidate in expected) > 0


def _hmac(
    scheme: Hmac, keys: tuple[bytes, ...], spellings: Callable[[bytes], Iterable[bytes]] | None
) -> Authentication:
    name = scheme.header.lower().encode()
    clock = scheme.timestamp_header.lower().encode()
    beside = scheme.timestamp_prefix.encode()
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

    def parts(value: bytes) -> list[bytes]:
        if not scheme.separator:
            return [value]
        return [one.strip() for one in value.split(scheme.separator.encode())[:MAX_PARTS]]

    def time_of(headers: Headers, found: list[bytes]) -> bytes | None:
        """The signed time; empty where none is signed, None where it is not there."""
        if clock:
            return only(headers, clock)
        if not beside:
            return b""
        times = [one.removeprefix(beside) for one in found if one.startswith(beside)]
        return times[0] if len(times) == 1 else None

    def verify(headers: Headers, body: bytes, now: float, query: bytes = b"") -> bool:
        value = only(headers, name)
        if value is None:
            return False
        found = parts(value)
        moment = time_of(headers, found)
        if moment is None:
            return False
        if (clock or beside) and not _is_fresh(moment, now, scheme):
            return False
        if scheme.encoding == "hex":
            found = [
                prefix + one[len(prefix) :].lower() if one.startswith(prefix) else one
                for one in found
            ]
        if _one_matches(found, [digest(key, body, moment) for key in keys]):
            return True
        return spellings is not None and any(
            _one_matches(found, [digest(key, text, moment) for key in keys])
            for text in spellings(body)
        )

    def sign(body: bytes, now: float) -> dict[str, str]:
        moment = _written(now, scheme.timestamp_format)
        signature = digest(keys[0], body, moment.encode()).decode()
        if beside:
            both = (scheme.timestamp_prefix + moment, signature)
            return {scheme.header: scheme.separator.join(both)}
        return {scheme.header: signature} | ({scheme.timestamp_header: moment} if clock else {})

    return Authentication(
        needs_body=True, headers=frozenset({scheme.header.lower()}), verify=verify, sign=sign
    )


def _one_matches(found: Iterable[bytes], expected: list[bytes]) -> bool:
    return sum(_matches(one, expected) for one in found) > 0


def _is_fresh(moment: bytes, now: float, scheme: "Hmac | StandardWebhooks") -> bool:
    form = scheme.timestamp_format if isinstance(scheme, Hmac) else "epoch"
    seconds = epoch(moment.decode("latin-1"), form)
    return seconds is not None and abs(now - seconds) <= scheme.tolerance


def epoch(moment: str, form: str) -> float | None:
    """A signed time in epoch seconds; None where it is none of this form."""
    if form == "epoch":
        digits = moment.isascii() and moment.isdigit() and len(moment) <= 12
        return float(moment) if digits else None
    try:
        written = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return written.timestamp() if written.tzinfo is not None else None


def _written(now: float, form: str) -> str:
    if form == "epoch":
        return str(int(now))
    return datetime.fromtimestamp(int(now), UTC).isoformat().replace("+00:00", "Z")


def _standard_webhooks(scheme: StandardWebhooks, keys: tuple[bytes, ...]) -> Authentication:
    decoded = tuple(_standard_key(key) for key in keys)

    def digest(key: bytes, identifier: bytes, moment: bytes, body: bytes) -> bytes:
        content = b".".join((identifier, moment, body))
        return b"v1," + base64.b64encode(hmac.digest(key, content, "sha256"))

    def verify(headers: Headers, body: bytes, now: float, query: bytes = b"") -> bool:
        identifier = only(headers, b"webhook-id")
        moment = only(headers, b"webhook-timestamp")
        signatures = only(headers, b"webhook-signature")
        if identifier is None or moment is None or signatures is None:
            return False
        if not _is_fresh(moment, now, scheme):
            return False
        expected = [digest(key, identifier, moment, body) for key in decoded]
        return _one_matches(signatures.split(b" ")[:MAX_PARTS], expected)

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
