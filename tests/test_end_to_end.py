"""From signed native webhooks to the four numbers in a real Prometheus, over restarts and redeliveries."""

import time
from collections.abc import Callable
from pathlib import Path

from tests import samples
from tests.harness import Answer, Gateway, eventually, running
from tests.prometheus import Prometheus, scraping

MINUTE, HOUR = 60, 3600
SHOP, PAY, LEGACY, OPS = "/octo/shop/", "/group/pay/", "/legacy/", "/OPS/"
FIRST, SECOND, THIRD = "a" * 40, "b" * 40, "c" * 40

# The deliveries below, worked out by hand.
LEAD_TIME = {SHOP: (50 * MINUTE + 2 * HOUR) / 2, PAY: 3 * HOUR, LEGACY: 20 * MINUTE}
LEAD_TIME_GLOBAL = {"": (50 * MINUTE + 2 * HOUR + 3 * HOUR + 20 * MINUTE) / 4}
DEPLOYMENTS = {SHOP: 2, PAY: 1, LEGACY: 1}
TIME_TO_RESTORE = {SHOP: 30 * MINUTE, PAY: 15 * MINUTE, LEGACY: 5 * MINUTE, OPS: 45 * MINUTE}
CHANGE_FAILURE_RATE = {SHOP: 1 / 2, PAY: 1, LEGACY: 1}
FREQUENCY = "count by (app) (count_over_time(deploy_timestamp[1h]))"


def deliveries(gateway: Gateway, now: float) -> list[Callable[[], Answer]]:
    """What four vendors send of three apps and a service desk, in no helpful order."""
    g, s = gateway, samples
    return [
        # GitHub: the deployment arrives before the push of its commit.
        lambda: g.github(
            "deployment_status", s.github_deployment("octo/shop", FIRST, now - 10 * MINUTE), "gh-1"
        ),
        lambda: g.github("push", s.github_push("octo/shop", FIRST, now - HOUR, THIRD), "gh-2"),
        lambda: g.github("push", s.github_push("octo/shop", SECOND, now - 2 * HOUR), "gh-3"),
        lambda: g.github(
            "deployment_status", s.github_deployment("octo/shop", SECOND, now), "gh-4"
        ),
        # Staging is no deployment to production.
        lambda: g.github(
            "deployment_status", s.github_deployment("octo/shop", THIRD, now, "staging"), "gh-5"
        ),
        lambda: g.github("issues", s.github_issue("octo/shop", 1, "opened", now - HOUR), "gh-6"),
        lambda: g.github(
            "issues",
            s.github_issue("octo/shop", 1, "closed", now - HOUR, now - 30 * MINUTE),
            "gh-7",
        ),
        lambda: g.gitlab(s.gitlab_push("group/pay", FIRST, now - 3 * HOUR), "gl-1"),
        lambda: g.gitlab(s.gitlab_deployment("group/pay", FIRST, now), "gl-2"),
        lambda: g.gitlab(s.gitlab_incident("group/pay", 7, "open", now - HOUR), "gl-3"),
        lambda: g.gitlab(
            s.gitlab_incident("group/pay", 7, "close", now - HOUR, now - 45 * MINUTE), "gl-4"
        ),
        lambda: g.jira(s.jira_issue("OPS-3", "jira:issue_created", now - 2 * HOUR), "j-1"),
        lambda: g.jira(
            s.jira_issue("OPS-3", "jira:issue_updated", now - 2 * HOUR, now - 75 * MINUTE), "j-2"
        ),
        lambda: g.pelorus(
            "committime", s.pelorus_commit("legacy", FIRST, s.IMAGE, now - 30 * MINUTE)
        ),
        lambda: g.pelorus("deploytime", s.pelorus_deployment("legacy", s.IMAGE, now - 10 * MINUTE)),
        lambda: g.pelorus("failure", s.pelorus_failure("legacy", "L-1", "created", now - HOUR)),
        lambda: g.pelorus(
            "failure", s.pelorus_failure("legacy", "L-1", "resolved", now - 55 * MINUTE)
        ),
    ]


def numbers_are_right(prometheus: Prometheus) -> bool:
    """The four numbers, by app and overall."""
    return (
        prometheus.query("lead_time:by_app") == LEAD_TIME
        and prometheus.query("lead_time:global") == LEAD_TIME_GLOBAL
        and prometheus.query(FREQUENCY) == DEPLOYMENTS
        and prometheus.query("time_to_restore:by_app") == TIME_TO_RESTORE
        and prometheus.query("change_failure_rate:by_app") == CHANGE_FAILURE_RATE
    )


def test_prometheus_computes_the_four_numbers(tmp_path: Path) -> None:
    """Right at first, after a restart, and after everything was delivered again, with the same ids
    and with new ones; each event counts once, and Prometheus finds no fault with any sample."""
    now = int(time.time())
    with running(tmp_path, "--scrape-interval", "1") as gateway:
        with scraping(tmp_path, gateway.internal) as prometheus:
            for deliver in deliveries(gateway, now):
                assert deliver().status == 202
            eventually(lambda: numbers_are_right(prometheus), every=0.5)
            before = gateway.samples()

            gateway.stop()
            gateway.start()
            assert gateway.samples() == before
            for deliver in deliveries(gateway, now):
                assert deliver().status == 202
            assert gateway.samples() == before
            prometheus.let_scrape()
            assert numbers_are_right(prometheus)

            new_ids = [
                gateway.github(
                    "push", samples.github_push("octo/shop", FIRST, now - HOUR, THIRD), "x-1"
                ),
                gateway.gitlab(samples.gitlab_deployment("group/pay", FIRST, now), "x-2"),
            ]
            assert [answer.json()["outcome"] for answer in new_ids] == ["duplicate"] * 2
            prometheus.let_scrape()
            assert gateway.samples() == before
            assert numbers_are_right(prometheus)
            assert prometheus.query("min_over_time(up[1m]) or up")
            assert prometheus.unhealthy_rules() == []
            assert prometheus.trouble() == []


def test_two_deployments_of_one_series_between_two_scrapes_both_count(tmp_path: Path) -> None:
    """A redeployment of the same image a moment later is a sample of its own."""
    now = int(time.time())
    with running(tmp_path, "--scrape-interval", "2") as gateway:
        with scraping(tmp_path, gateway.internal) as prometheus:
            for moment in (now - 20, now - 10, now):
                payload = samples.pelorus_deployment("twice", samples.IMAGE, moment)
                assert gateway.pelorus("deploytime", payload).status == 202
            count = "sum by (app) (count_over_time(deploy_timestamp[1h]))"
            eventually(lambda: prometheus.query(count) == {"/twice/": 3}, every=0.5)
            prometheus.let_scrape()
            assert prometheus.query(count) == {"/twice/": 3}
            assert prometheus.trouble() == []
