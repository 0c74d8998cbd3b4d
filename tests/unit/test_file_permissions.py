"""Who may read what is written below the home folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import file_permissions, settings
from shared.ledger import engine


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o002)
    yield
    os.umask(before)


def mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o777:o}"


def test_the_ledger_and_its_folders_are_their_owners_alone(home: Path) -> None:
    with engine.writing():
        names = {path.name: mode(path) for path in (home / "var").iterdir()}
    assert mode(home / "var") == "700"
    assert names == dict.fromkeys(("ledger.db", "ledger.db-wal", "ledger.db-shm"), "600")


def test_what_is_there_keeps_its_mode(home: Path) -> None:
    (home / "var").mkdir(mode=0o775)
    (home / "var" / "ledger.db").touch(0o664)
    with engine.writing():
        assert (mode(home / "var"), mode(home / "var" / "ledger.db")) == ("775", "664")


def test_what_is_written_for_a_while_is_the_owners_and_then_follows_the_umask(tmp_path: Path) -> None:
    with file_permissions.only_owner():
        (tmp_path / "ours").touch()
    (tmp_path / "theirs").touch()
    assert (mode(tmp_path / "ours"), mode(tmp_path / "theirs")) == ("600", "664")


@pytest.mark.parametrize(("shared", "made"), [(0o770, "660"), (0o755, "644"), (0o700, "600")])
def test_models_that_a_team_shares_are_as_open_as_its_folder(
    shared: int, made: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "trained").mkdir()
    (home / "trained").chmod(shared)
    monkeypatch.setenv("VOTEQUEUE_TRAINED", str(home / "trained"))
    settings.load.cache_clear()
    with file_permissions.masked(settings.load().trained_mask):
        (home / "trained" / "model").touch()
    assert mode(home / "trained" / "model") == made


def test_models_below_home_are_their_owners_alone(home: Path) -> None:
    assert settings.load().trained_mask == file_permissions.ONLY_OWNER
