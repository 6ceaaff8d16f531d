"""`gateway`: finds the command, runs it, and turns what went wrong into one sentence and a code.

Exit codes: 0 fine, 1 what was examined is wrong, 2 it could not be examined or run.
"""

import argparse
import contextlib
import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword

COMMANDS = {
    "serve": "receive webhooks and show series to Prometheus",
    "sources": "list the sources that there are, or tell all of one: whether it is live, and what it reads",
    "new": "draft a mapping and its cases from sample payloads",
    "check": "lint mappings and models",
    "test": "run the cases beside mappings",
    "show": "print the mapping of a source as it is in force, and where each line comes from",
    "try": "explain what one payload would become, without sending it",
    "doctor": "examine the whole chain, from the ports to the rules, and say what to do about each finding",
    "deliveries": "list what the journal keeps, and what became of it",
    "explain": "tell why a delivery of the journal became what it became",
    "dead-letters": "list what could not be mapped and still is not, show one whole, or explain it",
    "replay": "map deliveries of the journal again, once their mapping was mended",
    "journal": "back the journal up, verify it, or tell how large and how old it is",
    "export": "write all samples of the journal at their own times, for Prometheus to import",
    "send": "sign a sample delivery as its vendor would, and post it",
    "redeliver": "have GitHub attempt again what it could not deliver",
    "functions": "list what expressions may call, or show one function with its examples",
    "schema": "print the JSON Schema of mapping or model files, for editors",
}


def version() -> str:
    """The version of the installed package."""
    # It takes longer to import than most commands take to run.
    from importlib import metadata  # noqa: PLC0415  # See above.

    return metadata.version("pelorus-gateway")


class _Version(argparse.Action):
    """Prints the version; found only where it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"gateway {version()}")
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    try:
        _escape_what_cannot_be_shown()
        try:
            return _run(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            # What is printed is written at the latest here, where a full disk gives a sentence.
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_output()
        sys.stderr.close()
        return 0
    except OSError as error:
        return fail(_told(error))


def _run(given: Sequence[str]) -> int:
    options = _parsed(given)
    # `--help` ends before this and is the quicker for it.
    from gateway.settings import SettingsError  # noqa: PLC0415  # See above.

    try:
        return int(options.run(options))
    except SettingsError as error:
        return fail(str(error))


def _parsed(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gateway",
        description="Native webhooks in, software delivery metrics out, described by YAML.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # A command's module is imported only where the command is asked for.
    wanted = next((word for word in given if not word.startswith("-")), "")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + "."
        )
        if name == wanted:
            import_module(f"gateway.cli.{module(name)}").define(command)
    return parser.parse_args(given)


# Standard output, and what the system refuses

_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Where no file is named it is standard output: whoever writes another one says so."""


def _escape_what_cannot_be_shown() -> None:
    """A terminal that knows no such letter gets its number."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _told(error: OSError) -> str:
    """What the system refused, where no command knows more of it."""
    if error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}"
    if error.errno in _OF_WRITING:
        _drop_output()
        return f"cannot write to standard output: {error.strerror}"
    return str(error)


def _drop_output() -> None:
    """What could not be written is not tried again as the interpreter ends, which would have the last
    word."""
    if sys.stdout is None:
        return
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def module(command: str) -> str:
    """The module of a command; a word of Python's own cannot be one's name, nor a hyphen
    be in it."""
    return command.replace("-", "_") + "_" * iskeyword(command)


def fail(sentence: str) -> int:
    """Says in one sentence why a command could not run."""
    print(f"gateway: {sentence}", file=sys.stderr)
    return 2
