"""Layouts: each recognises its own rows only, reads their answers, and writes answers as the row had them."""

import gzip
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from producers.enqueue import row_reader
from producers.layouts import catalog, mapping
from producers.layouts.types import RowProblem
from shared import json_text
from shared.dataset import BadLine, Line
from shared.errors import UserError
from shared.options import Reading
from tests import format_fixtures
from tests.format_fixtures import OPTIONS, QUESTION, SAMPLES, Sample

TABLE = {"stem": QUESTION, "A": "甲", "B": "乙", "C": "", "label": "1"}
MAP = ["question=stem", "options=A,B,C", "answer=label"]


def letters(entry: dict[str, Any]) -> str:
    return "".join(asked["answer"] or "-" for asked in entry["questions"])


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.layout)
def test_a_layout_is_the_only_one_to_recognise_its_rows(sample: Sample) -> None:
    for row in (*sample.before, *sample.after):
        recognised = [layout.name for layout in catalog.FORMATS.values() if layout.recognises(row)]
        assert recognised == [sample.layout]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.layout)
def test_a_layout_reads_its_answers_and_fills_in_others_alone(sample: Sample) -> None:
    layout = catalog.FORMATS[sample.layout]
    assert "".join(letters(layout.entry(row)) for row in sample.before) == sample.letters
    assert [layout.fill(row, iter("BB")) for row in sample.before] == sample.after
    blank = layout.fill(sample.before[0], iter([None, None]))
    assert set(letters(layout.entry(blank))) == {"-"}


def test_every_layout_has_a_sample_here() -> None:
    assert {sample.layout for sample in SAMPLES} == set(catalog.FORMATS.built_in) - {"votequeue"}


def test_no_two_layouts_are_guessed_between() -> None:
    assert catalog.recognise({"question": "q", "options": OPTIONS, "answer": "A"}) is None
    with pytest.raises(
        UserError, match=r"F is in no known layout: it has the fields q, o; .*--format .*--map"
    ):
        raise catalog.unknown("F", {"q": 1, "o": 2})


@pytest.mark.parametrize(
    ("layout", "row", "field", "problem"),
    [
        ("agieval", {"question": "q", "options": OPTIONS, "label": ["A", "C"]}, "label", "not single-choice"),
        ("agieval", {"question": "q", "options": OPTIONS, "label": "AC"}, "label", "not single-choice"),
        (
            "agieval",
            {"question": "q", "options": {"A": "x", "B": "y"}, "label": "A"},
            "options",
            "name its fields with --map options=options.A,options.B",
        ),
        (
            "agieval",
            {"question": "q", "options": None, "label": "x"},
            "options",
            "found null, expected a list",
        ),
        (
            "agieval",
            {"question": "q", "options": OPTIONS, "label": 2},
            "label",
            "--answers index-0 or index-1",
        ),
        (
            "mmlu",
            {"question": "q", "choices": OPTIONS, "answer": 4},
            "answer",
            "found 4, expected a number 0–3",
        ),
        ("arc", {"choices": {"text": OPTIONS, "label": list("ABCD")}, "answerKey": "E"}, "answerKey", "keys"),
        (
            "race-article",
            {"questions": ["q"], "options": [OPTIONS] * 2},
            "options",
            "a list of 1, one for each",
        ),
        (
            "ar-lsat",
            {"questions": [{"options": OPTIONS, "answer": "F"}]},
            "questions[0].answer",
            "letter A–D",
        ),
    ],
)
def test_a_row_that_is_not_single_choice_is_named_by_its_own_field(
    layout: str, row: dict[str, Any], field: str, problem: str
) -> None:
    with pytest.raises(RowProblem) as caught:
        catalog.FORMATS[layout].entry(row)
    assert caught.value.field == field
    assert problem in caught.value.problem


def test_a_label_in_a_list_of_one_is_a_letter_and_stays_in_a_list() -> None:
    row = {"passage": None, "question": "q", "options": OPTIONS, "label": ["C"]}
    layout = catalog.FORMATS["agieval"]
    assert letters(layout.entry(row)) == "C"
    assert layout.fill(row, iter("A"))["label"] == ["A"]


@pytest.mark.parametrize(
    ("answers", "label", "letter", "filled"),
    [
        ("index-0", "1", "B", "0"),
        ("index-1", 1, "A", 1),
        ("index-0", "1.0", "B", "0.0"),
        ("index-1", json_text.Number("2.0"), "B", json_text.Number("1.0")),
        ("text", "乙 ", "B", "甲"),
        ("text", "乙", "B", "甲"),
        ("letter", "b", "B", "a"),
    ],
)
def test_a_mapping_reads_and_writes_answers_as_said(
    answers: str, label: Any, letter: str, filled: Any
) -> None:
    layout = mapping.of_arguments(MAP, answers)
    row = {**TABLE, "label": label}
    assert letters(layout.entry(row)) == letter
    assert layout.entry(row)["questions"][0]["options"] == [
        "甲",
        "乙",
    ]  # a table's empty last columns are none
    assert layout.fill(row, iter("A")) == {**row, "label": filled}
    assert catalog.of_record(layout.record()) == layout


def test_a_mapping_reaches_into_objects() -> None:
    layout = mapping.of_arguments(["question=q.text", "options=q.choices.text", "answer=q.gold"], "letter")
    row = {"q": {"text": "谁？", "choices": [{"text": "甲"}, {"text": "乙"}], "gold": "A"}}
    assert layout.entry(row)["questions"] == [{"question": "谁？", "options": ["甲", "乙"], "answer": "A"}]
    assert layout.fill(row, iter("B"))["q"] == {**row["q"], "gold": "B"}


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        (Reading(format="agi"), "--format agi: there are votequeue, agieval"),
        (Reading(map=["stem"]), "--map stem: expected FIELD=NAME"),
        (Reading(map=["question=stem"]), "--map options=NAME is missing"),
        (Reading(map=["question="]), "--map question=: expected FIELD=NAME"),
        (Reading(map=["question=stem", "options=A,"]), "--map options=A,: expected FIELD=NAME"),
        (Reading(map=["question=stem", "options=A,A"]), "--map options=A,A: .* is given twice"),
        (Reading(map=["question=stem", "question=q"]), "--map question=q: question .* is given twice"),
        (Reading(answers="text"), "--answers requires --map"),
        (Reading(map=MAP, format="arc"), "exclude each other"),
    ],
)
def test_a_layout_that_cannot_be_meant_is_refused(reading: Reading, said: str) -> None:
    with pytest.raises(UserError, match=said):
        catalog.chosen(reading)


def test_numbers_are_options_by_their_text() -> None:
    number = json_text.Number("4.50")
    row = {"question": "2 + 2?", "A": 3, "B": 4, "C": number, "D": "6", "answer": "B"}
    layout = catalog.recognise(row)
    assert layout is not None
    assert layout.entry(row)["questions"][0]["options"] == ["3", "4", "4.50", "6"]
    named = mapping.of_arguments(["question=question", "options=A,B,C"], "text")
    assert letters(named.entry({**row, "answer": 4})) == "B"
    assert named.fill(row, iter("C"))["answer"] == number


def test_a_table_with_more_columns_has_more_options() -> None:
    row = {"question": QUESTION, **dict(zip("ABCDE", "一二三四五", strict=True)), "answer": "E"}
    layout = catalog.recognise(row)
    assert layout is not None
    (asked,) = layout.entry(row)["questions"]
    assert (asked["options"], asked["answer"]) == (list("一二三四五"), "E")


def test_a_mapping_without_answers_writes_them_to_a_field_of_this_name() -> None:
    layout = mapping.of_arguments(MAP[:2], "letter")
    assert layout.fill({"stem": QUESTION}, iter("A")) == {"stem": QUESTION, "answer": "A"}


# Files


@pytest.mark.parametrize(("name", "layout"), [("question", "ceval"), ("Question", "cmmlu")])
def test_a_header_that_ends_in_d_is_no_row_of_mmlu(name: str, layout: str, tmp_path: Path) -> None:
    first = "id" if layout == "ceval" else ""
    (tmp_path / "a.csv").write_text(f"{first},{name},A,B,C,D\n7,谁？,甲,乙,丙,丁\n", "utf-8")
    (line,) = scan(tmp_path / "a.csv")
    assert isinstance(line, Line)
    assert (line.entry.id, line.entry.questions[0].options) == ("7", ["甲", "乙", "丙", "丁"])
    assert line.source is not None
    assert layout in line.source.layout


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("question=stam", "--map question=stam; its first row has stem, A, B, C, label"),
        ("options=A,B,E", "--map options=E; "),
        ("problem=text", "--map problem=text; "),
        ("id=nr", "--map id=nr; "),
    ],
)
def test_names_that_no_row_has_are_refused(wrong: str, said: str, tmp_path: Path) -> None:
    path = format_fixtures.write(tmp_path / "a.csv", [TABLE])
    fields = {pair.partition("=")[0]: pair for pair in [*MAP, wrong]}
    with pytest.raises(UserError, match=f"a.csv has no such field: {said}"):
        scan(path, map=list(fields.values()))


def test_a_name_may_be_missing_in_the_first_rows(tmp_path: Path) -> None:
    rows = [{"q": "谁？", "o": OPTIONS}, {"q": "谁？", "o": OPTIONS, "text": "甲高。", "why": "因为。"}]
    path = format_fixtures.write(tmp_path / "a.jsonl", rows)
    names = ["question=q", "options=o", "problem=text", "answer=label", "reasoning=why"]
    found = scan(path, map=names)
    assert [line.entry.problem for line in found if isinstance(line, Line)] == ["", "甲高。"]


@pytest.mark.parametrize(
    ("name", "row", "field"),
    [
        ("a.csv", ["", *OPTIONS, "A"], "column 1"),
        ("a.csv", {"question": " ", **dict(zip("ABCD", OPTIONS, strict=True))}, "question"),
        (
            "a.jsonl",
            {"passage": "", "questions": [{"question": "", "options": OPTIONS}]},
            "questions[0].question",
        ),
        (
            "a.jsonl",
            {"article": "", "questions": [""], "options": [OPTIONS], "answers": ["A"]},
            "questions[0]",
        ),
    ],
)
def test_a_row_that_asks_nothing_is_bad(name: str, row: Any, field: str, tmp_path: Path) -> None:
    (bad,) = scan(format_fixtures.write(tmp_path / name, [row]))
    assert isinstance(bad, BadLine)
    assert (bad.field, bad.problem) == (field, "it is empty, and so is the problem: expected text")


def test_blocks_are_read_as_the_layout_says(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("题目\n谁？\nA.甲\nB.乙\nC.丙\n\nB\n题目\n谁？\nA.甲\nB.乙\n", "utf-8")
    bad, line = scan(tmp_path / "a.txt", format="logiqa-text")
    assert 'line 1, its first line: found "题目", expected a letter A–B' in str(bad)
    assert isinstance(line, Line)
    assert (line.number, line.entry.questions[0].answer) == (7, "B")


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_damaged_archive_is_said_to_be(suffix: str, tmp_path: Path) -> None:
    sample = next(sample for sample in SAMPLES if sample.layout == "mmlu")
    rows = [{**row, "noise": random.Random(at).random()} for at, row in enumerate(sample.before * 3000)]
    path = format_fixtures.write(tmp_path / f"a{suffix}", rows)
    whole = path.read_bytes()
    for damaged in (whole[:60], whole[: len(whole) // 2], whole[:40] + b"\xff" * 20 + whole[60:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"is damaged \(.+\): get it again"):
            scan(path)


def test_nan_in_a_table_is_a_missing_value(tmp_path: Path) -> None:
    rows = [{"stem": QUESTION, "A": "甲", "B": "乙", "label": label} for label in (1.0, float("nan"))]
    path = format_fixtures.write(tmp_path / "a.parquet", rows)
    found = scan(path, map=["question=stem", "options=A,B", "answer=label"], answers="index-0")
    assert [line.entry.questions[0].answer for line in found if isinstance(line, Line)] == ["B", None]


def scan(path: Path, **reading: Any) -> list[Line | BadLine]:
    return list(row_reader.scan(path, Reading(**reading)))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".jsonl.gz", ".jsonl.zst", ".parquet", ".hf"])
def test_every_container_holds_the_same_rows(suffix: str, tmp_path: Path) -> None:
    sample = next(sample for sample in SAMPLES if sample.layout == "mmlu")
    found = scan(format_fixtures.write(tmp_path / f"a{suffix}", sample.before))
    assert [line.entry.id for line in found if isinstance(line, Line)] == ["q1", "q2"]
    assert all(isinstance(line, Line) and line.entry.questions[0].options == OPTIONS for line in found)


def test_ids_that_begin_anew_are_told_apart(tmp_path: Path) -> None:
    sample = next(sample for sample in SAMPLES if sample.layout == "cmmlu")
    found = scan(format_fixtures.write(tmp_path / "a.csv", [*sample.before, *sample.before]))
    assert [line.entry.id for line in found if isinstance(line, Line)] == ["0", "0-row3"]


def test_rows_of_one_passage_are_one_entry_unless_a_bad_row_is_between(tmp_path: Path) -> None:
    first, second = next(sample.before for sample in SAMPLES if sample.layout == "lsat")
    bad = {**second, "label": 9}
    (line,) = scan(format_fixtures.write(tmp_path / "a.json", [first, second]))
    assert isinstance(line, Line)
    assert (line.entry.id, len(line.entry.questions)) == ("2000_1-G_1", 2)
    kinds = [
        type(line).__name__ for line in scan(format_fixtures.write(tmp_path / "b.json", [first, bad, second]))
    ]
    assert kinds == ["Line", "BadLine", "Line"]


def test_entries_of_our_own_are_read_from_any_container(tmp_path: Path) -> None:
    entry = {
        "id": "p1",
        "problem": "",
        "questions": [{"question": QUESTION, "options": OPTIONS, "answer": "A"}],
    }
    for suffix in (".json", ".parquet", ".jsonl.gz"):
        (line,) = scan(format_fixtures.write(tmp_path / f"a{suffix}", [entry]))
        assert isinstance(line, Line)
        assert line.source is None
    _, twice = scan(format_fixtures.write(tmp_path / "b.json", [entry, entry]))
    assert 'row 2, id: "p1" stands on row 1 already' in str(twice)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.csv",
            "question,A,B,C,D\nq,1,2,3\n",
            "a.csv line 2: its number of cells is 4, expected 5: put cells with separators",
        ),
        (
            "a.csv",
            'question,A,B,C,D\n"one" two,1,2,3,4\n',
            "a.csv line 2: ',' expected after '\"'; put cells",
        ),
        ("a.csv", 'question,A,B,C,D\n"one,1,2,3,4\n', "a.csv line 2: unexpected end of data; put cells"),
        ("a.csv", "q;A;B\n1;2;3\n", "a.csv line 1: one column, \"q;A;B\": write ',' between cells, not ';'"),
        ("a.tsv", "q,A\n1,2\n", "a.tsv line 1: one column, \"q,A\": write '\\t' between cells, not ','"),
        ("a.csv", "question,A,A\nq,1,2\n", "the column 'A' stands there twice"),
        (
            "a.csv",
            "stem,A,B\nq,1,2\n",
            "in no known layout: it has the fields stem, A, B; name the layout with",
        ),
        ("a.csv", "question,A,B,C,D\n", "a.csv has no row"),
        ("a.json", '[{"question": "q"}, {"que', "a.json row 2: not JSON"),
        ("a.json", '[{"question": "q"} {"q": 1}]', "a.json row 2: not JSON: Expecting ',' delimiter"),
        ("a.jsonl", '{"stem": "q"}\n{"stem": "r"}\n', "use --format or --map"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(
    name: str, content: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    try:
        problem = "".join(str(line) for line in scan(tmp_path / name) if isinstance(line, BadLine))
    except UserError as error:
        problem = str(error)
    assert said in problem
    assert "\n" not in problem


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_table_in_utf_16_is_said_to_be(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("question,A,B,C,D,answer\n谁？,甲,乙,丙,丁,A\n".encode(encoding))
    with pytest.raises(UserError, match=r"text in UTF-16.*\(iconv -f UTF-16.* > .*a-utf8\.csv\)"):
        scan(tmp_path / "a.csv")


def test_a_table_in_another_encoding_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("question,A,B,C,D,answer\n谁最高的问题,甲,乙,丙,丁,A\n".encode("gbk"))
    with pytest.raises(UserError, match=r"is not UTF-8 .* perhaps GBK"):
        scan(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_damaged_byte_in_a_table_is_named_by_its_line(name: str, tmp_path: Path) -> None:
    content = "question,A,B,C,D,answer\n谁最高的问题,甲,乙,丙,丁,A\n".encode() * 2 + b"who,\xd2,2,3,4,A\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(UserError, match=rf"{name} line 5: not UTF-8 \(byte 5\): save the file as UTF-8"):
        scan(tmp_path / name)


def test_a_workbook_with_the_ending_of_a_table_is_said_to_be_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.csv", "w") as archive:
        archive.writestr("xl/workbook.xml", bytes(range(256)) * 9)
    with pytest.raises(UserError, match="is an Excel workbook: save its sheet as CSV"):
        scan(tmp_path / "a.csv")


def test_an_array_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.json_text._PIECE", 7)
    sample = next(sample for sample in SAMPLES if sample.layout == "agieval")
    assert len(scan(format_fixtures.write(tmp_path / "a.json", sample.before * 20))) == 40
