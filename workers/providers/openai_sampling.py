"""Sample votes at any OpenAI-compatible endpoint: vLLM, SGLang, Ollama, llama.cpp, a cloud account.

    OpenAISampler(service, "http://127.0.0.1:8399/v1", None, 900.0).sample(VotesPrompt("……", 64, 0.7, 5))
        ->  Votes([Completion("……\\n答案是：B", 31, "stop"), ...], Usage(640, 155))

A call asks for all votes of a round (``n``). Many servers ignore ``n``, cap it or refuse it.
"""

from typing import Any

from shared import prompts, token_bounds
from shared.errors import Held, Refused, VotequeueError
from shared.providers import Usage
from shared.settings import Settings
from workers.ports import Completion, Service, Votes, VotesPrompt
from workers.providers import completion_parser, error_details, openai, unsupported_parameters
from workers.providers.error_details import ErrorAnswer
from workers.providers.openai import RENAMED, OpenAIChat


def chat(service: Service, settings: Settings) -> "OpenAISampler":
    """Build a client of provider chat, for the endpoint in the settings."""
    return OpenAISampler(
        service,
        settings.chat_base_url or "",
        settings.chat_api_key,
        settings.call_timeout,
        settings.chat_extra,
    )


def local(service: Service, settings: Settings) -> "OpenAISampler":
    """Build a client of provider local: `votequeue serve` on this machine."""
    timeout = max(settings.call_timeout, openai.LOCAL_TIMEOUT)
    return OpenAISampler(service, settings.local_url, None, timeout)


class OpenAISampler(OpenAIChat):
    """A model at an OpenAI-compatible endpoint, as a `ports.Sampler`."""

    one_by_one = False

    def sample(self, prompt: VotesPrompt) -> Votes:
        """Sample votes, in one request."""
        fields: dict[str, Any] = {self._length: prompt.max_tokens, "temperature": prompt.temperature}
        fields |= _messages(prompt)
        # Left out where they say nothing: not every service knows them.
        fields |= {"n": prompt.votes} if prompt.votes > 1 else {}
        fields |= {"top_p": prompt.top_p} if prompt.top_p < 1 else {}
        fields |= {"stop": list(prompt.stop)} if prompt.stop else {}
        fields |= {} if prompt.seed is None else {"seed": prompt.seed}

        def read(body: dict[str, Any], _: dict[str, Any]) -> Votes:
            return self._votes(body, prompt)

        return self._call(self._request(fields), prompt, read)

    def _votes(self, body: dict[str, Any], prompt: VotesPrompt) -> Votes:
        choices = completion_parser.choices(body)
        if all(completion_parser.finish_reason(choice) in completion_parser.FILTERED for choice in choices):
            raise Refused(f"the content filter of {self._host} held the votes back")
        if len(choices) < prompt.votes:
            self.one_by_one = True
        texts = [completion_parser.vote(choice) for choice in choices[: prompt.votes]]
        used = _usage(body.get("usage"), prompt.text, texts)
        ends = [completion_parser.finish_reason(choice) or None for choice in choices]
        completions = map(Completion, texts, _shares(used.output_tokens, texts), ends)
        return Votes(list(completions), used)

    def _map_error(self, answer: ErrorAnswer, request: dict[str, Any]) -> VotequeueError:
        complaint = error_details.read(answer)
        refused = 400 <= answer.status < 500 and not unsupported_parameters.too_long(complaint)
        if "n" in request and refused and unsupported_parameters.rejected_parameter(complaint, ["n"]) == "n":
            self.one_by_one = True
            return Held("the model gives one vote a request: it is asked again so", RENAMED)
        return super()._map_error(answer, request)


def _messages(prompt: VotesPrompt) -> dict[str, Any]:
    if prompt.endpoint == "chat":
        return {"messages": [{"role": "user", "content": prompt.text}]}
    return {"prompt": prompt.text}


def _usage(value: object, prompt: str, texts: list[str]) -> Usage:
    """Read a request's usage; an omitted count becomes its upper bound, since it may be charged."""
    used = openai.usage(value, prompt, "".join(texts))
    known = isinstance(value, dict) and value.get("completion_tokens")
    # Each of several texts has a token at least: its end.
    return used if known else Usage(used.input_tokens, sum(map(token_bounds.tokens, texts)) + len(texts))


def _shares(total: int, texts: list[str]) -> list[int]:
    """Divide the tokens of all texts among them by their estimated lengths: services count only the sum."""
    estimates = [1 + prompts.tokens(text) for text in texts]
    ends = [round(total * sum(estimates[: at + 1]) / sum(estimates)) for at in range(len(texts))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
