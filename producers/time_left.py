"""Estimate the time left of a run: from the engine's token counts at first, later from settled items.

    Eta(seconds=118.0, at_most=False, rests_on="the votes finished so far")

All votes of a short run are under way at once, and its questions end together: only the votes tell how far it
is. Of a long run, the questions settled in the last minutes tell more.
"""

from dataclasses import dataclass

from shared.ledger.progress import RunCounts
from shared.ledger.runs import Run
from shared.options import Sampling

FEW = 3  # finished votes, from which their length tells something


@dataclass(frozen=True)
class Votes:
    """Votes of a run: finished, expected in all if no question is asked again, and being sampled now.

    Of these, ``not_begun`` have no token yet: the engines are reading their prompts.
    ``tokens_left`` is what the votes to come may take; ``bounded`` says that it is the most they can take,
    since too few are finished to tell more.
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
    """Seconds until a run's end, as far as can be told, and what tells it."""

    seconds: float
    at_most: bool
    rests_on: str


def votes(run: Run, counts: RunCounts, open_items: int) -> Votes | None:
    """Count a run's votes, those in the engines included; ``None`` where no engine samples them."""
    sampled = counts.sampled
    if sampled is None:
        return None
    sampling = Sampling.of_record(run.options)
    total = counts.votes + open_items * sampling.votes
    # A worker's word is seconds old: what it had in play may be recorded meanwhile.
    done = min(counts.votes + sampled.votes_in_play, total)
    left = total - done
    tokens_left = float(max(left * sampling.max_tokens - sampled.tokens_under_way, 0))
    # Tokens of unfinished votes count too: those that finish first are the short ones.
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
    """Tell when a run may end from what its engines sample; ``None`` while that tells little.

    The first prompts hold the rate down, and the first votes to finish are the short ones.
    """
    reading = 2 * votes.not_begun > votes.under_way or (votes.bounded and votes.not_begun)
    few = not votes.bounded and votes.done < FEW
    if not votes.tokens_per_second or reading or few:
        return None
    rests_on = (
        f"all {votes.max_tokens} tokens for each vote" if votes.bounded else "the votes finished so far"
    )
    return Eta(votes.tokens_left / votes.tokens_per_second, votes.bounded, rests_on)


def by_items(open_items: int, settled: int, counted: str, seconds: float, window: float) -> Eta | None:
    """Tell when a run may end from the items settled within the last seconds; ``None`` if there are none.

    ``counted`` says how many there are, in words.
    """
    if not settled:
        return None
    when = "so far" if seconds < window else f"in the last {window / 60:.0f} min"
    return Eta(open_items * seconds / settled, False, f"the {counted} settled {when}")
