"""Flags that several commands have, each of them defined once."""

import argparse
import os
from pathlib import Path

from gateway import settings

TEXT, JSON = "text", "json"


def define_secrets(
    parser: argparse.ArgumentParser, what: str = "the folder of secrets, as for serve"
) -> None:
    parser.add_argument(
        "--secrets",
        type=Path,
        default=Path(os.environ.get("GATEWAY_SECRETS", settings.DEFAULT_SECRETS)),
        metavar="DIR",
        help=f"{what} (default: %(default)s)",
    )


def define_format(parser: argparse.ArgumentParser, document: str) -> None:
    """`document` says what there is as JSON."""
    parser.add_argument(
        "--format",
        choices=(TEXT, JSON),
        default=TEXT,
        help=f"text, for people (the default); json, {document}",
    )
