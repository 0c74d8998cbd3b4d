"""Servers that these tests need: where one is missing they skip on a laptop and fail under CI."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from shared import settings
from shared.ledger import engine
from tests.integration import postgres
from workers.inference import finished_rounds


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Give a running PostgreSQL."""
    programs = postgres.binaries()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail("no PostgreSQL server is installed: `make test` installs it")
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    with postgres.server(programs) as url:
        yield url


def new_database(postgres_url: str) -> str:
    """Make an empty database on a server; give its URL."""
    base = sa.make_url(postgres_url)
    name = f"t{uuid.uuid4().hex}"
    maintenance = sa.create_engine(base, isolation_level="AUTOCOMMIT")
    with maintenance.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    maintenance.dispose()
    return base.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(autouse=True)
def _new_runs() -> None:
    """Forget the options of runs, which a worker reads once: the tests' runs have the same names."""
    finished_rounds.plan_of.cache_clear()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_ledger(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Point the settings at an empty ledger, once on SQLite and once on PostgreSQL."""
    if request.param == "postgresql":
        monkeypatch.setenv("VOTEQUEUE_LEDGER_URL", new_database(request.getfixturevalue("postgres_url")))
    settings.load.cache_clear()
    engine.engine.cache_clear()
    assert engine.engine().dialect.name == request.param
    yield request.param
    engine.engine().dispose()
    engine.engine.cache_clear()
    settings.load.cache_clear()
