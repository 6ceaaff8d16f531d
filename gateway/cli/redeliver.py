"""`gateway redeliver`: finds what GitHub could not deliver, and has it attempted again."""

import argparse
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, field

from gateway import redelivery, settings
from gateway.cli import journals, servers, shared
from gateway.cli.progress import Progress
from gateway.github_api import (
    PAGE,
    PAGES,
    GitHub,
    GitHubError,
    Home,
    Hook,
    RefusedError,
    is_private,
    organization,
    repository,
)
from gateway.redelivery import Attempt
from gateway.settings import SettingsError

_TOKEN = "GITHUB_TOKEN"  # noqa: S105  # The name of its variable.
_PATH = "/hooks/github"
_NAME = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]{1,100}"


class Lost(Struct, frozen=True):
    """A delivery that did not arrive, by its latest attempt, and what came of it here."""

    id: int
    guid: str
    event: str
    action: str | None
    delivered_at: float
    status: str
    status_code: int | None
    outcome: str
    reason: str = ""


class Search(Struct, frozen=True):
    """What was found at one webhook; not `complete` where it has more attempts than are read."""

    hook: int
    url: str
    attempts: int
    complete: bool
    lost: list[Lost] = field(default_factory=list)


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sender", choices=["github"], help="who is asked: GitHub, or a GitHub Enterprise"
    )
    home = parser.add_mutually_exclusive_group(required=True)
    home.add_argument(
        "--repository", metavar="OWNER/REPO", help="the repository whose webhooks are meant, or"
    )
    home.add_argument(
        "--organization", metavar="ORG", help="the organization whose own webhooks are"
    )
    parser.add_argument(
        "--hook",
        metavar="ID",
        help="only this webhook: the number at the end of its page's address; all active ones that "
        f"point at {_PATH} where left out",
    )
    parser.add_argument(
        "--url",
        metavar="PREFIX",
        help=f"the active webhooks whose URL begins so, rather than those that point at {_PATH}",
    )
    parser.add_argument(
        "--since",
        default="3d",
        metavar="AGE",
        help="only attempts since then: 90m, 6h, 3d, or a time (default: %(default)s, as long as "
        "GitHub redelivers)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only tell what would be requested again"
    )
    shared.define_secrets(
        parser,
        f"the folder that has the token in a file {_TOKEN}, where no variable of that name is set",
    )
    parser.add_argument(
        "--api-url",
        default="https://api.github.com",
        metavar="URL",
        help="the API, of a GitHub Enterprise Server https://HOST/api/v3 (default: %(default)s)",
    )
    shared.define_format(parser, "one object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 where all was requested again that did not arrive, 1 where some was not; raises SettingsError
    where nothing could be told of the deliveries."""
    home = _home(options)
    since = journals.since(options.since, "--since")
    reading = Progress(None, "attempts read")
    github = GitHub(_api_url(options.api_url), _token(options.secrets), reading.note)
    try:
        found = [
            (hook, github.attempts(home, hook, since, reading.update))
            for hook in _hooks(options, home, github)
        ]
    except GitHubError as error:
        raise SettingsError(str(error)) from error
    finally:
        reading.done()
    searches = []
    for hook, attempts in found:
        missing = redelivery.lost(attempts.found)
        lost = _planned(missing) if options.dry_run else _requested(github, home, hook, missing)
        searches.append(Search(hook.id, hook.url, len(attempts.found), attempts.complete, lost))
    _tell(options, home, since, searches)
    whole = all(search.complete for search in searches)
    return 0 if whole and not _of(searches, "refused") else 1


def _home(options: argparse.Namespace) -> Home:
    if options.organization is not None:
        if not re.fullmatch(_NAME, options.organization):
            raise SettingsError(f"--organization is `{options.organization}`, expected its name")
        return organization(options.organization)
    match = re.fullmatch(f"({_NAME})/({_NAME})", options.repository)
    if match is None:
        raise SettingsError(f"--repository is `{options.repository}`, expected OWNER/REPO")
    return repository(match[1], match[2])


def _api_url(url: str) -> str:
    usable = servers.is_server(url)
    if not usable or (parts := urlsplit(url)).query or parts.fragment or parts.username is not None:
        raise SettingsError("--api-url is no base URL such as https://api.github.com")
    if not is_private(url):
        raise SettingsError(f"--api-url is `{url}`: the token would cross the network readable")
    return url


def _token(folder: Path) -> str:
    token = settings.secret(_TOKEN, "", os.environ, folder)
    if token is None:
        raise SettingsError(
            f"there is no token: set {_TOKEN}, or write it to {settings.secret_file(_TOKEN, '', folder)}"
        )
    if not re.fullmatch(r"[!-~]+", token):
        raise SettingsError(
            f"{_TOKEN} is no token: it is empty, or has spaces or line breaks in it"
        )
    return token


def _hooks(options: argparse.Namespace, home: Home, github: GitHub) -> list[Hook]:
    if options.hook is not None:
        if not re.fullmatch(r"[0-9]{1,18}", options.hook):
            raise SettingsError(f"--hook is `{options.hook}`, expected the number of a webhook")
        return [github.hook(home, int(options.hook))]
    hooks = github.hooks(home)
    chosen = [hook for hook in hooks if hook.active and _is_ours(hook, options.url)]
    if chosen:
        return chosen
    wanted = f"begins with {options.url}" if options.url else f"points at {_PATH}"
    there = ", ".join(f"{hook.id} {hook.url}{' (off)' * (not hook.active)}" for hook in hooks)
    raise SettingsError(
        f"no active webhook of {home.name} {wanted}; there "
        + (f"are: {there}; choose with --hook or --url" if hooks else "are none")
    )


def _is_ours(hook: Hook, prefix: str | None) -> bool:
    if prefix is not None:
        return hook.config.url.startswith(prefix)
    return urlsplit(hook.config.url).path.rstrip("/").endswith(_PATH)


def _planned(missing: list[Attempt]) -> list[Lost]:
    return [_lost(attempt, "planned") for attempt in missing]


def _requested(github: GitHub, home: Home, hook: Hook, missing: list[Attempt]) -> list[Lost]:
    """What came of each request; once one fails for a reason that holds for all, no more are made."""
    progress = Progress(len(missing), "deliveries requested again")
    results: list[Lost] = []
    hopeless = ""
    for attempt in missing:
        reason = hopeless
        if not hopeless:
            try:
                github.redeliver(home, hook, attempt)
            except RefusedError as error:
                reason = str(error)
            except GitHubError as error:
                reason = hopeless = str(error)
        results.append(_lost(attempt, "refused" if reason else "requested", reason))
        progress.update(len(results))
    progress.done()
    return results


def _lost(attempt: Attempt, outcome: str, reason: str = "") -> Lost:
    return Lost(
        id=attempt.id,
        guid=attempt.guid,
        event=attempt.event,
        action=attempt.action,
        delivered_at=attempt.delivered_at.timestamp(),
        status=attempt.status,
        status_code=attempt.status_code,
        outcome=outcome,
        reason=reason,
    )


def _of(searches: list[Search], outcome: str) -> int:
    return sum(lost.outcome == outcome for search in searches for lost in search.lost)


def _tell(options: argparse.Namespace, home: Home, since: float, searches: list[Search]) -> None:
    if options.format == "json":
        document = {"of": home.name, "since": since, "hooks": searches}
        print(msgspec.json.encode(document).decode())
        return
    for search in searches:
        print(
            f"webhook {search.hook} {search.url}: {len(search.lost)} did not arrive, of "
            f"{search.attempts} attempts since {journals.moment(since)}"
        )
        if not search.complete:
            print(f"  only its latest {PAGE * PAGES} attempts were read; ask for less with --since")
        for lost in search.lost:
            print(_line(lost))
    counts = {outcome: _of(searches, outcome) for outcome in ("requested", "refused", "planned")}
    told = [f"{count} {outcome}" for outcome, count in counts.items() if count]
    print(", ".join(told) or "nothing to request")


def _line(lost: Lost) -> str:
    event = f"{lost.event}.{lost.action}" if lost.action else lost.event
    answer = lost.status_code or "no answer,"
    line = (
        f"  {lost.outcome}  {lost.guid}  {journals.moment(lost.delivered_at)}  {event}: "
        f"{answer} {lost.status}"
    )
    return f"{line}\n    {lost.reason}" if lost.reason else line
