"""What events mean together is the same in whatever order they come, however often, over restarts."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.correlation.fold import Correlation, Coverage, Suspicion
from gateway.event import Event
from tests.expressions import EXAMPLES, thorough

START = 1_780_000_000
RECEIVED = 1_790_000_000.0
APPS = ("shop", "pay")
SHAS = ("a" * 40, "b" * 40, "abcdef0" + "1" * 33, "abcdef1" + "2" * 33)
DIGESTS = tuple(f"sha256:{digit * 64}" for digit in "1234")
IMAGES = tuple(f"registry.example/app:{tag}" for tag in (1, 2, 3, 4))
RELEASES = ("v1", "v2", "v3", "v4")


def event(kind: str, **fields: Any) -> Event:
    return Event(kind, {name: value for name, value in fields.items() if value != ""})


def commit(sha: str, at: int = 0, app: str = "shop", **more: Any) -> Event:
    return event("committime", app=app, commit=sha, timestamp=START + at, **more)


def build(app: str = "shop", **names: str) -> Event:
    return event("build", app=app, **names)


def deployment(at: int = 500, app: str = "shop", **names: str) -> Event:
    return event("deploytime", app=app, timestamp=START + at, namespace="prod", **names)


def failure(what: str, at: int, issue: str = "1", app: str = "shop") -> Event:
    return event("failure", app=app, event=what, issue_number=issue, timestamp=START + at)


def fold(events: Iterable[Event]) -> tuple[Correlation, list[Event]]:
    """All that is shown of these events, echoes included."""
    correlation = Correlation()
    shown = [one.event for event in events for one in correlation.fold(event, RECEIVED)]
    return correlation, shown


def of_kind(shown: Iterable[Event], kind: str) -> list[dict[str, Any]]:
    return [one.fields for one in shown if one.kind == kind]


def lead_times(*events: Event) -> list[tuple[Any, Any]]:
    """What each deployment is called, with the seconds since its commit."""
    found = of_kind(fold(events)[1], "leadtime")
    return [(one["image_sha"], one["seconds"]) for one in found]


# Joining


@pytest.mark.parametrize(
    ("events", "called"),
    [
        ([deployment(commit=SHAS[0])], SHAS[0]),
        ([deployment(commit=SHAS[0][:7])], SHAS[0][:7]),
        ([deployment(image_sha=DIGESTS[0], commit=SHAS[0])], DIGESTS[0]),
        (
            [deployment(image_sha=DIGESTS[0]), build(commit=SHAS[0], image_sha=DIGESTS[0])],
            DIGESTS[0],
        ),
        ([deployment(image=IMAGES[0]), build(commit=SHAS[0], image=IMAGES[0])], IMAGES[0]),
        ([deployment(release="v1"), build(commit=SHAS[0], release="v1")], "v1"),
        (
            [
                deployment(image=IMAGES[0]),
                build(image=IMAGES[0], image_sha=DIGESTS[0]),
                build(image_sha=DIGESTS[0], commit=SHAS[0][:12]),
            ],
            IMAGES[0],
        ),
        (
            [
                deployment(release="v1"),
                build(release="v1", image=IMAGES[0]),
                build(image=IMAGES[0], image_sha=DIGESTS[0]),
                build(image_sha=DIGESTS[0], commit=SHAS[0]),
            ],
            "v1",
        ),
    ],
)
def test_a_deployment_joins_its_commit_in_any_order(events: list[Event], called: str) -> None:
    """By digest, name, commit, short commit and release; whichever of the events comes last."""
    for turn in range(len(events) + 1):
        whole = [*events, commit(SHAS[0])]
        turned = whole[turn:] + whole[:turn]
        assert lead_times(*turned) == [(called, 500)]
        assert lead_times(*reversed(turned)) == [(called, 500)]
        carriers = {
            one["image_sha"]: one["commit"] for one in of_kind(fold(turned)[1], "committime")
        }
        assert called in carriers
        assert set(carriers.values()) == {SHAS[0]}


def test_a_name_that_stands_for_two_commits_joins_neither() -> None:
    """`latest` moves on; what it meant at a deployment is not guessed."""
    events = [
        commit(SHAS[0]),
        commit(SHAS[1], 100),
        build(image="shop:latest", commit=SHAS[0]),
        build(image="shop:latest", commit=SHAS[1]),
        deployment(image="shop:latest"),
    ]
    assert lead_times(*events) == []
    assert fold(events)[0].coverage() == {"shop": Coverage(1, 0)}


def test_a_short_sha_of_two_commits_joins_neither() -> None:
    alike = ("abcdef0" + "1" * 33, "abcdef0" + "2" * 33)
    events = [commit(alike[0]), commit(alike[1]), deployment(commit="abcdef0")]
    assert lead_times(*events) == []
    assert lead_times(*events, deployment(700, commit="abcdef01")) == [("abcdef01", 700)]


def test_a_digest_belongs_to_the_commit_that_it_was_first_told_of() -> None:
    """The same content built again from another commit; the second claim is counted."""
    events = [
        build(commit=SHAS[0], image_sha=DIGESTS[0]),
        build(commit=SHAS[1], image_sha=DIGESTS[0]),
        commit(SHAS[1], 100),
        commit(SHAS[0]),
        deployment(image_sha=DIGESTS[0]),
    ]
    assert lead_times(*events) == [(DIGESTS[0], 500)]
    assert fold(events)[0].conflicts == 1


def test_a_commit_told_short_and_whole_is_one() -> None:
    """Its earliest time counts, and every image has one commit."""
    events = [
        commit(SHAS[0][:7], 100),
        build(commit=SHAS[0], image_sha=DIGESTS[0]),
        commit(SHAS[0], 50),
        deployment(image_sha=DIGESTS[0]),
    ]
    assert lead_times(*events) == [(DIGESTS[0], 450)]
    shown = of_kind(fold(events)[1], "committime")
    assert len({one["commit"] for one in shown if one["image_sha"] == DIGESTS[0]}) == 1


def test_a_commit_keeps_the_labels_that_it_was_first_shown_with() -> None:
    """A link that another source tells later would make a second series for the same image."""
    events = [
        commit(SHAS[0], 100, namespace="prod"),
        commit(SHAS[0], 50, commit_link="https://example.com/commit"),
        deployment(commit=SHAS[0]),
    ]
    for order in (events, [events[1], events[0], events[2]], events[::-1]):
        shown = of_kind(fold(order)[1], "committime")
        assert len({(one.get("namespace"), one.get("commit_link")) for one in shown}) == 1
        assert shown[-1]["timestamp"] == START + 50


def test_apps_do_not_mix() -> None:
    assert lead_times(commit(SHAS[0], app="pay"), deployment(commit=SHAS[0])) == []


def test_coverage_counts_what_joined() -> None:
    """Row 35 of the table in docs/explanation/security.md."""
    events = [
        deployment(1, commit=SHAS[0]),
        deployment(2, commit=SHAS[1]),
        deployment(3, app="pay", release="v1"),
        commit(SHAS[1]),
    ]
    assert fold(events)[0].coverage() == {"shop": Coverage(2, 1), "pay": Coverage(1, 0)}


def test_the_same_deployment_told_twice_counts_once() -> None:
    """By two systems, one of which knows the commit too."""
    first = deployment(image_sha=DIGESTS[0])
    second = deployment(image_sha=DIGESTS[0], commit=SHAS[0])
    shown = fold([first, second, commit(SHAS[0])])[1]
    assert len(of_kind(shown, "deploytime")) == 1
    assert len(of_kind(shown, "leadtime")) == 1


# Times that cannot be right


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (deployment(at=10_000_000 + 90_000, commit=SHAS[0]), Suspicion.FUTURE),
        (commit(SHAS[0], at=-1_000_000_000), Suspicion.BEFORE_2000),
        (failure("created", 10_000_000 + 90_000), Suspicion.FUTURE),
    ],
)
def test_an_event_of_an_impossible_time_is_counted_and_not_shown(
    event: Event, reason: Suspicion
) -> None:
    """Row 34."""
    correlation, shown = fold([event])
    assert shown == []
    assert correlation.suspect == {one: int(one is reason) for one in Suspicion}


def test_a_deployment_before_its_commit_has_no_lead_time() -> None:
    """It counts as a deployment; a telling of the commit with an earlier time mends it. Row 35."""
    events = [commit(SHAS[0], 600), deployment(500, commit=SHAS[0])]
    for order in (events, events[::-1]):
        correlation, shown = fold(order)
        assert len(of_kind(shown, "deploytime")) == 1
        assert of_kind(shown, "leadtime") == []
        assert correlation.suspect[Suspicion.BEFORE_COMMIT] == 1
    correlation, shown = fold([*events, commit(SHAS[0], 400)])
    assert [one["seconds"] for one in of_kind(shown, "leadtime")] == [100]
    assert correlation.suspect[Suspicion.BEFORE_COMMIT] == 0


def test_a_failure_resolved_before_its_creation_has_no_duration() -> None:
    """Row 35."""
    for order in ((0, 1), (1, 0)):
        events = [failure("created", 200), failure("resolved", 100)]
        correlation, shown = fold(events[index] for index in order)
        assert of_kind(shown, "restoration") == []
        assert correlation.suspect[Suspicion.BEFORE_CREATION] == 1


# Failures


def restored(*events: Event) -> list[Any]:
    return [one["seconds"] for one in of_kind(fold(events)[1], "restoration")]


def failed(events: Iterable[Event]) -> dict[str, int]:
    """How often a deployment of each name failed, all told."""
    total: dict[str, int] = {}
    for one in of_kind(fold(events)[1], "failed_deployment"):
        total[one["image_sha"]] = total.get(one["image_sha"], 0) + one["change"]
    return {name: count for name, count in total.items() if count}


def test_a_resolution_ends_the_latest_creation_before_it() -> None:
    assert restored(failure("created", 0), failure("resolved", 60)) == [60]
    assert restored(failure("resolved", 60), failure("created", 0)) == [60]
    again = [failure("created", 100), failure("resolved", 130)]
    assert restored(failure("created", 0), failure("resolved", 60), *again) == [60, 30]
    assert restored(failure("created", 0, "1"), failure("resolved", 60, "2")) == []


def test_a_deployment_fails_once() -> None:
    first, second = deployment(100, release="v1"), deployment(200, release="v2")
    events = [first, second, failure("created", 250, "1"), failure("created", 260, "2")]
    assert failed(events) == {"v2": 1}
    assert failed([*events, failure("created", 150, "3")]) == {"v1": 1, "v2": 1}


def test_a_deployment_learned_late_takes_the_failure_over() -> None:
    first, second = deployment(100, release="v1"), deployment(200, release="v2")
    assert failed([first, failure("created", 250), second]) == {"v2": 1}
    assert failed([failure("created", 250), second, first]) == {"v2": 1}
    assert failed([failure("created", 50), first]) == {}
    assert failed([first, failure("created", 100)]) == {"v1": 1}


# Order, repetition, restarts


def consistent(draw: st.DrawFn, app: str) -> list[Event]:
    """What several systems tell of one app, without contradicting each other."""
    events: list[Event] = []
    for number, (sha, digest, image, release) in enumerate(
        zip(SHAS, DIGESTS, IMAGES, RELEASES, strict=True)
    ):
        names = {"commit": sha, "image_sha": digest, "image": image, "release": release}
        if draw(st.booleans()):
            events.append(commit(sha, 10 * number, app))
        for pair in draw(st.lists(st.sets(st.sampled_from(sorted(names)), min_size=2), max_size=3)):
            events.append(build(app, **{name: names[name] for name in pair}))
        for at in draw(st.sets(st.integers(0, 200), max_size=2)):
            chosen = draw(st.sets(st.sampled_from(sorted(names)), min_size=1, max_size=2))
            told = {name: names[name] for name in chosen}
            if draw(st.booleans()) and "commit" in told:
                told["commit"] = sha[: draw(st.integers(7, 39))]
            events.append(deployment(at, app, **told))
        if draw(st.booleans()):
            created = draw(st.integers(0, 200))
            events.append(failure("created", created, str(number), app))
            if draw(st.booleans()):
                lasted = draw(st.integers(0, 50))
                events.append(failure("resolved", created + lasted, str(number), app))
    return events


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    return [one for app in APPS for one in consistent(draw, app)]


def meaning(events: Sequence[Event]) -> tuple[Any, ...]:
    """All series with their values, and what the counts come to."""
    correlation, shown = fold(events)
    counted = sorted(
        repr((one.kind, sorted(one.fields.items())))
        for one in shown
        if one.kind not in ("committime", "failed_deployment")
    )
    # However often a commit is shown, it joins and does not count.
    commits = {repr(sorted(one.items())) for one in of_kind(shown, "committime")}
    return counted, commits, failed(events), correlation.coverage(), correlation.suspect


# An example is a whole history, folded twice.
@settings(thorough, max_examples=EXAMPLES // 3)
@given(histories(), st.data())
def test_any_order_and_any_repetition_means_the_same(
    events: list[Event], data: st.DataObject
) -> None:
    """Repeated as the journal lets it through: the same deployment told by another system."""
    again = data.draw(st.lists(st.sampled_from(events), max_size=3)) if events else []
    again = [one for one in again if one.kind in ("committime", "build", "deploytime")]
    order = data.draw(st.permutations([*events, *again]))
    assert meaning(order) == meaning(events)
