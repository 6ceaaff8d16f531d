"""Several processes that take deliveries: one journal, one scrape, and each of them may die."""

import contextlib
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import apsw
import pytest

from tests import samples
from tests.harness import SECRETS, Answer, Gateway, eventually, request, running

NOW = 1_790_000_000
SECRET = "a secret of the shop"
MAPPING = """\
source: shop
authenticate: none
delivery_id: headers."x-id"
rules:
  - name: a deployment
    when: body.stage == '{stage}'
    emit: deploytime
    fields: {{app: body.app, commit: body.commit, timestamp: body.at}}
"""


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with two workers, and a mapping of its own."""
    folder = tmp_path_factory.mktemp("workers")
    (folder / "mappings").mkdir()
    (folder / "mappings" / "shop.yaml").write_text(MAPPING.format(stage="production"))
    arguments = ("--workers", "2", "--mappings", "mappings", "--watch", "0")
    with running(folder, *arguments, "--scrape-interval", "0") as gateway:
        yield gateway


def _workers(gateway: Gateway) -> list[int]:
    """The processes that the gateway started."""
    assert gateway.process is not None
    children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def _push(gateway: Gateway, app: str, number: int) -> Answer:
    sha = f"{number:040x}"
    return gateway.github("push", samples.github_push(app, sha, NOW + number), f"{app}-{number}")


def _reload(gateway: Gateway) -> int:
    return request(gateway.internal, "POST", "/-/reload", b"").status


def _used(pid: int) -> float:
    """Processor time of a process, in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_all_take_deliveries_and_one_scrape_shows_all(several: Gateway) -> None:
    """Whichever worker took it: the series have it at once, the counters a moment later."""
    pids = _workers(several)
    assert len(pids) == 2
    before = {pid: _used(pid) for pid in pids}
    counter = 'gateway_deliveries_total{outcome="accepted",source="github"}'
    counted = several.counter(counter)
    with ThreadPoolExecutor(16) as senders:
        answers = list(senders.map(lambda n: _push(several, "octo/many", n), range(200)))
    assert Counter(answer.json()["outcome"] for answer in answers) == {"accepted": 200}
    shown = [series for series in several.samples() if "/octo/many/" in series]
    assert len(shown) == len(set(shown)) == 200
    eventually(lambda: several.counter(counter) == counted + 200)
    assert all(_used(pid) > before[pid] for pid in pids)


def test_a_delivery_told_to_both_at_once_is_kept_once(several: Gateway) -> None:
    """One is accepted, the others are duplicates."""
    for number in range(20):
        with ThreadPoolExecutor(8) as senders:
            answers = list(senders.map(partial(_push, several, "octo/twice"), [number] * 8))
        outcomes = Counter(answer.json()["outcome"] for answer in answers)
        assert outcomes == {"accepted": 1, "duplicate": 7}


def test_a_reload_reaches_all(several: Gateway) -> None:
    """When it is answered, every worker maps by what is new; one that is wrong changes none."""
    path = _mapping(several)
    path.write_text(MAPPING.format(stage="production"))
    assert _reload(several) == 200
    assert _outcomes(several, 1, "live") == {"ignored"}
    path.write_text(MAPPING.format(stage="live"))
    assert _reload(several) == 200
    assert _outcomes(several, 2, "live") == {"accepted"}
    path.write_text("source: shop\n")
    assert _reload(several) == 422
    assert _outcomes(several, 3, "live") == {"accepted"}


def test_workers_serve_what_the_gateway_has_read(several: Gateway) -> None:
    """Also where a file is only half written by the time that they come to it."""
    path = _mapping(several)
    with _reloading(several, MAPPING.format(stage="early"), "early") as status:
        path.write_text("source: shop\nrules: [")
    assert status() == 200
    assert _outcomes(several, 4, "early") == {"accepted"}
    path.write_text(MAPPING.format(stage="early"))
    assert _reload(several) == 200


def test_a_worker_that_cannot_reload_is_told_of_and_tries_again(several: Gateway) -> None:
    """Though nothing has changed on disk since the gateway itself read it."""
    secret = several.folder / "shop.secret"
    secret.write_text(SECRET)
    scheme = "authenticate: {scheme: token, header: X-Secret, secret: {file: shop.secret}}"
    text = MAPPING.format(stage="late").replace("authenticate: none", scheme)
    with _reloading(several, text, "late") as status:
        secret.unlink()
    assert status() == 503
    assert several.counter("gateway_config_last_reload_successful") == 0
    assert _outcomes(several, 5, "late", "X-Secret") == {"ignored"}
    secret.write_text(SECRET)
    assert _reload(several) == 200
    assert several.counter("gateway_config_last_reload_successful") == 1
    assert _outcomes(several, 6, "late", "X-Secret") == {"accepted"}


def _mapping(gateway: Gateway) -> Path:
    return gateway.folder / "mappings" / "shop.yaml"


def _outcomes(gateway: Gateway, number: int, stage: str, proof: str = "") -> set[str]:
    """What becomes of forty deliveries of this stage, which all workers have a part of; `proof` is the
    header for the secret of the shop."""
    body = {"app": "kiosk", "commit": samples.SHA, "stage": stage}
    given = {proof: SECRET} if proof else {}

    def tell(one: int) -> str:
        told = json.dumps({**body, "at": NOW + number * 100 + one}).encode()
        answer = gateway.post("/hooks/shop", told, {"X-Id": f"{number}-{one}", **given})
        return str(answer.json()["outcome"])

    with ThreadPoolExecutor(8) as senders:
        return set(senders.map(tell, range(40)))


@contextlib.contextmanager
def _reloading(gateway: Gateway, text: str, stage: str) -> Iterator[Callable[[], int]]:
    """Reloads a mapping; the block is for what happens between the gateway's reading of it and that of
    its workers. Gives what tells the status of the answer afterwards."""
    _mapping(gateway).write_text(text)
    pids = _workers(gateway)
    payload = json.dumps(
        {"app": "kiosk", "commit": samples.SHA, "stage": stage, "at": NOW}
    ).encode()

    def is_read() -> bool:
        answer = request(gateway.internal, "POST", "/try/shop", payload)
        return bool(answer.json()["outcome"] == "accepted")

    with ThreadPoolExecutor(1) as asking:
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            answer = asking.submit(_reload, gateway)
            eventually(is_read)
            yield answer.result
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def test_a_worker_that_dies_is_replaced_and_nothing_acknowledged_is_lost(several: Gateway) -> None:
    """The others go on meanwhile, senders that retry lose nothing, and nothing is there twice; also where
    a mapping on disk is broken by now."""
    acknowledged: set[int] = set()
    stop = threading.Event()

    def send(sender: int) -> None:
        number = sender * 100_000
        while not stop.is_set():
            try:
                if _push(several, "octo/dies", number).status == 202:
                    acknowledged.add(number)
                    number += 1
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)

    senders = [threading.Thread(target=send, args=(one,)) for one in range(1, 9)]
    for sender in senders:
        sender.start()
    try:
        for _ in range(3):
            target = len(acknowledged) + 60
            eventually(partial(_is_larger, acknowledged, target))
            victim = _workers(several)[0]
            os.kill(victim, signal.SIGKILL)
            eventually(partial(_is_replaced, several, victim))
    finally:
        stop.set()
        for sender in senders:
            sender.join()
    assert "ended with -9; another one takes its place" in several.output
    shown = Counter(
        int(series.partition('commit="')[2].partition('"')[0], 16)
        for series in several.samples()
        if "/octo/dies/" in series
    )
    assert acknowledged <= shown.keys()
    assert set(shown.values()) == {1}
    eventually(lambda: several.get("/-/ready").status == 200)


def test_a_worker_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """As where memory lacks for a moment: the others go on, and it is started when it can be."""
    python = tmp_path / "python"
    python.symlink_to(Path(sys.executable).resolve())
    environment = {**SECRETS, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = (str(python), "-m", "gateway")
    with running(tmp_path, "--workers", "2", program=program, environment=environment) as gateway:
        victim, other = _workers(gateway)
        python.rename(tmp_path / "gone")
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: "cannot be started: No such file" in gateway.output)
        assert _workers(gateway) == [other]
        assert _push(gateway, "octo/one", 1).status == 202
        (tmp_path / "gone").rename(python)
        eventually(partial(_is_replaced, gateway, victim))


def test_workers_end_with_the_gateway(tmp_path: Path) -> None:
    """In order where it is told to; and by themselves where it is killed, so that it can start again."""
    with running(tmp_path, "--workers", "2") as gateway:
        _push(gateway, "octo/ends", 1)
        pids = _workers(gateway)
        assert gateway.stop() == 0
        assert not any(_is_alive(pid) for pid in pids)
        gateway.start()
        pids = _workers(gateway)
        _push(gateway, "octo/ends", 2)
        gateway.stop(signal.SIGKILL)
        eventually(lambda: not any(_is_alive(pid) for pid in pids))
        gateway.start()
        assert sum("/octo/ends/" in series for series in gateway.samples()) == 2
    journal = apsw.Connection(str(tmp_path / "data" / "journal.sqlite"))
    assert journal.execute("SELECT count(*) FROM deliveries").fetchall() == [(2,)]
    journal.close()


def _is_larger(found: set[int], size: int) -> bool:
    return len(found) > size


def _is_replaced(gateway: Gateway, victim: int) -> bool:
    pids = _workers(gateway)
    return len(pids) == 2 and victim not in pids


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
