"""One JMESPath expression: parsed, taken apart for the checks, and ready to evaluate."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import jmespath
from jmespath import exceptions, lexer, parser
from msgspec import Struct

from gateway.mapping import functions

MAX_LENGTH = 2_000
"""Characters of one expression; also bounds the depth that the parser's recursion can reach."""

Evaluate = Callable[[Mapping[str, Any]], Any]
_OPTIONS = jmespath.Options(custom_functions=functions.LIBRARY)


class _Parser(parser.Parser):
    """The package's parser, with `!a.b` read as `!(a.b)`.

    The package reads `(!a).b`, which finds nothing whatever the payload: a rule that says
    `!body.deleted` would never apply. The specification ranks `!` below the dot.
    """

    BINDING_POWER: ClassVar[dict[str, int]] = {**parser.Parser.BINDING_POWER, "not": 8}
    _CACHE: ClassVar[
        dict[str, Any]
    ] = {}  # Its own: the package's holds trees of the other reading.


class ExpressionError(Exception):
    """The text is no JMESPath; `offset` counts characters from 0."""

    def __init__(self, message: str, offset: int, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.mend = mend


class Use(Struct, frozen=True):
    """A name that the expression reads, and the offset in characters where it stands."""

    name: str
    offset: int


class Call(Struct, frozen=True):
    """A function call: its name, how many arguments it is given, and its offset."""

    name: str
    arguments: int
    offset: int


class Expression(Struct, frozen=True):
    """`roots` are the names read from the scope itself, `members` those read right below a root,
    as `("params", Use("environments", 9))`; `whole_scope` is set where `@` takes all of it, and
    `zero_step` where a slice can never advance."""

    text: str
    evaluate: Evaluate
    roots: tuple[Use, ...]
    members: tuple[tuple[str, Use], ...]
    calls: tuple[Call, ...]
    zero_step: bool
    whole_scope: bool

    def reads(self, root: str) -> bool:
        return self.whole_scope or any(use.name == root for use in self.roots)


def parse(text: str) -> Expression:
    """The expression of a text. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"longer than {MAX_LENGTH} characters", 0)
    try:
        compiled = _Parser().parse(text)
        tokens = list(lexer.Lexer().tokenize(text))
    except exceptions.EmptyExpressionError:
        raise ExpressionError("the expression is empty", 0) from None
    except exceptions.ParseError as error:
        raise _syntax_error(text, error) from None
    except RecursionError:
        raise ExpressionError("nested too deeply", 0) from None

    def evaluate(scope: Mapping[str, Any]) -> Any:
        return compiled.search(scope, options=_OPTIONS)

    finder = _Finder(tokens)
    roots: list[Use] = []
    members: list[tuple[str, Use]] = []
    calls: list[Call] = []
    whole_scope = zero_step = False
    for found in _anatomy(compiled.parsed, at_root=True):
        match found:
            case ("root", name):
                roots.append(Use(name, finder.root(name)))
            case ("member", parent, name):
                members.append((parent, Use(name, finder.member(parent, name))))
            case ("call", name, arguments):
                calls.append(Call(name, arguments, finder.call(name)))
            case ("scope",):
                whole_scope = True
            case ("zero-step",):
                zero_step = True
    return Expression(
        text=text,
        evaluate=evaluate,
        roots=tuple(roots),
        members=tuple(members),
        calls=tuple(calls),
        zero_step=zero_step,
        whole_scope=whole_scope,
    )


def _syntax_error(text: str, error: exceptions.ParseError) -> ExpressionError:
    offset = error.lex_position
    if isinstance(error, exceptions.IncompleteExpressionError):
        return ExpressionError("the expression ends too early", len(text.rstrip()))
    found = text[offset : offset + 1]
    if found == "=" and text[offset : offset + 2] != "==":
        return ExpressionError("unexpected `=`", offset, "write `==` to compare")
    if found == "-" and offset and (text[offset - 1].isalnum() or text[offset - 1] == "_"):
        mend = 'quote a key that holds a hyphen: `headers."x-github-event"`'
        return ExpressionError("unexpected `-`", offset, mend)
    if isinstance(error, exceptions.LexerError):
        message = error.message[:1].lower() + error.message[1:]
        return ExpressionError(message.replace("Unknown token", "unexpected"), offset)
    return ExpressionError(f"unexpected `{error.token_value}`", offset)


def _anatomy(node: Any, *, at_root: bool) -> Iterator[tuple[Any, ...]]:
    """What matters in a parsed tree, in reading order. `at_root` says that the node is evaluated
    against the scope itself rather than against something found in it."""
    kind, children = node["type"], node["children"]
    match kind:
        case "field":
            if at_root:
                yield "root", node["value"]
        case "current" | "identity":
            if at_root and kind == "current":
                yield ("scope",)
        case "literal" | "index":
            pass
        case "slice":
            if children[2] == 0:
                yield ("zero-step",)
        case "subexpression" | "index_expression" | "pipe":
            first, *rest = children
            yield from _anatomy(first, at_root=at_root)
            if kind == "subexpression" and at_root and first["type"] == "field":
                for child in rest:
                    if child["type"] == "field":
                        yield "member", first["value"], child["value"]
            for child in rest:
                # `@ | params` pipes the scope on; anything else leaves it.
                yield from _anatomy(child, at_root=at_root and first["type"] == "current")
        case "projection" | "value_projection" | "flatten" | "filter_projection":
            first, *rest = children
            yield from _anatomy(first, at_root=at_root)
            for child in rest:
                yield from _anatomy(child, at_root=False)
        case "function_expression":
            yield "call", node["value"], len(children)
            for child in children:
                yield from _anatomy(child, at_root=at_root)
        case "expref":
            for child in children:
                yield from _anatomy(child, at_root=False)
        case _:
            for child in children:
                yield from _anatomy(child, at_root=at_root)


class _Finder:
    """Where a name stands in the text: the parsed tree carries no places, the tokens do."""

    def __init__(self, tokens: Sequence[Mapping[str, Any]]) -> None:
        self._tokens = tokens

    def root(self, name: str) -> int:
        return self._first(name, lambda index: self._type(index - 1) != "dot")

    def member(self, parent: str, name: str) -> int:
        return self._first(
            name,
            lambda index: (
                self._type(index - 1) == "dot"
                and index >= 2
                and self._tokens[index - 2]["value"] == parent
            ),
        )

    def call(self, name: str) -> int:
        return self._first(name, lambda index: self._type(index + 1) == "lparen")

    def _type(self, index: int) -> str:
        return str(self._tokens[index]["type"]) if 0 <= index < len(self._tokens) else ""

    def _first(self, name: str, fits: Callable[[int], bool]) -> int:
        for index, token in enumerate(self._tokens):
            if token["value"] == name and token["type"].endswith("identifier") and fits(index):
                return int(token["start"])
        return 0
