"""Questions whose right letter follows from their number, so that an answer can be checked.

letter(7)  ->  "D"
"""

import json
import re
from collections.abc import Collection
from pathlib import Path

POISON = "有毒的题"
LETTERS = "ABCD"


def letter(number: int) -> str:
    """Give the letter that the fast generator answers."""
    return LETTERS[number % len(LETTERS)]


def number_in(prompt: str) -> int:
    """Read the number of the question that a prompt asks."""
    return int(re.findall(r"第(\d+)题", prompt)[-1])


def write(path: Path, count: int, poison: Collection[int] = ()) -> None:
    """Write a data set of one question an entry; item numbers are the lines' numbers."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            mark = POISON if number in poison else "平常的题"
            question = {"question": f"第{number}题选哪个？", "options": ["甲", "乙", "丙", "丁"]}
            entry = {"id": f"q{number}", "problem": f"{mark}。", "questions": [question]}
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
