"""C-Eval and CMMLU: tables with a column for each option, four or more.

id,question,A,B,C,D,answer,explanation      ,Question,A,B,C,D,Answer
"""

from producers.layouts.flat import Flat
from shared import json_text
from shared.dataset import LETTERS

# A table with an option E would lose it, if only the four of the benchmarks were read.
_OPTIONS = tuple(LETTERS)
_TEXTS = dict.fromkeys("ABCD", (str, int, json_text.Number))

LAYOUTS = (
    Flat(
        name="ceval",
        id="id",
        question="question",
        options=_OPTIONS,
        answer="answer",
        needs={"question": str, **_TEXTS},
    ),
    Flat(
        name="cmmlu",
        id="",
        question="Question",
        options=_OPTIONS,
        answer="Answer",
        needs={"Question": str, **_TEXTS},
    ),
)
