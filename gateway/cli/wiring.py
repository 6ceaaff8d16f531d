"""What the commands make of files, secrets and the environment: models, mappings, live sources."""

import argparse
import os
import secrets as randomness
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway import authentication, pelorus_signature, settings
from gateway.app.pelorus import SOURCE as PELORUS
from gateway.authentication import Basic, SecretReference
from gateway.diagnostic import Diagnostic, did_you_mean
from gateway.mapping import library
from gateway.mapping.compiler import Compilation, CompiledMapping, SourceFile, compile_files
from gateway.pipeline import Source
from gateway.settings import SettingsError

BUNDLED_LAYER = 0


class Library(Struct, frozen=True):
    """A compilation with the files that it came from."""

    files: tuple[SourceFile, ...]
    compilation: Compilation
    unreadable: tuple[Diagnostic, ...] = ()

    @property
    def texts(self) -> dict[str, str]:
        return {file.name: file.text for file in self.files}

    @property
    def diagnostics(self) -> list[Diagnostic]:
        return [*self.unreadable, *self.compilation.diagnostics]


class Missing(Struct, frozen=True):
    """A source that is not served, and the names of the secrets that it waits for."""

    source: str
    title: str
    secrets: tuple[str, ...]


class Sources(Struct, frozen=True):
    live: Mapping[str, Source]
    missing: tuple[Missing, ...]
    diagnostics: tuple[Diagnostic, ...]


def define_schemas(parser: argparse.ArgumentParser) -> None:
    """The flag of the commands that compile mappings and do not serve them."""
    parser.add_argument(
        "--schemas",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="models on top of the bundled ones, as for serve; repeatable",
    )


def load(paths: Iterable[Path]) -> Library:
    """Bundled files and, above them, those of the paths, compiled. Raises SettingsError."""
    try:
        user, unreadable = library.read_files(
            [file for path in paths for file in library.yaml_files(path)], layer=1
        )
        files = (*library.bundled_files(), *user)
    except library.Unreadable as error:
        raise SettingsError(str(error)) from error
    return Library(files, compile_files(files), tuple(unreadable))


def sources(compilation: Compilation, environment: Mapping[str, str], folder: Path) -> Sources:
    """The sources that have what they need, and those that do not. Raises SettingsError.

    A bundled source without its secret is not served. A mapping that the user brought is meant to
    be served, so a secret that it lacks is an error.
    """
    live: dict[str, Source] = {}
    missing: list[Missing] = []
    findings: list[Diagnostic] = []
    for name, mapping in sorted(compilation.mappings.items()):
        keys, absent = _keys(mapping, environment, folder)
        if absent:
            missing.append(Missing(name, mapping.plan.title, tuple(absent)))
            if mapping.layer > BUNDLED_LAYER:
                findings.append(_not_set(mapping, absent[0]))
            continue
        plan = msgspec.structs.replace(
            mapping.plan, params={**mapping.plan.params, **_overrides(mapping, environment)}
        )
        live[name] = Source(plan, _authentication(mapping, keys, environment, folder))
    _refuse_unknown_params(compilation, environment)
    return Sources(live, tuple(missing), tuple(findings))


def _not_set(mapping: CompiledMapping, name: str) -> Diagnostic:
    return Diagnostic(
        mapping.authenticate_at,
        "secret-not-set",
        f"the secret `{name}` of the source `{mapping.plan.source}` is not set",
        f"set the variable {name}, or put a file of that name into the --secrets folder",
    )


def references(mapping: CompiledMapping) -> list[SecretReference]:
    """The secrets of a source, the one that signs first."""
    scheme = mapping.scheme
    if scheme is None:
        return []
    return scheme.secret if isinstance(scheme.secret, list) else [scheme.secret]


def _keys(
    mapping: CompiledMapping, environment: Mapping[str, str], folder: Path
) -> tuple[tuple[bytes, ...], list[str]]:
    """The secrets that are set, and the names of those without which the source cannot be served:
    while rotating, one of several is enough."""
    wanted = references(mapping)
    found = {one: settings.secret(one.env, one.file, environment, folder) for one in wanted}
    for one, text in found.items():
        if text is not None:
            _refuse_weak(mapping, one, text)
    absent = [one.env or one.file for one in wanted if found[one] is None]
    keys = tuple(text.encode() for text in found.values() if text is not None)
    scheme = mapping.scheme
    if isinstance(scheme, Basic) and _username(scheme, environment, folder) is None:
        return (), [scheme.username.env or scheme.username.file, *absent]
    return keys, [] if keys else absent


def _refuse_weak(mapping: CompiledMapping, reference: SecretReference, text: str) -> None:
    least = mapping.scheme.minimum_secret_length if mapping.scheme else 0
    if len(text.encode()) < least:
        name = reference.env or reference.file
        raise SettingsError(
            f"the secret {name} of the source `{mapping.plan.source}` is shorter than {least} "
            "bytes; a longer random one cannot be guessed"
        )


def _username(scheme: Basic, environment: Mapping[str, str], folder: Path) -> str | None:
    return settings.secret(scheme.username.env, scheme.username.file, environment, folder)


def _authentication(
    mapping: CompiledMapping,
    keys: tuple[bytes, ...],
    environment: Mapping[str, str],
    folder: Path,
) -> authentication.Authentication:
    scheme = mapping.scheme
    username = ""
    if isinstance(scheme, Basic):
        username = _username(scheme, environment, folder) or ""
    # Only Pelorus's senders sign another spelling of their JSON than the one that they send.
    spellings = pelorus_signature.spellings if mapping.plan.source == PELORUS else None
    return authentication.authentication(scheme, keys, username.encode(), spellings)


# Params from the environment: GITHUB_PARAM_ENVIRONMENTS=production,live


def _prefix(source: str) -> str:
    return source.upper().replace("-", "_") + "_PARAM_"


def _overrides(mapping: CompiledMapping, environment: Mapping[str, str]) -> dict[str, Any]:
    prefix = _prefix(mapping.plan.source)
    return {
        name: _converted(environment[prefix + name.upper()], default, prefix + name.upper())
        for name, default in mapping.plan.params.items()
        if prefix + name.upper() in environment
    }


def _converted(text: str, default: Any, variable: str) -> Any:
    """The text as the type that the param has in the mapping."""
    match default:
        case list():
            return [part.strip() for part in text.split(",") if part.strip()]
        case bool():
            if text.lower() not in ("true", "false"):
                raise SettingsError(f"{variable} is `{text}`, expected true or false")
            return text.lower() == "true"
        case int() | float():
            number = settings.number(text, variable, -1e15, 1e15)
            return int(number) if number.is_integer() else number
    return text


def _refuse_unknown_params(compilation: Compilation, environment: Mapping[str, str]) -> None:
    for name, mapping in compilation.mappings.items():
        prefix = _prefix(name)
        known = {prefix + param.upper() for param in mapping.plan.params}
        for variable in environment:
            if variable.startswith(prefix) and variable not in known:
                mend = did_you_mean(variable, known)
                raise SettingsError(f"{variable} sets no param of the source `{name}`; {mend}")


def write_new_secrets(
    compilation: Compilation, environment: Mapping[str, str], folder: Path
) -> list[Path]:
    """Writes a random secret for every source that has none; the files written.
    Raises SettingsError."""
    written = []
    for mapping in compilation.mappings.values():
        for reference in references(mapping)[:1]:
            name = reference.env
            unset = settings.secret(name, reference.file, environment, folder) is None
            if name and unset:
                written.append(_write_secret(folder, name))
    return written


def _write_secret(folder: Path, name: str) -> Path:
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(randomness.token_hex(32) + "\n")
    except OSError as error:
        raise SettingsError(f"cannot write the secret {path}: {error.strerror}") from error
    return path
