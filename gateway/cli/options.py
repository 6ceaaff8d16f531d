"""The flags of `serve`, each with its environment variable, and the settings that they make."""

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from gateway import settings
from gateway.settings import MIB, Settings


class Option(Struct, frozen=True, kw_only=True):
    """One flag. `variable` is read where the flag is not given; several paths in a variable are
    separated by colons."""

    flag: str
    variable: str
    default: str
    metavar: str
    help: str
    repeatable: bool = False

    @property
    def name(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")


DAY = 86_400.0
"""Seconds."""

OPTIONS = (
    Option(
        flag="--listen",
        variable="GATEWAY_LISTEN",
        default="0.0.0.0:8080",
        metavar="HOST:PORT",
        help="where deliveries arrive",
    ),
    Option(
        flag="--internal-listen",
        variable="GATEWAY_INTERNAL_LISTEN",
        default="127.0.0.1:8081",
        metavar="HOST:PORT",
        help="where metrics and health are read; keep it off the internet",
    ),
    Option(
        flag="--trusted-proxies",
        variable="GATEWAY_TRUSTED_PROXIES",
        default="",
        metavar="NETWORKS",
        help="the proxies before the public listener, such as 10.0.0.0/8,192.0.2.7: from them alone "
        "X-Forwarded-For is believed, for the `allow_from` of mappings",
    ),
    Option(
        flag="--journal",
        variable="GATEWAY_JOURNAL",
        default=settings.DEFAULT_JOURNAL,
        metavar="URL",
        help="where deliveries are kept: sqlite:///PATH from the working folder, or with four slashes from "
        "the root; or postgresql://USER:PASSWORD@HOST/DATABASE, which several gateways may share",
    ),
    Option(
        flag="--keep-deliveries",
        variable="GATEWAY_KEEP_DELIVERIES",
        default="30",
        metavar="DAYS",
        help="how long deliveries are kept whole, to be explained and replayed; 0 is for ever",
    ),
    Option(
        flag="--keep-size",
        variable="GATEWAY_KEEP_SIZE",
        default="10240",
        metavar="MIB",
        help="how large the journal may grow before the oldest deliveries go; 0 is without a limit",
    ),
    Option(
        flag="--keep-events",
        variable="GATEWAY_KEEP_EVENTS",
        default="800",
        metavar="DAYS",
        help="how long events are kept, by which deliveries join and repetitions are known; 0 is for ever",
    ),
    Option(
        flag="--min-free",
        variable="GATEWAY_MIN_FREE",
        default="64",
        metavar="MIB",
        help="what the journal's disk must have left for a delivery to be taken",
    ),
    Option(
        flag="--workers",
        variable="GATEWAY_WORKERS",
        default="1",
        metavar="N",
        help="how many processes take deliveries; with more than one, another one answers scrapes",
    ),
    Option(
        flag="--mappings",
        variable="GATEWAY_MAPPINGS",
        default="",
        metavar="PATH",
        help="a folder or file of mappings on top of the bundled ones",
        repeatable=True,
    ),
    Option(
        flag="--schemas",
        variable="GATEWAY_SCHEMAS",
        default="",
        metavar="PATH",
        help="a folder or file of models on top of the bundled ones",
        repeatable=True,
    ),
    Option(
        flag="--secrets",
        variable="GATEWAY_SECRETS",
        default=str(settings.DEFAULT_SECRETS),
        metavar="DIR",
        help="a folder of secrets, each in a file named like its environment variable",
    ),
    Option(
        flag="--watch",
        variable="GATEWAY_WATCH",
        default="5",
        metavar="SECONDS",
        help="how often mappings, models and secrets are looked at for changes; 0 is never",
    ),
    Option(
        flag="--max-body",
        variable="GATEWAY_MAX_BODY",
        default="25",
        metavar="MIB",
        help="the largest body of one delivery",
    ),
    Option(
        flag="--max-in-flight",
        variable="GATEWAY_MAX_IN_FLIGHT",
        default="128",
        metavar="MIB",
        help="the bodies of all deliveries that are being taken",
    ),
    Option(
        flag="--header-timeout",
        variable="GATEWAY_HEADER_TIMEOUT",
        default="5",
        metavar="SECONDS",
        help="the time that the headers of a request may take to arrive",
    ),
    Option(
        flag="--body-timeout",
        variable="GATEWAY_BODY_TIMEOUT",
        default="15",
        metavar="SECONDS",
        help="the time that a body may take to arrive",
    ),
    Option(
        flag="--answer-timeout",
        variable="GATEWAY_ANSWER_TIMEOUT",
        default="8",
        metavar="SECONDS",
        help="the time that a delivery may take to be kept, below every vendor's own",
    ),
    Option(
        flag="--drain",
        variable="GATEWAY_DRAIN",
        default="0",
        metavar="SECONDS",
        help="how long deliveries are still taken after a SIGTERM, while not ready, so that what sends them "
        "here can learn to send them elsewhere",
    ),
    Option(
        flag="--shutdown-timeout",
        variable="GATEWAY_SHUTDOWN_TIMEOUT",
        default="10",
        metavar="SECONDS",
        help="the time that deliveries in flight get when the gateway stops",
    ),
    Option(
        flag="--window",
        variable="GATEWAY_WINDOW",
        default="2700",
        metavar="SECONDS",
        help="how long a sample is shown to Prometheus, which takes none older than an hour",
    ),
    Option(
        flag="--scrape-interval",
        variable="GATEWAY_SCRAPE_INTERVAL",
        default="60",
        metavar="SECONDS",
        help="the longest interval at which Prometheus scrapes; events of one series are shown at "
        "least this long each",
    ),
    Option(
        flag="--max-series",
        variable="GATEWAY_MAX_SERIES",
        default="50000",
        metavar="N",
        help="the series that a scrape shows at most, the most recent ones",
    ),
    Option(
        flag="--max-series-of-app",
        variable="GATEWAY_MAX_SERIES_OF_APP",
        default="5000",
        metavar="N",
        help="the same for one app",
    ),
    Option(
        flag="--sample-times",
        variable="GATEWAY_SAMPLE_TIMES",
        default="receipt",
        metavar="WHICH",
        help="receipt, or event: where an event is within the window, its sample stands at its own time",
    ),
)


def define(parser: argparse.ArgumentParser) -> None:
    """Adds every flag of `serve`."""
    define_some(parser, [option.flag for option in OPTIONS])
    parser.add_argument(
        "--new-secrets",
        action="store_true",
        help="for a first try: write a random secret for every source that has none to the --secrets folder",
    )


def define_some(parser: argparse.ArgumentParser, flags: Collection[str]) -> None:
    """Adds some of the flags; what is not given, or has no flag here, stays None, for `settings_from` to
    look up."""
    parser.set_defaults(new_secrets=False, **{option.name: None for option in OPTIONS})
    for option in OPTIONS:
        if option.flag not in flags:
            continue
        shown = f" (default: {option.default})" if option.default else ""
        parser.add_argument(
            option.flag,
            metavar=option.metavar,
            action="append" if option.repeatable else "store",
            help=f"{option.help}{shown} [{option.variable}]",
        )


def settings_from(options: argparse.Namespace, environment: Mapping[str, str]) -> Settings:
    """The settings, from flags first and the environment second. Raises SettingsError."""
    values = {option.name: _value(option, options, environment) for option in OPTIONS}

    def number(name: str, least: float, most: float) -> float:
        value, origin = values[name]
        return settings.number(value, origin, least, most)

    def paths(name: str) -> tuple[Path, ...]:
        return tuple(Path(path) for path in values[name][0])

    window = number("window", 10, 3_500)
    keep_deliveries = number("keep_deliveries", 0, 36_500)
    keep_events = number("keep_events", 0, 36_500)
    if keep_events and not 0 < keep_deliveries <= keep_events:
        events, deliveries = values["keep_events"][1], values["keep_deliveries"][1]
        raise settings.SettingsError(
            f"{events} is shorter than {deliveries}: a replay would count again what is forgotten; keep "
            "events at least as long as deliveries"
        )
    return Settings(
        listen=settings.address(*values["listen"]),
        internal_listen=settings.address(*values["internal_listen"]),
        trusted_proxies=settings.networks(*values["trusted_proxies"]),
        journal=settings.journal_url(*values["journal"]),
        keep_deliveries=keep_deliveries * DAY,
        keep_events=keep_events * DAY,
        keep_size=int(number("keep_size", 0, 100_000_000) * MIB),
        min_free=int(number("min_free", 0, 1_000_000) * MIB),
        mappings=paths("mappings"),
        schemas=paths("schemas"),
        secrets=Path(values["secrets"][0]),
        new_secrets=options.new_secrets,
        max_body=int(number("max_body", 0.001, 1024) * MIB),
        max_in_flight=int(number("max_in_flight", 1, 65_536) * MIB),
        header_timeout=number("header_timeout", 0.1, 300),
        body_timeout=number("body_timeout", 0.1, 300),
        answer_timeout=number("answer_timeout", 0.1, 300),
        drain=number("drain", 0, 300),
        shutdown_timeout=int(number("shutdown_timeout", 0, 300)),
        window=window,
        # A series is remembered for as long as the window shows it, so no longer can it be spaced.
        max_series=int(number("max_series", 1, 10_000_000)),
        max_series_of_app=int(number("max_series_of_app", 1, 10_000_000)),
        own_times=settings.choice(*values["sample_times"], ("receipt", "event")) == "event",
        scrape_interval=number("scrape_interval", 0, min(600, window)),
        watch=number("watch", 0, 86_400),
        workers=int(number("workers", 1, 64)),
    )


def _value(
    option: Option, options: argparse.Namespace, environment: Mapping[str, str]
) -> tuple[Any, str]:
    """The value of an option and the name under which it was given, for messages."""
    given = getattr(options, option.name)
    if given is not None:
        return given, option.flag
    if option.variable in environment:
        text = environment[option.variable]
        value = [part for part in text.split(":") if part] if option.repeatable else text
        return value, option.variable
    return ([] if option.repeatable else option.default), option.flag
