"""The options of runs, each declared once, with its help, bounds, default and flag.

    Sampling.model_fields["votes"]  ->  --votes, VOTEQUEUE_VOTES, 1 to 1000, 5, "votes per question and round"

The flags of `votequeue enqueue` with their help, the settings that are defaults of runs, and the record of a
run all follow from these models. A new option is a field here and the code that reads it.
"""

import json
import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticKnownError

from shared import answers, dataset, kind_weights, variety, voices
from shared.answers import ReaderName
from shared.dataset import Question
from shared.errors import UserError
from shared.generators import GENERATORS, VLLM
from shared.prompts import PromptQuestion
from shared.strategies import STRATEGIES
from shared.voting import Fallback, VotingMode

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Temperature = Annotated[float, Field(ge=0, le=2)]


# The behaviour of runs that are older than an option, where it differs from today's default.
OLDER = {"same_problem": True, "reader": answers.REFERENCE}
# Arguments of a chat template that are the prompt itself, or are always the same.
_TEMPLATE_OWN = {"conversation", "messages", "tokenize", "add_generation_prompt", "continue_final_message"}
# Former names of options, as older runs and recipes have them.
RENAMED = {"neighbours": "num_examples", "siblings": "same_problem"}


@dataclass(frozen=True)
class Flag:
    """How an option is spelt on the command line, if not as its field's name.

    ``spelling`` replaces ``--field-name``; ``before`` is an older spelling, still accepted but hidden;
    ``shown`` names the source of the default.
    """

    spelling: str | None = None
    before: str | None = None
    shown: str | None = None


@dataclass(frozen=True)
class Derived:
    """Marks a field without a flag: it is derived from the data or from other options."""


def _check_generator(name: str) -> str:
    if name not in GENERATORS:
        raise PydanticKnownError("literal_error", {"expected": " or ".join(map(repr, GENERATORS))})
    return name


def _check_template_args(arguments: list[str]) -> list[str]:
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if not (equals and name.isidentifier()) or name in _TEMPLATE_OWN:
            raise ValueError(f"{argument!r} is not NAME=VALUE with the name of a template's argument")
    return arguments


def _check_stop(stop: str) -> str:
    word, _, share = stop.partition("=")
    try:
        known = stop in ("never", "exact") or (word == "agreement" and 0 < float(share) <= 1)
    except ValueError:
        known = False
    if not known:
        raise ValueError(
            "give never, exact, or agreement=P with a probability P from 0 to 1, as in agreement=0.9"
        )
    return stop


def _check_abstention(text: str) -> str:
    if text.strip().upper() in {"", *dataset.LETTERS} or not text.isprintable():
        raise ValueError("give a printable text that is no letter, which would be read as an answer")
    return text


AbstainAs = Annotated[str, AfterValidator(_check_abstention)]
VoiceVotes = Annotated[str, AfterValidator(voices.check)]


def template_arguments(arguments: Iterable[str]) -> dict[str, Any]:
    """Parse the arguments of a chat template: values are JSON, or else text.

    template_arguments(["enable_thinking=false"])  ->  {"enable_thinking": False}
    """
    return {name: _json_or_text(value) for name, _, value in (each.partition("=") for each in arguments)}


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def renamed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the options of an older run or recipe to their present names."""
    return {RENAMED.get(name, name): value for name, value in record.items()}


class Abstention(BaseModel):
    """When the questions of a calibrated run abstain; at most one of the bounds is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    abstain_below: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="leave questions without an answer below this probability that it is right"
    )
    max_error: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="leave as many questions without an answer as it takes that at most this share of the "
        "answers is wrong, with 95 % confidence",
    )
    abstain_as: Annotated[AbstainAs | None, Flag(shown="nothing")] = Field(
        None, description="what `collect` writes for them, such as unknown"
    )


class Calibration(Abstention):
    """How probably answers are right: a logistic regression of `producers.calibrated_answers.features`.

    It was learned on ``questions`` of ``entries`` in the labelled ``runs``. ``parameters`` has the intercept
    and the coefficients by fold, as in `shared.vote_weights`. Below the ``threshold``, a question abstains.
    """

    runs: tuple[str, ...]
    questions: int
    entries: int
    parameters: tuple[tuple[float, ...], ...]
    threshold: float = 0.0

    def probability(self, features: Iterable[float], fold: int) -> float:
        """Give the probability that an answer with these features is right."""
        return logistic(self.parameters[fold], features)


def logistic(parameters: Iterable[float], features: Iterable[float]) -> float:
    """Give the probability of a logistic regression; it is never 0 or 1."""
    intercept, *coefficients = parameters
    value = intercept + math.fsum(map(operator.mul, coefficients, features))
    return 1 / (1 + math.exp(-min(max(value, -30.0), 30.0)))


class SamplingDefaults(BaseModel):
    """The options of an `infer` run whose defaults are settings (``VOTEQUEUE_*``)."""

    generator: Annotated[str, AfterValidator(_check_generator)] = Field(
        VLLM,
        description="what samples the votes: vllm (in the worker), openai (an OpenAI-compatible server)",
    )
    provider: str | None = Field(
        None, description="provider that generator openai calls: local, chat (docs/generators.md)"
    )
    prompt_style: Literal["completion", "chat", "auto"] = Field(
        "completion",
        description="how the model gets the prompt: completion (a text to continue), chat (turns, by the "
        "model's chat template), auto (chat if the model has a chat template and is no base model)",
    )
    votes: Annotated[int, Field(ge=1, le=1000)] = Field(5, description="votes per question and round")
    max_attempts: Count = Field(5, description="rounds of sampling before the fallback applies")
    max_tokens: Count = Field(1024, description="maximum length of a vote, in tokens")
    temperature: Temperature = Field(0.7, description="sampling temperature")
    top_p: Share = Field(
        1.0, description="nucleus sampling: probability mass to keep; 1: all, much faster on CPUs"
    )
    seed: int | None = Field(None, description="sampling seed, on GPUs only; empty: each run differs")
    fallback: Fallback = Field(
        "majority",
        description="answer when no vote was ever accepted: the majority of all letters, or the constant A",
    )
    reader: Annotated[ReaderName, Flag(shown="the prompt's; VOTEQUEUE_READER")] = Field(
        "conclusion",
        description="how to read the letter of a text: conclusion (the last statement of an answer), "
        "reference (the first 答案是：X before any marker of a new problem)",
    )
    scorer: str = Field(
        "in-use",
        description="scorer of the votes: in-use (the one in use when the run is enqueued), follow (always "
        "the one currently in use), none, or a model's name",
    )
    lora: str = Field(
        "in-use", description="LoRA adapter of the generator: in-use, follow, none, or a model's name"
    )
    use: VotingMode | Literal["auto"] = Field(
        "auto",
        description="how scores are used: "
        + ", ".join(f"{mode} ({mode.meaning})" for mode in VotingMode)
        + "; auto: the best mode on the scorer's held-out data",
    )
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="minimum score of an accepted vote; empty: the best one on the scorer's held-out data",
    )
    num_examples: Annotated[int, Field(ge=0), Flag(before="--neighbours")] = Field(
        2, description="solved examples in a prompt"
    )
    same_problem: Annotated[bool, Flag(before="--siblings")] = Field(
        False,
        description="allow examples about the question's own problem: better answers for partly solved "
        "problems, but such votes do not represent new problems",
    )


class Sampling(SamplingDefaults):
    """How a run's questions are answered; stored with the run for all its workers."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    batch: Count = Field(16, description="questions per batch")
    only: Annotated[str | None, Flag(shown="the votes are scored again")] = Field(
        None,
        description="with RUN: ask some of its questions again, in a new run: truncated, unread, default, "
        "below-agreement=SHARE, or several, comma-separated; truncated=SHARE and unread=SHARE: where at "
        "least this share of the votes is",
    )
    combine: Annotated[Literal["plain", "learned"] | None, Flag(shown="the votes are scored again")] = Field(
        None,
        description="with several RUNs over the same questions: vote over the recorded votes of all of them, "
        "in a new run: plain (every vote counts 1), learned (a run's votes count by its accuracy on labelled "
        "questions)",
    )
    # The run whose questions are asked again.
    redo_of: Annotated[str | None, Derived()] = None
    # The run whose votes are rescored instead of sampling, or the runs whose votes are combined.
    votes_of: Annotated[str | tuple[str, ...] | None, Derived()] = None
    # The weight of the votes of each combined run, by fold; see `shared.vote_weights`.
    weights: Annotated[dict[str, tuple[float, ...]] | None, Derived()] = None
    # The model and the retriever that the run was enqueued with; older runs lack them.
    model: Annotated[str | None, Flag(shown="VOTEQUEUE_MODEL where it is set, else the workers'")] = Field(
        None, description="model that samples the votes; only workers with it take the run"
    )
    retriever: Annotated[str | None, Flag(shown="VOTEQUEUE_EMBEDDING; with generator openai: lexical")] = (
        Field(
            None,
            description="what finds the solved examples: lexical (n-grams of characters), static (the "
            "generator's token embeddings), PROVIDER:MODEL (a provider's /v1/embeddings), or a "
            "sentence-transformers model",
        )
    )
    examples_per: Literal["question", "entry"] = Field(
        "question",
        description="retrieve the solved examples for each question, or once per entry by its problem: then "
        "one worker takes an entry's questions together, and their prompts are the same up to the question",
    )
    vary: Literal["none", "examples", "options"] = Field(
        "none",
        description="what differs among the votes of a round: none, examples (each vote sees the next "
        "nearest ones), options (each sees them in another order, and its letter is mapped back)",
    )
    # Recorded by digest (`shared.prompt_files`); older runs have a version, or none.
    prompt: Annotated[str | None, Flag(shown="by the data's language")] = Field(
        None, description="prompt: a name that `votequeue prompts list` shows, or a TOML file of your own"
    )
    examples_as: Literal["turns", "text"] = Field(
        "turns",
        description="with chat: solved examples as turns of their own, or as text before the question",
    )
    template_arg: Annotated[list[str], AfterValidator(_check_template_args), Flag(shown="none")] = Field(
        default=[],
        description="with chat: an argument of the model's chat template, repeatable, such as "
        "enable_thinking=false",
    )
    max_thinking: Annotated[int | None, Field(ge=1)] = Field(
        None,
        description="maximum length of a vote's thinking, in tokens, in addition to --max-tokens; empty: "
        "thinking counts toward --max-tokens",
    )
    voices: Annotated[VoiceVotes | None, Flag(shown="as many reasonings as --votes")] = Field(
        None,
        description="votes of each voice per question and round, such as reasoning=3,program=2: reasoning "
        "(words), program (Python, run in a sandbox: docs/programs.md)",
    )
    weights_from: Annotated[str | None, Flag(shown="each vote counts 1")] = Field(
        None,
        description="labelled runs, comma-separated: a vote counts the log-odds that votes of its voice and "
        "outcome are right there",
    )
    stop: Annotated[str, AfterValidator(_check_stop)] = Field(
        "never",
        description="when a round ends before it has all its votes: never; exact (as soon as no further vote "
        "can change its answer); agreement=P (with --weights-from: the first votes of all voices agree, and "
        "such agreement is right with probability P or more). Votes that train a scorer need never",
    )
    first_wave: Count | None = Field(
        None,
        description="with --stop exact: votes asked for first; empty: as few as could decide, as in every "
        "further wave. With --vote-budget: votes that every question gets; empty: 2, or one of each voice",
    )
    vote_budget: Annotated[float | None, Field(ge=1), Flag(shown="each question gets --votes")] = Field(
        None,
        description="mean votes per question of the whole run, at most: after a first wave, further votes go "
        "where they raise the expected number of right answers most, up to --votes or --voices per question "
        "and round. It needs --budget-from",
    )
    budget_from: str | None = Field(
        None,
        description="with --vote-budget: labelled runs, comma-separated, from which it learns how much "
        "further votes gain",
    )
    # What is learned for it (`shared.vote_budget`): gains by fold and state, and prices.
    gains: Annotated[tuple[dict[str, tuple[str, float]], ...] | None, Derived()] = None
    prices: Annotated[tuple[tuple[float, float], ...] | None, Derived()] = None
    # What is learned from these runs, by fold: weights by `voices.kind`, and the probability.
    kind_weights: Annotated[dict[str, tuple[float, ...]] | None, Derived()] = None
    agreement: Annotated[tuple[float, ...] | None, Derived()] = None
    repair: Annotated[int, Field(ge=0, le=1)] = Field(
        0, description="how often a program without a letter is asked for again, with what happened: 0 or 1"
    )
    ask_letter: Literal["never", "last", "always"] = Field(
        "never",
        description="ask votes that end without a letter for one of the options' letters: never, last (in "
        "the last round), always",
    )
    # The digests of the prompts of voices other than reasoning.
    voice_prompts: Annotated[dict[str, str] | None, Derived()] = None
    # The data's language, where it chose the prompt.
    language: Annotated[str | None, Derived()] = None
    # Recorded once the run is finished; see `producers.enqueue.calibrate`.
    calibration: Annotated[Calibration | None, Derived()] = Field(None, exclude_if=lambda value: not value)

    @model_validator(mode="before")
    @classmethod
    def _count_votes(cls, given: Any) -> Any:
        """Set the number of votes where voices are given."""
        if not isinstance(given, Mapping) or not given.get("voices"):
            return given
        try:
            return {**given, "votes": sum(voices.parse(str(given["voices"])).values())}
        except ValueError:
            return given  # the field's own check says what is wrong

    @property
    def votes_by_voice(self) -> dict[str, int]:
        """Give the votes of each voice, in the order in which they are counted."""
        return voices.parse(self.voices) if self.voices else {voices.REASONING: self.votes}

    def of_voice(self, name: str) -> "Sampling":
        """Give the options of the requests of one voice: its votes, prompt and style."""
        update: dict[str, Any] = {"votes": self.votes_by_voice.get(name, self.votes)}
        if self.voice_prompts and name in self.voice_prompts:
            update["prompt"] = self.voice_prompts[name]
        if voices.VOICES[name].chats:
            update["prompt_style"] = "chat"
        if all(getattr(self, option) == value for option, value in update.items()):
            return self
        return self.model_copy(update=update)

    def kind_weight(self, kind: str, fold: int) -> float:
        """Give the weight of a vote of a kind; 0 for a kind of which nothing is known."""
        return 1.0 if self.kind_weights is None else kind_weights.weight(self.kind_weights, kind, fold)

    def most_weight(self, voice: str, fold: int) -> float:
        """Give the highest weight of a vote of a voice, whatever its outcome."""
        if self.kind_weights is None:
            return 1.0
        known = (weights[fold] for kind, weights in self.kind_weights.items() if kind.split()[0] == voice)
        return max(known, default=0.0)

    def stops_at_agreement(self, fold: int) -> bool:
        """Tell whether a question is settled if the first votes of its voices agree."""
        share = self.stop.partition("=")[2]
        return bool(share) and self.agreement is not None and self.agreement[fold] >= float(share)

    @property
    def first_votes(self) -> int:
        """Count the votes that every question gets first, if the run has a vote budget."""
        return self.first_wave or min(int(self.vote_budget or 1), max(2, len(self.votes_by_voice)))

    def order(self, asked: PromptQuestion, place: int) -> str:
        """Give the options' letters in the order in which the vote at a place of a round sees them."""
        moved = self.vary == "options"
        return variety.order(asked, place) if moved else dataset.LETTERS[: len(asked.options)]

    def asks_letters(self, attempt: int) -> bool:
        """Tell whether a round's votes without a letter are asked for one; ``attempt`` counts from 1."""
        return self.ask_letter == "always" or (self.ask_letter == "last" and attempt >= self.max_attempts)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Sampling":
        """Parse a run's record; options that an older run lacks get the behaviour of that time.

        Raises:
            UserError: another version of votequeue wrote it.
        """
        try:
            return cls.model_validate({**OLDER, **renamed(record)})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise UserError(f"the run's options are of another votequeue: {name}: {first['msg']}") from error

    @property
    def combined_runs(self) -> tuple[str, ...]:
        """Name the runs whose votes are combined; none if the run is no combination."""
        return self.votes_of if isinstance(self.votes_of, tuple) else ()

    def weight(self, run: str, fold: int) -> float:
        """Give the weight of a combined run's votes on questions of a fold."""
        return 1.0 if self.weights is None else self.weights[run][fold]


class Reasoning(BaseModel):
    """How a run generates reasonings or programs; ``prompt`` is the version or digest of their prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    label: Annotated[Literal["correct", "wrong"], Derived()]
    letters: Annotated[Literal["next", "every"], Derived()]
    provider: Annotated[str, Derived()]
    models: Annotated[tuple[str, ...], Field(min_length=1), Derived()]
    # Not recorded for reasonings, so that their runs are the same as before there were programs.
    voice: Annotated[str, AfterValidator(voices.check_name), Flag("--as")] = Field(
        voices.REASONING,
        description="what to generate: reasoning, program (Python, kept if its executed answer is the label; "
        "no letter is shown to the model)",
        exclude_if=lambda name: name == voices.REASONING,
    )
    asks: Count = Field(3, description="attempts per model to get a text with the right letter")
    max_tokens: Count = Field(1024, description="maximum length of a text, in tokens")
    temperature: Temperature = Field(0.7, description="sampling temperature of the texts")
    prompt: Annotated[str, Derived()]
    # The default is the reader of older runs, which lack this field.
    reader: ReaderName = Field(
        answers.REFERENCE, description=SamplingDefaults.model_fields["reader"].description
    )

    def letters_of(self, question: Question) -> str:
        """List the letters to generate reasonings for; none if the answer is unknown."""
        if self.label == "correct":
            return question.answer or ""
        return question.wrong_letters[:1] if self.letters == "next" else question.wrong_letters


class Reading(BaseModel):
    """How a data set is read: the layout of its rows, and which of its entries are taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: str | None = Field(
        default=None, description="layout of the rows, such as agieval; default: recognised by their fields"
    )
    map: Annotated[list[str], Flag(shown="none")] = Field(
        default=[],
        description="where a field of another layout is, repeatable: question=stem, options=A,B,C,D, "
        "answer=label (also: problem, id, reasoning)",
    )
    answers: Literal["letter", "index-0", "index-1", "text"] | None = Field(
        default=None, description="with --map: how answers are written: letter, index-0, index-1 or text"
    )
    limit: Count | None = Field(default=None, description="take the first N entries only")
    sample: Count | None = Field(default=None, description="take N entries at random, in file order")
    sample_seed: int = Field(default=0, description="seed of --sample; the same seed takes the same entries")

    @property
    def identity(self) -> dict[str, Any]:
        """Give the options that make other data of the same file; empty if there are none."""
        given = self.model_dump(exclude_defaults=True, exclude={"format"})
        return given if self.sample else {name: given[name] for name in given if name != "sample_seed"}


WRITES = 3  # attempts of a chat model to write a variant that is kept


def _check_strategy(name: str) -> str:
    if name not in STRATEGIES:
        *names, last = map(repr, STRATEGIES)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(names)} or {last}"})
    return name


class Augmentation(BaseModel):
    """How a run makes new entries from existing ones; options that its strategy does not use are ``None``.

    `shared.strategies` lists each strategy's options and defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    strategy: Annotated[str, AfterValidator(_check_strategy), Derived()]
    provider: Annotated[str | None, Derived()] = None
    model: Annotated[str | None, Derived()] = None
    prompt: Annotated[str | None, Derived()] = None
    language: Annotated[str | None, Flag(before="--from")] = Field(None, description="language of the data")
    pivot: str | None = Field(None, description="intermediate language of back-translation")
    skip: Annotated[str | None, Flag("--skip-pattern")] = Field(
        None, description="regular expression: entries that match it are not translated"
    )
    shortest: Share | None = Field(
        None, description="minimum length of a text that comes back, as a share of the original's"
    )
    longest: Annotated[float, Field(ge=1)] | None = Field(
        None, description="maximum length of a text that comes back, as a multiple of the original's"
    )
    share: Share | None = Field(None, description="share of replaceable words to replace")
    seed: int | None = Field(None, description="seed for choosing words and synonyms")
    samples: Count | None = Field(None, description="answers sampled to check a variant's letter")
    agree: Count | None = Field(None, description="how many of these answers must give the letter")
    near_copy: Share | None = Field(None, description="minimum embedding similarity of a near copy")
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
    """Give an option's flag; ``None`` if the field has no flag."""
    metadata = model.model_fields[field].metadata
    if any(isinstance(mark, Derived) for mark in metadata):
        return None
    return next((mark for mark in metadata if isinstance(mark, Flag)), Flag())
