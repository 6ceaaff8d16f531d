"""One JMESPath expression: parsed, taken apart for the checks, and ready to evaluate."""

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from jmespath import exceptions, lexer, parser
from msgspec import Struct

from gateway.mapping import closures

MAX_LENGTH = 2_000
"""Characters of one expression; also bounds the depth that the parser's recursion can reach."""
MAX_DEPTH = 120
"""Levels of its tree: whatever walks one recursively has room to do so."""

Evaluate = Callable[[Mapping[str, Any]], Any]


class _Parser(parser.Parser):
    """The package's parser, with `!a.b` read as `!(a.b)`, and with the place of every name.

    The package reads `(!a).b`, which finds nothing whatever the payload: a rule that says
    `!body.deleted` would never apply. The specification ranks `!` below the dot.
    """

    BINDING_POWER: ClassVar[dict[str, int]] = {**parser.Parser.BINDING_POWER, "not": 8}
    # Its own: the package's holds trees of the other reading.
    _CACHE: ClassVar[dict[str, Any]] = {}

    def _token_nud_unquoted_identifier(self, token: Mapping[str, Any]) -> dict[str, Any]:
        field: dict[str, Any] = super()._token_nud_unquoted_identifier(token)  # type: ignore[misc]  # Not in the stubs of jmespath.
        return {**field, "start": token["start"]}

    def _token_nud_quoted_identifier(self, token: Mapping[str, Any]) -> dict[str, Any]:
        field: dict[str, Any] = super()._token_nud_quoted_identifier(token)  # type: ignore[misc]  # Not in the stubs of jmespath.
        return {**field, "start": token["start"]}

    def _token_led_lparen(self, left: Mapping[str, Any]) -> dict[str, Any]:
        call: dict[str, Any] = super()._token_led_lparen(left)  # type: ignore[misc]  # Not in the stubs of jmespath.
        return {**call, "start": left["start"]}


class ExpressionError(Exception):
    """The text is no JMESPath; `offset` counts characters from 0."""

    def __init__(self, message: str, offset: int, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.mend = mend


class Use(Struct, frozen=True):
    """A name that the expression reads, and the characters where it stands."""

    name: str
    offset: int
    width: int


class Call(Struct, frozen=True):
    """A function call: its name, how many arguments it is given, and its offset."""

    name: str
    arguments: int
    offset: int


class Expression(Struct, frozen=True):
    """`roots` are the names read from the scope itself, `members` those read right below a root,
    as `("params", Use("environments", 7, 12))`; `whole_scope` is set where `@` takes all of it, and
    `zero_step` where a slice can never advance."""

    text: str
    tree: Mapping[str, Any]
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
        _refuse_literals(text)
        compiled = _Parser().parse(text)
    except exceptions.EmptyExpressionError:
        raise ExpressionError("the expression is empty", 0) from None
    except exceptions.ParseError as error:
        raise _syntax_error(text, error) from None
    except RecursionError:
        raise ExpressionError("nested too deeply", 0) from None
    if not _is_shallow(compiled.parsed):
        mend = "take it apart: a rule for each case, a param for a list of values"
        raise ExpressionError("nested too deeply", 0, mend)

    roots: list[Use] = []
    members: list[tuple[str, Use]] = []
    calls: list[Call] = []
    whole_scope = zero_step = False
    for found in _anatomy(compiled.parsed, at_root=True):
        match found:
            case ("root", node):
                roots.append(_use(text, node))
            case ("member", parent, node):
                members.append((parent, _use(text, node)))
            case ("call", name, arguments, offset):
                calls.append(Call(name, arguments, offset))
            case ("scope",):
                whole_scope = True
            case ("zero-step",):
                zero_step = True
    return Expression(
        text=text,
        tree=compiled.parsed,
        evaluate=closures.closure(compiled.parsed),
        roots=tuple(roots),
        members=tuple(members),
        calls=tuple(calls),
        zero_step=zero_step,
        whole_scope=whole_scope,
    )


def _is_shallow(tree: Any) -> bool:
    level = [tree]
    for _ in range(MAX_DEPTH):
        # A slice has numbers for children.
        level = [child for node in level if isinstance(node, dict) for child in node["children"]]
        if not level:
            return True
    return False


_DELIMITED = re.compile(r"""(["'`])(?:\\.|(?!\1)[^\\])*\1""", re.DOTALL)


def _delimited(text: str, start: int) -> str:
    """The quoted name or literal that starts here, with its quotes; empty where none does."""
    found = _DELIMITED.match(text, start)
    return found[0] if found else ""


def _use(text: str, field: Mapping[str, Any]) -> Use:
    name, start = field["value"], field["start"]
    return Use(name, start, len(_delimited(text, start) or name))


def _refuse_literals(text: str) -> None:
    """The package takes `` `push` `` for text, which JMESPath gave up: what backticks hold is JSON. And it
    takes half a surrogate pair, which no event can hold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        tokens = list(lexer.Lexer().tokenize(text))
    for token in tokens:
        start = token["start"]
        if token["type"] == "literal" and text[start] == "`":
            inner = _delimited(text, start)[1:-1]
            try:
                json.loads(inner.replace("\\`", "`"))
            except ValueError:
                message = f"what stands between backticks must be JSON, `{inner}` is not"
                mend = f"write text between single quotes: `'{inner}'`"
                raise ExpressionError(message, start, mend) from None
        if not _is_unicode(token["value"]):
            message = f"`{_delimited(text, start)[1:-1]}` has half a surrogate pair"
            raise ExpressionError(message, start, "write the character itself")


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


_WORDS = {
    "and": "write `&&`",
    "or": "write `||`",
    "not": "write `!` before what must not hold",
    "in": "write `contains(list, item)`",
}
_SIGNS = {
    "=": "write `==` to compare",
    "&": "write `&&` to ask for both",
    "$": "an expression begins with a name: `body.ref`",
    "+": "JMESPath does not calculate; text is joined by `join('', [a, b])`",
}


def _syntax_error(text: str, error: exceptions.ParseError) -> ExpressionError:
    if error.lex_position >= len(text):
        return ExpressionError("the expression ends too early", len(text.rstrip()))
    offset = error.lex_position
    found = text[offset : offset + 1]
    lexical = isinstance(error, exceptions.LexerError)
    reason = error.message if isinstance(error, exceptions.LexerError) else error.msg
    unclosed = re.match(r"Unclosed (.) delimiter", reason)
    if unclosed:
        return ExpressionError(f"the `{unclosed[1]}` is never closed", offset)
    if found == "-" and offset and (text[offset - 1].isalnum() or text[offset - 1] == "_"):
        return ExpressionError("unexpected `-`", offset, _quoting(text, offset))
    if reason.startswith("Quoted identifier"):
        return ExpressionError("a function's name is not quoted", offset)
    if lexical and not reason.startswith("Unknown token"):
        return ExpressionError(reason[:1].lower() + reason[1:], offset)
    shown = found if lexical else _delimited(text, offset) or str(error.token_value)
    return ExpressionError(f"unexpected `{shown}`", offset, _mend(text, offset, shown))


def _mend(text: str, offset: int, shown: str) -> str:
    before = text[:offset].split()
    if shown.lower() in _WORDS:
        return _WORDS[shown.lower()]
    if before and before[-1].lower() == "not":
        return _WORDS["not"]
    if text.lstrip().startswith(("{{", "${")):
        return "an expression stands without braces around it"
    if shown.lstrip("-").isdigit():
        if offset and text[offset - 1] not in " \t":
            return _quoting(text, offset)
        return f"a number stands between backticks: `` `{shown}` ``"
    if shown.startswith("'") and text[:offset].rstrip().endswith("["):
        return f'a member is found by a dot: `."{shown[1:-1]}"`'
    return _SIGNS.get(shown, "")


def _quoting(text: str, offset: int) -> str:
    """The help for a key that holds a hyphen, with the key itself."""
    start = len(re.sub(r"[\w-]+$", "", text[:offset]))
    found = re.match(r"[\w-]+", text[start:])
    key = found[0] if found else ""
    if re.search(r"\bheaders\s*\.\s*$", text[:start]):
        # Else that would be the next mistake.
        key = key.lower()
    return f'quote a key that holds a hyphen: `"{key}"`'


def _anatomy(node: Any, *, at_root: bool) -> Iterator[tuple[Any, ...]]:
    """What matters in a parsed tree, in reading order. `at_root` says that the node is evaluated
    against the scope itself rather than against something found in it."""
    kind, children = node["type"], node["children"]
    match kind:
        case "field":
            if at_root:
                yield "root", node
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
            if rest and at_root and first["type"] == "current":
                # `@.params` and `@ | params` read the scope itself; anything else leaves it.
                yield from _anatomy({**node, "children": rest}, at_root=True)
                return
            if rest and kind == "subexpression" and at_root and first["type"] == "field":
                member = rest[0]
                if member["type"] == "field":
                    yield "member", first["value"], member
            for child in rest:
                yield from _anatomy(child, at_root=False)
        case "projection" | "value_projection" | "flatten" | "filter_projection":
            first, *rest = children
            yield from _anatomy(first, at_root=at_root)
            for child in rest:
                yield from _anatomy(child, at_root=False)
        case "function_expression":
            yield "call", node["value"], len(children), node["start"]
            for child in children:
                yield from _anatomy(child, at_root=at_root)
        case "expref":
            for child in children:
                yield from _anatomy(child, at_root=False)
        case _:
            for child in children:
                yield from _anatomy(child, at_root=at_root)
