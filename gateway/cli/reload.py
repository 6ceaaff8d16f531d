"""Mappings, models and secrets read anew while the gateway serves: when, one at a time, and what came of it.

What is found good takes the place of what is served at once. What is wrong changes nothing, and says
so in the log, in the metrics, and to whoever asked.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus

from msgspec import Struct

from gateway.app.internal import Reloaded
from gateway.cli import wiring
from gateway.cli.wiring import Library, Refused, Served
from gateway.diagnostic import Diagnostic
from gateway.journal.entry import JournalUnavailable
from gateway.mapping import library
from gateway.mapping.library import Look
from gateway.pipeline import Pipeline
from gateway.settings import Settings, SettingsError

SETTLING = 0.2
"""Seconds without a change after which whoever writes the files is taken to have finished."""
LOOKS = 20
FRESH = 2.0
"""Seconds for which a file may change once more without looking different: clocks of file systems tick
coarsely."""
WATCH = "a change was seen"
KEPT = "what was served before is served on"

log = logging.getLogger("gateway")


class _Request(Struct, frozen=True):
    """A reload that has not begun. Whoever asks before it begins shares it."""

    reasons: set[str]
    answer: "asyncio.Future[Reloaded]"


class _Attempt(Struct, frozen=True):
    """What one reading gave: what can be served, or why not. `look` is None where the files may have
    changed since without looking different."""

    library: Library
    look: Look | None
    found: Served | Refused | SettingsError


async def _to_nobody() -> Sequence[str]:
    """No other process is to reload."""
    return ()


class Reloader:
    """One for the process, on its event loop; `running` does the work. What is served here already,
    `spread` has other processes serve, too, and says of each that does not why. `load` reads mappings
    and models, knowing what was read last; without it they are read from the settings' paths."""

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        served: Served,
        pipeline: Pipeline,
        spread: Callable[[], Awaitable[Sequence[str]]] = _to_nobody,
        load: Callable[[Library], Library] | None = None,
    ) -> None:
        self._spread = spread
        self._load = load or partial(wiring.load, settings.sources)
        self._behind: Sequence[str] = ()
        self._settings = settings
        self._environment = environment
        self._pipeline = pipeline
        self._served = served
        # What was read last, which may be broken, and how it looked; at the start that is not known,
        # because the journal was folded since.
        self._library = served.library
        self._look: Look | None = None
        self._failure = ""
        self._asked = asyncio.Event()
        self._next: _Request | None = None
        self._tell(served)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reloads when it is asked to, and when a change is seen where changes are watched for."""
        work = [asyncio.create_task(self._work())]
        if self._settings.watch:
            work.append(asyncio.create_task(self._watch(self._settings.watch)))
        try:
            yield
        finally:
            for task in work:
                task.cancel()
            await asyncio.wait(work)

    @property
    def served(self) -> Served:
        """What is served now."""
        return self._served

    def reload(self, reason: str) -> Awaitable[Reloaded]:
        """What comes of reading everything as it is from now on; `reason` is for the log.

        A reload that runs already may have read its files before this call, so the answer is that
        of the next one.
        """
        if self._next is None:
            self._next = _Request(set(), asyncio.get_running_loop().create_future())
            self._asked.set()
        self._next.reasons.add(reason)
        # Shielded: who no longer waits takes the answer from nobody else.
        return asyncio.shield(self._next.answer)

    async def _work(self) -> None:
        while True:
            while (request := self._next) is None:
                await self._asked.wait()
                self._asked.clear()
            self._next = None
            answer = await self._reload(request.reasons)
            if not request.answer.done():
                request.answer.set_result(answer)

    async def _reload(self, reasons: set[str]) -> Reloaded:
        try:
            attempt = await asyncio.to_thread(self._attempt)
            self._library, self._look = attempt.library, attempt.look
            if isinstance(attempt.found, Served):
                return await self._adopt(attempt.found, reasons)
            return self._refuse(attempt.found, reasons)
        except JournalUnavailable as error:
            # No file has to change for the next attempt to succeed.
            self._look = None
            self._keep(reasons, str(error))
            return Reloaded(HTTPStatus.SERVICE_UNAVAILABLE, {}, f"{error}; {KEPT}")
        except Exception:
            # Whatever it was, deliveries go on, and so do later reloads.
            log.exception("a bug")
            self._pipeline.telemetry.not_reloaded()
            return Reloaded(HTTPStatus.INTERNAL_SERVER_ERROR, {})

    def _attempt(self) -> _Attempt:
        """Reads everything, in a thread."""
        began = time.time()
        settings, environment, loaded = self._settings, self._environment, self._library
        look = self._look_around()
        found: Served | Refused | SettingsError
        try:
            loaded = self._load(loaded)
            secrets = wiring.look_at_secrets(loaded.compilation, environment, settings.secrets)
            look = (*loaded.look, *secrets)
            found = wiring.served(
                loaded, environment, settings.secrets, new_secrets=settings.new_secrets
            )
            look = (*loaded.look, *found.secrets_look)
        except (Refused, SettingsError) as error:
            found = error
        return _Attempt(loaded, None if _is_fresh(look, began) else look, found)

    def _look_around(self) -> Look:
        """A look at everything that is watched."""
        folder = self._settings.secrets
        return (
            *library.look(self._settings.sources),
            *wiring.look_at_secrets(self._library.compilation, self._environment, folder),
        )

    async def _adopt(self, found: Served, reasons: set[str]) -> Reloaded:
        before, mended = self._served, bool(self._failure)
        files = _changed_files(before.library, found.library)
        secrets = sorted(
            name
            for name, digest in found.sources.secrets.items()
            if before.sources.secrets.get(name, digest) != digest
        )
        live, were_live = found.sources.live.keys(), before.sources.live.keys()
        has_changed = bool(files or secrets or live != were_live)
        if has_changed:
            compiled = found.library.compilation
            await self._pipeline.adopt(found.sources.live, compiled.models, compiled.apps)
            self._served = found
        if has_changed or self._behind:
            self._behind = await self._spread()
        if self._behind:
            return self._lag(reasons)
        self._failure = ""
        self._tell(found)
        if has_changed or mended or reasons != {WATCH}:
            log.info("%s", _told(reasons, files, secrets, len(live)))
        return Reloaded(
            HTTPStatus.OK,
            {
                "changed": has_changed,
                "files": files,
                "secrets": secrets,
                "added": sorted(live - were_live),
                "removed": sorted(were_live - live),
                "live": sorted(live),
                "missing": sorted(one.source for one in found.sources.missing),
            },
        )

    def _tell(self, served: Served) -> None:
        telemetry = self._pipeline.telemetry
        telemetry.sources(served.sources.live, [one.source for one in served.sources.missing])
        telemetry.reloaded(time.time())

    def _refuse(self, why: Refused | SettingsError, reasons: set[str]) -> Reloaded:
        diagnostics: list[Diagnostic] = []
        report = summary = str(why)
        if isinstance(why, Refused):
            diagnostics, report, summary = why.diagnostics, why.report, why.summary
        self._keep(reasons, report)
        members: Mapping[str, object] = {"report": report, "diagnostics": diagnostics}
        return Reloaded(HTTPStatus.UNPROCESSABLE_ENTITY, members, f"{summary}; {KEPT}")

    def _lag(self, reasons: set[str]) -> Reloaded:
        """What is served here is not served by every other process."""
        # The next attempt has them try again, though no file has changed.
        self._look = None
        failure = "; ".join(self._behind)
        self._keep(reasons, failure)
        return Reloaded(HTTPStatus.SERVICE_UNAVAILABLE, {}, f"{failure}; {KEPT} there")

    def _keep(self, reasons: set[str], failure: str) -> None:
        # What is watched and still wrong in the same way has been said.
        if reasons != {WATCH} or failure != self._failure:
            log.error("not reloaded (%s), %s:\n%s", _listed(reasons), KEPT, failure)
        self._failure = failure
        self._pipeline.telemetry.not_reloaded()

    # Watching

    async def _watch(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            look = await asyncio.to_thread(self._look_around)
            if look != self._look:
                await self._settled(look)
                await self.reload(WATCH)

    async def _settled(self, look: Look) -> None:
        """Returns when nothing changes any more, or has changed for too long."""
        for _ in range(LOOKS):
            await asyncio.sleep(SETTLING)
            before, look = look, await asyncio.to_thread(self._look_around)
            if look == before:
                return


def _is_fresh(look: Look, now: float) -> bool:
    """Whether a file of the look changed so shortly before this time that it may change again and look
    the same."""
    return any(stamp[-1] > (now - FRESH) * 1e9 for _, _, stamp in look)


def _changed_files(before: Library, after: Library) -> list[str]:
    """The names of files that are new, other than they were, or gone."""
    return sorted({name for name, _ in before.texts.items() ^ after.texts.items()})


def _listed(reasons: set[str]) -> str:
    return ", ".join(sorted(reasons))


def _told(reasons: set[str], files: list[str], secrets: list[str], live: int) -> str:
    parts = [f"{live} source{'s' * (live != 1)} live"]
    if files:
        parts.append(f"changed files: {', '.join(files)}")
    if secrets:
        parts.append(f"changed secrets of {', '.join(secrets)}")
    if not files and not secrets:
        parts.append("no change")
    return f"reloaded ({_listed(reasons)}): {'; '.join(parts)}"
