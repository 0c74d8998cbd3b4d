"""What the commands on a finished run cost, by its size: `python -m tests.bench.million [--questions N]`.

    2000 questions, 10000 votes on sqlite
    report    3.14 s (1.78 s of CPU)    637 rows/s    109 MiB  0.21 of the target  176.6 x bare read

Each command is a process of its own. The bare read of what it reads, by the driver alone, is the baseline.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from producers.enqueue import publish
from shared import prompt_files, settings
from shared.ledger import engine, models, schema
from shared.ledger.models import Model
from shared.options import Sampling
from shared.voices import REASONING
from shared.voting import GATE
from tests import valkey
from tests.integration import postgres

VOTES, SCORER, RUN, AT = 5, "scorer-bench", "bench", 1_790_000_000.0
PROBLEM = "有一群人和一些食物类型。下列是关于这些个体和食物的已知信息：" * 8
OPTIONS = '["甲比乙高，乙比丙高", "乙比甲高", "丙最高", "以上都不对"]'
VOTE = "由已知信息，甲比乙高，而乙又比丙高，所以甲是最高的人；其余的选项都与此矛盾，可以排除。" * 6
# What each command reads, and what is asked of it: seconds, or rows (questions or votes) a second.
COMMANDS = {
    "status": ("SELECT state, attempt FROM items", 2.0, None),
    "report": ("SELECT number, letter, score, accepted, tokens FROM votes", 15.0, None),
    "report --revote": ("SELECT number, letter, score, accepted, tokens FROM votes", None, 30_000),
    "collect -o answers.jsonl": ("SELECT text FROM entries", None, 30_000),
    "collect --votes -o votes.jsonl": ("SELECT * FROM votes", None, 30_000),
}


def main(questions: int, ledger: str) -> int:
    """Fill a ledger, run each command, and print what it took."""
    with tempfile.TemporaryDirectory() as folder, valkey.running() as broker, _ledger(ledger, folder) as url:
        os.environ.update(VOTEQUEUE_HOME=folder, VOTEQUEUE_BROKER_URL=broker, VOTEQUEUE_LEDGER_URL=url)
        settings.load.cache_clear()
        engine.engine.cache_clear()
        fill(Path(folder, "data.jsonl"), questions)
        print(f"{questions} questions, {questions * VOTES} votes on {ledger}", flush=True)
        codes = [measure(command, folder, questions) for command in COMMANDS]
        engine.engine().dispose()
        engine.engine.cache_clear()
    return max(codes)


@contextlib.contextmanager
def _ledger(kind: str, folder: str) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder}/ledger.db"
        return
    programs = postgres.binaries()
    assert programs, "PostgreSQL's server is not installed"
    with postgres.server(programs) as url:
        yield url


def fill(data: Path, questions: int) -> None:
    """Write a finished run: two questions an entry, scored votes, most of them right."""
    prompts = {REASONING: prompt_files.built_in(prompt_files.FIRST)}
    options = publish.pinned(Sampling(votes=VOTES), prompts).model_dump(mode="json")
    with engine.writing() as connection:
        run = {"name": RUN, "kind": "infer", "source": str(data), "digest": "d", "options": options}
        connection.execute(schema.runs.insert().values(created_at=AT, **run))
        with data.open("w", encoding="utf-8") as file:
            for chunk in engine.chunks(range(questions // 2)):
                texts = [_entry(at) for at in chunk]
                file.write("".join(f"{text}\n" for text in texts))
                rows = [{"run": RUN, "position": at, "text": t} for at, t in zip(chunk, texts, strict=True)]
                connection.execute(schema.entries.insert(), rows)
        _fill_items(connection, questions)
        models.add(connection, Model(SCORER, "scorer", "judge", "base", "data", "d", {}, "1", {}, GATE), ())
    if engine.engine().dialect.name == "postgresql":
        # As the server's own vacuum does after a while.
        with engine.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.connection.dbapi_connection.patience = None
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.exec_driver_sql("VACUUM ANALYZE")


def _entry(at: int) -> str:
    asked = ", ".join(
        f'{{"question": "选择题 {place + 1}：谁最高？", "options": {OPTIONS}, '
        f'"answer": "{"ABCD"[(2 * at + place) * 7 % 4]}"}}'
        for place in (0, 1)
    )
    return f'{{"id": "p{at}", "problem": "{at}. {PROBLEM}", "questions": [{asked}]}}'


def _fill_items(connection: sa.Connection, questions: int) -> None:
    """Write items and what their rounds left, by statements that make the rows in the database."""
    true = "1"
    if connection.dialect.name == "postgresql":
        true = "true"
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.connection.dbapi_connection.patience = None
    for table, rows in _rows(questions, true).items():
        connection.execute(sa.text(f"INSERT INTO {table} {rows}"))
    worker = {"worker": "host-1", "run": RUN, "recorded_at": AT, "tokens_per_second": 1}
    made = {"votes": questions * VOTES, "tokens": questions * VOTES * 200}
    names = "votes_in_play", "votes_under_way", "votes_not_begun", "tokens_under_way"
    connection.execute(schema.worker_progress.insert().values(**worker, **made, **dict.fromkeys(names, 0)))


def _rows(questions: int, true: str) -> dict[str, str]:
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {questions})"
    places = " UNION ALL ".join(f"SELECT {place} AS place" for place in range(VOTES))
    # Pseudo-random: a bit more than half of the votes have the right letter, and mostly higher scores.
    luck = "(number % 10007 * 48271 + place * 69621 + (number % 997) * place * 31) % 1009"
    missed = f"CASE WHEN {luck} < 560 THEN 0 ELSE {luck} % 3 + 1 END"
    letter = f"substr('ABCDABCD', number * 7 % 4 + 1 + {missed}, 1)"
    score = f"(1009 - {luck} * 0.7 - {luck} * 37 % 1009 * 0.3) / 1009.0"
    return {
        "items (run, number, key, entry, question, state, attempt, fence, losses, not_before, settled_at)": (
            f"{numbers} SELECT '{RUN}', i, 'p' || (i / 2) || '#' || (i % 2 + 1), i / 2, i % 2, "
            f"'done', 1, 1, 0, 0, {AT} + i / 1000.0 FROM n"
        ),
        "attempts (run, number, fence, attempt, worker, claimed_at, ended_at, outcome)": (
            "SELECT run, number, 1, 1, 'host-' || (number % 4), settled_at - 9, settled_at, 'answered' "
            "FROM items"
        ),
        "rounds (run, number, attempt, voice, prompt, examples, sampled_at, seconds)": (
            "SELECT run, number, 1, 'reasoning', 'prompt', '[]', settled_at, 8 FROM items"
        ),
        "votes (run, number, attempt, place, text, letter, score, accepted, tokens, scorer, finish_reason)": (
            f"SELECT run, number, 1, place, number || '. {VOTE}' || {letter}, "
            f"CASE WHEN {luck} % 50 = 0 THEN NULL ELSE {letter} END, {score}, {true}, 150 + {luck} % 100, "
            f"'{SCORER}', 'stop' FROM items, ({places}) AS places ORDER BY number, place"
        ),
        "answers (run, number, letter, how, support, attempt, answered_at)": (
            "SELECT run, number, substr('ABCD', number * 7 % 4 + 1, 1), 'majority', 3, 1, settled_at "
            "FROM items"
        ),
    }


def measure(command: str, folder: str, questions: int) -> int:
    """Run a command; print its time, its speed and its memory; return its exit code."""
    name, *arguments = command.split()
    query, most_seconds, least_rows = COMMANDS[command]
    rows = questions * VOTES if "vote" in command else questions
    read = _read(query)
    begun = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "producers.cli", name, RUN, *arguments], cwd=folder, stdout=subprocess.DEVNULL
    ) as child:
        _pid, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    seconds, cpu = time.monotonic() - begun, usage.ru_utime + usage.ru_stime
    target = seconds / most_seconds if most_seconds else least_rows / (rows / seconds)
    print(
        f"{command:31} {seconds:7.2f} s ({cpu:.2f} s of CPU)  {rows / seconds:8.0f} rows/s  "
        f"{usage.ru_maxrss / 1024:5.0f} MiB  {target:.2f} of the target  {seconds / read:.1f} x bare read",
        flush=True,
    )
    return child.returncode


def _read(query: str) -> float:
    """Time a bare read of the rows, by the driver."""
    begun = time.monotonic()
    with engine.streaming() as connection:
        driver = connection.connection.dbapi_connection
        on_server = {"name": "bare"} if connection.dialect.name == "postgresql" else {}
        with contextlib.closing(driver.cursor(**on_server)) as cursor:
            cursor.execute(query)
            while cursor.fetchmany(engine.CHUNK):
                pass
    return time.monotonic() - begun


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=1_000_000)
    parser.add_argument("--ledger", choices=["sqlite", "postgresql"], default="sqlite")
    sys.exit(main(**vars(parser.parse_args())))
