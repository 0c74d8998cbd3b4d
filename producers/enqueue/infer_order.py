"""Enqueue questions of a data set, questions that are asked again, or recorded votes.

    place(InferOrder("test.jsonl", given={"votes": 9}))  ->  EnqueuedRun("test-9f3c01ab", items=1328, ...)

`enqueue infer` and the Python API check here which options apply to which of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from producers import console
from producers.enqueue import (
    append,
    dry_run,
    generator_options,
    inputs,
    option_checks,
    publish,
    redo,
    rescore,
)
from producers.enqueue.dry_run import Forecast
from producers.enqueue.publish import EnqueuedRun, Prepared
from shared.errors import InvalidOption
from shared.ledger.runs import Run
from shared.options import Reading, Sampling

# The options that apply to scoring rather than sampling.
RESCORING = ("reader", "scorer", "use", "threshold", "fallback", "batch")


@dataclass(frozen=True)
class InferOrder:
    """A request for answers; ``data`` is a data set, or a run whose questions or votes are used.

    ``given`` are options of `Sampling` and ``reading`` options of `Reading`, those that the user chose only.
    """

    data: str
    run: str | None = None
    examples: str | None = None
    append_to: str | None = None
    budget: float | None = None
    skip_bad: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Checked:
    """An order with its options filled in and its data found."""

    order: InferOrder
    sampling: Sampling
    reading: Reading
    source: Path | Run


def place(order: InferOrder) -> EnqueuedRun:
    """Record a run and send its messages, or continue it; with ``append_to``, add questions to a run.

    Raises:
        InvalidOption: an option is invalid or does not apply.
        UserError: the data are invalid, or another run has the name; nothing was written.
        ServiceUnreachable: the broker does not answer.
    """
    checked = _checked(order)
    source, given = checked.source, order.given
    if isinstance(source, Run) and not checked.sampling.only:
        changes = {name: getattr(checked.sampling, name) for name in given}
        # Use the scorer in use now, unless another is named.
        return rescore.rescore(source.name, {"scorer": checked.sampling.scorer, **changes}, order.run)
    if order.append_to is not None and isinstance(source, Path):
        return append.append(source, order.append_to, order.skip_bad, checked.reading)
    enqueued = publish.place(_prepare(checked), order.budget)
    if order.examples is None and isinstance(source, Path):
        console.note("no --examples: the prompts contain no solved questions")
    return enqueued


def forecast(order: InferOrder) -> Forecast:
    """Estimate the run that an order would make; nothing is written or sent; raises as `place`."""
    return dry_run.forecast(_prepare(_checked(order, dry_run=True)))


def _checked(order: InferOrder, dry_run: bool = False) -> _Checked:
    option_checks.amount(order.budget)
    sampling = option_checks.sampling(order.given)
    reading = option_checks.filled(Reading, {}, order.reading)
    source = inputs.find_source(order.data)
    asked = {"examples": order.examples, "budget": order.budget, "dry_run": dry_run or None, **order.given}
    if order.append_to is not None:
        _refuse({"run": order.run, **asked}, f"the options of {order.append_to} are used")
        if not isinstance(source, Path):
            raise InvalidOption("DATA", "--append-to takes a data set, not a run")
    elif isinstance(source, Path):
        _refuse({"only": sampling.only}, "it needs a run, not a data set")
    elif sampling.only:
        _refuse({"examples": order.examples, **order.reading}, f"those of {order.data} are used")
    else:
        reason = f"the recorded votes of {order.data} are reused"
        _refuse({**asked, **order.reading}, reason, RESCORING)
    return _Checked(order, sampling, reading, source)


def _refuse(asked: Mapping[str, Any], why: str, allowed: tuple[str, ...] = ()) -> None:
    option_checks.refuse_others(asked, allowed, why, Sampling)


def _prepare(checked: _Checked) -> Prepared:
    order, source = checked.order, checked.source
    if isinstance(source, Path):
        sampling = generator_options.fitted(checked.sampling, order.given)
        prepared = publish.prepare(
            source, sampling, order.run, order.examples, order.skip_bad, checked.reading
        )
    else:
        changes = generator_options.changes(source.options, checked.sampling, order.given)
        prepared = redo.prepare(source, changes, order.run)
    generator_options.check_budget(prepared.run, order.budget)
    return prepared
