"""Dependencies of the augmentation strategies.

services.translator("tencent", "TextTranslateBatch")  ->  the same client for all tasks of a process
"""

from collections.abc import Callable
from dataclasses import dataclass

from workers.augment.deduplication import NearCopies
from workers.augment.translation_memory import Memory
from workers.gateway.gateway import Gateway
from workers.ports import ChatModel, Translator


@dataclass(frozen=True)
class Services:
    """Dependencies shared by all tasks of a worker process; clients are created by provider and model."""

    gateway: Gateway
    memory: Memory
    near_copies: NearCopies
    chat_model: Callable[[str, str], ChatModel]
    translator: Callable[[str, str], Translator]
