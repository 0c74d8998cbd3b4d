"""The gateway to outside services: records every call, keeps budgets, and decides what is called again.

    gateway.chat(job, "B:1:yi-34b", model, Prompt("……", 1024, 0.7))  ->  "……答案是：B"

What is on record is not asked again; a paused account is not called; "slow down" slows all callers down and
asks again here; every other failure ends the item's round.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from shared import prompts, providers, token_bounds
from shared.errors import Held, Policy, Throttled, Unavailable, VotequeueError
from shared.jobs import Job
from shared.ledger import calls, engine, token_charges
from shared.ledger.calls import CallPurpose
from shared.ledger.engine import Connection
from shared.providers import Usage
from workers import retries
from workers.ports import (
    ChatModel,
    Completion,
    Limiter,
    Needs,
    Permit,
    Prompt,
    Reply,
    Sampler,
    Service,
    Translated,
    Translator,
    Votes,
    VotesPrompt,
)

log = logging.getLogger(__name__)
# How a prompt's tokens are counted for a service, its chat template included; None: they are bounded.
Counter = Callable[[str], int]
BUDGET_POLL, BUDGET_PATIENCE = 0.25, 2.0  # seconds between looks whether a budget has room, and of all looks
THROTTLED_AT_MOST = 30  # times in a row that one call is told to slow down before its item's round ends
_R = TypeVar("_R", Reply, Votes, Translated)


@dataclass(frozen=True)
class _Call(Generic[_R]):
    """One call: whose it is, what it may use, how it is made, and how its result goes on record."""

    purpose: CallPurpose
    service: Service
    needs: Needs
    make: Callable[[], _R]
    text: Callable[[_R], str | None]
    keep: Callable[[Connection, _R], object]


class Gateway:
    """Makes calls within limits and budget, and records each.

    ``counter`` gives what counts a service's prompts exactly, where this machine has its tokenizer.
    """

    def __init__(
        self, limiter: Limiter, counter: Callable[[Service], Counter | None] = lambda _: None
    ) -> None:
        self._limiter = limiter
        self._counter = counter

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
            CallPurpose(job.run, job.item, step, service.provider, service.model),
            service,
            self._needs(service, prompt),
            make=lambda: _completed(model, prompt),
            text=lambda reply: reply.text,
            keep=lambda *_: None,
        )
        return self._made(call).text

    def sample(self, job: Job, step: str, model: Sampler, prompt: VotesPrompt) -> list[Completion]:
        """Give the votes of one request for an item, sent only if its step has no reply on record.

        Raises:
            As `chat` does.
        """
        known = calls.reply(job.run, job.item, step)
        if known is not None:
            return [Completion(**vote) for vote in json.loads(known)]
        service = model.service
        call = _Call(
            CallPurpose(job.run, job.item, step, service.provider, service.model),
            service,
            self._needs(service, prompt, prompt.votes),
            make=lambda: _sampled(model, prompt),
            text=lambda votes: json.dumps(
                list(map(dataclasses.asdict, votes.completions)), ensure_ascii=False
            ),
            keep=lambda *_: None,
        )
        return self._made(call).completions

    def translate(
        self,
        run: str,
        translator: Translator,
        texts: Sequence[str],
        languages: tuple[str, str],
        keep: Callable[[Connection, list[str]], object],
    ) -> list[str]:
        """Translate some texts of a run in one call; ``keep`` puts them on record with the call itself.

        Raises:
            As `chat` does.
        """
        source, target = languages
        service = translator.service
        call = _Call(
            CallPurpose(run, None, f"{source}>{target}", service.provider, service.model),
            service,
            translator.estimate(texts),
            make=lambda: _translated(translator, texts, source, target),
            text=lambda _: None,
            keep=lambda connection, made: keep(connection, made.texts),
        )
        return self._made(call).texts

    def _needs(self, service: Service, prompt: Prompt, replies: int = 1) -> Needs:
        most = replies * prompt.max_tokens
        # A tokenizer takes seconds to load: not where nothing depends on it.
        counted = service.price.input or service.limits.tokens_per_minute
        count = self._counter(service) if counted else None
        if count is not None:
            exact = Usage(count(prompt.text), most)
            return Needs(exact, exact)
        return Needs(Usage(prompts.tokens(prompt.text), most), Usage(token_bounds.message(prompt.text), most))

    def _made(self, call: _Call[_R]) -> _R:
        service, said = call.service, ""
        for _ in range(THROTTLED_AT_MOST):
            try:
                return self._once(call)
            except Throttled as error:
                said = str(error)
            except Held as error:
                if error.policy is Policy.STOP_PROVIDER:
                    _pause(service, error)
                raise
        raise Unavailable(f"{service.provider} said {THROTTLED_AT_MOST} times to slow down, last: {said}")

    def _once(self, call: _Call[_R]) -> _R:
        service = call.service
        refuse_paused(service)
        with self._limiter.admit(service, call.needs) as turn:
            number = self._begun(call, turn)
            try:
                # Somebody else's call may have ended it for all of us while we waited.
                refuse_paused(service)
                turn.await_moment(number)
                made = call.make()
            except BaseException as error:
                self._failed(call, number, error)
                if isinstance(error, Throttled):
                    turn.slow_down(error.delay, engine.storable(str(error)))
                raise
            self._ended(
                call,
                number,
                calls.OK,
                made.usage,
                lambda connection: call.keep(connection, made),
                reply=call.text(made),
                cost=providers.cost(service.price, made.usage),
            )
        turn.answered(made.usage)
        return made

    def _begun(self, call: _Call[_R], turn: Permit) -> int:
        """Begin a call, waiting a moment for its budget; give its number."""
        service, waited = call.service, 0.0
        while True:
            seen = token_charges.of(service.name)
            bound = seen.bound(call.needs.most)
            try:
                number = calls.begin(call.purpose, providers.cost(service.price, bound), seen.others)
            except Held:
                if waited >= BUDGET_PATIENCE:
                    raise
                turn.rest(BUDGET_POLL)
                waited += BUDGET_POLL
                continue
            if token_charges.of(service.name).bound(call.needs.most) == bound:
                return number
            # Meanwhile a reply has shown that it may cost more, and raised only the calls that had begun.
            _finish(number, calls.NOT_MADE)

    def _failed(self, call: _Call[_R], number: int, error: BaseException) -> None:
        kind = type(error) if isinstance(error, VotequeueError) else VotequeueError
        used = Usage(*error.used) if isinstance(error, VotequeueError) and error.used else None
        cost = None if kind.may_be_charged else 0.0
        self._ended(
            call,
            number,
            kind.outcome,
            used or Usage(),
            detail=engine.storable(str(error)),
            cost=cost if used is None else providers.cost(call.service.price, used),
        )

    def _ended(
        self,
        call: _Call[_R],
        number: int,
        outcome: str,
        used: Usage,
        keep: Callable[[Connection], object] = lambda _: None,
        **ended: Any,
    ) -> None:
        """Record how a call ended, and what that shows of what others may cost."""
        most, service, factor = call.needs.most, call.service, 1.0

        def also(connection: Connection) -> None:
            nonlocal factor
            keep(connection)
            factor = token_charges.learn(connection, service.name, most, used)

        _finish(number, outcome, usage=used, also=also, **ended)
        if factor > 1:
            retries.written(lambda: calls.raise_under_way(service.provider, service.model, factor))
            log.warning(
                "%s used %d and %d tokens (prompt, reply) where %d and %d were the most expected: "
                "its calls count as more against budgets from now on",
                *(service.name, used.input_tokens, used.output_tokens, most.input_tokens, most.output_tokens),
            )


def _finish(number: int, outcome: str, **ended: Any) -> None:
    """Record how a call ended, however long the ledger does not answer.

    Given up, a reply that was paid for would be bought again. Recorded twice, it is the same as once.
    """
    retries.written(lambda: calls.finish(number, outcome, **ended))


def _pause(service: Service, error: Held) -> None:
    name = service.whole if error.whole else service.name
    until = None if error.delay is None else _moment(error.delay)
    retries.written(lambda: calls.pause(name, engine.storable(str(error)), until))


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
    return Reply(engine.storable(reply.text), reply.usage)


def _sampled(model: Sampler, prompt: VotesPrompt) -> Votes:
    made = model.sample(prompt)
    stored = [dataclasses.replace(vote, text=engine.storable(vote.text)) for vote in made.completions]
    return Votes(stored, made.usage)


def _translated(translator: Translator, texts: Sequence[str], source: str, target: str) -> Translated:
    made = translator.translate(texts, source, target)
    return Translated([engine.storable(text) for text in made.texts], made.usage)


def _moment(delay: float) -> float:
    with engine.reading() as connection:
        return engine.now(connection) + delay
