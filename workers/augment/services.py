"""What a strategy makes entries with: the gateway, the translation memory, clients of outside services.

services.once(("variant", "chat", "m"), lambda: Variants(...))  ->  the same Variants for every task
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from workers.augment.translation_memory import Memory
from workers.gateway.gateway import Gateway
from workers.ports import ChatModel, Translator

if TYPE_CHECKING:
    from workers.models.embedding import Embedder

_Kept = TypeVar("_Kept")


class Services:
    """What one worker process has for all its tasks; clients are built by provider and model."""

    def __init__(
        self,
        gateway: Gateway,
        memory: Memory,
        chat_model: Callable[[str, str], ChatModel],
        translator: Callable[[str, str], Translator],
        embedder: "Callable[[], Embedder]",
    ) -> None:
        self.gateway, self.memory = gateway, memory
        self.chat_model, self.translator, self.embedder = chat_model, translator, embedder
        self._kept: dict[tuple[object, ...], object] = {}
        self._building = threading.Lock()

    def once(self, key: tuple[object, ...], build: Callable[[], _Kept]) -> _Kept:
        """Build something once: all tasks share a model's client, and with it its connections."""
        with self._building:
            if key not in self._kept:
                self._kept[key] = build()
            return cast(_Kept, self._kept[key])
