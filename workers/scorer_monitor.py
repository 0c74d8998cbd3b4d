"""Test the scorer in use on each finished labelled run, against the plain majority of the same votes.

look("host:812:9f", settings)  # one worker at a time; a run is tested once
"""

from collections import defaultdict

from shared import vote_weights, voting
from shared.errors import UserError
from shared.ledger import locks, models, scorer_tests, votes
from shared.ledger.models import Model
from shared.ledger.runs import Run
from shared.options import Sampling
from shared.recipes import LEVEL
from shared.settings import Settings
from shared.voting import GATE, PLAIN, Vote


def look(worker: str, settings: Settings) -> None:
    """Test the scorer on the runs that have finished since the last look."""
    due = scorer_tests.due()
    if due is None or not due[1] or not locks.hold("scorer test", worker, settings.lease):
        return
    scorer, finished = due
    level = scorer.options.get("promotion_level", LEVEL)
    for run in finished:
        scorer_tests.record(scorer.name, run.name, outcomes(scorer, run), level)


def outcomes(scorer: Model, run: Run) -> dict[str, int]:
    """Give the scorer's right answers over the majority's, by entry (`dataset.unit`), on labelled questions.

    Questions about problems that it was trained on are left out. So are runs that stopped rounds early, whose
    votes are no fair sample, and combinations.
    """
    try:
        sampling = scorer.weighing(Sampling.of_record(run.options))
    except UserError:  # another version wrote the options
        return {}
    judged = sampling.scorer in (scorer.name, models.FOLLOW)
    if not judged or sampling.combined_runs or votes.count_stopped(run.name):
        return {}
    learned, rule = models.problems(scorer.name), scorer.rule or GATE
    gains: defaultdict[str, int] = defaultdict(int)
    for result in votes.of_run(run.name):
        scored = bool(result.votes) and all(vote.scorer == scorer.name for vote in result.votes)
        if result.gold is None or not scored or result.problem_identity in learned:
            continue
        unit, rounds = result.text.unit, result.votes_by_round
        fold = vote_weights.fold(unit, labelled=True)
        weighed = [
            [Vote(vote.letter, vote.score, sampling.kind_weight(vote.kind, fold)) for vote in of_round]
            for of_round in rounds
        ]
        plain = [[Vote(vote.letter) for vote in of_round] for of_round in rounds]
        right, plainly = (
            voting.revote(cast, by, sampling.fallback)[0].letter == result.gold
            for cast, by in ((weighed, rule), (plain, PLAIN))
        )
        gains[unit] += right - plainly
    return gains
