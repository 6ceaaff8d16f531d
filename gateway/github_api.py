"""GitHub's API of webhooks: what it tried to deliver, and the request to try again, within its limits."""

import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import IO, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec
from msgspec import Struct

from gateway.redelivery import Attempt

TIMEOUT = 30
"""Seconds for each step of a request."""
PATIENCE = 900
"""Seconds that are waited in all, for limits and for failures to pass."""
TRIALS = 4
PAGES = 500
PAGE = 100
PACE = 1
"""Seconds between two requests that change something, as GitHub asks for."""
_LARGEST = 16 * 1024 * 1024
_FORBIDDEN = (403, 429)
T = TypeVar("T")


class GitHubError(Exception):
    """GitHub cannot be asked, or will not answer any such request; the message says why, and the mend."""


class RefusedError(GitHubError):
    """GitHub refuses this one request; others may be granted."""


class Home(Struct, frozen=True):
    """Where webhooks belong. `path` is below the API, `name` is for people, and so is `permission`: what
    a token needs to list deliveries there and to request them again."""

    name: str
    path: str
    permission: str


class Config(Struct, frozen=True):
    url: str = ""


class Hook(Struct, frozen=True):
    id: int
    active: bool = True
    config: Config = Config()

    @property
    def url(self) -> str:
        """Where it delivers to, without what may be secret: a query and a password."""
        parts = urlsplit(self.config.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class Attempts(Struct, frozen=True):
    """What was read of a hook's attempts, the latest first, and whether it is all there is."""

    found: list[Attempt]
    complete: bool


class Answer(Struct, frozen=True):
    """`status` is 0 where none came, and `body` then says why."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


def repository(owner: str, name: str) -> Home:
    """The webhooks of a repository."""
    return Home(
        f"{owner}/{name}",
        f"/repos/{quote(owner)}/{quote(name)}/hooks",
        "a fine-grained token needs the repository permission `Webhooks: read and write`, a classic "
        "one the scope `admin:repo_hook`, and its user has to administer the repository",
    )


def organization(name: str) -> Home:
    """The webhooks of an organization."""
    return Home(
        name,
        f"/orgs/{quote(name)}/hooks",
        "a fine-grained token needs the organization permission `Webhooks: read and write`, a classic "
        "one the scope `admin:org_hook`, and its user has to own the organization",
    )


def is_private(url: str) -> bool:
    """Does what is sent to a URL stay unread by others: by TLS, or on this machine?"""
    parts = urlsplit(url)
    if parts.scheme != "http":
        return parts.scheme == "https"
    try:
        return parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


class GitHub:
    """The API at a base URL, asked with a token, one request after another. `say` is told of every wait.
    Every method raises GitHubError; no message holds the token."""

    def __init__(
        self,
        url: str,
        token: str,
        say: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._say = say
        self._sleep = sleep
        # With one context: the certificates would otherwise be loaded for every request.
        tls = urllib.request.HTTPSHandler(context=ssl.create_default_context())
        # Without TLS, which is for this machine alone, a proxy would read the token.
        proxies: dict[str, str] | None = None if self._url.startswith("https:") else {}
        proxy = urllib.request.ProxyHandler(proxies)
        self._open = urllib.request.build_opener(_SameOrigin, tls, proxy).open
        self._waited = 0.0
        self._spent_until = 0.0
        self._changed_at = float("-inf")

    def hooks(self, home: Home) -> list[Hook]:
        """All webhooks there."""
        return [
            hook for page in self._pages(home, home.path, "webhooks", list[Hook]) for hook in page
        ]

    def hook(self, home: Home, number: int) -> Hook:
        """The webhook of an id."""
        what = f"webhook {number}"
        return self._decoded(self._asked(home, "GET", f"{home.path}/{number}", what), what, Hook)

    def attempts(
        self, home: Home, hook: Hook, since: float, seen: Callable[[int], None]
    ) -> Attempts:
        """The attempts at deliveries of a hook since a time in epoch seconds; `seen` is told of how many
        as they come."""
        what = f"the deliveries of webhook {hook.id}"
        found: list[Attempt] = []
        path = f"{home.path}/{hook.id}/deliveries"
        for number, page in enumerate(self._pages(home, path, what, list[Attempt]), 1):
            recent = [one for one in page if one.delivered_at.timestamp() >= since]
            found += recent
            seen(len(found))
            if len(recent) < len(page):
                break
            if number == PAGES:
                return Attempts(found, complete=False)
        return Attempts(found, complete=True)

    def redeliver(self, home: Home, hook: Hook, attempt: Attempt) -> None:
        """Has a delivery attempted once more. Raises RefusedError where only this one is refused."""
        self._sleep(max(0.0, self._changed_at + PACE - time.monotonic()))
        path = f"{home.path}/{hook.id}/deliveries/{attempt.id}/attempts"
        try:
            self._asked(home, "POST", path, f"delivery {attempt.id}")
        finally:
            self._changed_at = time.monotonic()

    def _pages(self, home: Home, path: str, what: str, kind: type[list[T]]) -> Iterator[list[T]]:
        """A list page by page, at most PAGES of them. Of a link to the next page only the query is used,
        so no answer can send the token elsewhere."""
        query: list[tuple[str, str]] = [("per_page", str(PAGE))]
        for _ in range(PAGES):
            answer = self._asked(home, "GET", f"{path}?{urlencode(query)}", what)
            yield self._decoded(answer, what, kind)
            following = _next(answer.headers.get("link", ""))
            if not following:
                return
            query = parse_qsl(urlsplit(following).query)

    def _decoded(self, answer: Answer, what: str, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise GitHubError(
                f"what {self._url} answers for {what} is not GitHub's API ({error}); check --api-url"
            ) from error

    def _asked(self, home: Home, method: str, path: str, what: str) -> Answer:
        """The 2xx that a request gets in the end."""
        for trial in range(TRIALS):
            if self._spent_until > time.time():
                self._wait(self._spent_until - time.time(), "GitHub's rate limit is used up")
            answer = self._once(method, path)
            self._spent_until = _spent_until(answer)
            if 200 <= answer.status < 300:
                return answer
            pause = _pause(answer, trial)
            if trial + 1 == TRIALS or pause is None:
                break
            if not self._spent_until:
                self._wait(*pause)
        raise self._error(answer, home, what)

    def _wait(self, seconds: float, reason: str) -> None:
        if self._waited + seconds > PATIENCE:
            raise GitHubError(
                f"{reason}: it asks to wait {seconds:.0f} s, and no more than {PATIENCE} s are "
                "waited in all; run it again later"
            )
        self._waited += seconds
        self._say(f"{reason}: waiting {round(seconds, 1):g} s")
        self._sleep(seconds)

    def _once(self, method: str, path: str) -> Answer:
        request = urllib.request.Request(  # noqa: S310  # The caller has checked the scheme.
            self._url + path,
            method=method,
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {self._token}",
                "User-Agent": "pelorus-gateway",
                "X-GitHub-Api-Version": "2022-11-28",
            },
        )
        try:
            with self._open(request, timeout=TIMEOUT) as response:
                return _answer(response.status, response)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error)
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise GitHubError(
                    f"the certificate of {self._url} is not to be trusted ({cause.verify_message}); "
                    "for an authority of your own set SSL_CERT_FILE to its certificate"
                ) from error
            reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
            return Answer(0, reason.encode())

    def _error(self, answer: Answer, home: Home, what: str) -> GitHubError:
        told = f"{answer.status} {self._message(answer)}".rstrip()
        match answer.status:
            case 0:
                return GitHubError(f"{self._url} does not answer ({self._message(answer)})")
            case 401:
                return GitHubError(
                    f"GitHub does not take the token ({told}): it is wrong, expired or revoked"
                )
            case status if status in _FORBIDDEN and _limited(answer):
                return GitHubError(
                    f"GitHub's rate limit does not give way ({told}); run it again later"
                )
            case 403:
                return GitHubError(
                    f"GitHub forbids {what} of {home.name} ({told}): {home.permission}"
                )
            case 404:
                return RefusedError(
                    f"GitHub shows no {what} of {home.name} ({told}): the name is wrong, or the token "
                    f"may not see it: {home.permission}"
                )
            case 301 | 302 | 303 | 307 | 308:
                return GitHubError(f"{self._url} refers to another host ({told}); check --api-url")
            case _:
                return RefusedError(f"GitHub refuses {what} of {home.name} ({told})")

    def _message(self, answer: Answer) -> str:
        """What an answer says, on one line, without the token should it be in there."""
        text = _words(answer).replace(self._token, "[token]")
        return "".join(character if character.isprintable() else " " for character in text)[:300]


class _SameOrigin(urllib.request.HTTPRedirectHandler):
    """Follows a renamed repository with the same method and token, and never to another host."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        here, there = urlsplit(req.full_url), urlsplit(newurl)
        if (here.scheme, here.netloc) != (there.scheme, there.netloc):
            return None
        return urllib.request.Request(  # noqa: S310  # It is the scheme of before.
            newurl, headers=dict(req.header_items()), method=req.get_method()
        )


def _answer(status: int, response: http.client.HTTPResponse | urllib.error.HTTPError) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status, response.read(_LARGEST), headers)


def _words(answer: Answer) -> str:
    """The `message` of an error of GitHub's; the whole text of one that comes from elsewhere."""
    try:
        return str(msgspec.json.decode(answer.body, type=dict[str, object]).get("message") or "")
    except (msgspec.DecodeError, msgspec.ValidationError):
        return answer.body.decode(errors="replace").strip()


def _next(link: str) -> str:
    """The target of `rel="next"` in a Link header, or nothing."""
    for part in link.split(","):
        target, _, parameters = part.partition(";")
        if 'rel="next"' in parameters:
            return target.strip().strip("<>")
    return ""


def _spent_until(answer: Answer) -> float:
    """Until when by this machine's clock no request is left, 0 where some are. GitHub says it by its own
    clock, and what that shows."""
    reset = answer.headers.get("x-ratelimit-reset", "")
    if answer.headers.get("x-ratelimit-remaining") != "0" or not reset.isdigit():
        return 0.0
    return time.time() + max(1.0, int(reset) - _date(answer).timestamp() + 1)


def _date(answer: Answer) -> datetime:
    try:
        return parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return datetime.now().astimezone()


def _limited(answer: Answer) -> bool:
    """Is a refusal one for asking too often?"""
    return (
        answer.status == 429
        or "retry-after" in answer.headers
        or _spent_until(answer) > 0
        or "secondary rate limit" in _words(answer).lower()
    )


def _pause(answer: Answer, trial: int) -> tuple[float, str] | None:
    """How many seconds to wait before the next trial, and why; None where it would be of no use."""
    if answer.status == 0 or answer.status >= 500:
        return 0.5 * 2**trial, f"GitHub fails ({answer.status or 'no answer'})"
    if answer.status not in _FORBIDDEN or not _limited(answer):
        return None
    after = answer.headers.get("retry-after", "")
    if after.isdigit():
        return int(after), "GitHub asks for a pause"
    return 60 * 2**trial, "GitHub asks for a pause"
