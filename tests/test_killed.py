"""kill -9: what got a 2xx is there afterwards, once and unaltered; and a long history delays no start."""

import contextlib
import hashlib
import http.client
import json
import os
import random
import signal
import sqlite3
import threading
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Self

from gateway.apps import NO_TABLE, Naming
from gateway.history import View
from gateway.journal.sqlite import SqliteStore
from gateway.mapping import library
from gateway.mapping.compiler import compile_files
from gateway.series import Series, Window
from tests import histories, samples
from tests.harness import Gateway, eventually, running

KILLS = int(os.environ.get("GATEWAY_TEST_KILLS", "20"))
EVENTS = int(os.environ.get("GATEWAY_TEST_HISTORY", "50000"))
SENDERS = 16
START = 1_790_000_000


class Senders:
    """Threads that each send deliveries of their own, one after the other and each until it got its
    2xx, as senders that retry do. Digests are those of the bodies, by the delivery's id."""

    def __init__(self, gateway: Gateway) -> None:
        self.sent: dict[str, str] = {}
        self.acknowledged: dict[str, str] = {}
        self.retries = 0
        self.trouble: list[object] = []
        self._gateway = gateway
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        """Returns when so many more deliveries were acknowledged."""
        target = len(self.acknowledged) + more
        eventually(lambda: len(self.acknowledged) >= target, timeout=120, every=0.01)

    def _send(self, sender: int) -> None:
        chance = random.Random(sender)
        number = 0
        while not self._stop.is_set():
            number += 1
            commit = f"{sender:08x}{number:032x}"
            payload = samples.github_push(f"octo/app-{sender}", commit, START + number)
            payload["padding"] = chance.randbytes(chance.choice([0, 100, 1_000, 10_000])).hex()
            body = json.dumps(payload).encode()
            self.sent[commit] = hashlib.sha256(body).hexdigest()
            while not self._stop.is_set() and not self._is_acknowledged(commit, body):
                self.retries += 1
                time.sleep(0.05)

    def _is_acknowledged(self, commit: str, body: bytes) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = self._gateway.github("push", body, commit)
            if answer.status == 202:
                self.acknowledged[commit] = hashlib.sha256(body).hexdigest()
                return True
            if answer.status != 503:
                self.trouble.append(answer)
        return False


def survives(gateway: Gateway, journal: Path, kills: int) -> None:
    """Kills a gateway so many times under senders that retry, and ends it. Of all deliveries with a 2xx,
    none is lost, none is there twice, and each has the bytes that were sent; and the series are those of
    the events, each once."""
    with Senders(gateway) as senders:
        for kill in range(kills):
            senders.wait_for(20)
            time.sleep(random.Random(kill).uniform(0, 0.8))
            gateway.stop(signal.SIGKILL)
            gateway.start()
    eventually(lambda: gateway.counter("gateway_history_folded") == 1, timeout=60)
    shown = [
        line.partition('commit="')[2].partition('"')[0]
        for line in gateway.get("/metrics").body.decode().splitlines()
        if line.startswith("commit_timestamp{")
    ]
    assert gateway.stop() in (0, -signal.SIGTERM)
    kept, commits = _journal(journal)
    acknowledged, stored = senders.acknowledged, dict(kept)
    print(
        f"{kills} kills, {len(acknowledged)} acknowledged, {len(kept)} kept, {senders.retries} retries"
    )
    assert not senders.trouble
    assert len(acknowledged) >= 20 * kills
    assert senders.retries >= kills
    assert [one for one in acknowledged if one not in stored] == [], "lost"
    assert [one for one, times in Counter(one for one, _ in kept).items() if times > 1] == []
    assert [one for one, digest in kept if digest != senders.sent[one]] == [], "altered"
    assert Counter(commits) == Counter(stored.keys())
    assert Counter(shown) == Counter(commits)


LIMITS = ("--max-series", "1000000", "--max-series-of-app", "1000000")


def test_whatever_was_acknowledged_survives_kills(tmp_path: Path) -> None:
    """Under senders that retry, nothing acknowledged is lost, doubled or altered."""
    with running(tmp_path, "--scrape-interval", "0", *LIMITS) as gateway:
        survives(gateway, tmp_path / "data" / "journal.sqlite", KILLS)


def _journal(path: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """The deliveries that a journal has, each id with the digest of its body; and the commits of its
    events."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        kept = [
            (delivery, hashlib.sha256(zlib.decompress(body) if packed else body).hexdigest())
            for delivery, packed, body in database.execute(
                "SELECT delivery_id, compressed, body FROM deliveries"
            )
        ]
        commits = database.execute("SELECT json_extract(fields, '$.commit') FROM events")
        return kept, [commit for (commit,) in commits]


def test_deliveries_are_taken_while_a_long_history_is_folded(tmp_path: Path) -> None:
    """Readiness does not wait for the history, and what comes meanwhile is kept and answered. Once the
    history is shown, it is so with what came, as a fresh fold of the journal shows it."""
    path = tmp_path / "data" / "journal.sqlite"
    histories.write(path, EVENTS, time.time())
    with running(tmp_path, "--scrape-interval", "0") as gateway:
        assert gateway.counter("gateway_history_folded") == 0, "too short a history to tell"
        assert gateway.samples() == {}
        taken = 0
        while gateway.counter("gateway_history_folded") == 0:
            push = samples.github_push("octo/shop", f"{taken:040x}", time.time() - 60)
            assert gateway.github("push", push, f"d-{taken}").json()["outcome"] == "accepted"
            taken += 1
        assert taken
        shown = gateway.samples()
        assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL
    assert sum('app="/octo/shop/"' in series for series in shown) == taken
    assert shown == _folded(path)
    assert len(shown) > histories.RECENT / 2


def _folded(path: Path) -> dict[str, tuple[float, int]]:
    """The samples that a fold of a journal from its first event on shows, as `Gateway.samples` has them."""
    models = compile_files(library.bundled_files(())).models
    view = View(Series(models, Window(2_700_000, 0)), Naming(NO_TABLE, models))
    with contextlib.closing(SqliteStore(path)) as store:
        view.take(store.events())
    view.series.advance(round(time.time() * 1000))
    lines = [line.text for family in view.series.families() for line in family.lines]
    return {series: (float(value), int(at)) for series, value, at in map(_split, lines)}


def _split(line: str) -> list[str]:
    return line.rstrip().rsplit(" ", 2)
