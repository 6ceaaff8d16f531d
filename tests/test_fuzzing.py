"""Anything sent to any source, and anything written into a mapping: an answer, or a diagnostic, and nothing worse.

`GATEWAY_TEST_FUZZ` is how many requests are made, and a hundredth of it how many mappings are compiled. The
figures are printed: `pytest -s`.
"""

import asyncio
import gc
import os
import random
import subprocess
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from gateway.authoring.cases import Case
from gateway.mapping import library
from gateway.mapping.compiler import compile_files
from gateway.source import Source
from tests import inprocess, mutation
from tests.harness import require_program
from tests.inprocess import Answer, InProcess
from tests.load.measures import memory
from tests.test_bundled_mappings import SOURCES, read_all_cases

INPUTS = int(os.environ.get("GATEWAY_TEST_FUZZ", "20000"))
SEED = int(os.environ.get("GATEWAY_TEST_SEED", "1"))
AT_ONCE = 50
"""Requests in flight together, so that they share commits."""
SERIES = 5_000
SHARES = 20
"""After each, promtool reads a scrape."""
LONG = 0.1
"""Seconds of CPU for one input; what takes longer is printed."""
TOO_LONG = 3.0
"""No hang, even on a machine that does ten other things."""
EXPECTED = {200, 202, 400, 401, 412, 413, 415, 422}


class Sample(Struct, frozen=True):
    """A delivery to begin with."""

    source: str
    body: bytes
    headers: dict[str, str]
    query: dict[str, str]
    is_mapped: bool


def samples() -> list[Sample]:
    """The cases of all bundled sources, but those that have the gateway visit a URL."""
    return [
        _sample(source, case)
        for source in SOURCES
        for case in read_all_cases(source)
        if b"SubscribeURL" not in case.body()
    ]


def _sample(source: str, case: Case) -> Sample:
    headers = {name.lower(): value for name, value in case.headers.items()}
    headers = {"content-type": "application/json", **headers}
    return Sample(source, case.body(), headers, case.query, case.outcome == "accepted")


class Sent(Struct, frozen=True):
    """A request that was made, for whoever looks for what went wrong."""

    path: bytes
    headers: inprocess.RawHeaders
    body: bytes
    query: bytes


class Fuzzer:
    """Sends what chance makes of the samples, all of it with a proof that holds."""

    def __init__(self, gateway: InProcess, seed: int) -> None:
        self._gateway = gateway
        self._chance = random.Random(seed)
        self._samples = samples()
        self._mapped = [one for one in self._samples if one.is_mapped]
        self.answers: Counter[int] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.slowest: tuple[float, Sent] = (0.0, Sent(b"", [], b"", b""))
        self.long = 0
        self.bytes = 0

    async def send(self, count: int) -> None:
        """So many requests; fails for an answer that is none of those documented for a sender."""
        await asyncio.gather(*[self._one() for _ in range(count)])

    async def _one(self) -> None:
        sent = self._request()
        answer = await inprocess.call(
            self._gateway.public, "POST", sent.path, sent.headers, sent.body, sent.query
        )
        assert answer.status in EXPECTED, f"seed {SEED}: {answer}\n{sent}"
        self._note(sent, answer)

    def _note(self, sent: Sent, answer: Answer) -> None:
        self.answers[int(answer.status)] += 1
        self.bytes += len(sent.body)
        for outcome in (b"accepted", b"ignored", b"duplicate", b"dead_lettered", b"rejected"):
            if b'"outcome":"%s"' % outcome in answer.body:
                self.outcomes[outcome.decode()] += 1
        self.long += answer.seconds > LONG
        if answer.seconds > self.slowest[0]:
            self.slowest = answer.seconds, sent

    def _request(self) -> Sent:
        chance = self._chance
        # Most of it from what is mapped: what is passed over is passed over soon.
        sample = chance.choice(self._mapped if chance.random() < 0.7 else self._samples)
        source = self._gateway.pipeline.sources[sample.source]
        body = mutation.payload(chance, sample.body)
        headers = {name: value.encode("latin-1") for name, value in sample.headers.items()}
        if headers and chance.random() < 0.1:
            name = chance.choice(list(headers))
            headers[name] = mutation.header(chance, sample.headers[name])
        query = dict(sample.query)
        if chance.random() < 0.05:
            query[mutation.text(chance)] = mutation.text(chance)
        path = f"/hooks/{sample.source}".encode()
        if sample.source == "pelorus" and chance.random() < 0.5:
            path = b"/pelorus/webhook"
            headers = {"user-agent": b"Pelorus-Webhook/test", **headers}
        return _signed(source, path, headers, body, query)


def _signed(
    source: Source, path: bytes, headers: dict[str, bytes], body: bytes, query: dict[str, str]
) -> Sent:
    proof = source.authentication.sign(body, time.time())
    lines = {name.lower(): value.encode("latin-1") for name, value in proof.items()}
    lines["content-length"] = b"%d" % len(body)
    whole = {**headers, **lines}
    parameters = {**query, **source.authentication.parameters}
    return Sent(
        path,
        [(name.encode("latin-1"), value) for name, value in whole.items()],
        body,
        urlencode(parameters, errors="replace").encode(),
    )


def _is_readable(metrics: bytes) -> str:
    """What promtool has to say about a scrape; nothing is well."""
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=metrics,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return "" if done.returncode == 0 else done.stderr.decode()


def test_whatever_is_sent_is_answered_and_leaves_the_scrape_readable(
    tmp_path: Path,
) -> None:
    """Through authentication, mapping, journal and series of every bundled source: no answer of 5xx, no
    hang, memory as before, and after every share of it a scrape that promtool takes.
    Rows 24, 29 and 37 of the table in docs/explanation/security.md."""
    require_program("promtool")
    lines = asyncio.run(_fuzz(tmp_path))
    print("", *lines, sep="\n  ")


async def _fuzz(folder: Path) -> list[str]:
    # However busy the disk is: a journal that takes too long is not what is looked for.
    patience = ("--answer-timeout", "300")
    arguments = ("--max-series", str(SERIES), "--keep-size", "256", *patience)
    async with inprocess.gateway(folder, *arguments) as gateway:
        fuzzer = Fuzzer(gateway, SEED)
        resident = []
        cpu = time.process_time()
        for share in range(1, SHARES + 1):
            while sum(fuzzer.answers.values()) < INPUTS * share // SHARES:
                await fuzzer.send(AT_ONCE)
            assert _is_readable((await gateway.metrics()).body) == ""
            resident.append(_resident())
        cpu = time.process_time() - cpu
        shown = sum(gateway.pipeline.series.counts().values())
    # In the first half what is built once is built.
    grown = resident[-1] - resident[SHARES // 2]
    seconds, slowest = fuzzer.slowest
    assert fuzzer.outcomes["accepted"] > INPUTS / 50, fuzzer.outcomes
    assert seconds < TOO_LONG, f"seed {SEED}: {slowest}"
    assert shown <= SERIES
    # An event that joins others is remembered for good, in some tens of bytes.
    assert grown < 32 + INPUTS * 200 / 1024**2, f"{grown:.0f} MB more"
    return [
        f"{INPUTS} requests of {fuzzer.bytes / INPUTS / 1024:.1f} KiB, seed {SEED}, {cpu:.0f} s of CPU",
        f"answers {dict(sorted(fuzzer.answers.items()))}, outcomes {dict(fuzzer.outcomes)}",
        f"slowest {seconds * 1000:.0f} ms of CPU (/{slowest.path.decode()[1:]}, {len(slowest.body)} bytes); "
        f"{fuzzer.long} over {LONG * 1000:.0f} ms",
        f"memory {resident[0]:.0f} MB after a twentieth, {resident[SHARES // 2]:.0f} after a half, "
        f"{resident[-1]:.0f} at the end; {shown} series",
    ]


def _resident() -> float:
    gc.collect()
    return memory(os.getpid())


def test_whatever_a_mapping_says_is_compiled_or_reported() -> None:
    """The compiler takes the text of a mapping, or says what is wrong with it, at a place in it; it never
    fails, and never takes long. Row 36."""
    chance = random.Random(SEED)
    files = library.bundled_files()
    models = [file for file in files if "mappings" not in Path(file.name).parts]
    mappings = [file for file in files if file not in models]
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for _ in range(max(1, INPUTS // 100)):
        file = chance.choice(mappings)
        text = mutation.document(chance, file.text)
        # As the user wrote it: what is bundled was checked before it was shipped.
        changed = msgspec.structs.replace(file, text=text, layer=1)
        before = time.process_time()
        compiled = compile_files([*models, changed])
        slowest = max(slowest, time.process_time() - before)
        for one in compiled.diagnostics:
            assert one.message, text
            assert one.span.line <= text.count("\n") + 2, text
        outcomes.update({one.name for one in compiled.diagnostics} or {"no findings"})
    assert len(outcomes) > 5
    assert slowest < TOO_LONG
    print(f"\n  slowest {slowest * 1000:.0f} ms of CPU; {dict(outcomes.most_common(12))}")
