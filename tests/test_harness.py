"""What tests share works where several processes of tests run at once."""

import subprocess
import sys

from tests.harness import PORTS, PORTS_OF_ONE, ROOT, free_port

_TAKE = "from tests.harness import free_port; print(*(free_port() for _ in range(20)), flush=True); input()"


def test_no_two_processes_are_given_one_port() -> None:
    """While both live; nor is one given a port twice before it had all of its own."""
    others = [
        subprocess.Popen(
            [sys.executable, "-c", _TAKE],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        given = [free_port() for _ in range(20)]
        for other in others:
            assert other.stdout is not None
            given += map(int, other.stdout.readline().split())
    finally:
        for other in others:
            other.communicate("\n", timeout=60)
    assert len(given) == len(set(given)) == 60
    assert {port for port in given if port not in PORTS} == set()
    assert PORTS_OF_ONE > 20
