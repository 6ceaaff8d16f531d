"""Requests made ready for a load client: signed GitHub pushes of 8 KB, each a delivery of its own."""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from msgspec import Struct

from tests.harness import GITHUB_SECRET

PATH = "/hooks/github"
REPOSITORIES = 200
"""How many repositories the pushes are of, in turn."""

_BODY = 8 * 1024
_MOMENT = "2026-01-31T10:30:00+01:00"
_OF_REPOSITORY = (
    *("archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits"),
    *("compare", "contents", "contributors", "deployments", "downloads", "events", "forks"),
    *("git_commits", "git_refs", "git_tags", "hooks", "issue_comment", "issue_events", "issues"),
    *("keys", "labels", "languages", "merges", "milestones", "notifications", "pulls", "releases"),
    *("stargazers", "statuses", "subscribers", "subscription", "tags", "teams", "trees"),
)
_OF_USER = (
    *("events", "followers", "following", "gists", "organizations", "received_events", "repos"),
    *("starred", "subscriptions"),
)
# Stand in the payload for what differs between deliveries, at the same length.
_SHA, _REPOSITORY = "@" * 40, "~" * 27


class RequestFile(Struct, frozen=True):
    """Whole HTTP requests of one size behind another in a file. `count` is how many."""

    path: Path
    size: int
    count: int


def pushes(folder: Path, count: int) -> RequestFile:
    """Signed deliveries of pushes, of which each has a commit and an id of its own."""
    return _written(folder / f"pushes-{count}.http", count, _push)


def series(folder: Path, count: int) -> RequestFile:
    """Pushes of one series each, as `prometheus-pushgateway` takes them."""
    return _written(folder / f"series-{count}.http", count, _series)


def push(number: int) -> bytes:
    """The payload of a push of one commit; another number, another commit."""
    return _TEMPLATE.replace(_SHA.encode(), sha(number).encode()).replace(
        _REPOSITORY.encode(), _repository(number).encode()
    )


def large_push(size: int) -> bytes:
    """The payload of a push of four commits that touch so many files that it has about this size in
    bytes."""
    payload = json.loads(push(0))
    commit = payload["head_commit"]
    files = (size - len(push(0))) // (5 * len('"src/basket/part-000/module.py",'))
    commit["modified"] = [f"src/basket/part-{number:03}/module.py" for number in range(files)]
    payload["commits"] = [{**commit, "id": sha(number)} for number in range(4)]
    return _json(payload)


def sha(number: int) -> str:
    return hashlib.sha1(b"commit %d" % number).hexdigest()


def signed(number: int) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a delivery."""
    body = push(number)
    signature = hmac.new(GITHUB_SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/0000000",
        "Accept": "*/*",
        "X-GitHub-Delivery": str(UUID(bytes=hashlib.md5(b"delivery %d" % number).digest())),
        "X-GitHub-Event": "push",
        "X-GitHub-Hook-ID": "400000001",
        "X-GitHub-Hook-Installation-Target-ID": "500000001",
        "X-GitHub-Hook-Installation-Target-Type": "repository",
        "X-Hub-Signature-256": f"sha256={signature}",
    }, body


def _written(path: Path, count: int, make: Callable[[int], bytes]) -> RequestFile:
    size = len(make(0))
    if not (path.exists() and path.stat().st_size == size * count):
        with path.open("wb") as file:
            file.writelines(_of_one_size(make, count, size))
    return RequestFile(path, size, count)


def _of_one_size(make: Callable[[int], bytes], count: int, size: int) -> Iterator[bytes]:
    for number in range(count):
        request = make(number)
        if len(request) != size:
            raise ValueError(f"request {number} has {len(request)} bytes, not {size}")
        yield request


def _push(number: int) -> bytes:
    headers, body = signed(number)
    return _request(PATH, headers, body)


def _series(number: int) -> bytes:
    path = f"/metrics/job/{_repository(number).replace('/', '-')}/commit/{sha(number)}"
    return _request(path, {"Content-Type": "text/plain"}, b"commit_timestamp 1769851800\n")


def _request(path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _repository(number: int) -> str:
    return f"octo-logistics/checkout-{number % REPOSITORIES:03}"


# The payload, in the shape that GitHub documents


def _template() -> bytes:
    """A push of one commit, with marks for what differs; filled up to its size in the description."""
    payload = _payload("")
    missing = _BODY - len(_json(payload))
    return _json(_payload("A shop. " * (missing // 8) + "." * (missing % 8)))


def _payload(description: str) -> dict[str, Any]:
    commit = _commit()
    return {
        "ref": "refs/heads/main",
        "before": "0123456789abcdef0123456789abcdef01234567",
        "after": _SHA,
        "repository": _of_repository(description),
        "pusher": {"name": "mona", "email": "mona@example.com"},
        "sender": _user("mona"),
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": f"https://github.com/{_REPOSITORY}/compare/0123456789ab...{_SHA}",
        "commits": [commit],
        "head_commit": commit,
    }


def _commit() -> dict[str, Any]:
    person = {"name": "Mona", "email": "mona@example.com", "username": "mona"}
    return {
        "id": _SHA,
        "tree_id": "76543210fedcba9876543210fedcba9876543210",
        "distinct": True,
        "message": "Count the items of a basket once\n\nThey were counted again at every reload.",
        "timestamp": _MOMENT,
        "url": f"https://github.com/{_REPOSITORY}/commit/{_SHA}",
        "author": person,
        "committer": person,
        "added": ["src/basket/count.py"],
        "removed": [],
        "modified": ["src/basket/__init__.py", "tests/test_basket.py", "docs/basket.md"],
    }


def _of_repository(description: str) -> dict[str, Any]:
    api, site = f"https://api.github.com/repos/{_REPOSITORY}", f"https://github.com/{_REPOSITORY}"
    return {
        "id": 600000001,
        "node_id": "R_kgDOI8PzAQ",
        "name": _REPOSITORY.rpartition("/")[2],
        "full_name": _REPOSITORY,
        "private": True,
        "owner": {"name": "octo", "email": None, **_user("octo")},
        "html_url": site,
        "description": description,
        "fork": False,
        "url": site,
        **{f"{name}_url": f"{api}/{name}{{/sha}}" for name in _OF_REPOSITORY},
        "created_at": 1700000000,
        "updated_at": "2026-01-30T08:00:00Z",
        "pushed_at": 1769851800,
        "git_url": f"git://github.com/{_REPOSITORY}.git",
        "ssh_url": f"git@github.com:{_REPOSITORY}.git",
        "clone_url": f"{site}.git",
        "homepage": None,
        "size": 4096,
        "stargazers_count": 12,
        "watchers_count": 12,
        "language": "Python",
        "has_issues": True,
        "has_projects": True,
        "has_downloads": True,
        "has_wiki": False,
        "has_pages": False,
        "forks_count": 3,
        "archived": False,
        "disabled": False,
        "open_issues_count": 7,
        "license": None,
        "topics": ["shop", "basket"],
        "visibility": "private",
        "default_branch": "main",
        "master_branch": "main",
    }


def _user(name: str) -> dict[str, Any]:
    api = f"https://api.github.com/users/{name}"
    return {
        "login": name,
        "id": 583231,
        "node_id": "MDQ6VXNlcjU4MzIzMQ==",
        "avatar_url": "https://avatars.githubusercontent.com/u/583231?v=4",
        "gravatar_id": "",
        "url": api,
        "html_url": f"https://github.com/{name}",
        **{f"{one}_url": f"{api}/{one}" for one in _OF_USER},
        "type": "User",
        "site_admin": False,
    }


def _json(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload, separators=(",", ":")).encode()


_TEMPLATE = _template()
