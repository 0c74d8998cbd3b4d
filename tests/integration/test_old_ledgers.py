"""Ledgers that earlier commits wrote (`tests/fixtures/ledgers`), opened by this one: all of it can be read.

74522df/sqlite.db.gz, 74522df/postgresql.sql.gz  ->  status, collect, report, explain, failed, models
"""

import gzip
import io
import json
import logging
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from shared import settings
from shared.errors import UserError
from shared.ledger import backups, claims, engine, leases, migrations, outbox, runs, schema
from shared.ledger import votes as recorded_votes
from tests.conftest import Command, forget
from tests.integration import conftest, run_fixtures

LEDGERS = Path(__file__).parents[1] / "fixtures" / "ledgers"
COMMITS = sorted(folder.name for folder in LEDGERS.iterdir() if (folder / "sqlite.db.gz").exists())
INFER = ("answered", "judged", "again", "waiting")
DATA = ("wrong", "paused", "more")
RUNS = (*INFER, *DATA, "judge")


@pytest.fixture(params=[(commit, dialect) for commit in COMMITS for dialect in ("sqlite", "postgresql")])
def old_ledger(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have a copy of an old ledger; give its database's name."""
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
    yield dialect
    forget()


@pytest.fixture
def upgraded(old_ledger: str, votequeue: Command) -> str:
    """Have an old ledger that was upgraded; give its database's name."""
    assert "from revision 1 to 10" in votequeue("ledger", "upgrade").out
    return old_ledger


@pytest.fixture
def on_sqlite(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the old SQLite ledger; give its file."""
    path = home / "var" / "ledger.db"
    path.parent.mkdir()
    path.write_bytes(gzip.decompress((LEDGERS / "74522df" / "sqlite.db.gz").read_bytes()))
    forget()
    return path


def revision() -> str | None:
    with engine.reading() as connection:
        return migrations.current(connection)


@pytest.mark.usefixtures("upgraded")
def test_status_lists_all_runs_and_tells_how_far_each_is(votequeue: Command) -> None:
    overview = votequeue("status")
    assert overview.code == 0
    for run in RUNS:
        assert run in overview.out
        ended = votequeue("status", run)
        assert (ended.code, ended.out.startswith(f"run {run}: ")) == (0, True)
        assert json.loads(votequeue("status", run, "--json").out)["run"] == run


@pytest.mark.usefixtures("upgraded")
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


@pytest.mark.usefixtures("upgraded")
def test_reports_of_all_kinds_of_runs_are_written(home: Path, votequeue: Command) -> None:
    for run in RUNS:
        ended = votequeue("report", run, "-o", f"report-{run}")
        assert ended.code == 0, ended.err
        assert (home / f"report-{run}" / "report.md").exists()
    assert votequeue("report", "judged", "--revote").code == 0
    assert json.loads(votequeue("report", "answered", "--json").out)["rounds"].keys() == {"1", "2", "3"}


@pytest.mark.usefixtures("upgraded")
def test_the_story_of_an_item_is_told(votequeue: Command) -> None:
    for run in (*INFER, *DATA):
        ended = votequeue("trace", run, "0")
        assert ended.code == 0, ended.err
    assert "the engine died" in votequeue("trace", "answered", "1").out


@pytest.mark.usefixtures("upgraded")
def test_dead_items_are_listed_with_their_reasons(votequeue: Command) -> None:
    said = votequeue("failed", "answered").out
    assert "its worker died" in said
    assert "vLLM refuses the prompt" in said
    assert "content filter" in votequeue("failed", "wrong").out


@pytest.mark.usefixtures("upgraded")
def test_models_are_listed_with_what_is_in_use(votequeue: Command) -> None:
    found = json.loads(votequeue("models", "--json").out)
    assert [(one["kind"], one["run"]) for one in found] == [("scorer", "judge")]
    assert votequeue("models", "show", found[0]["name"]).code == 0


@pytest.mark.usefixtures("upgraded")
def test_what_is_open_can_be_claimed_and_what_was_held_is_found_expired() -> None:
    settings.load()
    assert len(claims.expire(5)) == 2
    jobs = outbox.unsent(100, "waiting")
    held = claims.claim(jobs, "new", 60)
    assert [claim.job.item for claim in held] == [2, 3]


@pytest.mark.usefixtures("old_ledger")
def test_what_only_reads_never_upgrades_and_says_what_to_run_where_a_table_is_missing(
    votequeue: Command,
) -> None:
    assert votequeue("status").code == 0
    for run in INFER:
        assert votequeue("status", run).code == 0
    assert votequeue("collect", "judged", "-o", "judged.jsonl").code == 0
    for words in (
        ("status", "judge"),
        ("report", "wrong"),
        ("report", "answered"),
        ("trace", "answered", "1"),
    ):
        ended = votequeue(*words)
        assert (ended.code, ended.err.count("\n")) == (1, 1)
        assert "has revision 1" in ended.err
        assert "`votequeue ledger upgrade`" in ended.err
    assert revision() == "1"


def test_the_first_writer_upgrades_sqlite_and_is_refused_by_postgresql(
    old_ledger: str, home: Path, caplog: pytest.LogCaptureFixture, votequeue: Command
) -> None:
    if old_ledger == "postgresql":
        with pytest.raises(UserError, match="stop all workers, then run `votequeue ledger upgrade`"):
            engine.ready()
        assert revision() == "1"
        # An upgrade by another process is seen.
        engine.upgrade()
        engine.engine().update_execution_options(revision="1")
        engine.ready()
        return
    before = backups_of(home)
    caplog.set_level(logging.INFO)
    assert len(claims.expire(5)) == 2
    [backup] = backups_of(home) - before
    assert backup.name == "ledger.db.revision-1.backup"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert [record.message for record in caplog.records] == [
        f"the ledger was upgraded from revision 1 to 10; {backup} is a backup of the old one"
    ]
    # The backup is a whole ledger, from before.
    assert votequeue("ledger", "restore", backup, "--force").code == 0
    assert revision() == "1"
    # It is never written over.
    engine.ready()
    assert {path.name for path in backups_of(home)} == {backup.name, f"{backup.name}.2"}


def backups_of(home: Path) -> set[Path]:
    return set((home / "var").glob("*.backup*"))


@pytest.mark.usefixtures("old_ledger")
def test_an_upgrade_that_is_interrupted_leaves_the_old_ledger_whole(
    monkeypatch: pytest.MonkeyPatch, votequeue: Command
) -> None:
    upgrade = migrations.upgrade

    def interrupted(connection: sa.Connection, old: str) -> None:
        upgrade(connection, old)
        raise KeyboardInterrupt

    monkeypatch.setattr(migrations, "upgrade", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.upgrade()
    forget()
    with engine.reading() as connection:
        assert migrations.current(connection) == "1"
        tables = sa.inspect(connection).get_table_names()
        assert not {"workers", migrations.VERSION_TABLE} & set(tables)
        assert connection.scalar(sa.select(schema.facts.c.value)) == "1"
    assert votequeue("status", "answered").code == 0
    monkeypatch.undo()


@pytest.mark.usefixtures("old_ledger")
def test_a_ledger_with_a_live_lease_is_not_upgraded(votequeue: Command) -> None:
    held = schema.items.update().where(schema.items.c.state == "leased").values(lease_until=1e11)
    with engine.engine().begin() as connection:
        connection.execute(held)
    ended = votequeue("ledger", "upgrade")
    assert (ended.code, "workers are using the ledger: stop all of them" in ended.err) == (1, True)
    with pytest.raises(UserError):
        claims.expire(5)
    assert revision() == "1"


@pytest.mark.usefixtures("old_ledger")
def test_of_two_upgrades_at_once_the_second_finds_nothing_to_do() -> None:
    engine.engine()
    done: list[str | None] = []
    threads = [threading.Thread(target=lambda: done.append(engine.upgrade())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(bool, done)) == [False, True]


@pytest.mark.usefixtures("upgraded")
def test_an_upgraded_ledger_differs_in_nothing_from_a_new_one() -> None:
    check()


@pytest.mark.usefixtures("any_ledger")
def test_models_and_revisions_are_the_same() -> None:
    check()
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    known = [found.revision for found in script.walk_revisions()][::-1]
    assert tuple(known) == migrations.REVISIONS
    with engine.engine().begin() as connection:
        tables = set(sa.inspect(connection).get_table_names())
        schema.metadata.drop_all(connection)
        connection.execute(sa.text("DELETE FROM alembic_version"))
        command.upgrade(migrations.config(connection), "head")
        assert set(sa.inspect(connection).get_table_names()) == tables
    check()


def check() -> None:
    with engine.engine().begin() as connection:
        config = migrations.config(connection)
        config.stdout = io.StringIO()
        # It raises where models and tables differ.
        command.check(config)
        # What programs of revision 1 read, so that they refuse the ledger.
        version = sa.select(schema.facts.c.value).where(schema.facts.c.name == "schema")
        assert connection.scalar(version) in (migrations.HEAD, None)


@pytest.mark.usefixtures("any_ledger")
def test_a_ledger_of_revision_2_that_does_not_say_so_is_upgraded() -> None:
    with engine.engine().begin() as connection:
        schema.prompts.drop(connection)
        schema.source_rows.drop(connection)
        connection.execute(sa.text("ALTER TABLE workers DROP COLUMN queues"))
        connection.execute(sa.text("ALTER TABLE begun_claims RENAME TO plays"))
        connection.execute(sa.text("ALTER TABLE model_problems RENAME TO learned"))
        for was, now in (("of", "total_steps"), ("told", "metrics"), ("told_at", "recorded_at")):
            connection.execute(sa.text(f'ALTER TABLE training_log RENAME COLUMN {now} TO "{was}"'))
        connection.execute(sa.text("ALTER TABLE training_log RENAME TO steps"))
        connection.execute(sa.text("ALTER TABLE worker_progress RENAME COLUMN recorded_at TO told_at"))
        schema.rounds.drop(connection)
        schema.generators.drop(connection)
        for column in (
            *("finish_reason", "mean_logprob", "thinking", "letter_source"),
            *("voice", "outcome", "output", "detail", "first_text", "first_outcome"),
        ):
            connection.execute(sa.text(f"ALTER TABLE votes DROP COLUMN {column}"))
        connection.execute(sa.text("ALTER TABLE examples DROP COLUMN program"))
        connection.execute(sa.text("ALTER TABLE attempts DROP COLUMN reserved"))
        for column in schema.SINCE_10:
            connection.execute(sa.text(f"ALTER TABLE runs DROP COLUMN {column}"))
        schema.early_votes.drop(connection)
        schema.vote_spending.drop(connection)
        connection.execute(sa.text("DROP TABLE alembic_version"))
    forget()
    assert revision() == "2"
    assert "from revision 2 to 10" in str(engine.upgrade())
    check()


@pytest.mark.usefixtures("any_ledger")
def test_a_ledger_of_a_newer_version_is_refused(votequeue: Command) -> None:
    opened = engine.engine()
    with opened.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '99'"))
    forget()
    ended = votequeue("status")
    assert (ended.code, "created by a newer votequeue" in ended.err) == (1, True)
    with opened.begin() as connection:
        connection.execute(
            sa.text("UPDATE alembic_version SET version_num = :head"), {"head": migrations.HEAD}
        )
    opened.dispose()


@pytest.mark.usefixtures("any_ledger")
def test_a_database_of_another_program_is_refused(votequeue: Command) -> None:
    opened = engine.engine()
    with opened.begin() as connection:
        schema.metadata.drop_all(connection)
    forget()
    assert "names another program's database" in votequeue("status").err
    with opened.begin() as connection:
        connection.execute(sa.text("DROP TABLE alembic_version"))
    opened.dispose()


def test_a_backup_is_restored(upgraded: str, home: Path, votequeue: Command) -> None:
    file = home / "ledger.backup"
    assert votequeue("ledger", "backup", file).code == 0
    again = votequeue("ledger", "backup", file)
    assert (again.code, "exists: choose another" in again.err) == (1, True)
    assert votequeue("ledger", "backup", file, "--force").code == 0
    with engine.writing() as connection:
        connection.execute(schema.answers.delete())
    refused = votequeue("ledger", "restore", file)
    assert (refused.code, "the present ledger has runs" in refused.err) == (1, True)
    leases.heartbeat("worker", 60)
    assert "workers are using" in votequeue("ledger", "restore", file, "--force").err
    leases.retire("worker")
    assert votequeue("ledger", "restore", file, "--force").code == 0
    assert revision() == migrations.HEAD
    assert votequeue("collect", "judged", "-o", "judged.jsonl").code == 0
    broken = home / "broken"
    broken.write_text("no ledger")
    for path in (broken, home / "missing"):
        ended = votequeue("ledger", "restore", path, "--force")
        assert (ended.code, str(path) in ended.err or upgraded == "postgresql") == (1, True)
        assert ended.err.count("\n") == 1
    check()


def test_a_backup_of_an_older_revision_replaces_the_tables_of_a_newer_one(
    old_ledger: str, home: Path, votequeue: Command
) -> None:
    file = home / "old.backup"
    assert votequeue("ledger", "backup", file).code == 0
    assert revision() == "1"
    engine.upgrade()
    assert votequeue("ledger", "restore", file, "--force").code == 0
    forget()
    assert revision() == "1"
    engine.upgrade()
    check()
    assert [run.name for run in runs.list_runs()]


@pytest.mark.usefixtures("home")
def test_a_program_of_postgresql_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="pg_restore is not installed here"):
        backups._run("pg_restore", "--list", "x", connected=False)


@pytest.mark.usefixtures("any_ledger")
def test_workers_that_start_at_once_make_one_ledger() -> None:
    opened = engine.engine()
    with opened.begin() as connection:
        schema.metadata.drop_all(connection)
        connection.execute(sa.text("DROP TABLE alembic_version"))
    opened.dispose()
    failures: list[BaseException] = []

    def start() -> None:
        try:
            engine.engine.__wrapped__().dispose()
        except Exception as error:  # noqa: BLE001  whatever it is, the test shows it
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert revision() == migrations.HEAD


def test_enqueue_upgrades_an_older_sqlite_ledger_and_says_so_in_one_line(
    on_sqlite: Path, on_broker: str, votequeue: Command
) -> None:
    forget()
    run_fixtures.write(Path("new.jsonl"), run_fixtures.entry("p1", "AB"))
    command = [sys.executable, "-m", "producers.cli", "enqueue", "infer", "new.jsonl", "--run", "new"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"from revision 1 to 10; {on_sqlite}.revision-1.backup is a backup" in ended.stderr
    assert ended.stderr.count("upgraded") == 1
    assert runs.count_states("new")["pending"] == 2


def test_the_password_of_postgresql_is_in_no_command_line(
    home: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, votequeue: Command
) -> None:
    url = sa.make_url(conftest.new_database(postgres_url)).set(password="S3cret")
    monkeypatch.setenv("VOTEQUEUE_LEDGER_URL", url.render_as_string(hide_password=False))
    monkeypatch.setenv("PATH", str(home), prepend=":")
    program = home / "pg_dump"
    program.write_text(
        '#!/bin/sh\necho "$@" > said; echo "$PGPASSWORD" > password\n'
        'for last; do :; done\necho > "${last#--file=}"\n'
    )
    program.chmod(0o755)
    forget()
    assert votequeue("ledger", "backup", "x").code == 0
    said = (home / "said").read_text()
    assert f"dbname={url.database}" in said
    assert "S3cret" not in said
    assert (home / "password").read_text() == "S3cret\n"


@pytest.mark.usefixtures("any_ledger")
def test_votes_rounds_and_examples_from_before_there_were_voices_are_reasonings() -> None:
    with engine.engine().begin() as connection:
        schema.metadata.drop_all(connection)
        connection.execute(sa.text("DELETE FROM alembic_version"))
        command.upgrade(migrations.config(connection), "5")
        rounds = "INSERT INTO rounds (run, number, attempt, prompt, examples, seed, sampled_at, style)"
        connection.execute(sa.text(f"{rounds} VALUES ('r', 0, 1, 'p', '[3, 17]', 4294967295, 1.5, 'chat')"))
        votes = "INSERT INTO votes (run, number, attempt, place, text, letter, accepted, tokens)"
        connection.execute(sa.text(f"{votes} VALUES ('r', 0, 1, 0, '答案是：B', 'B', {sa.true()}, 7)"))
        examples = "INSERT INTO examples (digest, position, problem, question, options, reasoning, answer)"
        connection.execute(sa.text(f"{examples} VALUES ('d', 0, '甲高。', '谁高？', '[]', '因为。', 'A')"))
    forget()
    assert "from revision 5 to 10" in str(engine.upgrade())
    (example,) = runs.load_examples("d")
    assert (example.reasoning, example.answer, example.program) == ("因为。", "A", "")
    [(recorded, [sampled])] = recorded_votes.recorded_rounds("r", [0])[0]
    assert [(vote.voice, vote.letter, vote.outcome) for vote in recorded] == [("reasoning", "B", None)]
    assert (sampled.voice, sampled.examples, sampled.seed, sampled.style) == (
        "reasoning",
        [3, 17],
        4294967295,
        "chat",
    )
