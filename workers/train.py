"""The `train` queue: trains one model a message.

    celery -A workers.train worker -Q train --pool threads -c 1

A training's texts and settings stand in the ledger; what comes out is a version folder and a row of metrics.
Messages are acknowledged early: a training outlasts any broker's patience, and its lease decides.
"""

import logging
import threading
from collections.abc import Iterator
from typing import Any

from shared import claims, ledger, settings
from shared.broker import app
from shared.claims import Claim
from shared.dataset import Entry
from shared.errors import Refused, UserError
from shared.jobs import ScorerTraining, Train
from workers import errands, lifecycle, rounds, wiring
from workers.models import scorer, scorer_training
from workers.models.scorer_training import Example
from workers.ports import Interrupted

log = logging.getLogger(__name__)
_stopping = threading.Event()


@app.task(name=Train.queue, acks_late=False)
def train(**message: Any) -> str:
    """Train the model that a message names; give what became of it in words."""
    held = claims.claim([Train.model_validate(message)], lifecycle.WORKER, settings.load().lease)
    return _train(held[0]) if held else "nothing to do: it is trained, or another worker has it"


def _train(claim: Claim) -> str:
    try:
        version, metrics = _make(claim)
    except Interrupted as error:
        reason = str(error)
        rounds.publish(errands.written(lambda: claims.release([claim], reason)))
        return f"given back: {error}"
    except (Refused, UserError) as error:
        # Weights that are missing here, say: another try on this machine would end the same way.
        reason = str(error)
        errands.written(lambda: claims.bury(claim, reason))
        return f"dead: {error}"
    except Exception:
        log.exception("training %s failed", claim.job.run)
        losses = settings.load().max_losses
        rounds.publish(
            errands.written(lambda: claims.lose([claim], "it failed, see the worker's log", losses))
        )
        raise
    errands.written(lambda: claims.complete(claim, {"version": version, **metrics}))
    return f"{version}: held-out accuracy {metrics['accuracy']:.3f}, AUC {metrics['auc']:.3f}"


def _make(claim: Claim) -> tuple[str, dict[str, float]]:
    loaded = settings.load()
    options = errands.options(claim.job.run, ScorerTraining)
    examples = [
        example
        for text in ledger.load_entries(claim.job.run)
        for example in read_examples(Entry.model_validate_json(text), options.input)
    ]
    weights = wiring.weights(options.base, loaded)
    return scorer_training.train(examples, options, weights, loaded.scorers_folder, _stopping.is_set)


def read_examples(entry: Entry, kind: str) -> Iterator[Example]:
    """Read an entry's sound and unsound reasonings as the scorer will read votes."""
    group = entry.group or str(entry.id)
    for index, question in enumerate(entry.questions):
        asked = ledger.asked(entry, index)
        if question.reasoning:
            yield Example(scorer.fed(asked, question.reasoning, kind), True, group)
        for wrong in question.wrong:
            yield Example(scorer.fed(asked, wrong.reasoning, kind), False, group)


lifecycle.attach(start=lambda: None, stopping=_stopping.set, stopped=lambda: None)
