"""Data sets: what is good, what is bad and where, and what comes back when answers are written."""

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import dataset
from shared.dataset import BadLine, Entry, Line
from shared.errors import UserError

QUESTION: dict[str, Any] = {"question": "谁高？", "options": ["甲", "乙", "丙"], "answer": "A"}
ENTRY: dict[str, Any] = {"id": "p1", "problem": "甲比乙高。", "questions": [QUESTION]}


def data(folder: Path, *lines: object) -> Path:
    path = folder / "data.jsonl"
    texts = [
        line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() for line in lines
    ]
    path.write_bytes(b"\n".join(texts) + b"\n")
    return path


def asked(**changes: Any) -> dict[str, Any]:
    """Make an entry whose only question has these changes; ``None`` takes a field away."""
    question = {**QUESTION, **changes}
    return {**ENTRY, "questions": [{name: value for name, value in question.items() if value is not None}]}


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in ENTRY.items() if name != field}


def only(path: Path) -> Line | BadLine:
    (line,) = dataset.scan(path)
    return line


BAD = [
    (b'{"id": "p1",', "", "not JSON"),
    (b'{"id": ' + b"1" * 5000 + b"}", "", "not JSON"),
    (b"[" * 100_000, "", "not JSON"),
    (b'["p1"]', "", "a JSON object is expected, this is a list"),
    (b"17", "", "a JSON object is expected, this is a int"),
    ("甲".encode("gb18030"), "", "not UTF-8 (byte 1): save the file as UTF-8"),
    ('{"id": "甲"}'.encode("utf-16"), "", "not UTF-8"),
    (without("id"), "id", "the field is missing"),
    (without("problem"), "problem", "the field is missing"),
    (without("questions"), "questions", "the field is missing"),
    ({**ENTRY, "id": 1.5}, "id", ""),
    ({**ENTRY, "id": True}, "id", ""),
    ({**ENTRY, "problem": 5}, "problem", "string"),
    ({**ENTRY, "questions": []}, "questions", "empty"),
    ({**ENTRY, "questions": {}}, "questions", "list"),
    ({**ENTRY, "questions": ["谁高？"]}, "questions[0]", ""),
    (asked(question=None), "questions[0].question", "the field is missing"),
    (asked(options=None), "questions[0].options", "the field is missing"),
    (asked(options=[]), "questions[0].options", "at least 2 options are needed, there are 0"),
    (asked(options=["甲"]), "questions[0].options", "at least 2 options are needed, there are 1"),
    (asked(options=["甲", 2]), "questions[0].options[1]", "string"),
    (asked(options=list("abcdefghijklmnopqrstuvwxyz0")), "questions[0].options", "26"),
    (asked(answer="D"), "questions[0]", "answer 'D' is not one of the 3 options (A-C)"),
    (asked(answer="a"), "questions[0].answer", ""),
    (asked(answer="AB"), "questions[0].answer", ""),
    (asked(answer=1), "questions[0].answer", "string"),
    (asked(reasoning=["x"]), "questions[0].reasoning", "string"),
    (
        asked(wrong=[{"answer": "Z", "reasoning": "x"}]),
        "questions[0]",
        "wrong 'Z' is not one of the 3 options",
    ),
    (asked(wrong=[{"answer": "B"}]), "questions[0].wrong[0].reasoning", "the field is missing"),
]


@pytest.mark.parametrize(("line", "field", "problem"), BAD)
def test_a_bad_line_is_named_with_its_place(line: object, field: str, problem: str, tmp_path: Path) -> None:
    # UTF-16 text has line ends of its own inside, so the first complaint is the one that counts.
    bad = next(iter(dataset.scan(data(tmp_path, line))))
    assert isinstance(bad, BadLine)
    assert (bad.line, bad.field) == (1, field)
    assert problem in bad.problem
    assert "\n" not in str(bad)
    assert str(bad).startswith(f"{tmp_path}/data.jsonl line 1")


def test_good_lines_around_a_bad_one_are_good(tmp_path: Path) -> None:
    lines = list(dataset.scan(data(tmp_path, ENTRY, b"{", {**ENTRY, "id": 2})))
    assert [isinstance(line, Line) for line in lines] == [True, False, True]


def test_the_second_entry_of_a_name_is_bad(tmp_path: Path) -> None:
    first, second = dataset.scan(data(tmp_path, {**ENTRY, "id": 7}, {**ENTRY, "id": "7"}))
    assert isinstance(first, Line)
    assert str(second).endswith("line 2, id: '7' stands on line 1 already")


def test_reading_stops_at_the_first_bad_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 2: not JSON"):
        list(dataset.read(data(tmp_path, ENTRY, b"{")))


@pytest.mark.parametrize("content", [b"", b"\n \n\t\n"])
def test_an_empty_file_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is empty"):
        list(dataset.scan(data(tmp_path, content)))


def test_a_folder_a_missing_file_and_one_below_a_file_are_refused(tmp_path: Path) -> None:
    path = data(tmp_path, ENTRY)
    for place, message in [
        (tmp_path, "is a folder: name the JSON Lines file in it"),
        (tmp_path / "no", "cannot read .*: No such file"),
        (path / "x", "cannot read .*: Not a directory"),
    ]:
        with pytest.raises(UserError, match=message):
            list(dataset.scan(place))
        with pytest.raises(UserError, match=message):
            dataset.digest(place)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"\xef\xbb\xbf" + json.dumps(ENTRY).encode(), id="byte order mark"),
        pytest.param(json.dumps(ENTRY).encode() + b"\r", id="Windows line end"),
        pytest.param(asked(options=["甲", "甲 ", "甲"]), id="duplicate options and trailing space"),
        pytest.param(asked(options=["是", "否"]), id="yes or no"),
        pytest.param(asked(answer=""), id="blank answer"),
        pytest.param({**ENTRY, "id": 12, "more": {"x": [1]}}, id="number as id, other fields"),
        pytest.param({**ENTRY, "problem": "```py\n答案是：A\n``` **甲**"}, id="Markdown"),
        pytest.param(asked(wrong=[{"answer": None, "reasoning": "不知道"}]), id="wrong without a letter"),
    ],
)
def test_what_real_files_hold_is_good(line: object, tmp_path: Path) -> None:
    assert isinstance(only(data(tmp_path, line)), Line)


def test_a_blank_answer_is_no_answer(tmp_path: Path) -> None:
    line = only(data(tmp_path, asked(answer="")))
    assert isinstance(line, Line)
    assert line.entry.questions[0].answer is None


@pytest.mark.parametrize(("origin", "augmented"), [(None, False), ("original", False), ("synonym", True)])
def test_an_entry_made_from_another_is_augmented(origin: str | None, augmented: bool) -> None:
    assert Entry.model_validate({**ENTRY, "origin": origin}).augmented is augmented


def test_a_question_is_named_by_its_entry_and_its_place_from_1() -> None:
    assert dataset.key("p1", 0) == "p1#1"


# Writing


def test_answers_keep_fields_in_their_order() -> None:
    text = '{"z": 1, "questions": [{"options": ["x", "y"], "question": "q", "answer": "A", "k": 2}], "id": 3}'
    written = dataset.with_answers(text, ["B"])
    assert json.dumps(written) == text.replace('"A"', '"B"')


def test_a_gold_letter_does_not_pass_for_an_answer() -> None:
    assert dataset.with_answers(json.dumps(ENTRY), [None])["questions"][0]["answer"] == ""


def test_without_an_answer_a_question_gets_no_field() -> None:
    assert "answer" not in dataset.with_answers(json.dumps(asked(answer=None)), [None])["questions"][0]


# Every character that can be stored: no NUL, no half of a surrogate pair.
STORABLE = st.characters(exclude_characters="\0", exclude_categories=("Cs",))
TEXT = st.text(STORABLE)
NAMES = st.text(STORABLE, min_size=1).filter(
    lambda name: name not in ("id", "problem", "questions", "question", "options")
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
EXTRAS = st.dictionaries(
    NAMES.filter(lambda name: name not in ("answer", "reasoning", "wrong", "origin", "group")),
    VALUES,
    max_size=3,
)


@st.composite
def shuffled(draw: st.DrawFn, fields: dict[str, Any]) -> dict[str, Any]:
    return dict(draw(st.permutations([*{**draw(EXTRAS), **fields}.items()])))


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    questions = [
        draw(shuffled({"question": draw(TEXT), "options": draw(st.lists(TEXT, min_size=2, max_size=26))}))
        for _ in range(draw(st.integers(1, 3)))
    ]
    named = draw(TEXT | st.integers(-(10**9), 10**9))
    return draw(shuffled({"id": named, "problem": draw(TEXT), "questions": questions}))


@given(entries(), st.randoms(use_true_random=False))
def test_any_entry_comes_back_as_it_was_but_for_its_answers(
    tmp_path_factory: pytest.TempPathFactory, entry: dict[str, Any], random: Any
) -> None:
    path = tmp_path_factory.mktemp("any") / "data.jsonl"
    path.write_text(json.dumps(entry, ensure_ascii=random.random() < 0.5) + "\n", encoding="utf-8")
    line = only(path)
    assert isinstance(line, Line)
    letters = [random.choice(question.letters) for question in line.entry.questions]
    dataset.write([dataset.with_answers(line.text, letters)], path)
    written = json.loads(path.read_text("utf-8"))
    for before, after in zip((entry, *entry["questions"]), (written, *written["questions"]), strict=True):
        assert [name for name in after if name != "answer"] == list(before)
    assert [question.pop("answer") for question in written["questions"]] == letters
    assert written == entry


def test_a_lone_surrogate_is_written_as_json_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    dataset.write([{"x": "甲\ud800"}], path)
    assert path.read_text("utf-8") == '{"x": "甲\\ud800"}\n'


def test_a_failing_source_leaves_no_file(tmp_path: Path) -> None:
    def failing() -> Any:
        yield ENTRY
        raise KeyError

    with pytest.raises(KeyError):
        dataset.write(failing(), tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*/no/out\.jsonl: No such file or directory"):
        dataset.write([], tmp_path / "no" / "out.jsonl")
    with pytest.raises(UserError, match="is a folder: name a file"):
        dataset.write([], tmp_path)


def test_letters_are_as_many_as_options() -> None:
    assert Entry.model_validate(ENTRY).questions[0].letters == string.ascii_uppercase[:3]


@pytest.mark.parametrize("unfit", ["\\u0000", "\\ud800"])
def test_a_character_that_no_ledger_can_store_is_a_bad_line(tmp_path: Path, unfit: str) -> None:
    path = tmp_path / "data.jsonl"
    question = '{"question": "q", "options": ["a", "b"]}'
    path.write_text(f'{{"id": "p1", "problem": "甲{unfit}", "questions": [{question}]}}\n', "utf-8")
    (bad,) = dataset.scan(path)
    assert isinstance(bad, BadLine)
    assert "cannot be stored" in str(bad)
    spelt = path.read_text("utf-8").replace(unfit, "\\" + unfit)
    path.write_text(spelt, "utf-8")
    assert not any(isinstance(line, BadLine) for line in dataset.scan(path))
