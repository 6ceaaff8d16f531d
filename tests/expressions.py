"""Random expressions and documents that fit each other, for the property tests of the language."""

import json
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("GATEWAY_TEST_EXAMPLES", "1500"))
"""Examples of each property; a build server's share by default, more for a thorough run."""

KEYS = ("a", "b", "c", "größe", "", 'x-"\\')
NAMES = st.sampled_from(
    ["a", "b", "c", *(json.dumps(key) for key in KEYS[3:]), '"größe"', '"\\u0061"']
)
"""A name may be spelled in more than one way."""
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.0, 1.0, 2.5, -1.5])
    | st.sampled_from(["", "a", "b", "ab", "a,b", "1", "é"])
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS), DOCUMENTS, min_size=2, max_size=6)
"""Documents that most paths find something in."""
LITERALS = st.sampled_from(
    ["'a'", "''", "'a,b'", "`0`", "`1`", "`2.5`", "`true`", "`false`", "`null`", "`[]`", "`{}`",
     "`[1, 2]`", '`["a", "b"]`', '`{"a": 1}`']
)  # fmt: skip


STEPS = st.sampled_from(
    [".a", "[0]", "[-1]", "[]", "[*]", ".*", "[1:]", "[?a]", "[?b || c]", ".{a: a}", ".{b: @}", ".[a, b]"]
)  # fmt: skip
"""What reads on from a value; each ends or continues what stands before it in its own way."""


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    comparison = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    unary = st.sampled_from(
        ["abs", "avg", "ceil", "keys", "length", "lower", "max", "min", "reverse", "sort", "sum",
         "to_array", "to_number", "to_string", "trim", "type", "upper", "values", "not_null", "merge"]
    )  # fmt: skip
    binary = st.sampled_from(
        ["contains", "ends_with", "join", "starts_with", "split", "find_first", "find_last",
         "overlap", "not_null", "trim_left", "merge"]
    )  # fmt: skip
    by = st.sampled_from(["map(&{0}, {1})", "sort_by({1}, &{0})", "max_by({1}, &{0})"])
    index = st.sampled_from(
        ["[0]", "[-1]", "[5]", "[]", "[*]", "[1:]", "[::-1]", "[:2]", "[::2]", ".*"]
    )
    return st.one_of(
        st.tuples(inner, NAMES).map("{0[0]}.{0[1]}".format),
        st.tuples(inner, index).map("{0[0]}{0[1]}".format),
        st.tuples(inner, st.lists(STEPS, min_size=2, max_size=5)).map(
            lambda parts: parts[0] + "".join(parts[1])
        ),
        two.map("{0[0]} | {0[1]}".format),
        two.map("{0[0]} && {0[1]}".format),
        two.map("{0[0]} || {0[1]}".format),
        inner.map("!{}".format),
        inner.map("({})".format),
        st.tuples(inner, comparison, inner).map("{0[0]} {0[1]} {0[2]}".format),
        two.map("{0[0]}[?{0[1]}]".format),
        two.map("[{0[0]}, {0[1]}]".format),
        two.map("{{p: {0[0]}, q: {0[1]}}}".format),
        st.tuples(unary, inner).map("{0[0]}({0[1]})".format),
        st.tuples(binary, inner, inner).map("{0[0]}({0[1]}, {0[2]})".format),
        st.tuples(by, inner, inner).map(lambda parts: parts[0].format(parts[1], parts[2])),
        st.tuples(inner, inner, inner).map("replace({0[0]}, {0[1]}, {0[2]})".format),
    )


EXPRESSIONS = st.recursive(NAMES | LITERALS | st.just("@"), _compound, max_leaves=8)
PATHS = st.lists(NAMES, min_size=1, max_size=2).map(".".join)

thorough = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
"""As many examples as were asked for, however long one takes."""
