"""Functions of objects: their keys and values, and several in one."""

from gateway.mapping.functions.entry import Example, Group

GROUP = Group("Objects")

GROUP.standard(
    "keys(subject: object) -> array[string]",
    "The names of an object's members.",
    Example("keys(body.labels)", '["team", "tier"]', '{"labels": {"team": "shop", "tier": "web"}}'),
    Example("keys(body.labels)", body="{}", fails="takes object, not null"),
    keywords=("names",),
)
GROUP.standard(
    "merge(...objects: object) -> object",
    "The members of all objects in one; of those with the same name the last one counts.",
    Example('merge(`{"a": 1, "b": 1}`, `{"b": 2}`)', '{"a": 1, "b": 2}'),
    keywords=("update", "extend", "assign"),
)
GROUP.standard(
    "values(subject: object) -> array",
    "The values of an object's members.",
    Example(
        "values(body.labels)", '["shop", "web"]', '{"labels": {"team": "shop", "tier": "web"}}'
    ),
)
