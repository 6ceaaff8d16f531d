"""What a mapping says of its source, in words: how senders prove themselves, events, kinds, params. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, assert_never

from msgspec import Struct

from gateway.authentication import (
    Basic,
    Bearer,
    Hmac,
    Oidc,
    QueryToken,
    Scheme,
    StandardWebhooks,
    Token,
)
from gateway.mapping import certainty
from gateway.mapping.certainty import Node
from gateway.mapping.compiler import CompiledMapping
from gateway.mapping.document import Table


class Param(Struct, frozen=True):
    """A param, its default, and the comment above it in the mapping."""

    name: str
    default: Any
    meaning: str


def kinds(mapping: CompiledMapping) -> list[str]:
    """The kinds that the rules emit, in the rules' order."""
    return list(dict.fromkeys(rule.model.kind for rule in mapping.plan.rules))


def scheme_name(scheme: Scheme | None) -> str:
    """How the source authenticates in a word, as `authenticate:` says it."""
    return "none" if scheme is None else str(type(scheme).__struct_config__.tag)


def carrier(scheme: Scheme | None) -> str:
    """Where a request carries what proves its sender: a header, or a parameter of the URL."""
    match scheme:
        case None:
            return ""
        case Hmac() | Token():
            return scheme.header
        case QueryToken():
            return f"?{scheme.parameter}="
        case Bearer() | Basic() | Oidc():
            return "Authorization"
        case StandardWebhooks():
            return "webhook-signature"
        case _:
            assert_never(scheme)


def evidence(scheme: Scheme | None) -> str:
    """What a sender must show, in a sentence without its end."""
    match scheme:
        case None:
            return "nothing: whoever reaches the URL is believed"
        case Hmac():
            return _signature(scheme)
        case Token():
            return f"the secret itself in the header `{scheme.header}`{_after(scheme.prefix)}"
        case QueryToken():
            return f"the secret itself in the URL, as `?{scheme.parameter}=<secret>`"
        case Bearer():
            return "the secret itself in the header `Authorization`, after `Bearer `"
        case Basic():
            return "a user name, and the secret as its password (HTTP basic authentication)"
        case Oidc():
            return _of_issuer(scheme)
        case StandardWebhooks():
            return (
                "a signature as Standard Webhooks has it in the header `webhook-signature`, with a time "
                f"at most {scheme.tolerance} seconds away"
            )
        case _:
            assert_never(scheme)


def _signature(scheme: Hmac) -> str:
    encoding = {"hex": "hexadecimal", "base64": "base64"}[scheme.encoding]
    signed = "the body" if scheme.signed == "{body}" else f"`{scheme.signed}`"
    words = [
        f"an HMAC-{scheme.algorithm.upper()} of {signed} in the header `{scheme.header}`, in {encoding}"
        + _after(scheme.prefix)
    ]
    if scheme.separator:
        words.append(f"between other parts that `{scheme.separator}` separates")
    if scheme.timestamp_header:
        words.append(
            f"with the time in `{scheme.timestamp_header}`, at most {scheme.tolerance} seconds away"
        )
    elif scheme.timestamp_prefix:
        words.append(
            f"with the time after `{scheme.timestamp_prefix}`, at most {scheme.tolerance} seconds away"
        )
    return ", ".join(words)


def _of_issuer(scheme: Oidc) -> str:
    claims = ", ".join(
        f"`{name}` {'any of ' * (len(wanted) > 1)}{', '.join(f'`{one}`' for one in wanted)}"
        for name, given in scheme.claims.items()
        for wanted in [[given] if isinstance(given, str) else given]
    )
    return (
        f"a token that {scheme.issuer} signed for `{scheme.audience}`, with {claims}, in the header "
        "`Authorization` after `Bearer `"
    )


def _after(prefix: str) -> str:
    return f" after `{prefix}`" if prefix else ""


# Events


def events(mapping: CompiledMapping) -> list[str]:
    """The values of `event` that conditions ask for by name, as far as they say so in constants; where
    they ask for a beginning, that and `*`."""
    found: list[str] = []
    for path, expression in mapping.expressions.items():
        if path[0] == "rules" and path[2] == "when":
            found += _asked(expression.tree)
    return list(dict.fromkeys(found))


def _asked(node: Node) -> Iterator[str]:
    children = node["children"]
    match node["type"], node.get("value"):
        case (("and_expression" | "or_expression"), _):
            for child in children:
                yield from _asked(child)
        case "comparator", "eq":
            yield from _constants(children[1], children[0])
            yield from _constants(children[0], children[1])
        case "function_expression", "contains":
            yield from _constants(children[0], children[1])
        case "function_expression", "starts_with":
            yield from (f"{one}*" for one in _constants(children[1], children[0]))


def _constants(operand: Node, subject: Node) -> Iterator[str]:
    """The texts that the operand is, where the subject is `event` or what stands in for it."""
    if not _is_event(subject):
        return
    value = certainty.constant(operand)
    yield from (one for one in (value if isinstance(value, list) else [value]) if _is_text(one))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_event(node: Node) -> bool:
    if node["type"] in ("or_expression", "function_expression"):
        return any(map(_is_event, node["children"]))
    return (node["type"], node.get("value")) == ("field", "event")


# Params


def params(mapping: CompiledMapping, texts: Mapping[str, str]) -> list[Param]:
    """The params with the comments right above them, those of inherited ones included. `texts` are
    the files by their names."""
    written = mapping.document.get("params")
    if not isinstance(written, Table):
        return []
    lines = {file: text.splitlines() for file, text in texts.items()}
    return [
        Param(
            str(key.value),
            mapping.plan.params[str(key.value)],
            _comment(lines.get(key.span.file, []), key.span.line),
        )
        for key, _ in written.entries
    ]


def _comment(lines: list[str], line: int) -> str:
    """The comment in the lines right above one."""
    found: list[str] = []
    for text in reversed(lines[: line - 1]):
        if not text.lstrip().startswith("#"):
            break
        found.append(text.strip().removeprefix("#").strip())
    return " ".join(reversed(found))
