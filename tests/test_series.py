"""Events folded into series: correlation in any order, sample times, the window."""

import gc
import itertools
import subprocess
import weakref
from collections.abc import Iterable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import exposition
from gateway.event import Event, identity
from gateway.mapping import library
from gateway.mapping.compiler import SourceFile, compile_files
from gateway.series import Series, Window
from tests.harness import require_program

MODELS = compile_files(library.bundled_files()).models
WINDOW, SPACING = 60_000, 5_000
NOW = 1_790_000_000_000
START = 1_780_000_000
"""Epoch seconds from which the tests count the times of events."""
COMMIT, OTHER = "a" * 40, "b" * 40
IMAGE, SECOND_IMAGE = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def commit(sha: str = COMMIT, at: int = 100, image: str = "", app: str = "shop") -> Event:
    fields: dict[str, str | int | float] = {"app": app, "commit": sha, "timestamp": START + at}
    return Event("committime", fields | ({"image_sha": image} if image else {}))


def build(sha: str = COMMIT, image: str = IMAGE) -> Event:
    return Event("build", {"app": "shop", "commit": sha, "image_sha": image})


def deployment(sha: str = "", image: str = "", at: int = 500, app: str = "shop") -> Event:
    fields: dict[str, str | int | float] = {
        "app": app,
        "timestamp": START + at,
        "namespace": "prod",
    }
    return Event(
        "deploytime",
        fields | ({"commit": sha} if sha else {}) | ({"image_sha": image} if image else {}),
    )


def failure(event: str, at: int, issue: str = "7", app: str = "shop") -> Event:
    fields: dict[str, str | int | float] = {
        "app": app,
        "event": event,
        "issue_number": issue,
        "timestamp": START + at,
    }
    return Event("failure", fields)


def fold(events: Iterable[tuple[Event, int]]) -> Series:
    series = Series(MODELS, Window(WINDOW, SPACING))
    for event, received in events:
        series.fold(event, received)
    return series


def shown(series: Series, now: int) -> dict[str, tuple[str, int]]:
    """Series to value and sample time, as a scrape at this time shows them; a value that is a time
    counts from START."""
    series.advance(now)
    lines = [line for family in series.families() for line in family.lines]
    samples = {}
    for line in lines:
        name, value, at = line.text.rstrip("\n").rsplit(" ", 2)
        assert name not in samples
        counted = str(int(value) - START) if value.isdigit() and int(value) >= START else value
        samples[name] = (counted, int(at))
    return samples


def native(found: dict[str, tuple[str, int]]) -> dict[str, tuple[str, int]]:
    """Without the series that correlation computes."""
    return {name: sample for name, sample in found.items() if not name.startswith("dora_")}


def commit_series(carrier: str, sha: str = COMMIT) -> str:
    return (
        f'commit_timestamp{{app="/shop/",commit="{sha}",image_sha="{carrier}",'
        'namespace="",commit_link=""}'
    )


def deploy_series(carrier: str) -> str:
    return f'deploy_timestamp{{app="/shop/",image_sha="{carrier}",namespace="prod"}}'


# Correlation


def test_a_commit_stands_in_for_its_unknown_image() -> None:
    """A push and a deployment that names the commit join on the commit."""
    found = shown(fold([(commit(), NOW), (deployment(COMMIT), NOW + 1)]), NOW + 2)
    assert native(found) == {
        commit_series(COMMIT): ("100", NOW + 1),
        deploy_series(COMMIT): ("500", NOW + 1),
    }


def test_every_order_of_arrival_joins() -> None:
    """Commit, build and a deployment of the image: in all six orders the same two series join."""
    for order in itertools.permutations((commit(), build(), deployment(image=IMAGE))):
        found = shown(fold(zip(order, itertools.repeat(NOW), strict=False)), NOW)
        assert found[deploy_series(IMAGE)] == ("500", NOW)
        assert found[commit_series(IMAGE)] == ("100", NOW)


def test_a_deployment_is_called_by_what_it_names() -> None:
    """Whatever else is known of it, before or after: so its name never changes."""
    for order in itertools.permutations((commit(), build(), deployment(COMMIT))):
        found = shown(fold(zip(order, itertools.repeat(NOW), strict=False)), NOW)
        assert found[deploy_series(COMMIT)] == ("500", NOW)
        assert deploy_series(IMAGE) not in found
        assert found[commit_series(COMMIT)] == ("100", NOW)
        assert found[commit_series(IMAGE)] == ("100", NOW)


def test_a_deployment_brings_its_commit_to_its_own_time() -> None:
    """A commit of long ago is shown again beside the deployment, so that a rule that looks five
    minutes back finds both."""
    later = NOW + 10 * WINDOW
    found = shown(fold([(commit(), NOW), (deployment(COMMIT), later)]), later)
    assert found[commit_series(COMMIT)] == ("100", later)


def test_one_commit_may_be_built_twice() -> None:
    """Each of its images joins to it."""
    events = [commit(), build(), build(image=SECOND_IMAGE), deployment(image=SECOND_IMAGE)]
    found = shown(fold((event, NOW) for event in events), NOW)
    assert commit_series(IMAGE) in found
    assert commit_series(SECOND_IMAGE) in found


def test_one_image_carries_one_commit_for_ever() -> None:
    """A second commit that claims the image is counted and not shown: it would stop every rule."""
    series = fold([(commit(image=IMAGE), NOW), (commit(OTHER, 200, IMAGE), NOW)])
    found = shown(series, NOW)
    assert commit_series(IMAGE) in found
    assert commit_series(IMAGE, OTHER) not in found
    assert series.correlation.conflicts == 1


def test_apps_do_not_mix() -> None:
    """The same commit in two apps is two commits."""
    found = shown(fold([(commit(app="other"), NOW), (deployment(COMMIT), NOW)]), NOW)
    assert commit_series(COMMIT) not in found


def test_a_commit_told_twice_has_its_earliest_time() -> None:
    """A merge tells it again, later; the commit was made when it was made."""
    events = [(commit(at=100), NOW), (commit(at=300), NOW + 1), (deployment(COMMIT), NOW + 20_000)]
    assert shown(fold(events), NOW + 20_000)[commit_series(COMMIT)][0] == "100"


def test_failures_are_shown_as_they_come() -> None:
    """Created and resolved are two metrics."""
    found = shown(fold([(failure("created", 100), NOW), (failure("resolved", 400), NOW)]), NOW)
    labels = '{app="/shop/",issue_number="7"}'
    assert native(found) == {
        f"failure_creation_timestamp{labels}": ("100", NOW),
        f"failure_resolution_timestamp{labels}": ("400", NOW),
    }


# Sample times and the window


def test_a_second_event_of_a_series_is_shown_after_the_first_was() -> None:
    """Each is shown for as long as a scrape may take to come by."""
    series = fold([(deployment(image=IMAGE, at=at), NOW + at) for at in (1, 2, 3)])
    name = deploy_series(IMAGE)
    assert shown(series, NOW + 3)[name] == ("1", NOW + 1)
    assert shown(series, NOW + SPACING)[name] == ("1", NOW + 1)
    assert shown(series, NOW + 1 + SPACING)[name] == ("2", NOW + 1 + SPACING)
    assert shown(series, NOW + 1 + 2 * SPACING)[name] == ("3", NOW + 1 + 2 * SPACING)


def test_samples_leave_the_window() -> None:
    """Prometheus has them by then, and would refuse them much later."""
    series = fold([(deployment(image=IMAGE), NOW)])
    assert len(shown(series, NOW + WINDOW - 1)) == 1
    assert shown(series, NOW + WINDOW) == {}
    assert series.counts()["deploy_timestamp"] == 0


def test_a_late_event_is_shown_at_its_receipt() -> None:
    """An event of years ago counts when it arrives."""
    assert shown(fold([(deployment(image=IMAGE, at=5), NOW)]), NOW) == {
        deploy_series(IMAGE): ("5", NOW)
    }


def test_the_most_recent_series_are_shown_where_the_window_is_full() -> None:
    """Of one app, and of all together; what is pushed out is counted.
    Row 32 of the table in docs/explanation/security.md."""
    events = [
        (failure("created", number, str(number), f"app-{number % 2}"), NOW + number)
        for number in range(10)
    ]

    def issues(window: Window) -> tuple[list[str], int]:
        series = Series(MODELS, window)
        for event, received in events:
            series.fold(event, received)
        names = shown(series, NOW + 10)
        return [name.partition('issue_number="')[2][0] for name in names], series.overflow

    assert issues(Window(WINDOW, SPACING)) == ([str(number) for number in range(10)], 0)
    assert issues(Window(WINDOW, SPACING, series=3)) == (["7", "8", "9"], 7)
    assert issues(Window(WINDOW, SPACING, series_of_app=2)) == (["6", "7", "8", "9"], 6)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40), st.booleans()), max_size=30),
    st.integers(1, 4),
    st.booleans(),
)
def test_a_full_window_of_an_app_shows_the_same_after_a_restart(
    events: list[tuple[int, int, bool]], limit: int, own_times: bool
) -> None:
    """Also where samples do not come in the order of their times: what stands earliest goes first."""
    window = Window(WINDOW, SPACING, series_of_app=limit, own_times=own_times)
    live, told, now = Series(MODELS, window), [], (START + 1_000) * 1_000
    for issue, ago, is_late in events:
        now += 1_000
        event = failure("created", now // 1_000 - START - ago, str(issue))
        told.append((event, now - 3_000 * is_late))
        live.fold(*told[-1])
        again = Series(MODELS, window)
        for one in told:
            again.fold(*one)
        assert shown(live, now) == shown(again, now)


def test_a_full_window_empties_as_any_other() -> None:
    """What was pushed out and what grew old leave nothing behind."""
    series = Series(MODELS, Window(WINDOW, SPACING, series=5, series_of_app=3))
    for number in range(100):
        event = failure("created", number, str(number % 7), f"app-{number % 3}")
        series.fold(event, NOW + number * 1_000)
        assert len(shown(series, NOW + number * 1_000)) <= 5
    assert shown(series, NOW + 100 * 100_000) == {}
    assert sum(series.counts().values()) == 0
    again = failure("created", 1, "9", "app-0")
    series.fold(again, NOW + 100 * 100_000)
    assert len(shown(series, NOW + 100 * 100_000)) == 1


def test_a_series_counts_for_the_app_of_the_sample_that_it_shows() -> None:
    """Where a metric's labels do not say the app, two apps may take turns in one series."""
    text = """
kind: slo
fields:
  app: {type: app}
  objective: {type: text}
  ratio: {type: number}
metrics:
  - {name: slo_ratio, help: A ratio., value: ratio, labels: {objective: objective}}
"""
    compiled = compile_files([*library.bundled_files(), SourceFile("slo.yaml", text, 1)])
    series = Series(compiled.models, Window(WINDOW, SPACING, series_of_app=5))

    def told(app: str, objective: str, at: int) -> None:
        fields: dict[str, str | int | float] = {"app": app, "objective": objective, "ratio": 1}
        series.fold(Event("slo", fields), at)

    for turn in range(20):
        at = NOW + turn * WINDOW // 2
        told("shop", "kept", at)
        told("shop", "shared", at)
        told("pay", "shared", at + SPACING)
        assert len(shown(series, at + SPACING)) == 2
    for number in range(4):
        for app in ("shop", "pay"):
            told(app, f"{app}-{number}", at + SPACING)
    assert len(shown(series, at + SPACING)) == 10
    assert series.overflow == 0


def test_a_sample_can_stand_at_its_events_own_time() -> None:
    """Where the window reaches back so far; a late event stands at its receipt."""
    series = Series(MODELS, Window(WINDOW, SPACING, own_times=True))
    receipt = (START + 1_000) * 1_000
    series.fold(commit(at=970), receipt)
    series.fold(deployment(COMMIT, at=980), receipt)
    series.fold(deployment(image=IMAGE, at=100), receipt)
    found = shown(series, receipt)
    assert found[deploy_series(COMMIT)] == ("980", receipt - 20_000)
    assert found[commit_series(COMMIT)][1] == receipt
    assert found[deploy_series(IMAGE)] == ("100", receipt)


def test_a_fold_that_is_dropped_is_gone_without_the_collector() -> None:
    """A reload makes another one, and a long history is kept from the collector."""
    series = fold(_once([commit(), deployment(COMMIT), failure("created", 600)]))
    assert shown(series, NOW + 2_000)
    parts = [weakref.ref(one) for one in (series, series.correlation, series.correlation._lineage)]
    gc.disable()
    try:
        del series
        assert [part() for part in parts] == [None] * 3
    finally:
        gc.enable()


def test_labels_are_escaped() -> None:
    """Backslashes and quotes; promtool reads them back. Row 30."""
    event = Event("failure", {**failure("created", 1).fields, "issue_number": 'a\\b"c'})
    (name,) = shown(fold([(event, NOW)]), NOW)
    assert name.endswith('issue_number="a\\\\b\\"c"}')


EVENTS = st.sampled_from(
    [
        commit(),
        commit(at=300),
        commit(OTHER, 200),
        commit(OTHER, 200, SECOND_IMAGE),
        commit(image=IMAGE),
        build(),
        build(OTHER, SECOND_IMAGE),
        build(OTHER, IMAGE),
        deployment(COMMIT),
        deployment(COMMIT, at=600),
        deployment(OTHER),
        deployment(image=IMAGE),
        deployment(COMMIT, IMAGE),
        deployment(OTHER, SECOND_IMAGE, at=700),
        failure("created", 100),
        failure("resolved", 400),
    ]
)


def _once(events: Sequence[Event]) -> list[tuple[Event, int]]:
    """The events as the journal has them: each once, received a while after the one before."""
    known = {identity(event): event for event in events}
    return [(event, NOW + 700 * number) for number, event in enumerate(known.values())]


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=12))
def test_a_restart_gives_what_was_there(events: list[Event]) -> None:
    """A fold that was scraped after every event shows what a fold of the whole shows."""
    whole = _once(events)
    series = fold([])
    for event, received in whole:
        series.fold(event, received)
        assert shown(series, received) == shown(
            fold(whole[: whole.index((event, received)) + 1]), received
        )
    assert shown(series, NOW + 20_000) == shown(fold(whole), NOW + 20_000)


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=12))
def test_a_sample_once_shown_never_changes_and_never_goes_back(events: list[Event]) -> None:
    """At every scrape: one commit per app and image, and of each series a sample that is the one of
    the scrape before, or a later one."""
    series = fold([])
    waiting = _once(events)
    last: dict[str, tuple[str, int]] = {}
    for now in range(NOW, NOW + 30_000, 500):
        while waiting and waiting[0][1] <= now:
            series.fold(*waiting.pop(0))
        found = shown(series, now)
        carriers = [
            name.partition('image_sha="')[2].partition('"')[0]
            for name in found
            if name.startswith("commit_timestamp")
        ]
        assert len(carriers) == len(set(carriers))
        for name, (value, at) in found.items():
            assert at <= now
            if name in last:
                assert (value, at) == last[name] or at > last[name][1]
        last = found


# The exposition


def test_a_scrape_is_valid_in_both_formats() -> None:
    """promtool reads the text format; OpenMetrics ends with its closing line."""
    require_program("promtool")
    series = fold([(commit(), NOW), (deployment(COMMIT), NOW), (failure("created", 1), NOW)])
    series.advance(NOW)
    text = exposition.render(b"", series.families(), openmetrics=False)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    openmetrics = exposition.render(b"", series.families(), openmetrics=True).decode()
    assert openmetrics.endswith("# EOF\n")
    assert f"{deploy_series(COMMIT)} {START + 500} {NOW // 1000}.000\n" in openmetrics


def test_the_format_is_what_the_scraper_ranks_highest() -> None:
    """As Prometheus asks, and as a browser does."""
    prometheus = (
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
        "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    )
    assert exposition.wants_openmetrics(prometheus)
    for accept in (
        "",
        "*/*",
        "text/html,*/*;q=0.8",
        "text/plain,application/openmetrics-text;q=0.5",
    ):
        assert not exposition.wants_openmetrics(accept)


def test_gzip_is_used_where_it_is_taken() -> None:
    """`q=0` is a refusal."""
    assert all(map(exposition.wants_gzip, ("gzip", "deflate, gzip;q=0.5", "*")))
    assert not any(map(exposition.wants_gzip, ("", "deflate", "gzip;q=0", "identity")))
