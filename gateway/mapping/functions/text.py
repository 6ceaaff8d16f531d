"""Functions of text. The gateway's own carry the names and arguments of the JMESPath community's
proposals."""

from gateway.mapping.functions.entry import Example, Group

GROUP = Group("Text")

GROUP.standard(
    "contains(subject: array|string, search: any) -> boolean",
    """Whether a list holds a value, or a text a part. In a list the whole value has to be equal.""",
    Example('contains(`["dev", "prod"]`, \'prod\')', "true"),
    Example("contains('production-eu', 'prod')", "true"),
    Example("contains(`[\"production-eu\"]`, 'prod')", "false"),
    keywords=("in", "includes", "has", "index_of"),
)
GROUP.standard(
    "ends_with(subject: string, suffix: string) -> boolean",
    "Whether a text ends with another.",
    Example("ends_with('shop.git', '.git')", "true"),
    keywords=("endswith", "has_suffix"),
)
GROUP.standard(
    "join(glue: string, strings: array[string]) -> string",
    """The texts of a list in one, with `glue` between them. A list that holds anything but text is an
    error; `to_string()` makes text of a number.""",
    Example(
        "join('/', [body.group, body.name])", '"octo/shop"', '{"group": "octo", "name": "shop"}'
    ),
    Example("join('-', ['build', to_string(body.number)])", '"build-7"', '{"number": 7}'),
    Example("join(', ', `[]`)", '""'),
    Example(
        "join('/', [body.group, body.name])",
        body='{"name": "shop"}',
        fails="takes array[string], not an array of other values",
    ),
    keywords=("concat", "concatenate", "format", "plus", "append"),
)
GROUP.standard(
    "length(subject: string|array|object) -> number",
    "The number of characters of a text, of items of a list, or of members of an object.",
    Example("length('prod')", "4"),
    Example("length(body.commits)", "2", '{"commits": [{"id": "6b51418"}, {"id": "97a2791"}]}'),
    Example("length(body.commits)", body="{}", fails="takes string|array|object, not null"),
    keywords=("len", "size", "count"),
)
GROUP.standard(
    "starts_with(subject: string, prefix: string) -> boolean",
    "Whether a text begins with another.",
    Example("starts_with(body.ref, 'refs/tags/')", "true", '{"ref": "refs/tags/v1.2"}'),
    Example(
        "starts_with(body.ref, 'refs/tags/')", body='{"ref": null}', fails="takes string, not null"
    ),
    Example("starts_with(not_null(body.ref, ''), 'refs/tags/')", "false", '{"ref": null}'),
    keywords=("startswith", "has_prefix"),
)


def _index(found: int, sub: str) -> int | None:
    return found if found >= 0 and sub else None


def _bounds(subject: str, start: float | None, end: float | None) -> tuple[int, int]:
    return _whole(start or 0), len(subject) if end is None else _whole(end)


def _whole(number: float) -> int:
    """A whole number from any, within what a text's length can be compared with."""
    return int(max(-(2**31), min(number, 2**31)))


@GROUP.function(
    "find_first(subject: string, sub: string, start?: number, end?: number) -> number|null",
    """The index, from 0, at which a part first stands in a text. It is looked for from `start` up to
    `end`, which count from the text's end where they are negative. `null` where the part is not there
    or is empty.""",
    Example("find_first('octo/shop/api', '/')", "4"),
    Example("find_first('octo/shop/api', '/', `5`)", "9"),
    Example("find_first('octo', '/')", "null"),
    keywords=("index_of", "indexof", "position"),
)
def find_first(
    subject: str, sub: str, start: float | None = None, end: float | None = None
) -> int | None:
    return _index(subject.find(sub, *_bounds(subject, start, end)), sub)


@GROUP.function(
    "find_last(subject: string, sub: string, start?: number, end?: number) -> number|null",
    """The index, from 0, at which a part last stands in a text. Otherwise as `find_first()`.""",
    Example("find_last('octo/shop/api', '/')", "9"),
    Example("find_last('octo', '/')", "null"),
    keywords=("last_index_of", "rfind"),
)
def find_last(
    subject: str, sub: str, start: float | None = None, end: float | None = None
) -> int | None:
    return _index(subject.rfind(sub, *_bounds(subject, start, end)), sub)


@GROUP.function(
    "lower(subject: string) -> string",
    "The text in lower case.",
    Example("lower('PROD')", '"prod"'),
    Example("lower(body.stage)", body='{"stage": null}', fails="takes string, not null"),
    Example("lower(not_null(body.stage, ''))", '""', '{"stage": null}'),
    keywords=("lowercase", "to_lower", "downcase", "tolower", "ascii_downcase"),
)
def lower(subject: str) -> str:
    return subject.lower()


@GROUP.function(
    "replace(subject: string, old: string, new: string, count?: number) -> string",
    """The text with one part replaced by another wherever it stands. With `count`, only so many times,
    from the left. The part is plain text, no pattern.""",
    Example("replace('refs/heads/main', 'refs/heads/', '')", '"main"'),
    Example("replace('a-b-c', '-', '/', `1`)", '"a/b-c"'),
    Example("replace('main', 'x', 'y')", '"main"'),
    Example("replace(body.ref, 'refs/heads/', '')", body="{}", fails="takes string, not null"),
    keywords=("sub", "gsub", "substitute", "remove", "replace_all", "regex_replace"),
)
def replace(subject: str, old: str, new: str, count: float | None = None) -> str:
    return subject.replace(old, new, -1 if count is None else max(0, _whole(count)))


@GROUP.function(
    "split(subject: string, search: string, count?: number) -> array[string]",
    """The parts of a text between the places where `search` stands. With `count`, only so many places
    split it, from the left, and the last part is the rest. An empty `search` splits it into
    characters.""",
    Example("split('refs/heads/main', '/')", '["refs", "heads", "main"]'),
    Example("split('refs/heads/feature/tide', '/', `2`)[-1]", '"feature/tide"'),
    Example("split('abc', '')", '["a", "b", "c"]'),
    Example("split('', '/')", '[""]'),
    Example("split(body.ref, '/')", body="{}", fails="takes string, not null"),
    keywords=("explode", "tokenize", "substring", "basename"),
)
def split(subject: str, search: str, count: float | None = None) -> list[str]:
    limit = -1 if count is None else max(0, _whole(count))
    if search:
        return subject.split(search, limit)
    head = len(subject) if limit < 0 else limit
    rest = subject[head:]
    return [*subject[:head], *([rest] if rest else [])]


@GROUP.function(
    "trim(subject: string, chars?: string) -> string",
    """The text without white space at its ends. With `chars`, without any of those characters; their
    order does not matter.""",
    Example("trim('  v1.2 ')", '"v1.2"'),
    Example("trim('/octo/shop/', '/')", '"octo/shop"'),
    Example("trim('  ')", '""'),
    keywords=("strip",),
)
def trim(subject: str, chars: str | None = None) -> str:
    return subject.strip(chars or None)


@GROUP.function(
    "trim_left(subject: string, chars?: string) -> string",
    "The text without white space, or without any of `chars`, at its beginning.",
    Example("trim_left('v1.2', 'v')", '"1.2"'),
    Example("trim_left(' a ')", '"a "'),
    Example("trim_left('vvv', 'v')", '""'),
    keywords=("lstrip", "trim_start", "trim_prefix"),
)
def trim_left(subject: str, chars: str | None = None) -> str:
    return subject.lstrip(chars or None)


@GROUP.function(
    "trim_right(subject: string, chars?: string) -> string",
    """The text without white space, or without any of `chars`, at its end. They are characters, not an
    ending.""",
    Example("trim_right('octo/shop/', '/')", '"octo/shop"'),
    Example("trim_right('digit.git', '.git')", '"d"'),
    Example("trim_right('///', '/')", '""'),
    keywords=("rstrip", "trim_end", "trim_suffix"),
)
def trim_right(subject: str, chars: str | None = None) -> str:
    return subject.rstrip(chars or None)


@GROUP.function(
    "upper(subject: string) -> string",
    "The text in upper case.",
    Example("upper('ops-7')", '"OPS-7"'),
    Example("upper('')", '""'),
    keywords=("uppercase", "to_upper", "upcase", "toupper", "ascii_upcase"),
)
def upper(subject: str) -> str:
    return subject.upper()
