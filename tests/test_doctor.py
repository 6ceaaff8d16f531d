"""`gateway doctor`: a chain that is well is called so, and each way in which one breaks is found and told."""

import contextlib
import http.client
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from gateway.doctor import rules
from gateway.doctor.examination import AREAS
from gateway.doctor.journal import NETWORKS, file_system
from gateway.journal.sqlite import lock_path
from tests.documentation import DOCS, fences
from tests.harness import SECRETS, eventually, free_port, request, run_cli, run_process
from tests.issuers import write_certificates
from tests.journals import Home, PostgresHome, SqliteHome, append, entry
from tests.postgres import PASSWORD, Server
from tests.prometheus import OUR_RULES, PELORUS_RULES, RULES, scraping
from tests.shop import BROKEN, COMMITS, MENDED, Shop, delivery, mapping

SECRET = "a very secret word of the user's own"
DAY = 86_400
TOKEN = ("--prometheus-token-file", "token")
WITH_SECRET = mapping(MENDED).replace(
    "authenticate: none",
    "authenticate: {scheme: token, header: X-Token, secret: {env: SHOP_SECRET}}",
)


class Examined(NamedTuple):
    """What the command said, its findings by check."""

    code: int
    found: dict[str, list[dict[str, str]]]
    printed: str

    def states(self, check: str) -> list[str]:
        return [one["state"] for one in self.found[check]]

    def only(self, check: str, state: str) -> str:
        """The sentence and the mend of the one finding of this state."""
        (one,) = [one for one in self.found[check] if one["state"] == state]
        assert state not in ("problem", "warning") or one["mend"], one
        return f"{one['sentence']} -> {one['mend']}"

    @property
    def problems(self) -> set[str]:
        return {check for check in self.found if "problem" in self.states(check)}


def examine(folder: Path, *arguments: str, **environment: str) -> Examined:
    """A run in this folder, for a gateway on ports that nobody has unless arguments say otherwise."""
    given = list(arguments)
    for flag in ("--listen", "--internal-listen"):
        if flag not in given:
            given += [flag, f"127.0.0.1:{free_port()}"]
    run = run_cli("doctor", "--format", "json", *given, cwd=folder, environment=environment)
    assert run.returncode in (0, 1), run.stderr
    found: dict[str, list[dict[str, str]]] = {}
    told = json.loads(run.stdout)
    for one in told["findings"]:
        found.setdefault(one["check"], []).append(one)
    assert (run.returncode == 1) == bool(told["problems"])
    return Examined(run.returncode, found, run.stdout)


def of(shop: Shop, *arguments: str) -> Examined:
    """The same for the gateway of a shop."""
    return examine(shop.folder, *flags(shop), *arguments, "--min-free", "1")


def flags(shop: Shop) -> list[str]:
    return [
        *("--listen", f"127.0.0.1:{shop.gateway.public}"),
        *("--internal-listen", f"127.0.0.1:{shop.gateway.internal}"),
        *("--mappings", str(shop.mappings)),
    ]


@contextlib.contextmanager
def serving(folder: Path, text: str) -> Iterator[Shop]:
    """A gateway with this mapping, for the length of a block."""
    shop = Shop(folder)
    shop.write(text)
    shop.gateway.start()
    try:
        yield shop
    finally:
        shop.gateway.stop()


def change(number: int, app: str, at: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """A commit, and its deployment an hour later."""
    commit = {"what": "commit", "id": f"commit-{number}", "name": app, "at": at - 3_600}
    return delivery(number, **commit), delivery(number, name=app, at=at)


# A chain that is well


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A gateway that has taken a commit and its deployment of each of two apps."""
    with serving(tmp_path_factory.mktemp("well"), mapping(MENDED, COMMITS)) as running:
        for number, app in enumerate(("acme/shop", "acme/till")):
            for payload in change(number, app, time.time() - 60):
                assert running.send(payload) == "accepted"
        yield running


def test_a_chain_that_is_well_is_called_so(shop: Shop, tmp_path: Path) -> None:
    with scraping(tmp_path, shop.gateway.internal, rules=OUR_RULES) as prometheus:
        prometheus.let_scrape()
        found = of(shop, "--prometheus", f"http://127.0.0.1:{prometheus.port}")
    assert found.code == 0
    assert not found.problems
    names = {check.__name__.replace("_", "-") for checks in AREAS.values() for check in checks}
    assert names == set(found.found)
    not_well = {check for check in names if set(found.states(check)) != {"ok"}}
    # The disk of whoever runs this may be too small for all that the journal may become.
    assert not_well - {"room"} == {"cases", "private"}
    assert found.only("cases", "warning").startswith("your mappings have no cases")
    assert "2 apps deploy" in found.only("apps", "ok")
    assert '{job="gateway"' in found.only("scraped", "ok").replace("\\", "")
    assert len(found.found["agreement"]) == 2
    assert {one["sentence"].split()[2] for one in found.found["select"]} == {
        *("app:dora_deployments:count_7d", "app:dora_deployments:count_30d"),
        *("app:dora_lead_time_seconds:median_7d", "app:dora_lead_time_seconds:median_30d"),
    }


def test_people_get_a_line_for_each_finding_and_a_sentence_at_the_end(shop: Shop) -> None:
    run = run_cli("doctor", *flags(shop), "--min-free", "1", "--quick", cwd=shop.folder)
    assert run.returncode == 0, run.stdout
    lines = run.stdout.splitlines()
    assert lines[0] == "ports"
    assert re.fullmatch(
        r"  ok +the gateway \S+ answers at http://127.0.0.1:\d+ and is ready", lines[1]
    )
    assert "  not checked  cases, apps: --quick leaves them out" not in lines
    assert "  not checked  apps: --quick leaves them out" in lines
    assert "  not checked  loaded, healthy, select: no --prometheus is given" in lines
    assert re.fullmatch(r"No problem, \d warnings?; \d+ are well, \d+ not checked\.", lines[-1])


def test_it_runs_as_a_process(tmp_path: Path) -> None:
    """Without anything, there is a problem to tell: no source is live."""
    environment = {"GATEWAY_LISTEN": f"127.0.0.1:{free_port()}", "GATEWAY_MIN_FREE": "1"}
    environment["GATEWAY_INTERNAL_LISTEN"] = f"127.0.0.1:{free_port()}"
    run = run_process("doctor", cwd=tmp_path, environment=environment)
    assert run.returncode == 1
    assert "no source is live\n               -> write the secret of one into" in run.stdout
    assert run.stdout.splitlines()[-1].startswith("1 problem keeps the chain from working, ")
    assert not run.stderr
    # It has looked, and made nothing.
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "here"], "--listen is `here`"),
        (["--journal", "file.db"], "--journal is `file.db`"),
        (["--scrape-interval", "often"], "--scrape-interval is `often`"),
        (["--prometheus", f"prometheus:{PASSWORD}"], "--prometheus is no URL"),
        (["--prometheus", f"http://me:{PASSWORD}@[::1"], "--prometheus is no URL"),
        (["--prometheus-token-file", "token"], "that --prometheus names"),
        ([*TOKEN, "--prometheus", "http://prometheus"], "cannot be read: No such file"),
        ([*TOKEN, "--prometheus", f"http://me:{PASSWORD}@prometheus"], "has a name in it"),
        (["--prometheus-token-file", "/dev/null", "--prometheus", "http://x"], "holds no token"),
    ],
)
def test_a_setting_that_cannot_be_used_leaves_nothing_to_examine(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    run = run_cli("doctor", *arguments, cwd=tmp_path)
    assert run.returncode == 2
    assert words in run.stderr
    assert PASSWORD not in run.stderr
    assert not run.stdout


# Ports


class _Stranger(BaseHTTPRequestHandler):
    """Another program that speaks HTTP."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html><p>welcome{</p></html>\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # As it is called.
        """Says nothing."""


@contextlib.contextmanager
def program(
    handler: type[BaseHTTPRequestHandler], certificate: Path | None = None
) -> Iterator[int]:
    """A server in a thread, with TLS where it has a certificate; its port."""
    with ThreadingHTTPServer(("127.0.0.1", free_port()), handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_ports_that_another_program_has_are_a_problem(tmp_path: Path) -> None:
    with program(_Stranger) as port:
        address = f"127.0.0.1:{port}"
        found = examine(tmp_path, "--listen", address, "--internal-listen", address)
    for check, flag in (
        ("internal-listener", "--internal-listen"),
        ("public-listener", "--listen"),
    ):
        told = found.only(check, "problem")
        assert "another program answers there" in told
        assert told.endswith(f"another {flag}")


def test_a_program_that_speaks_no_http_has_the_port_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        found = examine(tmp_path, "--internal-listen", f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert "speaks no HTTP" in found.only("internal-listener", "problem")


def test_a_port_that_is_held_silently_is_a_problem(tmp_path: Path) -> None:
    """Nothing answers there, and yet a gateway could not listen."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        found = examine(tmp_path, "--listen", f"127.0.0.1:{held.getsockname()[1]}")
    assert "Address already in use" in found.only("public-listener", "problem")
    assert "the port is free" in found.only("internal-listener", "warning")


def test_a_gateway_that_answers_elsewhere_is_a_problem(shop: Shop) -> None:
    """It has the journal, so it runs."""
    found = examine(shop.folder, "--mappings", str(shop.mappings))
    assert {"internal-listener", "public-listener"} <= found.problems
    assert "a gateway runs" in found.only("internal-listener", "problem")


def test_another_journal_than_that_of_the_gateway_is_told(shop: Shop, tmp_path: Path) -> None:
    other = SqliteHome(tmp_path / "other.sqlite")
    append(other, entry(1))
    found = of(shop, "--journal", other.url)
    assert "does not write" in found.only("opens", "warning")
    found = of(shop, "--journal", f"sqlite:///{tmp_path}/none.sqlite")
    assert "though a gateway runs" in found.only("opens", "problem")


# Mappings and secrets


def test_a_broken_mapping_is_a_problem_and_hides_what_needs_it(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(mapping(MENDED).replace("emit: deploytime", "emit: deploy"))
    found = examine(tmp_path, "--mappings", "shop.yaml")
    assert re.search(r"an error: shop.yaml:\d+: .*deploy", found.only("compiled", "problem"))
    for check in ("cases", "live-sources", "own-secrets", "usable", "private"):
        assert found.states(check) == ["not checked"]


def test_a_folder_of_mappings_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    found = examine(tmp_path, "--mappings", "nowhere")
    assert "nowhere" in found.only("compiled", "problem")


def test_what_is_on_disk_and_not_served_is_a_problem(tmp_path: Path) -> None:
    with serving(tmp_path, mapping(MENDED)) as shop:
        shop.write("source: [")
        assert request(shop.gateway.internal, "POST", "/-/reload", b"").status != 200
        assert "what it read before" in of(shop).only("in-force", "problem")


CASES = """
source: shop
cases:
  - name: a deployment
    payload: {what: deployment, id: d-1, name: shop, commit: "4f1c0ffee0ddba11", at: 1790000000}
    expect:
      outcome: %s
"""


def test_cases_that_fail_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(mapping(MENDED))
    (tmp_path / "shop.test.yaml").write_text(CASES % "ignored")
    found = examine(tmp_path, "--mappings", str(tmp_path))
    assert "1 of 1 cases" in found.only("cases", "problem")
    assert found.states("own-secrets") == ["ok"]
    assert examine(tmp_path, "--mappings", ".", "--quick").states("cases") == ["not checked"]


def test_cases_that_cannot_be_read_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(mapping(MENDED))
    (tmp_path / "shop.test.yaml").write_text("cases: 3")
    assert "cannot be used" in examine(tmp_path, "--mappings", ".").only("cases", "problem")


def test_a_secret_of_ones_own_mapping_that_is_not_set_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(WITH_SECRET)
    arguments = ("--mappings", "shop.yaml", "--secrets", "keys")
    told = examine(tmp_path, *arguments).only("own-secrets", "problem")
    assert "the secret SHOP_SECRET of `shop`" in told
    assert told.endswith("or write the file keys/SHOP_SECRET")
    found = examine(tmp_path, *arguments, SHOP_SECRET=SECRET)
    assert found.states("own-secrets") == ["ok"]
    assert "1 source is live: shop" in found.only("live-sources", "ok")
    assert SECRET not in found.printed


def test_a_secret_that_only_the_gateway_has_is_no_problem(tmp_path: Path) -> None:
    """The command runs in a shell that lacks the service's environment."""
    shop = Shop(tmp_path)
    shop.write(WITH_SECRET)
    shop.gateway.environment["SHOP_SECRET"] = SECRET
    shop.gateway.start()
    try:
        found = of(shop)
    finally:
        shop.gateway.stop()
    assert "which is not set here" in found.only("own-secrets", "ok")
    assert found.code == 0


def test_a_secret_that_is_too_short_is_a_problem_and_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(WITH_SECRET)
    found = examine(
        tmp_path, "--mappings", "shop.yaml", SHOP_SECRET="brief", JIRA_WEBHOOK_SECRET=SECRET
    )
    assert "SHOP_SECRET of the source `shop` is shorter than" in found.only("usable", "problem")
    assert "1 source is live: jira" in found.only("live-sources", "ok")
    assert "brief" not in found.printed


def test_a_secret_that_everybody_can_read_is_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / "data/secrets"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    file = folder / "GITHUB_WEBHOOK_SECRET"
    file.write_text(SECRET)
    file.chmod(0o644)
    found = examine(tmp_path)
    told = found.only("private", "warning")
    assert "GITHUB_WEBHOOK_SECRET" in told
    assert "chmod" in told
    assert SECRET not in found.printed
    for path, mode in ((file, 0o640), (file, 0o644)):
        path.chmod(mode)
        folder.chmod(0o755 if mode == 0o640 else 0o700)
        assert examine(tmp_path).states("private") == ["ok"]


# The journal


def journal(home: Home) -> tuple[str, str]:
    return "--journal", home.url


def test_a_file_that_is_no_journal_is_a_problem(tmp_path: Path) -> None:
    home = SqliteHome(tmp_path / "journal.sqlite")
    home.path.write_bytes(b"something else entirely" * 1_000)
    told = examine(tmp_path, *journal(home)).only("opens", "problem")
    assert str(home.path) in told


@pytest.mark.parametrize("table", ["deliveries", "events"])
def test_a_damaged_row_is_a_problem(home: Home, table: str, tmp_path: Path) -> None:
    append(home, *map(entry, range(3)))
    assert examine(tmp_path, *journal(home)).states("whole") == ["ok"]
    home.change(f"UPDATE {table} SET source = 'x' WHERE seq = 2")
    told = examine(tmp_path, *journal(home)).only("whole", "problem")
    assert f"1 of the newest rows of the journal are damaged, the first in {table}: 2" in told


def test_pages_that_are_damaged_are_a_problem(tmp_path: Path) -> None:
    home = SqliteHome(tmp_path / "journal.sqlite")
    append(home, *map(entry, range(200)))
    content = bytearray(home.path.read_bytes())
    content[8_192:] = b"\xff" * (len(content) - 8_192)
    home.path.write_bytes(content)
    found = examine(tmp_path, *journal(home))
    assert found.problems & {"opens", "whole"}


def test_deliveries_that_are_missing_are_a_problem(tmp_path: Path) -> None:
    home = SqliteHome(tmp_path / "journal.sqlite")
    append(home, *map(entry, range(3)))
    assert examine(tmp_path, *journal(home)).states("complete") == ["ok"]
    lock_path(home.path).write_text(f"{5:019d}\n")
    told = examine(tmp_path, *journal(home)).only("complete", "problem")
    assert "lacks 2 deliveries" in told


def test_what_a_gateway_found_missing_is_a_problem(tmp_path: Path) -> None:
    """It has noted deliveries of its own since."""
    with serving(tmp_path, mapping(MENDED)) as shop:
        assert shop.send(delivery(1)) == "accepted"
        shop.gateway.stop()
        lock_path(shop.journal).write_text(f"{5:019d}\n")
        shop.gateway.start()
        assert shop.send(delivery(2)) == "accepted"
        assert "lacks 4 deliveries" in of(shop).only("complete", "problem")


def test_a_full_disk_is_a_problem_and_one_that_may_fill_a_warning(tmp_path: Path) -> None:
    assert "answered 503" in examine(tmp_path, "--min-free", "1000000").only("room", "problem")
    roomy = ("--min-free", "0", "--keep-size", "100000000")
    assert "may grow by" in examine(tmp_path, *roomy).only("room", "warning")
    bounded = ("--min-free", "0", "--keep-size", "1")
    assert examine(tmp_path, *bounded).states("room") == ["ok"]


def test_a_journal_that_has_grown_to_its_limit_is_a_warning(tmp_path: Path) -> None:
    home = SqliteHome(tmp_path / "journal.sqlite")
    append(home, entry(1))
    assert examine(tmp_path, *journal(home)).states("size") == ["ok"]
    told = examine(tmp_path, *journal(home), "--keep-size", "0.01").only("size", "warning")
    assert "all of --keep-size, the oldest delivery is" in told


MOUNTS = """\
25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 25 0:26 / /srv rw,nosuid shared:2 - nfs4 server:/export rw,vers=4.2
31 30 0:27 / /srv/local\\040disk rw shared:3 - xfs /dev/sdb1 rw
32 25 0:28 / /mnt rw - cifs //server/share rw
33 25 0:29 / /mnt rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/gateway", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/data", "nfs4"),
        ("/srvs/data", "ext4"),
        ("/srv/local disk/data", "xfs"),
        ("/mnt/data", "tmpfs"),
    ],
)
def test_the_file_system_of_a_folder_is_known(path: str, kind: str) -> None:
    """The innermost mount decides, and of several in one place the last."""
    assert file_system(Path(path), MOUNTS) == kind
    assert (kind in NETWORKS) == (kind == "nfs4")


def test_dead_letters_are_a_warning_by_source(tmp_path: Path) -> None:
    with serving(tmp_path, mapping(BROKEN)) as shop:
        for number in range(2):
            assert shop.send(delivery(number)) == "dead_lettered"
        found = of(shop)
    told = found.only("dead-letters", "warning")
    assert told.startswith("2 dead letters of `shop` wait")
    assert "`gateway dead-letters --source shop`" in told
    assert found.code == 0


def test_postgresql_must_answer(tmp_path: Path) -> None:
    url = f"postgresql://me:{SECRET.replace(' ', '%20')}@127.0.0.1:{free_port()}/journal"
    found = examine(tmp_path, "--journal", url)
    assert "cannot open the journal" in found.only("opens", "problem")
    assert SECRET not in found.printed
    assert SECRET.replace(" ", "%20") not in found.printed


def test_postgresql_must_be_durable(postgres: Server, database: str, tmp_path: Path) -> None:
    home = PostgresHome(postgres.url(database))
    assert "no tables yet" in examine(tmp_path, *journal(home)).only("opens", "warning")
    append(home, entry(1))
    assert "is durable" in examine(tmp_path, *journal(home)).only("opens", "ok")
    home.change(f"ALTER DATABASE {database} SET synchronous_commit = off")
    found = examine(tmp_path, *journal(home))
    assert "synchronous_commit is off" in found.only("opens", "problem")
    assert PASSWORD not in found.printed


# Clocks


@contextlib.contextmanager
def proxy_to(
    port: int, seconds: float = 0, token: str = "", certificate: Path | None = None
) -> Iterator[int]:
    """A proxy before a server, whose answers are of another time, or for those that have a token; its
    port."""

    class Proxy(_Stranger):
        def do_GET(self) -> None:
            if token and self.headers["Authorization"] != f"Bearer {token}":
                self.send_error(401)
                return
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            with contextlib.closing(connection):
                connection.request("GET", self.path)
                answer = connection.getresponse()
                body = answer.read()
            self.send_response_only(answer.status)
            self.send_header("Date", formatdate(time.time() + seconds, usegmt=True))
            self.end_headers()
            self.wfile.write(body)

    with program(Proxy, certificate) as proxy:
        yield proxy


def test_clocks_that_differ_are_a_problem(shop: Shop) -> None:
    with (
        proxy_to(shop.gateway.internal, 300) as ahead,
        proxy_to(shop.gateway.internal, -50) as near,
    ):
        far = of(shop, "--internal-listen", f"127.0.0.1:{ahead}")
        fine = of(shop, "--internal-listen", f"127.0.0.1:{near}")
    told = far.only("agreement", "problem")
    assert re.search(r"gateway.* is (299|300|301) seconds ahead of this machine's", told)
    assert fine.states("agreement") == ["ok"]


# Prometheus and its rules


def test_a_prometheus_that_does_not_answer_is_a_problem(tmp_path: Path) -> None:
    url = f"http://me:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{free_port()}"
    found = examine(tmp_path, "--prometheus", url)
    assert "nothing takes connections there" in found.only("answers", "problem")
    assert found.states("scraped") == found.states("loaded") == ["not checked"]
    assert PASSWORD.replace(" ", "%20") not in found.printed
    with program(_Stranger) as port:
        found = examine(tmp_path, "--prometheus", f"http://127.0.0.1:{port}")
    assert "not as Prometheus would" in found.only("answers", "problem")


def test_a_prometheus_behind_a_token_is_asked_with_it(shop: Shop, tmp_path: Path) -> None:
    """Over TLS, with a certificate of an authority of one's own."""
    authority, certificate = tmp_path / "authority.pem", tmp_path / "leaf.pem"
    write_certificates(authority, certificate)
    (tmp_path / "token").write_text(f"{SECRET.replace(' ', '-')}\n")
    given = [*flags(shop), "--min-free", "1"]
    trust = {"SSL_CERT_FILE": str(authority)}
    with (
        scraping(tmp_path, shop.gateway.internal, rules=OUR_RULES) as prometheus,
        proxy_to(prometheus.port, token=SECRET.replace(" ", "-"), certificate=certificate) as proxy,
    ):
        prometheus.let_scrape()
        given += ["--prometheus", f"https://127.0.0.1:{proxy}"]
        token = ("--prometheus-token-file", str(tmp_path / "token"))
        untrusted = examine(shop.folder, *given, *token)
        refused = examine(shop.folder, *given, **trust)
        found = examine(shop.folder, *given, *token, **trust)
    assert "set SSL_CERT_FILE to its certificate" in untrusted.only("answers", "problem")
    assert "it answers 401" in refused.only("answers", "problem")
    assert not found.problems
    assert found.states("answers") == found.states("scraped") == ["ok"]
    assert SECRET.replace(" ", "-") not in found.printed


def test_two_targets_no_rules_and_another_clock_are_found(shop: Shop, tmp_path: Path) -> None:
    with (
        scraping(tmp_path, shop.gateway.internal, rules=(), jobs=("gateway", "copy")) as prometheus,
        proxy_to(prometheus.port, -120) as proxy,
    ):
        prometheus.let_scrape()
        eventually(lambda: len(prometheus.vector("gateway_build_info")) == 2)
        url = f"http://127.0.0.1:{proxy}"
        found = of(shop, "--prometheus", url, "--scrape-interval", "0.5")
    told = found.only("one-target", "problem")
    assert "through 2 targets" in told
    assert 'job="copy"' in told
    assert "no recording rules" in found.only("loaded", "problem")
    assert "no alerts" in found.only("loaded", "warning")
    assert found.states("healthy") == found.states("select") == ["not checked"]
    assert re.search(r"Prometheus.* 1(19|20|21) seconds behind", found.only("agreement", "problem"))
    assert found.states("interval") == ["problem"] * 2
    assert "--scrape-interval 1" in found.found["interval"][0]["mend"]
    assert found.states("scraped") == ["ok"]


def test_the_guide_shows_what_is_printed(shop: Shop, tmp_path: Path) -> None:
    with scraping(
        tmp_path, shop.gateway.internal, rules=(), jobs=("gateway", "copy")
    ) as prometheus:
        eventually(lambda: len(prometheus.vector("gateway_build_info")) == 2)
        url = f"http://127.0.0.1:{prometheus.port}"
        run = run_cli("doctor", *flags(shop), "--prometheus", url, cwd=shop.folder)
    page = (DOCS / "how-to" / "check-the-whole-chain.md").read_text()
    (shown,) = [fence.text for fence in fences(page) if fence.language == "text"]
    for part in shown.strip().split("\n\n"):
        assert _plain(part) in _plain(run.stdout)


def _plain(text: str) -> str:
    """Without the ports, and the line breaks that depend on their length."""
    return " ".join(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text).split())


def test_the_same_series_of_two_gateways_is_found(shop: Shop, tmp_path: Path) -> None:
    """As of replicas that are scraped one by one: each has its own start, and the series of both."""
    (tmp_path / "replica").mkdir()
    with serving(tmp_path / "replica", mapping(MENDED, COMMITS)) as replica:
        for payload in change(7, "acme/shop", time.time()):
            assert shop.send(payload) == replica.send(payload) == "accepted"
        port = replica.gateway.internal
        more = f"params: {{x: ['1']}}\n  - job_name: other\n    static_configs: [{{targets: ['127.0.0.1:{port}']}}]"
        with scraping(
            tmp_path, shop.gateway.internal, rules=PELORUS_RULES, more=more
        ) as prometheus:
            prometheus.let_scrape()
            eventually(lambda: len(prometheus.vector("gateway_build_info")) == 2)
            found = of(shop, "--prometheus", f"http://127.0.0.1:{prometheus.port}")
            assert 'job="other"' in found.only("one-target", "problem")
            assert "Pelorus's own" in found.found["loaded"][0]["sentence"]
            failing = prometheus.unhealthy_rules()
            found = of(shop, "--prometheus", f"http://127.0.0.1:{prometheus.port}")
    assert failing
    assert "lead_time:by_commit fails" in found.found["healthy"][0]["sentence"]


def test_a_target_that_is_down_and_one_that_is_not_there_are_problems(tmp_path: Path) -> None:
    with serving(tmp_path, mapping(MENDED)) as shop:
        with scraping(tmp_path, shop.gateway.internal, rules=()) as prometheus:
            prometheus.let_scrape()
            shop.gateway.stop()
            eventually(lambda: prometheus.query("up == 0"))
            url = f"http://127.0.0.1:{prometheus.port}"
            found = of(shop, "--prometheus", url)
            assert "cannot scrape http://127.0.0.1" in found.only("scraped", "problem")
            assert "connection refused" in found.only("scraped", "problem")
        (tmp_path / "elsewhere").mkdir()
        with program(_Metrics) as port, scraping(tmp_path / "elsewhere", port) as other:
            found = of(shop, "--prometheus", f"http://127.0.0.1:{other.port}")
    assert "scrapes no gateway" in found.only("scraped", "problem")
    for check in ("one-target", "interval", "own-times", "kept"):
        assert found.states(check) == ["not checked"]


class _Metrics(_Stranger):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(b"stranger 1\n")


def test_samples_that_are_taken_otherwise_than_given_are_found(shop: Shop, tmp_path: Path) -> None:
    more = (
        "honor_timestamps: false\n    metric_relabel_configs:\n"
        "      - {source_labels: [__name__], regex: deploy_timestamp, action: drop}"
    )
    with scraping(tmp_path, shop.gateway.internal, rules=(), more=more) as prometheus:
        prometheus.let_scrape()
        found = of(shop, "--prometheus", f"http://127.0.0.1:{prometheus.port}")
    assert "honor_timestamps: false" in found.only("own-times", "problem")
    assert "metric_relabel_configs drop" in found.only("kept", "warning")


def test_samples_that_prometheus_refused_are_told(shop: Shop, tmp_path: Path) -> None:
    with scraping(tmp_path, shop.gateway.internal, rules=(), path="/metrics/series") as prometheus:
        prometheus.let_scrape()
        fine = of(shop, "--prometheus", f"http://127.0.0.1:{prometheus.port}")
        assert fine.states("kept") == ["ok"]
    (tmp_path / "strict").mkdir()
    port = shop.gateway.internal
    another = f"params: {{x: ['1']}}\n  - job_name: own\n    sample_limit: 20\n    metrics_path: /metrics/process\n    static_configs: [{{targets: ['127.0.0.1:{port}']}}]"
    with scraping(
        tmp_path / "strict", port, rules=(), path="/metrics/series", more=another
    ) as prometheus:
        prometheus.let_scrape()
        eventually(lambda: prometheus.vector('up{job="own"} == 0'))
        found = of(shop, "--prometheus", f"http://127.0.0.1:{prometheus.port}")
    assert "beyond sample_limit" in found.only("kept", "warning")


def test_a_rule_that_leaves_our_series_out_is_a_problem(shop: Shop, tmp_path: Path) -> None:
    text = (RULES / "recording-rules.yaml").read_text()
    file = tmp_path / "own" / "rules.yaml"
    file.parent.mkdir()
    file.write_text(text.replace("deploy_timestamp[30d]", 'deploy_timestamp{job="pelorus"}[30d]'))
    with scraping(tmp_path, shop.gateway.internal, rules=[str(file)]) as prometheus:
        prometheus.let_scrape()
        found = of(shop, "--prometheus", f"http://127.0.0.1:{prometheus.port}")
    told = found.only("select", "problem")
    assert "app:dora_deployments:count_30d gives nothing for /acme/shop/" in told
    assert "deploy_timestamp is there" in told


def test_rules_that_are_missing_are_named(shop: Shop, tmp_path: Path) -> None:
    text = (RULES / "recording-rules.yaml").read_text()
    file = tmp_path / "own" / "rules.yaml"
    file.parent.mkdir()
    file.write_text(text.replace("app:dora_failed_deployments:ratio", "app:failed:ratio"))
    with scraping(tmp_path, shop.gateway.internal, rules=[str(file)]) as prometheus:
        found = of(shop, "--prometheus", f"http://127.0.0.1:{prometheus.port}")
    told = found.only("loaded", "problem")
    assert "are missing: app:dora_failed_deployments:ratio" in told


def test_the_rules_that_are_looked_for_are_those_that_we_ship() -> None:
    shipped = [
        rule
        for name in OUR_RULES
        for group in yaml.safe_load((RULES / name).read_text())["groups"]
        for rule in group["rules"]
    ]
    recorded = {rule["record"]: rule["expr"] for rule in shipped if "record" in rule}
    for window in ("7d", "30d"):
        assert {f"{key}_{window}" for key in rules.KEYS} <= recorded.keys()
        for base, metric in rules.READ.items():
            expression = recorded[f"{base}_{window}"]
            assert f"{metric}[{window}]" in expression
            assert "dora_deployments:" not in expression
    assert {rule["alert"] for rule in shipped if "alert" in rule} == set(rules.ALERTS)


# What comes in


def test_sources_that_are_silent_are_a_warning(home: Home, tmp_path: Path) -> None:
    now = time.time()
    hourly = [entry(n, received_at=now - 10 * DAY + n * 3_600) for n in range(24)]
    monthly = [entry(n, source="gitlab", received_at=now - 30 * DAY * (12 - n)) for n in range(12)]
    append(home, *sorted([*hourly, *monthly], key=lambda one: one.received_at))
    found = examine(tmp_path, *journal(home), **SECRETS)
    silent, never = found.found["arrivals"][1], found.found["arrivals"][0]
    assert never["sentence"].endswith("nothing that is kept: jira, pelorus")
    assert silent["sentence"] == "nothing has come from `github` for 9 days, which is long for it"
    assert found.only("arrivals", "ok").startswith("the last deliveries: gitlab 30 days ago")


def test_times_that_cannot_be_right_are_a_warning(tmp_path: Path) -> None:
    """Their events came, were accepted, and are not seen. `send` says so at once."""
    now = time.time()
    with serving(tmp_path, mapping(MENDED, COMMITS)) as shop:
        assert of(shop).states("times") == ["ok"]
        ahead = delivery(1, at=now + 10 * DAY)
        (tmp_path / "ahead.json").write_text(json.dumps(ahead))
        sent = run_cli(
            *("send", "shop", "ahead.json", "--mappings", str(shop.mappings)),
            *("--url", f"http://127.0.0.1:{shop.gateway.public}"),
            cwd=tmp_path,
        )
        assert "    its time is more than a day after its receipt: it is counted" in sent.stdout
        assert shop.send(delivery(2, at="1999-12-31T00:00:00Z")) == "accepted"
        assert (
            of(shop)
            .only("times", "warning")
            .startswith(
                "events have times that cannot be right: 1 more than a day after their receipt, not shown; "
                "1 before the year 2000, not shown"
            )
        )


def test_apps_that_do_not_join_are_a_warning(tmp_path: Path) -> None:
    now = time.time()
    with serving(tmp_path, mapping(MENDED, COMMITS)) as shop:
        for payload in change(1, "acme/till", now):
            assert shop.send(payload) == "accepted"
        # Two names for one app, and commits that are not those which are deployed.
        commit, _ = change(2, "acme/Web_Shop", now)
        _, deployed = change(3, "web-shop", now)
        apart, _ = change(4, "books", now)
        _, unknown = change(5, "books", now)
        for payload in (commit, deployed, apart, unknown):
            assert shop.send(payload) == "accepted"
        found = of(shop)
    first, second, third = (f"{one['sentence']} -> {one['mend']}" for one in found.found["apps"])
    assert "none of their commits is known: web-shop (the same as `acme/Web_Shop`?)" in first
    assert "apps.yaml" in first
    assert "have commits and deployments that never join: books" in second
    assert "commit and never deploy: acme/Web_Shop (the same as `web-shop`?)" in third
    assert found.code == 0
    assert examine(tmp_path, *flags(shop), "--quick").states("apps") == ["not checked"]
