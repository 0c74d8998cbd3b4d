"""Translate by prompting a chat model.

    ["甲比乙高。", "谁最高？"]  ->  '["甲は乙より背が高い。", "一番高いのは誰？"]'  ->  Translated([...])

The reply must be a JSON array with one text for each original.
"""

import dataclasses
import json
from collections.abc import Sequence

from shared import json_text, prompts, thinking, token_bounds
from shared.errors import Unreadable
from shared.providers import PROMPTED_CHARACTERS, PROMPTED_TEXTS, Usage
from workers.ports import ChatModel, Needs, Prompt, Service, Translated

TEMPERATURE = 0.3  # above 0, so that a retry does not return the same unusable reply
_FRAME = 32  # tokens of brackets and fences around the translations


class PromptedTranslator:
    """A translator that prompts a chat model."""

    def __init__(self, chat: ChatModel) -> None:
        self._chat = chat
        limits = chat.service.limits
        most = {
            "characters": limits.characters or PROMPTED_CHARACTERS,
            "texts": limits.texts or PROMPTED_TEXTS,
        }
        self._service = dataclasses.replace(chat.service, limits=limits.model_copy(update=most))

    @property
    def service(self) -> Service:
        """Give the chat model's service."""
        return self._service

    def estimate(self, texts: Sequence[str]) -> Needs:
        """Estimate the usage of a translation, which is at most about twice as long as its text."""
        prompt, longest = prompts.translating(texts, "zh", "ja"), _longest(texts)
        return Needs(Usage(prompts.tokens(prompt), longest), Usage(token_bounds.message(prompt), longest))

    def translate(self, texts: Sequence[str], source: str, target: str) -> Translated:
        """Translate some texts, in one call.

        Raises:
            Unreadable: the reply does not have one text for each original.
        """
        prompt = prompts.translating(texts, source, target)
        reply = self._chat.complete(Prompt(prompt, _longest(texts), TEMPERATURE))
        return Translated(read(reply.text, len(texts)), reply.usage)


def _longest(texts: Sequence[str]) -> int:
    return 2 * prompts.tokens(json.dumps(list(texts), ensure_ascii=False)) + _FRAME


def read(reply: str, count: int) -> list[str]:
    """Extract ``count`` texts from a reply: its last JSON array of strings, ignoring other text.

    Raises:
        Unreadable: there is no such array, its length differs, or a text is empty.
    """
    values = [match.value for match in json_text.find(thinking.strip(reply), "[")]
    arrays = [array for array in values if array and all(isinstance(text, str) for text in array)]
    if not arrays:
        raise Unreadable(f"asked for {count} translations, got no JSON array of texts")
    texts: list[str] = arrays[-1]
    if len(texts) != count:
        raise Unreadable(f"asked for {count} translations, got {len(texts)}")
    empty = [place for place, text in enumerate(texts, 1) if not text.strip()]
    if empty:
        raise Unreadable(f"asked for {count} translations, number {empty[0]} is empty")
    return texts
