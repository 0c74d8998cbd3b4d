"""The `train` queue: trains one model per message, in a separate process.

    celery -A workers.train worker -Q train --pool threads -c 1

The ledger has a training's texts and recipe. The result is a folder below that of trained models and its row
in the registry. Messages are acknowledged early: a training lasts longer than any visibility timeout, and its
lease decides.
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
from workers.outcomes import ItemTask
from workers.settlement import ErrorPolicies
from workers.task_runner import ItemResult
from workers.training import supervisor
from workers.training.ipc import Message, Saved, StartTraining, Step, TrainedModel
from workers.training.supervisor import Superseded

log = logging.getLogger(__name__)
WORK = ".work"
LEFT_BEHIND = 7 * 86_400.0  # seconds after which a training's checkpoints are deleted
# Missing weights, for example: a retry on this machine would fail in the same way.
ERROR_POLICIES = ErrorPolicies({UserError: Policy.BURY})
_stopping = threading.Event()


@app.task(name=Train.queue, base=ItemTask, acks_late=False)
def train(**message: Any) -> str:
    """Train the model that a message names; return the outcome as a sentence."""
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
        report=lambda message: _record(claim, message),
        holds=lambda: claims.holds(claim),
        stopping=_stopping.is_set,
    )
    return _publish(claim, options, model, folder)


def _folder(claim: Claim) -> Path:
    """Give the folder of a training's checkpoints, the same on every machine that shares it."""
    run = runs.get_run(claim.job.run)
    # Do not resume the checkpoints of a run with the same name in another ledger.
    identity = f"{run.name}:{run.digest}:{run.created_at}"
    work = settings.load().trained_folder.resolve() / WORK
    _sweep(work)
    folder = work / f"{run.name[:100]}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    # Shows other workers' sweeps that the folder is in use.
    os.utime(folder)
    return folder


def _sweep(work: Path) -> None:
    for left in work.glob("*"):
        if time.time() - left.stat().st_mtime > LEFT_BEHIND:
            shutil.rmtree(left, ignore_errors=True)


def _record(claim: Claim, message: Message) -> None:
    try:
        if isinstance(message, Step):
            training_log.record(claim, message.step, message.total_steps, message.metrics)
        elif isinstance(message, Saved):
            training_log.record(claim, message.step, message.total_steps, {}, saved=True)
    except UserError as error:
        # The training continues: a curve lacks a point, or a checkpoint does not count as progress.
        log.warning("a step could not be recorded: %s", error)


def _publish(claim: Claim, options: Training, trained: TrainedModel, folder: Path) -> ItemResult:
    """Move a model to the folder of trained models; it is registered together with the training's result."""
    if not retries.written(lambda: claims.holds(claim)):
        raise Superseded
    place = settings.load().trained_folder / trained.name
    # The model exists if a worker died between this line and the write to the ledger.
    if trained.folder.exists() and not place.exists():
        trained.folder.rename(place)
    verdict = _verdict(options, trained)

    def register(connection: Connection) -> None:
        models.add(connection, _model(claim, options, trained), trained.problems)
        if verdict.promoted:
            models.promote(connection, options.target, trained.name, verdict.words)

    value = {"model": trained.name, "verdict": verdict.words, "promoted": verdict.promoted, **trained.metrics}
    return ItemResult(
        value,
        f"{trained.name}: {verdict.words}",
        also=register,
        recorded=lambda: shutil.rmtree(folder, ignore_errors=True),
    )


@dataclass(frozen=True)
class _Verdict:
    """Whether a model is put to use, and why."""

    promoted: bool
    words: str


def _verdict(options: Training, trained: TrainedModel) -> _Verdict:
    if not isinstance(options, ScorerTraining):
        return _Verdict(
            False, f"not in use: try --lora {trained.name}, then `votequeue models use {trained.name}`"
        )
    if (figures := trained.comparison) is None:
        return _Verdict(False, "not in use: no held-out votes say whether it beats the plain majority")
    before = models.in_use("scorer")
    name = before.name if before else None
    if name == trained.name:
        return _Verdict(False, "in use already: the same training made it before")
    if not figures.is_better(options.promotion_level):
        obstacle = f"not shown to be better at level {options.promotion_level:g}"
    elif name not in (None, figures.in_use):
        obstacle = f"{name} came into use meanwhile"
    elif name and figures.obstacle:
        obstacle = f"{name}, which is in use, {figures.obstacle}"
    elif not options.promote:
        obstacle = "as was wished, but it is better"
    else:
        return _Verdict(True, f"in use from now on: {figures}")
    anyway = f"`votequeue models use {trained.name}` uses it all the same"
    return _Verdict(False, f"not in use: {obstacle}: {figures}; {anyway}")


def _model(claim: Claim, options: Training, trained: TrainedModel) -> Model:
    run = runs.get_run(claim.job.run)
    return Model(
        name=trained.name,
        kind=options.target,
        run=run.name,
        base=options.base,
        source=run.source,
        digest=run.digest,
        options=options.model_dump(mode="json"),
        code=build_info.code(),
        metrics=trained.metrics,
        rule=trained.rule,
    )


def _start() -> None:
    os.umask(settings.load().trained_mask)  # inherited by the training's process


lifecycle.attach(start=_start, stopping=_stopping.set, stopped=lambda: None)
