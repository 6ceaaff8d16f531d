"""Enters a container's root and becomes a program there, as a runtime starts one."""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

NO_NEW_PRIVILEGES = 38
"""PR_SET_NO_NEW_PRIVS of prctl(2)."""


def enter(task: Any) -> None:
    """Becomes the program: a read-only root with the mounts, a user of group 0 without capabilities.

    A runtime does the same by the platform's word. buildah's own `run` cannot make the root
    read-only where it isolates by chroot alone.
    """
    root = Path(task["root"])
    mounts = [("/proc", "/proc", True), ("/dev", "/dev", True), *task["mounts"]]
    _mount("--bind", str(root), str(root))
    for folder, target, writable in mounts:
        place = root / target.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        _mount("--rbind", folder, str(place))
        if not writable:
            _mount("-o", "remount,bind,ro", str(place))
    _mount("-o", "remount,bind,ro", str(root))
    os.chroot(root)
    os.chdir(task["folder"])
    os.umask(0o022)
    os.setgroups(task["groups"])
    os.setgid(0)
    # Every capability goes with the last of root's user ids.
    os.setuid(task["user"])
    assert ctypes.CDLL(None).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    os.execvp(task["arguments"][0], task["arguments"])


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=30)


if __name__ == "__main__":
    enter(json.loads(sys.argv[1]))
