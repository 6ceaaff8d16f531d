"""Scrapes: whole and in parts, in both formats, compressed, of many series, by a real Prometheus."""

import asyncio
import gzip
import hashlib
import json
import re
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import exposition
from gateway.app import edge
from gateway.event import Event
from gateway.mapping import library
from gateway.mapping.compiler import compile_files
from gateway.series import CHUNK, Family, Series, Window
from tests import inprocess, shop
from tests.harness import Gateway, running
from tests.prometheus import scraping
from tests.samples import github_push

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
MODELS = compile_files(library.bundled_files()).models
NOW = 1_790_000_000_000
WINDOW = 60_000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with more series than one chunk holds."""
    with running(tmp_path_factory.mktemp("scrape")) as process:
        _push(process, CHUNK + 100)
        yield process


def _push(gateway: Gateway, commits: int) -> None:
    shas = [hashlib.sha1(b"%d" % number).hexdigest() for number in range(commits)]
    answer = gateway.github("push", github_push("octo/shop", shas[0], time.time(), *shas[1:]))
    assert answer.status == 202, answer


def _names(body: bytes) -> set[str]:
    """The metrics of a scrape."""
    lines = body.decode().splitlines()
    return {line.split()[2] for line in lines if line.startswith("# TYPE ")}


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_the_parts_are_the_whole(gateway: Gateway, accept: str) -> None:
    """`/metrics/series` has the samples of events and no other, `/metrics/process` the others."""
    headers = {"Accept": accept}
    whole = gateway.get("/metrics", headers)
    series = gateway.get("/metrics/series", headers)
    process = gateway.get("/metrics/process", headers)
    assert {one.status for one in (whole, series, process)} == {200}
    kinds = {one.headers["content-type"] for one in (whole, series, process)}
    assert kinds == {whole.headers["content-type"]}
    assert _names(series.body) == {
        metric.name for model in MODELS.values() for metric in model.metrics
    }
    assert all(name.startswith("gateway_") for name in _names(process.body))
    assert _names(series.body) | _names(process.body) == _names(whole.body)
    assert whole.body.endswith(series.body)
    assert series.body.count(b"commit_timestamp{") == CHUNK + 100
    ends = [one.body.count(b"# EOF\n") for one in (whole, series, process)]
    assert ends == ([1, 1, 1] if accept == OPENMETRICS else [0, 0, 0])


@pytest.mark.parametrize("path", ["/metrics", "/metrics/series", "/metrics/process"])
@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_a_compressed_scrape_is_one_gzip_member(gateway: Gateway, path: str, accept: str) -> None:
    """Browsers and curl read the first member alone. Compressed once or again, it is the same text."""
    plain = gateway.get(path, {"Accept": accept}).body
    for _ in range(2):
        answer = gateway.get(path, {"Accept": accept, "Accept-Encoding": "gzip"})
        assert answer.headers["content-encoding"] == "gzip"
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        text = inflate.decompress(answer.body)
        assert (inflate.eof, inflate.unused_data) == (True, b"")
        assert _names(text) == _names(plain)
        if path == "/metrics/series":
            assert text == plain


@pytest.mark.parametrize("path", ["/metrics", "/metrics/series"])
def test_prometheus_takes_every_series(gateway: Gateway, tmp_path: Path, path: str) -> None:
    """Of the whole as of a part; and what came between two scrapes."""
    with scraping(tmp_path, gateway.internal, path=path) as prometheus:
        prometheus.let_scrape()
        count = "count(last_over_time(commit_timestamp[1h]))"
        assert prometheus.query(count) == {"": CHUNK + 100}
        assert prometheus.trouble() == []


# Chunks


@st.composite
def _steps(draw: st.DrawFn) -> list[list[tuple[str, int]]]:
    """What comes before each scrape: issues, and milliseconds since the one before."""
    one = st.tuples(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), st.integers(0, WINDOW // 3))
    return draw(st.lists(st.lists(one, max_size=12), max_size=8))


def _issue(number: str, app: str = "shop") -> Event:
    return Event(
        "failure",
        {"app": app, "event": "created", "issue_number": number, "timestamp": NOW // 1000 - 5},
    )


def _lines(families: Iterable[Family], *, openmetrics: bool) -> bytes:
    """A scrape without any memory of an earlier one."""
    text = ""
    for family in families:
        text += f"# HELP {family.name} {family.help}\n# TYPE {family.name} gauge\n"
        text += "".join(line.openmetrics if openmetrics else line.text for line in family.lines)
    return (text + ("# EOF\n" if openmetrics else "")).encode()


@settings(max_examples=60, deadline=None)
@given(_steps(), st.booleans(), st.integers(1, 8))
def test_what_is_kept_of_a_scrape_is_never_stale(
    steps: list[list[tuple[str, int]]], openmetrics: bool, limit: int
) -> None:
    """Whatever enters, is replaced, leaves and is pushed out between scrapes."""
    series = Series(MODELS, Window(WINDOW, 5_000, series=limit * CHUNK, series_of_app=20))
    for number in range(CHUNK - 10):
        series.fold(_issue(str(number), f"app-{number % 50}"), NOW)
    now = NOW
    for step in steps:
        for issue, later in step:
            now += later
            series.fold(_issue(issue), now)
        series.advance(now)
        expected = b"own 1\n" + _lines(series.families(), openmetrics=openmetrics)
        for _ in range(2):
            families = list(series.families())
            plain = exposition.render(b"own 1\n", families, openmetrics=openmetrics)
            packed = exposition.render(
                b"own 1\n", families, openmetrics=openmetrics, compressed=True
            )
            assert plain == expected
            assert gzip.decompress(packed) == expected


def test_a_scrape_that_is_being_rendered_stays_as_it_was() -> None:
    """Samples that come meanwhile belong to the next one."""
    series = Series(MODELS, Window(WINDOW, 5_000))
    series.fold(_issue("1"), NOW)
    series.advance(NOW)
    before = list(series.families())
    series.fold(_issue("2"), NOW + 1)
    series.advance(NOW + 1)
    assert exposition.render(b"", before, openmetrics=False).count(b"\nfailure_creation") == 1
    after = exposition.render(b"", series.families(), openmetrics=False)
    assert after.count(b"\nfailure_creation") == 2


# A history


@st.composite
def _history(draw: st.DrawFn) -> list[tuple[Event, int]]:
    """Deployments that follow each other closely or far apart, up to now."""
    gaps = draw(st.lists(st.sampled_from([0, 100, 4_000, 30_000, 90_000]), max_size=25))
    at = NOW - sum(gaps)
    events = []
    for gap in gaps:
        at += gap
        sha = draw(st.sampled_from("ab")) * 40
        fields: dict[str, str | int | float] = {"app": "shop", "commit": sha}
        if draw(st.booleans()):
            fields |= {"timestamp": at // 1000 - draw(st.integers(1, 50))}
            events.append((Event("committime", fields), at))
        else:
            fields |= {"timestamp": at // 1000, "namespace": "prod"}
            events.append((Event("deploytime", fields), at))
    return events


@settings(max_examples=300, deadline=None)
@given(_history(), st.sampled_from([0, 5_000, 30_000]))
def test_passing_over_what_left_the_window_shows_the_same(
    history: list[tuple[Event, int]], spacing: int
) -> None:
    """At every scrape from the moment that was promised on; samples moved on by others included."""
    whole, passing = (Series(MODELS, Window(WINDOW, spacing)) for _ in range(2))
    passing.skip_before(NOW)
    for event, received in history:
        for series in (whole, passing):
            series.fold(event, received)
            series.advance(received)
    for later in (0, 1, spacing, WINDOW - 1, 3 * WINDOW):
        shown = []
        for series in (whole, passing):
            series.advance(NOW + later)
            shown.append([(one.name, sorted(one.lines)) for one in series.families()])
        assert shown[0] == shown[1]
    assert whole.correlation.coverage() == passing.correlation.coverage()


def test_a_clock_that_was_ahead_leaves_nothing_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is right again, what comes is of now."""
    (tmp_path / "shop.yaml").write_text(shop.mapping(shop.MENDED))
    clock = _Clock()
    monkeypatch.setattr(edge, "time", clock)

    async def work() -> None:
        arguments = ("--mappings", str(tmp_path / "shop.yaml"), "--scrape-interval", "0")
        async with inprocess.gateway(tmp_path, *arguments) as gateway:
            for number, ahead in enumerate((0, 86_400, 0)):
                clock.ahead = ahead
                body = json.dumps(shop.delivery(number)).encode()
                headers = [(b"content-type", b"application/json")]
                path = b"/hooks/shop"
                answer = await inprocess.call(gateway.public, "POST", path, headers, body)
                assert answer.status == 202
            text = (await gateway.metrics()).body.decode()
        shown = re.findall(r'deploy_timestamp\{app="/(app-\d)/".* (\d+)$', text, re.MULTILINE)
        assert "app-2" in [app for app, at in shown if int(at) / 1000 < time.time() + 60]

    asyncio.run(work())


class _Clock:
    """The module `time`, by a clock that is ahead by so many seconds."""

    ahead = 0.0
    perf_counter = staticmethod(time.perf_counter)

    def time(self) -> float:
        return time.time() + self.ahead
