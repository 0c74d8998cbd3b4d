"""Compare a new scorer with the plain majority and with the scorer in use, by paired tests.

    Comparison(questions=250, entries=250, over_majority=Difference(0.06, 0.058, p=0.026), in_use=None, ...)

The questions are those that neither scorer was trained on. Entries are the units of the tests.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from shared.errors import NotServedHere
from shared.ledger import models
from shared.ledger.models import Model
from shared.training_examples import TrainingExample
from shared.voting import GATE, PLAIN
from workers.models import calibration
from workers.models.calibration import Case, Kinds
from workers.models.scorer import SoundnessScorer
from workers.ports import Scorer
from workers.training.ipc import Comparison, Difference


def difference(entries: Sequence[str], new: Sequence[bool], old: Sequence[bool]) -> Difference:
    """Compare right answers to the same questions, by entry.

    The exact sign-flip test: if neither way is better, an entry's difference has either sign equally often
    (Fisher 1935). With one question an entry, it is McNemar's exact test.
    """
    sums: defaultdict[str, int] = defaultdict(int)
    for entry, now, before in zip(entries, new, old, strict=True):
        sums[entry] += now - before
    gain = sum(sums.values()) / len(entries)
    sizes = Counter(entries)
    squares = sum((total - gain * sizes[entry]) ** 2 for entry, total in sums.items())
    return Difference(
        gain=gain, half_width=1.96 * math.sqrt(squares) / len(entries), p=_flip([*sums.values()])
    )


def _flip(sums: Sequence[int]) -> float:
    """Give the chance of a total at least as high when each sum's sign is a coin flip."""
    chances: Any = np.ones(1)
    for size, count in Counter(abs(total) for total in sums if total).items():
        spread = np.zeros(2 * size * count + 1)
        spread[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, spread)
    # The totals from -n to n, in steps of one.
    return float(min(1.0, chances[len(chances) // 2 + sum(sums) :].sum()))


@dataclass(frozen=True)
class ScorerInUse:
    """The scorer in use, the problems that it was trained on, and what scores with it."""

    model: Model
    learned: set[str]
    scorer: Scorer

    def right(self, cases: Sequence[Case], examples: Sequence[TrainingExample]) -> list[bool]:
        """Tell which questions it answers right by its own rule; ``examples`` have the texts for it."""
        asked = [(example.asked, example.texts) for example in examples]
        scores = self.scorer.score(self.model.name, asked)
        known = self.model.metrics
        kinds = Kinds(known["kind_weights"], known["agreement"]) if "kind_weights" in known else None
        return calibration.right(cases, scores, self.model.rule or GATE, kinds)


def in_use(trained: Path) -> ScorerInUse | None:
    """Find the scorer in use; its files are in the folder of trained models."""
    model = models.in_use("scorer")
    return ScorerInUse(model, models.problems(model.name), SoundnessScorer(trained)) if model else None


def compare(
    cases: Sequence[Case],
    right: Sequence[bool],
    used: ScorerInUse | None,
    original: Callable[[TrainingExample], TrainingExample],
) -> Comparison:
    """Compare a new scorer, which answers some cases ``right``; ``original`` gives an example as recorded."""
    unlearned = [at for at, case in enumerate(cases) if used is None or not _has_learned(used, case.example)]
    # Without a question for both comparisons, the gain over the majority is still of interest.
    chosen = unlearned or range(len(cases))
    cases, right = [cases[at] for at in chosen], [right[at] for at in chosen]
    entries = [case.example.group for case in cases]
    majority = calibration.right(cases, [[0.0] * len(case.example.texts) for case in cases], PLAIN)
    known = Comparison(
        questions=len(cases),
        entries=len(set(entries)),
        over_majority=difference(entries, right, majority),
        in_use=used.model.name if used else None,
    )
    if used is None:
        return known
    if not unlearned:
        obstacle = (
            "was trained on all of these questions (to compare the two, train again with --test and a "
            "labelled run on other questions)"
        )
        return known.model_copy(update={"obstacle": obstacle})
    try:
        before = used.right(cases, [original(case.example) for case in cases])
    except NotServedHere as error:
        return known.model_copy(update={"obstacle": f"cannot be loaded ({error})"})
    return known.model_copy(update={"over_in_use": difference(entries, right, before)})


def _has_learned(used: ScorerInUse, example: TrainingExample) -> bool:
    return bool({example.group, example.asked.problem_identity} & used.learned)
