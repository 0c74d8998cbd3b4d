"""The plan of a run, and rounds whose votes are at hand.

FinishedRound(claim, asked, SampledRound([Completion("……答案是：A", 31), ...], [record]), last=False)
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared import dataset, vote_weights
from shared.errors import Refused, UserError
from shared.ledger import prompt_store, runs
from shared.ledger.claims import Claim, RoundRecord
from shared.options import Sampling
from shared.prompt_files import PromptTemplate
from shared.prompts import PromptQuestion
from workers.ports import Completion


@dataclass(frozen=True)
class Plan:
    """How the questions of one run are answered."""

    sampling: Sampling
    examples: str | None
    # By voice; None: this worker does not know it.
    prompts: Mapping[str, PromptTemplate | None]
    deadline: float | None = None


@dataclass(frozen=True)
class SampledRound:
    """A round's votes and their sources, by voice.

    ``samplings`` and ``weights`` are set for votes of several runs: whose reading rule each has, and what it
    counts. A round that could be stopped has its votes' ``places``, their ``scores`` if they count, and
    whether it is ``final``: no further round can accept a vote.
    """

    votes: list[Completion]
    records: Sequence[RoundRecord] = ()
    samplings: Sequence[Sampling] = ()
    weights: Sequence[float] = ()
    places: Sequence[int] = ()
    scores: Sequence[float | None] | None = None
    final: bool = False


@dataclass(frozen=True)
class FinishedRound:
    """A question of a batch with its round's votes; ``last``: this is its last round."""

    claim: Claim
    asked: PromptQuestion
    sampled: SampledRound
    last: bool


def folds_of(batch: Sequence[Claim]) -> list[int]:
    """Give the fold of each question of a run, whose weights were learned without it."""
    if not batch:
        return []
    entries = runs.load_entries_at(batch[0].job.run, (claim.entry for claim in batch))
    return [
        vote_weights.fold(
            dataset.unit(entries[claim.entry]),
            entries[claim.entry].questions[claim.question].answer is not None,
        )
        for claim in batch
    ]


@functools.lru_cache(maxsize=64)
def plan_of(run: str) -> Plan:
    """Read the plan of a run.

    Raises:
        Refused: another version of votequeue wrote its options.
    """
    record = runs.get_run(run)
    try:
        sampling = Sampling.of_record(record.options)
    except UserError as error:  # of this run, not of the worker
        raise Refused(str(error)) from error
    prompts = {voice: prompt_store.find(sampling.of_voice(voice).prompt) for voice in sampling.votes_by_voice}
    return Plan(sampling, record.examples, prompts, record.deadline)
