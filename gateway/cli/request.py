"""A request as a person hands it to a command: a payload, or a captured request with its headers."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from gateway.authoring import request
from gateway.authoring.request import Request, RequestError
from gateway.cli import shared
from gateway.settings import SettingsError

STDIN = "-"


def define_header(parser: argparse.ArgumentParser) -> None:
    """The flag for headers that a payload does not carry itself."""
    parser.add_argument(
        "-H",
        "--header",
        action="append",
        default=[],
        metavar="NAME:VALUE",
        help="a header of the request, such as X-GitHub-Event:push; repeatable",
    )


def read(path: str, headers: Sequence[str]) -> Request:
    """The request of a file, or of standard input for `-`; `headers` replace its own.

    A file that begins with a request line or a header is a raw request, any other one a body. Raises
    SettingsError.
    """
    try:
        raw = shared.standard_input() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    if request.is_utf16(raw):
        raise SettingsError(
            f"{shown(path)} is in UTF-16, as PowerShell's `>` writes; save it in UTF-8"
        )
    try:
        found = Request(headers={}, query={}, body=raw)
        if request.is_request(raw):
            found = request.read(raw)
    except RequestError as error:
        raise SettingsError(f"{shown(path)}: {error}") from error
    given = given_headers(headers)
    named = {name.lower() for name in given}
    kept = {name: value for name, value in found.headers.items() if name.lower() not in named}
    return Request(headers={**kept, **given}, query=found.query, body=found.body)


def shown(path: str) -> str:
    """A file as it was named; standard input by a name that says so."""
    return "<stdin>" if path == STDIN else path


def given_headers(texts: Sequence[str]) -> dict[str, str]:
    """The headers of the flags. Raises SettingsError."""
    try:
        return dict(request.header(text) for text in texts)
    except RequestError as error:
        raise SettingsError(f"--header: {error.message}; write NAME:VALUE") from error
