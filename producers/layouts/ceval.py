"""C-Eval and CMMLU: tables with a column for each option.

id,question,A,B,C,D,answer,explanation      ,Question,A,B,C,D,Answer
"""

from producers.layouts.flat import Flat
from shared import json_text

_OPTIONS = ("A", "B", "C", "D")
_TEXTS = dict.fromkeys(_OPTIONS, (str, int, json_text.Number))

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
