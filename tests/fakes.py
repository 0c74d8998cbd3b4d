"""Fakes behind the ports: they do what they are told, and remember what they were asked.

    FakeGenerator({"题1：": [["答案是：A"] * 5]})  ->  five such votes where the problem says "题1："

Nothing here is a model: what real ones do is tested with `tiny` weights.
"""

import asyncio
import contextlib
import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from shared import prompts, thinking
from shared.errors import EngineDied, Refused
from shared.jobs import Job
from shared.ledger.models import GeneratorIdentity
from shared.options import Sampling
from shared.prompts import FewShotExample, ModelInput, PromptQuestion
from shared.providers import Limits, Price, Usage
from shared.training_examples import Text
from workers.ports import (
    WHOLE_ROUND,
    Completion,
    LetterQuestion,
    Needs,
    Permit,
    Progress,
    Prompt,
    Service,
    Step,
    Translated,
)
from workers.ports import Reply as ChatReply

Reply = Sequence[str] | Exception
# What a chat model says: a text, a failure, or (a function) whatever the moment gives.
Said = str | Exception | Callable[[Prompt], str]
_T = TypeVar("_T")
LAST_CASE = "### 题目"
GENERATOR = GeneratorIdentity("fake", "0", "script")


@dataclass(frozen=True)
class Request:
    """One call of a generator."""

    prompt: ModelInput
    sampling: Sampling
    seed: int | None
    adapter: str | None = None
    step: Step = WHOLE_ROUND

    @property
    def asks(self) -> str:
        """Give the question asked: what follows the solved examples."""
        return prompts.plain_text(self.prompt).rpartition(LAST_CASE)[2]


class EnginelessGenerator:
    """What all generators without an engine have in common: they take every prompt, and choose no letters."""

    chats = False

    async def start(self) -> None:
        """Be ready."""

    async def stop(self) -> None:
        """Be gone."""

    def count_tokens(self, prompt: ModelInput, sampling: Sampling) -> int:
        """Count characters."""
        return len(prompts.plain_text(prompt))

    async def choose(
        self,
        prompt: ModelInput,
        votes: Sequence[Completion],
        question: LetterQuestion,
        sampling: Sampling,
        adapter: str | None = None,
        job: Job | None = None,
    ) -> list[str | None]:
        """Give none."""
        return [None for _ in votes]

    def fits(self, prompt_tokens: int, max_tokens: int) -> bool:
        """Take every prompt."""
        return True


class FakeGenerator(EnginelessGenerator):
    """Replies by script: marks in the question asked -> one reply a call, the last one for ever.

    ``otherwise`` replies to all else. A question with the mark ``poison`` kills the engine under everything
    that is in flight. ``room`` is the longest prompt that fits, in characters. ``hold`` keeps all replies
    back until it is set. ``letters`` are the replies to requests for a letter, in order.
    """

    def __init__(
        self,
        script: Mapping[str, Sequence[Reply]] | None = None,
        *,
        otherwise: Reply = ("因为如此。\n答案是：A",),
        poison: str | None = None,
        room: int = 1 << 30,
        hold: asyncio.Event | None = None,
        chats: bool = False,
        letters: Sequence[str | None] = (),
    ) -> None:
        self.chats = chats
        self.asked_letters: list[tuple[list[str], LetterQuestion]] = []
        self._letters = iter(letters)
        self.requests: list[Request] = []
        self.deaths = 0
        self._script = {mark: iter_last(replies) for mark, replies in (script or {}).items()}
        self._otherwise = otherwise
        self._poison = poison
        self._room = room
        self._hold = hold

    @property
    def identity(self) -> GeneratorIdentity:
        """Have a name."""
        return GENERATOR

    async def choose(
        self,
        prompt: ModelInput,
        votes: Sequence[Completion],
        question: LetterQuestion,
        sampling: Sampling,
        adapter: str | None = None,
        job: Job | None = None,
    ) -> list[str | None]:
        """Give the next letters of the script."""
        self.asked_letters.append(([vote.text for vote in votes], question))
        return [next(self._letters) for _ in votes]

    def fits(self, prompt_tokens: int, max_tokens: int) -> bool:
        """Compare with the room there is."""
        return prompt_tokens <= self._room

    async def sample(
        self,
        prompt: ModelInput,
        sampling: Sampling,
        seed: int | None,
        adapter: str | None = None,
        progress: Progress | None = None,
        job: Job | None = None,
        step: Step = WHOLE_ROUND,
    ) -> list[Completion]:
        """Give the next reply of the script."""
        request = Request(prompt, sampling, seed, adapter, step)
        self.requests.append(request)
        await self._share_the_engine(request)
        if self._hold is not None:
            await self._hold.wait()
        reply = self._reply(request)
        if isinstance(reply, Exception):
            raise reply
        if progress is not None:
            for vote, text in enumerate(reply[: sampling.votes]):
                progress.count(vote, len(text), finished=True)
        return [_completion(text) for text in reply]

    async def _share_the_engine(self, request: Request) -> None:
        alive = self.deaths
        # One turn of the loop for all of a batch to be under way, one more for a death among them to show.
        await asyncio.sleep(0)
        if self._poison is not None and self._poison in request.asks:
            self.deaths += 1
        await asyncio.sleep(0)
        if self.deaths != alive:
            raise EngineDied("the engine's process died")

    def _reply(self, request: Request) -> Reply:
        for mark, replies in self._script.items():
            if mark in request.asks:
                return next(replies)
        return self._otherwise


def _completion(text: str) -> Completion:
    thoughts, answer = thinking.split(text)
    return Completion(answer if thoughts else text, len(text), "stop", -0.25, thoughts or None)


def iter_last(replies: Sequence[_T]) -> "itertools.chain[_T]":
    """Go through replies once, and repeat the last."""
    return itertools.chain(replies, itertools.repeat(replies[-1]))


class FakeScorer:
    """Scores with ``judge``, whichever scorer is named; remembers the names and what it saw."""

    def __init__(self, judge: Callable[[PromptQuestion, str], float] = lambda *_: 1.0) -> None:
        self.names: list[str] = []
        self.seen: list[tuple[PromptQuestion, str]] = []
        self._judge = judge

    def score(
        self, name: str, questions: Sequence[tuple[PromptQuestion, Sequence[Text]]]
    ) -> list[list[float]]:
        """Judge each vote of each question."""
        self.names.append(name)
        self.seen.extend((asked, vote.text) for asked, votes in questions for vote in votes)
        return [[self._judge(asked, vote.text) for vote in votes] for asked, votes in questions]


class FakeRetriever:
    """Gives the same examples for every question, or raises ``error``."""

    def __init__(self, examples: Sequence[FewShotExample] = (), error: Exception | None = None) -> None:
        self._examples = list(examples)
        self._error = error

    def nearest(
        self,
        digest: str,
        asked: Sequence[PromptQuestion],
        count: int,
        same_problem: bool,
        run: str | None = None,
    ) -> list[list[FewShotExample]]:
        """Give the first ``count`` examples."""
        if self._error is not None:
            raise self._error
        return [self._examples[:count] for _ in asked]


class CharacterEmbedder:
    """Embeds a text as the counts of its characters: alike is what shares characters."""

    def encode(self, texts: list[str], run: str | None = None) -> "list[Vector]":
        """Embed texts."""
        return [Vector(_unit(text)) for text in texts]


class Vector(list[float]):
    """A vector with the one method of numpy's arrays that is used."""

    def tolist(self) -> list[float]:
        """Give a plain list."""
        return list(self)


def _unit(text: str, size: int = 256) -> list[float]:
    counts = Counter(ord(character) % size for character in text if not character.isspace())
    length = math.sqrt(sum(count * count for count in counts.values())) or 1.0
    return [counts[place] / length for place in range(size)]


# Outside services

USED = Usage(input_tokens=100, output_tokens=50)
FREE, UNLIMITED = Price(), Limits()


def service(
    provider: str = "chat", model: str = "m", *, price: Price = FREE, limits: Limits = UNLIMITED
) -> Service:
    """Make a service of an account that all fakes share."""
    return Service(provider, model, "0a1b2c3d", limits, price)


class FakeChat:
    """Replies by script: marks in the prompt -> what is said at each call, the last for ever.

    ``otherwise`` is said to all else. Every call, a failed one too, is in ``prompts``. A mark may be any part
    of the prompt: a word of the problem, or the letter that is to be explained.
    """

    def __init__(
        self,
        script: Mapping[str, Sequence[Said]] | None = None,
        otherwise: Said = "因为如此。\n答案是：A",
        *,
        service: Service = service(),  # noqa: B008  (frozen)
        usage: Usage = USED,
    ) -> None:
        self.service = service
        self.prompts: list[Prompt] = []
        self._script = {mark: iter_last(said) for mark, said in (script or {}).items()}
        self._otherwise = otherwise
        self._usage = usage
        self._lock = threading.Lock()

    @property
    def asked(self) -> list[str]:
        """Give the texts of all prompts so far."""
        return [prompt.text for prompt in self.prompts]

    def complete(self, prompt: Prompt) -> ChatReply:
        """Say what comes next in the script."""
        with self._lock:
            self.prompts.append(prompt)
            said = self._next(prompt.text)
        if isinstance(said, Exception):
            raise said
        return ChatReply(said if isinstance(said, str) else said(prompt), self._usage)

    def _next(self, text: str) -> Said:
        for mark, replies in self._script.items():
            if mark in text:
                return next(replies)
        return self._otherwise


@dataclass(frozen=True)
class Translating:
    """One call of a translator."""

    texts: list[str]
    source: str
    target: str


class FakeTranslator:
    """Translates with ``translate(text, source, target)``.

    ``script`` is what befalls the first calls: an error, or ``None`` for none. Every call, a failed one too,
    is in ``calls``. What is over the limits of one call is refused, as the real ones do.
    """

    def __init__(
        self,
        translate: Callable[[str, str, str], str] = lambda text, *_: text,
        script: Sequence[Exception | None] = (),
        limits: Limits = UNLIMITED,
        *,
        provider: str = "tencent",
        model: str = "TextTranslateBatch",
        price: Price = FREE,
    ) -> None:
        self.service = service(provider, model, price=price, limits=limits)
        self.calls: list[Translating] = []
        self._translate = translate
        self._script = iter(script)
        self._lock = threading.Lock()

    def estimate(self, texts: Sequence[str]) -> Needs:
        """Count characters, which is what such a service charges."""
        exact = Usage(characters=sum(len(text) for text in texts))
        return Needs(exact, exact)

    def translate(self, texts: Sequence[str], source: str, target: str) -> Translated:
        """Translate each text, unless the script has it otherwise."""
        with self._lock:
            self.calls.append(Translating(list(texts), source, target))
            error = next(self._script, None)
        if error is not None:
            raise error
        used, limits = self.estimate(texts).most, self.service.limits
        if used.characters > (limits.characters or used.characters) or len(texts) > (
            limits.texts or len(texts)
        ):
            raise Refused("the request is too long")
        return Translated([self._translate(text, source, target) for text in texts], used)


class FakeLimiter:
    """Lets everybody through, and counts.

    ``script`` is what befalls the first who ask to be admitted: an error, or ``None`` for none. ``waiting``
    and ``moment`` are called where the real one waits for a place, and for the moment of the call.
    """

    def __init__(
        self,
        script: Sequence[Exception | None] = (),
        *,
        waiting: Callable[[], object] = lambda: None,
        moment: Callable[[], object] = lambda: None,
    ) -> None:
        self.admits: list[tuple[str, Needs]] = []
        self.slow_downs: list[tuple[str, float | None]] = []
        self.corrections: list[tuple[str, Usage]] = []
        self.inside = 0
        self._script = iter(script)
        self._waiting = waiting
        self._moment = moment
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def admit(self, service: Service, needs: Needs) -> Iterator[Permit]:
        """Admit, and see them out."""
        with self._lock:
            self.admits.append((service.name, needs))
            error = next(self._script, None)
            if error is not None:
                raise error
        self._waiting()
        with self._lock:
            self.inside += 1
        try:
            yield _FakeTurn(self, service, self._moment)
        finally:
            with self._lock:
                self.inside -= 1


class _FakeTurn:
    """A turn whose moment is now."""

    def __init__(self, limiter: FakeLimiter, service: Service, moment: Callable[[], object]) -> None:
        self._limiter, self._name, self._moment = limiter, service.name, moment

    def rest(self, seconds: float) -> None:
        """Give others a moment."""
        time.sleep(0.001)

    def await_moment(self, call: int | None = None) -> None:
        """Let the moment come."""
        self._moment()

    def answered(self, used: Usage) -> None:
        """Note it: lists take additions from any thread."""
        self._limiter.corrections.append((self._name, used))

    def slow_down(self, delay: float | None, message: str) -> None:
        """Note it."""
        self._limiter.slow_downs.append((self._name, delay))
