"""`gateway`: finds the command, runs it, and turns what went wrong into one sentence and a code.

Exit codes: 0 fine, 1 what was examined is wrong, 2 it could not be examined or run.
"""

import argparse
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
    parser = argparse.ArgumentParser(
        prog="gateway",
        description="Native webhooks in, software delivery metrics out, described by YAML.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    given = list(sys.argv[1:] if arguments is None else arguments)
    # A command's module is imported only where the command is asked for.
    wanted = next((word for word in given if not word.startswith("-")), "")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + "."
        )
        if name == wanted:
            import_module(f"gateway.cli.{module(name)}").define(command)
    options = parser.parse_args(given)
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    # `--help` ends before this and is the quicker for it.
    from gateway.settings import SettingsError  # noqa: PLC0415  # See above.

    try:
        return int(options.run(options))
    except SettingsError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def module(command: str) -> str:
    """The module of a command; a word of Python's own cannot be one's name, nor a hyphen
    be in it."""
    return command.replace("-", "_") + "_" * iskeyword(command)


def fail(sentence: str) -> int:
    """Says in one sentence why a command could not run."""
    print(f"gateway: {sentence}", file=sys.stderr)
    return 2
