"""A PostgreSQL server of the tests' own, which they may break, and a network to it that they may cut."""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from tests.harness import eventually, free_port, lacking, require_program

USER = "postgres"
PASSWORD = "a test password"
_PROGRAMS = "/usr/lib/postgresql"


def programs() -> Path:
    """The folder of the newest server's programs."""
    found = sorted(
        Path(_PROGRAMS).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3].split(".")[0])
    )
    if not found:
        lacking("a PostgreSQL server")
    return found[-1].parent


class Server:
    """A server with its data in a folder of its own, on a port of the loopback; durable. With a primary
    it is a standby of that one, which knows it by its name."""

    def __init__(self, folder: Path, primary: "Server | None" = None, name: str = "") -> None:
        self.port = free_port()
        self._folder = folder
        self._data = folder / "data"
        self._programs = programs()
        self._names = itertools.count(1)
        if os.getuid() == 0:
            shutil.chown(folder, USER)
        if primary is not None:
            self._run(
                "pg_basebackup",
                *("-d", f"{primary.url(USER)}?application_name={name}"),
                *("-D", str(self._data), "--write-recovery-conf", "--checkpoint=fast"),
            )
            return
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb",
            *("-D", str(self._data), "-U", USER, "-E", "UTF8", "--locale=C"),
            *("-A", "scram-sha-256", f"--pwfile={password}"),
        )

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        if os.getuid() == 0:
            # A server refuses to run as root.
            command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command]
        with (self._folder / "output").open("a") as output:
            subprocess.run(
                command, stdout=output, stderr=output, check=True, cwd=self._folder, timeout=60
            )

    def start(self) -> "Server":
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", log, "-o", options, "start")
        return self

    def stop(self, mode: str = "fast") -> None:
        if self.is_running:
            self._run("pg_ctl", "-D", str(self._data), "-w", "-m", mode, "stop")

    def promote(self) -> None:
        """Makes a standby a primary."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "promote")

    @property
    def is_running(self) -> bool:
        return bool(self._processes())

    def _processes(self) -> list[int]:
        """The server's process and its children."""
        try:
            first = int((self._data / "postmaster.pid").read_text().split()[0])
        except (OSError, IndexError):
            return []
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                words = path.read_text().rpartition(")")[2].split()
                if int(words[1]) == first or path.parent.name == str(first):
                    found.append(int(path.parent.name))
        return sorted(found, key=first.__ne__)

    def kill(self) -> None:
        """kill -9 of every process."""
        killed = self._processes()
        for process in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        eventually(lambda: not any(Path(f"/proc/{process}").exists() for process in killed))
        (self._data / "postmaster.pid").unlink()

    def url(self, database: str, port: int = 0, user: str = USER) -> str:
        secret = PASSWORD.replace(" ", "%20")
        return f"postgresql://{user}:{secret}@127.0.0.1:{port or self.port}/{database}"

    def execute(self, statement: str, database: str = USER) -> list[tuple[Any, ...]]:
        """One statement on a connection of its own; its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def create(self) -> str:
        """A new database; its name."""
        name = f"journal_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def drop(self, database: str) -> None:
        self.execute(f"DROP DATABASE {database} WITH (FORCE)")


@contextlib.contextmanager
def server(primary: Server | None = None, name: str = "") -> Iterator[Server]:
    """A running server, or a standby, for the length of a block."""
    # Not in pytest's own folder, which the server's user may not enter.
    folder = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))
    made = None
    try:
        made = Server(folder, primary, name)
        yield made.start()
    finally:
        if made is not None and made.is_running:
            made.stop("immediate")
        shutil.rmtree(folder)


class Network:
    """Passes connections on to a port, until it is cut: `silent`, as a cable that is pulled, or with a
    word, as a machine that restarts. Once told to, it loses the answer to the next COMMIT."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._silent = threading.Event()
        self._loses_commit = threading.Event()
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, *, silent: bool = False) -> None:
        """Ends every connection, or lets nothing through any more in either direction."""
        if silent:
            self._silent.set()
            return
        with self._lock:
            broken, self._open = self._open, set()
        for one in broken:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """What was silent stays so; new connections work."""
        self._silent.clear()

    def lose_commit(self) -> None:
        self._loses_commit.set()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                with self._lock:
                    self._open |= {client, server}
                link = _Link()
                for source, target in ((client, server), (server, client)):
                    arguments = (source, target, link, source is client)
                    threading.Thread(target=self._pass, args=arguments, daemon=True).start()

    def _pass(
        self, source: socket.socket, target: socket.socket, link: "_Link", is_request: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if self._silent.is_set():
                    link.is_dead = True
                if link.is_dead:
                    continue
                if is_request and b"COMMIT\0" in data and self._loses_commit.is_set():
                    self._loses_commit.clear()
                    link.loses_answer = True
                if not is_request and link.loses_answer:
                    self.lost += 1
                    break
                target.sendall(data)
        with self._lock:
            self._open -= {source, target}
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        source.close()


class _Link:
    """What befalls one connection."""

    is_dead = False
    loses_answer = False


@contextlib.contextmanager
def network(target: int) -> Iterator[Network]:
    made = Network(target)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def pgbouncer(server: Server) -> Iterator[int]:
    """A pooler in transaction mode with fewer sessions than clients, for the length of a block; its port."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="gateway-pgbouncer-"))
    (folder / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
    (folder / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {folder}/users\npool_mode = transaction\n"
        "default_pool_size = 2\n"
    )
    user: tuple[str, ...] = ()
    if os.getuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, USER)
        user = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    with (folder / "log").open("w") as output:
        process = subprocess.Popen(
            [*user, require_program("pgbouncer"), str(folder / "ini")], stdout=output, stderr=output
        )
    try:
        eventually(lambda: _listens(port))
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)
        shutil.rmtree(folder)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
