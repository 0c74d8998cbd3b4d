"""AGIEval: JSON Lines, options with their letters.

{"passage": null, "question": "谁高？", "options": ["(A)甲", "(B)乙"], "label": "A", "answer": null}
"""

from producers.layouts.flat import Flat

LAYOUTS = (
    Flat(
        name="agieval",
        problem="passage",
        question="question",
        options=("options",),
        answer="label",
        needs={
            "passage": (str, type(None)),
            "question": str,
            "options": (list, type(None)),
            "label": (str, list, type(None)),
        },
    ),
)
