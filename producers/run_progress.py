"""Work out from counts of the ledger how far a run is, how fast it goes, and how long it takes yet.

    progress_of("round1")  ->  RunProgress(run="round1", total=1328, states={"done": 412, ...}, ...)

Nothing is written here, no message sent and nothing printed.
"""

from dataclasses import dataclass
from typing import Any

from producers import console, time_left
from producers.time_left import Votes
from shared import broker
from shared.errors import ServiceUnreachable, UserError
from shared.ledger import progress as ledger_progress
from shared.ledger import runs
from shared.ledger.schema import OPEN, State
from shared.strategies import STRATEGIES

RATE_WINDOW = 300.0  # seconds that the present rate looks back
IDLE_AFTER = 15.0  # seconds without a claim after which nobody seems to be there


def unit(run: runs.Run) -> str:
    """Give the word for an item of a run: ``question``, ``entry`` or ``job``."""
    if run.kind == "translate":
        strategy = STRATEGIES.get(run.options["strategy"])
        return "question" if strategy and strategy.per_question else "entry"
    return "question" if run.kind in ("infer", "reason") else "job"


@dataclass(frozen=True)
class RunProgress:
    """How far a run is. Rate: items settled a minute; eta and idle: seconds; ``rounds[state][attempt]``.

    ``eta_rests_on`` says what the time left is worked out from, ``eta_at_most`` that it cannot take longer.
    ``votes`` are those of a run whose votes are sampled. Of the pending items, ``put_off`` wait for a time to
    come, the first of them for ``due_at``.
    """

    run: str
    kind: str
    unit: str
    source: str
    created_at: float
    total: int
    states: dict[str, int]
    rounds: dict[str, dict[int, int]]
    rate: float
    eta: float | None
    eta_at_most: bool
    eta_rests_on: str | None
    votes: Votes | None
    idle: float
    held_in_kind: int
    put_off: int
    due_at: float | None
    result: dict[str, Any] | None

    @property
    def open(self) -> int:
        """Count the items that have no end yet."""
        return sum(self.states[state] for state in OPEN)

    @property
    def settled(self) -> int:
        """Count the items that have an end, good or bad."""
        return self.total - self.open

    @property
    def share(self) -> float:
        """Give how much of the work is done, from 0 to 1: by votes where they are known, else by items."""
        if self.votes is not None and self.votes.total:
            return self.votes.done / self.votes.total
        return self.settled / self.total if self.total else 1.0

    @property
    def stalled(self) -> bool:
        """Tell whether items wait for a worker, and none has shown itself for a while."""
        due = self.states[State.PENDING] - self.put_off
        return due > 0 and not self.held_in_kind and self.idle > IDLE_AFTER


def progress_of(name: str) -> RunProgress:
    """Tell how far a run is.

    Raises:
        UserError: there is no such run.
    """
    run = runs.get_run(name)
    counts = ledger_progress.of_run(run, RATE_WINDOW)
    begun_at = counts.begun_at or counts.now
    states = {state.value: sum(counts.rounds[state].values()) for state in State}
    open_items = sum(states[state] for state in OPEN)
    votes = time_left.votes(run, counts, open_items)
    seconds = max(min(RATE_WINDOW, counts.now - begun_at), 1.0)
    settled = console.count(counts.settled, unit(run))
    eta = time_left.by_items(open_items, counts.settled, settled, seconds, RATE_WINDOW)
    # While fewer items wait than are held, they end together: only their votes tell how far they are.
    if votes is not None and states[State.PENDING] < max(states[State.LEASED], 1):
        eta = time_left.by_votes(votes) or eta
    if open_items:
        rate = 60 * counts.settled / seconds
    else:
        rate = 60 * sum(states.values()) / max((counts.settled_at or counts.now) - begun_at, 1.0)
    return RunProgress(
        run=name,
        kind=run.kind,
        unit=unit(run),
        source=run.source,
        created_at=run.created_at,
        total=sum(states.values()),
        states=states,
        rounds=counts.rounds,
        rate=rate,
        eta=eta.seconds if eta else None,
        eta_at_most=eta is not None and eta.at_most,
        eta_rests_on=eta.rests_on if eta else None,
        votes=votes,
        idle=counts.now - max(counts.seen_at or 0.0, run.created_at),
        held_in_kind=counts.held_in_kind,
        put_off=counts.put_off,
        due_at=counts.due_at,
        result=counts.result,
    )


def summary(progress: RunProgress) -> str:
    """Say in one line how far a run is."""
    states = progress.states
    held, pending, died = states[State.LEASED], states[State.PENDING], states[State.DEAD]
    waiting = f"waiting ({progress.put_off} of them put off)" if progress.put_off else "waiting"
    parts = [f"{progress.settled}/{progress.total} settled"]
    parts += [
        f"{count} {word}" for count, word in [(held, "held"), (pending, waiting), (died, "dead")] if count
    ]
    pace = [f"{progress.rate:.1f}/min"] if progress.rate else []
    if progress.open and progress.eta is not None:
        word = "at most" if progress.eta_at_most else "about"
        pace.append(f"{word} {console.span(progress.eta)} left (from {progress.eta_rests_on})")
    return "; ".join(", ".join(part) for part in (parts, _votes(progress), pace) if part)


def _votes(progress: RunProgress) -> list[str]:
    votes = progress.votes
    if votes is None or not progress.open:
        return []
    parts = [f"{votes.done} of {votes.total} votes"]
    if votes.not_begun:
        parts.append(f"{votes.not_begun} not begun (prompts are being read)")
    if votes.tokens_per_second:
        parts.append(f"{votes.tokens_per_second:.0f} tokens/s")
    return parts


def describe_stall(progress: RunProgress) -> str:
    """Say that nobody works, and what to do."""
    loads = progress.kind in ("infer", "train")
    patience = " (one that starts needs a minute for its model)" if loads else ""
    return (
        f"no worker is taking {console.plural(progress.unit)}{patience}: "
        f"start one with `votequeue up` or `votequeue worker {progress.kind}`"
    )


def waiting(kind: str) -> int | None:
    """Count the messages in a queue; ``None`` where the broker does not answer."""
    try:
        return broker.waiting(kind)
    except ServiceUnreachable:
        return None


def count_items(run: str) -> int:
    """Count a run's items."""
    return sum(runs.count_states(run).values())


def require_questions(name: str) -> runs.Run:
    """Look up a run that answers questions.

    Raises:
        UserError: there is no such run, or it has none.
    """
    run = runs.get_run(name)
    if run.kind != "infer":
        raise UserError(
            f"run {name!r} is a {run.kind} run, which has no questions: see `votequeue status {name}`"
        )
    return run
