"""Fakes behind the ports: they do what they are told, and remember what they were asked.

    FakeGenerator({"题1：": [["答案是：A"] * 5]})  ->  five such votes where the problem says "题1："

Nothing here is a model: what real ones do is tested with `tiny` weights.
"""

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shared.errors import EngineDied
from shared.jobs import Sampling
from shared.prompts import Asked, Solved
from workers.ports import Completion

Reply = Sequence[str] | Exception
LAST_CASE = "### 题目"


@dataclass(frozen=True)
class Request:
    """One call of a generator."""

    prompt: str
    sampling: Sampling
    seed: int | None

    @property
    def asks(self) -> str:
        """Give the question asked: what follows the solved examples."""
        return self.prompt.rpartition(LAST_CASE)[2]


class FakeGenerator:
    """Replies by script: marks in the question asked -> one reply a call, the last one for ever.

    ``otherwise`` replies to all else. A question with the mark ``poison`` kills the engine under everything
    that is in flight. ``room`` is the longest prompt that fits, in characters. ``hold`` keeps all replies
    back until it is set.
    """

    def __init__(
        self,
        script: Mapping[str, Sequence[Reply]] | None = None,
        *,
        otherwise: Reply = ("因为如此。\n答案是：A",),
        poison: str | None = None,
        room: int = 1 << 30,
        hold: asyncio.Event | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.deaths = 0
        self._script = {mark: iter_last(replies) for mark, replies in (script or {}).items()}
        self._otherwise = otherwise
        self._poison = poison
        self._room = room
        self._hold = hold

    async def start(self) -> None:
        """Be ready."""

    async def stop(self) -> None:
        """Be gone."""

    def fits(self, prompt: str, max_tokens: int) -> bool:
        """Compare with the room there is."""
        return len(prompt) <= self._room

    async def sample(self, prompt: str, sampling: Sampling, seed: int | None) -> list[Completion]:
        """Give the next reply of the script."""
        request = Request(prompt, sampling, seed)
        self.requests.append(request)
        await self._share_the_engine(request)
        if self._hold is not None:
            await self._hold.wait()
        reply = self._reply(request)
        if isinstance(reply, Exception):
            raise reply
        return [Completion(text, len(text)) for text in reply]

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


def iter_last(replies: Sequence[Reply]) -> "itertools.chain[Reply]":
    """Go through replies once, and repeat the last."""
    return itertools.chain(replies, itertools.repeat(replies[-1]))


class FakeScorer:
    """Scores with ``judge``; ``version`` None means that no scorer is trained yet."""

    def __init__(
        self, judge: Callable[[Asked, str], float] = lambda *_: 1.0, version: str | None = "s1"
    ) -> None:
        self.version = version
        self.seen: list[tuple[Asked, str]] = []
        self._judge = judge

    def refresh(self) -> str | None:
        """Give the version."""
        return self.version

    def score(self, texts: Sequence[tuple[Asked, str]]) -> list[float]:
        """Judge each text."""
        self.seen.extend(texts)
        return [self._judge(asked, text) for asked, text in texts]


class FakeRetriever:
    """Gives the same examples for every question, or raises ``error``."""

    def __init__(self, examples: Sequence[Solved] = (), error: Exception | None = None) -> None:
        self._examples = list(examples)
        self._error = error

    def nearest(self, digest: str, asked: Sequence[Asked], count: int) -> list[list[Solved]]:
        """Give the first ``count`` examples."""
        if self._error is not None:
            raise self._error
        return [self._examples[:count] for _ in asked]


class CharacterEmbedder:
    """Embeds a text as the counts of its characters: alike is what shares characters."""

    def encode(self, texts: list[str]) -> "list[Vector]":
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
