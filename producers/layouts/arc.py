"""ARC, in its own JSON Lines and as on the hub; an option's key is a letter, or 1 to 4.

{"id": "m1", "question": {"stem": "谁高？", "choices": [{"text": "甲", "label": "1"}, ...]}, "answerKey": "1"}
{"id": "m1", "question": "谁高？", "choices": {"text": ["甲", "乙"], "label": ["A", "B"]}, "answerKey": "A"}
"""

from producers.layouts.flat import Flat

LAYOUTS = (
    Flat(
        name="arc-original",
        id="id",
        question="question.stem",
        options=("question.choices.text",),
        keys="question.choices.label",
        answer="answerKey",
        notation="key",
        needs={"question": dict, "question.stem": str, "question.choices": list},
    ),
    Flat(
        name="arc",
        id="id",
        question="question",
        options=("choices.text",),
        keys="choices.label",
        answer="answerKey",
        notation="key",
        needs={"question": str, "choices": dict, "choices.text": list, "choices.label": list},
    ),
)
