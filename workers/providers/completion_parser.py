"""Parse a chat completion of an OpenAI-compatible service, and extract its answer.

    text({"message": {"content": [{"type": "thinking", ...}, {"type": "text", "text": "答案是：B"}]}}, ...)
        ->  "答案是：B"

The answer never contains the thinking of a model.
"""

from typing import Any

from shared.errors import Refused, Unreadable

FILTERED = {
    "content_filter",
    "sensitive",
    "safety",
    "recitation",
    "blocklist",
    "prohibited_content",
    "spii",
    "refusal",
}
USED_UP = {"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"}
FAILED = {"error", "network_error", "insufficient_system_resource", "abort", "aborted", "cancelled"}
_ANSWERS = {"text", "output_text", None}
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
_OPEN, _CLOSED = "<think", "</think"


def first(body: dict[str, Any]) -> dict[str, Any] | None:
    """Give the first choice of a completion."""
    choices = body.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None


def choices(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Give all choices of a completion."""
    return [choice for choice in body.get("choices") or [] if isinstance(choice, dict)]


def finish_reason(choice: dict[str, Any]) -> str:
    """Give the finish reason of a choice, in lower case."""
    return str(choice.get("finish_reason") or "").lower()


def text(choice: dict[str, Any], host: str, max_tokens: int) -> str:
    """Give the answer of a choice that did not fail.

    Raises:
        Refused: a filter withheld it, the model refuses, or thinking used up all tokens.
        Unreadable: it is empty.
    """
    if finish_reason(choice) in FILTERED:
        raise Refused(f"the content filter of {host} held the reply back")
    value = choice.get("message")
    message = value if isinstance(value, dict) else {}
    content = message.get("content")
    refusal = _refusal(message, content)
    if refusal:
        raise Refused(f"the model at {host} refuses to answer: {' '.join(refusal.split())[:200]}")
    answer = _answer(content)
    thought = any(message.get(name) for name in _THOUGHTS) or _has_thoughts(content)
    thinking = answer.lstrip().startswith(_OPEN) and _CLOSED not in answer
    if finish_reason(choice) in USED_UP and (thinking or not _after_thinking(answer).strip()):
        raise Refused(
            f"all {max_tokens} tokens were used up by thinking before the answer of {host} began: "
            "raise the token limit in a new run, or switch the model's thinking off"
        )
    if not answer.strip():
        only = ": it has thinking, but no answer" if thought else ""
        raise Unreadable(f"the reply of {host} is empty{only}")
    return answer


def vote(choice: dict[str, Any]) -> str:
    """Give the text of a choice that is a vote, of either endpoint; it may be empty, and has no thinking."""
    message = choice.get("message")
    return _answer(message.get("content") if isinstance(message, dict) else choice.get("text"))


def thinking(choice: dict[str, Any]) -> str:
    """Give the thinking that a service separates from the text of a choice; empty if there is none."""
    message = choice.get("message")
    fields = message if isinstance(message, dict) else choice
    for name in _THOUGHTS:
        if isinstance(value := fields.get(name), str) and value:
            return value
    return "".join(_thought(part) for part in _parts(fields.get("content")))


def _thought(part: object) -> str:
    if not isinstance(part, dict) or _text(part):
        return ""
    value = part.get("thinking") or part.get("text")
    return value if isinstance(value, str) else ""


def _after_thinking(answer: str) -> str:
    return answer.rpartition(_CLOSED)[2].partition(">")[2] if _CLOSED in answer else answer


def _answer(content: object) -> str:
    if isinstance(content, str):
        return content
    return "".join(_text(part) for part in _parts(content))


def _text(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type") not in _ANSWERS or part.get("thought"):
        return ""
    text = part.get("text")
    if isinstance(text, dict):
        text = text.get("value")
    return text if isinstance(text, str) else ""


def _parts(content: object) -> list[object]:
    if isinstance(content, dict):
        return [content]
    return content if isinstance(content, list) else []


def _refusal(message: dict[str, Any], content: object) -> str:
    refusals = [message.get("refusal")]
    refusals += [part.get("refusal") for part in _parts(content) if isinstance(part, dict)]
    return next((text for text in refusals if isinstance(text, str) and text.strip()), "")


def _has_thoughts(content: object) -> bool:
    return any(isinstance(part, dict) and not _text(part) for part in _parts(content))
