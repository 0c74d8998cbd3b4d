"""The votes of a run as rows of a table.

next(of_run("round1"))  ->  {"key": "p1#2", "gold": "B", "answer": "A", "attempt": 1, "place": 0, ...}
"""

import typing
from collections.abc import Iterator
from typing import Any

from shared import variety
from shared.ledger import runs, votes
from shared.ledger.votes import RecordedVote

# Types by column; all fields of a recorded vote follow the question's own.
COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("key", "gold", "answer"), str),
    **typing.get_type_hints(RecordedVote),
    "order": str,
}


def of_run(run: str) -> Iterator[dict[str, Any]]:
    """Read all votes of a run, in the order of its questions and of their sampling.

    ``order`` has the options' letters in the order in which a vote saw them, if it was not the data's: the
    letters in its text and output are positions in this order.
    """
    moved = runs.get_run(run).options.get("vary") == "options"
    for result in votes.of_run(run, texts=True):
        question = {"key": result.key, "gold": result.gold, "answer": result.letter}
        asked = runs.asked(result.entry, result.question) if moved else None
        for vote in result.votes:
            order = variety.order(asked, vote.place) if asked else None
            yield {**question, **vote._asdict(), "order": order}
