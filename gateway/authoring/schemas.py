"""The JSON Schemas of mappings, models, cases and tables of apps, for editors: generated from the grammar."""

import inspect
from typing import Any

import msgspec

from gateway.authoring import cases
from gateway.mapping import grammar

GRAMMARS: dict[str, tuple[type, str]] = {
    "mapping": (grammar.Mapping, "A mapping of Pelorus gateway"),
    "model": (grammar.Model, "A model of Pelorus gateway"),
    "apps": (grammar.Table, "The table of apps of Pelorus gateway"),
    "test": (cases.CaseFile, "The cases of a mapping of Pelorus gateway"),
}


def json_schema(kind: str) -> str:
    """The schema of one kind of file, as text that ends with a newline."""
    root, title = GRAMMARS[kind]
    schema: dict[str, Any] = _cleaned(msgspec.json.schema(root))
    if kind == "mapping":
        _let_extending_be_partial(schema)
    if kind == "test":
        schema["$defs"]["Case"]["oneOf"] = [{"required": [key]} for key in cases.BODIES]
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **schema,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _cleaned(part: Any) -> Any:
    """Descriptions come from docstrings, whose indentation differs between versions of Python."""
    match part:
        case dict():
            return {
                key: inspect.cleandoc(value)
                if key == "description" and isinstance(value, str)
                else _cleaned(value)
                for key, value in part.items()
            }
        case list():
            return [_cleaned(one) for one in part]
    return part


def _let_extending_be_partial(schema: dict[str, Any]) -> None:
    # A mapping that extends another inherits what it leaves out.
    mapping = schema["$defs"]["Mapping"]
    required = mapping.pop("required")
    mapping["anyOf"] = [{"required": ["source", "extends"]}, {"required": required}]
    mapping["dependentRequired"] = {"without_rules": ["extends"]}
