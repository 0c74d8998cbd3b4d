"""Render the turns of a chat with the chat template of a model's tokenizer.

ChatTemplate(tokenizer, folder).render((Message("user", "……"),), {"enable_thinking": False})
    ->  "<|im_start|>user\\n……<|im_end|>\\n<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n"
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.errors import Refused
from shared.prompts import Message

_REPLY = "yes"
_CONFIGURATIONS = ("generation_config.json", "config.json")


class ChatTemplate:
    """The chat template of a tokenizer; ``folder`` has the model's configuration."""

    def __init__(self, tokenizer: Any, folder: Path) -> None:
        self._tokenizer = tokenizer
        self._folder = folder

    def render(self, messages: Sequence[Message], arguments: Mapping[str, Any]) -> str:
        """Render a chat, up to where the assistant's reply begins.

        Raises:
            Refused: there is no template, or it fails with these messages or arguments.
        """
        return self._apply(messages, add_generation_prompt=True, **arguments)

    @functools.cached_property
    def fits_weights(self) -> bool:
        """Tell whether the weights were trained on the template: they end a text with its end of a turn.

        Base models often have the tokenizer of their chat models, but end texts with another token.
        """
        try:
            chat = self._apply((Message("user", "?"), Message("assistant", _REPLY)))
        except Refused:
            return False
        end = self._tokenizer.encode(chat.rpartition(_REPLY)[2].lstrip(), add_special_tokens=False)
        return bool(end) and end[0] in self._ends()

    def _ends(self) -> set[int]:
        """Collect the tokens that end a text, as the model's configuration names them."""
        for name in _CONFIGURATIONS:
            path = self._folder / name
            value = json.loads(path.read_text("utf-8")).get("eos_token_id") if path.is_file() else None
            if value is not None:
                return set(value) if isinstance(value, list) else {value}
        return {self._tokenizer.eos_token_id}

    def _apply(self, messages: Sequence[Message], **arguments: Any) -> str:
        if not getattr(self._tokenizer, "chat_template", None):
            raise Refused("the model has no chat template: use --prompt-style completion")
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(self._tokenizer.apply_chat_template(turns, tokenize=False, **arguments))
        # A template is a program of the model's authors, which raises what it likes.
        except Exception as error:
            raise Refused(f"the model's chat template fails: {str(error)[:200]}") from error
