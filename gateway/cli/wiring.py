"""What the commands make of files, secrets and the environment: models, mappings, live sources."""

import argparse
import hashlib
import os
import secrets as randomness
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway import authentication, oidc, pelorus_signature, report, settings
from gateway.authentication import Authentication, Basic, Oidc, SecretReference
from gateway.diagnostic import Diagnostic, did_you_mean, has_errors
from gateway.mapping import library
from gateway.mapping.compiler import Compilation, CompiledMapping, SourceFile, compile_files
from gateway.mapping.library import Look
from gateway.pelorus_signature import SOURCE as PELORUS
from gateway.plan import Plan
from gateway.settings import SettingsError
from gateway.source import Source

BUNDLED_LAYER = 0


class Library(Struct, frozen=True):
    """A compilation with the files that it came from."""

    files: tuple[SourceFile, ...]
    compilation: Compilation
    unreadable: tuple[Diagnostic, ...] = ()
    look: Look = ()

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
    """`secrets` holds a digest of the secrets of each live source, to tell when they change."""

    live: Mapping[str, Source]
    missing: tuple[Missing, ...]
    diagnostics: tuple[Diagnostic, ...]
    secrets: Mapping[str, bytes]


class Served(Struct, frozen=True):
    """All that `serve` makes of files, secrets and the environment, and how the secrets' files
    looked."""

    library: Library
    sources: Sources
    secrets_look: Look


class Refused(Exception):
    """What was read cannot be served: mappings or models are wrong, or lack secrets."""

    def __init__(self, library: Library, more: Iterable[Diagnostic] = ()) -> None:
        super().__init__()
        self.diagnostics = sorted([*library.diagnostics, *more])
        self._library = library

    @property
    def report(self) -> str:
        """The same text as `gateway check` gives for the same files."""
        return report.render(self.diagnostics, self._library.texts, self._examined)

    @property
    def summary(self) -> str:
        """The last line of that."""
        return report.summary(self.diagnostics, self._examined)

    @property
    def _examined(self) -> int:
        files = {file.name for file in self._library.files if file.layer > BUNDLED_LAYER}
        return len(files | {finding.span.file for finding in self.diagnostics})


def define_files(parser: argparse.ArgumentParser) -> None:
    """The flags that say which mappings and models are in force, as for serve."""
    for flag, what in (("--mappings", "mappings"), ("--schemas", "models")):
        parser.add_argument(
            flag,
            type=Path,
            action="append",
            default=[],
            metavar="PATH",
            help=f"{what} on top of the bundled ones, as for serve; repeatable "
            f"[GATEWAY_{flag[2:].upper()}]",
        )


def files(options: argparse.Namespace) -> list[Path]:
    """The paths of those flags, or of their variables where the flags are not given."""
    return [*_paths(options.schemas, "GATEWAY_SCHEMAS"), *_mappings(options)]


def _mappings(options: argparse.Namespace) -> list[Path]:
    return _paths(options.mappings, "GATEWAY_MAPPINGS")


def _paths(given: list[Path], variable: str) -> list[Path]:
    return given or [Path(part) for part in os.environ.get(variable, "").split(":") if part]


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


def load(paths: Iterable[Path], known: Library | None = None, source: str = "") -> Library:
    """Bundled files and, above them, those of the paths, compiled. Where the files are those of a
    known library, its compilation is taken. For a command about one source, as little of the others
    as that needs. Raises SettingsError."""
    try:
        user = library.read_paths(paths, layer=1)
        wanted = None
        if source in library.bundled_sources():
            wanted = library.needed([f"source: {source}", *(file.text for file in user.files)])
        files = (*library.bundled_files(wanted), *user.files)
    except library.Unreadable as error:
        raise SettingsError(str(error)) from error
    if known is not None and (known.files, known.unreadable) == (files, user.findings):
        return msgspec.structs.replace(known, look=user.look)
    return Library(files, compile_files(files), user.findings, user.look)


def unknown_source(name: str, known: Iterable[str], options: argparse.Namespace) -> SettingsError:
    """What is said of a source that is not among the known ones."""
    mend = did_you_mean(name, known)
    if not _mappings(options):
        mend += "; your own are named by --mappings or GATEWAY_MAPPINGS"
    return SettingsError(f"there is no source `{name}`; {mend}")


def shown_file(name: str) -> str:
    """A file as it was named; a bundled one by a name that is the same wherever it is installed."""
    path = Path(name)
    if path.parent == library.bundled("mappings"):
        return f"bundled/mappings/{path.name}"
    return name


def served(
    loaded: Library, environment: Mapping[str, str], folder: Path, *, new_secrets: bool
) -> Served:
    """What can be served of a library, with the secrets of the folder; `new_secrets` writes those that
    it lacks. Raises Refused and SettingsError."""
    if has_errors(loaded.diagnostics):
        raise Refused(loaded)
    compilation = loaded.compilation
    if new_secrets and (written := write_new_secrets(compilation, environment, folder)):
        several = f"{len(written)} new secrets to {folder}, readable by their owner alone"
        one = f"a new secret to {written[0]}, readable by its owner alone"
        print(f"wrote {several if len(written) > 1 else one}", flush=True)
    try:
        found, look = library.steadily(
            lambda: look_at_secrets(compilation, environment, folder),
            lambda: sources(compilation, environment, folder),
        )
    except library.Unreadable as error:
        raise SettingsError(str(error)) from error
    if found.diagnostics:
        raise Refused(loaded, found.diagnostics)
    return Served(loaded, found, look)


def look_at_secrets(compilation: Compilation, environment: Mapping[str, str], folder: Path) -> Look:
    """A look at the files that secrets may come from."""
    files = {
        settings.secret_file(one.env, one.file, folder)
        for mapping in compilation.mappings.values()
        for one in (*user_names(mapping), *references(mapping))
        if one.env not in environment
    }
    files |= {
        Path(mapping.scheme.jwks_file)
        for mapping in compilation.mappings.values()
        if isinstance(mapping.scheme, Oidc) and mapping.scheme.jwks_file
    }
    return library.look_at(sorted(files))


def sources(compilation: Compilation, environment: Mapping[str, str], folder: Path) -> Sources:
    """The sources that have what they need, and those that do not. Raises SettingsError.

    A bundled source without its secret is not served. A mapping that the user brought is meant to
    be served, so a secret that it lacks is an error.
    """
    live: dict[str, Source] = {}
    digests: dict[str, bytes] = {}
    missing: list[Missing] = []
    findings: list[Diagnostic] = []
    for name, mapping in sorted(compilation.mappings.items()):
        keys, absent = _keys(mapping, environment, folder)
        if absent:
            missing.append(Missing(name, mapping.plan.title, tuple(absent)))
            if mapping.layer > BUNDLED_LAYER:
                findings.append(_not_set(mapping, absent[0]))
            continue
        plan = with_params(mapping, environment)
        username = _username(mapping, environment, folder) or ""
        checked, identity = _authentication(mapping, keys, username)
        live[name] = Source(plan, checked, mapping.allow_from)
        digests[name] = identity
    refuse_unknown_params(compilation, environment)
    return Sources(live, tuple(missing), tuple(findings), digests)


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=16).digest()


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
    if scheme is None or isinstance(scheme, Oidc):
        return []
    return scheme.secret if isinstance(scheme.secret, list) else [scheme.secret]


def user_names(mapping: CompiledMapping) -> list[SecretReference]:
    """Where the user name of a source is read from; nothing where it has none."""
    return [mapping.scheme.username] if isinstance(mapping.scheme, Basic) else []


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
    if isinstance(scheme, Oidc):
        return (), []
    if isinstance(scheme, Basic) and _username(mapping, environment, folder) is None:
        return (), [scheme.username.env or scheme.username.file, *absent]
    return keys, [] if keys else absent


def _refuse_weak(mapping: CompiledMapping, reference: SecretReference, text: str) -> None:
    scheme = mapping.scheme
    if scheme is None or isinstance(scheme, Oidc):
        return
    least = scheme.minimum_secret_length
    what = f"the secret {reference.env or reference.file} of the source `{mapping.plan.source}`"
    if any(ord(one) < 0x20 for one in text):
        raise SettingsError(
            f"{what} holds a line break or another control character, which no sender would send; "
            "one line break at the end of a file is no part of it"
        )
    if authentication.strength(scheme, text.encode()) < least:
        raise SettingsError(
            f"{what} is shorter than {least} bytes; a longer random one cannot be guessed"
        )


def _username(mapping: CompiledMapping, environment: Mapping[str, str], folder: Path) -> str | None:
    """The user name of a source with passwords."""
    if not isinstance(mapping.scheme, Basic):
        return None
    reference = mapping.scheme.username
    return settings.secret(reference.env, reference.file, environment, folder)


def _authentication(
    mapping: CompiledMapping, keys: tuple[bytes, ...], username: str
) -> tuple[Authentication, bytes]:
    """How the source authenticates, and a digest of the secrets or the file of keys that it does so by."""
    if isinstance(mapping.scheme, Oidc):
        return _tokens(mapping.plan.source, mapping.scheme)
    # Only Pelorus's senders sign another spelling of their JSON than the one that they send.
    spellings = pelorus_signature.spellings if mapping.plan.source == PELORUS else None
    name = username.encode()
    checked = authentication.authentication(mapping.scheme, keys, name, spellings)
    return checked, _digest(name, *keys)


def _tokens(source: str, scheme: Oidc) -> tuple[Authentication, bytes]:
    """Raises SettingsError."""
    if oidc.library() is None:
        raise SettingsError(
            f"the source `{source}` authenticates by `oidc`, which needs the package PyJWT; "
            "install `pelorus-gateway[oidc]`"
        )
    if not scheme.jwks_file:
        return oidc.authentication(scheme, oidc.issuer(scheme.issuer)), b""
    path = Path(scheme.jwks_file)
    try:
        text = path.read_bytes()
        return oidc.authentication(scheme, oidc.Fixed(oidc.read(text))), _digest(text)
    except (OSError, oidc.CannotRead) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"the keys {path} of the source `{source}` are no use: {why}") from None


# Params from the environment: GITHUB_PARAM_ENVIRONMENTS=production,live


def _prefix(source: str) -> str:
    return source.upper().replace("-", "_") + "_PARAM_"


def variable(source: str, param: str) -> str:
    """The environment variable that sets a param of a source."""
    return _prefix(source) + param.upper()


def overrides(mapping: CompiledMapping, environment: Mapping[str, str]) -> dict[str, Any]:
    """The params of a source that the environment sets. Raises SettingsError."""
    names = {name: variable(mapping.plan.source, name) for name in mapping.plan.params}
    return {
        name: _converted(environment[names[name]], default, names[name])
        for name, default in mapping.plan.params.items()
        if names[name] in environment
    }


def with_params(mapping: CompiledMapping, environment: Mapping[str, str]) -> Plan:
    """The plan of a source with the params that the environment sets. Raises SettingsError."""
    params = {**mapping.plan.params, **overrides(mapping, environment)}
    return msgspec.structs.replace(mapping.plan, params=params)


def plans(compilation: Compilation, environment: Mapping[str, str]) -> dict[str, Plan]:
    """Those of all sources, live or not. Raises SettingsError."""
    return {
        name: with_params(mapping, environment) for name, mapping in compilation.mappings.items()
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


def refuse_unknown_params(compilation: Compilation, environment: Mapping[str, str]) -> None:
    """Raises SettingsError for a variable that is meant to set a param and sets none."""
    for name, mapping in compilation.mappings.items():
        prefix = _prefix(name)
        known = {prefix + param.upper() for param in mapping.plan.params}
        for variable in environment:
            if variable.startswith(prefix) and variable not in known:
                mend = did_you_mean(variable, known) or "it has none"
                raise SettingsError(f"{variable} sets no param of the source `{name}`; {mend}")


def write_new_secrets(
    compilation: Compilation, environment: Mapping[str, str], folder: Path
) -> list[Path]:
    """Writes a random secret for every source that has none, and its name for a user name that is not
    set; the files written. Raises SettingsError."""
    written = []
    for mapping in compilation.mappings.values():
        wanted = [(one, randomness.token_hex(32)) for one in references(mapping)[:1]]
        wanted += [(one, mapping.plan.source) for one in user_names(mapping)]
        for reference, text in wanted:
            name = reference.env
            unset = settings.secret(name, reference.file, environment, folder) is None
            if name and unset:
                written.append(_write_secret(folder, name, text))
    return written


def _write_secret(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise SettingsError(f"cannot write the secret {path}: {error.strerror}") from error
    return path
