"""The journal in PostgreSQL: several gateways, one order, and whatever befalls the server or the network."""

import contextlib
import http.client
import itertools
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from gateway.delivery import Verdict
from gateway.journal import postgres as module
from gateway.journal.archive import Archive, Selection
from gateway.journal.batch import candidate
from gateway.journal.entry import JournalError, JournalUnavailable
from gateway.journal.postgres import PostgresServer, PostgresStore
from gateway.journal.retention import KEEP_ALL, Retention
from tests import samples
from tests.harness import Gateway, eventually, require_program, run_cli, running
from tests.journals import PostgresHome, append, entry
from tests.postgres import PASSWORD, Network, Server, network, pgbouncer, server

FAULTS = int(os.environ.get("GATEWAY_TEST_FAULTS", "20"))
_SHOW_ALL = (
    *("--scrape-interval", "0", "--window", "3500"),
    *("--max-series", "100000", "--max-series-of-app", "100000"),
)
RACES = int(os.environ.get("GATEWAY_TEST_RACES", "1000"))


_OPEN: list[PostgresStore] = []


def _store(url: str, retention: Retention = KEEP_ALL) -> PostgresStore:
    """A store that is closed after the test."""
    _OPEN.append(PostgresStore(PostgresServer(url), retention))
    return _OPEN[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _OPEN:
        _OPEN.pop().close()


@pytest.fixture
def url(postgres: Server, database: str) -> str:
    return postgres.url(database)


@pytest.fixture
def link(postgres: Server) -> Iterator[Network]:
    """A network to the server that the test may cut."""
    with network(postgres.port) as made:
        yield made


def _rows(postgres: Server, database: str, table: str, what: str = "count(*)") -> int:
    return int(postgres.execute(f"SELECT {what} FROM pelorus_gateway.{table}", database)[0][0])


# One store


def test_a_lost_answer_to_a_commit_is_looked_up(
    postgres: Server, database: str, link: Network
) -> None:
    """The delivery is told as what it was stored as, with its events, and is there once."""
    store = _store(postgres.url(database, link.port))
    store.commit([candidate(entry(1))])
    link.lose_commit()
    batch = [candidate(entry(number, receipt=f"r-{number}")) for number in (2, 2, 3)]
    stored = store.commit(batch)
    assert link.lost == 1
    assert [one.verdict for one in stored] == [
        Verdict.ACCEPTED,
        Verdict.DUPLICATE,
        Verdict.ACCEPTED,
    ]
    assert [new.place for one in stored for new in one.new_events] == [2, 3]
    assert _rows(postgres, database, "deliveries") == _rows(postgres, database, "events") == 3


def test_a_broken_connection_is_made_anew(postgres: Server, database: str) -> None:
    """Whoever finds its session terminated, or the server restarted, commits all the same."""
    store = _store(postgres.url(database))
    store.commit([candidate(entry(1))])
    postgres.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    )
    store.commit([candidate(entry(2))])
    postgres.stop()
    postgres.start()
    (stored,) = store.commit([candidate(entry(3))])
    assert [new.place for new in stored.new_events] == [3]
    assert [one.place for one in store.events()] == [1, 2, 3]


def test_a_server_that_is_gone_is_waited_for_once(postgres: Server, database: str) -> None:
    """A failover of some seconds fails no delivery; after a longer one nobody waits, until it is back."""
    store = _store(postgres.url(database))
    postgres.stop()
    soon = threading.Timer(1.0, postgres.start)
    soon.start()
    try:
        (stored,) = store.commit([candidate(entry(1))])
    finally:
        soon.join()
    assert stored.verdict is Verdict.ACCEPTED
    postgres.stop()
    try:
        with pytest.raises(JournalUnavailable, match="refused") as first:
            store.commit([candidate(entry(2))])
        assert PASSWORD not in str(first.value)
        with pytest.raises(JournalUnavailable):
            store.tend()
    finally:
        postgres.start()
    store.tend()
    assert store.commit([candidate(entry(2))])[0].verdict is Verdict.ACCEPTED


def test_a_silent_network_is_an_error_in_time(
    postgres: Server, database: str, link: Network
) -> None:
    """Nothing waits for ever where no packet comes back, neither commits nor readers."""
    store = _store(postgres.url(database, link.port))
    assert store.last_event() == 0
    link.cut(silent=True)
    started = time.monotonic()
    with pytest.raises(JournalUnavailable, match=r"does not answer|timeout"):
        store.commit([candidate(entry(1))])
    assert time.monotonic() - started < 8
    with pytest.raises(JournalUnavailable):
        store.last_event()
    link.mend()
    assert store.commit([candidate(entry(1))])[0].verdict is Verdict.ACCEPTED
    assert store.last_event() == 1


def test_a_gateway_that_stops_in_the_midst_holds_up_nobody(url: str) -> None:
    """Its hold on the order of commits ends after some seconds, and the next commit just takes longer."""
    store = _store(url)
    frozen = psycopg.connect(url, autocommit=True)
    frozen.execute(module._BEGIN.encode())
    frozen.execute("SELECT 1 FROM head FOR UPDATE")
    (stored,) = store.commit([candidate(entry(1))])
    assert stored.verdict is Verdict.ACCEPTED
    with pytest.raises(psycopg.Error, match="idle-in-transaction"):
        frozen.execute("SELECT 1")
    frozen.close()


def test_a_commit_that_no_standby_confirms_is_not_acknowledged(
    postgres: Server, database: str
) -> None:
    """Neither where the standby is waited for, nor where an operator ends the wait."""
    url = postgres.url(database)
    store = _store(url)
    postgres.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    postgres.execute("SELECT pg_reload_conf()")
    stopped = threading.Event()
    operator = threading.Thread(target=_end_waits, args=(postgres, database, stopped))
    try:
        eventually(lambda: _is_unconfirmed(url))
        with pytest.raises(JournalUnavailable, match="does not answer"):
            store.commit([candidate(entry(1))])
        _store(url)
        operator.start()
        with pytest.raises(JournalUnavailable):
            _OPEN[-1].commit([candidate(entry(2))])
    finally:
        stopped.set()
        operator.join()
        postgres.execute("ALTER SYSTEM RESET synchronous_standby_names")
        postgres.execute("SELECT pg_reload_conf()")
    eventually(lambda: not postgres.execute(_WAITING.format("1", database)))
    stored = store.commit([candidate(entry(number)) for number in (1, 2, 3)])
    assert [one.verdict for one in stored] == [
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
        Verdict.ACCEPTED,
    ]
    assert [one.place for one in store.events()] == [1, 2, 3]


_WAITING = "SELECT {} FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = '{}'"


def _end_waits(postgres: Server, database: str, stopped: threading.Event) -> None:
    while not stopped.wait(0.2):
        postgres.execute(_WAITING.format("pg_cancel_backend(pid)", database))


def _is_unconfirmed(url: str) -> bool:
    """Whether the server waits for a standby yet."""
    with PostgresServer(url).connect() as connection:
        connection.until = time.monotonic() + 0.5
        try:
            connection.execute("CREATE TEMPORARY TABLE written (x integer)")
        except psycopg.OperationalError:
            return True
    return False


def test_commits_are_durable_whatever_the_role_says_later(postgres: Server, database: str) -> None:
    """A setting that was weakened after the start does not weaken a commit."""
    store = _store(postgres.url(database))
    postgres.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
    postgres.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    )
    with psycopg.connect(postgres.url(database), autocommit=True) as connection:
        connection.execute(module._BEGIN.encode())
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    with pytest.raises(JournalUnavailable, match="synchronous_commit is off"):
        store.commit([candidate(entry(1))])


def test_a_database_that_lost_commits_is_told_of(
    postgres: Server, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a failover to a standby that was behind; what comes next is kept all the same."""
    home = PostgresHome(postgres.url(database))
    store = _store(home.url)
    store.commit([candidate(entry(1)), candidate(entry(2))])
    for table in ("deliveries", "events"):
        home.change(f"DELETE FROM {table} WHERE seq = 2")
    home.change("UPDATE head SET deliveries = 1, events = 1")
    assert store.commit([candidate(entry(3))])[0].new_events[0].place == 2
    assert "ends 1 deliveries before what was acknowledged" in caplog.text
    assert store.missing == 1
    caplog.clear()
    store.commit([candidate(entry(4))])
    assert not caplog.text


def test_tables_that_are_removed_are_not_made_anew(postgres: Server, database: str) -> None:
    """A gateway that finds none while it runs keeps nothing, rather than beginning a second journal."""
    store = _store(postgres.url(database))
    postgres.execute("ALTER SCHEMA pelorus_gateway RENAME TO elsewhere", database)
    for _ in range(2):
        with pytest.raises(JournalUnavailable):
            store.commit([candidate(entry(1))])
    with pytest.raises(JournalUnavailable, match="removed while it was in use"):
        store.tend()
    postgres.execute("ALTER SCHEMA elsewhere RENAME TO pelorus_gateway", database)
    assert store.commit([candidate(entry(1))])[0].verdict is Verdict.ACCEPTED


def test_a_damaged_event_is_left_out(postgres: Server, database: str) -> None:
    """It is counted, and `verify` finds it."""
    home = PostgresHome(postgres.url(database))
    append(home, entry(1), entry(2))
    home.change("UPDATE events SET kind = 'committime' WHERE seq = 1")
    store = _store(home.url)
    assert [one.place for one in store.events()] == [2]
    assert store.damaged == 1
    found = [one for one in Archive(home.database()).verify() if one]
    assert [(one.table, one.number) for one in found] == [("events", 1)]


def test_what_is_old_or_too_much_is_removed_in_steps(postgres: Server, database: str) -> None:
    """Deliveries by age and size, events by their own age, the numbers of what remains unchanged."""
    url = postgres.url(database)
    append(PostgresHome(url), *(entry(number) for number in range(1, 11)))
    old = time.time() - 1_790_000_006.0
    store = _store(url, Retention(deliveries=old, events=old))
    assert store.tend()
    assert not store.tend()
    assert [one.place for one in store.events()] == [6, 7, 8, 9, 10]
    assert _rows(postgres, database, "deliveries", "min(seq)") == 6
    store.close()
    size = _rows(postgres, database, "head", "bytes")
    store = _store(url, Retention(size=size))
    assert not store.tend()
    store.close()
    store = _store(url, Retention(size=size - 1))
    assert store.tend()
    assert _rows(postgres, database, "deliveries") == 0
    assert _rows(postgres, database, "head", "bytes") == 0
    assert store.commit([candidate(entry(11))])[0].new_events[0].place == 11


# What is refused


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER DATABASE {} SET synchronous_commit = off", "synchronous_commit is off"),
        ("ALTER SYSTEM SET fsync = off", "fsync is off"),
        ("ALTER SYSTEM SET full_page_writes = off", "full_page_writes is off"),
        ("ALTER DATABASE {} SET default_transaction_read_only = on", "read-only"),
    ],
)
def test_a_server_that_may_lose_commits_is_refused(
    postgres: Server, database: str, statement: str, words: str
) -> None:
    """At the start, in words, with what to do."""
    postgres.execute(statement.format(database))
    postgres.execute("SELECT pg_reload_conf()")
    try:
        if "SYSTEM" in statement:
            name = statement.split()[3]
            eventually(lambda: postgres.execute(f"SHOW {name}") == [("off",)])
        with pytest.raises(JournalError, match=words):
            _store(postgres.url(database))
    finally:
        postgres.execute("ALTER SYSTEM RESET ALL")
        postgres.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        ("CREATE TABLE pelorus_gateway.other (x integer)", "another program"),
        ("CREATE TABLE pelorus_gateway.head (x integer)", "another program"),
        (
            "CREATE TABLE pelorus_gateway.head AS SELECT 99 AS version",
            r"newer gateway \(schema 99",
        ),
    ],
)
def test_tables_of_others_are_refused(
    postgres: Server, database: str, statements: str, words: str
) -> None:
    """Nothing is written into another program's schema, nor into that of a newer gateway."""
    postgres.execute(f"CREATE SCHEMA pelorus_gateway; {statements}", database)
    with pytest.raises(JournalError, match=words):
        _store(postgres.url(database))
    count = "SELECT count(*) FROM pg_tables WHERE schemaname = 'pelorus_gateway'"
    assert postgres.execute(count, database) == [(1,)]


def test_a_newer_gateway_ends_the_older_ones_commits(postgres: Server, database: str) -> None:
    """Where tables change while it runs, it commits nothing more, and says why."""
    home = PostgresHome(postgres.url(database))
    store = _store(home.url)
    home.change("UPDATE head SET version = 2")
    with pytest.raises(JournalUnavailable, match="newer gateway"):
        store.commit([candidate(entry(1))])
    with pytest.raises(JournalUnavailable, match="newer gateway"):
        store.tend()
    home.change("UPDATE head SET version = 1")
    assert store.commit([candidate(entry(1))])[0].verdict is Verdict.ACCEPTED


def test_another_encoding_is_refused(postgres: Server) -> None:
    """What a sender says must fit in."""
    postgres.execute("CREATE DATABASE narrow ENCODING 'LATIN1' TEMPLATE template0")
    try:
        with pytest.raises(JournalError, match="UTF8"):
            _store(postgres.url("narrow"))
    finally:
        postgres.drop("narrow")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.replace("postgres:", "nobody:"), "authentication failed"),
        (lambda url: url.replace("%20password", "%20pass@word"), "cannot be read"),
        (lambda url: url.replace("%20password", "%20pass/word"), "cannot be read"),
        (lambda url: f"{url}?speed=1", "an option `speed`"),
    ],
)
def test_no_message_tells_the_password(url: str, change: Callable[[str], str], words: str) -> None:
    """Neither where it is wrong, nor where it breaks the URL."""
    with pytest.raises(JournalError, match=words) as refused:
        _store(change(url))
    assert "pass" not in str(refused.value).replace("password authentication", "").replace(
        "name or password", ""
    )


# Several


def test_all_that_start_at_once_share_one_journal(url: str) -> None:
    """The tables are created once, whoever is first."""
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(_store, [url] * 8))
    for number, store in enumerate(stores, 1):
        (stored,) = store.commit([candidate(entry(number))])
        assert stored.new_events[0].place == number


def test_one_hears_of_what_the_other_commits(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, without looking; of its own commits it hears nothing."""
    monkeypatch.setattr(module, "POLL", 6.0)
    one, other = _store(url), _store(url)
    heard: Counter[str] = Counter()
    one.watch(lambda: heard.update(["one"]))
    other.watch(lambda: heard.update(["other"]))
    eventually(lambda: heard == {"one": 1, "other": 1})
    one.commit([candidate(entry(1))])
    eventually(lambda: heard["other"] == 2, timeout=4)
    assert other.last_event() == 1
    assert heard["one"] == 1


def test_places_are_in_the_order_of_commits_without_a_gap(url: str) -> None:
    """Whoever reads up to a place has all that is before it, while eight write at once."""
    stores = [_store(url) for _ in range(8)]
    seen: list[int] = []
    done = threading.Event()

    def write(number: int) -> None:
        for turn in range(40):
            first = 1 + number * 1_000 + turn * 5
            stores[number].commit([candidate(entry(first + one)) for one in range(5)])

    def read() -> None:
        reader, place = _store(url), 0
        while not done.is_set() or place < reader.last_event():
            last = reader.last_event()
            found = [one.place for one in reader.events(place, last)]
            assert found == list(range(place + 1, last + 1))
            seen.extend(found)
            place = last

    with ThreadPoolExecutor(9) as pool:
        reading = pool.submit(read)
        list(pool.map(write, range(8)))
        done.set()
        reading.result()
    assert seen == list(range(1, 1_601))


def test_a_pooler_may_give_each_transaction_another_session(
    postgres: Server, database: str
) -> None:
    """pgbouncer in transaction mode: commits, readers, and news by looking for them each second."""
    require_program("pgbouncer")
    with pgbouncer(postgres) as port:
        url = postgres.url(database, port)
        one, other = _store(url), _store(url)
        heard = threading.Event()
        other.watch(heard.set)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda store: _fill(store, 50), (one, other)))
        heard.clear()
        assert heard.wait(10)
        assert other.last_event() == 50
        assert len(list(other.events())) == 50
        assert len(Archive(PostgresServer(url)).latest(Selection(limit=100))) == 50
        assert not one.tend()


def _fill(store: PostgresStore, count: int) -> None:
    for number in range(count):
        store.commit([candidate(entry(number))])


# Through processes


@contextlib.contextmanager
def _two(folder: Path, url: str) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways with one journal."""
    with contextlib.ExitStack() as stack:
        folders = folder / "one", folder / "two"
        for own in folders:
            own.mkdir()
        one, two = (
            stack.enter_context(running(own, "--journal", url, *_SHOW_ALL)) for own in folders
        )
        yield one, two


@pytest.fixture
def replicas(tmp_path: Path, url: str) -> Iterator[tuple[Gateway, Gateway]]:
    with _two(tmp_path, url) as both:
        yield both


def test_the_same_delivery_at_two_replicas_at_once_is_one(
    postgres: Server, database: str, replicas: tuple[Gateway, Gateway]
) -> None:
    """Both answer 2xx, one of them as a duplicate; and both show the same series after every batch."""
    size = min(RACES, 100)
    pool = ThreadPoolExecutor(8)
    for first in range(0, RACES, size):
        outcomes = list(
            pool.map(lambda number: _race(replicas, number), range(first, first + size))
        )
        assert outcomes == [["accepted", "duplicate"]] * size
        counts = [first + size] * 2
        eventually(lambda: [len(_shown(gateway)) for gateway in replicas] == counts)  # noqa: B023  # At once.
        assert _shown(replicas[0]) == _shown(replicas[1])
    pool.shutdown()
    assert _rows(postgres, database, "deliveries") == RACES
    assert _rows(postgres, database, "deliveries", "count(DISTINCT delivery_id)") == RACES
    assert _rows(postgres, database, "events") == RACES


def _race(replicas: tuple[Gateway, Gateway], number: int) -> list[str]:
    """What both answer to one delivery at the same moment."""
    sha = f"{number:040x}"
    push = samples.github_push("octo/race", sha, 1_790_000_000 + number)
    start, outcomes = threading.Barrier(2), list[str]()

    def send(gateway: Gateway) -> None:
        start.wait()
        answer = gateway.github("push", push, f"race-{number}")
        assert answer.status == 202
        outcomes.append(answer.json()["outcome"])

    senders = [threading.Thread(target=send, args=(gateway,)) for gateway in replicas]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return sorted(outcomes)


def _shown(gateway: Gateway) -> list[str]:
    """The series of commits, with their values and times."""
    return sorted(
        line
        for line in gateway.get("/metrics").body.decode().splitlines()
        if line.startswith("commit_timestamp{")
    )


def test_a_replica_that_restarts_shows_what_the_other_does(
    replicas: tuple[Gateway, Gateway],
) -> None:
    """What came while it was down among it, and it still knows what it knew."""
    one, two = replicas
    push = samples.github_push("octo/first", samples.SHA, 1_790_000_000)
    assert one.github("push", push, "d-1").json()["outcome"] == "accepted"
    two.stop()
    deployment = samples.github_deployment("octo/first", samples.SHA, 1_790_000_900)
    assert one.github("deployment_status", deployment, "d-2").json()["outcome"] == "accepted"
    two.start()
    eventually(lambda: two.samples() and two.samples() == one.samples())
    assert len(two.samples()) == 3
    assert two.github("push", push, "d-1").json()["outcome"] == "duplicate"


def test_commands_read_the_journal(tmp_path: Path, url: str) -> None:
    """`deliveries`, `explain` and `export`, by URL or variable; none of them says the password."""
    with running(tmp_path, "--journal", url) as gateway:
        push = samples.github_push("octo/read", samples.SHA, 1_790_000_000)
        gateway.github("push", push, "d-read")
        listed = run_cli("deliveries", "--journal", url)
        explained = run_cli("explain", "d-read", environment={"GATEWAY_JOURNAL": url})
        exported = run_cli("export", "--journal", url)
        assert "d-read" in listed.stdout
        assert samples.SHA in explained.stdout
        assert re.search(rf'commit_timestamp{{.*commit="{samples.SHA}"', exported.stdout)
        for done in (listed, explained, exported):
            assert done.returncode == 0, done.stderr
            assert PASSWORD not in done.stdout + done.stderr
        assert "***@127.0.0.1" in gateway.output
        assert PASSWORD.replace(" ", "%20") not in gateway.output


def test_a_missing_package_is_named(url: str) -> None:
    """With the command that installs it."""
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from gateway.cli.main import main\n"
        f"sys.exit(main(['deliveries', '--journal', {url!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "pip install 'pelorus-gateway[postgresql]'" in done.stderr


def test_faults_lose_nothing_that_was_acknowledged(
    tmp_path: Path, postgres: Server, database: str, link: Network
) -> None:
    """Servers killed, restarted, sessions terminated, the network cut, under eight senders that retry:
    every 2xx is there once, any other answer was 503, and deliveries are soon taken again."""
    faults: list[Callable[[], None]] = [
        lambda: _restart(postgres, "kill"),
        lambda: _restart(postgres, "fast"),
        lambda: _restart(postgres, "immediate"),
        lambda: _terminate(postgres, database),
        lambda: _terminate(postgres, database),
        link.cut,
        link.cut,
        link.lose_commit,
    ]
    journal = "--journal", postgres.url(database, link.port)
    with running(tmp_path, *journal, *_SHOW_ALL) as gateway:
        load = _Load(gateway)
        slowest = 0.0
        with load.running():
            load.wait_for(100)
            for number in range(FAULTS):
                time.sleep(random.uniform(0, 0.15))
                if number % 10 == 9:
                    _silence(link)
                else:
                    random.choice(faults)()
                slowest = max(slowest, load.wait_for(20))
        print(f"{len(load.acknowledged)} acknowledged, {load.statuses}, back in {slowest:.1f} s")
        eventually(lambda: len(_commits(gateway)) == _rows(postgres, database, "events"))
        shown = _commits(gateway)
    assert set(load.statuses) <= {202, 503}
    assert load.broken == 0
    assert len(shown) == len(set(shown))
    assert load.acknowledged <= set(shown)
    commits = "count(DISTINCT fields::json ->> 'commit')"
    assert len(shown) == _rows(postgres, database, "events", commits)
    assert len(shown) == _rows(postgres, database, "deliveries")
    found = list(Archive(PostgresServer(postgres.url(database))).verify())
    assert not any(found)


def test_a_failover_to_a_synchronous_standby_loses_nothing(tmp_path: Path) -> None:
    """The primary is killed under load, the standby that has more takes over, and the gateway finds it."""
    with _cluster("ANY 1 (one, two)") as (primary, standbys):
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in (primary, *standbys))
        url = primary.url("journal").replace(f"127.0.0.1:{primary.port}", hosts)
        with running(tmp_path, "--journal", url, *_SHOW_ALL) as gateway:
            load = _Load(gateway)
            with load.running():
                load.wait_for(200)
                primary.kill()
                heir = max(standbys, key=_received)
                heir.promote()
                slowest = load.wait_for(200)
            print(f"{len(load.acknowledged)} acknowledged, back in {slowest:.1f} s")
            kept = _rows(heir, "journal", "deliveries")
            eventually(lambda: len(_commits(gateway)) == kept)
            assert load.acknowledged <= set(_commits(gateway))
            assert gateway.counter("gateway_journal_missing_deliveries") == 0
        assert set(load.statuses) <= {202, 503}
        assert not any(Archive(PostgresServer(heir.url("journal"))).verify())


def test_nothing_is_read_from_a_standby_that_is_behind(tmp_path: Path) -> None:
    """Where its host is the first of the URL: what it does not show yet would never be asked for again."""
    with _cluster("ANY 1 (one, two)") as (primary, (standby, _)):
        hosts = f"127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
        url = primary.url("journal").replace(f"127.0.0.1:{primary.port}", hosts)
        with _two(tmp_path, url) as both:
            standby.execute("SELECT pg_wal_replay_pause()")
            for number in range(4):
                push = samples.github_push("octo/web", f"{number:040x}", 1_790_000_000 + number)
                assert both[number % 2].github("push", push, f"d-{number}").status == 202
            eventually(lambda: [len(_commits(gateway)) for gateway in both] == [4, 4])
        standby.execute("SELECT pg_wal_replay_resume()")
        with contextlib.closing(PostgresStore(PostgresServer(primary.url("journal")))) as store:
            assert [one.place for one in store.events(until=4)] == [1, 2, 3, 4]
            with pytest.raises(JournalUnavailable, match="as far as event 4 of 5"):
                list(store.events(until=5))


def test_what_a_failover_to_another_standby_loses_is_told(tmp_path: Path) -> None:
    """One that is not synchronous and fell behind: the test above would see it."""
    with _cluster("") as (primary, (standby, _)):
        url = primary.url("journal").replace(
            f"127.0.0.1:{primary.port}", f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        )
        with running(tmp_path, "--journal", url, *_SHOW_ALL) as gateway:

            def is_taken(number: int) -> bool:
                push = samples.github_push("octo/shop", f"{number:040x}", 1_790_000_000 + number)
                return gateway.github("push", push, f"d-{number}").status == 202

            assert is_taken(0)
            eventually(lambda: _received(standby) == _written(primary))
            primary.execute("ALTER SYSTEM SET max_wal_senders = 0")
            primary.stop()
            primary.start()
            assert all(map(is_taken, range(1, 6)))
            primary.kill()
            standby.promote()
            eventually(lambda: is_taken(6))
            assert gateway.counter("gateway_journal_missing_deliveries") == 5
            assert "5 deliveries" in gateway.output


@contextlib.contextmanager
def _cluster(synchronous: str) -> Iterator[tuple[Server, tuple[Server, Server]]]:
    """A primary with a database `journal`, and two standbys, `one` and `two`; which of them have to
    confirm a commit."""
    with server() as primary, server(primary, "one") as one, server(primary, "two") as two:
        # Only now: whoever takes over is to wait for nobody.
        primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{synchronous}'")
        primary.execute("SELECT pg_reload_conf()")
        primary.execute("CREATE DATABASE journal")
        yield primary, (one, two)


def _written(primary: Server) -> int:
    """The end of what a primary has written."""
    return int(primary.execute("SELECT pg_current_wal_lsn() - '0/0'")[0][0])


def _received(standby: Server) -> int:
    """The end of what a standby has received."""
    return int(standby.execute("SELECT pg_last_wal_receive_lsn() - '0/0'")[0][0])


def _restart(postgres: Server, how: str) -> None:
    if how == "kill":
        postgres.kill()
    else:
        postgres.stop(how)
    postgres.start()


def _terminate(postgres: Server, database: str) -> None:
    postgres.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    )


def _silence(link: Network) -> None:
    link.cut(silent=True)
    time.sleep(0.5)
    link.mend()


def _commits(gateway: Gateway) -> list[str]:
    return [line.partition('commit="')[2].partition('"')[0] for line in _shown(gateway)]


class _Load:
    """Senders that each send a commit until it gets its 2xx, and then the next."""

    def __init__(self, gateway: Gateway) -> None:
        self.acknowledged: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.broken = 0
        self._gateway = gateway
        self._stop = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        senders = [threading.Thread(target=self._send, args=(number,)) for number in range(8)]
        for sender in senders:
            sender.start()
        try:
            yield
        finally:
            self._stop.set()
            for sender in senders:
                sender.join()

    def wait_for(self, more: int) -> float:
        """Seconds until so many more are acknowledged."""
        target, started = len(self.acknowledged) + more, time.monotonic()
        eventually(lambda: len(self.acknowledged) >= target, timeout=60)
        return time.monotonic() - started

    def _send(self, sender: int) -> None:
        for number in itertools.count():
            sha = f"{sender:08x}{number:032x}"
            push = samples.github_push(f"octo/app-{sender}", sha, 1_790_000_000 + number)
            while True:
                if self._stop.is_set():
                    return
                try:
                    status = self._gateway.github("push", push, sha).status
                except (OSError, http.client.HTTPException):
                    self.broken += 1
                    continue
                self.statuses[status] += 1
                if status == 202:
                    self.acknowledged.add(sha)
                    break
                time.sleep(0.05)
