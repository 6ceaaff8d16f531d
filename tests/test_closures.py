"""Compiled expressions mean what the package's interpreter means, on any expression and document."""

from typing import Any

import jmespath
from hypothesis import given

from gateway.mapping import functions
from gateway.mapping.closures import closure
from gateway.mapping.expression import ExpressionError, _Parser, parse
from tests.expressions import DOCUMENTS, EXPRESSIONS, thorough


@thorough
@given(EXPRESSIONS, DOCUMENTS)
def test_the_compiled_form_equals_the_interpreter(text: str, document: Any) -> None:
    """The same result, of the same types; or an error from both."""
    try:
        parse(text)
    except ExpressionError:
        return
    parsed = _Parser().parse(text)
    options = jmespath.Options(custom_functions=functions.LIBRARY)
    expected = _outcome(lambda: parsed.search(document, options=options))
    assert _outcome(lambda: closure(parsed.parsed)(document)) == expected


def _outcome(evaluate: Any) -> Any:
    """The result with its types, which `==` does not tell apart; or the kind of the error."""
    try:
        return repr(evaluate())
    except Exception as error:
        return type(error).__name__, str(error)
