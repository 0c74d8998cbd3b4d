"""Sample votes with a vLLM engine: prompts, chat templates, thinking and letters.

await VllmGenerator(engine).sample("...### 推理\\n", sampling, seed=7)
    ->  [Completion("甲……\\n答案是：A", 31, "stop"), ...]
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared import thinking
from shared.jobs import Job
from shared.ledger import prompt_store
from shared.ledger.models import GeneratorIdentity
from shared.options import Sampling, template_arguments
from shared.prompts import ModelInput
from workers.models.vllm_engine import Ask, RawVote, VllmEngine
from workers.ports import WHOLE_ROUND, Completion, LetterQuestion, Progress, Step

_THINK = "<think>"  # opens the thinking of most models
REPORT_EVERY = 16  # tokens of a vote between two progress reports


class VllmGenerator:
    """A generator on one vLLM engine."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine

    async def start(self) -> None:
        """Load the model. Raises as `VllmEngine.start` does."""
        await self._engine.start()

    async def stop(self) -> None:
        """Stop the engine and its processes."""
        await self._engine.stop()

    @property
    def identity(self) -> GeneratorIdentity:
        """Give the weights and engine; available once the generator has started."""
        return self._engine.identity

    @property
    def chats(self) -> bool:
        """Tell whether the model has a chat template and is no base model."""
        return self._engine.template.fits_weights

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
        """Sample ``sampling.votes`` texts, all in one request; cancelling this aborts the request."""
        rendered = self._rendered(prompt, sampling)

        async def votes(ask: Ask) -> list[Completion]:
            limit = sampling.max_thinking or sampling.max_tokens
            stop = list(prompt_store.stops(sampling)) if isinstance(prompt, str) else []
            # vLLM adds to it a vote's place in the request.
            own = None if seed is None else (seed + step.first) % (1 << 32)
            parameters = sampling_params(sampling, limit, self._engine.usable_seed(own), stop)
            sampled = await ask(self._source(rendered), parameters, progress)
            whole = (self._finish(ask, rendered, vote, sampling, parameters) for vote in sampled)
            return [_completion(vote, rendered) for vote in await asyncio.gather(*whole)]

        return await self._engine.asking(adapter, votes)

    async def choose(
        self,
        prompt: ModelInput,
        votes: Sequence[Completion],
        question: LetterQuestion,
        sampling: Sampling,
        adapter: str | None = None,
        job: Job | None = None,
    ) -> list[str | None]:
        """Let the model continue each vote with the most likely of the letters."""
        rendered = self._rendered(prompt, sampling)
        opening = f"\n{question.opening.rstrip()}"
        letters = {self._letter_id(question, letter): letter for letter in question.letters}
        parameters = _letter_params(list(letters))

        async def chosen(ask: Ask) -> list[str | None]:
            before, tail = self._ids(rendered), self._encode(opening)
            room = self._engine.options.max_model_len - len(tail) - 1  # an overlong vote loses its end
            texts = [self._encode(_as_written(vote, rendered)) for vote in votes]
            sources = [(before + text)[:room] + tail for text in texts]
            asked = await asyncio.gather(*(ask(source, parameters, None) for source in sources))
            return [letters.get(vote.last_token) for (vote,) in asked]

        return await self._engine.asking(adapter, chosen)

    def count_tokens(self, prompt: ModelInput, sampling: Sampling) -> int:
        """Count a prompt's tokens, with those of the chat template."""
        return len(self._ids(self._rendered(prompt, sampling)))

    def fits(self, prompt_tokens: int, max_tokens: int) -> bool:
        """Tell whether prompt and answer fit the engine's longest sequence."""
        return prompt_tokens + max_tokens <= self._engine.options.max_model_len

    # Prompts and texts

    def _rendered(self, prompt: ModelInput, sampling: Sampling) -> "_Rendered":
        if isinstance(prompt, str):
            return _Rendered(prompt, thinking.opening_of(prompt))
        text = self._engine.template.render(prompt, template_arguments(sampling.template_arg))
        return _Rendered(text, thinking.opening_of(text), chat=True)

    def _source(self, rendered: "_Rendered") -> str | list[int]:
        # The tokens of a chat, since vLLM would add special tokens to its text.
        return self._ids(rendered) if rendered.chat else rendered.text

    def _ids(self, rendered: "_Rendered") -> list[int]:
        """Give the tokens of a prompt; a chat template writes its special tokens itself."""
        return self._encode(rendered.text, special=not rendered.chat)

    def _encode(self, text: str, special: bool = False) -> list[int]:
        ids: list[int] = self._engine.tokenizer.encode(text, add_special_tokens=special)
        return ids

    def _letter_id(self, question: LetterQuestion, letter: str) -> int:
        """Give the token of a letter after the opening, such as " A" after "The answer is:"."""
        stem = f"\n{question.opening}"
        whole = self._encode(stem + letter)
        if whole[:-1] == self._encode(stem.rstrip()):
            return whole[-1]
        return self._encode(letter)[-1]

    async def _finish(
        self, ask: Ask, rendered: "_Rendered", vote: RawVote, sampling: Sampling, parameters: Any
    ) -> RawVote:
        """Continue a vote that was stopped while it was thinking, or by the limit of thinking."""
        limit, opened = sampling.max_thinking, rendered.opening is not None
        opening = rendered.opening or thinking.first_opening(vote.text)
        within = opening is not None and thinking.is_open(vote.text, opened)
        bridge, room, stop = "", 0, parameters.stop
        if within and vote.stop_reason is not None:
            bridge, room, stop = vote.stop_reason, parameters.max_tokens - vote.tokens, []
        elif limit is not None and vote.finish_reason == "length":
            answer = thinking.split(vote.text, opened)[1]
            room = sampling.max_tokens - len(self._encode(answer))
            bridge = f"\n{thinking.closing_of(opening)}\n\n" if within and opening else ""
        if room <= 0:
            return vote
        more = parameters.clone()
        more.n, more.max_tokens, more.stop = 1, room, stop
        (rest,) = await ask(self._ids(rendered) + self._encode(vote.text + bridge), more, None)
        return vote.joined(bridge, rest)


@dataclass(frozen=True)
class _Rendered:
    """A prompt as the engine gets it; ``opening`` is the mark of thinking that it ends with."""

    text: str
    opening: str | None
    chat: bool = False


def _completion(vote: RawVote, rendered: _Rendered) -> Completion:
    thoughts, answer = thinking.split(vote.text, rendered.opening is not None)
    mean = vote.logprob / vote.tokens if vote.tokens and vote.logprob is not None else None
    # Without thinking, the text stays as it was sampled.
    return Completion(
        answer if thoughts else vote.text, vote.tokens, vote.finish_reason, mean, thoughts or None
    )


def _as_written(vote: Completion, rendered: _Rendered) -> str:
    """Give a vote as the model wrote it; thinking that was cut off is closed."""
    if not vote.thinking:
        return vote.text.rstrip()
    opening = rendered.opening or _THINK
    start = "" if rendered.opening else f"{opening}\n"
    return f"{start}{vote.thinking}\n{thinking.closing_of(opening)}\n\n{vote.text}".rstrip()


def _letter_params(letters: list[int]) -> Any:
    from vllm import SamplingParams

    return SamplingParams(max_tokens=1, temperature=0.0, allowed_token_ids=letters)


def sampling_params(sampling: Sampling, max_tokens: int, seed: int | None, stop: list[str]) -> Any:
    """Give vLLM's parameters for the votes of a round."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        n=sampling.votes,
        max_tokens=max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=seed,
        stop=stop,
        logprobs=0,  # of the sampled token alone
        flat_logprobs=True,
        # Stream the new text of each vote every few tokens, for progress reports; the cost is not measurable.
        output_kind=RequestOutputKind.DELTA,
        stream_interval=REPORT_EVERY,
    )
