"""Small payloads of our own, shaped as the vendors shape theirs."""

from datetime import UTC, datetime
from typing import Any

SHA = "4f1c0ffee0ddba11c0ffee0ddba11c0ffee0ddba"
IMAGE = "sha256:" + "ab" * 32


def iso(seconds: float) -> str:
    """`2026-01-31T09:30:00Z`"""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def github_push(repository: str, sha: str, committed: float, *more: str) -> dict[str, Any]:
    """A push of one commit or several, all made at the same time."""
    shas = (sha, *more)
    return {
        "ref": "refs/heads/main",
        "deleted": False,
        "after": shas[-1],
        "repository": {"full_name": repository, "name": repository.rpartition("/")[2]},
        "commits": [
            {
                "id": one,
                "timestamp": iso(committed),
                "url": f"https://github.com/{repository}/commit/{one}",
            }
            for one in shas
        ],
    }


def github_merge(repository: str, sha: str, merged: float) -> dict[str, Any]:
    """A pull request that was merged as this commit."""
    return {
        "action": "closed",
        "repository": {
            "full_name": repository,
            "html_url": f"https://github.com/{repository}",
        },
        "pull_request": {
            "merged": True,
            "merge_commit_sha": sha,
            "merged_at": iso(merged),
            "base": {"ref": "main"},
        },
    }


def github_package(repository: str, sha: str, image: str) -> dict[str, Any]:
    """A container image that was published, with the commit that it was built from."""
    return {
        "action": "published",
        "repository": {"full_name": repository},
        "package": {
            "package_version": {
                "version": image,
                "container_metadata": {"labels": {"revision": sha}},
            }
        },
    }


def github_deployment(
    repository: str, sha: str, finished: float, environment: str = "production"
) -> dict[str, Any]:
    """A deployment that succeeded."""
    return {
        "action": "created",
        "repository": {"full_name": repository},
        "deployment": {"sha": sha, "environment": environment, "payload": {}},
        "deployment_status": {"state": "success", "created_at": iso(finished)},
    }


def github_issue(
    repository: str, number: int, action: str, created: float, closed: float | None = None
) -> dict[str, Any]:
    """An issue with the label `bug`, open or closed."""
    return {
        "action": action,
        "repository": {"full_name": repository},
        "issue": {
            "number": number,
            "state": "closed" if closed else "open",
            "labels": [{"name": "bug"}],
            "created_at": iso(created),
            "closed_at": iso(closed) if closed else None,
        },
    }


def gitlab_push(project: str, sha: str, committed: float) -> dict[str, Any]:
    """A push of one commit."""
    return {
        "object_kind": "push",
        "ref": "refs/heads/main",
        "project": {"path_with_namespace": project},
        "commits": [
            {
                "id": sha,
                "timestamp": iso(committed),
                "url": f"https://gitlab.example/{project}/-/commit/{sha}",
            }
        ],
    }


def gitlab_deployment(project: str, sha: str, finished: float) -> dict[str, Any]:
    """A deployment to production that succeeded, its time spelled as GitLab spells it."""
    moment = datetime.fromtimestamp(finished, UTC).strftime("%Y-%m-%d %H:%M:%S +0000")
    return {
        "object_kind": "deployment",
        "status": "success",
        "environment": "production",
        "status_changed_at": moment,
        "project": {"path_with_namespace": project},
        "short_sha": sha[:8],
        "commit_url": f"https://gitlab.example/{project}/-/commit/{sha}",
    }


def gitlab_incident(
    project: str, number: int, action: str, created: float, closed: float | None = None
) -> dict[str, Any]:
    """An incident, its times spelled as GitLab spells them."""

    def spelled(moment: float | None) -> str | None:
        if moment is None:
            return None
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

    return {
        "object_kind": "issue",
        "project": {"path_with_namespace": project},
        "labels": [],
        "object_attributes": {
            "iid": number,
            "type": "Incident",
            "action": action,
            "created_at": spelled(created),
            "closed_at": spelled(closed),
        },
    }


def jira_issue(
    key: str, event: str, created: float, resolved: float | None = None
) -> dict[str, Any]:
    """A bug, created or done, its times spelled as Jira spells them."""

    def spelled(moment: float | None) -> str | None:
        if moment is None:
            return None
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")

    return {
        "webhookEvent": event,
        "timestamp": int((resolved or created) * 1000),
        "issue": {
            "key": key,
            "fields": {
                "project": {"key": key.partition("-")[0]},
                "issuetype": {"name": "Bug"},
                "status": {"statusCategory": {"key": "done" if resolved else "new"}},
                "created": spelled(created),
                "resolutiondate": spelled(resolved),
            },
        },
        "changelog": {"items": [{"field": "status"}] if resolved else []},
    }


def pelorus_commit(app: str, sha: str, image: str, committed: float) -> dict[str, Any]:
    """A commit and the image built from it."""
    return {
        "app": app,
        "commit_hash": sha,
        "image_sha": image,
        "namespace": app,
        "timestamp": int(committed),
    }


def pelorus_deployment(app: str, image: str, finished: float) -> dict[str, Any]:
    """A deployment of an image."""
    return {"app": app, "image_sha": image, "namespace": app, "timestamp": int(finished)}


def pelorus_failure(app: str, number: str, event: str, moment: float) -> dict[str, Any]:
    """A failure, `created` or `resolved`."""
    return {
        "app": app,
        "failure_id": number,
        "failure_event": event,
        "timestamp": int(moment),
    }
