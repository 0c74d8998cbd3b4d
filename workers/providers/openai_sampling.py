"""Sample votes at any OpenAI-compatible endpoint: vLLM, SGLang, Ollama, llama.cpp, a cloud account.

    OpenAISampler(service, "http://127.0.0.1:8399/v1", None, 900.0).sample(VotesPrompt("……", 64, 0.7, 5))
        ->  Votes([Completion("……\\n答案是：B", 31, "stop"), ...], Usage(640, 155))

A call asks for all votes of a round (``n``). Many servers ignore ``n``, cap it or refuse it.
"""

import re
from typing import Any

from shared import prompts, thinking, token_bounds
from shared.errors import Held, Refused, VotequeueError
from shared.providers import Usage
from workers.ports import Completion, Votes, VotesPrompt
from workers.providers import completion_parser, error_details, openai, unsupported_parameters
from workers.providers.error_details import Complaint, ErrorAnswer
from workers.providers.openai import RENAMED, OpenAIChat

_NO_TEMPLATE = re.compile(
    r"(?i)(?:no|without a?|not .{0,40}|must .{0,40}) ?chat[ _]template|does not support chat\b"
)
_CONSTRAINTS = {"response_format", "structured_outputs", "regex", "grammar"}


class OpenAISampler(OpenAIChat):
    """A model at an OpenAI-compatible endpoint, as a `ports.Sampler`."""

    one_by_one = False
    chats = True
    _constrains = True  # it has not refused to limit a reply to letters

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

        request = self._request(fields)
        # What the SDK does not know; the user's own fields override it.
        request["extra_body"] = {**self._server_fields(prompt), **request["extra_body"]}
        return self._call(request, prompt, read)

    def _server_fields(self, prompt: VotesPrompt) -> dict[str, Any]:
        arguments = {"chat_template_kwargs": dict(prompt.template_args)} if prompt.template_args else {}
        return {**arguments, **(_letters_only(prompt) if self._constrains else {})}

    def _votes(self, body: dict[str, Any], prompt: VotesPrompt) -> Votes:
        choices = completion_parser.choices(body)
        if all(completion_parser.finish_reason(choice) in completion_parser.FILTERED for choice in choices):
            raise Refused(f"the content filter of {self._host} held the votes back")
        if len(choices) < prompt.votes:
            self.one_by_one = True
        choices = choices[: prompt.votes]
        texts = [completion_parser.vote(choice) for choice in choices]
        thoughts = [completion_parser.thinking(choice) for choice in choices]
        whole = [thought + text for thought, text in zip(thoughts, texts, strict=True)]
        used = _usage(body.get("usage"), prompt.text, whole)
        votes = zip(choices, texts, thoughts, _shares(used.output_tokens, whole), strict=True)
        return Votes([_completion(*vote) for vote in votes], used)

    def _map_error(self, answer: ErrorAnswer, request: dict[str, Any]) -> VotequeueError:
        complaint = error_details.read(answer)
        if "messages" in request and _NO_TEMPLATE.search(complaint.text):
            self.chats = False
            return Held("the server has no chat template for the model", RENAMED)
        refused = 400 <= answer.status < 500 and not unsupported_parameters.too_long(complaint)
        if "n" in request and refused and unsupported_parameters.rejected_parameter(complaint, ["n"]) == "n":
            self.one_by_one = True
            return Held("the model gives one vote a request: it is asked again so", RENAMED)
        if refused and _CONSTRAINTS & request["extra_body"].keys() and _mentions(complaint):
            self._constrains = False
            return Held("the server cannot limit replies to letters: it is asked again without", RENAMED)
        return super()._map_error(answer, request)


def _messages(prompt: VotesPrompt) -> dict[str, Any]:
    if prompt.messages:
        turns = [{"role": message.role, "content": message.content} for message in prompt.messages]
        return {"messages": turns}
    return {"prompt": prompt.text}


def _letters_only(prompt: VotesPrompt) -> dict[str, Any]:
    """Limit a reply to letters, in the words of the servers that can."""
    if prompt.letters is None:
        return {}
    if prompt.messages:
        answer = {"type": "string", "enum": list(prompt.letters)}
        schema = {
            "type": "object",
            "properties": {"answer": answer},
            "required": ["answer"],
            "additionalProperties": False,
        }
        named = {"name": "answer", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    choice = " | ".join(f'"{letter}" | " {letter}"' for letter in prompt.letters)
    return {
        # vLLM; SGLang; llama.cpp.
        "structured_outputs": {"choice": list(prompt.letters)},
        "regex": f" ?[{prompt.letters}]",
        "grammar": f"root ::= {choice}",
    }


def _mentions(complaint: Complaint) -> bool:
    rejected = unsupported_parameters.rejected_parameter(complaint, _CONSTRAINTS)
    return rejected in _CONSTRAINTS or "json_schema" in complaint.text


def _completion(choice: dict[str, Any], text: str, thoughts: str, tokens: int) -> Completion:
    within, answer = thinking.split(text)
    thought = "\n".join(filter(None, (thoughts.strip(), within)))
    ended = completion_parser.finish_reason(choice) or None
    # Without thinking, the text stays as it was sampled.
    return Completion(answer if within else text, tokens, ended, thinking=thought or None)


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
