"""The functions an expression may call: JMESPath's own, and those that vendors' payloads need.

Each is declared once, in the module of its group: `Group.function` says how.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

from jmespath import functions
from jmespath.exceptions import JMESPathTypeError

from gateway.mapping.functions import (
    addresses,
    arithmetic,
    lists,
    objects,
    patterns,
    text,
    times,
    values,
)
from gateway.mapping.functions.entry import (
    PYTHON_TYPES,
    Arity,
    Function,
    FunctionError,
    Group,
    Misuse,
    NotLiteral,
    Signature,
)

GROUPS: tuple[Group, ...] = (
    values.GROUP,
    text.GROUP,
    patterns.GROUP,
    times.GROUP,
    addresses.GROUP,
    lists.GROUP,
    objects.GROUP,
    arithmetic.GROUP,
)
FUNCTIONS: Mapping[str, Function] = {
    function.name: function
    for function in sorted(
        (function for group in GROUPS for function in group.functions), key=lambda one: one.name
    )
}
"""All functions by name."""

SIGNATURES: Mapping[str, Signature] = {
    name: function.signature for name, function in FUNCTIONS.items()
}
ARITIES: Mapping[str, Arity] = {name: signature.arity for name, signature in SIGNATURES.items()}


class _Functions(functions.Functions):
    """What the package's interpreter calls, and what says of a wrong argument what is wrong."""

    def _validate_arguments(
        self, args: list[Any], signature: tuple[dict[str, Any], ...], function_name: str
    ) -> None:
        # The package knows no optional arguments: the ones not given are left out of its check.
        optional = sum(1 for argument in signature if argument.get("optional"))
        if 0 < len(signature) - len(args) <= optional:
            signature = signature[: len(args)]
        super()._validate_arguments(args, signature, function_name)  # type: ignore[misc]  # Not in the stubs of jmespath.

    def call_function(self, function_name: str, resolved_args: Iterable[Any]) -> Any:
        try:
            return super().call_function(function_name, resolved_args)
        except JMESPathTypeError as error:
            # The package, too, knows an expression behind `&` by the name of its type.
            given = [
                NotLiteral.REFERENCE if type(one).__name__ == "_Expression" else one
                for one in resolved_args
            ]
            # What is wrong with no argument is wrong with what an expression behind `&` finds.
            found = misuse(function_name, given)
            types = "|".join(error.expected_types)
            why = found.message if found else f"takes {types} there, not {error.actual_type}"
            raise FunctionError(f"{function_name}(): {why}") from error


def _entry(call: Callable[..., Any], signature: Signature) -> dict[str, Any]:
    """A function as the package's table holds it: called with the table itself first."""
    return {
        "function": lambda _library, *arguments: call(*arguments),
        "signature": tuple(
            {"types": list(one.types), "optional": one.optional} for one in signature.parameters
        ),
    }


_Functions.FUNCTION_TABLE = functions.Functions.FUNCTION_TABLE | {
    name: _entry(function.call, function.signature)
    for name, function in FUNCTIONS.items()
    if function.call
}
LIBRARY = _Functions()


def direct(name: str, count: int) -> Callable[..., Any] | None:
    """A function whose argument types are checked by identity, for a call with `count` arguments;
    None where its signature needs the package's own checks. What does not fit goes to those checks
    too, which then say what is wrong."""
    known = FUNCTIONS.get(name)
    if known is None or not ARITIES[name].takes(count):
        return None
    allowed: list[frozenset[type] | None] = []
    for index in range(count):
        words = known.signature.parameter(index).types
        if any(word not in PYTHON_TYPES for word in words):
            return None
        allowed.append(frozenset(one for word in words for one in PYTHON_TYPES[word]) or None)
    function = known.call or partial(LIBRARY.FUNCTION_TABLE[name]["function"], LIBRARY)

    def checked(*arguments: Any) -> Any:
        return LIBRARY.call_function(name, list(arguments))

    # Most functions have one or two arguments, and without a loop they are called in half of the time.
    if count == 1 and allowed[0] is not None:
        only = allowed[0]
        return lambda value: function(value) if type(value) in only else checked(value)
    if count == 2 and allowed[0] is not None and allowed[1] is not None:
        first, second = allowed[0], allowed[1]

        def of_two(one: Any, other: Any) -> Any:
            if type(one) in first and type(other) in second:
                return function(one, other)
            return checked(one, other)

        return of_two

    def call(*arguments: Any) -> Any:
        for argument, types in zip(arguments, allowed, strict=True):
            if types is not None and type(argument) not in types:
                return checked(*arguments)
        return function(*arguments)

    return call


def misuse(name: str, arguments: Sequence[Any]) -> Misuse | None:
    """Why a call fails whatever the delivery, as far as its constants tell: the argument, and a
    sentence. `arguments` has the value of each constant and `NotLiteral` for the others. None where
    nothing is wrong with them, where there is no such function, or where their number is wrong."""
    known = FUNCTIONS.get(name)
    return known.misuse(arguments) if known else None


def nearest(name: str) -> str | None:
    """The function that is meant by a name that is none: one that is called so elsewhere, or spelled
    alike."""
    word = name.lower().replace("-", "_")
    close = get_close_matches(word, FUNCTIONS, n=1, cutoff=0.75)
    if close:
        return close[0]
    for function in FUNCTIONS.values():
        if word in function.keywords:
            return function.name
    far = get_close_matches(word, FUNCTIONS, n=1, cutoff=0.6)
    return far[0] if far else None
