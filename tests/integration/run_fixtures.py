"""A worker's part, played by hand through the same claims that a worker makes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from producers.enqueue import inputs, publish
from producers.enqueue.publish import EnqueuedRun
from shared import voting
from shared.jobs import Infer
from shared.ledger import claims
from shared.ledger.claims import Claim, Settled, VoteRecord
from shared.options import Reading, Sampling
from shared.voting import GATE, Vote

QUESTION = {"question": "谁高？", "options": ["甲", "乙", "丙"]}


def entry(name: str, answers: str = "A", **extra: Any) -> dict[str, Any]:
    """Make an entry with one question for each letter in ``answers``; "-" has no answer."""
    questions = [{**QUESTION, **({} if letter == "-" else {"answer": letter})} for letter in answers]
    return {"id": name, "problem": f"甲比乙高，乙比丙高。({name})", "questions": questions, **extra}


def solved(name: str, answers: str = "A", **extra: Any) -> dict[str, Any]:
    """Make an entry whose questions have a reasoning too."""
    made = entry(name, answers, **extra)
    for question in made["questions"]:
        question["reasoning"] = f"甲最高。\n答案是：{question['answer']}"
    return made


def write(path: Path, *entries: dict[str, Any]) -> Path:
    """Write a data set."""
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in entries)
    path.write_text(text, encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """Read a data set."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def claim(run: str, *numbers: int, worker: str = "one", lease: float = 60) -> list[Claim]:
    """Claim items."""
    return claims.claim([Infer(run=run, item=number) for number in numbers], worker, lease)


def ballot(letter: str | None, score: float | None = None, accepted: bool = True) -> VoteRecord:
    """Make a vote of 10 tokens."""
    text = f"因为如此，\n答案是：{letter}" if letter else "我不知道"
    return VoteRecord(text, letter, score, accepted and letter is not None, 10)


def vote(held: Claim, ballots: Sequence[VoteRecord]) -> None:
    """Settle a claim with votes, and with the answer they make if they make one."""
    answer = voting.decide([Vote(one.letter, one.score if one.accepted else 0.0) for one in ballots], GATE)
    outcome = f"{answer.letter}: {answer.how}" if answer else "again: no vote was accepted"
    claims.settle([Settled(held, ballots, answer, outcome, "s1")])


def answer_all(run: str, count: int, letter: str = "A") -> None:
    """Answer the first ``count`` questions, five votes each."""
    for held in claim(run, *range(count)):
        vote(held, [ballot(letter, 0.9)] * 5)


def infer(
    data: Path,
    sampling: Sampling,
    name: str | None = None,
    examples: str | None = None,
    skip_bad: bool = False,
    reading: Reading = inputs.AS_IT_IS,
    budget: float | None = None,
) -> EnqueuedRun:
    """Enqueue every question of a data set."""
    return publish.place(publish.prepare(data, sampling, name, examples, skip_bad, reading), budget)
