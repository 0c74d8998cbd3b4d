"""Generate a reasoning for one letter: ask chat models until the text concludes that letter.

Explainer(gateway, options, chat_model).explain(job, asked, "B")
    ->  Explained("B", "甲最高……\\n答案是：B", "deepseek-chat", asks=2, reused=False)
"""

from collections.abc import Callable
from dataclasses import dataclass

from shared import answers, prompts, thinking
from shared.dataset import Question
from shared.errors import Refused
from shared.jobs import Job
from shared.ledger import cache, calls, engine
from shared.ledger.cache import Wanted
from shared.options import Reasoning
from shared.prompts import PromptQuestion
from workers.gateway.gateway import Gateway
from workers.ports import ChatModel, Prompt


@dataclass(frozen=True)
class Explained:
    """A reasoning that ends in the requested letter; ``reused``: it is from the cache.

    ``asks`` is the number of calls to all models together.
    """

    letter: str
    text: str
    model: str
    asks: int
    reused: bool

    def __str__(self) -> str:
        if self.reused:
            return f"{self.letter}: on record already"
        return f"{self.letter}: agreed, asked {'once' if self.asks == 1 else f'{self.asks} times'}"


@dataclass(frozen=True)
class DroppedLetter:
    """A letter that no model concluded, and the letters they concluded instead."""

    letter: str
    reason: str

    def __str__(self) -> str:
        return f"{self.letter}: dropped, {self.reason}"


def letters(question: Question, options: Reasoning) -> list[str]:
    """Choose the letters that a run wants reasonings for.

    Raises:
        Refused: the right letter is unknown, or there is no wrong one.
    """
    if question.answer is None:
        raise Refused("the question has no answer, so that no letter is known to be right or wrong")
    chosen = options.letters_of(question)
    if not chosen:
        raise Refused(f"every option has the text of {question.answer}, the right one: none is wrong")
    return sorted(chosen)


class Explainer:
    """Gets reasonings by one run's options; ``chat_model`` gives a model by provider and name."""

    def __init__(
        self, gateway: Gateway, options: Reasoning, chat_model: Callable[[str, str], ChatModel]
    ) -> None:
        self._gateway = gateway
        self._options = options
        self._chat_model = chat_model
        # At temperature 0, the same prompt gives the same reply.
        self._asks = options.asks if options.temperature > 0 else 1

    def explain(self, job: Job, asked: PromptQuestion, letter: str) -> Explained | DroppedLetter:
        """Give a letter's reasoning, from the cache or by asking one model after the other.

        Raises:
            As `Gateway.chat`, except a model's refusal: then the next model is asked.
        """
        options = self._options
        wanted = Wanted(asked, letter, options.label, options.provider, options.prompt)
        replies: dict[str, list[str]] = {}
        for model in options.models:
            replies[model] = []
            try:
                explained = self._explain_by(model, job, wanted, replies)
            except Refused as error:
                replies[model].append(f"nothing ({engine.storable(str(error))})")
                continue
            if explained is not None:
                return explained
        reasons = (
            f"{options.provider}/{model} said {', '.join(letters)}" for model, letters in replies.items()
        )
        return DroppedLetter(letter, "; ".join(reasons))

    def _explain_by(
        self, model: str, job: Job, wanted: Wanted, replies: dict[str, list[str]]
    ) -> Explained | None:
        for ask in range(1, self._asks + 1):
            step = f"{wanted.letter}:{ask}:{model}"
            cached = self._cached(job, step, wanted)
            if cached is not None:
                return Explained(wanted.letter, cached[1], cached[0], 0, reused=True)
            text, chosen = self._ask(job, step, model, wanted)
            if chosen == wanted.letter:
                asks = 1 + sum(map(len, replies.values()))
                return self._keep(wanted, Explained(wanted.letter, text, model, asks, reused=False))
            replies[model].append(chosen or "no letter")
        return None

    def _cached(self, job: Job, step: str, wanted: Wanted) -> tuple[str, str] | None:
        # A recorded reply of this item takes precedence over the cache.
        if calls.reply(job.run, job.item, step) is not None:
            return None
        cached = cache.find_reasoning(wanted, self._options.models)
        # A run with another reader may have cached it.
        if cached is None:
            return None
        model, text = cached[0], thinking.strip(cached[1])
        return (model, text) if self._letter(text, wanted) == wanted.letter else None

    def _ask(self, job: Job, step: str, model: str, wanted: Wanted) -> tuple[str, str | None]:
        options, asked = self._options, wanted.asked
        chat = self._chat_model(options.provider, model)
        prompt = Prompt(prompts.explaining(asked, wanted.letter), options.max_tokens, options.temperature)
        text = thinking.strip(self._gateway.chat(job, step, chat, prompt))
        return text, self._letter(text, wanted)

    def _letter(self, text: str, wanted: Wanted) -> str | None:
        return answers.extract(text, len(wanted.asked.options), self._options.reader)

    def _keep(self, wanted: Wanted, explained: Explained) -> Explained:
        with engine.writing() as connection:
            cache.keep_reasoning(connection, wanted, explained.model, explained.text)
        return explained
