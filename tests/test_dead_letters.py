"""Dead letters: listed, shown whole, and explained."""

from pathlib import Path

import pytest

from tests.shop import BROKEN, MENDED, TIME, Shop, delivery, mapping


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A journal with three open dead letters, and with one that was sent again with success."""
    made = Shop(tmp_path_factory.mktemp("dead-letters"))
    made.gateway.start()
    for number in (1, 2, 3):
        assert made.send(delivery(number, note="\x1b[2J")) == "dead_lettered"
    assert made.gateway.post("/hooks/shop?key=secret&page=1", b"{").status == 400
    made.adopt(mapping(MENDED))
    assert made.send(delivery(3)) == "accepted"
    made.adopt(mapping(BROKEN))
    made.gateway.stop()
    return made


def test_open_dead_letters_are_listed(shop: Shop) -> None:
    """The latest first, with their reasons, without those that were accepted when they were sent again."""
    done = shop.run("dead-letters")
    assert done.code == 0, done
    headings, *rows = done.lines
    assert headings.split() == ["received", "source", "event", "outcome", "events", "delivery"]
    assert "not JSON: line 1, column 2" in rows[1]
    assert [row.split()[-1] for row in rows[2::2]] == ["delivery-0002", "delivery-0001"]
    assert rows[3].startswith("    rule `a deployment`, field `app`")
    assert shop.run("dead-letters", "list").out == done.out


def test_the_list_is_cut_and_says_so(shop: Shop) -> None:
    done = shop.run("dead-letters", "--limit", "1")
    assert done.lines[-1] == "the latest 1 of 3; --limit shows more"
    assert shop.run("dead-letters", "--source", "github").out == "no open dead letter\n"
    found = shop.run("dead-letters", "--since", "1h", "--format", "json").objects()
    assert [one["number"] for one in found] == [4, 2, 1]


def test_a_dead_letter_is_shown_whole(shop: Shop) -> None:
    """What a terminal would obey is spelt out; no secret is there to be shown."""
    done = shop.run("dead-letters", "show", "delivery-0001")
    assert done.code == 0, done
    assert "outcome   dead_lettered" in done.lines
    assert "  content-type: application/json" in done.lines
    assert '    "name": "app-1",' in done.lines
    assert f'    "at": {TIME + 1},' in done.lines
    assert '    "note": "\\u001b[2J"' in done.lines
    (malformed, *_) = shop.run("dead-letters", "--format", "json").objects()
    done = shop.run("dead-letters", "show", malformed["delivery"])
    assert done.lines[-4:] == ["query", "  page: 1", "body", "  {"]
    whole = shop.run("dead-letters", "show", "delivery-0001", "--format", "json").json()
    assert whole["kept"]["outcome"] == "dead_lettered"
    assert whole["body"]["name"] == "app-1"


def test_a_dead_letter_is_explained_by_the_mapping_of_now(shop: Shop) -> None:
    """As `gateway explain` does."""
    done = shop.run("dead-letters", "explain", "delivery-0002")
    assert done.code == 0, done
    assert "`body` has no `nam`; did you mean `name`?" in done.out
    assert done.out == shop.run("explain", "delivery-0002").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show",), "show needs the ID of a delivery"),
        (("list", "delivery-0001"), "say show or explain"),
        (("show", "nobody"), "the journal holds no delivery `nobody`"),
        (("explain", "delivery"), "`delivery` fits 3 deliveries"),
        (("--limit", "0"), "--limit is `0`"),
    ],
)
def test_what_cannot_be_told_is_said(shop: Shop, arguments: tuple[str, ...], words: str) -> None:
    done = shop.run("dead-letters", *arguments)
    assert done.code == 2
    assert words in done.err


def test_a_replayed_dead_letter_is_open_no_more(tmp_path: Path) -> None:
    """And one that a replay made is."""
    shop = Shop(tmp_path)
    shop.gateway.start()
    assert shop.send(delivery(1)) == "dead_lettered"
    shop.adopt(mapping(MENDED))
    assert shop.send(delivery(2, what="nothing")) == "ignored"
    assert shop.run("replay", "--yes").code == 0
    assert shop.run("dead-letters").out == "no open dead letter\n"
    shop.adopt(mapping(BROKEN).replace("    when: body.what == 'deployment'\n", ""))
    assert shop.run("replay", "--yes", "--outcome", "ignored").code == 1
    shop.gateway.stop()
    (found,) = shop.run("dead-letters", "--format", "json").objects()
    assert (found["delivery"], found["outcome"]) == ("delivery-0002", "dead_lettered")
    shown = shop.run("dead-letters", "show", "delivery-0002")
    assert "outcome   dead_lettered, replayed once" in shown.lines
