"""Functions that look for a pattern in a text, by RE2: in time linear in the text, whatever is in it."""

import re
from collections.abc import Sequence
from functools import cache, lru_cache, partial
from typing import Any

from gateway.mapping.functions.entry import Example, FunctionError, Group, Misuse

GROUP = Group("Patterns")

MAX_PATTERN = 1_000
"""Characters of a pattern."""
MAX_SUBJECT = 65_536
"""Characters of a text that a pattern is looked for in; linear time is little only in a short text."""
MAX_MEMORY = 2**20
"""Bytes that one compiled pattern may take, with what it remembers while it looks."""
_CACHED = 128


@cache
def _engine() -> Any:
    # Loading it takes some ten milliseconds, for which a command on mappings without one need not wait.
    import re2  # type: ignore[import-untyped]  # noqa: PLC0415  # It ships no types; loaded by the first pattern.

    return re2


@lru_cache(_CACHED)
def _compiled(pattern: str, *, captures: bool) -> Any:
    """Works on bytes, because the package's way from bytes back to characters is slow. A pattern that
    only has to be found needs no groups, and is found by the faster of RE2's machines."""
    if len(pattern) > MAX_PATTERN:
        raise FunctionError(f"a pattern has at most {MAX_PATTERN} characters, not {len(pattern)}")
    engine = _engine()
    options = engine.Options()
    options.max_mem = MAX_MEMORY
    options.log_errors = False
    options.never_capture = not captures
    try:
        return engine.compile(_encoded(pattern), options)
    except engine.error as error:
        reason = _reason(error.args[0].decode(errors="replace"))
        raise FunctionError(f"`{pattern}` is no pattern: {reason}") from None


def _encoded(text: str) -> bytes:
    # Half a surrogate pair is no character and is found by no pattern, but is no failure either.
    return text.encode(errors="surrogatepass")


def _reason(words: str) -> str:
    """RE2's own words, in an author's where they puzzle most."""
    if words.startswith("invalid perl operator"):
        return "it looks around or behind itself, which RE2 does not do"
    if re.match(r"invalid escape sequence: \\\d", words):
        return "it refers back to a group, which RE2 does not do"
    if words.startswith("pattern too large"):
        return f"it needs more than {MAX_MEMORY // 2**20} MiB"
    return words


_NAMED = r"\\Q.*?(?:\\E|$)|\\.|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|\(\?P?<(?P<name>\w+)>"


def pattern_error(pattern: str, *, named: bool = False) -> str | None:
    """Why a text is no pattern, as a sentence; None where it is one. With `named`, a pattern has to
    name what it captures, each part once."""
    try:
        compiled = _compiled(pattern, captures=named)
    except FunctionError as error:
        return str(error)
    if not named:
        return None
    names = [found["name"] for found in re.finditer(_NAMED, pattern, re.DOTALL) if found["name"]]
    if not compiled.groupindex:
        return f"`{pattern}` names nothing to capture; write `(?<name>...)` around the part to take"
    twice = next((name for name in names if names.count(name) > 1), None)
    return f"`{pattern}` has two groups named `{twice}`" if twice else None


def _refuse(arguments: Sequence[Any], *, named: bool = False) -> Misuse | None:
    pattern = arguments[1]
    error = pattern_error(pattern, named=named) if isinstance(pattern, str) else None
    return Misuse(1, error) if error else None


def _found(name: str, subject: str, compiled: Any) -> Any:
    if len(subject) > MAX_SUBJECT:
        raise FunctionError(f"{name}() looks at no text of more than {MAX_SUBJECT} characters")
    return compiled.search(_encoded(subject))


@GROUP.function(
    "capture(subject: string, pattern: string) -> object|null",
    """The named parts of the first place where a [pattern](#the-syntax-of-patterns) is found in a text,
    as an object of text by name. A part is named by `(?<name>...)`; plain parentheses only group. A
    part that took no share in the match is `null`, and all is `null` where the pattern is not
    found.""",
    Example("capture(body.ref, '^refs/tags/v(?<version>.+)$').version", '"1.4.0"',
            '{"ref": "refs/tags/v1.4.0"}'),
    Example("capture('OPS-7: mend (#42)', '(?<issue>[A-Z]+-[0-9]+).*#(?<pull>[0-9]+)')",
            '{"issue": "OPS-7", "pull": "42"}'),
    Example("capture('shop-1.2', '^(?<app>[a-z]+)(?:-(?<version>[0-9.]+))?$')",
            '{"app": "shop", "version": "1.2"}'),
    Example("capture('shop', '^(?<app>[a-z]+)(?:-(?<version>[0-9.]+))?$')",
            '{"app": "shop", "version": null}'),
    Example("capture('main', '^v(?<version>.+)$')", "null"),
    Example("capture('main', '^v(?<version>.+)$').version", "null"),
    Example("capture('v1', 'v(.+)')", fails="names nothing to capture"),
    keywords=("regex", "regexp", "regex_search", "regex_capture", "extract", "regex_extract", "search",
              "match", "group", "regex_replace"),
    refuse=partial(_refuse, named=True),
)  # fmt: skip
def capture(subject: str, pattern: str) -> dict[str, str | None] | None:
    error = _named_error(pattern)
    if error:
        raise FunctionError(error)
    found = _found("capture", subject, _compiled(pattern, captures=True))
    if found is None:
        return None
    return {
        name.decode(): None if part is None else part.decode(errors="replace")
        for name, part in found.groupdict().items()
    }


@lru_cache(_CACHED)
def _named_error(pattern: str) -> str | None:
    return pattern_error(pattern, named=True)


@GROUP.function(
    "matches(subject: string, pattern: string) -> boolean",
    """Whether a [pattern](#the-syntax-of-patterns) is found anywhere in a text. `^` and `$` tie it to the
    text's beginning and end.""",
    Example("matches(body.ref, '^refs/heads/(main|release/.+)$')", "true",
            '{"ref": "refs/heads/release/2.1"}'),
    Example("matches('Deploy to prod', '(?i)deploy')", "true"),
    Example("matches('v1.2-rc1', '^v[0-9.]+$')", "false"),
    Example("matches(body.ref, '^v')", body="{}", fails="takes string, not null"),
    Example("matches('a', 'a(?=b)')", fails="it looks around or behind itself"),
    keywords=("regex", "regexp", "regex_match", "match", "test", "like", "glob", "pattern_match"),
    refuse=_refuse,
)  # fmt: skip
def matches(subject: str, pattern: str) -> bool:
    return _found("matches", subject, _compiled(pattern, captures=False)) is not None
