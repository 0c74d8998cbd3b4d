"""What a run may be told: every option declared once, with its help, bounds, default and flag.

    Sampling.model_fields["votes"]  ->  --votes, VOTEQUEUE_VOTES, 1 to 1000, 5, "votes a question and round"

The flags of `votequeue enqueue` with their help, the settings that are defaults of runs, and the record of a
run all follow from these models. A new option is a field here and the code that reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticKnownError

from shared import answers
from shared.answers import ReaderName
from shared.dataset import Question
from shared.strategies import STRATEGIES
from shared.voting import Fallback, VotingMode

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Temperature = Annotated[float, Field(ge=0, le=2)]


# What was so for runs that are older than an option, where its default is another today.
OLDER = {"same_problem": True, "reader": answers.REFERENCE}
# Options by the names that they had in the records of older runs and in older recipes.
RENAMED = {"neighbours": "num_examples", "siblings": "same_problem"}


@dataclass(frozen=True)
class Flag:
    """How an option is given on the command line, where its field's name does not say it.

    ``spelling`` replaces ``--field-name``; ``before`` is an older spelling, which still works and is not
    listed; ``shown`` says where the default comes from.
    """

    spelling: str | None = None
    before: str | None = None
    shown: str | None = None


@dataclass(frozen=True)
class Derived:
    """Marks a field that no flag sets: it follows from the data or from other options."""


def renamed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Give the options of an older run or recipe by the names that they have now."""
    return {RENAMED.get(name, name): value for name, value in record.items()}


class SamplingDefaults(BaseModel):
    """The options of an `infer` run whose defaults are settings (``VOTEQUEUE_*``)."""

    votes: Annotated[int, Field(ge=1, le=1000)] = Field(5, description="votes a question and round")
    max_attempts: Count = Field(5, description="rounds of sampling before the fallback answers")
    max_tokens: Count = Field(1024, description="longest vote, in tokens")
    temperature: Temperature = Field(0.7, description="sampling temperature")
    top_p: Share = Field(
        1.0, description="nucleus sampling: probability mass kept; 1: all, much faster on CPUs"
    )
    seed: int | None = Field(None, description="seed of the sampling, on GPUs only; empty: each run differs")
    fallback: Fallback = Field(
        "majority",
        description="when no vote was ever accepted: the majority of all letters read, or the constant A",
    )
    reader: ReaderName = Field(
        "conclusion",
        description="how a letter is read: conclusion (the last statement of an answer), reference (the "
        "first 答案是：X, before any sign of a new problem)",
    )
    scorer: str = Field(
        "in-use",
        description="scorer that judges: in-use (the one in use when the run is enqueued), follow (at any "
        "time the one in use then), none, or a model's name",
    )
    lora: str = Field(
        "in-use", description="LoRA adapter of the generator: in-use, follow, none, or a model's name"
    )
    use: VotingMode | Literal["auto"] = Field(
        "auto",
        description="what scores are used for: "
        + ", ".join(f"{mode} ({mode.meaning})" for mode in VotingMode)
        + "; auto: as the scorer found best",
    )
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="score from which a vote is accepted; empty: as the scorer found best"
    )
    num_examples: Annotated[int, Field(ge=0), Flag(before="--neighbours")] = Field(
        2, description="solved examples shown in a prompt"
    )
    same_problem: Annotated[bool, Flag(before="--siblings")] = Field(
        False,
        description="let the examples be about the question's own problem: better answers where a part of a "
        "problem is solved, but votes that say nothing of new problems",
    )


class Sampling(SamplingDefaults):
    """How a run's questions are answered; stored with the run, so that all its workers agree."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    batch: Count = Field(16, description="questions a batch")
    # The run whose votes are judged, instead of sampling.
    votes_of: Annotated[str | None, Derived()] = None
    # The generator and the version of the prompt that the run was enqueued with; older runs do not say.
    model: Annotated[str | None, Derived()] = None
    prompt: Annotated[str | None, Derived()] = None

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Sampling":
        """Read a run's record; what an older run does not say was so then."""
        return cls.model_validate({**OLDER, **renamed(record)})


class Reasoning(BaseModel):
    """How a run asks for reasonings; ``prompt`` is the version of the prompt they come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    label: Annotated[Literal["correct", "wrong"], Derived()]
    letters: Annotated[Literal["next", "every"], Derived()]
    provider: Annotated[str, Derived()]
    models: Annotated[tuple[str, ...], Field(min_length=1), Derived()]
    asks: Count = Field(3, description="times each model is asked for a reasoning with the right letter")
    max_tokens: Count = Field(1024, description="longest reasoning, in tokens")
    temperature: Temperature = Field(0.7, description="sampling temperature of reasonings")
    prompt: Annotated[str, Derived()]
    # The default is that of older runs, which do not say.
    reader: ReaderName = Field(
        answers.REFERENCE, description=SamplingDefaults.model_fields["reader"].description
    )

    def letters_of(self, question: Question) -> str:
        """Give the letters of a question that reasonings are wanted for; none where its answer is unknown."""
        if self.label == "correct":
            return question.answer or ""
        return question.wrong_letters[:1] if self.letters == "next" else question.wrong_letters


WRITES = 3  # times that a chat model writes a variant until one is kept


def _known(name: str) -> str:
    if name not in STRATEGIES:
        *most, last = map(repr, STRATEGIES)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(most)} or {last}"})
    return name


class Augmentation(BaseModel):
    """How a run makes new entries from old ones; what its strategy has no use for is ``None``.

    Which strategy uses what, and with which default, is in `shared.strategies`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    strategy: Annotated[str, AfterValidator(_known), Derived()]
    provider: Annotated[str | None, Derived()] = None
    model: Annotated[str | None, Derived()] = None
    prompt: Annotated[str | None, Derived()] = None
    language: Annotated[str | None, Flag(before="--from")] = Field(None, description="language of the data")
    pivot: str | None = Field(None, description="language that back-translation goes through")
    skip: Annotated[str | None, Flag("--skip-pattern")] = Field(
        None, description="regular expression: entries that have it are not translated"
    )
    shortest: Share | None = Field(
        None, description="shortest a text may come back, as a share of its length"
    )
    longest: Annotated[float, Field(ge=1)] | None = Field(
        None, description="longest a text may come back, likewise"
    )
    share: Share | None = Field(None, description="share of the replaceable words that are replaced")
    seed: int | None = Field(None, description="seed of the choice of words and synonyms")
    samples: Count | None = Field(None, description="times a variant is answered to check its letter")
    agree: Count | None = Field(None, description="of those, how many must give its letter")
    near_copy: Share | None = Field(None, description="embedding similarity from which a variant is a copy")
    reader: ReaderName | None = Field(None, description=SamplingDefaults.model_fields["reader"].description)
    max_tokens: Count | None = Field(None, description=Reasoning.model_fields["max_tokens"].description)
    temperature: Temperature | None = Field(
        None, description=Reasoning.model_fields["temperature"].description
    )

    @property
    def per_question(self) -> bool:
        """Tell whether an item is one question, rather than an entry with all its questions."""
        return STRATEGIES[self.strategy].per_question


def flag_of(model: type[BaseModel], field: str) -> Flag | None:
    """Say how an option is given; ``None`` where no flag sets the field."""
    metadata = model.model_fields[field].metadata
    if any(isinstance(mark, Derived) for mark in metadata):
        return None
    return next((mark for mark in metadata if isinstance(mark, Flag)), Flag())
