"""Judge rounds: read the letters of their votes, score them, and vote.

judge(FakeScorer(), plan, model, [finished])  ->  [Settled(claim, votes, Answer("B", "majority", 3), ...)]
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared import variety, voices, voting
from shared.dataset import LETTERS
from shared.ledger import engine, models, prompt_store
from shared.ledger import votes as recorded_votes
from shared.ledger.claims import FORCED, READ, Claim, RoundRecord, Settled, VoteRecord
from shared.ledger.deadlines import EarlyVote
from shared.ledger.models import Model
from shared.options import Sampling
from shared.prompts import PromptQuestion
from shared.recipes import INPUTS
from shared.training_examples import Text
from shared.voices import VOICES
from shared.vote_weights import UNLABELLED
from shared.voting import Rule, Vote
from workers.inference.finished_rounds import FinishedRound, Plan, folds_of
from workers.ports import Completion, Scorer


def judge(
    scorer: Scorer, plan: Plan, model: Model | None, finished: Sequence[FinishedRound]
) -> list[Settled]:
    """Give the answer of each question, or none, which asks for another round; ``model`` is the scorer's.

    Raises:
        NotServedHere: the worker lacks the run's scorer.
    """
    rule, name = models.rule_of(plan.sampling, model), model.name if model else None
    votes = [_read_all(plan.sampling, each) for each in finished]
    scores: Sequence[Sequence[float | None]]
    known = [each.sampled.scores for each in finished if each.sampled.scores is not None]
    if model is None:
        scores = [[None] * len(each) for each in votes]
    elif len(known) == len(finished):
        scores = known
    else:
        scores = score(scorer, model, [(each.asked, of) for each, of in zip(finished, votes, strict=True)])
    weights = _weights(plan.sampling, finished, votes)
    rounds = zip(finished, votes, scores, weights, strict=True)
    return [_end(plan, *each, rule, name) for each in rounds]


def judge_early(
    scorer: Scorer,
    plan: Plan,
    model: Model | None,
    claim: Claim,
    asked: PromptQuestion,
    fold: int,
    votes: Sequence[Completion],
    sampled: RoundRecord,
) -> list[EarlyVote]:
    """Read and score votes of a round that has not all of its votes yet; raises as `judge`."""
    rule, sampling = models.rule_of(plan.sampling, model), plan.sampling
    reads = [read(vote, sampling, asked) for vote in votes]
    scores = score(scorer, model, [(asked, reads)])[0] if model else [None] * len(reads)
    return [
        EarlyVote(
            claim,
            vote.place,
            _record(vote, each, probability, rule),
            sampling.kind_weight(each.kind, fold),
            model.name if model else None,
            sampled,
        )
        for vote, each, probability in zip(votes, reads, scores, strict=True)
    ]


def _weights(
    sampling: Sampling, finished: Sequence[FinishedRound], votes: Sequence[Sequence["ReadVote"]]
) -> list[Sequence[float]]:
    """Give the weight of each vote: by its run, in a combination, or by its kind."""
    learned = sampling.kind_weights is not None
    folds = folds_of([each.claim for each in finished]) if learned else [UNLABELLED] * len(finished)
    return [
        each.sampled.weights or [sampling.kind_weight(vote.kind, fold) for vote in read]
        for each, read, fold in zip(finished, votes, folds, strict=True)
    ]


@dataclass(frozen=True)
class ReadVote:
    """A vote's text with its letter, and how a program ended; ``kind`` determines its weight.

    ``seen`` is the question with its options in the order in which the vote saw them; the letter is the
    option's own.
    """

    text: Text
    outcome: str | None
    kind: str
    seen: PromptQuestion


def read(vote: Completion, sampling: Sampling, asked: PromptQuestion) -> ReadVote:
    """Truncate a vote, and read its letter as its voice does; else take the one that it was asked for."""
    text = prompt_store.answer_text(vote.text, sampling.of_voice(vote.voice))
    order = sampling.order(asked, vote.place)
    seen = variety.reordered(asked, order)
    letter, outcome = VOICES[vote.voice].read(text, vote.execution, seen.options, sampling.reader)
    own = order[LETTERS.index(letter)] if letter else vote.forced
    read = Text(text=text, letter=own, thinking=vote.thinking)
    return ReadVote(read, outcome, voices.kind(vote.voice, outcome), seen)


def score(
    scorer: Scorer, model: Model, questions: Sequence[tuple[PromptQuestion, Sequence[ReadVote]]]
) -> list[list[float]]:
    """Score votes; a scorer of texts reads each with the question as the vote saw it."""
    kind = INPUTS.get(str(model.options.get("input")))
    apart = kind is None or (kind.question and not kind.answers)
    if not apart or all(vote.seen == asked for asked, votes in questions for vote in votes):
        texts = [(asked, [vote.text for vote in votes]) for asked, votes in questions]
        return scorer.score(model.name, texts)
    each = iter(
        scorer.score(model.name, [(vote.seen, [vote.text]) for _, votes in questions for vote in votes])
    )
    return [[next(each)[0] for _ in votes] for _, votes in questions]


def _read_all(sampling: Sampling, finished: FinishedRound) -> list[ReadVote]:
    """Read the votes of a round by the rule of the run, or of their own runs."""
    votes = finished.sampled.votes
    samplings = finished.sampled.samplings or [sampling] * len(votes)
    return [read(vote, by, finished.asked) for vote, by in zip(votes, samplings, strict=True)]


def _end(
    plan: Plan,
    finished: FinishedRound,
    read: Sequence[ReadVote],
    scores: Sequence[float | None],
    weights: Sequence[float],
    rule: Rule,
    scorer: str | None,
) -> Settled:
    claim, sampled, sampling = finished.claim, finished.sampled, plan.sampling
    votes = [
        Vote(vote.text.letter, score, weight)
        for vote, score, weight in zip(read, scores, weights, strict=True)
    ]
    records = [
        _record(completion, vote, score, rule)
        for completion, vote, score in zip(sampled.votes, read, scores, strict=True)
    ]
    answer = voting.decide(votes, rule)
    if answer is None and finished.last:
        answer = voting.fall_back(recorded_votes.earlier_votes(claim.job) + votes, sampling.fallback)
    if answer is None:
        outcome = f"again: none of {len(votes)} votes was accepted"
    else:
        outcome = f"{answer.letter}: {answer.how}, {answer.support} of {len(votes)} votes"
        if unfinished := sum(record.unfinished or 0 for record in sampled.records):
            outcome += f", {unfinished} not {'needed' if sampling.vote_budget is None else 'asked for'}"
    early = plan.deadline is not None
    return Settled(claim, records, answer, outcome, scorer, sampled.records, sampled.places, early)


def _record(completion: Completion, vote: ReadVote, score: float | None, rule: Rule) -> VoteRecord:
    source, text = FORCED if completion.forced else READ, vote.text
    ran, first = completion.execution, completion.first
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
        voice=completion.voice,
        outcome=vote.outcome,
        output=engine.storable(ran.output) if ran else None,
        detail=engine.storable(ran.detail) if ran and ran.detail else None,
        first_text=engine.storable(first[0]) if first else None,
        first_outcome=engine.storable(first[1]) if first else None,
    )
