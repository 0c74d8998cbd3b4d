"""Read the letter that a model's text chose, or none; a run names one of several readers.

    extract("题目说答案是：B。但甲比乙高。\\n答案是：**A**。", 4)               ->  "A"
    extract("题目说答案是：B。但甲比乙高。\\n答案是：**A**。", 4, "reference")  ->  "B"

Only generated text is read here, never a prompt: a problem that contains "答案是：A" proves nothing.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from shared import conclusion_reader, prompts, thinking

CONCLUSION, REFERENCE = "conclusion", "reference"


@dataclass(frozen=True)
class Reader:
    """One way to read a letter, and where a raw completion ends that is read so.

    ``stops`` are what generation stops at, and where a completion is cut that has gone on all the same.
    A chat model ends by itself, so its replies are never cut.
    """

    read: Callable[[str], str | None]
    stops: tuple[str, ...]

    def cut(self, completion: str) -> str:
        """Give a raw completion up to where it stops, without its thinking."""
        # A completion begins at a line's start, as a stop may.
        text = "\n" + completion
        ends = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        return thinking.strip(text[: min(ends)] if ends else text)


# The reference's reader: the first "答案是：X" of a text that ends at any sign of a new problem

_NEW_PROBLEM = ("---", "### 题目", "### 问题")
_MARKS = str.maketrans("", "", "*-")
# A letter that begins a Latin word ("答案是：All of them") is not a choice.
_LETTER = re.compile(r"答案是\s*+[:：]\s*+[“\"'（(【\[《「]?\s*+([A-ZＡ-Ｚ])(?![A-Za-z])")


def _first(text: str) -> str | None:
    ends = [place for sign in _NEW_PROBLEM if (place := text.find(sign)) >= 0]
    found = _LETTER.search((text[: min(ends)] if ends else text).translate(_MARKS))
    if found is None:
        return None
    # Full-width letters lie at a constant distance from the ASCII ones.
    return found[1] if found[1].isascii() else chr(ord(found[1]) - 0xFEE0)


READERS = {
    CONCLUSION: Reader(conclusion_reader.letter, (prompts.NEXT_CASE,)),
    REFERENCE: Reader(_first, _NEW_PROBLEM),
}


def _known(name: str) -> str:
    if name not in READERS:
        raise ValueError(f"there is no such reader; there are: {', '.join(READERS)}")
    return name


ReaderName = Annotated[str, AfterValidator(_known)]


def extract(text: str, options: int, reader: str = CONCLUSION) -> str | None:
    """Read the letter that a text chose among ``options`` options; a letter beyond them is no letter."""
    letter = READERS[reader].read(text)
    return letter if letter is not None and ord(letter) - ord("A") < options else None
