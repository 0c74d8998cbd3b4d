"""Files of other layouts: they go in as they are, and come out with nothing but their answers filled in."""

import csv
import datetime
import decimal
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.ledger import runs
from tests import format_fixtures
from tests.conftest import Command
from tests.format_fixtures import SAMPLES, Sample
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


@pytest.mark.parametrize(
    ("name", "entries", "questions", "answered"), REAL, ids=lambda value: str(value)[:12]
)
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
    with (
        path.open(newline="", encoding="utf-8") as before,
        (home / "out.csv").open(newline="", encoding="utf-8") as after,
    ):
        header, *rows = csv.reader(before)
        assert list(csv.reader(after)) == [header, *([*row[:-1], "B"] for row in rows)]


def table(path: Path) -> Path:
    return format_fixtures.write(path, [{"stem": f"谁高？{at}", "one": "甲", "two": "乙"} for at in range(9)])


MAP = ("--map", "question=stem", "--map", "options=one,two", "--map", "answer=gold")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.layout)
def test_every_layout_comes_out_as_it_went_in(sample: Sample, home: Path, votequeue: Command) -> None:
    suffix = {"mmlu-csv": ".csv", "cmmlu": ".csv", "logiqa-text": ".txt"}.get(sample.layout, ".jsonl")
    path = format_fixtures.write(home / f"in{suffix}", sample.before)
    assert votequeue("enqueue", "infer", path, "--run", "r").code == 0
    assert len(list(runs.load_entries("r"))) == (sample.entries or len(sample.before))
    run_fixtures.answer_all("r", len(sample.letters), "B")
    ended = votequeue("collect", "r", "-o", f"out{suffix}")
    assert ended.code == 0, ended.err
    expected = format_fixtures.write(home / f"expected{suffix}", sample.after)
    assert (home / f"out{suffix}").read_text("utf-8") == expected.read_text("utf-8")


@pytest.mark.parametrize("suffix", [".json", ".jsonl.gz", ".jsonl.zst", ".parquet", ".hf"])
def test_a_container_comes_out_as_the_output_is_named(suffix: str, home: Path, votequeue: Command) -> None:
    sample = next(sample for sample in SAMPLES if sample.layout == "mmlu")
    path = format_fixtures.write(home / f"in{suffix}", sample.before)
    assert votequeue("enqueue", "infer", path, "--run", "r").code == 0
    run_fixtures.answer_all("r", 2, "B")
    for other in (suffix, ".jsonl", ".parquet"):
        ended = votequeue("collect", "r", "-o", f"out{other}")
        assert ended.code == 0, ended.err
        assert format_fixtures.read(home / f"out{other}") == sample.after


def test_a_parquet_file_keeps_its_schema(home: Path, votequeue: Command) -> None:
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema(
        [
            ("question", pyarrow.string()),
            ("choices", pyarrow.list_(pyarrow.string())),
            ("answer", pyarrow.int8()),
        ],
        metadata={"made": "by hand"},
    )
    rows = [{"question": "谁高？", "choices": ["甲", "乙"], "answer": 0}]
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), home / "in.parquet")
    votequeue("enqueue", "infer", "in.parquet", "--run", "r")
    run_fixtures.answer_all("r", 1, "B")
    assert votequeue("collect", "r", "-o", "out.parquet").code == 0
    written = parquet.read_schema(home / "out.parquet")
    assert written.equals(schema)
    assert (written.metadata or {}).get(b"made") == b"by hand"


def test_a_table_keeps_types_that_json_lacks(home: Path, votequeue: Command) -> None:
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema(
        [
            ("question", pyarrow.string()),
            ("choices", pyarrow.list_(pyarrow.string())),
            ("answer", pyarrow.int8()),
            ("subject", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
            ("day", pyarrow.date32()),
            ("time", pyarrow.timestamp("us")),
            ("price", pyarrow.decimal128(10, 2)),
            ("weight", pyarrow.float32()),
            ("hash", pyarrow.uint64()),
            ("place", pyarrow.struct([("x", pyarrow.int32()), ("y", pyarrow.string())])),
        ]
    )
    row = {
        "question": "谁高？",
        "choices": ["甲", "乙"],
        "answer": 0,
        "subject": "logic",
        "day": datetime.date(2020, 1, 2),
        "time": datetime.datetime(2020, 1, 2, 12, 30),
        "price": decimal.Decimal("1.20"),
        "weight": 0.1,
        "hash": 2**63,
        "place": {"x": 1, "y": None},
    }
    before = pyarrow.Table.from_pylist([row, dict.fromkeys(row) | {**row, "day": None}], schema=schema)
    parquet.write_table(before, home / "in.parquet")
    votequeue("enqueue", "infer", "in.parquet", "--run", "r")
    run_fixtures.answer_all("r", 2, "B")
    ended = votequeue("collect", "r", "-o", "out.parquet")
    assert ended.code == 0, ended.err
    after = parquet.read_table(home / "out.parquet")
    assert after.schema.equals(schema)
    assert after.to_pylist() == [{**row, "answer": 1} for row in before.to_pylist()]
    assert votequeue("collect", "r", "-o", "out.jsonl").code == 0
    assert json_rows(home / "out.jsonl")[0]["day"] == "2020-01-02"


def test_a_folder_keeps_the_names_of_its_classes(home: Path, votequeue: Command) -> None:
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "choices": datasets.List(datasets.Value("string")),
            "answer": datasets.ClassLabel(names=list("ABCD")),
        }
    )
    rows = [{"question": "谁高？", "choices": ["甲", "乙"], "answer": 0}]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(home / "in.hf")
    votequeue("enqueue", "infer", "in.hf", "--run", "r")
    run_fixtures.answer_all("r", 1, "B")
    assert votequeue("collect", "r", "-o", "out.hf").code == 0
    written = datasets.load_from_disk(str(home / "out.hf"))
    assert (written.features, written["answer"][0]) == (features, 1)


def test_numbers_that_no_table_holds_are_one_sentence(home: Path, votequeue: Command) -> None:
    sample = next(sample for sample in SAMPLES if sample.layout == "mmlu")
    rows = [{**row, "hash": 10**30} for row in sample.before]
    votequeue("enqueue", "infer", format_fixtures.write(home / "in.jsonl", rows), "--run", "r")
    run_fixtures.answer_all("r", 2, "B")
    ended = votequeue("collect", "r", "-o", "out.parquet")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "out.parquet: the rows are no table (Python int too large" in ended.err
    assert votequeue("collect", "r", "-o", "out.jsonl").code == 0
    assert json_rows(home / "out.jsonl") == [{**row, "hash": 10**30} for row in sample.after]


def test_cells_come_out_as_they_were(home: Path, votequeue: Command) -> None:
    rows = [
        ["id", "question", "A", "B", "C", "D", "answer"],
        ["0", 'He said "hi",\nok', "a\rb", " lead", "trail ", "x\r\ny", "A"],
        ["1", "too short", "a"],
        ["2", 'q;"', "-", "b,", "c\t", "d", ""],
    ]
    with (home / "in.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(rows)
    ended = votequeue("enqueue", "infer", "in.csv", "--run", "r", "--skip-bad")
    assert "in.csv line 6: its number of cells is 3, expected 7" in ended.err
    run_fixtures.answer_all("r", 2, "B")
    assert "1 skipped row unchanged" in votequeue("collect", "r", "-o", "out.csv").out
    with (home / "out.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            rows[0],
            [*rows[1][:-1], "B"],
            rows[2],
            [*rows[3][:-1], "B"],
        ]


def test_a_table_without_answers_gets_a_column_for_them(home: Path, votequeue: Command) -> None:
    lines = [f"{at},谁？{at},甲,乙,丙,丁" for at in range(1100)]
    (home / "in.csv").write_text("\n".join(["id,question,A,B,C,D", *lines, ""]), "utf-8")
    votequeue("enqueue", "infer", "in.csv", "--run", "r")
    for held in run_fixtures.claim("r", 1099):
        run_fixtures.vote(held, [run_fixtures.ballot("B", 0.9)] * 5)
    # The first thousand rows have no answer yet.
    assert votequeue("collect", "r", "-o", "out.csv").code == 1
    header, first, *_, last = (home / "out.csv").read_text("utf-8").splitlines()
    assert (header, first, last) == ("id,question,A,B,C,D,answer", lines[0] + ",", lines[-1] + ",B")


def test_a_mapping_without_a_label_is_said(home: Path, votequeue: Command) -> None:
    path = table(home / "in.csv")
    said = "in.csv: no row has an answer in the field of --map answer=gold"
    assert said in votequeue("enqueue", "infer", path, "--run", "r", *MAP).err
    labelled = format_fixtures.write(
        home / "b.csv", [{"stem": "谁？", "one": "甲", "two": "乙", "gold": "A"}]
    )
    assert "no row has" not in votequeue("enqueue", "infer", labelled, "--run", "s", *MAP).err


def test_rows_that_are_not_single_choice_refuse_the_file(home: Path, votequeue: Command) -> None:
    rows = [
        {"passage": None, "question": "谁？", "options": ["甲", "乙"], "label": label}
        for label in ("A", ["A", "B"])
    ]
    format_fixtures.write(home / "in.jsonl", [*rows, {**rows[0], "options": None}])
    ended = votequeue("enqueue", "infer", "in.jsonl", "--run", "r")
    assert ended.code == 1
    assert 'in.jsonl line 2, label: found ["A", "B"], expected one right option' in ended.err
    assert "in.jsonl line 3, options: found null, expected a list" in ended.err
    assert "2 bad lines, nothing was enqueued" in ended.err
    assert runs.list_runs() == []


def test_skipped_rows_are_counted_and_come_back_unchanged_in_their_place(
    home: Path, votequeue: Command
) -> None:
    good, bad = run_fixtures.entry("p1"), {**run_fixtures.entry("p2"), "questions": []}
    rows = [bad, good, {**bad, "id": "p3"}, {**good, "id": "p4"}, {**bad, "id": "p5"}]
    format_fixtures.write(home / "in.jsonl", rows)
    ended = votequeue("enqueue", "infer", "in.jsonl", "--run", "r", "--skip-bad")
    assert "3 bad lines skipped" in ended.err
    run_fixtures.answer_all("r", 2, "A")
    assert votequeue("collect", "r", "-o", "out.jsonl").out == (
        "out.jsonl: 2 of 2 questions answered; 3 skipped rows unchanged\n"
    )
    assert json_rows(home / "out.jsonl") == rows
    # A table of entries has no place for what is none.
    votequeue("collect", "r", "-o", "out.parquet")
    assert [row["id"] for row in format_fixtures.read(home / "out.parquet")] == ["p1", "p4"]


def test_a_mapped_table_comes_out_with_its_answers(home: Path, votequeue: Command) -> None:
    path = table(home / "in.tsv")
    assert "--format" in votequeue("enqueue", "infer", path).err
    assert votequeue("enqueue", "infer", path, "--run", "r", *MAP, "--answers", "index-1").code == 0
    run_fixtures.answer_all("r", 9, "B")
    assert votequeue("collect", "r", "-o", "out.tsv").code == 0
    assert (home / "out.tsv").read_text("utf-8").splitlines()[:2] == [
        "stem\tone\ttwo\tgold",
        "谁高？0\t甲\t乙\t2",
    ]
    assert votequeue("collect", "r", "-o", "entries.jsonl", "--format", "votequeue").code == 0
    first = json_rows(home / "entries.jsonl")[0]
    assert (first["id"], first["questions"][0]["answer"]) == ("q1", "B")


def test_limit_takes_the_first_and_sample_takes_any(home: Path, votequeue: Command) -> None:
    path = table(home / "in.csv")

    def ids(name: str, *options: object) -> list[str]:
        ended = votequeue("enqueue", "infer", path, "--run", name, *MAP, *options)
        assert ended.code == 0, ended.err
        return [json.loads(text)["id"] for text in runs.load_entries(name)]

    assert ids("first", "--limit", 2) == ["q1", "q2"]
    drawn = ids("drawn", "--sample", 4)
    assert len(set(drawn)) == 4
    assert drawn == sorted(drawn) == ids("again", "--sample", 4, "--sample-seed", 0)
    assert any(ids(f"seed{seed}", "--sample", 4, "--sample-seed", seed) != drawn for seed in (1, 2))
    assert len(ids("all", "--sample", 99)) == 9
    ended = votequeue("enqueue", "infer", path, "--run", "first", *MAP, "--limit", 3)
    assert "its data is not the same" in ended.err


def test_a_limit_stops_reading_before_a_bad_row(home: Path, votequeue: Command) -> None:
    rows = [run_fixtures.entry("p1"), run_fixtures.entry("p2"), {"id": "p3"}]
    path = format_fixtures.write(home / "in.jsonl", rows)
    assert votequeue("enqueue", "infer", path, "--limit", 2).code == 0
    assert votequeue("enqueue", "infer", path, "--limit", 3).code == 1


def test_standard_input_is_read_like_a_file_and_again_continues_its_run(
    home: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def piped(content: bytes) -> Any:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        return votequeue("enqueue", "infer", "-", "--json")

    content = format_fixtures.lines([run_fixtures.entry("p1")]).encode()
    first, second = (json.loads(piped(content).out) for _ in range(2))
    assert first["run"].startswith("stdin-")
    assert (second["run"], second["continued"]) == (first["run"], True)
    assert json.loads(piped(b"question,A,B,C,D,answer\nwho,1,2,3,4,A\n").out)["items"] == 1
    assert "standard input is empty" in piped(b"").err


def test_a_data_set_of_the_hub_is_read_by_its_name(
    home: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    sample = next(sample for sample in SAMPLES if sample.layout == "mmlu")
    asked: list[Any] = []

    def load(*name: Any, split: str | None) -> Any:
        asked.append((*name, split))
        data = datasets.Dataset.from_list(sample.before)
        return data if split else datasets.DatasetDict({"dev": data, "test": data})

    monkeypatch.setattr(datasets, "load_dataset", load)
    datasets.disable_progress_bars()
    assert votequeue("enqueue", "infer", "hf://cais/mmlu/logic:test", "--run", "r").code == 0
    assert asked == [("cais/mmlu", "logic", "test")]
    run_fixtures.answer_all("r", 2, "B")
    votequeue("collect", "r", "-o", "out.jsonl")
    assert json_rows(home / "out.jsonl") == sample.after
    assert "has the splits dev, test: add one" in votequeue("enqueue", "infer", "hf://cais/mmlu").err
    assert "expected hf://OWNER/NAME" in votequeue("enqueue", "infer", "hf://").err


def test_a_hub_that_does_not_answer_is_one_sentence(
    home: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def load(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", load)
    ended = votequeue("enqueue", "infer", "hf://cais/mmlu:test")
    assert (ended.code, ended.err) == (
        1,
        "votequeue: hf://cais/mmlu:test cannot be loaded: no route to the hub\n",
    )


@pytest.mark.usefixtures("any_ledger")
def test_scoring_again_keeps_the_rows(home: Path, votequeue: Command) -> None:
    sample = next(sample for sample in SAMPLES if sample.layout == "agieval")
    path = format_fixtures.write(home / "in.jsonl", sample.before)
    votequeue("enqueue", "infer", path, "--run", "r")
    run_fixtures.answer_all("r", 2, "B")
    path.unlink()
    assert votequeue("enqueue", "infer", "r", "--run", "s").code == 0
    assert [source is not None for _, source in runs.load_sources("s")] == [True, True]
    assert votequeue("collect", "r", "-o", "out.jsonl").code == 0
    assert json_rows(home / "out.jsonl") == sample.after


def test_lists_do_not_fit_in_a_table(home: Path, votequeue: Command) -> None:
    sample = next(sample for sample in SAMPLES if sample.layout == "agieval")
    votequeue("enqueue", "infer", format_fixtures.write(home / "in.jsonl", sample.before), "--run", "r")
    run_fixtures.answer_all("r", 2, "B")
    ended = votequeue("collect", "r", "-o", "out.csv")
    assert ended.code == 1
    assert "'options' holds a list or an object, cells are text: write .jsonl" in ended.err
    assert not (home / "out.csv").exists()


def test_no_answer_blanks_the_gold_one(home: Path, votequeue: Command) -> None:
    for name, blank in (("agieval", ""), ("mmlu", None), ("lsat", None)):
        sample = next(sample for sample in SAMPLES if sample.layout == name)
        path = format_fixtures.write(home / f"{name}.jsonl", sample.before)
        votequeue("enqueue", "infer", path, "--run", name)
        assert votequeue("collect", name, "-o", "out.jsonl").code == 1
        field = "answer" if name == "mmlu" else "label"
        assert json_rows(home / "out.jsonl")[0] == {**sample.before[0], field: blank}


def test_reasonings_are_made_for_a_benchmark_in_its_own_layout(home: Path, votequeue: Command) -> None:
    sample = next(sample for sample in SAMPLES if sample.layout == "cmmlu")
    path = format_fixtures.write(home / "in.csv", sample.before * 3)
    words = ("reason", path, "--label", "correct", "--provider", "local", "--dry-run", "--limit", 2)
    ended = votequeue("enqueue", *words)
    assert "would be enqueued: 2 questions" in ended.out, ended.err
