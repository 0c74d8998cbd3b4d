"""The `reason` queue: gets reasonings or programs from chat models, one question a message.

    celery -A workers.reason worker -Q reason --pool threads -c 16

A task waits until the limits allow its call, so waiting questions stay in the queue.
"""

import functools
import threading
from typing import Any

from shared import prompts, settings
from shared.broker import app
from shared.errors import Refused
from shared.jobs import Reason
from shared.ledger import prompt_store, runs
from shared.ledger.claims import Claim
from shared.options import Reasoning
from workers import lifecycle, reasoning_generation, task_runner, wiring
from workers.outcomes import ItemTask
from workers.reasoning_generation import DroppedLetter, Explained, Explainer
from workers.task_runner import ItemResult


class Asking:
    """The service of one worker process: its gateway, its chat models, and its stop event."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._gateway = wiring.gateway(settings.load(), self._stopping)
        self._chat_model = wiring.once(wiring.chat_model)
        self._executor = wiring.executors(settings.load())

    def stop(self) -> None:
        """Release the questions that wait for a call, and make no more calls."""
        self._stopping.set()

    def explain(self, claim: Claim) -> ItemResult:
        """Get the texts that a run wants for one question.

        Raises:
            Refused: there is none; the message has the reasons.
            NotServedHere: the worker lacks the package that runs programs.
            As `Gateway.chat`.
        """
        options = _options(claim.job.run)
        entry = runs.load_entry(claim.job.run, claim.entry)
        question = runs.asked(entry, claim.question)
        executor = self._executor(options.voice)
        explainer = Explainer(self._gateway, options, self._chat_model, executor)
        letters = reasoning_generation.letters(entry.questions[claim.question], options)
        return _outcome(options, [explainer.explain(claim.job, question, letter) for letter in letters])


@functools.lru_cache(maxsize=64)
def _options(run: str) -> Reasoning:
    options = task_runner.options(run, Reasoning)
    if prompt_store.find(options.prompt) is None:
        task_runner.require_prompt(options.prompt, prompts.version("explaining"))
    return options


def _outcome(options: Reasoning, results: list[Explained | DroppedLetter]) -> ItemResult:
    dropped = [result for result in results if isinstance(result, DroppedLetter)]
    if len(dropped) == len(results):
        raise Refused(
            f"no {options.voice} for "
            + "; nor for ".join(f"{result.letter}: {result.reason}" for result in dropped)
        )
    value = {
        "texts": [_text(options, result) for result in results if isinstance(result, Explained)],
        "dropped": [{"letter": result.letter, "reason": result.reason} for result in dropped],
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


@app.task(name=Reason.queue, base=ItemTask)
def reason(**message: Any) -> str:
    """Get the texts for the question that a message names; return the outcome as a sentence."""
    return task_runner.run(Reason.model_validate(message), service().explain)


def _start() -> None:
    # Built before the first message, so that concurrent tasks do not build it twice.
    service()


lifecycle.attach(start=_start, stopping=lambda: service().stop(), stopped=lambda: None)
