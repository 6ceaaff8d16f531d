"""What the gateway and its workers make of the settings alike: the pipeline, and how the public listener is served."""

import socket
from functools import partial

from gateway.app.edge import Limits
from gateway.app.guard import Deadlines, Listener
from gateway.app.public import public_app
from gateway.app.server import Listening, Stopping, connection_limit
from gateway.cli.main import version
from gateway.cli.wiring import Served
from gateway.journal.writer import Writer
from gateway.pipeline import Pipeline
from gateway.series import Series, Window
from gateway.settings import Settings
from gateway.telemetry import Telemetry


def pipeline(settings: Settings, served: Served, journal: Writer) -> Pipeline:
    window = Window(
        length=round(settings.window * 1000),
        spacing=round(settings.scrape_interval * 1000),
        series=settings.max_series,
        series_of_app=settings.max_series_of_app,
        own_times=settings.own_times,
    )
    compiled = served.library.compilation
    return Pipeline(
        served.sources.live,
        compiled.models,
        partial(Series, window=window),
        journal,
        Telemetry(version()),
        compiled.apps,
    )


def listening(settings: Settings, pipeline: Pipeline, public: socket.socket) -> Listening:
    limits = Limits(
        body=settings.max_body,
        in_flight=settings.max_in_flight,
        body_timeout=settings.body_timeout,
        answer_timeout=settings.answer_timeout,
    )
    refused = partial(pipeline.telemetry.tally.refuse, "")
    listener = Listener(deadlines(settings), connection_limit(), refused)
    return Listening(public_app(pipeline, limits, settings.trusted_proxies), public, listener)


def deadlines(settings: Settings) -> Deadlines:
    return Deadlines(settings.header_timeout, settings.body_timeout)


def stopping(settings: Settings) -> Stopping:
    return Stopping(settings.drain, settings.shutdown_timeout)
