"""Plan a run that calls outside services: its items and estimate, and its enqueueing within a budget.

    place(order, budget=20.0)  ->  Placed(run="test-9f3c01ab", items=1328, sent=1328, continued=False, ...)

Nothing is written before a plan is placed; then its budget is recorded before any message is sent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from producers import console, run_progress
from producers.enqueue import estimate, inputs, publish, service_checks
from producers.enqueue.estimate import Estimate
from producers.enqueue.publish import Also
from shared.dataset import Line, Question
from shared.ledger import calls, runs
from shared.ledger.runs import Run


@dataclass(frozen=True)
class LeftOut:
    """The data for which a run has no items.

    Counts of unlabelled questions and generated entries, and the ids of translation tasks.
    """

    unlabelled: int = 0
    augmented: int = 0
    translation_tasks: list[str | int] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """A planned run with its lines and counts."""

    run: Run
    items: int
    entries: int
    bad: int
    left_out: LeftOut
    estimate: Estimate
    lines: Callable[[], Iterator[Line]] = field(repr=False)
    files: tuple[Path, ...] = field(repr=False)
    per_entry: bool = field(default=False, repr=False)

    @property
    def unit(self) -> str:
        """Return the unit of the items."""
        return run_progress.unit(self.run)

    @property
    def provider(self) -> str | None:
        """Return the provider to be called, if any."""
        return self.run.options.get("provider")


@dataclass(frozen=True)
class Placed:
    """The result of an `enqueue`; ``continued``: the run existed already."""

    run: str
    items: int
    unit: str
    sent: int
    bad: int
    continued: bool
    left_out: LeftOut

    @property
    def summary(self) -> str:
        """Summarize the result in one line."""
        before = "continued" if self.continued else "enqueued"
        sent = console.count(self.sent, "message")
        return f"run {self.run} {before}: {console.count(self.items, self.unit)}, {sent} sent"


def labelled(question: Question) -> bool:
    """Return whether a question has a gold answer."""
    return question.answer is not None


def check(order: Plan, budget: float | None) -> bool:
    """Return whether the planned run exists already, and print notes about the plan on stderr.

    Raises:
        UserError: another run has its name, or the budget lacks a price.
    """
    continued = publish.exists(order.run)
    estimate.require_price(order.run, budget)
    for note in _notes(order, budget):
        console.note(note)
    return continued


def _notes(order: Plan, budget: float | None) -> Iterator[str]:
    left_out = order.left_out
    if left_out.unlabelled:
        yield f"left out (no answer): {console.count(left_out.unlabelled, 'question')}"
    if left_out.augmented:
        yield f"left out (generated): {left_out.augmented} entries"
    if left_out.translation_tasks:
        yield f"left out (translation tasks): {', '.join(map(str, left_out.translation_tasks))}"
    if order.provider:
        yield from service_checks.notes(order.provider)
    cost, spent = order.estimate.cost, calls.spent(order.run.name).spent
    if budget is not None and cost is not None and budget - spent < cost.expected:
        money = estimate.money(cost.expected, order.estimate)
        yield f"the budget of {budget:g} is too small: {money} expected, {spent:g} spent already"
    if budget is not None and (warning := estimate.too_small(order.estimate, budget - spent)):
        yield warning


def place(order: Plan, budget: float | None) -> Placed:
    """Record a planned run and send its messages; an existing run is continued.

    Raises:
        UserError: the data changed after the check; nothing was enqueued.
        ServiceUnreachable: the broker does not answer.
    """

    def write(with_budget: Also) -> None:
        with console.bar("recording", order.entries, "entries") as advance:
            lines = inputs.counted(order.lines(), advance)
            runs.open_run(
                order.run,
                lines,
                per_entry=order.per_entry,
                wants=labelled,
                files=order.files,
                also=with_budget,
            )

    continued = publish.begin_paid(order.run, write, budget)
    sent = publish.publish(order.run.name)
    items = run_progress.count_items(order.run.name)
    return Placed(order.run.name, items, order.unit, sent, order.bad, continued, order.left_out)
