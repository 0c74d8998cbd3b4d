"""Variety among the votes of a round: the options in another order, the same for everybody who asks.

    order(PromptQuestion("……", "谁最高？", ("甲", "乙", "丙")), 1)  ->  "CAB"
    reordered(asked, "CAB").options                                 ->  ("丙", "甲", "乙")

An order names the options' own letters in the order shown. It follows from the question and the vote's place
in its round, so it is recorded nowhere: another rule here would misread the recorded votes of older runs.
"""

import dataclasses
import functools
import hashlib
import itertools
import math
import re
import unicodedata

from shared import prompts
from shared.dataset import LETTERS
from shared.prompts import PromptQuestion

# Words for other options. A lone capital letter may name one too, unless it is the English article.
_OTHERS = re.compile(
    r"(?:^|所有)(?:以上|上述)|(?:以上|上述)[都皆均全所两二三四各任]|选项|答案|^其[他它余]"
    r"|^.{0,3}[都均皆](?:不|没|非)?(?:对|错|是|有|正确|成立|符合|可能|可以|行)。?$"
    r"|\b(?:above|below|options?|choices?|answers?)\b|^(?:all|any|both|either|neither)\W*$"
    r"|\b(?:all|any|both|either|neither|none|one) of (?:them|these|the)\b",
    re.IGNORECASE,
)
_NAMED = re.compile(r"(?:选项|\boption\s)\s*[A-Z](?![a-z])", re.IGNORECASE)  # in a question
_LETTER = r"(?<![A-Za-z])(?!A (?!and\b|or\b)[a-z])[A-{last}](?![A-Za-z])"


@functools.lru_cache(maxsize=4096)
def order(asked: PromptQuestion, place: int) -> str:
    """Give the order of the options for the vote at a place of a round; at place 0, it is the data's.

    Each option is once at each position in as many successive votes as there are options. All orders are
    distinct as long as there are others. Options that may refer to one another are never moved.
    """
    count = len(asked.options)
    if refer_to_others(asked):
        return LETTERS[:count]
    cycle, turn = divmod(place, count)
    # Every other cycle is reversed: then successive votes on two options often share a prompt.
    turn = count - 1 - turn if cycle % 2 else turn
    others = itertools.permutations(LETTERS[1:count])
    letters = LETTERS[0] + "".join(next(itertools.islice(others, cycle % math.factorial(count - 1), None)))
    # In each question another turn comes first, since few votes do not take them all.
    tickets = {start: hashlib.sha256(f"{start}:{asked.text}".encode()).digest() for start in range(1, count)}
    start = [0, *sorted(tickets, key=tickets.__getitem__)][turn]
    return letters[start:] + letters[:start]


def refer_to_others(asked: PromptQuestion) -> bool:
    """Tell whether a question, or one of its options, may refer to options: ``以上都不对``, ``A和B``."""
    letter = re.compile(_LETTER.format(last=LETTERS[len(asked.options) - 1]))
    texts = (unicodedata.normalize("NFKC", text).strip() for text in prompts.without_letters(asked.options))
    referring = any(_OTHERS.search(text) or letter.search(text) for text in texts)
    return referring or bool(_NAMED.search(asked.question))


def reordered(asked: PromptQuestion, letters: str) -> PromptQuestion:
    """Give a question with its options in an order."""
    if letters == LETTERS[: len(asked.options)]:
        return asked
    texts = prompts.without_letters(asked.options)
    return dataclasses.replace(asked, options=tuple(texts[LETTERS.index(letter)] for letter in letters))
