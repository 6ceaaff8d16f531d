"""Tokens that an OpenID Connect issuer signs for its jobs, as CI systems have them: whether one is right, and the keys that tell."""

import asyncio
import contextlib
import json
import logging
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from functools import cache
from types import ModuleType
from typing import IO, Any, Literal, Protocol

from gateway.authentication import Authentication, Headers, Oidc, only

log = logging.getLogger("gateway")

TIMEOUT = 4
"""Seconds for each step of a request."""
LONGEST = 15.0
"""Seconds for all steps of a fetch, after which nothing more is read: an issuer whose answer goes on and on
would keep its keys from being asked for again."""
PATIENCE = 6.0
"""Seconds that a delivery waits for keys; below the answers that senders wait for."""
FRESH = 3_600.0
"""Seconds after which keys are fetched again, beside the deliveries that are judged by them."""
PAUSE = 60.0
"""Seconds between two requests for keys: whoever makes up key ids must not make the gateway send."""
MAX_DOCUMENT = 1_048_576
MAX_TOKEN = 16_384
_LEAST_RSA_BITS = 2_048
_PREFIX = b"Bearer "

Algorithm = Literal["RS256", "ES256"]
Key = tuple[Algorithm, Any]
Keys = Mapping[str, Key]
"""Public keys by their ids, each with the one algorithm that it is for."""


class CannotRead(Exception):
    """What should hold keys does not; the message says why."""


class KeySource(Protocol):
    """Where the keys of an issuer come from. `keys` are those known now."""

    @property
    def keys(self) -> Keys: ...

    async def prepare(self, kid: str) -> bool:
        """Makes sure that the key is known if there is one; False where no keys can be had."""
        ...


class Fixed:
    """Keys that were read from a file."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    async def prepare(self, kid: str) -> bool:
        return True


class Issuer:
    """The keys of an issuer, fetched when a token needs them and kept while the issuer is away."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: Keys = {}
        self._fetched = self._tried = float("-inf")
        self._fetching: asyncio.Future[None] | None = None

    async def prepare(self, kid: str) -> bool:
        now = time.monotonic()
        is_known = kid in self.keys
        if is_known and now - self._fetched < FRESH:
            return True
        if self._fetching is None and now - self._tried >= PAUSE:
            self._tried = now
            self._fetching = self._fetch()
        if not is_known and self._fetching is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await asyncio.shield(self._fetching)
        return bool(self.keys)

    def _fetch(self) -> asyncio.Future[None]:
        """Fetches in a thread of its own: a resolver or a host that hangs keeps nobody."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(found: Keys | str) -> None:
            self._fetching = None
            if isinstance(found, str):
                kept = "; those known are used on" if self.keys else ""
                log.warning("the keys of %s cannot be fetched: %s%s", self.url, found, kept)
            else:
                self.keys, self._fetched = found, time.monotonic()
            done.set_result(None)

        def run() -> None:
            found: Keys | str
            try:
                found = fetch(self.url)
            except CannotRead as error:
                found = str(error)
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits.
                loop.call_soon_threadsafe(settle, found)

        threading.Thread(target=run, name="issuer", daemon=True).start()
        return done


issuer = cache(Issuer)
"""The issuer of a URL: one object for each, so that a reload does not forget its keys."""


def has_keys(scheme: Oidc) -> bool:
    """Whether keys are known by which a token could be judged."""
    return bool(scheme.jwks_file or issuer(scheme.issuer).keys)


def library() -> ModuleType | None:
    """The package that reads tokens; None where it is not installed."""
    try:
        import jwt  # noqa: PLC0415  # An extra, which most installations do without.
    except ImportError:
        return None
    return jwt


def authentication(scheme: Oidc, source: KeySource) -> Authentication:
    """The scheme made ready. It can sign nothing: that is the issuer's alone."""

    def verify(headers: Headers, body: bytes, now: float, query: bytes = b"") -> bool:
        return not fault(headers, now)

    def fault(headers: Headers, now: float) -> str:
        token = _token(headers)
        if token is None:
            return "there is no one token in `authorization`, after `Bearer `"
        return token_fault(scheme, source.keys, token)

    async def prepare(headers: Headers) -> bool:
        token = _token(headers)
        kid = _kid(token) if token is not None else None
        # Without a key id it is refused, whatever the keys are.
        return kid is None or await source.prepare(kid)

    return Authentication(
        needs_body=False,
        headers=frozenset({"authorization"}),
        verify=verify,
        sign=lambda _body, _now: {},
        fault=fault,
        prepare=prepare,
    )


def _token(headers: Headers) -> bytes | None:
    value = only(headers, b"authorization")
    if value is None or not value.startswith(_PREFIX) or len(value) > MAX_TOKEN:
        return None
    return value.removeprefix(_PREFIX)


def _kid(token: bytes) -> str | None:
    """The id of the key that a token names; None where it is no token."""
    jwt = _required()
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    return kid if isinstance(kid, str) else None


def token_fault(scheme: Oidc, keys: Keys, token: bytes) -> str:
    """Why a token is not right, in words without anything out of the token; empty where it is."""
    jwt = _required()
    kid = _kid(token)
    if kid is None:
        return "it is no token, or names no key"
    if kid not in keys:
        return f"its key is none of those of {scheme.issuer}"
    algorithm, key = keys[kid]
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=scheme.audience,
            issuer=scheme.issuer,
            leeway=scheme.tolerance,
            options={"require": ["exp", "iat", "iss", "aud"], "strict_aud": True},
        )
    except jwt.PyJWTError as error:
        return _FAULTS.get(type(error).__name__, "it is not signed by its key, or is no token")
    except (TypeError, ValueError, OverflowError, RecursionError):
        return "it is no token"
    wrong = [name for name, wanted in scheme.claims.items() if not _fits(claims.get(name), wanted)]
    return f"its claim `{wrong[0]}` is none of those asked for" if wrong else ""


_FAULTS = {
    "ExpiredSignatureError": "it has expired",
    "ImmatureSignatureError": "it is not valid yet",
    "InvalidAudienceError": "it is for another audience",
    "InvalidIssuerError": "it is another issuer's",
    "InvalidAlgorithmError": "its algorithm is not that of its key",
    "MissingRequiredClaimError": "it lacks a claim that every token has",
}


def _fits(value: Any, wanted: list[str] | str) -> bool:
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int):
        value = str(value)
    return value in ([wanted] if isinstance(wanted, str) else wanted)


def _required() -> Any:
    jwt = library()
    if jwt is None:
        raise CannotRead("PyJWT is not installed")
    return jwt


# Keys


def keys_of(document: object) -> Keys:
    """The keys of a key set (JWKS) that may sign tokens here. Raises CannotRead where there is none."""
    listed = document.get("keys") if isinstance(document, dict) else None
    found: dict[str, Key] = {}
    for one in listed if isinstance(listed, list) else []:
        key = _key(one)
        if key is not None:
            found[one["kid"]] = key
    if not found:
        raise CannotRead("it holds no key with an id for RS256 (2048 bits or more) or ES256")
    return found


def _key(one: Any) -> Key | None:
    """A key of a set; None where it is none that is taken: keys of other kinds may lie beside it."""
    if not isinstance(one, dict) or not isinstance(one.get("kid"), str):
        return None
    algorithm: Algorithm
    if one.get("kty") == "RSA":
        algorithm = "RS256"
    elif (one.get("kty"), one.get("crv")) == ("EC", "P-256"):
        algorithm = "ES256"
    else:
        return None
    if one.get("alg", algorithm) != algorithm or one.get("use", "sig") != "sig" or "d" in one:
        return None
    jwt = _required()
    try:
        key = jwt.PyJWK(one, algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return None if key.key_size < _LEAST_RSA_BITS and algorithm == "RS256" else (algorithm, key)


def read(text: bytes) -> Keys:
    """The keys of a file. Raises CannotRead."""
    try:
        return keys_of(json.loads(text))
    except (ValueError, RecursionError):
        raise CannotRead("it is not JSON") from None


def fetch(url: str, within: float = LONGEST) -> Keys:
    """The keys of an issuer, by way of its discovery document, within so many seconds. Raises
    CannotRead."""
    end = time.monotonic() + within
    found = _document(f"{url.rstrip('/')}/.well-known/openid-configuration", end)
    if not isinstance(found, dict) or found.get("issuer") != url:
        raise CannotRead("its discovery document is another issuer's")
    where = found.get("jwks_uri")
    if not isinstance(where, str) or not where.startswith("https://"):
        raise CannotRead("its discovery document leads to no keys over HTTPS")
    return keys_of(_document(where, end))


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the answer is the issuer's own."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        return None


def _reads_until(end: float) -> type[ssl.SSLSocket]:
    """A socket that reads up to this time of the monotonic clock: a timeout is for each read alone, of
    which an answer may have one for each of its bytes."""

    class Socket(ssl.SSLSocket):
        def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("the answer takes too long")
            self.settimeout(min(TIMEOUT, left))
            return super().recv_into(buffer, nbytes, flags)

    return Socket


def _document(url: str, end: float) -> object:
    context = ssl.create_default_context()
    context.sslsocket_class = _reads_until(end)
    tls = urllib.request.HTTPSHandler(context=context)
    opener = urllib.request.build_opener(tls, _Stay())
    asked = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310  # HTTPS, as was looked at.
    try:
        with opener.open(asked, timeout=TIMEOUT) as answer:
            text = answer.read(MAX_DOCUMENT + 1)
    except urllib.error.HTTPError as error:
        error.close()
        raise CannotRead(f"{url} answered {error.code}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise CannotRead(f"{url}: {reason or type(error).__name__}") from None
    except Exception as error:  # noqa: BLE001  # What http.client raises of a broken answer has many names.
        raise CannotRead(f"{url}: {type(error).__name__}") from None
    if len(text) > MAX_DOCUMENT:
        raise CannotRead(f"{url} is larger than {MAX_DOCUMENT} bytes")
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError):
        raise CannotRead(f"{url} is not JSON") from None
    return document
