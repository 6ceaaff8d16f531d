"""The chain as it was found, for the checks: what is set, what was compiled, and whom to ask for the rest."""

from collections.abc import Mapping
from functools import cached_property

from msgspec import Struct

from gateway.doctor import running
from gateway.doctor.asking import NoAnswer
from gateway.doctor.finding import Unchecked
from gateway.doctor.prometheus_api import Prometheus
from gateway.doctor.running import Running
from gateway.journal import sqlite
from gateway.journal.archive import Archive
from gateway.journal.entry import JournalError
from gateway.journal.reading import Database
from gateway.mapping.compiler import Compilation
from gateway.settings import Settings


class CasesRun(Struct, frozen=True):
    """What came of a file of cases: how many there are, and the names of those that failed; or what is
    wrong with the file."""

    file: str
    cases: int
    failed: tuple[str, ...] = ()
    fault: str = ""


class Readied(Struct, frozen=True, kw_only=True):
    """What came of mappings and secrets as `serve` would read them, by source: those that would be
    served; for those that lack a secret, its name; and for those whose secrets or params are of no use,
    why. `own` are the user's."""

    live: frozenset[str] = frozenset()
    missing: Mapping[str, str] = {}
    unusable: Mapping[str, str] = {}
    own: frozenset[str] = frozenset()
    readable: tuple[str, ...] = ()
    """The files of secrets that all users of the machine may read."""


class Compiled(Struct, frozen=True, kw_only=True):
    """What came of models and mappings. `fault` says why they could not even be read. `cases` is None
    where they were not run."""

    compilation: Compilation | None = None
    fault: str = ""
    errors: tuple[str, ...] = ()
    warnings: int = 0
    cases: tuple[CasesRun, ...] | None = None
    readied: Readied = Readied()


class Chain(Struct, frozen=True, kw_only=True, dict=True):
    """`database` is the journal, or why there is none to read; `now` is epoch seconds."""

    settings: Settings
    version: str
    compiled: Compiled
    database: Database | str
    prometheus: Prometheus | None
    quick: bool
    now: float

    @cached_property
    def gateway(self) -> Running | NoAnswer:
        """What answers at the internal listener."""
        try:
            return running.ask(self.settings.internal_listen.url)
        except NoAnswer as error:
            return error

    @property
    def running(self) -> Running | None:
        return self.gateway if isinstance(self.gateway, Running) else None

    @property
    def live(self) -> frozenset[str]:
        """The sources that are served, or would be."""
        return self.running.live if self.running else self.compiled.readied.live

    @cached_property
    def archive(self) -> Archive:
        """The journal, known to be readable. Raises Unchecked and JournalError."""
        if isinstance(self.database, str):
            raise Unchecked("the journal cannot be read")
        if self.is_new:
            raise Unchecked("there is no journal yet")
        archive = Archive(self.database)
        archive.last()
        return archive

    @property
    def is_new(self) -> bool:
        """Whether the journal is a file that is not there."""
        path = self.settings.journal.path
        return path is not None and not path.exists()

    @property
    def is_in_use(self) -> bool:
        """Whether a gateway of this machine has the journal's file. Raises Unchecked."""
        path = self.settings.journal.path
        try:
            return path is not None and sqlite.in_use(path)
        except JournalError as error:
            raise Unchecked(str(error)) from error

    @property
    def asked(self) -> Prometheus:
        """Prometheus, known to answer. Raises Unchecked."""
        if self.prometheus is None:
            raise Unchecked("no --prometheus is given")
        if self.prometheus.fault:
            raise Unchecked("Prometheus does not answer")
        return self.prometheus
