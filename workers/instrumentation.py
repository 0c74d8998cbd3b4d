"""The Prometheus metrics of a worker process, counted where things happen.

    CLAIMS.labels("infer.openai.chat.m").inc(16)
    rounds_settled(kept, sampled=True)

Each counter begins at 0 when its process starts. Labels have few values: queues, voices, models, outcomes;
never runs or questions. vLLM adds metrics of its own (``vllm:``) to the same registry.
"""

import functools
from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Info

from shared import broker
from shared.ledger.claims import FORCED, Settled, VoteRecord
from shared.providers import Usage

READY = Gauge("votequeue_worker_ready", "1 once the worker takes messages, 0 while it loads or stops")
CLAIMS = Counter("votequeue_claims", "Items claimed", ["queue"])
DONE = Counter("votequeue_items_done", "Items answered or completed", ["queue"])
FAILURES = Counter("votequeue_failures", "Claims whose work ended in an error", ["policy"])
LOST_LEASES = Counter("votequeue_lost_leases", "Claims that this worker took back from dead workers")

ROUNDS = Counter("votequeue_rounds", "Rounds recorded", ["outcome"])
ANSWERS = Counter("votequeue_answers", "Questions answered, by how the answer was determined", ["how"])
ASKED = Counter("votequeue_votes_asked", "Votes asked for", ["voice"])
VOTES = Counter("votequeue_votes", "Votes recorded", ["voice", "outcome"])
FORCED_VOTES = Counter("votequeue_votes_forced", "Recorded votes whose letter the model was asked for")
ABORTED = Counter("votequeue_votes_aborted", "Votes aborted because the others had decided")
SPARED = Counter("votequeue_votes_spared", "Votes that were never finished, in rounds stopped early")
PROMPT_TOKENS = Counter("votequeue_prompt_tokens", "Tokens of prompts, each once for all its votes")
TOKENS = Counter("votequeue_generated_tokens", "Tokens of recorded and of aborted votes")
SAVED_TOKENS = Counter("votequeue_saved_tokens", "Tokens that stopping early has saved, an estimate")

CALLS = Counter("votequeue_api_calls", "Calls to services", ["provider", "model", "outcome"])
CALL_TOKENS = Counter("votequeue_api_tokens", "Tokens that services report", ["provider", "model", "part"])
WAITED = Counter("votequeue_limit_wait_seconds", "Waits for limits and budgets", ["provider", "model"])


@functools.cache
def generator() -> Info:
    """Give the description of the model that samples votes; only a worker with such a model has it."""
    return Info("votequeue_generator", "The model that samples the votes of this worker")


def rounds_settled(ends: Sequence[Settled], sampled: bool) -> None:
    """Count recorded rounds; ``sampled``: their votes are new, not those of another run.

    An answer at the deadline has no round if it has no votes.
    """
    for end in ends:
        if end.sampled or not sampled:
            ROUNDS.labels("repeated" if end.answer is None else "answered").inc()
        if end.answer is not None:
            ANSWERS.labels(end.answer.how).inc()
            DONE.labels(broker.queue_for(end.claim.job)).inc()
        if sampled:
            _count_votes(end)


def _count_votes(end: Settled) -> None:
    for vote in end.votes:
        VOTES.labels(vote.voice, _outcome(vote)).inc()
        FORCED_VOTES.inc(vote.letter_source == FORCED)
    tokens = sum(vote.tokens for vote in end.votes)
    aborted = sum(record.aborted_tokens or 0 for record in end.sampled)
    spared = sum(record.unfinished or 0 for record in end.sampled)
    TOKENS.inc(tokens + aborted)
    PROMPT_TOKENS.inc(sum(record.prompt_tokens or 0 for record in end.sampled))
    SPARED.inc(spared)
    if end.votes:
        SAVED_TOKENS.inc(max(0.0, spared * tokens / len(end.votes) - aborted))


def _outcome(vote: VoteRecord) -> str:
    return "accepted" if vote.accepted else "unreadable" if vote.letter is None else "rejected"


def called(provider: str, model: str, outcome: str, used: Usage) -> None:
    """Count a call to a service that has ended."""
    CALLS.labels(provider, model, outcome).inc()
    CALL_TOKENS.labels(provider, model, "prompt").inc(used.input_tokens)
    CALL_TOKENS.labels(provider, model, "reply").inc(used.output_tokens)
