"""Take rounds from runs that sampled them, to score or to combine their votes.

recorded(sampling, [claim], [asked])  ->  [FinishedRound(claim, asked, SampledRound(...), last=True)]
"""

from collections.abc import Sequence

from shared import result_reader
from shared.ledger import votes as recorded_votes
from shared.ledger.claims import FORCED, Claim
from shared.ledger.votes import RecordedVote
from shared.options import Sampling
from shared.prompts import PromptQuestion
from shared.result_reader import Execution
from workers.inference.finished_rounds import FinishedRound, SampledRound, folds_of, plan_of
from workers.ports import Completion


def recorded(
    sampling: Sampling, batch: Sequence[Claim], asked: Sequence[PromptQuestion]
) -> list[FinishedRound]:
    """Take a batch's round from the runs that sampled its votes."""
    rounds_of = (
        _combined(sampling, batch) if sampling.combined_runs else _rescored(str(sampling.votes_of), batch)
    )
    finished = []
    for claim, question in zip(batch, asked, strict=True):
        rounds = rounds_of.get(claim.job.item, [])
        attempt = claim.attempt
        sampled = rounds[attempt - 1] if attempt <= len(rounds) else SampledRound([])
        finished.append(FinishedRound(claim, question, sampled, attempt >= len(rounds)))
    return finished


def _rescored(source: str, batch: Sequence[Claim]) -> dict[int, list[SampledRound]]:
    rounds_of = recorded_votes.recorded_rounds(source, [claim.job.item for claim in batch])
    return {
        item: [
            SampledRound([*map(_completion, votes)], records, places=[vote.place for vote in votes])
            for votes, records in rounds
        ]
        for item, rounds in rounds_of.items()
    }


def _combined(sampling: Sampling, batch: Sequence[Claim]) -> dict[int, list[SampledRound]]:
    """Make one round of the last round of each run, in the order of the runs."""
    # The same question may have another number in another run.
    keys = [claim.key for claim in batch]
    of_runs = {run: recorded_votes.last_rounds(run, keys) for run in sampling.combined_runs}
    rounds = {}
    for claim, fold in zip(batch, folds_of(batch), strict=True):
        cast = [(run, vote) for run in of_runs for vote in of_runs[run].get(claim.key, [])]
        sampled = SampledRound(
            [_completion(vote) for _, vote in cast],
            samplings=[plan_of(run).sampling for run, _ in cast],
            weights=[sampling.weight(run, fold) for run, _ in cast],
        )
        rounds[claim.job.item] = [sampled]
    return rounds


def _completion(vote: RecordedVote) -> Completion:
    forced = vote.letter if vote.letter_source == FORCED else None
    return Completion(
        vote.text,
        vote.tokens,
        vote.finish_reason,
        vote.mean_logprob,
        vote.thinking,
        forced,
        voice=vote.voice,
        execution=_execution(vote),
        first=None if vote.first_text is None else (vote.first_text, vote.first_outcome or ""),
        place=vote.place,
    )


def _execution(vote: RecordedVote) -> Execution | None:
    if vote.output is None:
        return None
    failure = None if vote.outcome in result_reader.READ else vote.outcome
    return Execution(vote.output, failure, vote.detail)
