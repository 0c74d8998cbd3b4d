"""The `reason` queue: gets reasonings from chat models, one question a message.

    celery -A workers.reason worker -Q reason --pool threads -c 16

A task waits for its turn at the service, so the queue holds what is not being asked.
"""

import functools
import threading
from typing import Any

from shared import prompts, settings
from shared.broker import app
from shared.errors import Refused
from shared.jobs import Reason
from shared.ledger import runs
from shared.ledger.claims import Claim
from shared.options import Reasoning
from workers import lifecycle, reasoning_generation, task_runner, wiring
from workers.reasoning_generation import DroppedLetter, Explained, Explainer
from workers.task_runner import ItemResult


class Asking:
    """What one worker process asks with: its gateway, its chat models, and the word to stop."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._gateway = wiring.gateway(settings.load(), self._stopping)
        self._chat_model = wiring.once(wiring.chat_model)

    def stop(self) -> None:
        """Give back what waits for its turn, and make no more calls."""
        self._stopping.set()

    def explain(self, claim: Claim) -> ItemResult:
        """Get the reasonings that a run wants for one question.

        Raises:
            Refused: there is none, for the reasons it gives.
            As `Gateway.chat`.
        """
        options = _options(claim.job.run)
        entry = runs.load_entry(claim.job.run, claim.entry)
        asked = runs.asked(entry, claim.question)
        explainer = Explainer(self._gateway, options, self._chat_model)
        letters = reasoning_generation.letters(entry.questions[claim.question], options)
        return _outcome(options, [explainer.explain(claim.job, asked, letter) for letter in letters])


@functools.lru_cache(maxsize=64)
def _options(run: str) -> Reasoning:
    options = task_runner.options(run, Reasoning)
    ours = prompts.version("explaining")
    if options.prompt != ours:
        raise Refused(f"the run wants prompt {options.prompt}, this votequeue has {ours}: enqueue it again")
    return options


def _outcome(options: Reasoning, results: list[Explained | DroppedLetter]) -> ItemResult:
    dropped = [result for result in results if isinstance(result, DroppedLetter)]
    if len(dropped) == len(results):
        raise Refused(
            "no reasoning for " + "; nor for ".join(f"{one.letter}: {one.reason}" for one in dropped)
        )
    value = {
        "texts": [_text(options, result) for result in results if isinstance(result, Explained)],
        "dropped": [{"letter": one.letter, "reason": one.reason} for one in dropped],
    }
    return ItemResult(value, "; ".join(map(str, results)))


def _text(options: Reasoning, explained: Explained) -> dict[str, Any]:
    return {
        "letter": explained.letter,
        "text": explained.text,
        "provider": options.provider,
        "model": explained.model,
        "prompt": options.prompt,
        "reused": explained.reused,
    }


@functools.cache
def service() -> Asking:
    """Give this process's one service."""
    return Asking()


@app.task(name=Reason.queue)
def reason(**message: Any) -> str:
    """Get the reasonings for the question that a message names; give what became of it in words."""
    return task_runner.run(Reason.model_validate(message), service().explain)


def _start() -> None:
    # Built before the first message, so that no two tasks build it at once.
    service()


lifecycle.attach(start=_start, stopping=lambda: service().stop(), stopped=lambda: None)
