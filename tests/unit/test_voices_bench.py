"""The bench of voices, on votes whose letters are known."""

import json
from collections.abc import Sequence

import pytest

from producers.enqueue.voice_weights import Learned
from shared.dataset import EntryText
from shared.ledger.votes import QuestionResult, RecordedVote
from shared.vote_weights import FOLDS
from tests.bench import voices

EVERY_FOLD = FOLDS + 1
LEARNED = Learned(
    {"program result": (3.0,) * EVERY_FOLD, "reasoning": (1.0,) * EVERY_FOLD},
    (0.8,) * EVERY_FOLD,
    9,
    5,
    0,
    9,
    0,
)


def question(at: int, words: str, results: str, repaired: Sequence[int] = ()) -> QuestionResult:
    """Make a question whose right letter is B; a reasoning has 100 tokens, a program 50."""
    entry = json.dumps(
        {
            "id": f"p{at}",
            "problem": f"题{at}",
            "questions": [{"question": "谁？", "options": ["甲", "乙", "丙"], "answer": "B"}],
        }
    )
    texts = [(letter, "reasoning", 100) for letter in words] + [(letter, "program", 50) for letter in results]
    votes = [
        RecordedVote(
            at,
            1,
            place,
            None if letter == "-" else letter,
            None,
            True,
            tokens,
            None,
            voice=voice,
            outcome=None if voice == "reasoning" else "silent" if letter == "-" else "result",
            text="x" * 4,
            first_text="x" if place in repaired else None,
            first_outcome="silent" if place in repaired else None,
        )
        for place, (letter, voice, tokens) in enumerate(texts)
    ]
    return QuestionResult(at, f"p{at}#1", EntryText(entry), 0, "done", 1, votes, "B", "majority", 0.0)


def test_the_first_votes_of_each_voice_answer() -> None:
    found = [question(0, "ABB", "-B"), question(1, "AAB", "BB")]
    lines = list(voices.lines(found, ["reasoning=2", "reasoning=3,program=2"], None, 0.9))
    assert [(line.asked, line.counted, line.right) for line in lines] == [
        ("reasoning=2", "plain", [0, 0]),
        ("reasoning=3,program=2", "plain", [1, 1]),
    ]
    assert (lines[0].possible, lines[0].votes, lines[0].tokens) == ([1, 0], [2, 2], [200, 200])
    assert (lines[1].possible, lines[1].votes, lines[1].tokens) == ([1, 1], [5, 5], [400, 400])
    rows = list(voices.rows(lines, ["p0", "p1"]))
    assert rows[0][2:4] == ["0 of 2, 0.0 %", ""]
    assert rows[1][2:4] == ["2 of 2, 100.0 %", "+100.0 (+100.0 to +100.0)"]


def test_weights_and_a_stop_at_agreement_are_tried() -> None:
    found = [question(0, "AA", "B-"), question(1, "BA", "BA")]
    asked = ["reasoning=2,program=2"]
    lines = {line.counted: line for line in voices.lines(found, asked, LEARNED, 0.8)}
    assert {name: line.right for name, line in lines.items()} == {
        "plain": [0, 1],
        "weights": [1, 1],
        "agreement": [0, 1],
        "agreement, weights": [1, 1],
    }
    assert lines["agreement"].votes == [4, 2]
    assert lines["agreement"].tokens == [300, 150]
    doubtful = {line.counted: line for line in voices.lines(found, asked, LEARNED, 0.81)}
    assert doubtful["agreement"].votes == [4, 4]


def test_repairs_are_undone() -> None:
    lines = list(voices.lines([question(0, "A", "BB", repaired=[1])], ["program=2"], None, 0.9))
    assert [(line.counted, line.right, line.tokens) for line in lines] == [
        ("plain", [1], [100]),
        ("unrepaired", [1], [60]),
    ]


def test_too_few_votes_are_refused() -> None:
    with pytest.raises(SystemExit, match="has 1 votes of program, not 2"):
        list(voices.lines([question(0, "A", "B")], ["program=2"], None, 0.9))
