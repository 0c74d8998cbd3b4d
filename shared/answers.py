"""Extract the letter that a model's text chose, if any, with the reader that a run names.

    extract("题目说答案是：B。但甲比乙高。\\n答案是：**A**。", 4)               ->  "A"
    extract("题目说答案是：B。但甲比乙高。\\n答案是：**A**。", 4, "reference")  ->  "B"

Readers get generated text only, never a prompt: a problem that contains "答案是：A" is not an answer.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from shared import conclusion_reader, thinking

CONCLUSION, REFERENCE = "conclusion", "reference"


@dataclass(frozen=True)
class Reader:
    """One way to read a letter, with stop sequences of a raw completion beside those of the prompt.

    Stop sequences end generation; a completion that continued past one is truncated there. The replies of
    chat models are never truncated.
    """

    read: Callable[[str], str | None]
    stops: tuple[str, ...] = ()

    def cut(self, completion: str, stops: tuple[str, ...] = ()) -> str:
        """Truncate a raw completion at its first stop sequence, and remove its thinking.

        ``stops`` are those of the prompt.
        """
        # A completion starts at the beginning of a line, as a stop sequence may.
        text = "\n" + completion
        ends = [place for stop in (*self.stops, *stops) if (place := text.find(stop)) >= 0]
        return thinking.strip(text[: min(ends)] if ends else text)


# The reference's reader: the first "答案是：X" before any marker of a new problem

_NEW_PROBLEM = ("---", "### 题目", "### 问题")
_MARKS = str.maketrans("", "", "*-")
# A letter at the start of a Latin word ("答案是：All of them") is not a choice.
_LETTER = re.compile(r"答案是\s*+[:：]\s*+[“\"'（(【\[《「]?\s*+([A-ZＡ-Ｚ])(?![A-Za-z])")


def _first(text: str) -> str | None:
    ends = [place for marker in _NEW_PROBLEM if (place := text.find(marker)) >= 0]
    match = _LETTER.search((text[: min(ends)] if ends else text).translate(_MARKS))
    if match is None:
        return None
    # Full-width letters have a constant offset from the ASCII letters.
    return match[1] if match[1].isascii() else chr(ord(match[1]) - 0xFEE0)


READERS = {
    CONCLUSION: Reader(conclusion_reader.letter),
    REFERENCE: Reader(_first, _NEW_PROBLEM),
}


def _check_name(name: str) -> str:
    if name not in READERS:
        raise ValueError(f"unknown reader; the readers are: {', '.join(READERS)}")
    return name


ReaderName = Annotated[str, AfterValidator(_check_name)]


def extract(text: str, options: int, reader: str = CONCLUSION) -> str | None:
    """Extract the letter that a text chose among ``options`` options; a letter beyond them is ignored."""
    letter = READERS[reader].read(text)
    return letter if letter is not None and ord(letter) - ord("A") < options else None
