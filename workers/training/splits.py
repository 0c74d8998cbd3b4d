"""Split training examples into a training part and a held-out part.

    split(examples, 0.2, seed=42)  ->  Split(learned=[...], held_out=[...], tests=[...])

Whole entries are held out, together with their derived entries and all entries with the same problem text.
So no question has itself or a paraphrase in the other part. The part of an entry depends only on its name and
the seed: two trainings hold out the same entries.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from shared.training_examples import TrainingExample


@dataclass(frozen=True)
class Split:
    """Examples to train on, to hold out, and to test on; ``dropped`` counts those that would leak tests."""

    learned: list[TrainingExample]
    held_out: list[TrainingExample]
    tests: list[TrainingExample]
    dropped: int


def split(examples: Sequence[TrainingExample], share: float, seed: int) -> Split:
    """Split examples, holding out about ``share`` of the entries, and at least one of several."""
    keys = _components(examples)
    tested = {key for key, example in zip(keys, examples, strict=True) if example.test}
    tickets = {key: _ticket(key, seed) for key in keys if key not in tested}
    out = {key for key, ticket in tickets.items() if ticket < share}
    if not out and len(tickets) > 1:
        out = {min(tickets, key=tickets.__getitem__)}
    parts = Split([], [], [], sum(key in tested for key in keys) - sum(example.test for example in examples))
    for key, example in zip(keys, examples, strict=True):
        if example.test:
            parts.tests.append(example)
        elif key in out:
            parts.held_out.append(example)
        elif key not in tested:
            parts.learned.append(example)
    return parts


DROPPED = -1


def folds(examples: Sequence[TrainingExample], count: int, seed: int) -> list[int]:
    """Give each example's fold, from 0: whole entries, as in `split`.

    Test examples have the fold ``count``, which no head trains on; those that would leak tests are `DROPPED`.
    """
    keys = _components(examples)
    tested = {key for key, example in zip(keys, examples, strict=True) if example.test}
    # By rank, not by ticket, so that folds of few entries are not empty.
    ranked = sorted(set(keys) - tested, key=lambda key: _ticket(key, seed))
    fold_of = {key: rank % count for rank, key in enumerate(ranked)}
    return [
        count if example.test else fold_of.get(key, DROPPED)
        for key, example in zip(keys, examples, strict=True)
    ]


def _ticket(key: str, seed: int) -> float:
    drawn = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") / 2**64


def _components(examples: Sequence[TrainingExample]) -> list[str]:
    """Give each example's connected component by group or problem, by name (union-find)."""
    above: dict[str, str] = {}

    def root(name: str) -> str:
        above.setdefault(name, name)
        while above[name] != name:
            above[name] = name = above[above[name]]
        return name

    for example in examples:
        # The smaller name becomes the root, so that a component's name does not depend on the order.
        low, high = sorted((root(example.group), root(example.asked.problem_identity)))
        above[high] = low
    return [root(example.group) for example in examples]
