"""The `train` queue: trains one model a message, in a process of its own.

    celery -A workers.train worker -Q train --pool threads -c 1

A training's lessons and settings stand in the ledger; what comes out is a folder below that of trained models
and its row in the registry. Messages are acknowledged early: a training outlasts any broker's patience, and
its lease decides.
"""

import hashlib
import logging
import os
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import settings
from shared.broker import app
from shared.errors import Policy, UserError
from shared.jobs import Train
from shared.ledger import claims, models, runs, training_log
from shared.ledger.claims import Claim
from shared.ledger.engine import Connection
from shared.ledger.models import Model
from shared.recipes import ScorerTraining, Training
from workers import build_info, lifecycle, retries, task_runner
from workers.settlement import ErrorPolicies
from workers.task_runner import ItemResult
from workers.training import supervisor
from workers.training.ipc import Message, Saved, StartTraining, Step, TrainedModel
from workers.training.supervisor import Superseded

log = logging.getLogger(__name__)
WORK = ".work"
LEFT_BEHIND = 7 * 86_400.0  # seconds after which nobody goes on with a training's checkpoints
# Weights that are missing, say: another try on this machine would end the same way.
ERROR_POLICIES = ErrorPolicies({UserError: Policy.BURY})
_stopping = threading.Event()


@app.task(name=Train.queue, acks_late=False)
def train(**message: Any) -> str:
    """Train the model that a message names; give what became of it in words."""
    return task_runner.run(Train.model_validate(message), _train, ERROR_POLICIES)


def _train(claim: Claim) -> ItemResult:
    options = task_runner.training(claim.job.run)
    folder = _folder(claim)
    model = supervisor.supervise(
        StartTraining(
            run=claim.job.run,
            fence=claim.fence,
            folder=folder,
            parent=os.getpid(),
            patience=settings.load().lease,
        ),
        beat=settings.load().heartbeat,
        told=lambda dispatch: _tell(claim, dispatch),
        holds=lambda: claims.holds(claim),
        stopping=_stopping.is_set,
    )
    return _publish(claim, options, model, folder)


def _folder(claim: Claim) -> Path:
    """Give the folder of a training's checkpoints, the same on every machine that shares it."""
    run = runs.get_run(claim.job.run)
    # Another ledger may have had a run of this name: its checkpoints are none of ours.
    told = f"{run.name}:{run.digest}:{run.created_at}"
    work = settings.load().trained_folder.resolve() / WORK
    _sweep(work)
    folder = work / f"{run.name[:100]}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    # A sign of life for those that sweep.
    os.utime(folder)
    return folder


def _sweep(work: Path) -> None:
    for left in work.glob("*"):
        if time.time() - left.stat().st_mtime > LEFT_BEHIND:
            shutil.rmtree(left, ignore_errors=True)


def _tell(claim: Claim, dispatch: Message) -> None:
    try:
        if isinstance(dispatch, Step):
            training_log.record(claim, dispatch.step, dispatch.of, dispatch.told)
        elif isinstance(dispatch, Saved):
            training_log.record(claim, dispatch.step, dispatch.of, {}, saved=True)
    except UserError as error:
        # The training goes on: a point is missing in a curve, or a checkpoint is not counted as progress.
        log.warning("a step could not be written down: %s", error)


def _publish(claim: Claim, options: Training, made: TrainedModel, folder: Path) -> ItemResult:
    """Move a model to where models are used from; it is registered together with its training's result."""
    if not retries.written(lambda: claims.holds(claim)):
        raise Superseded
    place = settings.load().trained_folder / made.name
    # The same content under the same name: a worker died between this line and the ledger's.
    if made.folder.exists() and not place.exists():
        made.folder.rename(place)
    verdict = _verdict(options, made)

    def register(connection: Connection) -> None:
        models.add(connection, _model(claim, options, made), made.problems)
        if verdict.promoted:
            models.promote(connection, options.target, made.name, verdict.words)

    value = {"model": made.name, "verdict": verdict.words, "promoted": verdict.promoted, **made.metrics}
    return ItemResult(
        value,
        f"{made.name}: {verdict.words}",
        also=register,
        recorded=lambda: shutil.rmtree(folder, ignore_errors=True),
    )


@dataclass(frozen=True)
class _Verdict:
    """Whether a model comes into use, and why."""

    promoted: bool
    words: str


def _verdict(options: Training, made: TrainedModel) -> _Verdict:
    if made.beats_majority:
        if isinstance(options, ScorerTraining) and not options.promote:
            return _Verdict(
                False, "not in use, as was wished: it beats the plain majority on its held-out questions"
            )
        return _Verdict(True, "in use from now on: it beats the plain majority on what was held out")
    if options.target == "lora":
        return _Verdict(False, f"not in use: try it with --lora {made.name}, then `votequeue models use` it")
    if made.beats_majority is None:
        return _Verdict(False, "not in use: no held-out votes say whether it beats the plain majority")
    return _Verdict(False, "not in use: it does not beat the plain majority on what was held out")


def _model(claim: Claim, options: Training, made: TrainedModel) -> Model:
    run = runs.get_run(claim.job.run)
    return Model(
        name=made.name,
        kind=options.target,
        run=run.name,
        base=options.base,
        source=run.source,
        digest=run.digest,
        options=options.model_dump(mode="json"),
        code=build_info.code(),
        metrics=made.metrics,
        rule=made.rule,
    )


def _start() -> None:
    os.umask(settings.load().trained_mask)  # the training's own process inherits it


lifecycle.attach(start=_start, stopping=_stopping.set, stopped=lambda: None)
