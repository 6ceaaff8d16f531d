"""Functions that take names out of addresses: of images, of URLs and of repositories."""

import re

from gateway.mapping.functions.entry import Example, Group

GROUP = Group("Images and addresses")

# Patterns stay texts, which `re` compiles when they are first used: most mappings need none of them.
#
# The grammar of image references, as the OCI distribution specification and its implementations have
# it. No part of a pattern can match the same text in two ways, so none backtracks far.
_HOST = (
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
    r"|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
)
_REPOSITORY = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = (
    r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
    r"|(?!sha256:|sha512:)[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,128})"
)
_IDENTIFIER = r"(?:sha256:)?[0-9a-f]{64}|sha512:[0-9a-f]{128}"
"""What an image is known by without a name; it would pass for a name, or for one with a tag."""
_MAX_REPOSITORY = 255
_MAX_IMAGE = 1_000
_HUB = "docker.io"

_DIGEST_OF_EXAMPLE = "sha256:" + "4f1c0ffe" * 8


@GROUP.function(
    "parse_image(subject: string) -> object|null",
    """The `registry`, `repository`, `tag` and `digest` of an image's name. A name without a registry is
    one of `docker.io`, and there a repository without a slash is one of `library`, so that all
    spellings of an image come out alike. `tag` and `digest` are `null` where the name has none; `latest`
    is not made up. Text that names no image is `null`, a digest alone as well.""",
    Example(
        "parse_image('ghcr.io/octo/shop:1.4.0')",
        '{"registry": "ghcr.io", "repository": "octo/shop", "tag": "1.4.0", "digest": null}',
    ),
    Example(
        "parse_image(body.image).digest",
        f'"{_DIGEST_OF_EXAMPLE}"',
        f'{{"image": "localhost:5000/octo/shop:1.4.0@{_DIGEST_OF_EXAMPLE}"}}',
    ),
    Example("parse_image('localhost:5000/octo/shop').registry", '"localhost:5000"'),
    Example(
        "parse_image('nginx')",
        '{"registry": "docker.io", "repository": "library/nginx", "tag": null, "digest": null}',
    ),
    Example("parse_image('not an image')", "null"),
    Example("parse_image('not an image').tag", "null"),
    keywords=(
        "image",
        "docker",
        "oci",
        "registry",
        "digest",
        "tag",
        "container",
        "image_normalize",
    ),
)
def parse_image(subject: str) -> dict[str, str | None] | None:
    if len(subject) > _MAX_IMAGE:
        return None
    name, at, digest = subject.partition("@")
    folder, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    registry, repository = _registry(f"{folder}{slash}{last}")
    parts = [
        (_HOST, registry),
        (_REPOSITORY, repository),
        *([(_TAG, tag)] if colon else []),
        *([(_DIGEST, digest)] if at else []),
    ]
    if not all(re.fullmatch(pattern, part) for pattern, part in parts):
        return None
    if len(repository) > _MAX_REPOSITORY or re.fullmatch(_IDENTIFIER, subject):
        return None
    return {
        "registry": registry,
        "repository": repository,
        "tag": tag or None,
        "digest": digest or None,
    }


def _registry(name: str) -> tuple[str, str]:
    """A name's registry and the rest. Its first part is a registry's host where it could be nothing
    else: a folder on Docker Hub holds no dot, no port and no capitals."""
    first, slash, rest = name.partition("/")
    is_host = slash and (set(first) & set(".:") or first == "localhost" or first != first.lower())
    registry, repository = (first, rest) if is_host else (_HUB, name)
    if registry == f"index.{_HUB}":
        registry = _HUB
    if registry == _HUB and repository and "/" not in repository:
        repository = f"library/{repository}"
    return registry, repository


_URL = (
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:[^/?#\s@]*@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^/?#\s@:]*)(?::[0-9]*)?(?P<path>/[^?#\s]*)?(?:[?#]\S*)?"
)
_REMOTE = r"[^/?#\s@:]+@(?P<host>[^/?#\s@:]+):(?P<path>[^?#\s]+)"


@GROUP.function(
    "repository_path(subject: string) -> string|null",
    """The path of a repository on its host, such as `octo/shop`, from its page's URL or from what `git
    clone` takes. Slashes around it and `.git` at its end are left out. `null` for text that is
    neither.""",
    Example("repository_path('https://github.com/octo/shop.git')", '"octo/shop"'),
    Example("repository_path('git@gitlab.example:octo/web/shop.git')", '"octo/web/shop"'),
    Example("repository_path('ssh://git@git.example:7999/octo/shop')", '"octo/shop"'),
    Example(
        "repository_path(body.repo)", '"octo/shop"', '{"repo": "https://git.example/octo/shop/"}'
    ),
    Example("repository_path('octo/shop')", "null"),
    keywords=(
        "repo",
        "repository",
        "owner",
        "project_path",
        "git",
        "slug",
        "full_name",
        "clone_url",
    ),
)
def repository_path(subject: str) -> str | None:
    found = re.fullmatch(_URL, subject) or re.fullmatch(_REMOTE, subject)
    path = (found["path"] or "").strip("/").removesuffix(".git").rstrip("/") if found else ""
    return path or None


@GROUP.function(
    "url_host(url: string) -> string|null",
    """The host of a URL in lower case, without user and port. `null` for text that is no URL with a
    scheme, and where there is no host.""",
    Example("url_host('https://ci@Git.Example:8443/octo/shop')", '"git.example"'),
    Example("url_host('git.example/octo')", "null"),
    keywords=("hostname", "domain", "host", "parse_url", "server"),
)
def url_host(url: str) -> str | None:
    found = re.fullmatch(_URL, url)
    return found["host"].lower() or None if found else None


@GROUP.function(
    "url_path(url: string) -> string|null",
    """The path of a URL with its first slash, without query and fragment; percent signs stay as they
    are. `null` for text that is no URL with a scheme.""",
    Example("url_path('https://git.example/octo/shop/commit/4f1c0ff?w=1#top')",
            '"/octo/shop/commit/4f1c0ff"'),
    Example("split(url_path('https://git.example/octo/shop/commit/4f1c0ff'), '/')[-1]", '"4f1c0ff"'),
    Example("url_path('https://git.example')", '"/"'),
    Example("url_path('octo/shop')", "null"),
    keywords=("path", "parse_url", "pathname", "uri"),
)  # fmt: skip
def url_path(url: str) -> str | None:
    found = re.fullmatch(_URL, url)
    return found["path"] or "/" if found else None
