"""Read the answers of a run; those of a run that asks questions again, merged into its origin's.

    of_run(get_run("again"))  ->  ('{"id": "p1", ...}', [MergedAnswer(RecordedAnswer("p1#1", ...), True)])

A new answer replaces the former one, unless it is a default and the former is not.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from producers import calibrated_answers
from shared.ledger import progress, runs, votes
from shared.ledger.progress import Dead
from shared.ledger.runs import Run
from shared.ledger.schema import State
from shared.ledger.votes import RecordedAnswer
from shared.voting import DEFAULTS


@dataclass(frozen=True)
class MergedAnswer:
    """An answer; ``settled`` is false if its question has none, or was asked again and has no new one.

    A question that abstains is settled.
    """

    answer: RecordedAnswer
    settled: bool


def of_run(run: Run, confidence: bool = False) -> Iterator[tuple[str, list[MergedAnswer]]]:
    """Read the entries of a run, or of the first origin of a run that asks again, with their answers."""
    *again, origin = chain(run)
    redone: defaultdict[str, list[RecordedAnswer]] = defaultdict(list)
    for each in reversed(again):
        for _, answers in votes.answers_of(each.name, confidence):
            for answer in answers:
                redone[answer.key].append(answer)
    for text, answers in calibrated_answers.answers_of(origin, confidence):
        yield text, [_merged(answer, redone.get(answer.key, ())) for answer in answers]


def _merged(former: RecordedAnswer, newer: Iterable[RecordedAnswer]) -> MergedAnswer:
    merged = MergedAnswer(former, former.outcome is not None)
    for answer in newer:
        weaker = answer.outcome in DEFAULTS and merged.answer.outcome not in (None, *DEFAULTS)
        kept = merged.answer if weaker or answer.letter is None else answer
        merged = MergedAnswer(kept, answer.letter is not None)
    return merged


def chain(run: Run) -> list[Run]:
    """Return a run, the run whose questions it asks again, and so on."""
    found = [run]
    while origin := found[-1].options.get("redo_of"):
        found.append(runs.get_run(origin))
    return found


def origin(run: Run) -> Run:
    """Return the run whose entries a run answers: itself, or the first origin of one that asks again."""
    return chain(run)[-1]


def count_cancelled(run: Run) -> int:
    """Count the cancelled questions of a run, and of its origins where no later run has the question."""
    *again, origin = chain(run)
    if not again:
        return runs.count_states(origin.name)[State.CANCELLED]
    listed: set[str] = set()
    later: set[str] = set()
    for each in chain(run):
        listed |= runs.keys_of(each.name, State.CANCELLED) - later
        later |= runs.keys_of(each.name)
    return len(listed)


def dead(run: Run) -> list[Dead]:
    """List the dead items of a run, and of its origins where no later run has the question."""
    listed: list[Dead] = []
    later: set[str] = set()
    for each in chain(run):
        listed += [item for item in progress.dead(each.name) if item.key not in later]
        if each.options.get("redo_of"):
            later |= runs.keys_of(each.name)
    return listed
