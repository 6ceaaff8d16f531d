"""Secrets as an operator hands them over: where they may lie, and what is refused at the start and later."""

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import settings
from gateway.settings import MAX_SECRET, SettingsError
from tests.harness import hub_signature, request, run_cli, run_process, running

GOOD = "sixteen bytes, ok"
RULES = (
    "rules: [{name: all, emit: deploytime, fields: {app: body.a, commit: body.c, "
    "timestamp: received_at}}]\n"
)


def _mapping(secret: str, scheme: str = "hmac, header: X-Signature, prefix: sha256=") -> str:
    return f"source: shop\nauthenticate: {{scheme: {scheme}, secret: {secret}}}\n{RULES}"


REFUSED = [
    ("", "is shorter than 16 bytes"),
    ("\n", "is shorter than 16 bytes"),
    ("fifteen bytes..", "is shorter than 16 bytes"),
    ("fifteen bytes..\n", "is shorter than 16 bytes"),
    ("fifteen bytes..\r\n", "is shorter than 16 bytes"),
    (GOOD + "\n\n", "a line break or another control character"),
    (GOOD + "\r", ""),
    ("\ufeff", "is shorter than 16 bytes"),
    ("\x00" * 32, "a line break or another control character"),
]
"""Contents of a file, and the refusal; none where it is a good secret."""


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_an_empty_or_short_secret_is_refused_wherever_it_comes_from(
    tmp_path: Path, text: str, words: str
) -> None:
    """From the secrets folder, a path or a variable; a line break at the end of a file does not make it
    longer. Row 6 of the table in docs/explanation/security.md."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/SHOP_SECRET").write_bytes(text.encode())
    for reference in ("{env: SHOP_SECRET}", "{file: secrets/SHOP_SECRET}"):
        (tmp_path / "shop.yaml").write_text(_mapping(reference))
        found = run_cli(
            *("sources", "shop", "--mappings", "shop.yaml", "--secrets", "secrets"), cwd=tmp_path
        )
        assert found.returncode == (2 if words else 0), found
        assert words in found.stderr
    variable = text.removesuffix("\n").removesuffix("\r")
    if words and "\x00" not in text:
        (tmp_path / "shop.yaml").write_text(_mapping("{env: SHOP_SECRET}"))
        environment = {"SHOP_SECRET": variable}
        run = run_cli("sources", "--mappings", "shop.yaml", cwd=tmp_path, environment=environment)
        assert words in run.stderr


@pytest.mark.parametrize("text", ["", "short"])
def test_the_gateway_does_not_start_with_one(tmp_path: Path, text: str) -> None:
    """In one sentence that names it, and exit code 2. Row 6."""
    for environment in ({"GITHUB_WEBHOOK_SECRET": text}, {}):
        folder = tmp_path / "secrets"
        folder.mkdir(exist_ok=True)
        (folder / "GITHUB_WEBHOOK_SECRET").write_text(f"{text}\n")
        run = run_process("serve", "--secrets", str(folder), cwd=tmp_path, environment=environment)
        assert run.returncode == 2
        assert "the secret GITHUB_WEBHOOK_SECRET of the source `github` is shorter" in run.stderr


def test_a_reload_does_not_take_one_over(tmp_path: Path) -> None:
    """Nothing changes, and what was served before is served on. Row 6."""
    (tmp_path / "shop.yaml").write_text(_mapping("{file: shop.secret}"))
    (tmp_path / "shop.secret").write_text(f"{GOOD}\n")
    arguments = ("--mappings", "shop.yaml", "--watch", "0")
    with running(tmp_path, *arguments, environment={}) as gateway:
        headers = {"X-Signature": hub_signature(b"{}", GOOD)}
        for text in ("", "\n", "fifteen bytes..\n"):
            (tmp_path / "shop.secret").write_text(text)
            answer = request(gateway.internal, "POST", "/-/reload", b"")
            assert answer.status == 422
            assert "is shorter than 16 bytes" in answer.json()["detail"]
            assert gateway.post("/hooks/shop", b"{}", headers).status == 202
            forged = {"X-Signature": hub_signature(b"{}", "")}
            assert gateway.post("/hooks/shop", b"{}", forged).status == 401


def test_what_is_encoded_is_measured_decoded(tmp_path: Path) -> None:
    """A secret of Standard Webhooks is as long as its bytes. Row 6."""
    (tmp_path / "shop.yaml").write_text(_mapping("{env: SHOP_SECRET}", "standard-webhooks"))
    for size, code in ((15, 2), (16, 0)):
        secret = "whsec_" + base64.b64encode(os.urandom(size)).decode()
        environment = {"SHOP_SECRET": secret}
        run = run_cli("sources", "--mappings", "shop.yaml", cwd=tmp_path, environment=environment)
        assert run.returncode == code, run
        assert secret[6:] not in run.stdout + run.stderr


# Where they lie


def _write(path: Path) -> None:
    path.write_text("outside, and a secret")


def _link(path: Path) -> None:
    _write(path.with_name("target"))
    path.symlink_to("target")


def _mounted(path: Path) -> None:
    """As Kubernetes mounts a Secret: through a link to a folder."""
    (path.parent / "..2026").mkdir()
    _write(path.parent / "..2026" / path.name)
    (path.parent / "..data").symlink_to("..2026")
    path.symlink_to(Path("..data") / path.name)


@pytest.mark.parametrize("make", [_write, _link, _mounted])
@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])
def test_a_file_may_lie_wherever_the_operator_says(
    tmp_path: Path, make: Callable[[Path], None], absolute: bool
) -> None:
    """A mapping is the operator's, and so is what it names. Row 44 of the table in
    docs/explanation/security.md."""
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    make(outside / "secret")
    (tmp_path / "here").mkdir()
    path = outside / "secret" if absolute else Path("../elsewhere/secret")
    (tmp_path / "here/shop.yaml").write_text(_mapping(f"{{file: {path}}}"))
    run = run_cli("sources", "shop", "--mappings", "shop.yaml", cwd=tmp_path / "here")
    assert f"{path} is set" in run.stdout
    assert "and a secret" not in run.stdout + run.stderr


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "a/b", "..", "", "A B", "A\\nB", "${HOME}", "A.B"]
)
def test_a_name_leads_nowhere_but_into_the_folder(tmp_path: Path, name: str) -> None:
    """What `env` names is a variable, or a file of that name in the secrets folder; so it is no path. Row
    44."""
    (tmp_path / "shop.yaml").write_text(_mapping(f'{{env: "{name}"}}'))
    run = run_cli("check", "shop.yaml", cwd=tmp_path)
    assert run.returncode == 1
    assert "error[secret-reference]" in run.stdout


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/proc/self/environ", "control character"),
        ("/dev/zero", "it is no file"),
        ("/dev/stdin", "it is no file"),
        ("pipe", "it is no file"),
        ("folder", "Is a directory"),
        ("large", f"it is larger than {MAX_SECRET} bytes"),
        ("latin", "it is not UTF-8"),
        ("shop.yaml", "control character"),
    ],
)
def test_what_holds_no_secret_is_refused_at_once(tmp_path: Path, path: str, words: str) -> None:
    """Devices, pipes and folders; what is too large or no text: without waiting, and without a word of
    what is in it. Row 44."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(b"canary-" * (MAX_SECRET // 7 + 1))
    (tmp_path / "latin").write_bytes(b"canary-\xe9-and-enough-of-it")
    (tmp_path / "shop.yaml").write_text(_mapping(f"{{file: {path}}}"))
    run = run_process(
        *("sources", "--mappings", "shop.yaml"),
        cwd=tmp_path,
        stdin="canary-" * 5,
        environment={"CANARY": "canary-" * 5},
    )
    assert run.returncode == 2
    assert words in run.stderr
    assert "canary-" not in run.stdout + run.stderr
    assert "0xe9" not in run.stderr


def test_one_line_break_at_the_end_is_no_part_of_it(tmp_path: Path) -> None:
    """As editors and `kubectl create secret` leave it; two are a mistake. Row 6."""
    for text, expected in (("abc\n", "abc"), ("abc\r\n", "abc"), ("abc", "abc"), ("a\n\n", "a\n")):
        (tmp_path / "NAME").write_bytes(text.encode())
        assert settings.secret("NAME", "", {}, tmp_path) == expected
    assert settings.secret("NAME", "", {"NAME": "of the environment"}, tmp_path) is not None
    assert settings.secret("OTHER", "", {}, tmp_path) is None
    with pytest.raises(SettingsError, match="it is no file"):
        settings.secret("", "/dev/null", {}, tmp_path)
