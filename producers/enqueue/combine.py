"""Enqueue a vote over the recorded votes of several finished runs on the same questions.

    combine(["base", "chat"], {"combine": "learned"})
        ->  (EnqueuedRun("base-and-chat-9f3c01ab", ...), Combination("learned", {"base": 0.41, ...}, ...))

The votes of a question are one round: the last round of each run, in the order of the runs.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from producers import console, retention, run_progress
from producers.enqueue import inputs, rescore
from producers.enqueue.publish import EnqueuedRun
from producers.reports import combination, matched_questions
from producers.reports.combination import Combination
from producers.reports.matched_questions import Match, RunAnswer
from shared import vote_weights, voting
from shared.errors import UserError
from shared.ledger import models
from shared.ledger.runs import Run
from shared.options import Sampling
from shared.vote_weights import FoldCount
from shared.voting import PLAIN, Vote

_LEAST = 10  # labelled entries from which weights are learned: two for each fold
# The options of the first run that do not describe the votes of all.
_OF_ONE_RUN = ("model", "generator", "provider", "retriever", "language", "vary")


def combine(
    names: Sequence[str], changes: dict[str, Any], name: str | None = None
) -> tuple[EnqueuedRun, Combination | None]:
    """Enqueue the questions of finished runs to be answered from the votes of all of them.

    ``changes`` are the sampling options that apply to scoring, with ``combine``. The combination is evaluated
    at once, unless a scorer must score the votes first.

    Raises:
        UserError: the runs cannot be combined, weights cannot be learned, or another run has the name.
        ServiceUnreachable: the broker does not answer.
    """
    origin = _require(names)
    matches = matched_questions.match_same(names)
    weights = _learn(names, matches) if changes["combine"] == "learned" else None
    cleared = {option: Sampling.model_fields[option].default for option in _OF_ONE_RUN}
    update = {**cleared, "lora": models.NONE, **changes, "votes_of": tuple(names), "weights": weights}
    sampling = Sampling.of_record(origin.options).model_copy(update=update)
    compared = _evaluate(sampling, matches) if sampling.scorer == models.NONE else None
    return rescore.place(origin, sampling, " and ".join(names), name), compared


def _evaluate(sampling: Sampling, matches: Sequence[Match]) -> Combination | None:
    for match in matches:
        match.answers.append(_answer(match, sampling))
    try:
        return combination.evaluate(sampling, matches, "the combination")
    except UserError as error:  # no SciPy, which enqueueing does not need
        console.note(str(error))
        return None


def _require(names: Sequence[str]) -> Run:
    """Check runs that are to be combined; return the first, whose data the combination has."""
    sources = [inputs.find_source(name) for name in names]
    for name, source in zip(names, sources, strict=True):
        if not isinstance(source, Run):
            raise UserError(f"--combine takes runs, and {name} is a data set: name the runs over it instead")
        run_progress.require_questions(name)
        if combined := run_progress.combined_runs(name):
            raise UserError(f"run {name!r} is a combination itself: name its runs, {', '.join(combined)}")
        run_progress.require_finished(name)
        run_progress.require_whole_rounds(name, "--combine")
        retention.require_texts(name, "--combine")
        run_progress.require_own_order(name, "--combine")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"run {repeated[0]!r} is named twice: its votes would count twice")
    if len(names) < 2:
        raise UserError("--combine needs at least two runs over the same questions")
    return run_progress.require_questions(names[0])


def _learn(names: Sequence[str], matches: Sequence[Match]) -> dict[str, tuple[float, ...]]:
    """Learn each run's weights by fold, from the labels that the combination has: those of the first run."""
    labelled = [match for match in matches if match.answers[0].gold is not None]
    if not labelled:
        raise UserError(
            f"--combine learned needs right letters, and run {names[0]!r} has none: name a run over labelled "
            "data first, or use --combine plain"
        )
    if (units := len({match.unit for match in labelled})) < _LEAST:
        raise UserError(
            f"--combine learned needs right letters in at least {_LEAST} entries, and run {names[0]!r} has "
            f"them in {units}: name a run with more of them first, or use --combine plain"
        )
    return {
        name: vote_weights.by_fold([_counts(match, at) for match in labelled])
        for at, name in enumerate(names)
    }


def _counts(match: Match, run: int) -> FoldCount:
    """Give a question's fold, a run's right votes and votes with a letter, and how many chance gets right."""
    letters = [letter for letter in match.answers[run].votes if letter is not None]
    right = sum(letter == match.answers[0].gold for letter in letters)
    fold = vote_weights.fold(match.unit, labelled=True)
    return fold, right, len(letters), len(letters) / match.options


def _answer(match: Match, sampling: Sampling) -> RunAnswer:
    """Answer a question as a worker does that has no scorer."""
    gold = match.answers[0].gold
    fold = vote_weights.fold(match.unit, gold is not None)
    votes = [
        Vote(letter, weight=sampling.weight(run, fold))
        for run, answer in zip(sampling.combined_runs, match.answers, strict=True)
        for letter in answer.votes
    ]
    answer, _ = voting.revote([votes], PLAIN, sampling.fallback)
    return RunAnswer(gold, answer.letter, None, sum(answer.tokens for answer in match.answers))
