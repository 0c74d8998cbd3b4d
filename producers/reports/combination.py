"""Compare a combination of several runs' votes with each of the runs.

    of_run(get_run("all"))  ->  Combination("learned", {"base": 0.41, "chat": 0.87}, Comparison(...))

A labelled question is answered with weights that were learned without its fold, so no label is used twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from producers.reports import matched_questions, paired_comparison
from producers.reports.matched_questions import Match
from producers.reports.paired_comparison import Comparison
from shared.ledger.runs import Run
from shared.options import Sampling
from shared.vote_weights import UNLABELLED


@dataclass(frozen=True)
class Combination:
    """A combination, its runs, and the weights of their votes as learned on all labelled questions.

    ``comparison`` has the run with the most right answers first, and the combination last. It is ``None`` if
    no question is answered in all of them.
    """

    mode: str | None
    weights: dict[str, float]
    comparison: Comparison | None


def of_run(run: Run) -> Combination | None:
    """Evaluate a recorded combination by its answers so far; ``None``: the run is none."""
    sampling = Sampling.of_record(run.options)
    if not sampling.combined_runs:
        return None
    return evaluate(sampling, matched_questions.match([*sampling.combined_runs, run.name]), run.name)


def evaluate(sampling: Sampling, matches: Sequence[Match], name: str) -> Combination:
    """Evaluate a combination, given the answers of its runs in order, and last its own."""
    names = [*sampling.combined_runs, name]
    labelled = [match for match in matches if match.answered and len(match.golds) == 1]
    best = max(range(len(names) - 1), key=lambda at: sum(match.right(at) for match in labelled))
    order = sorted(range(len(names)), key=lambda at: at != best)
    ordered = [replace(match, answers=[match.answers[at] for at in order]) for match in matches]
    answered = any(match.answered for match in matches)
    return Combination(
        sampling.combine,
        {run: sampling.weight(run, UNLABELLED) for run in sampling.combined_runs},
        paired_comparison.of_matches([names[at] for at in order], ordered) if answered else None,
    )
