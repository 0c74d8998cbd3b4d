"""Count the tokens of a chat message exactly, with the model's tokenizer and chat template.

    counter(folder)("甲比乙高。谁最高？")  ->  38

The folder is a folder of weights, as for the generator.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)


def counter(folder: Path) -> Callable[[str], int] | None:
    """Give a function that counts a message's tokens as a server does; None: there is no tokenizer."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        log.warning("prompts are bounded by bytes: no tokenizer in %s (%s)", folder, type(error).__name__)
        return None
    if not tokenizer.chat_template:
        return None
    # The tokenizers used here are not thread-safe.
    lock = threading.Lock()

    def count(text: str) -> int:
        message = [{"role": "user", "content": text}]
        with lock:
            return len(tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False))

    return count
