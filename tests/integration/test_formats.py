"""Files of other layouts: they go in as they are, and come out with nothing but their answers filled in."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.ledger import runs
from tests.conftest import Command
from tests.integration import run_fixtures

pytestmark = pytest.mark.usefixtures("on_broker")
MATERIAL = Path(__file__).parents[3] / "shared" / "data" / "formats"


def real(name: str) -> Path:
    path = MATERIAL / name
    if not path.exists():
        pytest.skip(f"{path} is not here: it is in the material beside the checkout")
    return path


def json_rows(path: Path) -> list[Any]:
    text = path.read_text("utf-8")
    loaded = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    assert isinstance(loaded, list)
    return loaded


def with_letter(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "label": "B"} if isinstance(row["label"], str) else row


REAL: list[tuple[str, int, int, Callable[[Any], Any]]] = [
    ("agieval_logiqa_en_120.jsonl", 120, 120, with_letter),
    ("agieval_physics_20.jsonl", 16, 16, with_letter),
    (
        "ar_lsat_6_passages.json",
        6,
        35,
        lambda row: {**row, "questions": [{**asked, "answer": "B"} for asked in row["questions"]]},
    ),
    ("lsat_index_label_20.json", 4, 20, lambda row: {**row, "label": 1}),
]


@pytest.mark.parametrize(("name", "entries", "questions", "answered"), REAL, ids=lambda value: str(value)[:12])
def test_a_real_file_comes_out_in_its_own_layout_with_only_the_answers_filled_in(
    name: str,
    entries: int,
    questions: int,
    answered: Callable[[Any], Any],
    home: Path,
    votequeue: Command,
) -> None:
    path = real(name)
    assert votequeue("enqueue", "infer", path, "--run", "r", "--skip-bad").code == 0
    assert len(list(runs.load_entries("r"))) == entries
    run_fixtures.answer_all("r", questions, "B")
    ended = votequeue("collect", "r", "-o", f"out{path.suffix}")
    assert ended.code == 0, ended.err
    assert f"{questions} of {questions} questions answered" in ended.out
    assert json_rows(home / f"out{path.suffix}") == [answered(row) for row in json_rows(path)]


def test_a_real_table_comes_out_as_it_was_but_for_its_last_column(home: Path, votequeue: Command) -> None:
    path = real("cmmlu_logical_60.csv")
    assert votequeue("enqueue", "infer", path, "--run", "r").code == 0
    run_fixtures.answer_all("r", 60, "B")
    assert votequeue("collect", "r", "-o", "out.csv").code == 0
    with path.open(newline="", encoding="utf-8") as before, open("out.csv", newline="", encoding="utf-8") as after:
        header, *rows = csv.reader(before)
        assert list(csv.reader(after)) == [header, *([*row[:-1], "B"] for row in rows)]
