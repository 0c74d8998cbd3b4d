"""Workshops for trainings in tests, and lessons that even tiny weights can learn.

workshop(tmp_path, Ear())  ->  TrainingContext(...), whose training tells the ear what it would tell a worker
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from shared import model_store
from shared.training_examples import Kind, Text, TrainingExample
from workers.ports import TrainingContext
from workers.training.ipc import TrainedModel

RIGHT, WRONG = "所以甲最高。", "推理是错误的，选乙。"


@dataclass
class Ear:
    """Remembers what it hears; ``stop`` says when to stop, told what was heard so far."""

    steps: list[tuple[int, int, dict[str, float]]] = field(default_factory=list)
    checkpoints: list[tuple[int, int]] = field(default_factory=list)
    stop: Callable[["Ear"], bool] = lambda _: False

    def step(self, step: int, of: int, told: dict[str, float]) -> None:
        """Hear the figures of a step."""
        self.steps.append((step, of, told))

    def saved(self, step: int, of: int) -> None:
        """Hear of a checkpoint."""
        self.checkpoints.append((step, of))

    def stopping(self) -> bool:
        """Tell whether to stop."""
        return self.stop(self)

    def curve(self, name: str) -> list[float]:
        """Give all values of a figure that was told."""
        return [told[name] for _, _, told in self.steps if name in told]


def workshop(folder: Path, ear: Ear | None = None, fence: int = 1, every: float = 300) -> TrainingContext:
    """Give a workshop in a folder."""
    # Trainings share what is beside their folders.
    own = folder / "own"
    own.mkdir(parents=True, exist_ok=True)
    return TrainingContext(own, fence, every, ear or Ear())


def shelved(made: TrainedModel, trained: Path) -> str:
    """Move a model to where models are used from, as a worker does; give its name."""
    trained.mkdir(exist_ok=True)
    made.folder.rename(trained / made.name)
    assert model_store.checked("lora" if made.name.startswith("lora") else "scorer", made.name, trained)
    return made.name


def lesson(at: int, letters: str = "ABAAB", *, kind: Kind = "votes", test: bool = False) -> TrainingExample:
    """Make a question whose right answer its problem gives away, with votes for letters ("-" for none)."""
    answer = "AB"[at % 2]
    texts = tuple(
        Text(
            text="因为" * (at * 7 % 5) + (RIGHT if letter == answer else WRONG),
            letter=None if letter == "-" else letter,
            place=place,
        )
        for place, letter in enumerate(letters)
    )
    return TrainingExample(
        problem=f"第{at}题：" + ("甲比乙高。" if answer == "A" else "Alice is taller than Bob."),
        question="谁最高？",
        options=("甲", "乙"),
        answer=answer,
        group=f"g{at}",
        source="mine",
        kind=kind,
        test=test,
        texts=texts,
    )


def lessons(count: int, *, kind: Kind = "votes") -> list[TrainingExample]:
    """Make questions with votes, right and wrong."""
    return [lesson(at, kind=kind) for at in range(count)]
