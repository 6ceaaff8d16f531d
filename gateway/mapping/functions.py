"""The functions an expression may call: JMESPath's own, and those that vendors' payloads need.

The string functions carry the names and signatures of the JMESPath community's proposals; only
`overlap` is our own, because a filter cannot see `params`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jmespath import functions

# Untyped: the package's stubs know no optional arguments.
_TEXT: Any = {"types": ["string"]}
_OPTIONAL_TEXT: Any = {"types": ["string"], "optional": True}
_OPTIONAL_NUMBER: Any = {"types": ["number"], "optional": True}
_LIST_OR_NULL: Any = {"types": ["array", "null"]}


class _Functions(functions.Functions):
    """Called by the interpreter; each method is one function, named after its `_func_` prefix."""

    def _validate_arguments(
        self, args: list[Any], signature: tuple[dict[str, Any], ...], function_name: str
    ) -> None:
        # The package knows no optional arguments: the ones not given are left out of its check.
        optional = sum(1 for argument in signature if argument.get("optional"))
        if 0 < len(signature) - len(args) <= optional:
            signature = signature[: len(args)]
        super()._validate_arguments(args, signature, function_name)  # type: ignore[misc]  # Not in the stubs.

    @functions.signature(_TEXT)
    def _func_lower(self, subject: str) -> str:
        return subject.lower()

    @functions.signature(_TEXT)
    def _func_upper(self, subject: str) -> str:
        return subject.upper()

    @functions.signature(_TEXT, _OPTIONAL_TEXT)
    def _func_trim(self, subject: str, chars: str | None = None) -> str:
        return subject.strip(chars or None)

    @functions.signature(_TEXT, _OPTIONAL_TEXT)
    def _func_trim_left(self, subject: str, chars: str | None = None) -> str:
        return subject.lstrip(chars or None)

    @functions.signature(_TEXT, _OPTIONAL_TEXT)
    def _func_trim_right(self, subject: str, chars: str | None = None) -> str:
        return subject.rstrip(chars or None)

    @functions.signature(_TEXT, _TEXT, _OPTIONAL_NUMBER)
    def _func_split(self, subject: str, search: str, count: float | None = None) -> list[str]:
        limit = -1 if count is None else max(0, int(count))
        if search:
            return subject.split(search, limit)
        head = len(subject) if limit < 0 else limit
        rest = subject[head:]
        return [*subject[:head], *([rest] if rest else [])]

    @functions.signature(_TEXT, _TEXT, _TEXT, _OPTIONAL_NUMBER)
    def _func_replace(self, subject: str, old: str, new: str, count: float | None = None) -> str:
        return subject.replace(old, new, -1 if count is None else max(0, int(count)))

    @functions.signature(_TEXT, _TEXT, _OPTIONAL_NUMBER, _OPTIONAL_NUMBER)
    def _func_find_first(
        self, subject: str, sub: str, start: float | None = None, end: float | None = None
    ) -> int | None:
        return _found(subject.find(sub, *_bounds(subject, start, end)), sub)

    @functions.signature(_TEXT, _TEXT, _OPTIONAL_NUMBER, _OPTIONAL_NUMBER)
    def _func_find_last(
        self, subject: str, sub: str, start: float | None = None, end: float | None = None
    ) -> int | None:
        return _found(subject.rfind(sub, *_bounds(subject, start, end)), sub)

    @functions.signature(_LIST_OR_NULL, _LIST_OR_NULL)
    def _func_overlap(self, left: list[Any] | None, right: list[Any] | None) -> bool:
        return any(item in (right or ()) for item in left or ())


def _found(index: int, sub: str) -> int | None:
    return index if index >= 0 and sub else None


def _bounds(subject: str, start: float | None, end: float | None) -> tuple[int, int]:
    return int(start or 0), len(subject) if end is None else int(end)


class Arity(NamedTuple):
    """How many arguments a function takes; `most` is None where there is no end."""

    least: int
    most: int | None

    def takes(self, count: int) -> bool:
        return self.least <= count and (self.most is None or count <= self.most)

    def __str__(self) -> str:
        if self.most is None:
            return f"at least {self.least}"
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"


LIBRARY = _Functions()


def _arity(signature: tuple[dict[str, Any], ...]) -> Arity:
    least = sum(1 for argument in signature if not argument.get("optional"))
    variadic = bool(signature) and bool(signature[-1].get("variadic"))
    return Arity(least, None if variadic else len(signature))


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def direct(name: str, count: int) -> Callable[..., Any] | None:
    """A function whose argument types are checked by identity, for a call with `count` arguments;
    None where its signature needs the package's own checks. What does not fit goes to those checks
    too, which then say what is wrong."""
    entry = LIBRARY.FUNCTION_TABLE.get(name)
    if entry is None or not ARITIES[name].takes(count):
        return None
    signature: tuple[dict[str, Any], ...] = entry["signature"]
    if signature and signature[-1].get("variadic"):
        signature = (*signature[:-1], *(signature[-1],) * (count - len(signature) + 1))
    allowed: list[frozenset[type] | None] = []
    for argument in signature[:count]:
        if any(word not in _TYPES for word in argument["types"]):
            return None
        found = frozenset(one for word in argument["types"] for one in _TYPES[word])
        allowed.append(found or None)
    function: Callable[..., Any] = entry["function"]

    def call(*arguments: Any) -> Any:
        for argument, types in zip(arguments, allowed, strict=True):
            if types is not None and type(argument) not in types:
                return LIBRARY.call_function(name, list(arguments))
        return function(LIBRARY, *arguments)

    return call


ARITIES: dict[str, Arity] = {
    name: _arity(entry["signature"]) for name, entry in LIBRARY.FUNCTION_TABLE.items()
}
