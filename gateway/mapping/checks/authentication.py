"""The checks of how a source authenticates."""

import re

from gateway.addresses import network
from gateway.authentication import Basic, Hmac, Oidc, SecretReference
from gateway.mapping.checks.view import Findings, MappingView, finding
from gateway.mapping.shape import Path


def secret_reference(view: MappingView) -> Findings:
    """A secret is read from exactly one place: `env: NAME` or `file: PATH`."""
    scheme = view.mapping.authenticate
    if isinstance(scheme, str | Oidc):
        return
    references: list[tuple[Path, SecretReference]] = []
    base: Path = ("authenticate",)
    if isinstance(scheme, Basic):
        references.append(((*base, "username"), scheme.username))
    if isinstance(scheme.secret, list):
        references += [((*base, "secret", n), one) for n, one in enumerate(scheme.secret)]
        if not scheme.secret and view.places.is_list(*base, "secret"):
            yield finding(
                secret_reference, view.places.span(*base, "secret"), "the list of secrets is empty"
            )
    else:
        references.append(((*base, "secret"), scheme.secret))
    for path, reference in references:
        written = [key for key in ("env", "file") if (*path, key) in view.places.nodes]
        readable = all(view.places.text(*path, key) for key in written)
        if not view.places.is_table(*path) or not readable:
            continue
        span = view.places.span(*path)
        if bool(reference.env) == bool(reference.file):
            message = "a secret needs exactly one of `env` and `file`"
            yield finding(secret_reference, span, message, "write `{env: NAME}` or `{file: PATH}`")
        elif reference.env and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", reference.env):
            message = f"`{reference.env}` is no name of an environment variable"
            yield finding(
                secret_reference, span, message, "the secret itself is never written here"
            )


def weak_algorithm(view: MappingView) -> Findings:
    """SHA-1 is declared without saying that its weakness is accepted."""
    scheme = view.mapping.authenticate
    written = view.places.text("authenticate", "algorithm")
    if written is None or written.value != "sha1":
        return
    if isinstance(scheme, Hmac) and not scheme.allow_weak:
        mend = "use sha256; where the sender knows no other, add `allow_weak: true`"
        yield finding(weak_algorithm, written.span, "sha1 is weak", mend)


def unsigned_body(view: MappingView) -> Findings:
    """What the sender signs must contain the body, and a timestamp must come from a header.

    `signed` is made of `{body}`, `{timestamp}` and text that stands for itself.
    """
    scheme = view.mapping.authenticate
    if not isinstance(scheme, Hmac):
        return
    written = view.places.text("authenticate", "signed")
    if written is None and ("authenticate", "signed") in view.places.nodes:
        return
    span = written.span if written else view.places.key("authenticate", "timestamp_header")
    if scheme.signed.count("{body}") != 1:
        yield finding(unsigned_body, span, "`signed` must contain `{body}` once")
    if ("{timestamp}" in scheme.signed) != bool(scheme.timestamp_header or scheme.timestamp_prefix):
        message = "`{timestamp}` in `signed` and where that time stands belong together"
        mend = 'write what the sender signs, such as `signed: "{timestamp}.{body}"`'
        if not scheme.timestamp_header:
            mend = "name the header that holds the time: `timestamp_header: X-Request-Timestamp`"
        yield finding(unsigned_body, span, message, mend)
    for word in re.findall(r"\{\w*\}", scheme.signed):
        if word not in ("{body}", "{timestamp}"):
            message = f"`{word}` in `signed` stands for nothing"
            yield finding(unsigned_body, span, message, "known: {body}, {timestamp}")


def unlimited_issuer(view: MappingView) -> Findings:
    """An issuer signs tokens for everyone who has an account there, with any audience that is asked for.
    What a token must say besides is what tells yours from theirs."""
    scheme = view.mapping.authenticate
    path: Path = ("authenticate", "claims")
    if not isinstance(scheme, Oidc) or not view.places.is_table(*path):
        return
    span = view.places.key(*path)
    if not scheme.claims:
        mend = "name what only your jobs have, such as `repository_owner: octo`"
        yield finding(
            unlimited_issuer, span, f"everyone with an account at {scheme.issuer} fits", mend
        )
    for name, wanted in scheme.claims.items():
        if not wanted and (view.places.is_list(*path, name) or view.places.text(*path, name)):
            message = f"no value of the claim `{name}` fits"
            yield finding(unlimited_issuer, view.places.span(*path, name), message, "name one")


def address_range(view: MappingView) -> Findings:
    """What `allow_from` holds is a network or an address; a network has no bits behind its prefix. An
    empty list would let nobody send."""
    path: Path = ("allow_from",)
    if not view.mapping.allow_from and view.places.is_list(*path):
        span = view.places.key(*path)
        yield finding(address_range, span, "nobody could send", "name a network, or leave it out")
    for index, text in enumerate(view.mapping.allow_from):
        if not view.places.text(*path, index):
            continue
        try:
            network(text)
        except ValueError as error:
            what, _, mend = str(error).partition("; ")
            yield finding(address_range, view.places.span(*path, index), f"`{text}` {what}", mend)


CHECKS = (
    secret_reference,
    weak_algorithm,
    unsigned_body,
    unlimited_issuer,
    address_range,
)
