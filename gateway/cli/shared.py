"""Flags that several commands have, and standard input, each of them defined once."""

import argparse
import os
import sys
from pathlib import Path

from gateway import settings
from gateway.settings import SettingsError

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


def standard_input() -> bytes:
    """All of it. Raises SettingsError where it is closed, or cannot be read."""
    if sys.stdin is None:
        raise SettingsError("there is no standard input to read: it is closed")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise SettingsError(f"cannot read standard input: {error.strerror}") from error


def can_ask() -> bool:
    """Whether there is a terminal at which a person can answer."""
    return sys.stdin is not None and sys.stdin.isatty()
