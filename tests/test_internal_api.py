"""The internal listener against its description: the same routes, and any request that this allows or not.

`GATEWAY_TEST_API` is how many examples each operation gets.
"""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from litestar import Litestar

from gateway.delivery import Verdict
from gateway.replay import Asked
from tests import inprocess
from tests.documentation import DOCS
from tests.harness import running

DESCRIPTION = DOCS / "reference" / "openapi.yaml"
EXAMPLES = os.environ.get("GATEWAY_TEST_API", "25")


@pytest.fixture(scope="module")
def description() -> Any:
    return yaml.safe_load(DESCRIPTION.read_text(encoding="utf-8"))


def test_the_description_has_the_routes_that_there_are(description: Any, tmp_path: Path) -> None:
    """No more and no fewer; and so has the page."""
    described = {
        f"{method.upper()} {path}"
        for path, methods in description["paths"].items()
        for method in methods
    }
    assert described == asyncio.run(_routes(tmp_path))
    page = (DOCS / "reference" / "http.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| internal \|.*$", page, re.MULTILINE)
    assert described == set(re.findall(r"`((?:GET|POST) [^`]+)`", row))


async def _routes(folder: Path) -> set[str]:
    async with inprocess.gateway(folder) as gateway:
        assert isinstance(gateway.internal, Litestar)
        return {
            f"{method} {route.path_format}"
            for route in gateway.internal.routes
            for method in getattr(route, "methods", ())
            if method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        }


def test_the_description_has_what_a_replay_may_be_asked(description: Any) -> None:
    operation = description["paths"]["/-/replay"]["post"]
    asked = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert set(asked) == {field.name for field in msgspec.structs.fields(Asked)}
    assert asked["outcomes"]["items"]["enum"] == [verdict.value for verdict in Verdict]


def test_whatever_is_asked_is_answered_as_described(tmp_path: Path) -> None:
    """Requests that the description allows, and such as it does not: every answer is one that it has, and
    none is an error of the server's."""
    # Sources that there are, and one that is not: other names all get the same answer.
    text = DESCRIPTION.read_text(encoding="utf-8")
    named = text.replace('pattern: "^[a-z0-9-]+$"', "enum: [github, gitlab, jira, nowhere]")
    assert named != text
    (tmp_path / "openapi.yaml").write_text(named)
    with running(tmp_path) as gateway:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                *("run", "openapi.yaml", "--url", f"http://127.0.0.1:{gateway.internal}"),
                *("--max-examples", EXAMPLES, "--seed", "1", "--checks", "all", "--no-color"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=1_800,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
        assert " 8 selected / 8 total" in done.stdout
        assert "a bug" not in gateway.output
        assert gateway.get("/-/ready").status == 200
