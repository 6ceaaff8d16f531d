"""`gateway schema`: the JSON Schemas of what authors write, generated from the grammar."""

import argparse

from gateway.authoring import schemas


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind", choices=sorted(schemas.GRAMMARS), help="which files the schema is for"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    print(schemas.json_schema(options.kind), end="")
    return 0
