"""Flower's configuration, executed as Flower does it."""

import os
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import programs
from shared import broker
from shared import settings as environment
from tests.conftest import forget


@pytest.fixture(autouse=True)
def fresh_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HOST", "PORT", "AUTH", "DB", "TASKS"):
        monkeypatch.delenv(f"VOTEQUEUE_FLOWER_{name}", raising=False)
    forget()
    yield
    forget()
    broker.app.conf.broker_use_ssl = False


def configuration() -> dict[str, object]:
    environment.load.cache_clear()
    try:
        return runpy.run_path(str(programs.FLOWER_CONFIG))
    finally:
        environment.load.cache_clear()


def test_it_is_read_only_and_on_loopback_by_default() -> None:
    names = configuration()
    assert (names["address"], names["port"], names["read_only"]) == ("127.0.0.1", 5555, True)
    assert names["basic_auth"] == []
    assert (names["persistent"], names["max_tasks"]) == (False, 20_000)


def test_it_keeps_its_tasks_in_a_file_of_its_own_and_as_many_as_one_wants(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VOTEQUEUE_FLOWER_DB", str(tmp_path / "new" / "flower.db"))
    monkeypatch.setenv("VOTEQUEUE_FLOWER_TASKS", "500")
    umask = os.umask(0o022)
    try:
        names = configuration()
        assert os.umask(0o022) == 0o077
    finally:
        os.umask(umask)
    assert (names["persistent"], names["max_tasks"]) == (True, 500)
    assert names["db"] == str(tmp_path / "new" / "flower.db")
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0


def test_every_public_name_is_an_option_of_flower() -> None:
    from flower.options import default_options

    options = default_options.as_dict()
    ignored = {"annotations", "os", "sys", "programs", "environment", "file_permissions", "UserError"}
    ignored |= {"broker", "Metrics", "authenticated"}
    names = {name for name in configuration() if not name.startswith("_")} - ignored
    assert names <= options.keys()
    assert {"read_only", "basic_auth", "address", "persistent", "max_tasks"} <= names


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "flower"])
def test_it_does_not_open_to_others_without_a_login(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("VOTEQUEUE_FLOWER_HOST", host)
    with pytest.raises(SystemExit, match="VOTEQUEUE_FLOWER_AUTH"):
        configuration()
    monkeypatch.setenv("VOTEQUEUE_FLOWER_AUTH", "me:secret")
    names = configuration()
    assert (names["address"], names["basic_auth"], names["read_only"]) == (host, ["me:secret"], True)


@pytest.mark.parametrize("login", ["secret", ":secret", "me:"])
def test_half_a_login_is_refused(monkeypatch: pytest.MonkeyPatch, login: str) -> None:
    monkeypatch.setenv("VOTEQUEUE_FLOWER_AUTH", login)
    with pytest.raises(SystemExit, match="user:password"):
        configuration()


def test_the_api_cannot_be_opened_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWER_UNAUTHENTICATED_API", "true")
    configuration()
    assert "FLOWER_UNAUTHENTICATED_API" not in os.environ
