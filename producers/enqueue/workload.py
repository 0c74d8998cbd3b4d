"""Compute the workload of a run: calls, tokens and characters by external service.

    reasonings(entries, options)
        ->  Workload(loads=[Load("chat", "deepseek-chat", Amount(calls=1475, ...), Amount(calls=3984, ...))],
                     on_record=12, assumptions=["9 of 10 replies agree with the letter", ...])

Each amount has an expected and a maximum value; for the maximum, prompts count one token per byte, as in
budgets. Recorded texts are left out. Nothing is sent or written. `estimate` computes cost and duration.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from shared import prompts, providers, segments, settings, token_bounds
from shared.dataset import Entry
from shared.ledger import cache, engine, prompt_store, runs
from shared.ledger.cache import Route, Wanted
from shared.options import WRITES, Augmentation, Reasoning
from shared.providers import Usage
from shared.voices import VOICES

AGREE = {"correct": 0.9, "wrong": 0.6}  # share of replies that conclude with the given letter
SOLVED = 0.4  # share of programs with the right result; no letter is shown to their model
KEPT = 0.5  # share of variants that are kept
NO_CALL = Usage()
REPLY = 400  # tokens of a typical reasoning


@dataclass(frozen=True)
class Amount:
    """The amount requested from a service; means, so not whole numbers."""

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
    """The load of one model; ``call`` is the maximum usage of its largest call."""

    provider: str
    model: str
    expected: Amount
    most: Amount
    call: Usage = NO_CALL


@dataclass(frozen=True)
class Workload:
    """The load of all models; ``on_record`` counts the recorded texts."""

    loads: list[Load] = field(default_factory=list)
    on_record: int = 0
    assumptions: list[str] = field(default_factory=list)


# Reasonings


def reasonings(entries: Iterable[Entry], options: Reasoning) -> Workload:
    """Compute the workload of reasonings for the labelled questions of some entries."""
    missing = tokens = bound = largest = reused = 0
    for chunk in engine.chunks(_wanted(entries, options)):
        for wanted, recorded in zip(chunk, cache.have_reasonings(chunk, options.models), strict=True):
            reused += recorded
            if not recorded:
                missing += 1
                prompt = prompt_store.generating(wanted.prompt, wanted.asked, wanted.letter)
                tokens += prompts.tokens(prompt)
                bound += token_bounds.message(prompt)
                largest = max(largest, token_bounds.message(prompt))
    agree = _agreeing(options)
    premise = f"{10 * agree:.0f} of 10 replies agree with the letter and have {REPLY} tokens"
    call = Usage(largest, options.max_tokens) if missing else NO_CALL
    return Workload(list(_by_model(missing, (tokens, bound), call, options)), reused, [premise])


def _wanted(entries: Iterable[Entry], options: Reasoning) -> Iterator[Wanted]:
    for entry in entries:
        for index, question in enumerate(entry.questions):
            asked = runs.asked(entry, index)
            for letter in options.letters_of(question):
                yield Wanted(asked, letter, options.label, options.provider, options.prompt)


def _agreeing(options: Reasoning) -> float:
    return AGREE[options.label] if VOICES[options.voice].explains else SOLVED


def _by_model(asked: int, tokens: tuple[int, int], call: Usage, options: Reasoning) -> Iterator[Load]:
    # At temperature 0 the same prompt gets the same reply, so it is asked once.
    asks = options.asks if options.temperature > 0 else 1
    missing = 1 - _agreeing(options)
    reply = min(REPLY, options.max_tokens)
    for place, model in enumerate(options.models):
        # Each model is asked only where the ones before it never agreed.
        times = missing ** (asks * place) * (1 - missing**asks) / (1 - missing)
        expected = Amount(asked * times, tokens[0] * times, asked * times * reply)
        most = Amount(asked * asks, tokens[1] * asks, asked * asks * options.max_tokens)
        yield Load(options.provider, model, expected, most, call)


# Variants


def variants(entries: Iterable[Entry], options: Augmentation) -> Workload:
    """Compute the workload of writing and answering a variant of each labelled question."""
    samples, longest = options.samples or 0, options.max_tokens or 0
    asked = read = bound = largest = 0
    for entry in entries:
        for index, question in enumerate(entry.questions):
            if question.answer is not None:
                asked_question = runs.asked(entry, index)
                asked += 1
                writing = prompts.varying(prompts.FewShotExample(asked_question, "", question.answer))
                answering = prompts.answering(asked_question)
                read += prompts.tokens(writing) + samples * prompts.tokens(answering)
                bound += token_bounds.message(writing) + samples * token_bounds.message(answering)
                largest = max(largest, token_bounds.message(writing), token_bounds.message(answering))
    # At temperature 0 the same prompt gives the same variant.
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
    premise = f"{10 * KEPT:.0f} of 10 variants are kept, the others written again, {writes} times in all"
    return Workload(
        [load], 0, [premise, f"variants are as long as the originals, replies have {REPLY} tokens"]
    )


FILLED = 0.9  # fill level of a packed call
BYTES = 3  # per Chinese character; an estimate counts one token, a budget one per byte
LONGER = 2  # maximum ratio of a translation's tokens to its text's

# A text's length by language relative to Chinese: in characters, and in tokens.
_LENGTHS = {"zh": (1.0, 1.0), "ja": (1.4, 1.4), "ko": (1.3, 1.3)}
_OTHER_LENGTH = (3.0, 1.5)


@dataclass
class _Leg:
    """One leg of a translation: what goes that way, and how many calls it is, each entry by itself."""

    texts: float = 0.0
    characters: float = 0.0
    tokens: float = 0.0
    alone: int = 0


def translations(entries: Iterable[Entry], options: Augmentation) -> Workload:
    """Compute the workload of translating some entries into another language and back."""
    there, back, reused = _Leg(), _Leg(), 0
    lengths = [_LENGTHS.get(word or "", _OTHER_LENGTH) for word in (options.language, options.pivot)]
    ratio = lengths[1][0] / lengths[0][0], lengths[1][1] / lengths[0][1]
    size = _call_size(options)
    for pieces in engine.chunks(
        (_pieces(entry, options.language or "", size[0]) for entry in entries), size=50
    ):
        memory = _remembered({text for texts in pieces for text in texts}, options)
        reused += sum(memory.values())
        for texts in pieces:
            # Texts of earlier entries in the chunk are in the memory by then.
            missing = [(text, memory.pop(text)) for text in texts if text in memory]
            _add(there, [text for text, ways_known in missing if ways_known < 1], (1.0, 1.0), size)
            _add(back, [text for text, ways_known in missing if ways_known < 2], ratio, size)
    loads = [_translated(there, ratio, options), _translated(back, (1 / ratio[0], 1 / ratio[1]), options)]
    load = Load(
        options.provider or "",
        options.model or "",
        loads[0][0] + loads[1][0],
        loads[0][1] + loads[1][1],
        _largest(there, options) if there.texts or back.texts else NO_CALL,
    )
    grown = f"a text has {ratio[0]:.3g} times its length in {options.pivot}"
    return Workload([load], reused, [grown, f"packed calls are {100 * FILLED:.0f} % full"])


def _pieces(entry: Entry, language: str, longest: float) -> list[str]:
    most = None if longest == math.inf else int(longest)
    parts = (piece for text in segments.texts(entry) for piece in segments.split(text, language, most))
    return list(dict.fromkeys(piece.text for piece in parts if piece.text))


def _remembered(texts: set[str], options: Augmentation) -> dict[str, int]:
    """Return for each text how many of its two legs are in the translation memory."""
    ways = cache.routes(options)
    there = _known_translations(texts, ways[0])
    back = _known_translations(set(there.values()), ways[1])
    return {text: (text in there) + (there.get(text) in back) for text in texts}


def _known_translations(texts: set[str], route: Route) -> dict[str, str]:
    # In chunks, because a statement has a limited number of parameters.
    translations: dict[str, str] = {}
    for some in engine.chunks(texts):
        translations |= cache.find_translations(some, route)
    return translations


def _add(leg: _Leg, texts: list[str], ratio: tuple[float, float], size: tuple[float, float]) -> None:
    characters = sum(map(len, texts)) * ratio[0]
    leg.texts += len(texts)
    leg.characters += characters
    leg.tokens += sum(map(prompts.tokens, texts)) * ratio[1]
    leg.alone += math.ceil(max(characters / size[0], len(texts) / size[1]))


def _call_size(options: Augmentation) -> tuple[float, float]:
    limits = providers.limits(options.provider or "", options.model or "", settings.load().limits)
    if options.prompt is not None:
        return limits.characters or providers.PROMPTED_CHARACTERS, limits.texts or providers.PROMPTED_TEXTS
    # A single text may hold many lines.
    texts = None if limits.texts == 1 else limits.texts
    return limits.characters or math.inf, texts or math.inf


def _translated(leg: _Leg, ratio: tuple[float, float], options: Augmentation) -> tuple[Amount, Amount]:
    size = _call_size(options)
    calls = math.ceil(max(leg.characters / size[0] / FILLED, leg.texts / size[1], leg.texts > 0))
    most = max(calls, leg.alone)
    if options.prompt is None and not _by_tokens(options):
        return Amount(calls, characters=leg.characters), Amount(most, characters=leg.characters)
    framed = leg.tokens + (2 * leg.texts if options.prompt else 0)
    frame = prompts.tokens(prompts.translating([], "zh", "ja")) if options.prompt else 0
    characters = 0.0 if options.prompt else leg.characters
    return (
        Amount(calls, calls * frame + framed, framed * ratio[1], characters),
        Amount(
            most, most * token_bounds.TEMPLATE + BYTES * (most * frame + framed), framed * LONGER, characters
        ),
    )


def _largest(leg: _Leg, options: Augmentation) -> Usage:
    """Return the maximum usage of one call: its service's limit, or all texts."""
    characters = math.ceil(min(_call_size(options)[0], leg.characters))
    if options.prompt is None and not _by_tokens(options):
        return Usage(characters=characters)
    tokens = BYTES * characters
    frame = token_bounds.message(prompts.translating([], "zh", "ja") if options.prompt else "")
    return Usage(tokens + frame, LONGER * tokens)


def _by_tokens(options: Augmentation) -> bool:
    # A translation service bills characters; its language models bill tokens.
    return options.model != providers.PROVIDERS[options.provider or ""].translation_model
