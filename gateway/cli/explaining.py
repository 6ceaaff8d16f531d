"""What `try` and `explain` share: a delivery explained by the mapping that would serve it."""

import argparse
import os
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from gateway import oidc, report
from gateway.apps import Apps
from gateway.authentication import Oidc
from gateway.authoring import explanation, proof
from gateway.authoring.explanation import Explanation
from gateway.authoring.narration import narrate
from gateway.authoring.proof import REFUSED
from gateway.cli import shared, wiring
from gateway.cli.wiring import Served, Sources
from gateway.delivery import Delivery
from gateway.diagnostic import has_errors
from gateway.mapping.compiler import Compilation, CompiledMapping
from gateway.settings import SettingsError
from gateway.source import Source

UNAUTHORIZED = "unauthorized"


class Subject(Struct, frozen=True):
    """A mapping with the params that serving would give it; `source` is None where it would not be
    served, because `missing` secrets are not set. `apps` is the table of apps."""

    mapping: CompiledMapping
    source: Source | None
    missing: tuple[str, ...]
    apps: Apps


def define(parser: argparse.ArgumentParser) -> None:
    """The flags that say which mappings explain, and how."""
    wiring.define_files(parser)
    shared.define_secrets(parser)
    shared.define_format(parser, "one object")


def subject(name: str, options: argparse.Namespace) -> Subject:
    """The mapping of a source. Raises SettingsError."""
    loaded = wiring.load(wiring.files(options), source=name)
    if has_errors(loaded.diagnostics):
        raise SettingsError(report.render(loaded.diagnostics, loaded.texts, len(loaded.files)))
    sources = wiring.sources(loaded.compilation, os.environ, options.secrets)
    found = find(name, loaded.compilation, sources, os.environ)
    if found is None:
        raise wiring.unknown_source(name, loaded.compilation.mappings, options)
    return found


def find(
    name: str, compilation: Compilation, sources: Sources, environment: Mapping[str, str]
) -> Subject | None:
    """The mapping of a source among those compiled. Raises SettingsError."""
    mapping = compilation.mappings.get(name)
    if mapping is None:
        return None
    missing = next((one.secrets for one in sources.missing if one.source == name), ())
    plan = wiring.with_params(mapping, environment)
    whole = msgspec.structs.replace(mapping, plan=plan)
    return Subject(whole, sources.live.get(name), missing, compilation.apps)


def tried(subject: Subject, delivery: Delivery) -> Explanation:
    """What serving would make of a request, which need not prove its sender."""
    explained = explanation.explain(subject.mapping, delivery, subject.apps)
    authentication = _judged(subject, delivery)
    if authentication.startswith(REFUSED):
        explained = msgspec.structs.replace(
            explained, outcome=UNAUTHORIZED, events=(), reasons=(), apps={}
        )
    return msgspec.structs.replace(explained, authentication=authentication)


def _judged(subject: Subject, delivery: Delivery) -> str:
    scheme = subject.mapping.scheme
    if subject.source is None:
        return f"not checked: the secret {' and '.join(subject.missing)} is not set"
    if isinstance(scheme, Oidc) and not oidc.has_keys(scheme):
        return f"not checked: the keys of {scheme.issuer} are not known here; `serve` fetches them"
    if scheme is not None and not proof.carries_proof(scheme, delivery):
        return "not checked: the request carries no proof of its sender"
    return proof.judge(scheme, subject.source.authentication, delivery)


def render(explained: Explanation, form: str) -> str:
    """An explanation as text or as JSON."""
    if form == shared.JSON:
        return msgspec.json.format(msgspec.json.encode(explained), indent=2).decode()
    return narrate(explained)


class Explainer:
    """Explains requests by what is served at the time, as the internal listener asks for it."""

    def __init__(self, served: Callable[[], Served], environment: Mapping[str, str]) -> None:
        self._served = served
        self._environment = environment

    def __call__(self, delivery: Delivery, *, as_text: bool) -> str | None:
        """The explanation of what serving would make of a request; None for an unknown source."""
        served = self._served()
        compilation = served.library.compilation
        found = find(delivery.source, compilation, served.sources, self._environment)
        return (
            render(tried(found, delivery), shared.TEXT if as_text else shared.JSON)
            if found
            else None
        )
