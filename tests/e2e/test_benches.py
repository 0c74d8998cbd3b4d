"""Every bench, run once on as little as it takes: benches that nobody runs rot.

python -m tests.bench.throughput DATA EXAMPLES  ->  one line of JSON, on the tiny model
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from producers import sample
from tests import tiny
from tests.integration import model_fixtures, postgres, run_fixtures
from tests.integration.test_enqueue import SAMPLING

ROOT = Path(__file__).parents[2]
BENCHES = {path.stem for path in (ROOT / "tests" / "bench").glob("*.py")} - {"__init__"}


def bench(name: str, *arguments: object, **settings: object) -> str:
    """Run a bench in a process of its own; give what it printed."""
    told = {f"VOTEQUEUE_{setting.upper()}": str(value) for setting, value in settings.items()}
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{name}", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **told},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def data(home: Path) -> Path:
    path = home / "puzzles.jsonl"
    sample.write(sample.generate(3, seed=7), path)
    return path


def test_every_bench_is_run_here() -> None:
    tests = {name.removeprefix("test_the_bench_of_") for name in globals() if name.startswith("test_the_")}
    assert tests == BENCHES


def test_the_bench_of_enqueue(home: Path) -> None:
    assert "20 questions: " in bench("enqueue", 20)


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql"])
def test_the_bench_of_million(home: Path, ledger: str) -> None:
    if ledger == "postgresql" and postgres.binaries() is None:
        pytest.skip("no PostgreSQL server")
    said = bench("million", "--questions", 20, "--ledger", ledger).splitlines()
    assert said[0] == f"20 questions, 100 votes on {ledger}"
    assert [line.split("  ")[0] for line in said[1:]] == [
        "status",
        "report",
        "report --revote",
        "collect -o answers.jsonl",
        "collect --votes -o votes.jsonl",
    ]


def test_the_bench_of_page(home: Path) -> None:
    said = bench("page", "--questions", 200, "--paid").splitlines()
    assert [line.split(":")[0] for line in said[:2]] == ["100 questions", "200 questions"]
    if shutil.which("chromium"):
        assert re.fullmatch(
            r"shown after .* s, .* x the page of 100; a question opens in .* s, a search .* s", said[2]
        )


def test_the_bench_of_limits(home: Path) -> None:
    said = bench("limits", "--seconds", 1, "--rates", 20, "--processes", 1, "--skip", "alone,outage")
    assert said.splitlines()[-1].startswith("shared ")


def test_the_bench_of_translations(data: Path) -> None:
    said = bench("translations", data, "-n", 2, "--latency", 0.01, "--tasks", 2)
    assert said.count("one call a text") == 4


def test_the_bench_of_workers(home: Path) -> None:
    said = bench("workers", "--seconds", 2, "--rates", 5, "--workers", 1)
    assert said.splitlines()[-1].startswith("| 1 | 5 |")


@pytest.mark.slow
def test_the_bench_of_throughput(home: Path, data: Path) -> None:
    model = tiny.make(home / "weights")
    quick = {"max_tokens": 32, "kv_cache_gib": 1, "max_model_len": 2048}
    said = bench("throughput", data, data, "--ways", "exact-stop", "--loop", model=model, **quick)
    # The engine prints, too.
    *figures, ratios = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [each["way"] for each in figures] == ["exact-stop", "bare", "loop"]
    assert all(each["tokens"] > 0 for each in figures)
    assert len({each["questions"] for each in figures}) == 1
    assert sorted(ratios) == ["bare to loop", "exact-stop to bare", "exact-stop to loop"]
    assert all(ratio > 0 for ratio in ratios.values())


@pytest.mark.slow
def test_the_bench_of_shared_prefill(home: Path, data: Path) -> None:
    model = tiny.make(home / "weights")
    quick = {"kv_cache_gib": 1, "max_model_len": 2048}
    said = bench("shared_prefill", data, data, "--votes", 2, "--max-tokens", 32, model=model, **quick)
    ratio = said.splitlines()[-1].split()
    assert ratio[0] == "ratio"
    assert all(float(number) > 0 for number in ratio[1:])


def test_the_bench_of_scaling(home: Path) -> None:
    said = bench("scaling", "--workers", "1,2", "--questions", 60, "--rate", 200, "--ledger", "sqlite")
    rows = [line.split() for line in said.splitlines()[1:]]
    assert rows[0][2] == "1.000"
    assert [row[0] for row in rows] == ["1", "2"]
    assert all(float(row[1]) > 0 and float(row[3]) > 0 for row in rows)


def test_the_bench_of_sweep(home: Path) -> None:
    assert "2000 pending: " in bench("sweep", 2000)


def test_the_bench_of_minutes(home: Path) -> None:
    assert "most in a minute" in bench("minutes", "--seconds", 3, "--skip", "forget")


def test_the_bench_of_rendering(data: Path) -> None:
    said = bench("rendering", data)
    assert said.count("ratio") == 2


@pytest.mark.usefixtures("on_broker")
def test_the_bench_of_readers(home: Path) -> None:
    run_fixtures.infer(
        run_fixtures.write(home / "labelled.jsonl", run_fixtures.entry("p1", "AB")), SAMPLING, "read"
    )
    run_fixtures.answer_all("read", 2)
    said = bench("readers", "read", "--differences")
    assert "conclusion" in said
    assert "reference" in said


@pytest.mark.usefixtures("on_broker")
def test_the_bench_of_early_stop(home: Path) -> None:
    model_fixtures.put("s1", reads="question+answer")
    data = run_fixtures.write(home / "labelled.jsonl", run_fixtures.entry("p1", "AB"))
    run_fixtures.infer(data, SAMPLING.model_copy(update={"votes": 5}), "whole")
    scores = {"A": 0.7, "B": 0.2}
    for number, letters in enumerate(("AAABB", "BABAA")):
        (held,) = run_fixtures.claim("whole", number)
        run_fixtures.vote(held, [run_fixtures.ballot(letter, scores[letter]) for letter in letters])
    lines = [line for line in bench("early_stop", "whole").splitlines() if "2 of 2" in line]
    # By majority 3 and 5 of 5 votes; by weight, one A outweighs four B (odds 2.3 and 0.25 each).
    waves = [line.split() for line in lines if "waves" in line]
    assert [(row[0], row[2], row[3]) for row in waves if row[0] in ("majority", "weighted")] == [
        ("majority", "4.00", "0.800"),
        ("weighted", "1.50", "0.300"),
    ]
    assert len(lines) == 16


@pytest.mark.usefixtures("on_broker")
def test_the_bench_of_allocation(home: Path) -> None:
    model_fixtures.put("s1")
    said = ["AAAABABA", "ABBBABBB", "ABCACABA", "AAAAAAAA"] * 5
    entries = (run_fixtures.entry(f"p{at}") for at in range(len(said)))
    run_fixtures.infer(
        run_fixtures.write(home / "labelled.jsonl", *entries),
        SAMPLING.model_copy(update={"votes": 8}),
        "pools",
    )
    for held, letters in zip(run_fixtures.claim("pools", *range(len(said))), said, strict=True):
        run_fixtures.vote(held, [run_fixtures.ballot(letter, 0.9) for letter in letters])
    printed = bench("allocation", "pools").splitlines()
    lines = [line.split() for line in printed if "majority" in line]
    assert sum("scorer" in line for line in printed) == 7
    # Fixed numbers of votes, an exact stop, and four budgets, which are never exceeded.
    assert [line[1] for line in lines] == ["3", "4", "5", "5,", "3", "3.5", "4", "5"]
    assert [float(line[3]) for line in lines[:3]] == [3.0, 4.0, 5.0]
    assert 3.0 < float(lines[3][4]) < 5.0
    spent = [float(line[4]) for line in lines[4:]]
    assert all(2.0 <= votes <= most for votes, most in zip(spent, (3.0, 3.5, 4.0, 5.0), strict=True))


@pytest.mark.usefixtures("on_broker")
def test_the_bench_of_loop(home: Path) -> None:
    data = run_fixtures.write(home / "labelled.jsonl", run_fixtures.entry("p1", "AB"))
    run_fixtures.infer(data, SAMPLING.model_copy(update={"votes": 5}), "whole")
    for number, letters in enumerate(("AAABB", "BABAB")):
        (held,) = run_fixtures.claim("whole", number)
        run_fixtures.vote(held, [run_fixtures.ballot(letter) for letter in letters])
    lines = bench("loop", "whole", "--questions", 34, "--step", 0.002).splitlines()
    rows = [line.rsplit(maxsplit=5) for line in lines if line.endswith("of 34")]
    assert [row[0] for row in rows] == [
        "loop",
        "queue",
        "queue, exact stop, waves",
        "queue, exact stop, all at once",
    ]
    assert all(row[3] == "34" and float(row[1]) > 0 for row in rows)


@pytest.mark.usefixtures("on_broker")
def test_the_bench_of_voices(home: Path) -> None:
    data = run_fixtures.write(home / "labelled.jsonl", run_fixtures.entry("p1", "AB"))
    run_fixtures.infer(data, SAMPLING.model_copy(update={"votes": 3}), "whole")
    for number, letters in enumerate(("BAA", "BBA")):
        (held,) = run_fixtures.claim("whole", number)
        run_fixtures.vote(held, [run_fixtures.ballot(letter) for letter in letters])
    lines = bench("voices", "whole", "reasoning=1", "reasoning=3").splitlines()
    assert [line.split()[:5] for line in lines[1:]] == [
        ["reasoning=1", "plain", "1", "of", "2,"],
        ["reasoning=3", "plain", "2", "of", "2,"],
    ]


def test_the_bench_of_promotion() -> None:
    quick = ("--questions", 60, "--gains", 0, 15, "--times", 50, "--disagree", 0.2)
    rows = [line.split() for line in bench("promotion", *quick).splitlines()]
    assert [row[:2] for row in rows[1:3]] == [["60", "+0"], ["60", "+15"]]
    assert int(rows[1][2]) < 20 < int(rows[2][2])
    # A loss of 15 points is always found within 5,000 entries.
    assert (rows[-1][0], rows[-1][2]) == ("-15", "100")


def test_the_bench_of_overhead(home: Path) -> None:
    said = bench("overhead", "--questions", 60, "--ledger", "sqlite", "--full-ledger", 120).splitlines()
    rows = [line.strip("| ").split(" | ") for line in said if line.startswith("| ")]
    assert [row[:2] for row in rows[1:]] == [
        ["a task that does nothing", "60"],
        ["sqlite", "60"],
        ["sqlite, 120 recorded", "60"],
    ]
    assert all(float(figure) > 0 for row in rows[1:] for figure in (row[2], row[5], row[6]))
    assert "ratio of the full ledger to the empty one" in said[-1]


def test_the_bench_of_scrape(home: Path) -> None:
    said = bench("scrape", "--items", 40, "--times", 2, "--ledger", "sqlite").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said[2:]]
    assert [row[:2] for row in rows] == [
        ["exporter, sqlite", "0"],
        ["exporter, sqlite, open run", "40"],
        ["exporter, sqlite, ended run", "40"],
        ["worker, without an engine", ""],
    ]
    assert all(float(row[-1]) > 0 for row in rows)


def test_the_bench_of_inputs(home: Path) -> None:
    said = bench("inputs", 20).splitlines()
    assert {"votequeue.jsonl", "mmlu.parquet", "logiqa-text.txt"} <= {line.partition(":")[0] for line in said}


def test_the_bench_of_fairness(home: Path) -> None:
    said = bench("fairness", "--large", 400, "--small", 20, "--workers", 1).splitlines()
    rows = [line.split() for line in said if "questions" in line and " s" in line]
    assert [row[0] for row in rows[:3]] == ["alone", "behind", "priority"]
    assert all("alone" in line for line in said[1:3])
    assert said[-1].endswith("of the large run's 400 questions are open")
