"""The process's settings: each a flag with an environment variable, read once at start-up."""

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from gateway.addresses import Networks, network

DEFAULT_JOURNAL = "sqlite:///data/journal.sqlite"
DEFAULT_SECRETS = Path("data/secrets")
MIB = 1024 * 1024
MAX_SECRET = 64 * 1024
"""Bytes of a file that holds one."""
EVERYWHERE = "0.0.0.0"  # noqa: S104  # Deliveries come from outside.


class SettingsError(Exception):
    """A setting cannot be used; the message names it, its value and what it takes."""


class Address(Struct, frozen=True):
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """A URL that reaches the address from this machine."""
        reachable = {EVERYWHERE: "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{Address(reachable, self.port)}"


class JournalUrl(Struct, frozen=True):
    """Where a journal is: `path` is its file, None where it is in PostgreSQL. As text it shows no
    password."""

    url: str
    path: Path | None

    def __str__(self) -> str:
        if self.path:
            return str(self.path)
        # Up to the last `@`: a password may hold what should have been percent-encoded.
        shown = re.sub(r"(?<=//)([^:@/]*):.*@", r"\1:***@", self.url)
        return re.sub(r"(?<=password=)[^&]*", "***", shown)


class Settings(Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds; `watch` is 0 where nothing is watched, and what is kept for 0
    seconds or up to 0 bytes is kept without a limit."""

    listen: Address
    internal_listen: Address
    trusted_proxies: Networks
    journal: JournalUrl
    keep_deliveries: float
    keep_events: float
    keep_size: int
    min_free: int
    mappings: tuple[Path, ...]
    schemas: tuple[Path, ...]
    secrets: Path
    new_secrets: bool
    max_body: int
    max_in_flight: int
    header_timeout: float
    body_timeout: float
    answer_timeout: float
    drain: float
    shutdown_timeout: int
    window: float
    scrape_interval: float
    max_series: int
    max_series_of_app: int
    own_times: bool
    watch: float
    workers: int

    @property
    def sources(self) -> tuple[Path, ...]:
        """The paths of models and mappings."""
        return (*self.schemas, *self.mappings)


def address(text: str, name: str) -> Address:
    """`host:port`, `[v6]:port` or `:port`. Raises SettingsError."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([^:\[\]]*)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65_535:
        raise SettingsError(f"{name} is `{text}`, expected host:port such as 0.0.0.0:8080")
    return Address(match[1] or match[2] or EVERYWHERE, int(match[3]))


def journal_url(text: str, name: str) -> JournalUrl:
    """A `sqlite:///` URL, of three slashes and a relative path or four and an absolute one; or a
    `postgresql://` URL. Raises SettingsError."""
    prefix = "sqlite:///"
    if text.startswith(("postgresql://", "postgres://")):
        return JournalUrl(text, None)
    if not text.startswith(prefix) or len(text) == len(prefix):
        raise SettingsError(
            f"{name} is `{text}`, expected sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"
        )
    return JournalUrl(text, Path(text.removeprefix(prefix)))


def networks(text: str, name: str) -> Networks:
    """Networks with commas between them. Raises SettingsError."""
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            found.append(network(part))
        except ValueError as error:
            raise SettingsError(f"{name} holds `{part}`, which {error}") from None
    return tuple(found)


def number(text: str, name: str, least: float, most: float) -> float:
    """A number within bounds. Raises SettingsError."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise SettingsError(f"{name} is `{text}`, expected a number from {least:g} to {most:g}")
    return value


def secret_file(env: str, file: str, folder: Path) -> Path:
    """Where a secret is looked for that no variable holds."""
    return Path(file) if file else folder / env


def choice(text: str, name: str, known: Sequence[str]) -> str:
    """One of several words. Raises SettingsError."""
    if text not in known:
        raise SettingsError(f"{name} is `{text}`, expected one of {', '.join(known)}")
    return text


def secret(env: str, file: str, environment: Mapping[str, str], folder: Path) -> str | None:
    """A secret by its variable, by the file of that name in the secrets folder, or by its path;
    None where it is not set. One line break at the end is not part of it. Raises SettingsError."""
    if env and env in environment:
        return environment[env]
    path = secret_file(env, file, folder)
    try:
        with open(path, "rb", opener=_without_waiting) as opened:  # Path.open takes no opener.
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise SettingsError(f"cannot read the secret {path}: it is no file")
            raw = opened.read(MAX_SECRET + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        what = f"the secret {path}"
        if not file and isinstance(error, PermissionError) and not os.access(folder, os.X_OK):
            # One sentence for all of them, which have one cause.
            what = f"the folder of secrets {folder}"
        raise SettingsError(f"cannot read {what}: {error.strerror}") from error
    if len(raw) > MAX_SECRET:
        raise SettingsError(f"cannot read the secret {path}: it is larger than {MAX_SECRET} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        # The error itself would show a part of the secret.
        raise SettingsError(f"cannot read the secret {path}: it is not UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")


def _without_waiting(path: str, flags: int) -> int:
    # A pipe would be waited for.
    return os.open(path, flags | os.O_NONBLOCK)
