"""Contexts for trainings in tests, and examples that even tiny weights can learn.

context(tmp_path, RecordingListener())  ->  TrainingContext(...), which reports to the listener
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
class RecordingListener:
    """Records all reports; ``stop`` decides from them when to stop."""

    steps: list[tuple[int, int, dict[str, float]]] = field(default_factory=list)
    checkpoints: list[tuple[int, int]] = field(default_factory=list)
    stop: Callable[["RecordingListener"], bool] = lambda _: False

    def step(self, step: int, total_steps: int, metrics: dict[str, float]) -> None:
        """Record the metrics of a step."""
        self.steps.append((step, total_steps, metrics))

    def saved(self, step: int, total_steps: int) -> None:
        """Record a checkpoint."""
        self.checkpoints.append((step, total_steps))

    def stopping(self) -> bool:
        """Tell whether to stop."""
        return self.stop(self)

    def curve(self, name: str) -> list[float]:
        """Give all reported values of a metric."""
        return [metrics[name] for _, _, metrics in self.steps if name in metrics]


def context(
    folder: Path, listener: RecordingListener | None = None, fence: int = 1, every: float = 300
) -> TrainingContext:
    """Give a training context in a folder."""
    # Trainings share the files beside their folders.
    own = folder / "own"
    own.mkdir(parents=True, exist_ok=True)
    return TrainingContext(own, fence, every, listener or RecordingListener())


def shelved(made: TrainedModel, trained: Path) -> str:
    """Move a model to where models are used from, as a worker does; give its name."""
    trained.mkdir(exist_ok=True)
    made.folder.rename(trained / made.name)
    assert model_store.checked("lora" if made.name.startswith("lora") else "scorer", made.name, trained)
    return made.name


def example(at: int, letters: str = "ABAAB", *, kind: Kind = "votes", test: bool = False) -> TrainingExample:
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


def examples(count: int, *, kind: Kind = "votes") -> list[TrainingExample]:
    """Make questions with votes, right and wrong."""
    return [example(at, kind=kind) for at in range(count)]
