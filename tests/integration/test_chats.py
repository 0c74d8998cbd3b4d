"""Chats, thinking and letters that were asked for, through whole rounds."""

from pathlib import Path
from typing import Any

import pytest

from producers import trace, vote_rows
from producers.reports import inference_report, render_reports
from shared import prompt_files, prompts
from shared.ledger import schema
from shared.prompts import FewShotExample, Message, PromptQuestion
from tests.fakes import FakeGenerator
from tests.integration.test_rounds import claim, open_run, play, playing, rows

pytestmark = pytest.mark.usefixtures("any_ledger", "on_broker")
ZH = prompt_files.built_in("zh")
SOLVED = FewShotExample(PromptQuestion("红比蓝重。", "谁重？", ("红", "蓝")), "题目说红更重。", "A")


def votes_of(run: str) -> list[tuple[Any, ...]]:
    names = ("letter", "letter_source", "thinking", "text")
    return [tuple(row[name] for name in names) for row in rows(schema.votes, run)]


def test_examples_are_turns_of_a_chat_or_text_before_its_question() -> None:
    asked = PromptQuestion("甲比乙高。", "谁高？", ("甲", "乙"))
    turns = ZH.chat(asked, [SOLVED])
    assert [turn.role for turn in turns] == ["user", "assistant", "user"]
    assert turns[0].content.startswith(ZH.head.strip())
    assert turns[1].content == "题目说红更重。\n答案是：A"
    assert turns[2].content == ZH.case(asked).strip()
    assert ZH.chat(asked, [SOLVED], turns=False) == (Message("user", ZH.completion(asked, [SOLVED]).strip()),)


@pytest.mark.parametrize(
    ("style", "chats", "sent"),
    [
        ("completion", True, "completion"),
        ("chat", False, "chat"),
        ("auto", True, "chat"),
        ("auto", False, "completion"),
    ],
)
def test_the_style_of_a_prompt_is_chosen_or_follows_from_the_model(
    tmp_path: Path, style: str, chats: bool, sent: str
) -> None:
    run = open_run(tmp_path, 1, prompt_style=style)
    generator = FakeGenerator(chats=chats)
    play(playing(generator), claim(run))
    [request] = generator.requests
    assert isinstance(request.prompt, str) == (sent == "completion")
    [sampled] = rows(schema.rounds, run)
    assert (sampled["style"], sampled["prompt"]) == (sent, prompts.digest(request.prompt))
    [shown] = trace.history(run, "0").rounds
    assert (shown.style, shown.prompt) == (sent, prompts.plain_text(request.prompt))


def test_thinking_is_kept_apart_and_never_read(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1, prompt_style="chat", votes=2)
    reply = ("<think>\n答案是：B\n</think>\n甲更高。\n答案是：A", "<think>答案是：B")
    generator = FakeGenerator({"题0：": [reply]})
    play(playing(generator), claim(run))
    assert votes_of(run) == [
        ("A", "read", "答案是：B", "甲更高。\n答案是：A"),
        (None, None, "答案是：B", ""),
    ]
    assert [row["thinking"] for row in vote_rows.of_run(run)] == ["答案是：B", "答案是：B"]


def test_the_answer_of_a_chat_is_not_cut_at_what_ends_a_raw_completion(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1, prompt_style="chat", votes=1)
    generator = FakeGenerator({"题0：": [("先看\n### 题目\n的条件。\n---\n答案是：B",)]})
    play(playing(generator), claim(run))
    assert votes_of(run)[0][:2] == ("B", "read")


def test_votes_without_a_letter_are_asked_at_once_if_the_run_says_so(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1, votes=3, ask_letter="always")
    generator = FakeGenerator({"题0：": [("答案是：A", "还没想好", "不知道")]}, letters=["B", None])
    play(playing(generator), claim(run))
    assert [vote[:2] for vote in votes_of(run)] == [("A", "read"), ("B", "forced"), (None, None)]
    [(asked, question)] = generator.asked_letters
    assert asked == ["还没想好", "不知道"]
    assert (question.opening, question.letters) == ("答案是：", "ABC")


def test_by_default_votes_are_asked_in_the_last_round_only(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1, votes=1, ask_letter="last", max_attempts=2)
    generator = FakeGenerator({"题0：": [("不知道",)]}, letters=["B"])
    assert play(playing(generator), claim(run)) == ["again: none of 1 votes was accepted"]
    assert generator.asked_letters == []
    assert play(playing(generator), claim(run)) == ["B: unscored majority, 1 of 1 votes"]
    assert len(generator.asked_letters) == 1


def test_a_run_that_does_not_ask_leaves_votes_without_a_letter(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1, votes=1, max_attempts=1)
    generator = FakeGenerator({"题0：": [("不知道",)]}, letters=["B"])
    assert play(playing(generator), claim(run)) == ["A: default, 0 of 1 votes"]
    assert generator.asked_letters == []


def test_the_report_shows_letters_that_were_asked_for_beside_those_that_were_read(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1, votes=3, ask_letter="always")
    generator = FakeGenerator({"题0：": [("答案是：A", "不知道", "不知道")]}, letters=["B", "B"])
    play(playing(generator), claim(run))
    figures = inference_report.figures(run)
    assert (dict(figures.forced_letters), dict(figures.read_letters)) == ({"B": 2}, {"A": 1})
    shown = dict(render_reports.inference_rows(figures))
    assert shown["letters asked for"] == "2: B 100 %"
    assert (figures.with_forced.right, figures.without_forced.right) == (1, 0)  # the right letter is B


def test_forced_letters_are_still_forced_when_votes_are_scored_again(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1, votes=1, ask_letter="always", max_attempts=1)
    play(playing(FakeGenerator({"题0：": [("不知道",)]}, letters=["B"])), claim(run))
    again = open_run(tmp_path, 1, votes_of=run)
    play(playing(FakeGenerator()), claim(again))
    assert [vote[:2] for vote in votes_of(again)] == [("B", "forced")]


def test_a_digest_tells_turns_apart() -> None:
    one, two = Message("user", "甲"), Message("assistant", "乙")
    assert prompts.digest((one, two)) != prompts.digest((Message("user", "甲\n\n[assistant]\n乙"),))
    assert prompts.plain_text((one, two)) == "[user]\n甲\n\n[assistant]\n乙"
