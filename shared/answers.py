"""A model's text -> the letter it chose, or nothing.

    "甲比乙高，所以选甲。\\n答案是：**A**。"  ->  "A"

Only generated text is read here, never a prompt: a problem that contains "答案是：A" proves nothing.
"""

import re

# The first sign that the model has gone on to make up a new problem; generation stops there too.
NEW_PROBLEM = ("---", "### 题目", "### 问题")
_MARKS = str.maketrans("", "", "*-")
# A letter that begins a Latin word ("答案是：All of them") is not a choice.
_LETTER = re.compile(r"答案是\s*[:：]\s*[“\"'（(【\[《「]?\s*([A-ZＡ-Ｚ])(?![A-Za-z])")


def extract(text: str, options: int) -> str | None:
    """Read the letter that a text chose among ``options`` options; a letter beyond them is no letter."""
    found = _LETTER.search(cut(text).translate(_MARKS))
    if found is None:
        return None
    # Full-width letters lie at a constant distance from the ASCII ones.
    letter = found[1] if found[1].isascii() else chr(ord(found[1]) - 0xFEE0)
    return letter if ord(letter) - ord("A") < options else None


def cut(text: str) -> str:
    """Cut a text at the first sign that the model has begun a new problem."""
    ends = [place for sign in NEW_PROBLEM if (place := text.find(sign)) >= 0]
    return text[: min(ends)] if ends else text
