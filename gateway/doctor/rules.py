"""The doctor at the rules: are they loaded, do they evaluate, and do they select our series?"""

import re
from collections.abc import Iterator, Sequence

from gateway.doctor.chain import Chain
from gateway.doctor.finding import Finding, Unchecked, listing, ok, problem, warning
from gateway.doctor.prometheus_api import Prometheus, Rule

KEYS = (
    "app:dora_deployments:per_day",
    "app:dora_lead_time_seconds:median",
    "app:dora_failed_deployments:ratio",
    "app:dora_time_to_restore_seconds:median",
)
"""The four keys as our rules record them, before the window that each name ends in."""
ALERTS = (
    *("GatewayDown", "GatewayAbsent", "GatewayJournalDown", "GatewayJournalBehind"),
    *("GatewayOverloaded", "GatewaySlow", "GatewayDeadLetters", "GatewayUnauthorized"),
    *("GatewaySourceNotLive", "GatewaySourceSilent", "GatewayReloadFailed"),
    *("GatewayWindowOverflow", "GatewaySuspectEvents", "GatewayConflictingCommits"),
    *("GatewayUnknownApps", "DeploymentsWithoutCommit"),
)
PELORUS = re.compile(r"(sdp:)?(lead_time|time_to_restore|change_failure_rate):")
"""The names of Pelorus's own rules."""
READ = {
    "app:dora_deployments:count": "deploy_timestamp",
    "app:dora_lead_time_seconds:median": "dora_lead_time_seconds",
}
"""Rules that read the gateway's series and no other rule's, and which."""
_OURS = re.compile(r"(app|global):dora_")
_PAGE = "docs/how-to/see-the-four-keys.md"


def loaded(chain: Chain) -> Iterator[Finding]:
    """Recording rules for the four keys are loaded, ours or Pelorus's own, and so are the alerts."""
    names = {rule.name for rule in chain.asked.rules()}
    lacking = [key for key in KEYS if not any(_window(key, name) for name in names)]
    if not lacking:
        yield ok("the recording rules of the four keys are loaded")
    elif any(PELORUS.match(name) for name in names):
        yield ok("Pelorus's own recording rules are loaded")
    elif len(lacking) == len(KEYS):
        yield problem(
            "no recording rules of the four keys are loaded: dashboards stay empty",
            f"load docs/prometheus/recording-rules.yaml: {_PAGE}",
        )
    else:
        yield problem(
            f"recording rules of the four keys are missing: {listing(lacking)}",
            f"load docs/prometheus/recording-rules.yaml as it is: {_PAGE}",
        )
    quiet = [alert for alert in ALERTS if alert not in names]
    if quiet:
        what = "no alerts" if len(quiet) == len(ALERTS) else f"not all alerts ({listing(quiet)})"
        yield warning(
            f"{what} on the gateway's health: loaded are {len(ALERTS) - len(quiet)} of {len(ALERTS)}",
            f"load docs/prometheus/alerts.yaml: {_PAGE}",
        )
    else:
        yield ok("the alerts on the gateway's health are loaded")


def healthy(chain: Chain) -> Iterator[Finding]:
    """The last evaluation of each of these rules succeeded."""
    mine = _mine(chain.asked.rules())
    failing = [rule for rule in mine if rule.health == "err"]
    for rule in failing:
        yield problem(
            f"the rule {rule.name} fails: {rule.last_error}",
            "series that are there twice are the usual cause: see that the gateway is one target",
        )
    if not mine:
        raise Unchecked("no rules are loaded")
    if not failing:
        yield ok(f"{len(mine)} rules evaluate without an error")


def select(chain: Chain) -> Iterator[Finding]:
    """Rules that were loaded give a value for every app that has what they read: their label matchers
    select our series."""
    prometheus = chain.asked
    tried = [
        finding
        for rule in prometheus.rules()
        for base, metric in READ.items()
        if (window := _window(base, rule.name))
        for finding in _selects(prometheus, rule, metric, window)
    ]
    if not tried:
        raise Unchecked("no rule that reads the gateway's series is loaded, or there are none yet")
    yield from tried


def _selects(prometheus: Prometheus, rule: Rule, metric: str, window: str) -> Iterator[Finding]:
    # The rule's own expression: what it recorded may be of a moment ago.
    there = _apps(prometheus, f"count by (app) (last_over_time({metric}[{window}]))")
    lacking = sorted(there - _apps(prometheus, rule.query))
    if lacking:
        yield problem(
            f"the rule {rule.name} gives nothing for {listing(lacking)}, though {metric} is there",
            "compare its expression with docs/prometheus/recording-rules.yaml: a label matcher leaves our "
            "series out",
        )
    elif there:
        yield ok(f"the rule {rule.name} gives a value for every app that has {metric}")


def _apps(prometheus: Prometheus, expression: str) -> set[str]:
    return {labels.get("app", "") for labels, _ in prometheus.vector(expression)}


def _mine(rules: Sequence[Rule]) -> list[Rule]:
    return [
        rule
        for rule in rules
        if _OURS.match(rule.name) or PELORUS.match(rule.name) or rule.name in ALERTS
    ]


def _window(base: str, name: str) -> str:
    """The window in the name of a rule, empty where the rule is another."""
    found = re.fullmatch(rf"{re.escape(base)}_(\d+[smhdwy])", name)
    return found[1] if found else ""


CHECKS = (loaded, healthy, select)
