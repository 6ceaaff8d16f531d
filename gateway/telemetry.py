"""What the gateway counts about itself, in a registry of its own."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from gateway.delivery import Verdict
from gateway.tally import Tally

disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client does not annotate it.

MAX_APPS = 1_000
"""Apps that have a series of their own here: a sender may make up any number of names."""


class _Counted(Collector):
    """The counts of a tally as metrics."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterable[Metric]:
        tally = self._tally
        yield _family(
            "gateway_deliveries",
            "Authentic deliveries by what became of them",
            ("source", "outcome"),
            tally.deliveries.items(),
        )
        yield _family(
            "gateway_refused",
            "Requests refused before they became deliveries",
            ("source", "reason"),
            tally.refused.items(),
        )
        events = (((kind,), count) for kind, count in tally.events.items())
        yield _family("gateway_events", "Events journalled", ("kind",), events)
        yield HistogramMetricFamily(
            "gateway_delivery_seconds",
            "Time from the last byte of a delivery to its answer",
            buckets=list(tally.buckets()),
            sum_value=tally.seconds,
        )


def _family(
    name: str,
    documentation: str,
    labels: Sequence[str],
    counts: Iterable[tuple[tuple[str, ...], int]],
) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=labels)
    # Counting goes on meanwhile, in another thread.
    for values, count in list(counts):
        family.add_metric(values, count)
    return family


class Telemetry:
    """The counters, one object for each process. `refused` reasons are a fixed set of words."""

    def __init__(self, version: str) -> None:
        self._registry = CollectorRegistry()
        self._sources: set[str] = set()
        self._metrics: set[str] = set()
        self.tally = Tally()
        """What has been counted, by this process and by its workers."""
        self._registry.register(_Counted(self.tally))
        self._waiting_for_replay: set[str] = set()
        self._replayed = Counter(
            "gateway_replayed",
            "Deliveries that were mapped again, by what they are since",
            ("source", "outcome"),
            registry=self._registry,
        )
        self._dead_letters = Gauge(
            "gateway_dead_letters",
            "Dead letters that wait for a replay, as counted once a minute",
            ("source",),
            registry=self._registry,
        )
        self._live = Gauge(
            "gateway_source_live",
            "Whether a source is served (1) or lacks its secret (0)",
            ("source",),
            registry=self._registry,
        )
        self._reload_successful = Gauge(
            "gateway_config_last_reload_successful",
            "Whether what was read last is served (1), or was wrong, so that what was before is (0)",
            registry=self._registry,
        )
        self._reloaded_at = Gauge(
            "gateway_config_last_reload_success_timestamp_seconds",
            "When what is served was last read and found good, in epoch seconds",
            registry=self._registry,
        )
        self._waiting = Gauge(
            "gateway_journal_waiting",
            "Deliveries that wait for the journal to commit them",
            registry=self._registry,
        )
        self._healthy = Gauge(
            "gateway_journal_up",
            "Whether the journal's last commit succeeded",
            registry=self._registry,
        )
        self._damaged = Gauge(
            "gateway_journal_damaged_events",
            "Events of the journal that are not what was written, and are left out",
            registry=self._registry,
        )
        self._missing = Gauge(
            "gateway_journal_missing_deliveries",
            "Deliveries that were acknowledged before the start and that the journal does not have",
            registry=self._registry,
        )
        self._is_folded = Gauge(
            "gateway_history_folded",
            "Whether the journal's events are shown (1), or are still folded after the start (0)",
            registry=self._registry,
        )
        self._series = Gauge(
            "gateway_window_series",
            "Series that a scrape shows, by metric",
            ("metric",),
            registry=self._registry,
        )
        self._conflicts = Gauge(
            "gateway_conflicting_commits",
            "Commits that claim an image which another commit carries already; not shown",
            registry=self._registry,
        )
        self._overflow = Gauge(
            "gateway_window_overflow",
            "Samples pushed out of the window before their time, because it was full",
            registry=self._registry,
        )
        self._suspect = Gauge(
            "gateway_suspect_events",
            "Events whose time cannot be right, by the reason why",
            ("reason",),
            registry=self._registry,
        )
        self._deployments = Gauge(
            "gateway_deployments",
            "Deployments by whether their commit is known, for the apps that deployed last",
            ("app", "joined"),
            registry=self._registry,
        )
        self._unknown_apps = Gauge(
            "gateway_unknown_apps",
            "Names that a source gives apps and the table of apps does not know; none without a table",
            ("source",),
            registry=self._registry,
        )
        self._app_info = Gauge(
            "gateway_app_info",
            "The apps of the table, each with its team",
            ("app", "team"),
            registry=self._registry,
        )
        self._deployed: OrderedDict[str, None] = OrderedDict()
        Gauge(
            "gateway_build_info", "The version that runs", ("version",), registry=self._registry
        ).labels(version).set(1)

    def sources(self, live: Iterable[str], missing: Iterable[str]) -> None:
        """Names the sources that are served, and those that lack a secret. Those of before that are
        neither are forgotten, apart from their counters: what was counted is not undone."""
        states = {**dict.fromkeys(missing, False), **dict.fromkeys(live, True)}
        for gone in self._sources - states.keys():
            self._live.remove(gone)
        self._sources = set(states)
        for name, is_live in states.items():
            self._live.labels(name).set(is_live)
            # A counter that begins at its first increment hides that increment from rate().
            for verdict in Verdict:
                self.tally.deliveries.setdefault((name, verdict.value), 0)
            for reason in ("unauthorized", "overloaded", "journal", "too_slow"):
                self.tally.refused.setdefault((name, reason), 0)

    def reloaded(self, at: float) -> None:
        """What was read at this time, in epoch seconds, is served. Also so at the start."""
        self._reload_successful.set(1)
        self._reloaded_at.set(at)

    def not_reloaded(self) -> None:
        self._reload_successful.set(0)

    def replayed(self, source: str, outcome: str) -> None:
        self._replayed.labels(source, outcome).inc()

    def dead_letters(self, counts: Mapping[str, int]) -> None:
        """The open ones by source. One that has none any more shows 0, until the process ends."""
        self._waiting_for_replay |= counts.keys()
        for source in self._waiting_for_replay:
            self._dead_letters.labels(source).set(counts.get(source, 0))

    def journal(
        self, *, waiting: int, healthy: bool, damaged: int, missing: int, is_folded: bool
    ) -> None:
        self._waiting.set(waiting)
        self._healthy.set(healthy)
        self._damaged.set(damaged)
        self._missing.set(missing)
        self._is_folded.set(is_folded)

    def window(self, counts: dict[str, int], conflicts: int) -> None:
        if counts.keys() != self._metrics:
            self._series.clear()
            self._metrics = set(counts)
        for metric, count in counts.items():
            self._series.labels(metric).set(count)
        self._conflicts.set(conflicts)

    def correlated(self, overflow: int, suspect: Mapping[str, int]) -> None:
        self._overflow.set(overflow)
        for reason, count in suspect.items():
            self._suspect.labels(reason).set(count)

    def deployments(self, app: str, *, joined: int, unjoined: int) -> None:
        """Deployments of an app by whether they have a commit; the label is as in the series."""
        for known, count in (("true", joined), ("false", unjoined)):
            self._deployments.labels(f"/{app}/", known).set(count)
        self._deployed[app] = None
        self._deployed.move_to_end(app)
        if len(self._deployed) > MAX_APPS:
            gone, _ = self._deployed.popitem(last=False)
            for known in ("true", "false"):
                self._deployments.remove(f"/{gone}/", known)

    def apps(self, teams: Mapping[str, str]) -> None:
        """The apps of the table with their teams. What was said of apps before goes by names that may
        no longer be theirs, and is forgotten."""
        for gauge in (self._app_info, self._unknown_apps, self._deployments):
            gauge.clear()
        self._deployed.clear()
        for app, team in teams.items():
            self._app_info.labels(f"/{app}/", team).set(1)

    def unknown_apps(self, counts: Mapping[str, int]) -> None:
        for source, count in counts.items():
            self._unknown_apps.labels(source).set(count)

    def render(self, *, openmetrics: bool) -> bytes:
        """All counters in one of the two formats; OpenMetrics without its closing line."""
        if openmetrics:
            text: bytes = generate_openmetrics(self._registry)  # type: ignore[no-untyped-call]  # As above, not annotated.
            return text.removesuffix(b"# EOF\n")
        return generate_latest(self._registry)
