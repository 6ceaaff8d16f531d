"""YAML read by libyaml's reader and by Python's own: the same nodes, at the same places."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.mapping import document
from gateway.mapping.document import Node, Scalar, Sequence, Table, _Reader
from tests.expressions import thorough
from tests.harness import ROOT

PIECES = st.sampled_from(
    ["a", "b:", "c: ", "- ", "\n", "\n  ", "\n    ", "'it''s'", '"q\\n\\"é"', ": ", "[", "]", "{", "}",
     ", ", "# remark", ">-\n", "|\n", ">\n", "&x ", "*x", "!t ", "---\n", "...\n", "? ", "é ", "0o7", "~",
     "true", "12:30", "\r\n", "\u2028", "'", '"', "%", "@", "`"]
)  # fmt: skip


def _read(text: str, loader: object) -> tuple[Node | None, int]:
    """The node, and how many findings there are; no node where the reader takes none."""
    reader = _Reader("file.yaml", text, loader)
    try:
        return reader.document(), len(reader.findings)
    except (document._Unreadable, yaml.YAMLError, ValueError, OverflowError):
        return None, 1


def _agree(text: str) -> None:
    fast, findings = _read(text, yaml.CSafeLoader)
    if fast is not None and not findings:
        slow, findings = _read(text, yaml.SafeLoader)
        assert slow is not None
        assert (_comparable(fast), 0) == (_comparable(slow), findings)


def _comparable(node: Node) -> object:
    """What a node says and where; the place of nothing is wherever the reader has got to."""
    match node:
        case Scalar(None | ""):
            return node.value
        case Scalar():
            return node
        case Sequence():
            return node.span, [_comparable(item) for item in node.items]
    return node.span, [(_comparable(key), _comparable(value)) for key, value in node.entries]


def test_the_fast_reader_is_there() -> None:
    assert document._FAST is yaml.CSafeLoader


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("[!.]*/**/*.yaml")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_both_readers_agree_on_every_file(path: Path) -> None:
    raw = path.read_bytes()
    try:
        _agree(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        assert "latin-1" in path.name


@thorough
@given(st.lists(PIECES, max_size=14).map("".join))
def test_both_readers_agree_on_anything(text: str) -> None:
    """Row 42."""
    _agree(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("NO", "NO"),
        ("1.10", 1.1),
        ("012", 12),
        ("0o14", 12),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("2024-13-45", "2024-13-45"),
        ("2024-12-24", "2024-12-24"),
        ("true", True),
        ("~", None),
    ],
)
def test_words_are_what_they_look_like(text: str, value: object) -> None:
    """As YAML 1.2 has it, whose core knows true, false, null and numbers. Row 43 of the table in
    docs/explanation/security.md."""
    node, findings = document.parse("file.yaml", f"key: {text}\n")
    assert findings == []
    assert isinstance(node, Table)
    found = node.get("key")
    assert isinstance(found, Scalar)
    assert (found.value, type(found.value)) == (value, type(value))


def test_a_fault_is_told_in_the_same_words_whichever_reader_found_it() -> None:
    _, (finding,) = document.parse("file.yaml", "a: b: c\n")
    assert finding.message == "a `:` where no key can stand"
