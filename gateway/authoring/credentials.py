"""How a sample's sender proves itself, as far as its headers show it: the keys of `authenticate:`."""

import base64
import binascii
import re
from collections.abc import Mapping

from msgspec import Struct


class Credentials(Struct, frozen=True, kw_only=True):
    """A scheme's keys but for its secrets. `header` is what told, empty where nothing did; `decide`
    says what a person must make sure of."""

    keys: Mapping[str, str | bool]
    header: str = ""
    why: str = ""
    decide: str = ""


_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,100}")
_SIGNATURE = re.compile(r"signature|hmac|(?:^|-)sign?(?:$|-)", re.IGNORECASE)
_TOKEN = re.compile(r"(?:token|secret|api-?key|auth-?key)$", re.IGNORECASE)
_TIMESTAMP = re.compile(r"timestamp$", re.IGNORECASE)
_PREFIX = re.compile(r"[A-Za-z0-9-]{1,16}=(?=[^=])")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,29}")
_SIZES = {32: "sha256", 64: "sha512", 20: "sha1"}
"""Hashes by their length in bytes."""


def credentials(headers: Mapping[str, str]) -> Credentials:
    """What the headers of a sample tell about authentication; a token where they tell nothing."""
    usable = {name: value for name, value in headers.items() if _HEADER_NAME.fullmatch(name)}
    by_name = {name.lower(): name for name in usable}
    if {"webhook-id", "webhook-signature"} <= by_name.keys():
        why = "the headers of Standard Webhooks"
        return Credentials(
            keys={"scheme": "standard-webhooks"}, header="webhook-signature", why=why
        )
    signatures = [_signature(name, value, usable) for name, value in usable.items()]
    found = [one for one in signatures if one is not None]
    if found:
        # The strongest of several, and one whose hash is known rather than one of the name alone.
        return min(found, key=lambda one: (bool(one.keys.get("allow_weak")), bool(one.decide)))
    if "authorization" in by_name:
        return _authorization(usable[by_name["authorization"]])
    for name in usable:
        if _TOKEN.search(name):
            keys = {"scheme": "token", "header": name}
            return Credentials(keys=keys, header=name, why=f"the name `{name}`")
    return Credentials(
        keys={"scheme": "token", "header": "X-Webhook-Token"},
        decide="no header of the sample proves the sender; this one is a guess.",
    )


def _signature(name: str, value: str, headers: Mapping[str, str]) -> Credentials | None:
    if not _SIGNATURE.search(name) or _TIMESTAMP.search(name):
        return None
    prefix = _PREFIX.match(value)
    start = prefix[0] if prefix else ""
    algorithm, encoding = _hash(value[len(start) :].partition(",")[0])
    is_known = bool(algorithm)
    said = re.search(r"sha-?(1|256|512)(?!\d)", start + name, re.IGNORECASE)
    algorithm = algorithm or (f"sha{said[1]}" if said else "sha256")
    keys: dict[str, str | bool] = {"scheme": "hmac", "header": name}
    if algorithm != "sha256":
        keys["algorithm"] = algorithm
    if start:
        keys["prefix"] = start
    if encoding == "base64":
        keys["encoding"] = encoding
    if algorithm == "sha1":
        keys["allow_weak"] = True
    clock = next((one for one in headers if _TIMESTAMP.search(one)), "")
    decide = (
        "" if is_known else "what the sample has here is no hash; look up how the sender signs."
    )
    if clock:
        decide = (
            f"is {clock} signed too? Then add `timestamp_header: {clock}`, and what is signed, such "
            'as `signed: "{timestamp}.{body}"`.'
        )
    why = f"a {algorithm} hash in {encoding}" if is_known else f"the name `{name}`"
    return Credentials(keys=keys, header=name, why=why, decide=decide)


def _hash(text: str) -> tuple[str, str]:
    """The algorithm and the encoding of a hash, by its length; both empty where it is none."""
    if re.fullmatch(r"(?:[0-9a-fA-F]{2})+", text):
        size, encoding = len(text) // 2, "hex"
    else:
        try:
            size, encoding = len(base64.b64decode(text, validate=True)), "base64"
        except (binascii.Error, ValueError):
            return "", ""
    return (_SIZES[size], encoding) if size in _SIZES else ("", "")


def _authorization(value: str) -> Credentials:
    word, _, rest = value.partition(" ")
    header, why = "Authorization", f"`Authorization: {word}`"
    if word.lower() == "bearer" and rest.startswith("eyJ") and rest.count(".") == 2:
        why = "a signed token (JWT) in `Authorization`"
        decide = "is it signed anew for each job, as CI systems do? Then use the scheme `oidc`."
        return Credentials(keys={"scheme": "bearer"}, header=header, why=why, decide=decide)
    if word.lower() in ("basic", "bearer"):
        return Credentials(keys={"scheme": word.lower()}, header=header, why=why)
    keys = {"scheme": "token", "header": header}
    if rest and _WORD.fullmatch(word):
        return Credentials(keys={**keys, "prefix": f"{word} "}, header=header, why=why)
    return Credentials(keys=keys, header=header, why="`Authorization`")
