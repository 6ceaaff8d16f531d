"""`gateway test --update`: what comes out of failing cases becomes what they expect, after review."""

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from gateway.authoring import revision
from gateway.authoring.revision import CannotRevise
from gateway.authoring.trial import Trial
from gateway.cli.suites import Suite
from gateway.settings import SettingsError

_BOM = b"\xef\xbb\xbf"
_QUESTION = "accept? [y]es, [n]o, [a]ll that follow, [q]uit: "


class _Reviewer:
    """Asks a person until the answer is all or none of what follows."""

    def __init__(self, to: TextIO, *, everything: bool) -> None:
        self.to = to
        self.everything = everything
        self.is_over = False

    def accepts(self) -> bool:
        while not self.everything and not self.is_over:
            print(_QUESTION, end="", file=self.to, flush=True)
            answer = sys.stdin.readline()
            word = answer.strip().lower()
            if word in ("y", "yes"):
                return True
            if word in ("n", "no"):
                return False
            self.everything = word in ("a", "all")
            self.is_over = word in ("q", "quit") or not answer
        return self.everything


def review(suites: Sequence[Suite], *, everything: bool, to: TextIO) -> bool:
    """Shows each failing case's new expectation and writes those that are accepted; whether any was.
    Raises SettingsError where a file cannot be written."""
    reviewer = _Reviewer(to, everything=everything)
    changed = False
    for suite in suites:
        text = suite.text
        for number, one in suite.failed.items():
            if reviewer.is_over:
                break
            proposed = _proposed(suite, text, number, one, to)
            if proposed is not None and reviewer.accepts():
                text = proposed
        if text != suite.text:
            _write(Path(suite.file), suite.text, text)
            changed = True
    return changed


def _proposed(suite: Suite, text: str, number: int, one: Trial, to: TextIO) -> str | None:
    """What an update of the case makes of the text, after it is shown as a difference."""
    print(f"{suite.file}: {one.case.name}", file=to)
    try:
        after = revision.revised(suite.file, text, number, one.actual)
    except CannotRevise as error:
        print(f"  {error}", file=to)
        return None
    lines = difflib.unified_diff(text.splitlines(), after.splitlines(), lineterm="", n=2)
    for line in list(lines)[2:]:
        print(f"  {line}".rstrip(), file=to)
    return after


def _write(path: Path, before: str, after: str) -> None:
    try:
        raw = path.read_bytes()
        mark = _BOM if raw.startswith(_BOM) else b""
        if raw != mark + before.encode():
            raise SettingsError(f"{path} changed meanwhile; run the update again")
        path.write_bytes(mark + after.encode())
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error
