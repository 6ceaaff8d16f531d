"""Functions of numbers. JMESPath has no operators for them."""

from gateway.mapping.functions.entry import Example, Group

GROUP = Group("Numbers")

GROUP.standard(
    "abs(value: number) -> number",
    "The number without its sign.",
    Example("abs(`-3`)", "3"),
)
GROUP.standard(
    "avg(items: array[number]) -> number|null",
    "The mean of a list of numbers; `null` if it is empty.",
    Example("avg(`[1, 2, 6]`)", "3.0"),
    Example("avg(`[]`)", "null"),
    keywords=("average", "mean"),
)
GROUP.standard(
    "ceil(value: number) -> number",
    "The number rounded up to a whole one.",
    Example("ceil(`1.2`)", "2"),
    keywords=("round", "round_up"),
)
GROUP.standard(
    "floor(value: number) -> number",
    "The number rounded down to a whole one.",
    Example("floor(`1.9`)", "1"),
    Example("floor(to_number(body.seconds))", "12", '{"seconds": "12.75"}'),
    keywords=("round", "round_down", "truncate", "int"),
)
GROUP.standard(
    "sum(items: array[number]) -> number",
    "The sum of a list of numbers; 0 if it is empty.",
    Example("sum(body.stages[].took)", "135", '{"stages": [{"took": 40}, {"took": 95}]}'),
    Example("sum(`[]`)", "0"),
    keywords=("add", "total", "plus"),
)
