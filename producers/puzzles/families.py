"""Registry of puzzle families: name -> generator function.

    FAMILIES["ranking"](random, difficulty, language)  ->  Puzzle(problem="甲比乙高。……", ...)

A new family needs a module beside this one with its texts in each language, an entry here, and a second
solver in `tests/unit/test_puzzle_answers.py`, which reads the printed puzzle and must find the same answers.
"""

from producers.puzzles import (
    classification,
    kinship,
    knights,
    list_operations,
    preferences,
    ranking,
    reachability,
    recursion,
    rule_table,
    scheduling,
)
from producers.puzzles.types import Maker

FAMILIES: dict[str, Maker] = {
    "kinship": kinship.make,
    "ranking": ranking.make,
    "recursion": recursion.make,
    "list-operations": list_operations.make,
    "reachability": reachability.make,
    "rule-table": rule_table.make,
    "knights": knights.make,
    "scheduling": scheduling.make,
    "classification": classification.make,
    "liking": preferences.make,
}
