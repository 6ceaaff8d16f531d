"""The checks of expressions: what they call, and the names that they read."""

from msgspec import UNSET

from gateway.diagnostic import did_you_mean
from gateway.mapping import functions
from gateway.mapping.checks.view import Findings, MappingView, finding, use_span, warning
from gateway.mapping.expression import Expression, Use

SCOPE = ("body", "each", "event", "headers", "params", "query", "received_at")


def expression_syntax(view: MappingView) -> Findings:
    """The text is not a JMESPath expression."""
    for path, error in view.broken.items():
        span = view.places.within(path, error.offset)
        yield finding(expression_syntax, span, error.message, error.mend)


def unknown_function(view: MappingView) -> Findings:
    """The expression calls a function that does not exist.

    JMESPath itself finds this out only when the first delivery arrives.
    """
    for path, expression in view.expressions.items():
        for call in expression.calls:
            if call.name not in functions.ARITIES:
                span = view.places.within(path, call.offset, len(call.name))
                message = f"there is no function `{call.name}()`"
                nearest = functions.nearest(call.name)
                mend = f"did you mean `{nearest}`? " if nearest else ""
                mend += "`gateway functions` lists them all"
                yield finding(unknown_function, span, message, mend)


def wrong_arity(view: MappingView) -> Findings:
    """A function is called with too many or too few arguments."""
    for path, expression in view.expressions.items():
        for call in expression.calls:
            arity = functions.ARITIES.get(call.name)
            if arity is None:
                continue
            if not arity.takes(call.arguments):
                span = view.places.within(path, call.offset, len(call.name))
                noun = "argument" if str(arity) == "1" else "arguments"
                message = f"`{call.name}()` takes {arity} {noun}, not {call.arguments}"
                is_method = expression.text[: call.offset].rstrip().endswith(".")
                mend = (
                    f"a function is no method: write `{call.name}(body.key)`" if is_method else ""
                )
                yield finding(wrong_arity, span, message, mend)


def zero_step(view: MappingView) -> Findings:
    """A slice has the step zero, so it can never be taken."""
    for path, expression in view.expressions.items():
        if expression.zero_step:
            span = view.places.within(path, 0, len(expression.text))
            yield finding(zero_step, span, "a slice cannot have the step 0")


def unknown_name(view: MappingView) -> Findings:
    """The expression reads a name that no delivery has at its top level.

    Expressions read `body`, `headers`, `query`, `params`, `event`, `received_at` and, in a rule with
    `each:`, `each`. Anything else finds nothing, whatever the sender sends. `event` and `delivery_id`
    are found first, so they cannot read `event` or `each` themselves.
    """
    for path, expression in view.expressions.items():
        first = path[0] in ("event", "delivery_id")
        absent = ("each", "event") if first else ("each",) * (path[0] == "handshakes")
        known = [name for name in SCOPE if name not in absent]
        for use in expression.roots:
            if use.name not in known:
                message = f"there is no `{use.name}` to read here"
                mend = _name_mend(expression, use, known)
                yield finding(unknown_name, use_span(view, path, use), message, mend)


def _name_mend(expression: Expression, use: Use, known: list[str]) -> str:
    if expression.text[use.offset] == '"':
        return f"text stands between single quotes: `'{use.name}'`"
    if use.name in ("true", "false", "null"):
        return f"a value that is no text stands between backticks: `` `{use.name}` ``"
    nearest = did_you_mean(use.name, known)
    if use.name in SCOPE or "did you mean" in nearest:
        return nearest
    mend = f"the payload is below `body`: `body.{use.name}`; {nearest}"
    if expression.text.strip() == use.name:
        mend = f"for the text itself write `\"'{use.name}'\"`; {mend}"
    return mend


def event_not_declared(view: MappingView) -> Findings:
    """An expression reads `event`, and the mapping does not say where to find it.

    `event` is what the mapping's own `event:` finds in a delivery. Without one it is always nothing,
    so a comparison with it never holds.
    """
    if view.mapping.event is not UNSET or ("event",) in view.places.nodes:
        return
    for path, expression in view.expressions.items():
        for use in expression.roots:
            if use.name == "event" and path[0] == "rules":
                message = "`event` is always nothing: the mapping has no `event:`"
                mend = 'say where the sender names it, such as `event: headers."x-github-event"`'
                yield finding(event_not_declared, use_span(view, path, use), message, mend)


def each_outside_each(view: MappingView) -> Findings:
    """`each` is read in a rule that has no `each:`, or in the `each:` itself."""
    for path, expression in view.expressions.items():
        if path[0] != "rules" or not isinstance(path[1], int):
            continue
        rule = view.mapping.rules[path[1]]
        if rule.each is not UNSET and path[2] != "each":
            continue
        for use in expression.roots:
            if use.name == "each":
                message = "`each` is read outside of a rule with `each:`"
                mend = "give the rule an `each:` that finds a list"
                if path[2] == "each":
                    message = "`each` cannot be read by the `each:` that finds it"
                    mend = "find the list in `body`"
                yield finding(each_outside_each, use_span(view, path, use), message, mend)


def unknown_param(view: MappingView) -> Findings:
    """The expression reads a parameter that the mapping does not declare."""
    for path, expression in view.expressions.items():
        for parent, use in expression.members:
            if parent == "params" and use.name not in view.mapping.params:
                message = f"there is no param `{use.name}`"
                mend = did_you_mean(use.name, view.mapping.params)
                yield finding(unknown_param, use_span(view, path, use), message, mend)


def unused_param(view: MappingView) -> Findings:
    """A parameter is declared and no expression reads it, so setting it changes nothing."""
    used = {
        use.name
        for expression in view.expressions.values()
        for parent, use in expression.members
        if parent == "params"
    }
    whole = any(
        expression.whole_scope
        or [use.name for use in expression.roots].count("params")
        > [parent for parent, _ in expression.members].count("params")
        for expression in view.expressions.values()
    )
    if whole or view.broken or not view.mapping.rules:
        return
    own = view.places.span().file
    for name in view.mapping.params:
        # What is inherited is used where it comes from.
        if name not in used and view.places.key("params", name).file == own:
            place, message = view.places.key("params", name), f"no expression reads `params.{name}`"
            yield warning(unused_param, place, message, "remove it")


def header_case(view: MappingView) -> Findings:
    """A header is read by a name with upper-case letters; header names are lower case here."""
    for path, expression in view.expressions.items():
        for parent, use in expression.members:
            if parent == "headers" and use.name != use.name.lower():
                message = f"no header is named `{use.name}`: names are lower case here"
                mend = f'write `headers."{use.name.lower()}"`'
                yield finding(header_case, use_span(view, path, use), message, mend)


CHECKS = (
    expression_syntax,
    unknown_function,
    wrong_arity,
    zero_step,
    unknown_name,
    event_not_declared,
    each_outside_each,
    unknown_param,
    unused_param,
    header_case,
)
