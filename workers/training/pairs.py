"""Training pairs of a scorer: right and wrong texts of the same question.

    gather(lessons, options)  ->  [Item(lesson, rights=["A"], wrongs=["C", "D"], copies=1, letters=True), ...]

`features` reads the texts. Balance is within each question: neither a question nor where a
text comes from then tells whether it is right.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.dataset import LETTERS
from shared.prompts import PromptQuestion
from shared.recipes import INPUTS, ScorerTraining
from shared.training_examples import TrainingExample

REPEATS = 2  # times that a text may stand against several of the other kind


@dataclass(frozen=True)
class Item:
    """One question's right and wrong texts; of ``question+answer``, its letters. ``copies`` is its weight."""

    lesson: TrainingExample
    rights: list[str]
    wrongs: list[str]
    copies: int
    letters: bool = False


def gather(lessons: Sequence[TrainingExample], options: ScorerTraining) -> list[Item]:
    """Give all questions that something can be learned from."""
    if INPUTS[options.input].answers:
        return list(_letters(lessons, options.seed))
    return [
        Item(lesson, *_sides(lesson), _copies(lesson, options.seed))
        for lesson in lessons
        if _copies(lesson, options.seed) and any(text.text.strip() for text in lesson.texts)
    ]


def _letters(lessons: Sequence[TrainingExample], seed: int) -> Iterator[Item]:
    # Votes of two runs on one question come to the same letters.
    seen: set[PromptQuestion] = set()
    for lesson in lessons:
        if not lesson.answer or lesson.asked in seen:
            continue
        seen.add(lesson.asked)
        if copies := _copies(lesson, seed):
            yield Item(lesson, [lesson.answer], wrong_letters(lesson), copies, letters=True)


def wrong_letters(lesson: TrainingExample) -> list[str]:
    """Give the letters of a question's wrong options: those whose text is not the right one's."""
    right = lesson.options[LETTERS.index(lesson.answer)].strip()
    return [
        letter for letter, option in zip(LETTERS, lesson.options, strict=False) if option.strip() != right
    ]


def _sides(lesson: TrainingExample) -> tuple[list[str], list[str]]:
    rights = [text.text for text in lesson.texts if lesson.is_right(text) and text.text.strip()]
    wrongs = [text.text for text in lesson.texts if not lesson.is_right(text) and text.text.strip()]
    return rights, wrongs


def _copies(lesson: TrainingExample, seed: int) -> int:
    """Turn a weight into copies: a weight of 0.3 is one copy of every third question or so."""
    whole = int(lesson.weight)
    told = f"{seed}:{lesson.source}:{lesson.group}:{lesson.question}"
    ticket = int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "big") / 2**64
    return whole + (ticket < lesson.weight - whole)


def pairs(item: Item) -> list[tuple[str, str]]:
    """Set right against wrong texts of one question; none where it has only one kind.

    The fewer are repeated, but not so often that they are learned by heart.
    """
    few, many = sorted((len(item.rights), len(item.wrongs)))
    if not few:
        return []
    count = many if item.letters else min(many, REPEATS * few)
    matched = zip(itertools.cycle(item.rights), itertools.cycle(item.wrongs), strict=False)
    return list(itertools.islice(matched, count)) * item.copies


def singles(item: Item, balance: bool) -> list[tuple[str, bool]]:
    """Give one question's texts, each with whether it is right; with ``balance``, as many of both kinds."""
    if balance:
        return [single for right, wrong in pairs(item) for single in ((right, True), (wrong, False))]
    told = [(text, True) for text in item.rights] + [(text, False) for text in item.wrongs]
    return told * item.copies
