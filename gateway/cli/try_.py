"""`gateway try`: one request through one mapping, explained; nothing is sent and nothing is kept."""

import argparse
import time

from gateway.cli import explaining, request
from gateway.delivery import Delivery

_JSON = "application/json"


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="the source to speak for, such as github")
    parser.add_argument(
        "payload",
        metavar="PAYLOAD",
        help="a file with the body, or a raw request with its headers (.http); `-` for standard input",
    )
    request.define_header(parser)
    explaining.define(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where the delivery would be accepted or ignored, 1 where it would not; raises SettingsError
    where there is nothing to try."""
    subject = explaining.subject(options.source, options)
    found = request.read(options.payload, options.header)
    delivery = Delivery(
        source=options.source,
        headers={
            "content-type": _JSON,
            **{name.lower(): value for name, value in found.headers.items()},
        },
        query=found.query,
        body=found.body,
        received_at=time.time(),
    )
    explained = explaining.tried(subject, delivery)
    print(explaining.render(explained, options.format))
    return 0 if explained.outcome in ("accepted", "ignored") else 1
