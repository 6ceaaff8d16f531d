"""The types of a model's fields: every spelling that is taken, every value that is refused in words."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.event import FieldValue
from gateway.fieldtype import EARLIEST, LATEST, FieldError, FieldType, parse_offset, reader

JANUARY = 1_769_851_800  # 2026-01-31T09:30:00Z


def read(kind: FieldType, raw: Any, **limits: Any) -> FieldValue:
    offset = limits.pop("offset", None)
    limits = {"max_length": None, "choices": (), **limits}
    return reader(kind, **limits)(raw, offset)


@pytest.mark.parametrize(
    "raw",
    [
        "2026-01-31T09:30:00Z",
        "2026-01-31t09:30:00z",
        "2026-01-31T11:30:00+02:00",
        "2026-01-31T11:30:00+0200",
        "2026-01-31T11:30:00+02",
        "2026-01-31T01:30:00.000-0800",
        "2026-01-31 09:30:00 UTC",
        "2026-01-31 11:30:00 +0200",
        "2026-01-31T09:30:00.0000000Z",
        "2026-01-31T09:30:00.000000000Z",
        "2026-01-31T09:30Z",
        " 2026-01-31T09:30:00Z ",
        JANUARY,
        float(JANUARY),
        str(JANUARY),
        JANUARY * 1_000,
        str(JANUARY * 1_000),
        JANUARY * 1_000_000,
        JANUARY * 1_000_000_000,
        "1.7698518e+09",
    ],
)
def test_a_time_is_read_in_every_spelling(raw: Any) -> None:
    """ISO 8601 with any offset, the vendors' own, and epochs of every unit."""
    assert read(FieldType.TIMESTAMP, raw) == JANUARY


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        ("2019-02-15T19:15:40.470-0800", 1_550_286_940.47),
        (1_550_286_678_321, 1_550_286_678.321),
        ("2026-01-31T09:30:00.1234567Z", JANUARY + 0.123457),
        ("2026-01-31 09:30:00,5 UTC", JANUARY + 0.5),
        # Whether they can be right is for those to say who know when the event was received.
        ("0001-01-01T00:00:00Z", -62_135_596_800),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
    ],
)
def test_times_are_kept_to_the_microsecond(raw: Any, seconds: float) -> None:
    """A whole number stays one."""
    assert read(FieldType.TIMESTAMP, raw) == seconds


@pytest.mark.parametrize(
    "raw",
    [
        "", "yesterday", True,
        [], {}, 0, -1, 10, float("inf"), float("nan"), "NaN", "inf", "1e400", 10**400, "1_769_851_800",
        "١٧٦٩٨٥١٨٠٠", "2026-13-45T09:30:00Z", "2026-02-30T09:30:00Z", "2026-01-31T25:30:00Z",
        "2026-01-31", "31/01/2026 09:30", "2026-01-31T09:30:00+25:00", "2026-01-31T09:30:00 CET",
        "2026-01-31T09:30:00+00:99", "2026-01-31T09:30:00+0260", "2026-01-31T09:30:00-13:60",
        "2026-01-31T09:30.5Z", "2026-01-31 09:30,5 UTC", "2026-01-31T09:30.Z", "2026-01-31T09:30:00.Z",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(raw: Any) -> None:
    """Sentinels, other eras, other digits, dates without a time.
    Row 34 of the table in docs/explanation/security.md."""
    with pytest.raises(FieldError, match=r"expected|no offset"):
        read(FieldType.TIMESTAMP, raw)


def test_a_time_without_an_offset_needs_a_declared_one() -> None:
    """Ambiguity is an error with the value shown, never a guess. Row 34."""
    with pytest.raises(
        FieldError, match=r'`"2026-01-31 09:30:00"` has no offset from UTC; declare'
    ):
        read(FieldType.TIMESTAMP, "2026-01-31 09:30:00")
    assert read(FieldType.TIMESTAMP, "2026-01-31 09:30:00", offset=UTC) == JANUARY
    two = timezone(timedelta(hours=2))
    assert read(FieldType.TIMESTAMP, "2026-01-31 11:30:00", offset=two) == JANUARY
    assert read(FieldType.TIMESTAMP, "2026-01-31T09:30:00Z", offset=two) == JANUARY


def test_an_offset_of_more_than_fourteen_hours_is_refused_as_such() -> None:
    """None is farther from UTC; a declared one does not stand in for it."""
    for declared in (None, UTC):
        with pytest.raises(
            FieldError, match=r'at most 14 hours from UTC, got `"2026-01-31T09:30:00\+14:01"`'
        ):
            read(FieldType.TIMESTAMP, "2026-01-31T09:30:00+14:01", offset=declared)
    assert read(FieldType.TIMESTAMP, "2026-01-31T23:30:00+14:00") == JANUARY


@given(
    st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 30)),  # noqa: DTZ001
    st.integers(-840, 840),
)
def test_any_moment_in_any_zone_is_itself(moment: datetime, minutes: int) -> None:
    """What Python writes as ISO 8601 is read as the same moment."""
    aware = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes)))
    assert read(FieldType.TIMESTAMP, aware.isoformat()) == aware.timestamp()


@given(st.integers(int(EARLIEST), int(LATEST) - 1), st.sampled_from([1, 10**3, 10**6, 10**9]))
def test_the_unit_of_an_epoch_is_certain(seconds: int, unit: int) -> None:
    """Seconds, milliseconds, microseconds and nanoseconds of this century never overlap. Row 34."""
    assert read(FieldType.TIMESTAMP, seconds * unit) == seconds


@given(st.integers() | st.floats())
def test_a_number_is_itself(raw: float) -> None:
    """Whatever is taken is not changed, also where it is written as text."""
    try:
        assert read(FieldType.NUMBER, raw) == raw
        assert read(FieldType.NUMBER, str(raw)) == raw
    except FieldError:
        assert not abs(raw) <= 2**53


@given(st.text(max_size=300) | st.integers() | st.floats() | st.booleans() | st.none())
def test_no_value_breaks_a_type(raw: Any) -> None:
    """Every type reads a value or refuses it in words."""
    for kind in FieldType:
        try:
            value = read(kind, raw, choices=("a", "b"))
        except FieldError as error:
            assert str(error)
            assert "\n" not in str(error)
        else:
            assert isinstance(value, str | int | float)


def test_a_git_sha_is_7_to_64_hexadecimal_digits() -> None:
    """In lower case, whatever was sent."""
    assert read(FieldType.GIT_SHA, "ABCDEF0") == "abcdef0"
    assert read(FieldType.GIT_SHA, " " + "a" * 64) == "a" * 64
    for raw in ("abcdef", "a" * 65, "main", "g" * 40, "", None, 1234567, "a" * 40 + "\nb"):
        with pytest.raises(FieldError, match="expected a git SHA"):
            read(FieldType.GIT_SHA, raw)


def test_an_image_digest_is_sha256_and_64_digits() -> None:
    """A tag or an image id is none."""
    assert read(FieldType.IMAGE_DIGEST, "sha256:" + "A" * 64) == "sha256:" + "a" * 64
    for raw in ("a" * 64, "sha256:" + "a" * 63, "latest", "repo@sha256:" + "a" * 64):
        with pytest.raises(FieldError, match="expected an image digest"):
            read(FieldType.IMAGE_DIGEST, raw)


def test_text_has_a_length_and_no_control_characters() -> None:
    """Whole numbers are how many systems spell their ids. Rows 30 and 33."""
    assert read(FieldType.TEXT, " a b ") == "a b"
    assert read(FieldType.TEXT, 42) == "42"
    assert read(FieldType.TEXT, "x" * 50, max_length=50)
    for raw in ("a\nb", "a\x00b", "a\x85b", "a\u2028b"):
        with pytest.raises(FieldError, match="without control characters"):
            read(FieldType.TEXT, raw)
    wrong: list[Any] = ["x" * 51, "", "  ", True, 1.5, None, [], {}, 2**64]
    for raw in wrong:
        with pytest.raises(FieldError, match="expected"):
            read(FieldType.TEXT, raw, max_length=50)


def test_a_namespace_has_at_most_63_characters() -> None:
    """As Kubernetes has it."""
    assert read(FieldType.NAMESPACE, "x" * 63)
    with pytest.raises(FieldError, match="at most 63"):
        read(FieldType.NAMESPACE, "x" * 64)


def test_a_choice_is_one_of_its_choices() -> None:
    """The message names them."""
    assert read(FieldType.CHOICE, "created", choices=("created", "resolved")) == "created"
    with pytest.raises(FieldError, match='one of created, resolved, got `"opened"`'):
        read(FieldType.CHOICE, "opened", choices=("created", "resolved"))


def test_a_url_is_http() -> None:
    """Nothing that a page might run."""
    assert read(FieldType.URL, "https://git.example/c/1") == "https://git.example/c/1"
    for raw in ("javascript:alert(1)", "git.example", "https://", "https:///x"):
        with pytest.raises(FieldError, match="URL"):
            read(FieldType.URL, raw)


def test_a_number_fits_a_float() -> None:
    """Or it is refused. Row 25."""
    assert read(FieldType.NUMBER, "2.50") == 2.5
    assert read(FieldType.NUMBER, 3.0) == 3
    for whole in (2**53, -(2**53)):
        for same in (whole, str(whole), float(whole), f"{whole}.0"):
            assert read(FieldType.NUMBER, same) == whole
    beyond = (
        2**53 + 1,
        -(2**53) - 1,
        str(2**53 + 1),
        f"{2**53}.5",
        float(2**53 + 2),
        10**5_000,
        "1e999",
    )
    for raw in (True, "x", float("nan"), float("inf"), 10**30, "1_000", None, *beyond):
        with pytest.raises(FieldError, match="expected a number"):
            read(FieldType.NUMBER, raw)


def test_an_offset_is_read_in_every_spelling() -> None:
    """Or it is none."""
    for text in ("Z", "UTC", "+00:00", "-0000"):
        assert parse_offset(text) == timezone(timedelta())
    assert parse_offset("+0530") == timezone(timedelta(hours=5, minutes=30))
    assert parse_offset("-14:00") == timezone(timedelta(hours=-14))
    for text in ("", "CET", "+15:00", "+14:01", "2", "+2", "+0099", "+01:60"):
        assert parse_offset(text) is None
