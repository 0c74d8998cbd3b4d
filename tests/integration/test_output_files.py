"""Outputs: no command writes over a file that a run reads, whatever it is called, unless it is told to."""

import json
import os
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from producers import collect, output_files
from shared.errors import UserError
from shared.ledger import engine, runs, schema
from shared.options import Sampling
from tests.conftest import Command
from tests.integration import call_fixtures, run_fixtures
from tests.integration.test_enqueue import SAMPLING

pytestmark = pytest.mark.usefixtures("on_broker")
ASKS = SAMPLING.model_copy(update={"votes": 3})


@pytest.fixture
def folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a run that reads `in/data.jsonl` and the examples `in/solved.jsonl`; stand in `elsewhere`."""
    for name in ("in", "elsewhere"):
        (home / name).mkdir()
    monkeypatch.chdir(home / "in")
    run_fixtures.write(Path("data.jsonl"), run_fixtures.entry("p1", "AB"), run_fixtures.entry("p2", "C"))
    run_fixtures.write(Path("solved.jsonl"), run_fixtures.solved("s1"))
    run_fixtures.infer(Path("data.jsonl"), SAMPLING, "r", "solved.jsonl")
    run_fixtures.answer_all("r", 2, "B")
    monkeypatch.chdir(home / "elsewhere")
    return home


def whole(folder: Path) -> bool:
    """Tell whether both files are as they were."""
    data, solved = run_fixtures.read(folder / "in/data.jsonl"), run_fixtures.read(folder / "in/solved.jsonl")
    return (data, solved) == (
        [run_fixtures.entry("p1", "AB"), run_fixtures.entry("p2", "C")],
        [run_fixtures.solved("s1")],
    )


def a_link(folder: Path) -> Path:
    Path("link.jsonl").symlink_to("../in/data.jsonl")
    return Path("link.jsonl")


def a_hard_link(folder: Path) -> Path:
    os.link(folder / "in/data.jsonl", "hard.jsonl")
    return Path("hard.jsonl")


def a_linked_folder(folder: Path) -> Path:
    Path("also").symlink_to(folder / "in")
    return Path("also/data.jsonl")


NAMES = {
    "relative": lambda _: Path("../in/data.jsonl"),
    "absolute": lambda folder: folder / "in/data.jsonl",
    "examples": lambda folder: folder / "in/solved.jsonl",
    "symbolic link": a_link,
    "hard link": a_hard_link,
    "linked folder": a_linked_folder,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", ["collect", "sample"])
def test_a_file_that_a_run_reads_is_not_written_over(
    command: str, name: str, folder: Path, votequeue: Command
) -> None:
    path = NAMES[name](folder)
    before = path.read_bytes()
    words = ["collect", "r"] if command == "collect" else ["sample", "-n", "1"]
    ended = votequeue(*words, "-o", path)
    assert ended.code == 1
    assert ended.err.endswith(
        f"votequeue: {path} is data of run 'r': choose another file, or pass --force to overwrite it\n"
    )
    assert path.read_bytes() == before
    assert whole(folder)
    assert votequeue(*words, "-o", path, "--force").code == (command == "collect")  # one question is open
    assert path.read_bytes() != before


@pytest.mark.parametrize("name", ["data", "solved"])
def test_a_file_that_was_moved_is_known_by_its_bytes(name: str, folder: Path) -> None:
    (folder / f"in/{name}.jsonl").rename("moved.jsonl")
    with pytest.raises(UserError, match="is data of run 'r'"):
        output_files.require_free(Path("moved.jsonl"))


def test_an_output_that_is_the_same_as_the_source_is_no_source(folder: Path, votequeue: Command) -> None:
    shutil.copy(folder / "in/data.jsonl", "out.jsonl")
    assert votequeue("collect", "r", "-o", "out.jsonl").out.startswith("out.jsonl: 2 of 3")


def test_a_changed_source_is_known_by_its_path(folder: Path) -> None:
    run_fixtures.write(folder / "in/solved.jsonl", run_fixtures.solved("s1"), run_fixtures.solved("s2"))
    with pytest.raises(UserError, match="is data of run 'r'"):
        output_files.require_free(folder / "in/solved.jsonl")


def test_the_data_of_other_kinds_of_runs_are_kept_too(folder: Path, votequeue: Command) -> None:
    for name in ("reason", "synonym", "train"):
        run_fixtures.write(folder / f"{name}.jsonl", run_fixtures.solved(name), wrong_one(name))
    asked = ["--provider", "local", "--label", "correct", "--run", "x1"]
    assert votequeue("enqueue", "reason", folder / "reason.jsonl", *asked).code == 0
    synonym = ["--strategy", "synonym", "--run", "x2"]
    assert votequeue("enqueue", "translate", folder / "synonym.jsonl", *synonym).code == 0
    assert votequeue("enqueue", "train", "scorer", "--data", folder / "train.jsonl", "--run", "x3").code == 0
    for name, run in (("reason", "x1"), ("synonym", "x2"), ("train", "x3")):
        with (folder / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write("\n")
        with pytest.raises(UserError, match=f"is data of run '{run}'"):
            collect.collect("r", folder / f"{name}.jsonl")


def wrong_one(name: str) -> dict[str, object]:
    made = run_fixtures.solved(f"{name}-wrong")
    made["questions"][0]["wrong"] = [{"answer": "B", "reasoning": "因为如此。\n答案是：B"}]
    return made


def test_what_a_data_run_made_is_not_written_over_its_data(home: Path, votequeue: Command) -> None:
    run = call_fixtures.reason_run(home, run_fixtures.entry("p1"))
    call_fixtures.explain(run, 0, call_fixtures.text("A"))
    before = (home / "r.data.jsonl").read_bytes()
    assert votequeue("collect", "r", "-o", "r.data.jsonl").code == 1
    assert (home / "r.data.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["report.json", "report.md", "letters.png"])
def test_a_report_is_not_written_over_data(name: str, folder: Path, votequeue: Command) -> None:
    Path("out").mkdir()
    run_fixtures.write(Path("out", name), run_fixtures.entry("p1"))
    run_fixtures.infer(Path("out", name), ASKS, "odd")
    before = Path("out", name).read_bytes()
    ended = votequeue("report", "r", "-o", "out")
    assert (ended.code, "is data of run 'odd'" in ended.err) == (1, True)
    assert (Path("out", name).read_bytes(), [path.name for path in Path("out").iterdir()]) == (before, [name])
    assert votequeue("report", "r", "-o", "out", "--force").code == 0


def test_a_folder_with_data_in_it_is_not_replaced(folder: Path, votequeue: Command) -> None:
    assert votequeue("collect", "r", "-o", "out.hf").code == 1
    run_fixtures.write(Path("out.hf/mine.jsonl"), run_fixtures.entry("p9"))
    run_fixtures.infer(Path("out.hf/mine.jsonl"), SAMPLING, "odd")
    ended = votequeue("collect", "r", "-o", "out.hf")
    assert "out.hf is data of run 'odd'" in ended.err
    assert Path("out.hf/mine.jsonl").exists()


def test_the_ledger_is_never_written_over(folder: Path, votequeue: Command) -> None:
    ended = votequeue("collect", "r", "-o", "../var/ledger.db", "--force")
    assert ended.err.endswith("is the ledger: choose another file\n")
    with pytest.raises(UserError, match="var contains the ledger: choose another file"):
        output_files.require_free(Path("../var"))
    assert runs.get_run("r").name == "r"


def test_an_earlier_output_is_written_over(folder: Path, votequeue: Command) -> None:
    for _ in range(2):
        assert votequeue("collect", "r", "-o", "out.jsonl").out.startswith("out.jsonl: 2 of 3")


def test_sources_are_on_record_with_their_whole_paths(folder: Path) -> None:
    assert runs.get_run("r").source == str(folder / "in/data.jsonl")
    with engine.reading() as connection:
        rows = connection.execute(sa.select(schema.inputs.c.path).order_by("path")).scalars().all()
    assert rows == [str(folder / "in/data.jsonl"), str(folder / "in/solved.jsonl")]


# Runs of older versions, whose sources stand as they were typed


@pytest.fixture
def older(folder: Path) -> Path:
    """Make the run one that an older version recorded."""
    with engine.writing() as connection:
        connection.execute(schema.inputs.delete())
        connection.execute(schema.runs.update().values(source="in/data.jsonl"))
    return folder


@pytest.mark.parametrize("edited", [False, True])
def test_an_older_runs_data_are_found_from_another_folder(
    edited: bool, older: Path, votequeue: Command
) -> None:
    if edited:
        run_fixtures.write(older / "in/data.jsonl", run_fixtures.entry("p1", "AB"))
    before = (older / "in/data.jsonl").read_bytes()
    ended = votequeue("collect", "r", "-o", "../in/data.jsonl")
    assert "../in/data.jsonl is data of run 'r'" in ended.err
    assert (older / "in/data.jsonl").read_bytes() == before


def test_a_file_of_an_older_runs_name_in_any_folder_may_be_its_data(older: Path) -> None:
    Path("in").mkdir()
    run_fixtures.write(Path("in/data.jsonl"), run_fixtures.entry("other"))
    with pytest.raises(UserError, match="is data of run 'r'"):
        output_files.require_free(Path("in/data.jsonl"))
    shutil.copy("in/data.jsonl", "data.jsonl")
    output_files.require_free(Path("data.jsonl"))


@pytest.mark.parametrize("name", ["data", "solved"])
def test_an_older_runs_data_and_examples_are_known_by_their_bytes(name: str, older: Path) -> None:
    shutil.copy(older / f"in/{name}.jsonl", "same.jsonl")
    with pytest.raises(UserError, match="is data of run 'r'"):
        output_files.require_free(Path("same.jsonl"))


def test_an_older_training_names_its_files_among_others(older: Path) -> None:
    run_fixtures.write(older / "more.jsonl", run_fixtures.entry("m"))
    run = runs.Run("t", "train", f"votes of r, {older}/more.jsonl x 0.3, votes of s (test)", "d", None, {})
    runs.open_single(run, "scorer")
    with pytest.raises(UserError, match="is data of run 't'"):
        output_files.require_free(older / "more.jsonl")


def test_a_ledger_without_the_table_is_one_of_an_older_version(older: Path) -> None:
    with engine.writing() as connection:
        schema.inputs.drop(connection)
    with pytest.raises(UserError, match="is data of run 'r'"):
        output_files.require_free(older / "in/data.jsonl")


def test_looking_makes_no_ledger(home: Path, votequeue: Command) -> None:
    (home / "out.jsonl").write_text("mine\n")
    assert votequeue("sample", "-n", "1", "-o", "out.jsonl").code == 0
    assert not (home / "var").exists()


# What comes out has all that went in


def test_own_fields_and_numbers_come_out_as_they_went_in(home: Path, votequeue: Command) -> None:
    question = '{"question": "q", "options": ["A. x", "B. y"], "answer": "A", "made": [1e999], "group": 0.10}'
    text = (
        f'{{"id": 7, "problem": "p", "origin": "web", "n": 1E400, "questions": [{question}], "group": null}}'
    )
    (home / "d.jsonl").write_text(text + "\n", "utf-8")
    run_fixtures.infer(home / "d.jsonl", SAMPLING, "r")
    run_fixtures.answer_all("r", 1, "B")
    assert votequeue("collect", "r", "-o", "out.jsonl").code == 0
    assert (home / "out.jsonl").read_text("utf-8") == text.replace('"answer": "A"', '"answer": "B"') + "\n"
    shown = votequeue("trace", "r", "7#1").out
    assert "A. x" in shown
    assert "A. A. x" not in shown
    assert json.loads(votequeue("report", "r", "--json").out)["run"] == "r"


def test_what_an_older_version_let_in_is_read_everywhere(home: Path, votequeue: Command) -> None:
    data = run_fixtures.write(home / "d.jsonl", run_fixtures.entry("p1"))
    run_fixtures.infer(data, Sampling.model_validate(SAMPLING.model_dump()), "r")
    deep = '{"own": ' + "[" * 400 + "]" * 400 + ', "x": NaN, "x": 1e999, '
    with engine.writing() as connection:
        row = connection.execute(sa.select(schema.entries.c.text)).scalar_one()
        connection.execute(schema.entries.update().values(text=deep + row[1:]))
    run_fixtures.answer_all("r", 1)
    assert runs.load_asked("r", [(0, 0)])
    for words in (["trace", "r", "p1#1"], ["report", "r"], ["collect", "r", "-o", "out.jsonl"]):
        assert votequeue(*words).code == 0
    assert '"x": 1e999' in (home / "out.jsonl").read_text("utf-8")
