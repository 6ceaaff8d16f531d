"""Functions of lists: their order, their extremes, and what two of them share."""

from typing import Any

from gateway.mapping.functions.entry import Example, Group

GROUP = Group("Lists")

_STAGES = '{"stages": [{"name": "test", "took": 40}, {"name": "build", "took": 95}]}'

GROUP.standard(
    "map(each: expression, items: array) -> array",
    """What an expression finds in each item of a list. Unlike `items[].name` it keeps `null` for an item
    in which nothing is found.""",
    Example('map(&name, `[{"name": "a"}, {}]`)', '["a", null]'),
    keywords=("foreach", "apply", "transform"),
)
GROUP.standard(
    "max(items: array[number]|array[string]) -> number|string|null",
    "The largest number or the last text, in order of characters, of a list; `null` if it is empty.",
    Example("max(`[3, 7, 5]`)", "7"),
    Example("max(`[]`)", "null"),
    keywords=("maximum", "largest", "latest"),
)
GROUP.standard(
    "max_by(items: array, by: expression) -> any",
    """The item of a list in which an expression finds the largest number or the last text. `null` if the
    list is empty.""",
    Example("max_by(body.stages, &took).name", '"build"', _STAGES),
    Example("max_by(`[]`, &took)", "null"),
)
GROUP.standard(
    "min(items: array[number]|array[string]) -> number|string|null",
    "The smallest number or the first text, in order of characters, of a list; `null` if it is empty.",
    Example('min(`["2026-02-01", "2026-01-31"]`)', '"2026-01-31"'),
    Example("min(`[]`)", "null"),
    keywords=("minimum", "smallest", "earliest"),
)
GROUP.standard(
    "min_by(items: array, by: expression) -> any",
    """The item of a list in which an expression finds the smallest number or the first text. `null` if
    the list is empty.""",
    Example("min_by(body.stages, &took).name", '"test"', _STAGES),
    Example("min_by(`[{}]`, &took)", fails="takes number|string there, not null"),
)


@GROUP.function(
    "overlap(left: array|null, right: array|null) -> boolean",
    """Whether two lists have a value in common. A filter cannot ask this, because inside it `params` is
    out of sight. Either list may be `null`.""",
    Example(
        'overlap(body.labels[].name, `["bug", "incident"]`)',
        "true",
        '{"labels": [{"name": "bug"}, {"name": "ui"}]}',
    ),
    Example('overlap(body.labels[].name, `["bug"]`)', "false", "{}"),
    keywords=("intersect", "intersection", "any", "in", "contains_any"),
)
def overlap(left: list[Any] | None, right: list[Any] | None) -> bool:
    return any(item in (right or ()) for item in left or ())


GROUP.standard(
    "reverse(subject: array|string) -> array|string",
    "A list or a text from its end to its beginning.",
    Example("reverse(`[1, 2, 3]`)", "[3, 2, 1]"),
    Example("reverse('abc')", '"cba"'),
)
GROUP.standard(
    "sort(items: array[string]|array[number]) -> array",
    "The texts or the numbers of a list in order.",
    Example('sort(`["b", "a"]`)', '["a", "b"]'),
    Example("sort(`[3, 1, 2]`)[-1]", "3"),
    Example('sort(`[1, "a"]`)', fails="not an array of other values"),
)
GROUP.standard(
    "sort_by(items: array, by: expression) -> array",
    """The items of a list in order of what an expression finds in each: numbers, or texts. The expression
    stands behind `&`.""",
    Example("sort_by(body.stages, &took)[].name", '["test", "build"]', _STAGES),
    Example("sort_by(body.stages, took)", body=_STAGES, fails="is an expression behind `&`"),
    keywords=("order_by",),
)
