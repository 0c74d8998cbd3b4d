"""Describe an `infer` run before it is recorded: questions, tokens, and what workers would refuse.

    forecast(prepared)  ->  Forecast(run="test-9f3c01ab", questions=1328, prompt_tokens=1211136, ...)

Tokens are estimated from the texts' lengths (`prompts.tokens`), because producers have no tokenizer.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from producers import console
from producers.enqueue import estimate, publish
from producers.enqueue.publish import Prepared
from shared import prompts, providers, settings
from shared.dataset import key
from shared.ledger import runs
from shared.options import Sampling
from shared.prompts import FewShotExample, PromptQuestion
from shared.providers import Usage

_EXAMPLES_READ = 1000  # examples whose mean length is taken
_LISTED = 20  # keys of long questions


@dataclass(frozen=True)
class Forecast:
    """What a run would do in its first round; ``continued``: it exists already.

    ``examples`` are the few-shot examples to choose from. ``prompt_tokens`` is an estimate, ``vote_tokens``
    a maximum; a run has at most ``rounds`` rounds. ``votes`` is the mean per question and round, or of the
    whole run if it has a vote budget. ``too_long`` questions may not fit into
    VOTEQUEUE_MAX_MODEL_LEN even without examples; workers refuse those that do not. ``bad`` lines are
    skipped. ``cost`` is that of the first round; ``None``: no provider is called, or its model has no price.
    It lacks the texts that ``embedding``, a provider's model, embeds to find examples.
    """

    run: str
    continued: bool
    entries: int
    questions: int
    bad: int
    examples: int
    votes: float
    rounds: int
    prompt_tokens: int
    vote_tokens: int
    too_long: int = 0
    long_keys: list[str] = field(default_factory=list)
    cost: float | None = None
    currency: str | None = None
    unpriced: str | None = None
    embedding: str | None = None


def forecast(prepared: Prepared, budget: float | None = None) -> Forecast:
    """Estimate a run; nothing is written or sent.

    Raises:
        UserError: as `publish.place` would, of the run's name and of its budget.
    """
    run, source = prepared.run, prepared.source
    publish.check_services(run, budget)
    continued, sampling = publish.exists(run), Sampling.of_record(run.options)
    count, shown = _shown_tokens(prepared, sampling)
    votes_of = sampling.votes_by_voice
    longest = sampling.max_tokens + (sampling.max_thinking or 0)
    room = settings.load().max_model_len - longest
    tokens, long = 0, []
    for name, asked in _questions(prepared):
        # Workers drop examples until a prompt fits.
        own = {voice: prompts.tokens(prepared.prompts[voice].completion(asked)) for voice in votes_of}
        # Votes that see different prompts do not share one.
        times = {voice: 1 if sampling.vary == "none" else count for voice, count in votes_of.items()}
        tokens += sum(times[voice] * max(size, min(size + shown[voice], room)) for voice, size in own.items())
        if max(own.values()) > room:
            long.append(name)
    mean = sampling.vote_budget or sampling.votes
    votes = math.ceil(source.questions * mean) * longest
    return Forecast(
        **_cost(run.services, sampling, Usage(tokens, votes)),
        run=run.name,
        continued=continued,
        entries=source.entries,
        questions=source.questions,
        bad=source.bad,
        examples=count,
        votes=mean,
        rounds=sampling.max_attempts,
        prompt_tokens=tokens,
        vote_tokens=votes,
        too_long=len(long),
        long_keys=long[:_LISTED],
    )


def _cost(services: list[tuple[str, str]], sampling: Sampling, used: Usage) -> dict[str, Any]:
    """Return the cost of a round whose requests each bring all votes of a question."""
    loaded, provider, model = settings.load(), sampling.provider, str(sampling.model)
    embedding = providers.embedding_service(sampling.retriever)
    known: dict[str, Any] = {
        "unpriced": ", ".join(estimate.unpriced(services)) or None,
        "embedding": "/".join(embedding) if embedding in services else None,
    }
    if provider is None or not estimate.has_price(provider, model):
        return known
    price = providers.price(provider, model, loaded.prices)
    return known | {"cost": providers.cost(price, used), "currency": loaded.currency}


def _questions(prepared: Prepared) -> Iterator[tuple[str, PromptQuestion]]:
    for line in prepared.source.lines():
        for index in range(len(line.entry.questions)):
            name = key(line.entry.id, index)
            if prepared.keys is None or name in prepared.keys:
                yield name, runs.asked(line.entry, index)


def _shown_tokens(prepared: Prepared, sampling: Sampling) -> tuple[int, dict[str, int]]:
    """Return the number of solved examples, and the mean tokens of those in a prompt of each voice."""
    solved: Iterable[FewShotExample] = prepared.few_shot.read()
    count = prepared.few_shot.count
    if not count and prepared.run.examples is not None:
        solved = runs.load_examples(prepared.run.examples)
        count = len(solved)
    some, shown = list(itertools.islice(solved, _EXAMPLES_READ)), {}
    for voice in sampling.votes_by_voice:
        prompt = prepared.prompts[voice]
        sizes = [
            prompts.tokens(prompt.case(example.asked) + prompt.solution(example))
            for example in some
            if prompt.shows(example)
        ]
        shown[voice] = round(min(count, sampling.num_examples) * sum(sizes) / len(sizes)) if sizes else 0
    return count, shown


def summary(forecast: Forecast) -> str:
    """Summarize a forecast in one line."""
    would = "would be continued" if forecast.continued else "would be enqueued"
    questions = console.count(forecast.questions, "question")
    return f"run {forecast.run} {would}: {questions}; nothing was written or sent"


def rows(forecast: Forecast) -> list[tuple[str, str, str]]:
    """Return the tokens of a round as table rows: quantity, of one question, of all."""
    votes = "1 vote" if forecast.votes == 1 else f"{forecast.votes:g} votes"
    amounts = [
        ("prompt tokens (estimate)", forecast.prompt_tokens),
        (f"tokens of {votes} (at most)", forecast.vote_tokens),
    ]
    table = [(name, f"{count / forecast.questions:,.0f}", f"{count:,}") for name, count in amounts]
    if forecast.cost is not None:
        costs = (estimate.digits(forecast.cost / forecast.questions), estimate.digits(forecast.cost))
        table.append((f"cost in {forecast.currency} (estimate)", *costs))
    return table


def remarks(forecast: Forecast) -> Iterator[str]:
    """List what the estimate does not show: rounds, examples, refusals."""
    examples = console.count(forecast.examples, "few-shot example")
    yield f"at most {console.count(forecast.rounds, 'round')}; {examples} to choose from"
    if forecast.cost:
        yield "the cost is more if the server gives one vote per request: each request contains the prompt"
    if forecast.embedding:
        yield f"what the embeddings of {forecast.embedding} cost is not estimated"
    if forecast.unpriced:
        yield f"no price is set for {forecast.unpriced}: VOTEQUEUE_PRICES"
    if forecast.bad:
        yield f"bad lines, skipped: {forecast.bad}"
    if forecast.too_long:
        more = forecast.too_long - len(forecast.long_keys)
        names = ", ".join(forecast.long_keys) + (f" and {more} more" if more else "")
        yield (
            f"may be refused: {console.count(forecast.too_long, 'question')} ({names}), which may not fit "
            "VOTEQUEUE_MAX_MODEL_LEN: raise it on the workers, or lower --max-tokens"
        )
