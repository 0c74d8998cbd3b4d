"""The gateway to outside services: records every call, enforces budgets, and decides on retries.

    gateway.chat(job, "B:1:yi-34b", model, Prompt("……", 1024, 0.7))  ->  "……答案是：B"

A recorded reply is reused. A paused account is not called. If the service throttles a call, all callers slow
down and the gateway retries the call. Every other failure ends the item's round.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from shared import prompts, providers, token_bounds
from shared.errors import Held, NotServedHere, Policy, Throttled, Unavailable, VotequeueError
from shared.jobs import Job
from shared.ledger import calls, engine, token_charges
from shared.ledger.calls import CallPurpose
from shared.ledger.engine import Connection
from shared.providers import Usage
from workers import instrumentation, retries
from workers.ports import (
    ChatModel,
    Completion,
    Embedded,
    EmbeddingModel,
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
# Counts a prompt's tokens for a service, with its chat template; None: an upper bound is used.
Counter = Callable[[str], int]
BUDGET_POLL, BUDGET_PATIENCE = 0.25, 2.0  # seconds between checks of a budget, and of all checks together
THROTTLED_AT_MOST = 30  # consecutive throttlings of one call after which its item's round ends
_R = TypeVar("_R", Reply, Votes, Embedded, Translated)


@dataclass(frozen=True)
class _Call(Generic[_R]):
    """One call: its purpose, its needs, and the functions that make it and record its result."""

    purpose: CallPurpose
    service: Service
    needs: Needs
    make: Callable[[], _R]
    text: Callable[[_R], str | None]
    keep: Callable[[Connection, _R], object]


class Gateway:
    """Makes calls within limits and budget, and records each.

    ``counter`` gives a service's exact token counter, where this machine has its tokenizer.
    """

    def __init__(
        self, limiter: Limiter, counter: Callable[[Service], Counter | None] = lambda _: None
    ) -> None:
        self._limiter = limiter
        self._counter = counter

    def chat(self, job: Job, step: str, model: ChatModel, prompt: Prompt) -> str:
        """Give a chat model's reply for a step of an item; call the model only if no reply is recorded.

        Raises:
            Held, OverBudget, Interrupted: no call was made; the item is not to blame.
            Unavailable, Refused: the call failed.
        """
        recorded = calls.reply(job.run, job.item, step)
        if recorded is not None:
            return recorded
        service = model.service
        call = _Call(
            CallPurpose(job.run, job.item, step, service.provider, service.model),
            service,
            self._needs(service, prompt),
            make=lambda: _completed(model, prompt),
            text=lambda reply: reply.text,
            keep=lambda *_: None,
        )
        return self._call_with_retries(call).text

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
        return self._call_with_retries(call).completions

    def embed(self, run: str, model: EmbeddingModel, texts: Sequence[str]) -> list[list[float]]:
        """Embed some texts for a run in one call; the vectors are not recorded, since an index keeps them.

        Raises:
            As `chat` does.
        """
        service = model.service
        call = _Call(
            CallPurpose(run, None, "embed", service.provider, service.model),
            service,
            self._needs(service, Prompt("\n".join(texts), 0, 0.0)),
            make=lambda: model.embed(texts),
            text=lambda _: None,
            keep=lambda *_: None,
        )
        return self._call_with_retries(call).vectors

    def translate(
        self,
        run: str,
        translator: Translator,
        texts: Sequence[str],
        languages: tuple[str, str],
        keep: Callable[[Connection, list[str]], object],
    ) -> list[str]:
        """Translate some texts of a run in one call; ``keep`` writes them in the call's transaction.

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
            keep=lambda connection, result: keep(connection, result.texts),
        )
        return self._call_with_retries(call).texts

    def _needs(self, service: Service, prompt: Prompt, replies: int = 1) -> Needs:
        most = replies * prompt.max_tokens
        # A tokenizer takes seconds to load: load it only if a price or a limit depends on the count.
        needs_count = service.price.input or service.limits.tokens_per_minute
        count = self._counter(service) if needs_count else None
        if count is not None:
            exact = Usage(count(prompt.text), most)
            return Needs(exact, exact)
        return Needs(Usage(prompts.tokens(prompt.text), most), Usage(token_bounds.message(prompt.text), most))

    def _call_with_retries(self, call: _Call[_R]) -> _R:
        service, message = call.service, ""
        for _ in range(THROTTLED_AT_MOST):
            try:
                return self._call_once(call)
            except Throttled as error:
                message = str(error)
            except Held as error:
                if error.policy is Policy.STOP_PROVIDER:
                    _pause(service, error)
                raise
        raise Unavailable(f"{service.provider} said {THROTTLED_AT_MOST} times to slow down, last: {message}")

    def _call_once(self, call: _Call[_R]) -> _R:
        service = call.service
        refuse_paused(service)
        with self._limiter.admit(service, call.needs) as permit:
            number = self._record_start(call, permit)
            try:
                # Another caller may have paused the service during the wait.
                refuse_paused(service)
                permit.await_moment(number)
                result = call.make()
            except BaseException as error:
                self._record_failure(call, number, error)
                if isinstance(error, Throttled):
                    permit.slow_down(error.delay, engine.storable(str(error)))
                raise
            self._record_end(
                call,
                number,
                calls.OK,
                result.usage,
                lambda connection: call.keep(connection, result),
                reply=call.text(result),
                cost=providers.cost(service.price, result.usage),
            )
        permit.answered(result.usage)
        return result

    def _record_start(self, call: _Call[_R], permit: Permit) -> int:
        """Record that a call begins; wait up to `BUDGET_PATIENCE` for its budget. Give its number."""
        service, waited = call.service, 0.0
        if not service.priced and calls.spent(call.purpose.run).budget is not None:
            raise NotServedHere(
                f"run {call.purpose.run} has a budget, but this worker knows no price of {service.provider}/"
                f"{service.model}: set VOTEQUEUE_PRICES where the workers run"
            )
        while True:
            observed = token_charges.of(service.name)
            bound = observed.bound(call.needs.most)
            try:
                number = calls.begin(call.purpose, providers.cost(service.price, bound), observed.others)
            except Held:
                if waited >= BUDGET_PATIENCE:
                    raise
                permit.rest(BUDGET_POLL)
                waited += BUDGET_POLL
                continue
            if token_charges.of(service.name).bound(call.needs.most) == bound:
                return number
            # A reply has raised the bound in the meantime, but only of calls already begun: begin again.
            _finish(number, calls.NOT_MADE)

    def _record_failure(self, call: _Call[_R], number: int, error: BaseException) -> None:
        kind = type(error) if isinstance(error, VotequeueError) else VotequeueError
        used = Usage(*error.used) if isinstance(error, VotequeueError) and error.used else None
        cost = None if kind.may_be_charged else 0.0
        self._record_end(
            call,
            number,
            kind.outcome,
            used or Usage(),
            detail=engine.storable(str(error)),
            cost=cost if used is None else providers.cost(call.service.price, used),
        )

    def _record_end(
        self,
        call: _Call[_R],
        number: int,
        outcome: str,
        used: Usage,
        keep: Callable[[Connection], object] = lambda _: None,
        **columns: Any,
    ) -> None:
        """Record a call's end, and raise the cost bounds of other calls if it exceeded its own."""
        most, service, factor = call.needs.most, call.service, 1.0

        def also(connection: Connection) -> None:
            nonlocal factor
            keep(connection)
            factor = token_charges.learn(connection, service.name, most, used)

        _finish(number, outcome, usage=used, also=also, **columns)
        instrumentation.called(service.provider, service.model, outcome, used)
        if factor > 1:
            retries.written(lambda: calls.raise_under_way(service.provider, service.model, factor))
            log.warning(
                "%s used %d and %d tokens (prompt, reply), more than the bounds of %d and %d: "
                "budgets reserve more for its calls from now on",
                *(service.name, used.input_tokens, used.output_tokens, most.input_tokens, most.output_tokens),
            )


def _finish(number: int, outcome: str, **columns: Any) -> None:
    """Record a call's end, and retry until the ledger answers.

    An unrecorded reply would be paid for again. A repeated write has no effect.
    """
    retries.written(lambda: calls.finish(number, outcome, **columns))


def _pause(service: Service, error: Held) -> None:
    name = service.whole if error.whole else service.name
    until = None if error.delay is None else _moment(error.delay)
    retries.written(lambda: calls.pause(name, engine.storable(str(error)), until))


def refuse_paused(service: Service) -> None:
    """Refuse a call to a paused service.

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
    result = model.sample(prompt)
    stored = [dataclasses.replace(vote, text=engine.storable(vote.text)) for vote in result.completions]
    return Votes(stored, result.usage)


def _translated(translator: Translator, texts: Sequence[str], source: str, target: str) -> Translated:
    result = translator.translate(texts, source, target)
    return Translated([engine.storable(text) for text in result.texts], result.usage)


def _moment(delay: float) -> float:
    with engine.reading() as connection:
        return engine.now(connection) + delay
