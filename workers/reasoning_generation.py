"""Generate a reasoning for one letter: ask chat models until the text concludes that letter.

Explainer(gateway, options, chat_model, None).explain(job, asked, "B")
    ->  Explained("B", "甲最高……\\n答案是：B", "deepseek-chat", asks=2, reused=False)

A program is asked for without the letter, and executed: its output must be read as that letter.
"""

from collections.abc import Callable
from dataclasses import dataclass

from shared import thinking
from shared.dataset import Question
from shared.errors import Refused
from shared.jobs import Job
from shared.ledger import cache, calls, engine, prompt_store
from shared.ledger.cache import Wanted
from shared.options import Reasoning
from shared.prompts import PromptQuestion
from shared.voices import VOICES, Reading
from workers.gateway.gateway import Gateway
from workers.ports import ChatModel, Executor, Prompt
from workers.program_replies import is_constant, program_in


@dataclass(frozen=True)
class Explained:
    """A reasoning or program that ends in the requested letter; ``reused``: it is from the cache.

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
    """Gets the texts of one run's options; ``chat_model`` gives a model by provider and name.

    ``executor`` runs them, if they are programs.
    """

    def __init__(
        self,
        gateway: Gateway,
        options: Reasoning,
        chat_model: Callable[[str, str], ChatModel],
        executor: Executor | None,
    ) -> None:
        self._gateway = gateway
        self._options = options
        self._chat_model = chat_model
        self._executor = executor
        # At temperature 0, the same prompt gives the same reply.
        self._asks = options.asks if options.temperature > 0 else 1

    def explain(self, job: Job, asked: PromptQuestion, letter: str) -> Explained | DroppedLetter:
        """Give a letter's text, from the cache or by asking one model after the other.

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
            text = self._ask(job, step, model, wanted)
            chosen, outcome = self._read(text, wanted)
            if chosen == wanted.letter:
                asks = 1 + sum(map(len, replies.values()))
                return self._keep(wanted, Explained(wanted.letter, text, model, asks, reused=False))
            replies[model].append(chosen or outcome or "no letter")
        return None

    def _cached(self, job: Job, step: str, wanted: Wanted) -> tuple[str, str] | None:
        # A recorded reply of this item takes precedence over the cache.
        if calls.reply(job.run, job.item, step) is not None:
            return None
        cached = cache.find_reasoning(wanted, self._options.models)
        # A run with another reader may have cached it.
        if cached is None:
            return None
        model, text = cached[0], self._text(cached[1])
        return (model, text) if self._read(text, wanted)[0] == wanted.letter else None

    def _ask(self, job: Job, step: str, model: str, wanted: Wanted) -> str:
        options = self._options
        chat = self._chat_model(options.provider, model)
        asking = prompt_store.generating(options.prompt, wanted.asked, wanted.letter)
        prompt = Prompt(asking, options.max_tokens, options.temperature)
        return self._text(self._gateway.chat(job, step, chat, prompt))

    def _text(self, reply: str) -> str:
        """Give a reply without its thinking; of a program, the program alone."""
        text = thinking.strip(reply)
        return program_in(text) if self._executor else text

    def _read(self, text: str, wanted: Wanted) -> Reading:
        execution = self._executor.run(text) if self._executor else None
        options, reader = wanted.asked.options, self._options.reader
        letter, outcome = VOICES[self._options.voice].read(text, execution, options, reader)
        # A letter that is only printed is a guess, which is right now and then.
        return (None, "constant") if execution and letter and is_constant(text) else (letter, outcome)

    def _keep(self, wanted: Wanted, explained: Explained) -> Explained:
        with engine.writing() as connection:
            cache.keep_reasoning(connection, wanted, explained.model, explained.text)
        return explained
