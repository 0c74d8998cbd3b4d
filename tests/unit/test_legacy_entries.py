"""Files that earlier versions exported are read as before; a user's fields of the same names are not."""

from typing import Any

import pytest

from shared import legacy_entries
from shared.dataset import Entry, QuestionProvenance

MADE = {"label": "correct", "origin": "synonym", "provider": None, "model": None, "prompt": None}
QUESTION = {"question": "谁高？", "options": ["甲", "乙"], "answer": "A"}
OLD: dict[str, Any] = {
    "id": "p1~synonym",
    "problem": "甲比乙高。",
    "questions": [{**QUESTION, "reasoning": "x", "made": MADE}],
    "origin": "synonym",
    "group": "0f3c0f3c0f3c0f3c",
}
REASON = {**MADE, "origin": "reason", "provider": "chat"}


def changed(**fields: Any) -> dict[str, Any]:
    return {**OLD, **fields}


def test_an_older_export_means_what_it_meant() -> None:
    entry = Entry.model_validate(OLD)
    assert (entry.augmented, entry.group) == (True, OLD["group"])
    assert entry.questions[0].votequeue == QuestionProvenance(**MADE)


def test_reasonings_of_an_older_export_are_known_too() -> None:
    wrong = {"answer": "B", "reasoning": "x", "made": {**REASON, "label": "wrong"}}
    old = changed(questions=[{**QUESTION, "reasoning": "x", "made": REASON}, {**QUESTION, "wrong": [wrong]}])
    new = legacy_entries.renamed(old)
    assert new["votequeue"] == {"origin": "synonym", "group": OLD["group"]}
    assert new["questions"][0]["votequeue"] == REASON
    assert new["questions"][1]["wrong"][0]["votequeue"]["label"] == "wrong"
    assert "made" not in str(new)


def test_a_plain_entry_with_older_reasonings_is_an_original() -> None:
    plain = {"id": "p1", "problem": "x", "questions": [{**QUESTION, "reasoning": "x", "made": REASON}]}
    assert not Entry.model_validate({**plain, "origin": "synonym", "group": "g"}).augmented
    assert Entry.model_validate(plain).questions[0].votequeue == QuestionProvenance(**REASON)


@pytest.mark.parametrize(
    "entry",
    [
        changed(id="p1"),
        changed(id=1),
        changed(origin="web"),
        changed(origin=["synonym"]),
        changed(group=7),
        changed(group=None),
        changed(questions=[QUESTION]),
        changed(questions=[{**QUESTION, "made": "2024"}]),
        changed(questions=[{**QUESTION, "made": {"label": "correct"}}]),
        changed(questions=[{**QUESTION, "made": {**MADE, "origin": "me"}}]),
        changed(questions=[{**QUESTION, "made": MADE}, QUESTION]),
    ],
)
def test_what_a_user_may_have_written_is_the_users(entry: dict[str, Any]) -> None:
    assert not Entry.model_validate(entry).augmented


def test_what_says_it_in_the_present_way_is_left_as_it_is() -> None:
    new = changed(votequeue={"origin": None})
    assert legacy_entries.renamed(new) is new
    assert not Entry.model_validate(new).augmented
