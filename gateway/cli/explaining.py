"""What `try` and `explain` share: a delivery explained by the mapping that would serve it."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway import report, settings
from gateway.cli import wiring
from gateway.delivery import Delivery
from gateway.diagnostic import did_you_mean, has_errors
from gateway.mapping import proof
from gateway.mapping.compiler import CompiledMapping
from gateway.mapping.explanation import Explanation
from gateway.mapping.narration import narrate
from gateway.pipeline import Source
from gateway.settings import SettingsError

TEXT, JSON = "text", "json"


class Subject(Struct, frozen=True):
    """A mapping with the params that serving would give it; `source` is None where it would not be
    served, because `missing` secrets are not set."""

    mapping: CompiledMapping
    source: Source | None
    missing: tuple[str, ...]


def define(parser: argparse.ArgumentParser) -> None:
    """The flags that say which mappings explain, and how."""
    parser.add_argument(
        "--mappings",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="mappings on top of the bundled ones, as for serve; repeatable",
    )
    wiring.define_schemas(parser)
    parser.add_argument(
        "--secrets",
        type=Path,
        default=Path(os.environ.get("GATEWAY_SECRETS", settings.DEFAULT_SECRETS)),
        metavar="DIR",
        help="the folder of secrets, as for serve (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        choices=[TEXT, JSON],
        default=TEXT,
        help="text, for people (the default), or json",
    )


def subject(name: str, options: argparse.Namespace) -> Subject:
    """The mapping of a source. Raises SettingsError."""
    loaded = wiring.load([*options.schemas, *options.mappings])
    if has_errors(loaded.diagnostics):
        raise SettingsError(report.render(loaded.diagnostics, loaded.texts, len(loaded.files)))
    mapping = loaded.compilation.mappings.get(name)
    if mapping is None:
        mend = did_you_mean(name, loaded.compilation.mappings)
        raise SettingsError(f"there is no source `{name}`; {mend}")
    found = wiring.sources(loaded.compilation, os.environ, options.secrets)
    missing = next((one.secrets for one in found.missing if one.source == name), ())
    params = {**mapping.plan.params, **wiring.overrides(mapping, os.environ)}
    plan = msgspec.structs.replace(mapping.plan, params=params)
    return Subject(msgspec.structs.replace(mapping, plan=plan), found.live.get(name), missing)


def judged(subject: Subject, headers: Mapping[str, str], delivery: Delivery) -> str:
    """What serving would say of a request's proof. `headers` are those that came, names in lower
    case."""
    scheme = subject.mapping.scheme
    if subject.source is None:
        return f"not checked: the secret {' and '.join(subject.missing)} is not set"
    if scheme is not None and not proof.carries_proof(scheme, headers):
        return "not checked: the request carries no proof of its sender"
    return proof.judge(
        scheme, subject.source.authentication, headers, delivery.body, delivery.received_at
    )


def show(explanation: Explanation, form: str) -> None:
    """Prints an explanation."""
    if form == JSON:
        print(msgspec.json.format(msgspec.json.encode(explanation), indent=2).decode())
    else:
        print(narrate(explanation))
