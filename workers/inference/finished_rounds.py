"""The plan of a run, and rounds whose votes are at hand.

FinishedRound(claim, asked, SampledRound([Completion("……答案是：A", 31), ...], record), last=False)
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

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
    # None: this worker does not know it.
    prompt: PromptTemplate | None


@dataclass(frozen=True)
class SampledRound:
    """A round's votes and their sources.

    ``samplings`` and ``weights`` are set for votes of several runs: whose reading rule each has, and what it
    counts. A round that could be stopped has its votes' ``places``, their ``scores`` if they count, and
    whether it is ``final``: no further round can accept a vote.
    """

    votes: list[Completion]
    record: RoundRecord | None
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
    return Plan(sampling, record.examples, prompt_store.find(sampling.prompt))
