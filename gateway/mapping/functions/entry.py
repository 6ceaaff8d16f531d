"""What a function of expressions is: its signature, its documentation, and what it does.

A function is declared once, in the module of its group: the decorator takes the signature as authors
read it, one or more sentences, and examples; the checks, the interpreter, `gateway functions` and the
reference are all fed from that.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple, TypeVar

from jmespath.exceptions import JMESPathError
from msgspec import Struct


class FunctionError(JMESPathError):
    """A function cannot use what it is given; the message is a sentence for a dead letter."""


class NotLiteral(Enum):
    """What stands for an argument that is no constant, where a call is checked without a delivery."""

    VALUE = "known only with a delivery"
    REFERENCE = "an expression behind `&`"


class Misuse(Struct, frozen=True):
    """A call that fails whatever the delivery: the index of the argument, and why."""

    argument: int
    message: str


Call = Callable[..., Any]
Refuse = Callable[[Sequence[Any]], Misuse | None]
"""Asked with as many arguments as the function takes, `NotLiteral` for those that are no constants."""

_C = TypeVar("_C", bound=Call)


class Parameter(Struct, frozen=True):
    """`types` are JMESPath's names, `array-string` for a list of texts and `expref` for an expression
    behind `&`; none of them means any value. A variadic parameter takes one argument or more."""

    name: str
    types: tuple[str, ...]
    optional: bool = False
    variadic: bool = False

    def takes(self, value: Any) -> bool:
        """Whether a constant, or what stands for an argument, may be of a type that is taken."""
        if value is NotLiteral.VALUE:
            return self.types != ("expref",)
        return not self.types or any(_is(value, word) for word in self.types)

    @property
    def words(self) -> str:
        """The types as authors read them."""
        return "|".join(_SHOWN.get(word, word) for word in self.types) or "any"


class Example(Struct, frozen=True):
    """An expression and its result, as JSON; `body` is the JSON that it reads. An example that shows
    a failure has part of the error instead of a result."""

    expression: str
    result: str = ""
    body: str = ""
    fails: str = ""


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


class Signature(Struct, frozen=True):
    """How a function is called; `returns` is written as authors read it."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: str

    @property
    def arity(self) -> Arity:
        least = sum(1 for parameter in self.parameters if not parameter.optional)
        variadic = any(parameter.variadic for parameter in self.parameters)
        return Arity(least, None if variadic else len(self.parameters))

    def parameter(self, index: int) -> Parameter:
        """The parameter that an argument is for."""
        return self.parameters[min(index, len(self.parameters) - 1)]

    def __str__(self) -> str:
        inner = ", ".join(
            f"{'...' if one.variadic else ''}{one.name}{'?' if one.optional else ''}: {one.words}"
            for one in self.parameters
        )
        return f"{self.name}({inner}) -> {self.returns}"


class Function(Struct, frozen=True, kw_only=True):
    """One function. `call` is what it does, None where the jmespath package does it; `refuse` finds
    constants that it can never use; `keywords` are other names that people look for."""

    group: str
    signature: Signature
    summary: str
    details: str
    examples: tuple[Example, ...]
    keywords: tuple[str, ...] = ()
    call: Call | None = None
    refuse: Refuse | None = None

    @property
    def name(self) -> str:
        return self.signature.name

    def misuse(self, arguments: Sequence[Any]) -> Misuse | None:
        """Why a call fails whatever the delivery: a constant of a wrong type or with a wrong content.
        None where it may succeed, or where the number of arguments is wrong already."""
        if not self.signature.arity.takes(len(arguments)):
            return None
        for index, argument in enumerate(arguments):
            parameter = self.signature.parameter(index)
            if not parameter.takes(argument):
                return Misuse(index, _type_message(parameter, argument))
        return self.refuse(arguments) if self.refuse else None


class Group:
    """Functions that belong together. A module fills its group while it is imported."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.functions: list[Function] = []

    def standard(
        self, signature: str, words: str, *examples: Example, keywords: tuple[str, ...] = ()
    ) -> None:
        """Documents a function that JMESPath specifies and the jmespath package brings."""
        self._add(signature, words, examples, keywords=keywords)

    def function(
        self,
        signature: str,
        words: str,
        *examples: Example,
        keywords: tuple[str, ...] = (),
        refuse: Refuse | None = None,
    ) -> Callable[[_C], _C]:
        """Documents and adds the decorated function. It is pure, fails only with FunctionError, and
        its time and memory are bounded by the length of its arguments."""

        def add(call: _C) -> _C:
            self._add(signature, words, examples, keywords=keywords, call=call, refuse=refuse)
            return call

        return add

    def _add(self, signature: str, words: str, examples: tuple[Example, ...], **more: Any) -> None:
        summary, _, details = " ".join(words.split()).partition(". ")
        self.functions.append(
            Function(
                group=self.title,
                signature=parse_signature(signature),
                summary=summary.rstrip(".") + ".",
                details=details,
                examples=examples,
                **more,
            )
        )


_SHOWN = {"array-string": "array[string]", "array-number": "array[number]", "expref": "expression"}
_WRITTEN = {shown: word for word, shown in _SHOWN.items()}


def parse_signature(text: str) -> Signature:
    """The signature of a text such as `split(subject: string, search: string, count?: number) ->
    array[string]`. `?` marks an optional parameter, `...` a variadic one."""
    call, _, returns = text.partition(" -> ")
    name, _, inner = call.removesuffix(")").partition("(")
    return Signature(name, tuple(map(_parameter, inner.split(", "))), returns)


def _parameter(text: str) -> Parameter:
    name, _, written = text.partition(": ")
    words = [word for word in written.split("|") if word != "any"]
    return Parameter(
        name=name.removeprefix("...").removesuffix("?"),
        types=tuple(_WRITTEN.get(word, word) for word in words),
        optional=name.endswith("?"),
        variadic=name.startswith("..."),
    )


PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
"""The types that JSON values of a JMESPath type have."""


def _is(value: Any, word: str) -> bool:
    if word == "expref":
        return value is NotLiteral.REFERENCE
    kind, _, inner = word.partition("-")
    if type(value) not in PYTHON_TYPES[kind]:
        return False
    return not inner or all(_is(item, inner) for item in value)


def _type_message(parameter: Parameter, argument: Any) -> str:
    if parameter.types == ("expref",):
        return f"`{parameter.name}` is an expression behind `&`, such as `&name`"
    if argument is NotLiteral.REFERENCE:
        found = "an expression behind `&`"
    else:
        found = next(word for word, types in PYTHON_TYPES.items() if type(argument) in types)
        article = "" if found == "null" else "an " if found[0] in "ao" else "a "
        found = f"{article}{found}"
        if isinstance(argument, list) and any("array" in word for word in parameter.types):
            found = "an array of other values"
    return f"`{parameter.name}` takes {parameter.words}, not {found}"
