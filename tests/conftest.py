"""Fixtures that several test files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.harness import Gateway, running
from tests.journals import Home, PostgresHome, SqliteHome
from tests.postgres import Server, server

# How long an example takes says nothing on a machine that does other things as well.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A running gateway with the bundled sources, its journal in a folder of its own."""
    with running(tmp_path) as process:
        yield process


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A running gateway that the tests of one file share, where they do not mind each other."""
    with running(tmp_path_factory.mktemp("shared")) as process:
        yield process


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of the tests' own."""
    with server() as running_server:
        yield running_server


@pytest.fixture
def database(postgres: Server) -> Iterator[str]:
    """The name of a new database."""
    name = postgres.create()
    yield name
    postgres.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A place for a journal, in each of the databases that may hold one."""
    if request.param == "sqlite":
        return SqliteHome(tmp_path / "journal.sqlite")
    name = request.getfixturevalue("database")
    return PostgresHome(request.getfixturevalue("postgres").url(name))
