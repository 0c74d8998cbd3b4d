"""Calls to outside services: the one place that decides whether one is made, again, or never more.

    desk.chat(job, "B:1:yi-34b", model, Prompt("……", 1024, 0.7))  ->  "……答案是：B"

What is on record is not asked again; a paused account is not called; "slow down" slows all callers down and
asks again here; every other failure ends the item's round. What is asked and why is not known here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import sqlalchemy as sa

from shared import calls, ledger, prompts, providers
from shared.calls import Errand
from shared.errors import (
    Barred,
    Exhausted,
    Held,
    NoReply,
    Refused,
    Throttled,
    Unavailable,
    Unreadable,
)
from shared.jobs import Job
from shared.providers import Usage
from workers.ports import ChatModel, Interrupted, Limiter, Prompt, Reply, Service, Translated, Translator

THROTTLED_AT_MOST = 30  # times in a row that one call is told to slow down before its item's round ends
_R = TypeVar("_R", Reply, Translated)

# How a call ended, as `report` counts it.
_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (Throttled, "throttled"),
    (NoReply, "no reply"),
    (Unreadable, "unreadable"),
    (Unavailable, "failed"),
    (Exhausted, "exhausted"),
    (Barred, "barred"),
    (Refused, "refused"),
    (Interrupted, "not made"),
    (Held, "not made"),
)
# The service may have done its work before the reply was lost or spoilt, so the estimate stands.
_PERHAPS_CHARGED = (NoReply, Unreadable)


@dataclass(frozen=True)
class _Call(Generic[_R]):
    """One call: whose it is, the most it may use, how it is made, and how its result goes on record."""

    errand: Errand
    service: Service
    most: Usage
    make: Callable[[], _R]
    text: Callable[[_R], str | None]
    keep: Callable[[sa.Connection, _R], object]


class Desk:
    """Makes calls within limits and budget, and records each."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    def chat(self, job: Job, step: str, model: ChatModel, prompt: Prompt) -> str:
        """Give a chat model's reply for a step of an item, asking only if none is on record.

        Raises:
            Held, OverBudget, Interrupted: no call was made; the item is not to blame.
            Unavailable, Refused: the call failed.
        """
        known = calls.reply(job.run, job.item, step)
        if known is not None:
            return known
        service = model.service
        call = _Call(
            Errand(job.run, job.item, step, service.provider, service.model),
            service,
            Usage(prompts.tokens(prompt.text), prompt.max_tokens),
            make=lambda: _completed(model, prompt),
            text=lambda reply: reply.text,
            keep=lambda *_: None,
        )
        return self._made(call).text

    def translate(
        self,
        run: str,
        translator: Translator,
        texts: Sequence[str],
        languages: tuple[str, str],
        keep: Callable[[sa.Connection, list[str]], object],
    ) -> list[str]:
        """Translate some texts of a run in one call; ``keep`` puts them on record with the call itself.

        Raises:
            As `chat` does.
        """
        source, target = languages
        service = translator.service
        call = _Call(
            Errand(run, None, f"{source}>{target}", service.provider, service.model),
            service,
            translator.estimate(texts),
            make=lambda: _translated(translator, texts, source, target),
            text=lambda _: None,
            keep=lambda connection, made: keep(connection, made.texts),
        )
        return self._made(call).texts

    def _made(self, call: _Call[_R]) -> _R:
        service, said = call.service, ""
        for _ in range(THROTTLED_AT_MOST):
            try:
                return self._once(call)
            except Throttled as error:
                said = str(error)
            except Exhausted as error:
                until = None if error.delay is None else _moment(error.delay)
                calls.pause(service.name, ledger.storable(str(error)), until)
                raise
            except Barred as error:
                calls.pause(service.whole if error.whole else service.name, ledger.storable(str(error)), None)
                raise
        raise Unavailable(f"{service.provider} said {THROTTLED_AT_MOST} times to slow down, last: {said}")

    def _once(self, call: _Call[_R]) -> _R:
        service = call.service
        refuse_paused(service)
        estimate = providers.cost(service.price, call.most)
        with self._limiter.admit(service, call.most.tokens) as turn:
            number = calls.begin(call.errand, estimate)
            try:
                # Somebody else's call may have ended it for all of us while we waited.
                refuse_paused(service)
                turn.await_moment()
                made = call.make()
            except BaseException as error:
                charged = estimate if isinstance(error, _PERHAPS_CHARGED) else 0.0
                calls.finish(number, _outcome(error), detail=ledger.storable(str(error)), cost=charged)
                if isinstance(error, Throttled):
                    turn.slow_down(error.delay)
                raise
            calls.finish(
                number,
                calls.OK,
                reply=call.text(made),
                usage=made.usage,
                cost=providers.cost(service.price, made.usage),
                also=lambda connection: call.keep(connection, made),
            )
        turn.answered(made.usage.tokens)
        return made


def refuse_paused(service: Service) -> None:
    """Make no call to a paused service.

    Raises:
        Held: it is paused; the message says why.
    """
    pause = calls.paused([service.name, service.whole])
    if pause is not None:
        raise Held(pause.reason, None if pause.until is None else max(1.0, pause.until - _moment(0.0)))


def _completed(model: ChatModel, prompt: Prompt) -> Reply:
    reply = model.complete(prompt)
    return Reply(ledger.storable(reply.text), reply.usage)


def _translated(translator: Translator, texts: Sequence[str], source: str, target: str) -> Translated:
    made = translator.translate(texts, source, target)
    return Translated([ledger.storable(text) for text in made.texts], made.usage)


def _moment(delay: float) -> float:
    with ledger.reading() as connection:
        return ledger.now(connection) + delay


def _outcome(error: BaseException) -> str:
    return next((word for kind, word in _OUTCOMES if isinstance(error, kind)), "error")
