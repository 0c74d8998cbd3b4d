"""Ledgers that earlier commits wrote (`tests/fixtures/ledgers`), opened by this one: all of it can be read.

74522df/sqlite.db.gz, 74522df/postgresql.sql.gz  ->  status, collect, report, explain, failed, models
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from shared import settings
from shared.ledger import claims, engine, outbox
from tests.conftest import Command, forget
from tests.integration import conftest, run_fixtures

LEDGERS = Path(__file__).parents[1] / "fixtures" / "ledgers"
COMMITS = sorted(folder.name for folder in LEDGERS.iterdir() if (folder / "sqlite.db.gz").exists())
INFER = ("answered", "judged", "again", "waiting")
DATA = ("wrong", "paused", "more")
RUNS = (*INFER, *DATA, "judge")


@pytest.fixture(params=[(commit, dialect) for commit in COMMITS for dialect in ("sqlite", "postgresql")])
def old_ledger(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a copy of an old ledger."""
    commit, dialect = request.param
    if dialect == "sqlite":
        place = home / "var" / "ledger.db"
        place.parent.mkdir()
        place.write_bytes(gzip.decompress((LEDGERS / commit / "sqlite.db.gz").read_bytes()))
    else:
        url = conftest.new_database(request.getfixturevalue("postgres_url"))
        dump = gzip.decompress((LEDGERS / commit / "postgresql.sql.gz").read_bytes())
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(dump)
        monkeypatch.setenv("VOTEQUEUE_LEDGER_URL", url)
    settings.load.cache_clear()
    engine.engine.cache_clear()
    yield
    forget()


pytestmark = pytest.mark.usefixtures("old_ledger")


def test_status_lists_all_runs_and_tells_how_far_each_is(votequeue: Command) -> None:
    overview = votequeue("status")
    assert overview.code == 0
    for run in RUNS:
        assert run in overview.out
        ended = votequeue("status", run)
        assert (ended.code, ended.out.startswith(f"run {run}: ")) == (0, True)
        assert json.loads(votequeue("status", run, "--json").out)["run"] == run


def test_finished_runs_are_collected_and_open_ones_say_what_is_lacking(
    home: Path, votequeue: Command
) -> None:
    for run in (*INFER, "wrong", "more"):
        ended = votequeue("collect", run, "-o", f"{run}.jsonl")
        # Some of each was given up, or is still open, but for what was judged to the end.
        assert ended.code == (0 if run in ("judged", "again") else 1), ended.err
        assert run_fixtures.read(home / f"{run}.jsonl")
    letters = [
        question["answer"]
        for one in run_fixtures.read(home / "judged.jsonl")
        for question in one["questions"]
    ]
    assert len(letters) == 11
    assert set(letters) <= set("ABCDE")


def test_reports_of_all_kinds_of_runs_are_written(home: Path, votequeue: Command) -> None:
    for run in RUNS:
        ended = votequeue("report", run, "-o", f"report-{run}")
        assert ended.code == 0, ended.err
        assert (home / f"report-{run}" / "report.md").exists()
    assert votequeue("report", "judged", "--revote").code == 0
    assert json.loads(votequeue("report", "answered", "--json").out)["rounds"].keys() == {"1", "2", "3"}


def test_the_story_of_an_item_is_told(votequeue: Command) -> None:
    for run in (*INFER, *DATA):
        ended = votequeue("trace", run, "0")
        assert ended.code == 0, ended.err
    assert "the engine died" in votequeue("trace", "answered", "1").out


def test_dead_items_are_listed_with_their_reasons(votequeue: Command) -> None:
    said = votequeue("failed", "answered").out
    assert "its worker died" in said
    assert "vLLM refuses the prompt" in said
    assert "content filter" in votequeue("failed", "wrong").out


def test_models_are_listed_with_what_is_in_use(votequeue: Command) -> None:
    found = json.loads(votequeue("models", "--json").out)
    assert [(one["kind"], one["run"]) for one in found] == [("scorer", "judge")]
    assert votequeue("models", "show", found[0]["name"]).code == 0


def test_what_is_open_can_be_claimed_and_what_was_held_is_found_expired() -> None:
    settings.load()
    assert len(claims.expire(5)) == 2
    jobs = outbox.unsent(100, "waiting")
    held = claims.claim(jobs, "new", 60)
    assert [claim.job.item for claim in held] == [2, 3]
