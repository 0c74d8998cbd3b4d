"""Estimate the remaining time of a run, from token counts at first and settled items later.

    Eta(seconds=118.0, at_most=False, rests_on="the votes finished so far")

In a short run all votes are sampled at once and the questions end together, so only the votes show progress.
In a long run the rate of settled questions is the better estimate.
"""

from dataclasses import dataclass

from shared.ledger.progress import RunCounts
from shared.ledger.runs import Run
from shared.options import Sampling

FEW = 3  # finished votes needed to estimate their length


@dataclass(frozen=True)
class Votes:
    """Vote counts of a run: finished, expected in total without further rounds, and in progress.

    ``not_begun`` counts the votes in progress without a token yet (prompt prefill).
    ``tokens_left`` estimates the tokens of the remaining votes; if ``bounded``, it is the upper limit,
    because too few votes have finished for an estimate.
    """

    done: int
    total: int
    under_way: int
    not_begun: int
    tokens_per_second: float
    tokens_left: float
    bounded: bool
    max_tokens: int


@dataclass(frozen=True)
class Eta:
    """Estimated seconds until the end of a run, and the basis of the estimate."""

    seconds: float
    at_most: bool
    rests_on: str


def votes(run: Run, counts: RunCounts, open_items: int) -> Votes | None:
    """Count a run's votes, including those in progress; ``None`` if no engine samples them."""
    sampled = counts.sampled
    if sampled is None:
        return None
    sampling = Sampling.of_record(run.options)
    total = counts.votes + round(open_items * (sampling.vote_budget or sampling.votes))
    # Worker reports are seconds old: votes in play may have been recorded since.
    done = min(counts.votes + sampled.votes_in_play, total)
    left = total - done
    tokens_left = float(max(left * sampling.max_tokens - sampled.tokens_under_way, 0))
    # Include tokens of unfinished votes, because the first votes to finish are the short ones.
    likely = sampled.tokens * left / sampled.votes if sampled.votes else tokens_left
    return Votes(
        done=done,
        total=total,
        under_way=sampled.votes_under_way if open_items else 0,
        not_begun=sampled.votes_not_begun if open_items else 0,
        tokens_per_second=sampled.tokens_per_second if open_items else 0.0,
        tokens_left=min(likely, tokens_left),
        bounded=likely >= tokens_left,
        max_tokens=sampling.max_tokens,
    )


def by_votes(votes: Votes) -> Eta | None:
    """Estimate the remaining time from the token rate; ``None`` while the data are insufficient.

    Prefill lowers the rate at first, and the first votes to finish are the short ones.
    """
    reading = 2 * votes.not_begun > votes.under_way or (votes.bounded and votes.not_begun)
    few = not votes.bounded and votes.done < FEW
    if not votes.tokens_per_second or reading or few:
        return None
    rests_on = (
        f"all {votes.max_tokens} tokens for each vote" if votes.bounded else "the votes finished so far"
    )
    return Eta(votes.tokens_left / votes.tokens_per_second, votes.bounded, rests_on)


def until(deadline: float | None, now: float, eta: Eta | None) -> Eta | None:
    """Limit an estimate by a run's deadline."""
    if deadline is None or eta is None or now + eta.seconds <= deadline:
        return eta
    return Eta(deadline - now, True, "its deadline")


def by_items(open_items: int, settled: int, counted: str, seconds: float, window: float) -> Eta | None:
    """Estimate the remaining time from the items settled within the window; ``None`` if there are none.

    ``counted`` is the formatted number of settled items.
    """
    if not settled:
        return None
    when = "so far" if seconds < window else f"in the last {window / 60:.0f} min"
    return Eta(open_items * seconds / settled, False, f"the {counted} settled {when}")
