"""The doctor at Prometheus: does it scrape us, once, often enough, and keep what it is given?"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import yaml

from gateway.doctor.chain import Chain
from gateway.doctor.finding import Finding, Unchecked, listing, ok, problem, unchecked, warning
from gateway.doctor.prometheus_api import CannotAsk, Name, Prometheus, name
from gateway.doctor.running import BUILD_INFO

_READ = "gateway_config_last_reload_success_timestamp_seconds"
"""When what is served was read: no two processes have the same, so it tells whom a target leads to."""
_LATELY = "last_over_time(deploy_timestamp[1h])"
"""No sample is shown for longer."""
_DEPLOYMENT = "app, image_sha, namespace"
_SCRAPE = (
    "docs/how-to/see-the-four-keys.md has the scrape configuration, docs/how-to/run-in-kubernetes.md the "
    "ServiceMonitor"
)
DROPPED = {
    "prometheus_target_scrapes_sample_out_of_bounds_total": "too old or too far ahead",
    "prometheus_target_scrapes_sample_out_of_order_total": "out of order",
    "prometheus_target_scrapes_sample_duplicate_timestamp_total": "of a time that has another value",
    "prometheus_target_scrapes_exceeded_sample_limit_total": "in scrapes beyond sample_limit",
    "prometheus_target_scrapes_exceeded_body_size_limit_total": "in scrapes beyond body_size_limit",
}
"""Prometheus's counters of what it did not take, and what that means."""


def answers(chain: Chain) -> Iterator[Finding]:
    """Prometheus answers queries at `--prometheus`."""
    prometheus = chain.prometheus
    if prometheus is None:
        raise Unchecked("no --prometheus is given")
    if prometheus.fault:
        yield problem(
            f"Prometheus does not answer at {prometheus}: {prometheus.fault}",
            "start it, or give the --prometheus URL under which its own page opens; a name and a password "
            "may stand in it",
        )
    else:
        yield ok(f"Prometheus answers at {prometheus}")


def scraped(chain: Chain) -> Iterator[Finding]:
    """Prometheus scrapes a gateway, and it is the one that answers here."""
    prometheus = chain.asked
    found = sorted({name(labels) for labels, _ in prometheus.vector(BUILD_INFO)})
    if not found:
        yield from _unscraped(chain, prometheus)
        return
    mine = chain.running.value(_READ) if chain.running else None
    if mine is None:
        yield ok(f"Prometheus scrapes a gateway: {_told(found)}")
        return
    ours = sorted({name(labels) for labels, value in prometheus.vector(_READ) if value == mine})
    if ours:
        yield ok(f"Prometheus scrapes this gateway: {_told(ours)}")
    else:
        yield warning(
            f"Prometheus scrapes {_told(found)}, which is not the gateway that answers at "
            f"{chain.settings.internal_listen.url}; or that has read its files anew since the last scrape",
            f"run this again in a minute; else give Prometheus the right target: {_SCRAPE}",
        )


def _unscraped(chain: Chain, prometheus: Prometheus) -> Iterator[Finding]:
    before = {name(labels) for labels, _ in prometheus.vector(f"last_over_time({BUILD_INFO}[1d])")}
    port = chain.settings.internal_listen.port
    down = [
        one
        for one in prometheus.targets()
        if one.health != "up" and (one.name in before or urlsplit(one.scrape_url).port == port)
    ]
    for one in down:
        yield problem(
            f"Prometheus cannot scrape {one.scrape_url}: {one.last_error or 'it has not tried yet'}",
            "see that the gateway runs, and that Prometheus reaches its --internal-listen: the default, "
            "127.0.0.1, is reached from the same machine alone",
        )
    if not down:
        yield problem("Prometheus scrapes no gateway", f"give it a target: {_SCRAPE}")


def one_target(chain: Chain) -> Iterator[Finding]:
    """What a journal shows comes to Prometheus through one target: through two, rules that join series, as
    Pelorus's do, find each twice and fail for every app."""
    prometheus = chain.asked
    readings = defaultdict(set)
    for labels, value in prometheus.vector(_READ):
        readings[value].add(name(labels))
    twice = next((names for names in readings.values() if len(names) > 1), None)
    series = {
        name(labels) for labels, _ in prometheus.vector(f"group by (job, instance) ({_LATELY})")
    }
    shared = prometheus.vector(
        f"count by ({_DEPLOYMENT}) (group by (job, instance, {_DEPLOYMENT}) ({_LATELY})) > 1"
    )
    if twice is None and shared:
        twice = series
    if twice is not None:
        yield problem(
            f"one gateway's series come through {len(twice)} targets: {_told(sorted(twice))}",
            "keep one of them in the scrape configuration. Replicas of one journal are one target for "
            "/metrics/series, through their Service; each pod is one for /metrics/process alone; and no "
            "label of the series' target may change when a pod is replaced",
        )
    elif not readings and not series:
        raise Unchecked("Prometheus scrapes no gateway")
    else:
        yield ok("every series comes through one target")


def interval(chain: Chain) -> Iterator[Finding]:
    """Prometheus scrapes at least as often as `--scrape-interval` says: between two scrapes that are
    farther apart, one event of a series may take another's place."""
    prometheus = chain.asked
    names, most = _names(prometheus), chain.settings.scrape_interval
    told = [
        (one.scrape_url, _seconds(one.scrape_interval))
        for one in prometheus.targets()
        if one.name in names and one.scrape_interval
    ]
    if not told:
        raise Unchecked("Prometheus does not tell the interval of a gateway's target")
    slow = [(url, seconds) for url, seconds in told if seconds > most]
    for url, seconds in slow:
        yield problem(
            f"{url} is scraped every {seconds:g} seconds, and the gateway counts on {most:g}",
            f"start the gateway with --scrape-interval {seconds:g}, or lower scrape_interval in Prometheus",
        )
    if not slow:
        longest = max(seconds for _, seconds in told)
        yield ok(f"scrapes are {longest:g} seconds apart, as --scrape-interval {most:g} allows")


def own_times(chain: Chain) -> Iterator[Finding]:
    """Prometheus takes the samples' own times: with `honor_timestamps: false` every scrape would count
    an event anew."""
    prometheus = chain.asked
    jobs = {job for job, _ in _names(prometheus)}
    try:
        config = yaml.safe_load(prometheus.config())
        configs: list[Any] = config.get("scrape_configs") or []
    except (yaml.YAMLError, AttributeError) as error:
        raise CannotAsk("Prometheus does not tell its configuration") from error
    wrong = sorted(
        {one["job_name"] for one in configs if one.get("honor_timestamps") is False} & jobs
    )
    if wrong:
        yield problem(
            f"the scrape configuration of {listing(wrong)} has `honor_timestamps: false`",
            "take that line away: each scrape counts every event again",
        )
    else:
        yield ok("Prometheus takes samples at their own times")


def kept(chain: Chain) -> Iterator[Finding]:
    """No sample of a gateway's scrapes is dropped by `metric_relabel_configs`, and Prometheus has refused
    none of any target since it started."""
    prometheus = chain.asked
    names = _names(prometheus)
    cut = [
        (name(labels), value)
        for labels, value in prometheus.vector(
            "scrape_samples_scraped - scrape_samples_post_metric_relabeling > 0"
        )
        if name(labels) in names
    ]
    for target, value in cut:
        yield warning(
            f"metric_relabel_configs drop {value:.0f} samples of each scrape of {_told([target])}",
            "see that they are none of the four keys'; take the rule away where they are",
        )
    try:
        refused = _refused(prometheus.metrics())
    except CannotAsk as error:
        yield unchecked(f"whether samples are refused: {error}")
        return
    for what, count in refused.items():
        yield warning(
            f"since its start Prometheus has dropped samples of its targets, {what}: {count:.0f} times",
            "its log names the target; for ours, compare the clocks and see that it comes through one target",
        )
    if not cut and not refused:
        yield ok("Prometheus has dropped no sample since it started")


def _refused(metrics: str) -> dict[str, float]:
    """What was not taken and how much of it."""
    lines = re.findall(r"^(\w+) (\S+)$", metrics, re.MULTILINE)
    counts = {counter: float(value) for counter, value in lines if counter in DROPPED}
    return {DROPPED[counter]: count for counter, count in counts.items() if count}


def _names(prometheus: Prometheus) -> set[Name]:
    """The targets of gateways. Raises Unchecked where there are none."""
    names = {name(labels) for labels, _ in prometheus.vector(BUILD_INFO)}
    names |= {
        name(labels) for labels, _ in prometheus.vector(f"group by (job, instance) ({_LATELY})")
    }
    if not names:
        raise Unchecked("Prometheus scrapes no gateway")
    return names


def _told(names: Iterable[Name]) -> str:
    return listing([f'{{job="{job}", instance="{instance}"}}' for job, instance in names])


_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 31_536_000}


def _seconds(duration: str) -> float:
    """A duration as Prometheus writes it: `15s`, `1m30s`."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhdwy])", duration)
    return sum(float(count) * _UNITS[unit] for count, unit in parts)


CHECKS = (answers, scraped, one_target, interval, own_times, kept)
