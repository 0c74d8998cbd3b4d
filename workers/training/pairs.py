"""Training pairs of a scorer: right and wrong texts of the same question.

    gather(examples, options)  ->  [Item(example, rights=["A"], wrongs=["C"], copies=1, letters=True), ...]

Balance is within each question, so that neither the question nor the source of a text predicts whether it is
right.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.dataset import LETTERS
from shared.prompts import PromptQuestion
from shared.recipes import INPUTS, ScorerTraining
from shared.training_examples import TrainingExample

REPEATS = 2  # pairs that a text of the rarer kind may be in


@dataclass(frozen=True)
class Item:
    """One question's right and wrong texts (``question+answer``: letters). ``copies`` is its weight."""

    example: TrainingExample
    rights: list[str]
    wrongs: list[str]
    copies: int
    letters: bool = False


def gather(examples: Sequence[TrainingExample], options: ScorerTraining) -> list[Item]:
    """Give the questions that have texts, or with ``question+answer`` an answer, to train on."""
    if INPUTS[options.input].answers:
        return list(_letters(examples, options.seed))
    return [
        Item(example, *_sides(example), _copies(example, options.seed))
        for example in examples
        if _copies(example, options.seed) and any(text.text.strip() for text in example.reasonings)
    ]


def _letters(examples: Sequence[TrainingExample], seed: int) -> Iterator[Item]:
    # A question with votes of two runs has the same letters in both.
    seen: set[PromptQuestion] = set()
    for example in examples:
        if not example.answer or example.asked in seen:
            continue
        seen.add(example.asked)
        if copies := _copies(example, seed):
            yield Item(example, [example.answer], wrong_letters(example), copies, letters=True)


def wrong_letters(example: TrainingExample) -> list[str]:
    """Give the letters of a question's wrong options: those whose text differs from the right one's."""
    right = example.options[LETTERS.index(example.answer)].strip()
    return [
        letter for letter, option in zip(LETTERS, example.options, strict=False) if option.strip() != right
    ]


def _sides(example: TrainingExample) -> tuple[list[str], list[str]]:
    rights = [text.text for text in example.reasonings if example.is_right(text) and text.text.strip()]
    wrongs = [text.text for text in example.reasonings if not example.is_right(text) and text.text.strip()]
    return rights, wrongs


def _copies(example: TrainingExample, seed: int) -> int:
    """Turn a weight into copies: with a weight of 0.3, about every third question has one copy."""
    whole = int(example.weight)
    key = f"{seed}:{example.source}:{example.group}:{example.question}"
    ticket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return whole + (ticket < example.weight - whole)


def pairs(item: Item) -> list[tuple[str, str]]:
    """Pair right with wrong texts of one question; none where it has only one kind.

    Texts of the rarer kind are repeated, at most `REPEATS` times to avoid overfitting on them.
    """
    few, many = sorted((len(item.rights), len(item.wrongs)))
    if not few:
        return []
    count = many if item.letters else min(many, REPEATS * few)
    matched = zip(itertools.cycle(item.rights), itertools.cycle(item.wrongs), strict=False)
    return list(itertools.islice(matched, count)) * item.copies


def singles(item: Item, balance: bool) -> list[tuple[str, bool]]:
    """Give one question's texts and whether each is right; with ``balance``, as many of both kinds."""
    if balance:
        return [single for right, wrong in pairs(item) for single in ((right, True), (wrong, False))]
    labelled = [(text, True) for text in item.rights] + [(text, False) for text in item.wrongs]
    return labelled * item.copies
