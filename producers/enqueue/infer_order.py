"""Enqueue questions of a data set, questions that are asked again, or recorded votes.

    place(check("test.jsonl", examples="solved.jsonl", votes=9))  ->  EnqueuedRun("test-9f3c01ab", ...)

`enqueue infer` and the Python API check here which options apply to which of these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from producers import console
from producers.enqueue import (
    append,
    budget_gains,
    generator_options,
    inputs,
    option_checks,
    publish,
    redo,
    rescore,
    voice_weights,
)
from producers.enqueue import combine as combining
from producers.enqueue.publish import EnqueuedRun, Prepared
from producers.reports.combination import Combination
from shared.errors import InvalidOption
from shared.ledger import models
from shared.ledger.runs import Run
from shared.options import Reading, Sampling

# The options that apply to scoring rather than sampling.
SCORING = ("scorer", "use", "threshold", "fallback", "batch")
RESCORING, COMBINING = ("reader", "weights_from", *SCORING), ("combine", *SCORING)


@dataclass(frozen=True)
class InferOrder:
    """A checked request for answers; ``source`` is a data set, or a run whose questions or votes are used.

    ``given`` are the options of ``sampling`` that the user chose.
    """

    source: Path | Run
    run: str | None
    examples: str | None
    append_to: str | None
    budget: float | None
    deadline: float | None
    skip_bad: bool
    given: Mapping[str, Any]
    sampling: Sampling
    reading: Reading


def check(
    data: Path | str,
    dry_run: bool = False,
    /,
    *,
    run: str | None = None,
    examples: Path | str | None = None,
    append_to: str | None = None,
    budget: float | None = None,
    deadline: str | None = None,
    skip_bad: bool = False,
    **options: Any,
) -> InferOrder:
    """Fill in and check the ``options`` of `Sampling` and `Reading`; find the data.

    Raises:
        InvalidOption: an option does not exist, is invalid, or does not apply to the data or the run.
        UserError: there is no such file or run.
    """
    given, read = option_checks.split(options)
    option_checks.amount(budget)
    sampling = option_checks.sampling(given)
    if sampling.combine:
        raise InvalidOption("DATA|RUN", "--combine takes several runs")
    reading = option_checks.filled(Reading, {}, read)
    source = inputs.find_source(str(data))
    shown = None if examples is None else str(examples)
    ends = None if deadline is None else option_checks.moment("--deadline", deadline)
    asked = {
        "examples": examples,
        "budget": budget,
        "deadline": deadline,
        "dry_run": dry_run or None,
        **given,
    }
    if append_to is not None:
        _refuse({"dry_run": asked.pop("dry_run")}, "it does not apply to --append-to")
        _refuse({"run": run, **asked}, f"the options of {append_to} are used")
        if not isinstance(source, Path):
            raise InvalidOption("DATA", "--append-to takes a data set, not a run")
    elif isinstance(source, Path):
        _refuse({"only": sampling.only}, "it needs a run, not a data set")
    elif sampling.only is not None:
        _refuse({"examples": examples, **read}, f"those of {data} are used")
    else:
        _refuse({**asked, **read}, f"the recorded votes of {data} are reused", RESCORING)
    return InferOrder(source, run, shown, append_to, budget, ends, skip_bad, given, sampling, reading)


def combine(
    runs: Sequence[str], *, run: str | None = None, **asked: Any
) -> tuple[EnqueuedRun, Combination | None]:
    """Enqueue a vote over the recorded votes of several runs; see `combine.combine`.

    Raises:
        InvalidOption: an option does not apply to recorded votes, or ``combine`` is missing.
        UserError, ServiceUnreachable: as `combine.combine`.
    """
    asked = {name: value for name, value in asked.items() if value is not None}
    if "combine" not in asked:
        raise InvalidOption("DATA|RUN", "several runs need --combine plain or learned")
    _refuse(asked, "recorded votes are combined", COMBINING)
    sampling = option_checks.sampling(asked)
    chosen = {name: getattr(sampling, name) for name in asked}
    return combining.combine(runs, {"scorer": models.NONE, **chosen}, run)


def _refuse(asked: Mapping[str, Any], why: str, allowed: tuple[str, ...] = ()) -> None:
    option_checks.refuse_others(asked, allowed, why, Sampling)


def place(order: InferOrder) -> EnqueuedRun:
    """Record a run and send its messages, or continue it; with ``append_to``, add questions to a run.

    Raises:
        UserError: the data are invalid, or another run has the name; nothing was written.
        ServiceUnreachable: the broker does not answer.
    """
    source, sampling = order.source, order.sampling
    if isinstance(source, Run) and sampling.only is None:
        changes = {name: getattr(sampling, name) for name in order.given}
        # Use the scorer in use now, unless another is named.
        return rescore.rescore(
            source.name, {"scorer": sampling.scorer, **changes, **_learned(sampling)}, order.run
        )
    if order.append_to is not None and isinstance(source, Path):
        return append.append(source, order.append_to, order.skip_bad, order.reading)
    prepared = prepare(order)
    prepared = replace(prepared, run=replace(prepared.run, deadline=order.deadline))
    enqueued = publish.place(prepared, order.budget)
    if order.deadline is not None and enqueued.continued:
        console.note(f"run {enqueued.run} keeps the deadline that it was enqueued with, if any")
    if order.examples is None and isinstance(source, Path):
        console.note("no --examples: the prompts contain no solved questions")
    return enqueued


def _learned(sampling: Sampling) -> dict[str, Any]:
    """Learn the weights of kinds of votes, if runs are named for it."""
    if sampling.weights_from is None:
        return {}
    learned = voice_weights.learn(sampling.weights_from)
    console.note(learned.note)
    return {"kind_weights": learned.weights, "agreement": learned.agreement}


def _allocated(sampling: Sampling) -> dict[str, Any]:
    """Learn what further votes gain, if the run has a vote budget."""
    if sampling.budget_from is None:
        return {}
    gains, prices, note = budget_gains.learn(sampling.budget_from, sampling)
    console.note(note)
    return {"gains": gains, "prices": prices}


def prepare(order: InferOrder) -> Prepared:
    """Check the data of a run that samples votes; nothing is written; raises as `check` and `place`."""
    source, given = order.source, order.given
    if isinstance(source, Path):
        sampling = generator_options.fitted(order.sampling, given)
        sampling = sampling.model_copy(update=_learned(sampling))
        sampling = sampling.model_copy(update=_allocated(sampling))
        prepared = publish.prepare(source, sampling, order.run, order.examples, order.skip_bad, order.reading)
    else:
        changes = generator_options.changes(source.options, order.sampling, given)
        changes |= _learned(order.sampling)
        changes |= _allocated(Sampling.of_record(source.options).model_copy(update=changes))
        prepared = redo.prepare(source, changes, order.run)
    if prepared.run.examples is None and prepared.run.options["vary"] == "examples":
        raise InvalidOption("--vary", "examples needs solved questions to choose from: --examples FILE")
    generator_options.check_budget(prepared.run, order.budget)
    return prepared
