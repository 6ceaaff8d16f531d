"""What commands read of a journal is the same, whichever database it lives in."""

import pytest

from gateway import event as identities
from gateway.delivery import Reason, Verdict
from gateway.journal.archive import Archive, Selection
from gateway.journal.entry import JournalError
from tests.journals import Home, append, entry, event


@pytest.fixture
def archive(home: Home) -> Archive:
    """Three accepted deliveries, and a dead letter that was mapped again and then brought an event."""
    reason = Reason("expected a git SHA", "a rule", "commit")
    failed = entry(4, verdict=Verdict.DEAD_LETTERED, events=(), reasons=(reason,), event="status")
    again = entry(4, replay_of=4, body=b"", event="status")
    append(home, entry(1), entry(2, source="gitlab"), entry(3), failed, again)
    return Archive(home.database())


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (Selection(), [4, 3, 2, 1]),
        (Selection(limit=2), [4, 3]),
        (Selection(source="gitlab"), [2]),
        (Selection(event="status"), [4]),
        (Selection(since=1_790_000_003.5), [4, 3]),
        (Selection(until=1_790_000_003.5), [2, 1]),
        (Selection(after=2), [4, 3]),
        (Selection(numbers=(1, 3)), [3, 1]),
        (Selection(outcomes=("dead_lettered",)), []),
        (Selection(outcomes=("accepted", "ignored")), [4, 3, 2, 1]),
        (Selection(settled=False), []),
    ],
)
def test_a_selection_finds_deliveries(
    archive: Archive, wanted: Selection, numbers: list[int]
) -> None:
    """The newest first, or the oldest; a replay is told with the delivery that it is of."""
    assert [one.number for one in archive.latest(wanted)] == numbers
    assert archive.count(wanted) == (4 if wanted.limit == 2 else len(numbers))
    if wanted.limit > 2:
        assert [one.number for one in archive.oldest(wanted)] == numbers[::-1]


def test_a_replay_settles_a_delivery(archive: Archive) -> None:
    """Its outcome, reasons and events are those of the last replay."""
    (kept,) = archive.find("d-4")
    assert (kept.outcome, kept.reasons, kept.events, kept.replays) == (Verdict.ACCEPTED, (), 1, 1)
    assert archive.events_of(4) == [event(4)]


def test_an_id_is_found_by_its_beginning(archive: Archive, home: Home) -> None:
    """Where the whole of it is known, only that; characters stand for themselves."""
    append(home, entry(5, delivery_id="abcd-1"), entry(6, delivery_id="abcd-2"))
    assert [one.delivery for one in archive.find("abcd")] == ["abcd-2", "abcd-1"]
    assert [one.delivery for one in archive.find("abcd-1")] == ["abcd-1"]
    assert [one.delivery for one in archive.find("abcd-1", source="gitlab")] == []
    assert archive.find("abc%") == archive.find("____") == []


def test_events_are_read_up_to_a_place(archive: Archive) -> None:
    """In the order of their commits."""
    assert [one.place for one in archive.events(3)] == [1, 2, 3]
    assert archive.last_event() == 4
    assert archive.size() == (5, 4)
    known = [identities.identity(event(number)) for number in (2, 9)]
    assert archive.known(known) == {known[0]}


def test_a_flipped_bit_is_found(archive: Archive, home: Home) -> None:
    """In either table, and nowhere else; a damaged delivery is not loaded."""
    assert not any(archive.verify())
    home.change("UPDATE deliveries SET headers = '{}' WHERE seq = 2")
    home.change("UPDATE events SET received_at = received_at + 1 WHERE seq = 3")
    found = [(one.table, one.number) for one in archive.verify() if one]
    assert found == [("deliveries", 2), ("events", 3)]
    with pytest.raises(JournalError, match="damaged"):
        archive.load(2)
    with pytest.raises(JournalError, match="not kept any more"):
        archive.load(99)
