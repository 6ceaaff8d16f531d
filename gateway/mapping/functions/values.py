"""Functions of any value: the first that is there, its type, and from one type to another."""

from typing import Any

import msgspec

from gateway.mapping.functions.entry import Example, Group

GROUP = Group("Any value")

GROUP.standard(
    "not_null(...values: any) -> any",
    """The first value that is not `null`: a default for what may be missing. `null` where there is none.
    Unlike `a || b` it keeps `false`, empty text and empty lists.""",
    Example("not_null(body.environment, body.stage, 'unknown')", '"prod"', '{"stage": "prod"}'),
    Example("not_null(body.draft, `true`)", "false", '{"draft": false}'),
    Example("body.draft || `true`", "true", '{"draft": false}'),
    Example("not_null(body.a, body.b)", "null", "{}"),
    keywords=(
        "default", "coalesce", "first", "first_non_null", "if_null", "ifnull", "nvl", "or_else",
        "else", "fallback", "alternative",
    ),
)  # fmt: skip
GROUP.standard(
    "to_array(value: any) -> array",
    "A list as it is, anything else as a list of one item.",
    Example("to_array('a')", '["a"]'),
    Example('to_array(`["a"]`)', '["a"]'),
    Example("to_array(`null`)", "[null]"),
    keywords=("to_list", "wrap", "array"),
)
GROUP.standard(
    "to_number(value: any) -> number|null",
    "The number that a text spells, a number as it is, and `null` for anything else.",
    Example("to_number('12')", "12"),
    Example("to_number('12 %')", "null"),
    Example("to_number(`true`)", "null"),
    keywords=("int", "float", "number", "parse_int"),
)
GROUP.standard(
    "to_string(value: any) -> string",
    "A text as it is, anything else as JSON.",
    Example("to_string(`7`)", '"7"'),
    Example('to_string(`{"a": [1, true]}`)', r'"{\"a\":[1,true]}"'),
    Example("to_string(`null`)", '"null"'),
    keywords=("str", "string", "text", "to_json", "tojson"),
)
GROUP.standard(
    "type(value: any) -> string",
    """What a value is: `string`, `number`, `boolean`, `array`, `object` or `null`.""",
    Example("type(body.id)", '"number"', '{"id": 7}'),
    Example("type(body.nothing)", '"null"', "{}"),
    keywords=("typeof", "is_string", "is_array", "is_null"),
)


@GROUP.function(
    "parse_json(text: string) -> any",
    """The value that a text spells as JSON: some systems wrap one JSON document in another. `null` where
    it is no JSON.""",
    Example("parse_json(body.Message).state", '"ALARM"', r'{"Message": "{\"state\": \"ALARM\"}"}'),
    Example("parse_json('it rains')", "null"),
    keywords=("from_json", "fromjson", "json", "decode", "unwrap"),
)
def parse_json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None
