"""Reloading: what is good replaces what is served at once, what is wrong changes nothing."""

import asyncio
import http.client
import json
import os
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from gateway.delivery import Verdict
from gateway.event import Event
from gateway.history import FEW
from gateway.journal.entry import Entry, JournalUnavailable
from gateway.journal.sqlite import SqliteStore
from gateway.journal.writer import Writer
from gateway.mapping import library
from gateway.mapping.compiler import SourceFile, compile_files
from gateway.model import Model
from gateway.pipeline import Pipeline
from gateway.series import Series, Window
from gateway.telemetry import Telemetry
from tests.harness import (
    SECRETS,
    Answer,
    Gateway,
    eventually,
    hub_signature,
    request,
    run_cli,
    running,
)

SECRET = "a secret of the shop's"
SUCCESSFUL = "gateway_config_last_reload_successful"
RELOADED_AT = "gateway_config_last_reload_success_timestamp_seconds"
ENVIRONMENT = {**SECRETS, "SHOP_SECRET": SECRET}
NEVER = ("--watch", "0")
OFTEN = ("--watch", "0.2")


def mapping(app: str, source: str = "shop", secret: str = "SHOP_SECRET") -> str:
    """A mapping that gives every deployment this app."""
    return (
        f"source: {source}\n"
        "authenticate:\n"
        "  scheme: hmac\n"
        "  header: X-Signature\n"
        "  prefix: sha256=\n"
        f"  secret: {{env: {secret}}}\n"
        "rules:\n"
        "  - name: a deployment\n"
        "    emit: deploytime\n"
        "    fields:\n"
        f"      app: \"'{app}'\"\n"
        "      commit: body.commit\n"
        "      timestamp: body.at\n"
    )


BROKEN = mapping("broken").replace("body.commit", "body.commit ||")


def body(number: int) -> bytes:
    return json.dumps({"commit": f"{number:040x}", "at": 1_790_000_000 + number % 10**6}).encode()


def deliver(gateway: Gateway, number: int, source: str = "shop", secret: str = SECRET) -> Answer:
    """A signed delivery that tells of one deployment."""
    raw = body(number)
    return gateway.post(f"/hooks/{source}", raw, {"X-Signature": hub_signature(raw, secret)})


def app(gateway: Gateway, number: int) -> str:
    """The app that the mapping in force gives to a deployment."""
    answer = deliver(gateway, number)
    assert answer.status == 202, answer
    return str(answer.json()["events"][0]["app"])


def reload(gateway: Gateway) -> Answer:
    return request(gateway.internal, "POST", "/-/reload", b"")


class Volume:
    """A folder as Kubernetes mounts a ConfigMap or a Secret: visible names are links through `..data`,
    which a rename turns to the next generation; the one before is then removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        folder.mkdir()

    def publish(self, files: Mapping[str, str]) -> None:
        self._number += 1
        generation = self.folder / f"..2026_11_22.{self._number}"
        generation.mkdir()
        for name, text in files.items():
            (generation / name).write_text(text)
        data = self.folder / "..data"
        before = data.resolve() if data.exists() else None
        (self.folder / "..data_tmp").symlink_to(generation.name)
        (self.folder / "..data_tmp").rename(data)
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        for child in self.folder.iterdir():
            if child.is_symlink() and not child.name.startswith(".") and child.name not in files:
                child.unlink()
        if before is not None:
            shutil.rmtree(before)


@pytest.fixture
def mappings(tmp_path: Path) -> Path:
    """A folder of mappings with the source `shop`, in its first version."""
    folder = tmp_path / "mappings"
    folder.mkdir()
    (folder / "shop.yaml").write_text(mapping("first"))
    return folder


@pytest.fixture
def shop(tmp_path: Path, mappings: Path) -> Iterator[Gateway]:
    """A gateway that serves it, and watches nothing."""
    arguments = ("--mappings", str(mappings), *NEVER)
    with running(tmp_path, *arguments, environment=ENVIRONMENT) as gateway:
        yield gateway


# Asked for


def test_a_changed_mapping_is_served_from_then_on(shop: Gateway, mappings: Path) -> None:
    """The answer says what changed and what is served."""
    assert app(shop, 1) == "first"
    (mappings / "shop.yaml").write_text(mapping("second"))
    assert app(shop, 2) == "first"
    answer = reload(shop)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {
        "changed": True,
        "files": [str(mappings / "shop.yaml")],
        "secrets": [],
        "added": [],
        "removed": [],
        "live": ["github", "gitlab", "jira", "pelorus", "shop"],
        "missing": sorted(library.bundled_sources() - {"github", "gitlab", "jira", "pelorus"}),
    }
    assert app(shop, 3) == "second"
    assert "reloaded (POST /-/reload): 5 sources live; changed files: " in shop.output


def test_where_nothing_changed_nothing_is_done(shop: Gateway) -> None:
    """And the answer says so; it was a success all the same."""
    before = shop.counter(RELOADED_AT)
    answer = reload(shop)
    assert (answer.status, answer.json()["changed"]) == (200, False)
    assert shop.counter(RELOADED_AT) > before
    assert "reloaded (POST /-/reload): 5 sources live; no change" in shop.output


def test_what_is_wrong_changes_nothing_and_is_told(shop: Gateway, mappings: Path) -> None:
    """By the answer, the metrics and the log, with the report of `gateway check`; until it is mended."""
    good = shop.counter(RELOADED_AT)
    assert shop.counter(SUCCESSFUL) == 1
    (mappings / "shop.yaml").write_text(BROKEN)
    answer = reload(shop)
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["detail"] == "1 error in 1 file; what was served before is served on"
    checked = run_cli("check", str(mappings)).stdout.rstrip("\n")
    assert problem["report"] == checked
    assert checked in shop.output
    assert f"{mappings}/shop.yaml:12:29: error[expression-syntax]" in shop.output
    (finding,) = problem["diagnostics"]
    assert finding["span"]["file"] == str(mappings / "shop.yaml")
    assert finding["span"]["line"] == 12
    assert (shop.counter(SUCCESSFUL), shop.counter(RELOADED_AT)) == (0, good)
    assert app(shop, 1) == "first"
    (mappings / "shop.yaml").write_text(mapping("mended"))
    assert reload(shop).status == 200
    assert shop.counter(SUCCESSFUL) == 1
    assert shop.counter(RELOADED_AT) > good
    assert app(shop, 2) == "mended"


def test_a_hangup_reloads(shop: Gateway, mappings: Path) -> None:
    """SIGHUP, also where what it finds is wrong."""
    assert shop.process is not None
    (mappings / "shop.yaml").write_text(BROKEN)
    shop.process.send_signal(signal.SIGHUP)
    eventually(lambda: "not reloaded (SIGHUP), " in shop.output)
    (mappings / "shop.yaml").write_text(mapping("second"))
    shop.process.send_signal(signal.SIGHUP)
    eventually(lambda: " INFO reloaded (SIGHUP): " in shop.output)
    assert app(shop, 1) == "second"
    assert shop.stop() == 0


def test_sources_come_and_go(shop: Gateway, mappings: Path) -> None:
    """With the gauge that says which are served; what was counted stays."""
    live = 'gateway_source_live{source="%s"}'
    assert app(shop, 1) == "first"
    (mappings / "shop.yaml").unlink()
    (mappings / "kiosk.yaml").write_text(mapping("kiosk", source="kiosk"))
    answer = reload(shop).json()
    assert (answer["added"], answer["removed"]) == (["kiosk"], ["shop"])
    assert deliver(shop, 2).status == 401
    assert deliver(shop, 3, source="kiosk").status == 202
    assert shop.counter(live % "kiosk") == 1
    assert live % "shop" not in shop.get("/metrics").body.decode()
    assert shop.counter('gateway_deliveries_total{outcome="accepted",source="shop"}') == 1
    assert shop.counter('gateway_deliveries_total{outcome="accepted",source="kiosk"}') == 1
    (mappings / "shop.yaml").write_text(mapping("again"))
    (mappings / "kiosk.yaml").unlink()
    assert reload(shop).json()["added"] == ["shop"]
    assert shop.counter(live % "shop") == 1


def test_a_mapping_without_its_secret_is_wrong(shop: Gateway, mappings: Path) -> None:
    """As at the start."""
    (mappings / "kiosk.yaml").write_text(mapping("kiosk", source="kiosk", secret="KIOSK_SECRET"))
    answer = reload(shop)
    assert answer.status == 422
    assert "kiosk.yaml:2:1: error[secret-not-set]" in answer.json()["report"]
    assert app(shop, 1) == "first"


def test_a_folder_that_is_gone_is_wrong(shop: Gateway, mappings: Path) -> None:
    """Its sources are served on: most likely a volume is not mounted."""
    mappings.rename(mappings.with_name("elsewhere"))
    answer = reload(shop)
    assert answer.status == 422
    assert answer.json()["detail"].startswith(f"cannot read {mappings}: No such file or directory")
    assert app(shop, 1) == "first"
    assert shop.counter(SUCCESSFUL) == 0
    mappings.with_name("elsewhere").rename(mappings)
    assert (reload(shop).status, shop.counter(SUCCESSFUL)) == (200, 1)


def test_requests_while_one_is_served_see_what_was_written_before_them(
    shop: Gateway, mappings: Path
) -> None:
    """Many at once are few reloads, and each answers for the files as they were when it was asked."""
    wrong: list[str] = []

    def ask(name: str) -> None:
        pauses = random.Random(name)
        for turn in range(5):
            # Out of step, so that some ask while what another asked for is being built.
            time.sleep(pauses.uniform(0, 0.2))
            file = mappings / f"{name}-{turn}.yaml"
            file.write_text(mapping("x", source=f"{name}-{turn}"))
            answer = reload(shop)
            if answer.status != 200 or f"{name}-{turn}" not in answer.json()["live"]:
                wrong.append(f"{name}-{turn}: {answer}")

    askers = [threading.Thread(target=ask, args=(f"asker-{number}",)) for number in range(6)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(timeout=60)
    assert not wrong
    assert shop.output.count("reloaded (POST /-/reload)") <= 30


# Secrets


def test_a_secret_is_rotated_without_a_restart(tmp_path: Path, mappings: Path) -> None:
    """The new one is taken, the old one no longer; the mapping is the same. Row 12 of the table in
    docs/explanation/security.md."""
    secrets = Volume(tmp_path / "secrets")
    secrets.publish({"SHOP_SECRET": SECRET, "GITHUB_WEBHOOK_SECRET": "g" * 20})
    arguments = ("--mappings", str(mappings), "--secrets", str(secrets.folder), *OFTEN)
    with running(tmp_path, *arguments, environment={}) as gateway:
        assert deliver(gateway, 1).status == 202
        secrets.publish(
            {"SHOP_SECRET": "a new one of some length", "GITHUB_WEBHOOK_SECRET": "g" * 20}
        )
        eventually(lambda: "changed secrets of shop" in gateway.output)
        assert deliver(gateway, 2).status == 401
        assert deliver(gateway, 3, secret="a new one of some length").status == 202
        # A bundled source comes alive with its secret, and goes with it.
        gitlab = 'gateway_source_live{source="gitlab"}'
        github = 'gateway_source_live{source="github"}'
        assert (gateway.counter(gitlab), gateway.counter(github)) == (0, 1)
        secrets.publish({"SHOP_SECRET": SECRET, "GITLAB_WEBHOOK_SECRET": "l" * 20})
        eventually(lambda: gateway.counter(gitlab))
        assert gateway.counter(github) == 0
        assert deliver(gateway, 4).status == 202
        # One that a source of the user's own needs is not taken away.
        secrets.publish({})
        eventually(lambda: gateway.counter(SUCCESSFUL) == 0)
        assert "error[secret-not-set]" in gateway.output
        assert "a new one" not in gateway.output
        assert deliver(gateway, 5).status == 202


def test_new_secrets_are_for_new_sources_too(tmp_path: Path, mappings: Path) -> None:
    """A gateway that makes up secrets at its start does so for a mapping that comes later."""
    arguments = ("--mappings", str(mappings), "--new-secrets", *NEVER)
    with running(tmp_path, *arguments, environment={}) as gateway:
        text = mapping("kiosk", source="kiosk", secret="KIOSK_SECRET")
        (mappings / "kiosk.yaml").write_text(text)
        assert reload(gateway).json()["added"] == ["kiosk"]
        written = (tmp_path / "data/secrets/KIOSK_SECRET").read_text().strip()
        assert deliver(gateway, 1, source="kiosk", secret=written).status == 202
        assert reload(gateway).json()["changed"] is False


# Watched for


def test_a_changed_folder_is_seen(tmp_path: Path, mappings: Path) -> None:
    """A file written, broken, mended and removed; what stays wrong is said once."""
    arguments = ("--mappings", str(mappings), *OFTEN)
    with running(tmp_path, *arguments, environment=ENVIRONMENT) as gateway:
        eventually(lambda: f"looking for changes of {mappings}, data/secrets" in gateway.output)
        (mappings / "shop.yaml").write_text(mapping("second"))
        eventually(lambda: "reloaded (a change was seen)" in gateway.output)
        assert app(gateway, 1) == "second"
        (mappings / "shop.yaml").write_text(BROKEN)
        eventually(lambda: gateway.counter(SUCCESSFUL) == 0)
        assert app(gateway, 2) == "second"
        time.sleep(3)  # Long enough for several looks.
        assert gateway.output.count("error[expression-syntax]") == 1
        (mappings / "shop.yaml").write_text(mapping("second"))
        eventually(lambda: gateway.counter(SUCCESSFUL) == 1)
        (mappings / "shop.yaml").unlink()
        eventually(lambda: "4 sources live" in gateway.output)
        assert deliver(gateway, 3).status == 401
        assert "Traceback" not in gateway.output


def test_a_configmap_s_swap_is_seen(tmp_path: Path) -> None:
    """Reports name the files as they were named, not the hidden folder that they lie in."""
    volume = Volume(tmp_path / "mounted")
    volume.publish({"shop.yaml": mapping("first")})
    arguments = ("--mappings", str(volume.folder), *OFTEN)
    with running(tmp_path, *arguments, environment=ENVIRONMENT) as gateway:
        assert app(gateway, 1) == "first"
        files = {"shop.yaml": mapping("second"), "kiosk.yaml": mapping("x", source="kiosk")}
        volume.publish(files)
        eventually(lambda: gateway.counter('gateway_source_live{source="kiosk"}'))
        assert app(gateway, 2) == "second"
        volume.publish({"shop.yaml": BROKEN})
        eventually(lambda: gateway.counter(SUCCESSFUL) == 0)
        assert f"{volume.folder}/shop.yaml:12:29: error[expression-syntax]" in gateway.output
        assert "..2026" not in gateway.output
        volume.publish({"shop.yaml": mapping("third")})
        eventually(lambda: gateway.counter(SUCCESSFUL) == 1)
        assert app(gateway, 3) == "third"


def test_a_link_that_is_turned_is_seen(tmp_path: Path) -> None:
    """As tools that check out repositories do: the named folder itself is the link."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shop.yaml").write_text(mapping(name))
    current = tmp_path / "current"
    current.symlink_to("one")
    with running(tmp_path, "--mappings", str(current), *OFTEN, environment=ENVIRONMENT) as gateway:
        assert app(gateway, 1) == "one"
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(current)
        eventually(lambda: "reloaded (a change was seen)" in gateway.output)
        assert app(gateway, 2) == "two"


def test_files_are_read_as_they_were_at_one_moment(tmp_path: Path) -> None:
    """However often the volume is swapped meanwhile; what is linked into it is not read twice."""
    volume = Volume(tmp_path / "mounted")
    names = [f"part-{number}.yaml" for number in range(8)]
    volume.publish(dict.fromkeys(names, "0"))
    (volume.folder / "plain.yaml").write_text("plain")
    stop = threading.Event()

    def swap() -> None:
        number = 0
        while not stop.wait(0.003):
            number += 1
            # The number of files differs from generation to generation.
            volume.publish(dict.fromkeys(names[: 4 + number % 5], str(number)))

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen = set()
    try:
        for _ in range(300):
            read = library.read_paths([volume.folder], layer=1).files
            assert read[-1].name == str(volume.folder / "plain.yaml")
            (text,) = {file.text for file in read[:-1]}
            assert len(read) - 1 == (8 if text == "0" else 4 + int(text) % 5)
            assert all(file.name.startswith(str(volume.folder / "part-")) for file in read[:-1])
            seen.add(text)
    finally:
        stop.set()
        swapper.join()
    assert len(seen) > 10


def test_a_folder_that_never_rests_is_told(tmp_path: Path) -> None:
    """Rather than read in halves, or for ever."""
    file = tmp_path / "shop.yaml"
    file.write_text("0")
    read = 0

    def write() -> str:
        nonlocal read
        read += 1
        file.write_text(str(read) * read)
        return file.read_text()

    with pytest.raises(library.Unreadable, match=r"shop\.yaml changed while it was read, 8 times"):
        library.steadily(lambda: library.look([tmp_path]), write)
    assert read == library.ATTEMPTS


# Deliveries in flight


class Slowly:
    """A delivery whose body stops after its first bytes, until it is finished."""

    def __init__(self, gateway: Gateway, path: str, raw: bytes, signature: str = "") -> None:
        self._gateway = gateway
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"X-Signature: {signature}\r\nContent-Length: {len(raw)}\r\n\r\n"
        )
        self._raw = raw

    def __enter__(self) -> Self:
        address = ("127.0.0.1", self._gateway.public)
        self._socket = socket.create_connection(address, timeout=20)
        self._socket.sendall(self._head.encode() + self._raw[:10])
        # A request that is answered after it shows that the head of this one was read.
        self._gateway.get("/-/ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def finish(self) -> Answer:
        self._socket.sendall(self._raw[10:])
        response = http.client.HTTPResponse(self._socket)
        response.begin()
        return Answer(response)


def test_a_delivery_in_flight_keeps_the_plan_it_began_with(tmp_path: Path, mappings: Path) -> None:
    """And its authentication: it was signed under the old secret."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "SHOP_SECRET").write_text(SECRET)
    arguments = ("--mappings", str(mappings), "--secrets", str(secrets), *NEVER)
    with running(tmp_path, *arguments, environment={}) as gateway:
        raw = body(1)
        with Slowly(gateway, "/hooks/shop", raw, hub_signature(raw, SECRET)) as slowly:
            (mappings / "shop.yaml").write_text(mapping("second"))
            (secrets / "SHOP_SECRET").write_text("a new one of some length")
            assert reload(gateway).json()["secrets"] == ["shop"]
            assert deliver(gateway, 2).status == 401
            answer = slowly.finish()
        assert (answer.status, answer.json()["events"][0]["app"]) == (202, "first")
        assert deliver(gateway, 3, secret="a new one of some length").json()["events"][0][
            "app"
        ] == ("second")
        shown = gateway.samples()
        assert sum('app="/first/"' in series for series in shown) == 1
        assert sum('app="/second/"' in series for series in shown) == 1


# Models


def slo(label: str, text: str) -> str:
    """A model whose metric has this label and this help."""
    return (
        "kind: slo\n"
        "fields:\n"
        "  app: {type: app}\n"
        "  name: {type: text}\n"
        "  ratio: {type: number}\n"
        "metrics:\n"
        f"  - name: slo_ratio\n    help: {text}\n    value: ratio\n"
        f"    labels: {{app: app, {label}: name}}\n"
    )


SLO = (
    "source: slo\nauthenticate: none\nrules:\n"
    "  - {name: a ratio, emit: slo, fields: {app: body.app, name: body.name, ratio: body.good}}\n"
)


def shown_lines(gateway: Gateway) -> list[str]:
    """What a scrape shows of events, with help and types."""
    lines = gateway.get("/metrics").body.decode().splitlines()
    return [line for line in lines if "gateway_" not in line]


def test_changed_models_change_what_past_events_show(tmp_path: Path) -> None:
    """As a restart would: labels, help, and events whose kind was not known for a while."""
    models, mappings = tmp_path / "models", tmp_path / "mappings"
    models.mkdir()
    mappings.mkdir()
    (models / "slo.yaml").write_text(slo("objective", "Share of good requests"))
    (mappings / "slo.yaml").write_text(SLO)
    arguments = ("--schemas", str(models), "--mappings", str(mappings), *NEVER)
    stop = threading.Event()
    failed: list[Answer] = []

    def send(gateway: Gateway) -> None:
        number = 0
        while not stop.wait(0.002):
            number += 1
            raw = json.dumps({"app": "busy", "name": f"n{number}", "good": number})
            answer = gateway.post("/hooks/slo", raw.encode())
            # While the source is out of service, it is as any that nobody serves.
            if answer.status not in (202, 401):
                failed.append(answer)

    with running(tmp_path, *arguments) as gateway:
        gateway.post("/hooks/slo", b'{"app": "shop", "name": "speed", "good": 0.995}')
        assert 'slo_ratio{app="/shop/",objective="speed"}' in gateway.samples()
        sender = threading.Thread(target=send, args=(gateway,))
        sender.start()
        try:
            raw = b'{"app": "shop", "name": "late", "good": 0.5}'
            with Slowly(gateway, "/hooks/slo", raw) as slowly:
                (models / "slo.yaml").write_text(slo("slo", "The share of good requests"))
                assert reload(gateway).status == 200
                # Mapped by the model of before, and shown as that of now says.
                assert slowly.finish().status == 202
            assert 'slo_ratio{app="/shop/",slo="late"}' in gateway.samples()
            assert "# HELP slo_ratio The share of good requests" in shown_lines(gateway)
            assert 'slo_ratio{app="/shop/",slo="speed"}' in gateway.samples()
            (mappings / "slo.yaml").unlink()
            (models / "slo.yaml").unlink()
            assert reload(gateway).json()["removed"] == ["slo"]
            assert not any("slo_ratio" in line for line in shown_lines(gateway))
            assert 'metric="slo_ratio"' not in gateway.get("/metrics").body.decode()
            (models / "slo.yaml").write_text(slo("goal", "Good requests"))
            (mappings / "slo.yaml").write_text(SLO)
            assert reload(gateway).json()["added"] == ["slo"]
        finally:
            stop.set()
            sender.join()
        assert not failed
        assert 'slo_ratio{app="/shop/",goal="speed"}' in gateway.samples()
        reloaded = shown_lines(gateway)
        gateway.stop()
        gateway.start()
        assert sorted(shown_lines(gateway)) == sorted(reloaded)
        assert sum('app="/busy/"' in line for line in reloaded) > 5


def _models(label: str) -> Mapping[str, Model]:
    files = [*library.bundled_files(), SourceFile("slo.yaml", slo(label, "Good requests"), 1)]
    return compile_files(files).models


def _entry(number: int) -> Entry:
    commit: dict[str, Any] = {
        "app": "shop",
        "commit": f"{number:040x}",
        "timestamp": 1_790_000_000 + number,
    }
    objective: dict[str, Any] = {"app": "shop", "name": f"n{number}", "ratio": number}
    return Entry(
        source="shop",
        delivery_id=f"d-{number}",
        event="",
        received_at=1_790_000_000.0 + number / 10,
        verdict=Verdict.ACCEPTED,
        reasons=(),
        events=(Event("slo", objective), Event("committime", commit)),
        headers={},
        query={},
        body=b"{}",
    )


class _LateToBegin(SqliteStore):
    """Its history is read so late that it holds some of what is told meanwhile, too."""

    def last_event(self) -> int:
        time.sleep(0.1)
        return super().last_event()


def _shown(series: Series, now: int) -> list[tuple[str, str, list[Any]]]:
    series.advance(now)
    return [(family.name, family.help, sorted(family.lines)) for family in series.families()]


def test_series_of_other_models_are_those_of_a_restart(tmp_path: Path) -> None:
    """Also of what is committed while the history is folded anew: nothing is lost, nothing double.
    And models that show the same keep the series."""
    journal = Writer(_LateToBegin(tmp_path / "journal.sqlite"))
    new_series = partial(Series, window=Window(length=3_000_000, spacing=5_000))

    async def pipeline_of(label: str) -> Pipeline:
        pipeline = Pipeline(
            {}, _models(label), new_series, journal, Telemetry("0"), clock=lambda: 1_790_000_000
        )
        await pipeline.shown.begin()
        return pipeline

    async def append(numbers: Iterable[int]) -> None:
        await asyncio.gather(*(journal.append(_entry(number)) for number in numbers))

    async def story() -> None:
        journal.start()
        pipeline = await pipeline_of("one")
        for start in range(0, 2_000, 1_000):
            await append(range(start, start + 1_000))
        last, meanwhile = 2_000, 0
        for label in ("two", "three", "four"):
            adopting = asyncio.create_task(pipeline.adopt({}, _models(label)))
            while not adopting.done():
                await append(range(last, last + 40))
                last, meanwhile = last + 40, meanwhile + 40
            await adopting
            await append(range(last, last + 5))
            last += 5
            fresh = await pipeline_of(label)
            now = 1_790_000_000_000 + last * 100
            assert _shown(pipeline.series, now) == _shown(fresh.series, now)
            assert pipeline.series.correlation.conflicts == fresh.series.correlation.conflicts
            # Later deliveries are not told to anybody else than the pipeline.
            journal.follow(pipeline.shown.tell)
        assert meanwhile > 2 * FEW
        before = pipeline.series
        await pipeline.adopt({}, _models("four"))
        assert pipeline.series is before

    try:
        asyncio.run(story())
    finally:
        journal.close()


def test_a_journal_that_cannot_be_read_keeps_what_is_served(tmp_path: Path) -> None:
    """Whole: neither the sources nor the series are new."""
    path = tmp_path / "journal.sqlite"
    journal = Writer(SqliteStore(path))
    new_series = partial(Series, window=Window(length=60_000, spacing=5_000))

    async def story() -> None:
        journal.start()
        pipeline = Pipeline({}, _models("one"), new_series, journal, Telemetry("0"))
        await pipeline.shown.begin()
        before = pipeline.shown.view
        path.rename(tmp_path / "elsewhere")
        with pytest.raises(JournalUnavailable):
            await pipeline.adopt({}, _models("two"))
        assert pipeline.shown.view is before
        (tmp_path / "elsewhere").rename(path)
        await pipeline.adopt({}, _models("two"))
        assert pipeline.shown.view is not before

    try:
        asyncio.run(story())
    finally:
        journal.close()


# The start


def test_a_hangup_at_the_start_waits_until_the_gateway_is_ready(
    tmp_path: Path, mappings: Path
) -> None:
    """It does not end the process."""
    gateway = Gateway(tmp_path, "--mappings", str(mappings), *NEVER, environment=ENVIRONMENT)
    starting = threading.Thread(target=gateway.start)
    starting.start()
    try:
        eventually((tmp_path / "data/journal.sqlite.lock").exists, every=0.001)
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGHUP)
        starting.join()
        eventually(lambda: "reloaded (SIGHUP): 5 sources live; no change" in gateway.output)
        assert "not watching for changes" in gateway.output
        assert gateway.stop() == 0
    finally:
        starting.join()
        gateway.stop(signal.SIGKILL)


# Many


GENERATIONS = int(os.environ.get("GATEWAY_TEST_RELOADS", "500"))
SENDERS = 4
BROKEN_ENDS = (
    "  - name: {",  # No YAML.
    "  - {name: no kind, emit: nothing, fields: {app: body.a}}\n",
    "  - {name: no function, emit: deploytime, fields: {app: nothing(body)}}\n",
    "unknown_key: 1\n",
)


def _generation(number: int) -> dict[str, str]:
    """Two files: a delivery to `both` yields an event of a rule of either, each with the number. One
    generation of five is wrong."""
    first = mapping(f"g-{number}", source="first")
    both = (
        "source: both\nextends: first\nrules:\n"
        "  - name: the same, as a failure\n"
        "    emit: failure\n"
        "    fields:\n"
        f"      app: \"'g-{number}'\"\n"
        "      event: \"'created'\"\n"
        "      issue_number: body.commit\n"
        "      timestamp: body.at\n"
    )
    if _is_wrong(number):
        both += BROKEN_ENDS[number // 5 % len(BROKEN_ENDS)]
    return {"first.yaml": first, "both.yaml": both}


def _is_wrong(number: int) -> bool:
    return number % 5 == 3


class Sender:
    """Posts signed deliveries on one connection until it is stopped, and looks at every answer."""

    def __init__(self, gateway: Gateway, first: int) -> None:
        self.sent = 0
        self.wrong: list[str] = []
        self.seen: set[int] = set()
        self.in_force = 0
        """The generation of the last reload that succeeded before a delivery is sent."""
        self._gateway = gateway
        self._first = first
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.public, timeout=30)
        try:
            while not self._stop.wait(0.005) and len(self.wrong) < 10:
                self._deliver(connection)
        except (OSError, http.client.HTTPException) as error:
            self.wrong.append(repr(error))
        finally:
            connection.close()

    def _deliver(self, connection: http.client.HTTPConnection) -> None:
        raw = body(self._first + self.sent)
        headers = {
            "Content-Type": "application/json",
            "X-Signature": hub_signature(raw, SECRET),
        }
        least = self.in_force
        connection.request("POST", "/hooks/both", raw, headers)
        answer = Answer(connection.getresponse())
        self.sent += 1
        if answer.status != 202:
            self.wrong.append(repr(answer))
            return
        generations = [int(event["app"].removeprefix("g-")) for event in answer.json()["events"]]
        self.seen |= set(generations)
        if len(generations) != 2 or len(set(generations)) != 1 or generations[0] < least:
            self.wrong.append(f"{generations} where {least} was in force")


def test_many_reloads_under_load(tmp_path: Path) -> None:
    """500, one of five wrong: every delivery is taken, each by one generation, the one in force."""
    volume = Volume(tmp_path / "mounted")
    volume.publish(_generation(0))
    arguments = ("--mappings", str(volume.folder), *NEVER)
    with running(tmp_path, *arguments, environment=ENVIRONMENT) as gateway:
        senders = [Sender(gateway, number * 10**9) for number in range(SENDERS)]
        statuses = []
        try:
            for number in range(1, GENERATIONS + 1):
                volume.publish(_generation(number))
                began = time.time()
                statuses.append(reload(gateway).status)
                if _is_wrong(number):
                    assert gateway.counter(SUCCESSFUL) == 0
                else:
                    for sender in senders:
                        sender.in_force = number
        finally:
            for sender in senders:
                sender.stop()
        expected = [422 if _is_wrong(number) else 200 for number in range(1, GENERATIONS + 1)]
        assert statuses == expected
        assert [sender.wrong for sender in senders] == [[]] * SENDERS
        seen = set.union(*(sender.seen for sender in senders))
        assert not any(map(_is_wrong, seen))
        assert len(seen) > GENERATIONS / 10
        sent = sum(sender.sent for sender in senders)
        assert gateway.counter('gateway_deliveries_total{outcome="accepted",source="both"}') == sent
        assert gateway.counter('gateway_events_total{kind="deploytime"}') == sent
        assert gateway.counter('gateway_events_total{kind="failure"}') == sent
        assert gateway.counter(SUCCESSFUL) == 1
        assert gateway.counter(RELOADED_AT) >= began
        assert gateway.counter('gateway_source_live{source="both"}') == 1
        assert "Traceback" not in gateway.output
        assert gateway.stop() == 0
