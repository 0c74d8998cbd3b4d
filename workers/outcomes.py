"""The outcomes of tasks: sentences, and the states in which Flower shows them.

    "B: majority, 4 of 5 votes"  ->  SUCCESS      Lost("lost: the engine died")  ->  FAILURE
    "already done: B: majority"  ->  SUCCESS      PutOff("again in 2.0 s: ...")  ->  RETRY

A task only reports what the ledger has recorded: whether and when the item is retried does not depend on it.
"""

from typing import Any

from celery import Task
from celery.exceptions import Retry

from shared.jobs import Job
from shared.ledger import item_history
from shared.ledger.schema import State
from workers import retries

NOTHING_TO_DO = "nothing to do: it is done, or another worker has it"
NOT_DUE = "not due yet, or its run is paused or near its deadline"
GONE = "lost: its worker died, or was silent for too long"


class PutOff(str):
    """The item waits, or another task has it."""

    __slots__ = ()


class Lost(str):
    """The work on the item failed."""

    __slots__ = ()


class TaskError(Exception):
    """Carries the outcome of a task that was not a success; Flower and the log show nothing else of it."""

    def __repr__(self) -> str:
        return str(self)


class TaskRetry(TaskError, Retry):
    """Carries the outcome of a task that another one follows."""


class ItemTask(Task):
    """A task whose state shows the outcome that it returns.

    `run` is the function itself, which returns the outcome.
    """

    throws = (TaskError,)  # expected: Celery logs no traceback

    def __call__(self, **message: Any) -> str:
        """Do the task as Celery's worker calls it."""
        outcome = self.run(**message)
        if outcome == NOTHING_TO_DO:
            outcome = retries.until_done(lambda: _present_state(message["run"], message["item"]))
        if isinstance(outcome, Lost):
            raise TaskError(outcome)
        if isinstance(outcome, PutOff):
            raise TaskRetry(outcome)
        return str(outcome)

    def on_failure(self, _error: Exception, _id: str, _args: Any, _kwargs: Any, info: Any) -> None:
        """Drop the traceback of an outcome, which would only lead to this module."""
        if issubclass(info.type, TaskError):
            info.traceback = ""

    on_retry = on_failure


def _present_state(run: str, item: int) -> str:
    """Describe an item that could not be claimed: its message came twice, or too early."""
    ended = item_history.ended(run, item)
    if ended is None:
        return Lost("the ledger has no such item")
    state, outcome = ended
    if state == State.DONE:
        return f"already done: {outcome}"
    if state == State.DEAD:
        return Lost(f"already dead: {outcome}")
    if state == State.CANCELLED:
        return Lost("its run was cancelled")
    return PutOff("another worker has it" if state == State.LEASED else NOT_DUE)


def after_death(job: Job) -> str:
    """Give the outcome of a task whose worker is gone: it may have settled its item before."""
    ended = item_history.ended(job.run, job.item)
    return f"already done: {ended[1]}" if ended and ended[0] == State.DONE else Lost(GONE)
