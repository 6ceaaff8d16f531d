"""`gateway show`: the mapping of a source as it is in force, and where each line of it was written."""

import argparse
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway import report
from gateway.authoring import writer
from gateway.cli import wiring
from gateway.diagnostic import Span, has_errors
from gateway.mapping import inheritance, shape
from gateway.mapping.compiler import CompiledMapping
from gateway.mapping.document import Node, Scalar, Sequence, Table
from gateway.mapping.shape import Path as Keys

_ORDER = (
    "source",
    "title",
    "authenticate",
    "allow_from",
    "media_types",
    "handshakes",
    "delivery_id",
    "event",
    "params",
    "on_invalid",
    "rules",
)
"""The keys of a mapping that is whole; what says how it was put together is no part of it."""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="the source to show, such as github; a list of all where left out",
    )
    wiring.define_files(parser)
    parser.add_argument(
        "--format",
        choices=("yaml", "json"),
        default="yaml",
        help="yaml, with origins as comments (the default); json, with origins beside the mapping",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where the mapping is shown, 1 where a file is wrong; raises SettingsError where there is no
    such source, or where the environment sets what `serve` would refuse."""
    loaded = wiring.load(wiring.files(options), source=options.source or "")
    if has_errors(loaded.diagnostics):
        print(report.render(loaded.diagnostics, loaded.texts, len(loaded.files)))
        return 1
    known = loaded.compilation.mappings
    if options.source is None:
        print(_listed([_summary(known[name]) for name in sorted(known)], options.format), end="")
        return 0
    if options.source not in known:
        raise wiring.unknown_source(options.source, known, options)
    wiring.refuse_unknown_params(loaded.compilation, os.environ)
    print(_shown(known[options.source], options.format), end="")
    return 0


def _listed(summaries: list[dict[str, str]], form: str) -> str:
    if form == "json":
        return _json(summaries)
    return "".join(
        "".join(
            f"{'- ' if index == 0 else '  '}{key}: {writer.scalar(value)}\n"
            for index, (key, value) in enumerate(summary.items())
        )
        for summary in summaries
    )


def _summary(mapping: CompiledMapping) -> dict[str, str]:
    """What there is to say of a source in a few words; keys without a value are left out."""
    extends = inheritance.word(mapping.document.get("extends"))
    members = {
        "source": mapping.plan.source,
        "title": mapping.plan.title,
        "file": wiring.shown_file(mapping.document.span.file),
        "extends": extends,
        "replaces": wiring.shown_file(mapping.replaces.file) if mapping.replaces else "",
    }
    return {key: value for key, value in members.items() if value}


def _shown(mapping: CompiledMapping, form: str) -> str:
    overrides = wiring.overrides(mapping, os.environ)
    variables = {name: wiring.variable(mapping.plan.source, name) for name in overrides}
    node = _in_force(mapping.document, overrides)
    if form == "json":
        return _json(
            {
                **_summary(mapping),
                "mapping": shape.plain(node),
                "origins": _origins(node, (), variables),
            }
        )

    def note(path: Keys, place: Span) -> str:
        variable = _variable(path, variables)
        return (
            f"environment: {variable}"
            if variable
            else f"{wiring.shown_file(place.file)}:{place.line}"
        )

    return f"{_heading(mapping)}{writer.write(node, note)}"


def _heading(mapping: CompiledMapping) -> str:
    summary = _summary(mapping)
    words = [f"# {summary['file']}"]
    if "extends" in summary:
        words.append(f"extends {summary['extends']}")
    if "replaces" in summary:
        words.append(f"replaces {summary['replaces']}")
    return ", ".join(words) + "\n"


def _in_force(document: Table, overrides: Mapping[str, Any]) -> Table:
    """The whole mapping with the params that the environment sets, in the order of the reference."""
    entries = {str(key.value): (key, value) for key, value in document.entries}
    params = document.get("params")
    if isinstance(params, Table):
        changed = tuple(
            (key, _node(overrides[str(key.value)], value.span) if key.value in overrides else value)
            for key, value in params.entries
        )
        entries["params"] = (entries["params"][0], Table(changed, params.span))
    return Table(tuple(entries[key] for key in _ORDER if key in entries), document.span)


def _node(value: Any, span: Span) -> Node:
    if isinstance(value, list):
        return Sequence(tuple(Scalar(one, span) for one in value), span)
    return Scalar(value, span)


def _origins(node: Node, path: Keys, variables: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Where each key and each item was written, by its JSON pointer."""
    parts: list[tuple[str | int, Span, Node]] = []
    match node:
        case Table():
            parts = [(str(key.value), key.span, value) for key, value in node.entries]
        case Sequence():
            parts = [(index, item.span, item) for index, item in enumerate(node.items)]
    found: dict[str, dict[str, Any]] = {}
    for name, place, value in parts:
        here = (*path, name)
        variable = _variable(here, variables)
        found[_pointer(here)] = (
            {"variable": variable}
            if variable
            else {"file": wiring.shown_file(place.file), "line": place.line}
        )
        found |= _origins(value, here, variables)
    return found


def _variable(path: Keys, variables: Mapping[str, str]) -> str:
    """The environment variable that sets the param at a path, or that it is part of."""
    return variables.get(str(path[1]), "") if path[0] == "params" and len(path) > 1 else ""


def _pointer(path: Keys) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"
