"""Find LoRA adapters of the generator by name, and use them only when they are complete.

    Adapters(Path("var/trained")).find("lora-3f9c01ab12cd")  ->  Adapter("lora-3f9c01ab12cd", 66835883, ...)

vLLM caches an adapter by its name and number permanently. Both are derived from its content, so two adapters
never share them.
"""

import threading
from dataclasses import dataclass
from pathlib import Path

from shared import model_store, text_files
from shared.errors import NotServedHere, UserError


@dataclass(frozen=True)
class Adapter:
    """An adapter; ``rank`` is the rank of the engine's slot that it needs."""

    name: str
    number: int
    folder: Path
    rank: int


class Adapters:
    """The adapters in the folder of trained models; each is checked once."""

    def __init__(self, trained: Path) -> None:
        self._trained = trained
        self._found: dict[str, Adapter] = {}
        self._lock = threading.Lock()

    def find(self, name: str) -> Adapter:
        """Find an adapter.

        Raises:
            NotServedHere: it is missing or incomplete.
        """
        with self._lock:
            if name not in self._found:
                try:
                    self._found[name] = self._look(name)
                except UserError as error:
                    raise NotServedHere(str(error)) from error
            return self._found[name]

    def _look(self, name: str) -> Adapter:
        folder = model_store.checked("lora", name, self._trained)
        try:
            rank = int(text_files.read_object(folder / "adapter_config.json")["r"])
        except (UserError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{folder} is no LoRA adapter: {error}") from None
        # vLLM takes powers of two from 8 up; a smaller adapter fits a larger slot.
        slot = max(8, 1 << (rank - 1).bit_length())
        return Adapter(name, model_store.number_of(name), folder.resolve(), slot)
