"""`gateway functions`: what expressions may call, with signatures and examples."""

import argparse
import json
import re
from textwrap import fill
from typing import Any

from gateway.cli import shared
from gateway.diagnostic import did_you_mean
from gateway.mapping.functions import FUNCTIONS, GROUPS, nearest
from gateway.mapping.functions.entry import Example, Function
from gateway.settings import SettingsError


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="the function to show whole, with its examples; a line for each where left out",
    )
    shared.define_format(parser, "all that is known of each function")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Always 0; raises SettingsError where there is no function of that name."""
    if options.name is None:
        print(_json(*FUNCTIONS.values()) if options.format == "json" else _listing())
        return 0
    name = options.name.removesuffix("()")
    if name not in FUNCTIONS:
        meant = nearest(name)
        mend = f"did you mean `{meant}()`?" if meant else did_you_mean(name, FUNCTIONS)
        raise SettingsError(f"there is no function `{name}()`; {mend}")
    print(_json(FUNCTIONS[name]) if options.format == "json" else _entry(FUNCTIONS[name]))
    return 0


def _listing() -> str:
    parts = []
    for group in GROUPS:
        parts.append(group.title)
        for function in sorted(group.functions, key=lambda one: one.name):
            parts += [f"  {function.signature}", f"      {_plain(function.summary)}"]
        parts.append("")
    return "\n".join(
        [*parts, "`gateway functions NAME` shows a function whole, with its examples."]
    )


def _entry(function: Function) -> str:
    parts = [
        str(function.signature),
        "",
        fill(
            _plain(f"{function.summary} {function.details}"),
            width=100,
            initial_indent="  ",
            subsequent_indent="  ",
        ),
        "",
    ]
    for example in function.examples:
        if example.body:
            parts.append(f"  where `body` is {example.body}")
        parts += [f"  {example.expression}", f"    {_outcome(example)}"]
    return "\n".join(parts)


def _outcome(example: Example) -> str:
    return f"fails: {example.fails}" if example.fails else f"-> {example.result}"


def _plain(text: str) -> str:
    """Documentation without the addresses of its links."""
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)


def _json(*functions: Function) -> str:
    """A list of objects, also for one function."""
    return json.dumps([_described(function) for function in functions], indent=2)


def _described(function: Function) -> dict[str, Any]:
    return {
        "name": function.name,
        "group": function.group,
        "origin": "gateway" if function.call else "jmespath",
        "signature": str(function.signature),
        "arguments": [
            {
                "name": one.name,
                "types": [*one.types] or ["any"],
                "optional": one.optional,
                "variadic": one.variadic,
            }
            for one in function.signature.parameters
        ],
        "returns": function.signature.returns,
        "summary": _plain(function.summary),
        "details": _plain(function.details),
        "examples": [
            {
                "expression": example.expression,
                **({"body": json.loads(example.body)} if example.body else {}),
                **(
                    {"fails": example.fails}
                    if example.fails
                    else {"result": json.loads(example.result)}
                ),
            }
            for example in function.examples
        ],
    }
