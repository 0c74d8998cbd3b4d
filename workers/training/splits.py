"""Split training examples into those that are learned from and those that are held out.

    split(lessons, 0.2, seed=42)  ->  Split(learned=[...], kept=[...], tests=[...])

Whole entries are kept out, with all that was made from them and all that has their problem's text: neither
a question nor a paraphrase of it may be on both sides. An entry's side follows from its name and the seed
alone, so that two trainings keep the same ones out.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from shared import dataset
from shared.training_examples import TrainingExample


@dataclass(frozen=True)
class Split:
    """Lessons to learn from, to choose by, and to try the model on; ``dropped`` would give tests away."""

    learned: list[TrainingExample]
    kept: list[TrainingExample]
    tests: list[TrainingExample]
    dropped: int


def split(lessons: Sequence[TrainingExample], share: float, seed: int) -> Split:
    """Part lessons, keeping out about ``share`` of the entries, and at least one where there are several."""
    keys = _components(lessons)
    tried = {key for key, lesson in zip(keys, lessons, strict=True) if lesson.test}
    tickets = {key: _ticket(key, seed) for key in keys if key not in tried}
    out = {key for key, ticket in tickets.items() if ticket < share}
    if not out and len(tickets) > 1:
        out = {min(tickets, key=tickets.__getitem__)}
    parts = Split([], [], [], sum(key in tried for key in keys) - sum(lesson.test for lesson in lessons))
    for key, lesson in zip(keys, lessons, strict=True):
        if lesson.test:
            parts.tests.append(lesson)
        elif key in out:
            parts.kept.append(lesson)
        elif key not in tried:
            parts.learned.append(lesson)
    return parts


DROPPED = -1


def folds(lessons: Sequence[TrainingExample], count: int, seed: int) -> list[int]:
    """Give each lesson's fold, from 0: whole entries, as in `split`.

    Test lessons are of the fold ``count``, which nobody learns from; those that would give them away are
    `DROPPED`.
    """
    keys = _components(lessons)
    tried = {key for key, lesson in zip(keys, lessons, strict=True) if lesson.test}
    # By rank, not by ticket: of few entries, too, every fold has some.
    ranked = sorted(set(keys) - tried, key=lambda key: _ticket(key, seed))
    fold_of = {key: rank % count for rank, key in enumerate(ranked)}
    return [
        count if lesson.test else fold_of.get(key, DROPPED) for key, lesson in zip(keys, lessons, strict=True)
    ]


def _ticket(key: str, seed: int) -> float:
    drawn = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") / 2**64


def _components(lessons: Sequence[TrainingExample]) -> list[str]:
    """Name, for each lesson, all that hangs together with it by group or by problem (union-find)."""
    above: dict[str, str] = {}

    def root(name: str) -> str:
        above.setdefault(name, name)
        while above[name] != name:
            above[name] = name = above[above[name]]
        return name

    for lesson in lessons:
        # The smaller name stays on top, so that what a component is called does not hang on the order.
        low, high = sorted((root(lesson.group), root(dataset.identity(lesson.problem))))
        above[high] = low
    return [root(lesson.group) for lesson in lessons]
