"""Training examples: questions, each with texts that end in its right letter or do not.

    TrainingExample(problem="甲比乙高……", question="谁高？", options=("甲", "乙"), answer="A", source="mine",
        texts=(Text(text="……答案是：A", letter="A"), Text(text="……答案是：B", letter="B")))

A training's lessons are recorded with its run, one a question and source, so that it can be taken up anywhere
and done again.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared import voices
from shared.prompts import PromptQuestion
from shared.voices import REASONING

Kind = Literal["votes", "texts"]


class Text(BaseModel):
    """A reasoning or program and the letter it ends in.

    A vote has its round, its place, its thinking, and how its program ended (``outcome``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    text: str
    letter: str | None
    attempt: int = 1
    place: int = 0
    thinking: str | None = Field(default=None, exclude_if=lambda value: value is None)
    voice: str = Field(default=REASONING, exclude_if=lambda name: name == REASONING)
    outcome: str | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def kind(self) -> str:
        """Name what the weight of a vote depends on."""
        return voices.kind(self.voice, self.outcome)

    def with_thinking(self) -> "Text":
        """Put the thinking before the text."""
        if not self.thinking:
            return self
        return self.model_copy(update={"text": f"{self.thinking}\n{self.text}", "thinking": None})


class TrainingExample(BaseModel):
    """A question with texts about it; ``answer`` is empty where only wrong letters are known.

    ``group`` is what it is held out with or not at all: the `dataset.unit` of its entry or of the original,
    or a name of the data's own. ``votes`` are the generator's, all of a question's rounds. ``augmented``: it
    was made from another. ``test``: it is for trying the model only. ``weight`` says how often each text is
    learned from, relative to others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    problem: str
    question: str
    options: tuple[str, ...]
    answer: str
    group: str
    source: str
    kind: Kind = "texts"
    augmented: bool = False
    test: bool = False
    weight: Annotated[float, Field(gt=0)] = 1.0
    texts: tuple[Text, ...]

    @property
    def asked(self) -> PromptQuestion:
        """Give the question as prompts show it."""
        return PromptQuestion(self.problem, self.question, self.options)

    @property
    def reasonings(self) -> list[Text]:
        """Give the texts that are reasonings."""
        return [text for text in self.texts if text.voice == REASONING]

    def with_thinking(self) -> "TrainingExample":
        """Put the thinking of each text before it."""
        return self.model_copy(update={"texts": tuple(text.with_thinking() for text in self.texts)})

    def is_right(self, text: Text) -> bool:
        """Tell whether a text ends in the right letter."""
        return text.letter == self.answer
