"""Data sets: what is good, what is bad and where, and what comes back when answers are written."""

import json
import os
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import dataset, json_text
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


def shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


TEXTS = "expected a list of 2 to 26 texts"
AT_LEAST_ONE = "expected a list of at least one question"
TWO_FIELDS = '"answer" (a wrong letter or null) and "reasoning"'
OWN = "rename the field if it is your own"
RESERVED = (
    "expected an object: the name is reserved for what votequeue notes of an entry or a text (docs/data.md)"
)
NOT_OURS = "there is no such field in votequeue's own: write your own fields outside of it"
BAD: list[tuple[object, str, str]] = [
    # The line
    (b'{"id": "p1",', "", "not JSON: Expecting property name enclosed in double quotes at column 13"),
    (b"[" * 100_000, "", "nested deeper than 100 levels: write it flatter"),
    (b'["p1"]', "", 'found ["p1"], expected a JSON object'),
    (b"17", "", "found 17, expected a JSON object"),
    (b"null", "", "found null, expected a JSON object"),
    # The entry
    (without("id"), "id", "the field is missing, expected text or a whole number"),
    (without("problem"), "problem", "the field is missing, expected text"),
    (without("questions"), "questions", f"the field is missing, {AT_LEAST_ONE}"),
    ({**ENTRY, "id": 1.5}, "id", "found 1.5, expected text or a whole number"),
    ({**ENTRY, "id": True}, "id", "found true, expected text or a whole number"),
    ({**ENTRY, "id": None}, "id", "found null, expected text or a whole number"),
    ({**ENTRY, "id": ["p1"]}, "id", 'found ["p1"], expected text or a whole number'),
    ({**ENTRY, "id": "x" * 301}, "id", "it is 301 characters long, expected at most 300"),
    ({**ENTRY, "id": 10**400}, "id", "it is 401 characters long, expected at most 300"),
    ({**ENTRY, "problem": 5}, "problem", 'found 5, expected text: write "5"'),
    (
        {**ENTRY, "problem": None},
        "problem",
        'found null, expected text: write "" where the question says all',
    ),
    ({**ENTRY, "questions": []}, "questions", f"found [], {AT_LEAST_ONE}"),
    (
        {**ENTRY, "questions": {}},
        "questions",
        f"found {{}}, {AT_LEAST_ONE}: write it as a list, be it of one question",
    ),
    ({**ENTRY, "questions": None}, "questions", f"found null, {AT_LEAST_ONE}"),
    (
        {**ENTRY, "questions": ["谁高？"]},
        "questions[0]",
        'found "谁高？", expected an object with "question" and "options"',
    ),
    # The question
    (asked(question=None), "questions[0].question", "the field is missing, expected text"),
    (asked(question=3), "questions[0].question", 'found 3, expected text: write "3"'),
    (asked(options=None), "questions[0].options", f"the field is missing, {TEXTS}"),
    (asked(options=[]), "questions[0].options", f"found 0 options, {TEXTS}"),
    (asked(options=["甲"]), "questions[0].options", f"found 1 option, {TEXTS}"),
    (
        asked(options=list("abcdefghijklmnopqrstuvwxyz0")),
        "questions[0].options",
        f"found 27 options, {TEXTS}",
    ),
    (asked(options="甲 乙"), "questions[0].options", f'found "甲 乙", {TEXTS}'),
    (
        asked(options={"A": "甲", "B": "乙"}),
        "questions[0].options",
        f'found {{"A": "甲", "B": "乙"}}, {TEXTS}: write the texts as a list, in the order of their letters',
    ),
    (asked(options=["甲", 2]), "questions[0].options[1]", 'found 2, expected text: write "2"'),
    (asked(options=["甲", ["乙"]]), "questions[0].options[1]", 'found ["乙"], expected text'),
    (asked(options=["甲", " \n"]), "questions[0].options[1]", "option B is empty, expected text"),
    (asked(reasoning=["x"]), "questions[0].reasoning", f'found ["x"], expected text: {OWN}'),
    (asked(wrong=3), "questions[0].wrong", f"found 3, expected a list of objects with {TWO_FIELDS}: {OWN}"),
    (asked(wrong=["B"]), "questions[0].wrong[0]", f'found "B", expected an object with {TWO_FIELDS}'),
    (
        asked(wrong=[{"answer": "B"}]),
        "questions[0].wrong[0].reasoning",
        "the field is missing, expected text",
    ),
    (
        asked(wrong=[{"reasoning": "x"}]),
        "questions[0].wrong[0].answer",
        "the field is missing, expected a letter A–C or null",
    ),
    (
        asked(wrong=[{"answer": "B", "reasoning": "x"}, {"answer": "Z", "reasoning": "x"}]),
        "questions[0].wrong[1].answer",
        'found "Z", expected a letter A–C or null',
    ),
    # What is votequeue's
    ({**ENTRY, "votequeue": 5}, "votequeue", f"found 5, {RESERVED}"),
    ({**ENTRY, "votequeue": {"orign": "x"}}, "votequeue.orign", NOT_OURS),
    ({**ENTRY, "votequeue": {"group": 1}}, "votequeue.group", "found 1, expected text or null"),
    (asked(votequeue="x"), "questions[0].votequeue", f'found "x", {RESERVED}'),
    (asked(votequeue={"label": 1}), "questions[0].votequeue.label", "found 1, expected text or null"),
    # What no field may hold
    (
        json.dumps({**ENTRY, "own": {"x": [0, float("nan")]}}).encode(),
        "own.x[1]",
        "NaN is no JSON number: write null or a number",
    ),
    (
        b'{"id": "p1", "problem": "x", "questions": 1, "id": 2}',
        "",
        'the field "id" stands twice in this object: take one out',
    ),
    ({**ENTRY, "own": {"x": "\0"}}, "own.x", "the character '\\x00' cannot be stored: take it out"),
    ({**ENTRY, "own": ["\ud800"]}, "own[0]", "the character '\\ud800' cannot be stored: take it out"),
]

ONE_OPTION = ": a question has one right option"
NUMBERED = ": options are named by letters, the first is A"
LETTERS_THAT_ARE_NONE: list[tuple[object, str]] = [
    ("a", ': write "A"'),
    ("B.", ': write "B"'),
    (" B ", ': write "B"'),
    ("(B)", ': write "B"'),
    ("（B）", ': write "B"'),
    ("Ｂ", ': write "B"'),
    ("**B**", ': write "B"'),
    (["B"], ': write "B"'),
    ("ＢＢ", ONE_OPTION),
    ("AB", ONE_OPTION),
    ("A, C", ONE_OPTION),
    (["A", "B"], ONE_OPTION),
    ([], ONE_OPTION),
    (0, NUMBERED),
    (2, NUMBERED),
    (1.0, NUMBERED),
    (True, ""),
    ({}, ""),
    ("D", ""),
    ("E", ""),
    ("？", ""),
    ("甲乙", ""),
    ("乙", ': option B has this text, write "B"'),
    ("B. 乙", ': option B has this text, write "B"'),
    (" ", ": leave the field out, or write null, where no answer is known"),
]
BAD += [
    (asked(answer=answer), "questions[0].answer", f"found {shown(answer)}, expected a letter A–C{hint}")
    for answer, hint in LETTERS_THAT_ARE_NONE
]


@pytest.mark.parametrize(("line", "field", "problem"), BAD)
def test_a_bad_line_is_named_with_its_place(line: object, field: str, problem: str, tmp_path: Path) -> None:
    if isinstance(line, dict) and any(unfit in json.dumps(line) for unfit in ("\\u0000", "\\ud800")):
        line = json.dumps(line).encode()
    bad = only(data(tmp_path, line))
    assert isinstance(bad, BadLine)
    assert (bad.line, bad.field, bad.problem) == (1, field, problem)
    assert str(bad) == f"{tmp_path}/data.jsonl line 1{', ' if field else ''}{field}: {problem}"


def test_a_letter_of_few_options_is_asked_for_as_such(tmp_path: Path) -> None:
    bad = only(data(tmp_path, asked(options=["是", "否"], answer="C")))
    assert str(bad).endswith('questions[0].answer: found "C", expected a letter A–B')


@pytest.mark.parametrize("answer", ["", None])
def test_an_answer_that_is_not_known_may_be_null_or_blank(answer: str | None, tmp_path: Path) -> None:
    line = only(data(tmp_path, {**ENTRY, "questions": [{**QUESTION, "answer": answer}]}))
    assert isinstance(line, Line)
    assert line.entry.questions[0].answer is None


def test_good_lines_around_a_bad_one_are_good(tmp_path: Path) -> None:
    lines = list(dataset.scan(data(tmp_path, ENTRY, b"{", {**ENTRY, "id": 2})))
    assert [isinstance(line, Line) for line in lines] == [True, False, True]


def test_the_second_entry_of_a_name_is_bad(tmp_path: Path) -> None:
    first, second = dataset.scan(data(tmp_path, {**ENTRY, "id": 7}, {**ENTRY, "id": "7"}))
    assert isinstance(first, Line)
    assert str(second).endswith('line 2, id: "7" stands on line 1 already')


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


@pytest.mark.parametrize(
    ("origin", "augmented"), [(None, False), ("", False), ("original", False), ("synonym", True)]
)
def test_an_entry_made_from_another_is_augmented(origin: str | None, augmented: bool) -> None:
    assert Entry.model_validate({**ENTRY, "votequeue": {"origin": origin}}).augmented is augmented


# The user's own fields

OWN_NAMES = (
    "origin",
    "group",
    "made",
    "label",
    "provider",
    "model",
    "prompt",
    "test",
    "weight",
    "kind",
    "key",
)
OWN_VALUES = ("synonym", "", 5, 0.5, None, True, ["x"], {"origin": "synonym"})


@pytest.mark.parametrize("name", OWN_NAMES)
def test_own_fields_of_any_name_and_type_mean_nothing_and_come_back(name: str, tmp_path: Path) -> None:
    for value in OWN_VALUES:
        question = {**QUESTION, name: value, "wrong": [{"answer": "B", "reasoning": "x", name: value}]}
        entry = {**ENTRY, name: value, "questions": [question]}
        line = only(data(tmp_path, entry))
        assert isinstance(line, Line)
        plain = Entry.model_validate(ENTRY)
        assert (line.entry.augmented, line.entry.group) == (False, plain.group)
        assert json.loads(json_text.dumps(dataset.with_answers(line.text, ["A"]))) == entry


def test_a_group_is_the_problem_unless_it_is_named() -> None:
    assert Entry.model_validate(ENTRY).group == dataset.identity("甲 比乙高。")
    assert Entry.model_validate({**ENTRY, "votequeue": {"group": "g1"}}).group == "g1"


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
OPTION = TEXT.filter(str.strip)
NAMES = st.text(STORABLE, min_size=1).filter(
    lambda name: name not in ("id", "problem", "questions", "question", "options")
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
EXTRAS = st.dictionaries(
    NAMES.filter(lambda name: name not in ("answer", "reasoning", "wrong", "votequeue")),
    VALUES,
    max_size=3,
)


@st.composite
def shuffled(draw: st.DrawFn, fields: dict[str, Any]) -> dict[str, Any]:
    return dict(draw(st.permutations([*{**draw(EXTRAS), **fields}.items()])))


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    questions = [
        draw(shuffled({"question": draw(TEXT), "options": draw(st.lists(OPTION, min_size=2, max_size=26))}))
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


@pytest.mark.parametrize(
    "numbers",
    [
        '"score": 1e999',
        '"n": 123456789.12345678901234567890, "m": -0',
        f'"big": {"9" * 5000}',
        '"x": [1.0, 1E5, 0.10]',
    ],
)
def test_numbers_come_out_as_they_went_in(numbers: str, tmp_path: Path) -> None:
    text = json.dumps(ENTRY, ensure_ascii=False)[:-1] + f", {numbers}}}"
    line = only(data(tmp_path, text.encode()))
    assert isinstance(line, Line)
    dataset.write([dataset.with_answers(line.text, ["A"])], tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text("utf-8") == text + "\n"


def test_what_the_door_lets_in_every_reader_of_a_ledger_can_read(tmp_path: Path) -> None:
    deep = '{"a": ' * 98 + "[]" + "}" * 98
    text = json.dumps(ENTRY)[:-1] + f', "own": {deep}, "n": 1e999}}'
    line = only(data(tmp_path, text.encode()))
    assert isinstance(line, Line)
    assert dataset.entry_of(line.text) == line.entry
    assert json.loads(json.dumps(dataset.with_answers(line.text, ["B"]), default=str))["id"] == "p1"


def test_what_an_older_ledger_holds_is_read_still() -> None:
    text = json.dumps(ENTRY)[:-1] + ', "own": ' + "[" * 500 + "]" * 500 + ', "x": NaN, "x": 1}'
    assert dataset.entry_of(text).id == "p1"


def test_a_file_is_written_through_a_link_and_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "out.jsonl", tmp_path / "link.jsonl"
    target.write_text("before")
    target.chmod(0o600)
    link.symlink_to(target)
    dataset.write([{"x": 1}], link)
    assert link.is_symlink()
    assert (target.read_text(), target.stat().st_mode & 0o777) == ('{"x": 1}\n', 0o600)


def test_a_device_is_not_written_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is a device or a pipe: name a file"):
        dataset.write([], tmp_path / "pipe")


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


@pytest.mark.parametrize("problem", ["甲比乙高。", " "])
def test_the_text_of_an_entry_gives_the_same_as_the_entry(problem: str) -> None:
    questions = [
        {"question": "谁高？", "options": ["甲", "乙"], "answer": answer, "size": 1e999}
        for answer in ("B", "", None)
    ]
    text = json.dumps(
        {"id": 7, "problem": problem, "questions": [*questions, {**questions[0], "n": 10**400}]}
    )
    parsed, entry = dataset.EntryText(text), dataset.entry_of(text)
    assert parsed.answers == [question.answer for question in entry.questions] == ["B", None, None, "B"]
    assert (parsed.problem, parsed.unit) == (problem, dataset.unit(entry))
    identities = [dataset.problem_identity(problem, one.question, one.options) for one in entry.questions]
    assert [parsed.problem_identity(at) for at in range(4)] == identities
    assert parsed.entry == entry
