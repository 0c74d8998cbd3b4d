"""Judge rounds: read the letters of their votes, score them, and vote.

judge(FakeScorer(), plan, model, [finished])  ->  [Settled(claim, votes, Answer("B", "majority", 3), ...)]
"""

from collections.abc import Sequence

from shared import answers, voting
from shared.ledger import engine, prompt_store
from shared.ledger import votes as recorded_votes
from shared.ledger.claims import FORCED, READ, Settled, VoteRecord
from shared.ledger.models import Model
from shared.options import Sampling
from shared.training_examples import Text
from shared.voting import Rule, Vote, VotingMode
from workers.inference.finished_rounds import FinishedRound, Plan
from workers.ports import Completion, Scorer


def judge(
    scorer: Scorer, plan: Plan, model: Model | None, finished: Sequence[FinishedRound]
) -> list[Settled]:
    """Give the answer of each question, or none, which asks for another round; ``model`` is the scorer's.

    Raises:
        NotServedHere: the worker lacks the run's scorer.
    """
    rule, name = rule_of(plan.sampling, model), model.name if model else None
    texts = [(each.asked, _texts(plan.sampling, each)) for each in finished]
    scores: Sequence[Sequence[float | None]]
    known = [each.sampled.scores for each in finished if each.sampled.scores is not None]
    if name is None:
        scores = [[None] * len(each) for _, each in texts]
    else:
        scores = known if len(known) == len(finished) else scorer.score(name, texts)
    return [
        _end(plan.sampling, each, read, scored, rule, name)
        for each, (_, read), scored in zip(finished, texts, scores, strict=True)
    ]


def read(vote: Completion, sampling: Sampling, options: int) -> Text:
    """Truncate a vote, and read its letter with its run's reader; else take the one that it was asked for."""
    text = prompt_store.answer_text(vote.text, sampling)
    letter = answers.extract(text, options, sampling.reader) or vote.forced
    return Text(text=text, letter=letter, thinking=vote.thinking)


def _texts(sampling: Sampling, finished: FinishedRound) -> list[Text]:
    """Read the votes of a round by the rule of the run, or of their own runs."""
    votes = finished.sampled.votes
    samplings = finished.sampled.samplings or [sampling] * len(votes)
    options = len(finished.asked.options)
    return [read(vote, by, options) for vote, by in zip(votes, samplings, strict=True)]


def rule_of(sampling: Sampling, model: Model | None) -> Rule:
    """Give a run's voting rule; the run's options override the scorer's best rule."""
    best = (model.rule if model else None) or voting.GATE
    use = best.use if sampling.use == "auto" else VotingMode(sampling.use)
    if sampling.threshold is not None:
        return Rule(use, sampling.threshold)
    return Rule(use, model.threshold(use) if model else best.threshold)


def _end(
    sampling: Sampling,
    finished: FinishedRound,
    texts: Sequence[Text],
    scores: Sequence[float | None],
    rule: Rule,
    scorer: str | None,
) -> Settled:
    claim, sampled = finished.claim, finished.sampled
    weights = sampled.weights or [1.0] * len(texts)
    votes = [
        Vote(text.letter, score, weight) for text, score, weight in zip(texts, scores, weights, strict=True)
    ]
    records = [
        _record(completion, text, score, rule)
        for completion, text, score in zip(sampled.votes, texts, scores, strict=True)
    ]
    answer = voting.decide(votes, rule)
    if answer is None and finished.last:
        answer = voting.fall_back(recorded_votes.earlier_votes(claim.job) + votes, sampling.fallback)
    if answer is None:
        outcome = f"again: none of {len(votes)} votes was accepted"
    else:
        outcome = f"{answer.letter}: {answer.how}, {answer.support} of {len(votes)} votes"
        if sampled.record is not None and sampled.record.unfinished:
            outcome += f", {sampled.record.unfinished} not needed"
    return Settled(claim, records, answer, outcome, scorer, sampled.record, sampled.places)


def _record(completion: Completion, text: Text, score: float | None, rule: Rule) -> VoteRecord:
    source = FORCED if completion.forced else READ
    return VoteRecord(
        text=engine.storable(completion.text),
        letter=text.letter,
        score=score,
        accepted=rule.accepts(text.letter, score),
        tokens=completion.tokens,
        finish_reason=completion.finish_reason,
        mean_logprob=completion.mean_logprob,
        thinking=engine.storable(completion.thinking) if completion.thinking else None,
        letter_source=source if text.letter else None,
    )
