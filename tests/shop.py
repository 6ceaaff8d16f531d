"""A source of our own for tests of the journal, with a mapping that can be broken and mended."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from tests.harness import Answer, Gateway, request, run_cli

MENDED = "body.name"
BROKEN = "body.nam"
"""A path that finds nothing: whatever comes is a dead letter."""
TIME = 1_790_000_000
RULE = """
  - name: a deployment
    when: body.what == 'deployment'
    emit: deploytime
    fields:
      app: {app}
      commit: body.commit
      timestamp: body.at
"""
COMMITS = """
  - name: a commit
    when: body.what == 'commit'
    emit: committime
    fields:
      app: body.name
      commit: body.commit
      timestamp: body.at
"""


def mapping(app: str, more: str = "", source: str = "shop") -> str:
    rules = RULE.format(app=app) + more
    return f"source: {source}\nauthenticate: none\ndelivery_id: body.id\nevent: body.what\nrules:{rules}"


def delivery(number: int, **changes: Any) -> dict[str, Any]:
    """A deployment of an app of its own."""
    return {
        "id": f"delivery-{number:04}",
        "what": "deployment",
        "name": f"app-{number}",
        "commit": f"{number:040x}",
        "at": TIME + number,
        **changes,
    }


class Shop:
    """A folder with the mapping of the source `shop`, and the gateway that serves it, if one does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mappings = folder / "mappings"
        self.mappings.mkdir()
        self.journal = folder / "data" / "journal.sqlite"
        self.write(mapping(BROKEN))
        arguments = ("--mappings", str(self.mappings), "--watch", "0")
        self.gateway = Gateway(folder, *arguments, environment={})

    def write(self, text: str, name: str = "shop") -> None:
        (self.mappings / f"{name}.yaml").write_text(text)

    def adopt(self, text: str) -> None:
        """Has the running gateway serve another mapping."""
        self.write(text)
        answer = request(self.gateway.internal, "POST", "/-/reload", b"")
        assert answer.status == 200, answer

    def send(self, payload: Any, source: str = "shop") -> str:
        """Sends a delivery; its outcome."""
        answer = self.gateway.post(f"/hooks/{source}", json.dumps(payload).encode())
        return str(answer.json().get("outcome", answer.status))

    def run(self, *arguments: str) -> "Run":
        """A command with the flags that it needs to find everything."""
        command, *rest = arguments
        flags = ["--journal", f"sqlite:///{self.journal}"]
        if command in ("replay", "dead-letters", "explain"):
            flags += ["--mappings", str(self.mappings)]
        environment = {"GATEWAY_INTERNAL_LISTEN": f"127.0.0.1:{self.gateway.internal}"}
        done = run_cli(
            command, *rest, *flags, cwd=self.folder, environment={**PATHS, **environment}
        )
        return Run(done.returncode, done.stdout, done.stderr)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query of the journal's file gives. Not in a process that has the file open otherwise."""
        connection = apsw.Connection(str(self.journal))
        try:
            return [tuple(row) for row in connection.execute(query, values)]
        finally:
            connection.close()

    def outcomes(self) -> list[tuple[Any, ...]]:
        """The rows of deliveries in order: outcome, and which delivery is replayed."""
        return self.rows("SELECT outcome, replay_of FROM deliveries ORDER BY seq")


PATHS = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


class Run:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def json(self) -> Any:
        return json.loads(self.out)

    def objects(self) -> list[Any]:
        """An object of each line."""
        return [json.loads(line) for line in self.lines]

    def __repr__(self) -> str:
        return f"<{self.code} {self.out!r} {self.err!r}>"


def ask(gateway: Gateway, asked: Any) -> Answer:
    """A replay by HTTP; bytes as they are."""
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    return request(gateway.internal, "POST", "/-/replay", body)


def messages(answer: Answer) -> Sequence[Any]:
    return [json.loads(line) for line in answer.body.splitlines()]
