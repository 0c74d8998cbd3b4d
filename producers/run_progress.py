"""Compute the progress, rate and remaining time of a run from counts in the ledger.

    progress_of("round1")  ->  RunProgress(run="round1", total=1328, states={"done": 412, ...}, ...)

This module only reads: it neither writes to the ledger nor sends or prints anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from producers import console, time_left
from producers.time_left import Votes
from shared import broker, generators
from shared.errors import ServiceUnreachable, UserError
from shared.ledger import deadlines, leases, runs, votes
from shared.ledger import progress as ledger_progress
from shared.ledger.schema import OPEN, Control, State
from shared.strategies import STRATEGIES
from shared.voting import Outcome

RATE_WINDOW = 300.0  # seconds over which the current rate is measured
IDLE_AFTER = 15.0  # seconds without a claim after which a run counts as stalled


def unit(run: runs.Run) -> str:
    """Return the unit of a run's items: ``question``, ``entry`` or ``job``."""
    if run.kind == "translate":
        strategy = STRATEGIES.get(run.options["strategy"])
        return "question" if strategy and strategy.per_question else "entry"
    return "question" if run.kind in ("infer", "reason") else "job"


@dataclass(frozen=True)
class RunProgress:
    """The progress of a run; rate in items per minute, eta and idle in seconds.

    ``rounds[state][attempt]`` counts items. ``eta_rests_on`` names the basis of ``eta``, an upper bound if
    ``eta_at_most``. ``votes`` is set if the run samples votes. ``put_off`` counts the pending items
    that are scheduled for later, the first for ``due_at``; ``put_off_by`` is how its last claim ended. A run
    that is paused or near its deadline has neither rate nor eta. ``unserved``: no live worker consumes its
    ``queue``, although there is work; ``command`` starts one. ``overdue``: items are open after the deadline.
    ``answers_at_deadline`` counts answers by how they were determined.
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
    put_off_by: str | None
    result: dict[str, Any] | None
    queue: str
    command: str
    unserved: bool
    control: str = Control.ACTIVE
    priority: int = 0
    deadline_at: float | None = None
    overdue: bool = False
    answers_at_deadline: dict[str, int] = field(default_factory=dict)

    @property
    def open(self) -> int:
        """Count the unfinished items."""
        return sum(self.states[state] for state in OPEN)

    @property
    def settled(self) -> int:
        """Count the finished items: done, dead or cancelled."""
        return self.total - self.open

    @property
    def share(self) -> float:
        """Return the completed share of the work, from 0 to 1: by votes if known, otherwise by items."""
        if self.votes is not None and self.votes.total:
            return self.votes.done / self.votes.total
        return self.settled / self.total if self.total else 1.0

    @property
    def stalled(self) -> bool:
        """Return whether items are due but no worker has claimed any recently."""
        due = self.states[State.PENDING] - self.put_off
        wanted = self.control == Control.ACTIVE and not self.overdue
        return wanted and due > 0 and not self.held_in_kind and self.idle > IDLE_AFTER


def progress_of(name: str) -> RunProgress:
    """Return the progress of a run.

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
    # With fewer pending than leased items, the last batch ends together: only votes show progress.
    if votes is not None and states[State.PENDING] < max(states[State.LEASED], 1):
        eta = time_left.by_votes(votes) or eta
    takes_work = run.takes_work(counts.now)
    eta = time_left.until(run.deadline, counts.now, eta) if takes_work else None
    if open_items:
        rate = 60 * counts.settled / seconds if takes_work else 0.0
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
        put_off_by=counts.put_off_by,
        result=counts.result,
        queue=run.queue,
        command=generators.worker_command(run.kind, run.options),
        unserved=bool(open_items) and takes_work and run.queue not in _served(run.queue),
        control=run.control,
        priority=run.priority,
        deadline_at=run.deadline,
        overdue=bool(open_items) and run.deadline is not None and run.deadline <= counts.now,
        answers_at_deadline=deadlines.count_answers(name) if run.deadline else {},
    )


def _served(otherwise: str) -> set[str]:
    """Name the queues that live workers consume; a queue ``otherwise``, where a worker does not say."""
    served = leases.served_queues()
    return {otherwise} if served is None else served


def describe_unserved(run_states: Sequence[tuple[runs.Run, dict[str, int]]]) -> list[str]:
    """Name the runs with work that no live worker serves, by queue, and how to serve them."""
    served, now = leases.served_queues(), runs.ledger_time()
    unserved: dict[str, list[runs.Run]] = {}
    for run, states in run_states:
        wanted = run.takes_work(now) and any(states[state] for state in OPEN)
        if wanted and served is not None and run.queue not in served:
            unserved.setdefault(run.queue, []).append(run)
    return [
        f"no live worker serves {', '.join(run.name for run in waiting)} (queue {queue}): "
        f"{_start(waiting[0].kind, generators.worker_command(waiting[0].kind, waiting[0].options))}"
        for queue, waiting in unserved.items()
    ]


def _start(kind: str, command: str) -> str:
    everything = "`votequeue up` or " if command == f"votequeue worker {kind}" else ""
    return f"start one with {everything}`{command}`"


def summary(progress: RunProgress) -> str:
    """Summarize the progress of a run in one line."""
    states = progress.states
    held, pending, died = states[State.LEASED], states[State.PENDING], states[State.DEAD]
    cancelled = (states[State.CANCELLED], "cancelled")
    waiting = f"waiting ({progress.put_off} of them put off)" if progress.put_off else "waiting"
    parts = [f"{progress.settled}/{progress.total} settled"]
    parts += [
        f"{count} {word}"
        for count, word in [(held, "held"), (pending, waiting), (died, "dead"), cancelled]
        if count
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
        parts.append(f"{votes.not_begun} not begun (prefill)")
    if votes.tokens_per_second:
        parts.append(f"{votes.tokens_per_second:.0f} tokens/s")
    return parts


def describe_control(progress: RunProgress) -> list[str]:
    """Describe what a person has decided about a run: pause, cancellation, priority, deadline."""
    ended = console.count(progress.states[State.CANCELLED], progress.unit)
    told = {
        Control.PAUSED: f"paused: `votequeue resume {progress.run}` continues it",
        Control.CANCELLED: f"cancelled: {ended} ended without a result",
    }
    lines = [f"the run is {told[control]}" for control in told if control == progress.control]
    if progress.overdue:
        lines.append(f"the deadline is over: `votequeue collect {progress.run}` answers what is open")
    return lines


def describe_deadline(answers: dict[str, int]) -> str:
    """Describe how many answers a run's deadline determined, counted by how."""
    many = console.count(sum(answers.values()), "question")
    by_default = answers.get(Outcome.DEADLINE_DEFAULT, 0)
    return f"{many} answered at the deadline, {by_default} of them by default since no vote has a letter"


def describe_stall(progress: RunProgress) -> str:
    """Describe a stalled run, or one that no live worker serves, and how to resume it."""
    start = _start(progress.kind, progress.command)
    if progress.unserved:
        return f"no live worker serves the queue {progress.queue}: {start}"
    loads = progress.kind in ("infer", "train")
    patience = " (a starting worker needs about a minute to load its model)" if loads else ""
    return f"no worker is taking {console.plural(progress.unit)}{patience}: {start}"


def waiting(queue: str) -> int | None:
    """Count the messages in a queue; ``None`` where the broker does not answer."""
    try:
        return broker.waiting(queue)
    except ServiceUnreachable:
        return None


def count_items(run: str) -> int:
    """Count a run's items."""
    return sum(runs.count_states(run).values())


def require_questions(name: str) -> runs.Run:
    """Look up an infer run.

    Raises:
        UserError: there is no such run, or it is not an infer run.
    """
    run = runs.get_run(name)
    if run.kind != "infer":
        raise UserError(
            f"run {name!r} is a {run.kind} run, and this needs an infer run: see `votequeue status {name}`"
        )
    return run


def combined_runs(name: str) -> tuple[str, ...]:
    """Name the runs whose votes a run combines; none if there is no such run, or it is no combination."""
    run = runs.find_run(name)
    votes_of = run.options.get("votes_of") if run else None
    return tuple(votes_of) if isinstance(votes_of, list) else ()


def require_finished(name: str) -> None:
    """Refuse a run with open items.

    Raises:
        UserError: it has some.
    """
    if any(runs.count_states(name)[state] for state in OPEN):
        raise UserError(f"run {name!r} is not finished: wait for it with `votequeue status {name} --watch`")


def require_whole_rounds(name: str, needed_by: str) -> None:
    """Refuse a run with rounds that were stopped early, since their votes are no fair sample.

    Raises:
        UserError: it has some.
    """
    if count := votes.count_stopped(name):
        raise UserError(
            f"{needed_by} needs whole rounds, and run {name!r} stopped those of "
            f"{console.count(count, 'question')} early: sample its questions again with --stop never, and "
            "without --deadline"
        )


def require_own_order(name: str, needed_by: str) -> None:
    """Refuse a run that showed options in other orders, since its texts have the letters of these orders.

    Raises:
        UserError: it is such a run.
    """
    if runs.get_run(name).options.get("vary") == "options":
        raise UserError(
            f"{needed_by} needs texts about the options in the data's order, and run {name!r} showed other "
            "orders (--vary options): sample its questions again with --vary none"
        )
