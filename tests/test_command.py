"""The command as a process: what it cannot read, write or reach is one sentence and the exit code 2."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gateway.event import Event, FieldValue
from tests.harness import (
    ROOT,
    SECRETS,
    free_port,
    require_program,
    run_cli,
    run_process,
    run_to_end,
)
from tests.journals import SqliteHome, append, entry

FULL = Path("/dev/full")


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """The flag for a journal with a delivery in it."""
    home = SqliteHome(tmp_path / "journal.sqlite")
    append(home, entry(1))
    return f"--journal={home.url}"


def command(*arguments: str) -> list[str]:
    """The command line of a run that may be refused files, as root's is not otherwise."""
    held: list[str] = []
    if os.geteuid() == 0:
        held = [require_program("setpriv"), "--bounding-set", "-dac_override,-dac_read_search"]
    return [*held, sys.executable, "-m", "gateway", *arguments]


def is_one_sentence(run: subprocess.CompletedProcess[str]) -> bool:
    """Whether a run ended as one that could not do what it was asked."""
    return run.returncode == 2 and run.stderr.count("\n") == 1 and run.stderr.startswith("gateway:")


def test_a_start_on_a_full_disk_names_the_journal(tmp_path: Path) -> None:
    """And not standard output, which has nothing to do with it."""
    ports = (f"--listen=127.0.0.1:{free_port()}", f"--internal-listen=127.0.0.1:{free_port()}")
    full = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (0, 0))
    run = run_to_end(command("serve", *ports), tmp_path, preexec_fn=full)
    assert is_one_sentence(run), run.stderr
    assert "cannot write the journal data/journal.sqlite: File too large" in run.stderr


# Addresses


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:abc", "http://127.0.0.1:99999", "http://[::1", "http://a b/", "http://h/é"],
)
@pytest.mark.parametrize(
    "words",
    [
        ["send", "github", "--url"],
        ["replay", "--dry-run", "--url"],
        ["doctor", "--prometheus"],
        ["redeliver", "github", "--repository", "acme/shop", "--api-url"],
    ],
)
def test_what_is_no_url_is_refused(words: list[str], url: str, tmp_path: Path) -> None:
    """Every command that is told whom to ask refuses what cannot be asked."""
    environment = {**SECRETS, "GITHUB_TOKEN": "a-token"}
    run = run_cli(*words, url, cwd=tmp_path, environment=environment)
    assert is_one_sentence(run), run.stderr
    assert words[-1] in run.stderr


@contextlib.contextmanager
def answering(words: bytes) -> Iterator[str]:
    """A server that answers so, whatever it is asked; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(65_536)
                        connection.sendall(words)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    "words", [["send", "pelorus", "payload.json"], ["replay", "--dry-run"]], ids=lambda one: one[0]
)
def test_what_speaks_no_http_is_said(words: list[str], tmp_path: Path) -> None:
    """Where another program has the port of the gateway."""
    (tmp_path / "payload.json").write_text("{}")
    with answering(b"SSH-2.0-OpenSSH_9.2\r\n") as url:
        run = run_cli(*words, "--url", url, cwd=tmp_path, environment=SECRETS)
    assert is_one_sentence(run), run.stderr
    assert url in run.stderr


def test_a_header_of_any_letters_is_sent_as_it_is_typed(tmp_path: Path) -> None:
    """As its bytes, which is how a server reads a header and how `try` reads it."""
    (tmp_path / "payload.json").write_text("{}")
    given = ("payload.json", "-H", "X-GitHub-Event: déploy✓")
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with answering(answer) as url:
        sent = run_cli("send", "github", *given, "--url", url, cwd=tmp_path, environment=SECRETS)
    assert sent.returncode == 0, sent.stderr
    tried = run_cli("try", "github", *given, cwd=tmp_path)
    assert "déploy✓".encode().decode("latin-1") in tried.stdout


# What means nothing


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["journal", "backup", "-"], "a backup cannot be written to standard output; name a FILE"),
        (["check", ""], "a path is empty"),
        (["send", "github", "payload.json", "--case", "x"], "--case chooses from the source's own"),
        (["send", "github", "payload.json", "--all"], "--all chooses from the source's own"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_what_would_do_something_else_than_it_says_is_refused(
    arguments: list[str], words: str, journal: str, tmp_path: Path
) -> None:
    """And nothing is written."""
    (tmp_path / "payload.json").write_text("{}")
    before = {*tmp_path.iterdir()}
    given = [*arguments, *([journal] if arguments[0] == "journal" else [])]
    run = run_cli(*given, cwd=tmp_path, environment=SECRETS)
    assert is_one_sentence(run), run.stderr
    assert words in run.stderr
    assert {*tmp_path.iterdir()} == before


def test_a_param_of_a_source_that_has_none_is_refused_in_a_whole_sentence(tmp_path: Path) -> None:
    """It ends with what there is to know."""
    (tmp_path / "shop.yaml").write_text(
        "source: shop\nauthenticate: none\nrules:\n  - name: a deployment\n    emit: deploytime\n"
        "    fields: {app: body.app, commit: body.commit, timestamp: body.at}\n"
    )
    run = run_cli(
        *("sources", "--mappings", "shop.yaml"),
        cwd=tmp_path,
        environment={"SHOP_PARAM_STAGE": "live"},
    )
    assert is_one_sentence(run), run.stderr
    assert run.stderr.endswith("SHOP_PARAM_STAGE sets no param of the source `shop`; it has none\n")
    run = run_cli("sources", "--live", "--mappings", "shop.yaml", cwd=tmp_path)
    assert "\n1 source, 1 live" in run.stdout


# Sources that nobody knows


@pytest.mark.parametrize(
    "words", [["try", "shop", "payload.json"], ["sources", "shop"], ["show", "shop"]]
)
def test_an_unknown_source_may_be_one_that_was_not_named(words: list[str], tmp_path: Path) -> None:
    """Beside a gateway that serves it, a command without its flags does not know it. Not all of the
    others are told."""
    (tmp_path / "payload.json").write_text("{}")
    run = run_cli(*words, cwd=tmp_path)
    assert is_one_sentence(run), run.stderr
    assert re.search(r"known: (\S+, ){7}\S+ and [0-9]+ more;", run.stderr), run.stderr
    assert "your own are named by --mappings or GATEWAY_MAPPINGS" in run.stderr
    (tmp_path / "mappings").mkdir()
    run = run_cli(*words, cwd=tmp_path, environment={"GATEWAY_MAPPINGS": "mappings"})
    assert "your own are named" not in run.stderr


@pytest.mark.parametrize("command", ["deliveries", "dead-letters"])
def test_a_search_for_an_unknown_source_says_so(command: str, journal: str) -> None:
    """It would find nothing for ever. One that is known, and of which nothing came, is not wrong."""
    run = run_cli(command, journal, "--source", "gihtub")
    assert run.returncode == 0, run.stderr
    assert "holds nothing of a source `gihtub`" in run.stdout
    assert "did you mean `github`?" in run.stdout
    run = run_cli(command, journal, "--source", "gitlab")
    assert run.stdout in ("no delivery fits\n", "no open dead letter\n")
    run = run_cli(command, journal, "--source", "gihtub", "--format", "json")
    assert run.stdout == ""
    assert "did you mean `github`?" in run.stderr


# Files


@pytest.mark.parametrize(
    "words",
    [
        ["check", "closed/shop.yaml"],
        ["check", "closed/*.yaml"],
        ["check", "--samples", "closed", "shop.yaml"],
        ["test", "closed/shop.yaml"],
        ["journal", "backup", "closed/copy.sqlite"],
    ],
    ids=" ".join,
)
def test_a_file_that_cannot_be_read_is_named(
    words: list[str], journal: str, tmp_path: Path
) -> None:
    """With what the system says of it."""
    shutil.copy(ROOT / "mappings" / "generic.yaml", tmp_path / "shop.yaml")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    try:
        given = [journal] if words[0] == "journal" else []
        run = run_to_end(command(*words, *given), tmp_path)
    finally:
        closed.chmod(0o700)
    assert is_one_sentence(run), run.stderr
    assert "closed" in run.stderr
    assert "Permission denied" in run.stderr


def test_what_the_doctor_may_not_read_is_one_problem_each(tmp_path: Path) -> None:
    """Not one for each secret that may be in the folder, nor for each check of the journal."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    given = ("--secrets", "closed", "--journal", "sqlite:///closed/journal.sqlite")
    try:
        run = run_to_end(command("doctor", "--format", "json", *given), tmp_path)
    finally:
        closed.chmod(0o700)
    assert run.returncode == 1, run.stderr
    found = [one for one in json.loads(run.stdout)["findings"] if one["state"] == "problem"]
    assert [one["sentence"] for one in found if "Permission denied" in one["sentence"]] == [
        "cannot read the folder of secrets closed: Permission denied",
        "closed/journal.sqlite cannot be read: Permission denied",
    ]


# Standard input and output


@pytest.mark.parametrize(
    "words",
    [["deliveries"], ["export"], ["journal", "info"], ["schema", "mapping"], ["check"], ["doctor"]],
    ids=" ".join,
)
@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_output_that_cannot_be_written_is_said(
    words: list[str], unbuffered: str, journal: str, tmp_path: Path
) -> None:
    """A disk that is full while a report is written to it gives no half report that is called whole."""
    given = [] if words[0] in ("schema", "check") else [journal]
    with FULL.open("w") as full:
        whole = [sys.executable, "-m", "gateway", *words, *given]
        run = run_to_end(whole, tmp_path, {"PYTHONUNBUFFERED": unbuffered}, stdout=full)
    assert is_one_sentence(run), run.stderr
    assert "cannot write to standard output: No space left on device" in run.stderr


def test_letters_that_a_terminal_does_not_know_are_told_by_number(tmp_path: Path) -> None:
    """A report is not lost for one of them."""
    (tmp_path / "shop.yaml").write_text("source: shop\ntitel: déploy✓\n")
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    checked = run_process("check", "shop.yaml", cwd=tmp_path, environment=ascii_only)
    assert checked.returncode == 1
    assert "titel: d\\xe9ploy\\u2713" in checked.stdout


def test_an_export_is_in_utf8_whatever_the_terminal_is(tmp_path: Path) -> None:
    """An escaped letter would be another name to Prometheus."""
    home = SqliteHome(tmp_path / "journal.sqlite")
    failure: dict[str, FieldValue] = {
        "app": "déploy",
        "event": "created",
        "issue_number": "1",
        "timestamp": 1_790_000_000,
    }
    append(home, entry(1, events=(Event("failure", failure),)))
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    run = run_process("export", "--journal", home.url, environment=ascii_only)
    assert "déploy" in run.stdout


@pytest.mark.parametrize("words", [["check", "-"], ["new", "shop", "--sample", "-"]], ids=" ".join)
def test_a_closed_standard_input_is_said(words: list[str], tmp_path: Path) -> None:
    """Where a job was started without one."""
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "gateway"]
    run = run_to_end([*closed, *words], tmp_path)
    assert is_one_sentence(run), run.stderr
    assert "there is no standard input" in run.stderr


_INTERRUPTED = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
from gateway.cli.main import main
sys.meta_path.insert(0, Interrupt())
sys.exit(main(["check"]))
"""


@pytest.mark.parametrize("module", ["gateway.cli.check", "gateway.settings", "msgspec"])
def test_an_interrupt_while_modules_are_imported_is_an_interrupt(module: str) -> None:
    """It ends the command with 130 and no traceback, as one a moment later does."""
    run = run_to_end([sys.executable, "-c", _INTERRUPTED, module])
    assert (run.returncode, run.stdout, run.stderr) == (128 + signal.SIGINT, "", "")
