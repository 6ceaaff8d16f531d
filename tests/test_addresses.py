"""Where requests come from: whose word counts for it, networks that a mapping allows, and what the log tells."""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import addresses
from gateway.addresses import network
from gateway.app.failures import LINES, PERIOD, Failures
from tests.harness import (
    PELORUS_SECRET,
    Answer,
    Gateway,
    eventually,
    hub_signature,
    request,
    run_process,
    running,
)

PROXIES = (network("10.0.0.0/8"), network("2001:db8:1::/48"))
SECRET = "a secret of the shop's"
SIGNED = {"X-Signature": hub_signature(b"{}", SECRET)}
SCHEME = (
    "authenticate: {scheme: hmac, header: X-Signature, prefix: sha256=, secret: {env: SHOP_SECRET}}"
)
RULES = "rules: [{name: all, emit: deploytime, fields: {app: body.a, commit: body.c, timestamp: received_at}}]"


def _told(peer: str, *forwarded: str) -> str | None:
    headers = [(b"x-forwarded-for", one.encode()) for one in forwarded]
    found = addresses.sender(peer, headers, PROXIES)
    return str(found) if found else None


@pytest.mark.parametrize(
    ("peer", "forwarded", "sender"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        # Nobody who is not trusted is believed.
        ("203.0.113.9", ("192.0.2.1",), "203.0.113.9"),
        ("203.0.113.9", ("10.0.0.1, 192.0.2.1",), "203.0.113.9"),
        # Of a chain, the last one before the proxies counts: what stands before it was sent along.
        ("10.0.0.1", ("203.0.113.9",), "203.0.113.9"),
        ("10.0.0.1", ("192.0.2.1, 203.0.113.9",), "203.0.113.9"),
        ("10.0.0.1", ("192.0.2.1, 203.0.113.9, 10.9.9.9",), "203.0.113.9"),
        ("10.0.0.1", ("192.0.2.1", "203.0.113.9"), "203.0.113.9"),
        ("10.0.0.1", ("192.0.2.1, 203.0.113.9", "10.1.1.1"), "203.0.113.9"),
        # Spellings.
        ("10.0.0.1", ("203.0.113.9:4711",), "203.0.113.9"),
        ("10.0.0.1", ("[2001:db8:2::9]:4711",), "2001:db8:2::9"),
        ("10.0.0.1", ("2001:DB8:2:0::9",), "2001:db8:2::9"),
        ("10.0.0.1", (" 203.0.113.9 , ",), "203.0.113.9"),
        ("::ffff:10.0.0.1", ("::ffff:203.0.113.9",), "203.0.113.9"),
        ("2001:db8:1::5", ("203.0.113.9",), "203.0.113.9"),
        ("fe80::1%eth0", (), "fe80::1"),
        # A proxy that forwards for nobody, or for other proxies, speaks for itself.
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("10.0.0.2, 10.0.0.3",), "10.0.0.2"),
        # What is no address is nobody's, and nothing before it is looked at.
        ("10.0.0.1", ("203.0.113.9, unknown",), None),
        ("10.0.0.1", ("203.0.113.9, _hidden, 10.0.0.2",), None),
        ("10.0.0.1", ("010.0.0.2",), None),
        ("", (), None),
        ("a socket", (), None),
    ],
)
def test_the_sender_is_the_last_that_is_no_trusted_proxy(
    peer: str, forwarded: tuple[str, ...], sender: str | None
) -> None:
    """Row 49 of the table in docs/explanation/security.md."""
    assert _told(peer, *forwarded) == sender


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_no_header_breaks_it(values: list[bytes]) -> None:
    """Row 3 of the table in docs/explanation/security.md."""
    headers = [(b"x-forwarded-for", value) for value in values]
    addresses.sender("10.0.0.1", headers, PROXIES)
    assert addresses.sender("192.0.2.1", headers, PROXIES) == ip_address("192.0.2.1")


# A gateway


def _serve(
    folder: Path, allow_from: str, *arguments: str, scheme: str = SCHEME
) -> Iterator[Gateway]:
    mappings = folder / "mappings"
    mappings.mkdir()
    head = f"source: shop\n{scheme}\nallow_from: {allow_from}\n"
    (mappings / "shop.yaml").write_text(head + RULES)
    (mappings / "pelorus.yaml").write_text(
        f"source: pelorus\nextends: pelorus\nallow_from: {allow_from}\n"
    )
    environment = {"SHOP_SECRET": SECRET, "PELORUS_WEBHOOK_SECRET": PELORUS_SECRET}
    arguments = ("--mappings", str(mappings), "--watch", "0", *arguments)
    with running(folder, *arguments, environment=environment) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose sources allow another network than the loopback, and that trusts no proxy."""
    yield from _serve(tmp_path_factory.mktemp("elsewhere"), "[192.0.2.0/24]")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The same behind a proxy on the loopback."""
    folder = tmp_path_factory.mktemp("behind")
    trusted = ("--trusted-proxies", "127.0.0.0/8, 10.0.0.0/8,::1")
    yield from _serve(folder, "[192.0.2.0/24]", *trusted)


def _shop(gateway: Gateway, forwarded: str = "", **headers: str) -> Answer:
    more = {"X-Forwarded-For": forwarded} if forwarded else {}
    return gateway.post("/hooks/shop", b"{}", {**SIGNED, **headers, **more})


def test_another_network_is_refused_like_a_wrong_proof(elsewhere: Gateway) -> None:
    """With the right proof: the same 401, byte for byte, as for a wrong one and for nobody's source; it
    is counted as one. Row 48 of the table in docs/explanation/security.md."""
    series = 'gateway_refused_total{reason="unauthorized",source="shop"}'
    before = elsewhere.counter(series)
    refused = _shop(elsewhere)
    wrong = elsewhere.post("/hooks/shop", b"{}", {"X-Signature": "sha256=0"})
    nobody = elsewhere.post("/hooks/nobody", b"{}", SIGNED)
    answers = {
        (one.status, one.body, tuple(sorted(one.headers.keys() - {"date"})))
        for one in (refused, wrong, nobody)
    }
    assert len(answers) == 1
    assert refused.status == 401
    assert elsewhere.counter(series) == before + 2
    line = (
        "shop refused, from 127.0.0.1: its proof holds, and `allow_from` does not have the address"
    )
    eventually(lambda: line in elsewhere.output)


@pytest.mark.parametrize("claim", ["192.0.2.1", "127.0.0.1, 192.0.2.1", "192.0.2.1, 127.0.0.1"])
def test_a_claim_of_an_address_is_not_believed(elsewhere: Gateway, claim: str) -> None:
    """Where no proxy is trusted. Row 49 of the table in docs/explanation/security.md."""
    others = {"Forwarded": "for=192.0.2.1", "X-Real-IP": "192.0.2.1"}
    for headers in ({}, others):
        assert _shop(elsewhere, claim, **headers).status == 401


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [
        ("192.0.2.1", 202),
        ("192.0.2.255, 10.1.2.3", 202),
        ("203.0.113.9, 192.0.2.1", 202),
        ("192.0.2.1, 203.0.113.9", 401),
        ("192.0.3.1", 401),
        ("", 401),
        ("192.0.2.1, unknown", 401),
    ],
)
def test_a_trusted_proxy_is_believed(behind: Gateway, forwarded: str, status: int) -> None:
    """As far as it saw itself. Row 49."""
    assert _shop(behind, forwarded).status == status


def test_the_right_network_proves_nothing(behind: Gateway) -> None:
    """It is a second factor."""
    answer = behind.post(
        "/hooks/shop", b"{}", {"X-Signature": "sha256=0", "X-Forwarded-For": "192.0.2.1"}
    )
    assert answer.status == 401


def test_pelorus_s_route_asks_for_the_network_as_well(behind: Gateway) -> None:
    body = b'{"app": "todo"}'
    headers = {
        "User-Agent": "Pelorus-Webhook/test",
        "X-Pelorus-Event": "ping",
        "X-Hub-Signature-256": hub_signature(body, PELORUS_SECRET),
    }
    for forwarded, status in (("192.0.2.1", 200), ("203.0.113.9", 400)):
        answer = behind.post("/pelorus/webhook", body, {**headers, "X-Forwarded-For": forwarded})
        assert answer.status == status, answer


def test_a_network_may_be_all_that_is_asked_for(tmp_path: Path) -> None:
    """Of a source that says `authenticate: none`."""
    for gateway in _serve(tmp_path, "[127.0.0.1]", scheme="authenticate: none"):
        assert gateway.post("/hooks/shop", b"{}").status == 202
        text = (tmp_path / "mappings/shop.yaml").read_text()
        (tmp_path / "mappings/shop.yaml").write_text(text.replace("127.0.0.1", "192.0.2.0/24"))
        assert request(gateway.internal, "POST", "/-/reload", b"").status == 200
        assert gateway.post("/hooks/shop", b"{}").status == 401


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("10.0.0.1/8", "has bits behind its prefix; did you mean `10.0.0.0/8`?"),
        ("proxy.example.com", "which is no network"),
        ("10.0.0.0/8;::1", "which is no network"),
    ],
)
def test_what_is_no_network_is_told_at_the_start(tmp_path: Path, given: str, words: str) -> None:
    for arguments, environment, name in (
        (("--trusted-proxies", given), {}, "--trusted-proxies"),
        ((), {"GATEWAY_TRUSTED_PROXIES": given}, "GATEWAY_TRUSTED_PROXIES"),
    ):
        run = run_process("serve", *arguments, cwd=tmp_path, environment=environment)
        assert run.returncode == 2
        assert f"{name} holds `{given}`" in run.stderr
        assert words in run.stderr


# Failures


def test_failures_are_counted_exactly_told_a_few_times_and_lock_nobody_out(
    behind: Gateway,
) -> None:
    """Two hundred wrong proofs from one address, among them right ones from the same: each is judged.
    Row 52 of the table in docs/explanation/security.md."""
    series = 'gateway_refused_total{reason="unauthorized",source="shop"}'
    before, lines = behind.counter(series), behind.output.count("shop refused")
    wrong = {"X-Signature": "sha256=" + "0" * 64, "X-Forwarded-For": "192.0.2.66"}
    for number in range(200):
        assert behind.post("/hooks/shop", b"{}", wrong).status == 401
        if number % 20 == 0:
            assert _shop(behind, "192.0.2.66").status == 202
    assert behind.counter(series) == before + 200
    assert behind.output.count("shop refused") - lines <= LINES


def test_what_the_log_leaves_out_it_counts() -> None:
    """Each source has a few lines a minute, and says in the next minute how many it left out. Row 52."""
    now = 0.0
    told: list[str] = []
    failures = Failures(lambda _, text: told.append(text), lambda: now)
    for _ in range(100):
        failures.note("shop", "192.0.2.1", "wrong")
    failures.note("", "192.0.2.1", "wrong")
    assert len(told) == LINES + 1
    assert told[-1] == "a source that is not served refused, from 192.0.2.1: wrong"
    now += PERIOD
    failures.note("shop", "192.0.2.1", "wrong")
    failures.note("shop", "192.0.2.1", "wrong")
    assert told[-2].endswith(f"wrong; {100 - LINES} more before, not told")
    assert re.fullmatch(r"shop refused, from 192\.0\.2\.1: wrong", told[-1])
