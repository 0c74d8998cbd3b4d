"""Generate labelled closed-world puzzles for demos, tests and training.

    {"id": "sample-7-00000", "problem": "…", "questions": [{"question": "选择题 1：\\n…",
     "options": ["3", "5"], "answer": "B", "reasoning": "…\\n\\n答案是：B"}], "family": "recursion"}

The families generate and verify the puzzles; this module assigns the option letters.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from producers import output_files
from producers.puzzles import phrasing
from producers.puzzles.families import FAMILIES
from producers.puzzles.languages import DEFAULT, LANGUAGES, Language
from producers.puzzles.types import Chain, Puzzle, Query, Unproved
from shared import dataset
from shared.errors import UserError

Entry = dict[str, Any]

_SIZES = (3, 4, 4, 4, 4, 5)
_PATIENCE = 2_000


def generate(
    n: int,
    seed: int,
    difficulty: int = 1,
    families: Sequence[str] | None = None,
    wrong: bool = False,
    language: str = DEFAULT,
) -> Iterator[Entry]:
    """Yield n labelled entries (of 1-2 questions each), lazily; the families take turns.

    The same arguments give the same entries; in another `language`, the same puzzles. With `wrong`, each
    question also has `"wrong": [{"answer": …, "reasoning": …}]`, a text with a single error, and is
    otherwise unchanged.
    Raises UserError on n < 1, a difficulty outside 1-3, or a family or language that does not exist.
    """
    if n < 1:
        raise UserError(f"cannot sample {n} entries: the number must be 1 or more")
    if difficulty not in (1, 2, 3):
        raise UserError(f"difficulty {difficulty} does not exist: choose 1 (easy), 2 or 3 (hard)")
    if unknown := [name for name in families or () if name not in FAMILIES]:
        raise UserError(f"no puzzle family is called {unknown[0]!r}: choose from {', '.join(FAMILIES)}")
    if language not in LANGUAGES:
        raise UserError(f"no puzzle is written in language {language!r}: choose from {', '.join(LANGUAGES)}")
    chosen = tuple(dict.fromkeys(families or FAMILIES))
    return _entries(n, seed, difficulty, chosen, wrong, LANGUAGES[language])


def write(entries: Iterable[Entry], path: Path, force: bool = False) -> dict[str, int]:
    """Write entries as JSON Lines, atomically; return the numbers of entries, questions and wrong texts.

    Raises:
        UserError: the file cannot be written, or a run reads it and ``force`` is false.
    """
    output_files.require_free(path, force)
    counts = {"entries": 0, "questions": 0, "wrong": 0}
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.write(_counted(entries, counts), path)
    return counts


def _counted(entries: Iterable[Entry], counts: dict[str, int]) -> Iterator[Entry]:
    for entry in entries:
        counts["entries"] += 1
        counts["questions"] += len(entry["questions"])
        counts["wrong"] += sum(len(question.get("wrong", ())) for question in entry["questions"])
        yield entry


def _entries(
    n: int, seed: int, difficulty: int, families: tuple[str, ...], wrong: bool, language: Language
) -> Iterator[Entry]:
    rng = Random(seed)
    seen: set[str] = set()
    for index in range(n):
        family = families[index % len(families)]
        puzzle = _fresh(rng, family, difficulty, language, seen)
        questions = [
            _deal(rng, language, query, place, wrong) for place, query in enumerate(puzzle.queries, 1)
        ]
        yield {
            "id": f"{language.ids}-{seed}-{index:05d}",
            "problem": puzzle.problem,
            "questions": questions,
            "family": family,
        }


def _fresh(rng: Random, family: str, difficulty: int, language: Language, seen: set[str]) -> Puzzle:
    """Draw until a puzzle is valid and its text is new."""
    for _ in range(_PATIENCE):
        puzzle = FAMILIES[family](rng, difficulty, language)
        if puzzle is None:
            continue
        text = "\n".join((puzzle.problem, *(query.ask for query in puzzle.queries)))
        if text not in seen:
            seen.add(text)
            return puzzle
    raise UserError(f"no new {family} puzzle of difficulty {difficulty} was found: request fewer entries")


def _deal(rng: Random, language: Language, query: Query, place: int, wrong: bool) -> Entry:
    """Choose and shuffle the options; render the right chain and a wrong one with the same phrasing."""
    # Drawn even if unused, so that `wrong` does not change the other random draws.
    slip = rng.choice(query.slips)
    others = [slip.result, *rng.sample([one.result for one in query.slips], len(query.slips)), *query.spare]
    options = list(dict.fromkeys((query.right.result, *others)))[: rng.choice(_SIZES)]
    rng.shuffle(options)
    _prove(query, options)
    letters = {option: chr(ord("A") + at) for at, option in enumerate(options)}
    # Same phrasing for both texts: a scorer must find the error, not the style.
    voice = phrasing.draw(rng, language)

    def write_out(chain: Chain) -> Entry:
        letter = letters[chain.result]
        return {"answer": letter, "reasoning": voice.render(chain, letter)}

    asked = language.question.format(place=place, ask=query.ask)
    question = {"question": asked, "options": options, **write_out(query.right)}
    return question | {"wrong": [write_out(slip)]} if wrong else question


def _prove(query: Query, options: list[str]) -> None:
    holding = [option for option in options if query.holds(option)]
    if holding != [query.right.result] or len(options) < 2:
        raise Unproved(f"the solver finds {holding} right, not {query.right.result}, in: {query.ask}")
