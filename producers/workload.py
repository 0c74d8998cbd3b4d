"""What a run would ask of outside services, worked out from its data: calls, tokens, characters.

    reasonings(entries, options)
        ->  Workload(loads=[Load("chat", "deepseek-chat", Amount(calls=1475, ...), Amount(calls=3984, ...))],
                     on_record=12, assumptions=["9 of 10 replies agree with the letter", ...])

Each amount is there twice: as it is expected, and at the most, with prompts bounded by their bytes as budgets
bound them. What is on record already is left out. Nothing is sent or written; what it all costs, and how long
it takes, is `estimate`'s.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from shared import bought, bounds, ledger, prompts
from shared.bought import Wanted
from shared.dataset import Entry
from shared.jobs import WRITES, Augmentation, Reasoning
from shared.providers import Usage

AGREE = {"correct": 0.9, "wrong": 0.6}  # share of replies that come to the letter they were given
KEPT = 0.5  # share of variants that are kept
NO_CALL = Usage()
REPLY = 400  # tokens of a usual reasoning


@dataclass(frozen=True)
class Amount:
    """How much is asked of a service; means, so no whole numbers."""

    calls: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    characters: float = 0.0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.characters + other.characters,
        )


@dataclass(frozen=True)
class Load:
    """What is asked of one model; ``call`` is the most that the largest call may use."""

    provider: str
    model: str
    expected: Amount
    most: Amount
    call: Usage = NO_CALL


@dataclass(frozen=True)
class Workload:
    """What is asked of all models; ``on_record`` counts the texts that are there already."""

    loads: list[Load] = field(default_factory=list)
    on_record: int = 0
    assumptions: list[str] = field(default_factory=list)


# Reasonings


def reasonings(entries: Iterable[Entry], options: Reasoning) -> Workload:
    """Work out what it takes to get reasonings for the labelled questions of some entries."""
    asked = tokens = bound = largest = known = 0
    for chunk in ledger.chunks(_wanted(entries, options)):
        for wanted, there in zip(chunk, bought.have_reasonings(chunk, options.models), strict=True):
            known += there
            if not there:
                asked += 1
                prompt = prompts.explaining(wanted.asked, wanted.letter)
                tokens += prompts.tokens(prompt)
                bound += bounds.message(prompt)
                largest = max(largest, bounds.message(prompt))
    agree = AGREE[options.label]
    said = f"{10 * agree:.0f} of 10 replies agree with the letter and have {REPLY} tokens"
    call = Usage(largest, options.max_tokens) if asked else NO_CALL
    return Workload(list(_by_model(asked, (tokens, bound), call, options)), known, [said])


def _wanted(entries: Iterable[Entry], options: Reasoning) -> Iterator[Wanted]:
    for entry in entries:
        for index, question in enumerate(entry.questions):
            asked = ledger.asked(entry, index)
            for letter in options.letters_of(question):
                yield Wanted(asked, letter, options.label, options.provider, options.prompt)


def _by_model(asked: int, tokens: tuple[int, int], call: Usage, options: Reasoning) -> Iterator[Load]:
    # Without chance in it, the same prompt has the same reply: it is asked once.
    asks = options.asks if options.temperature > 0 else 1
    missing = 1 - AGREE[options.label]
    reply = min(REPLY, options.max_tokens)
    for place, model in enumerate(options.models):
        # The next model is asked only where those before it never agreed.
        times = missing ** (asks * place) * (1 - missing**asks) / (1 - missing)
        expected = Amount(asked * times, tokens[0] * times, asked * times * reply)
        most = Amount(asked * asks, tokens[1] * asks, asked * asks * options.max_tokens)
        yield Load(options.provider, model, expected, most, call)


# Variants


def variants(entries: Iterable[Entry], options: Augmentation) -> Workload:
    """Work out what it takes to get a variant of each labelled question, and to have it answered."""
    samples, longest = options.samples or 0, options.max_tokens or 0
    asked = read = bound = largest = 0
    for entry in entries:
        for index, question in enumerate(entry.questions):
            if question.answer is not None:
                known = ledger.asked(entry, index)
                asked += 1
                writing = prompts.varying(prompts.Solved(known, "", question.answer))
                answering = prompts.answering(known)
                read += prompts.tokens(writing) + samples * prompts.tokens(answering)
                bound += bounds.message(writing) + samples * bounds.message(answering)
                largest = max(largest, bounds.message(writing), bounds.message(answering))
    # Without chance in it, the same prompt has the same variant.
    writes = WRITES if options.temperature else 1
    tries = (1 - (1 - KEPT) ** writes) / KEPT
    calls = asked * (1 + samples)
    load = Load(
        options.provider or "",
        options.model or "",
        Amount(calls * tries, read * tries, calls * tries * min(REPLY, longest)),
        Amount(calls * writes, bound * writes, calls * writes * longest),
        Usage(largest, longest) if asked else NO_CALL,
    )
    said = f"{10 * KEPT:.0f} of 10 variants are kept, the others written again, {writes} times in all"
    return Workload([load], 0, [said, f"variants are as long as the originals, replies have {REPLY} tokens"])
