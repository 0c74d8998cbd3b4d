"""What back-translation asks of a service: lines of text, to another language and back, in packed calls.

    workload(entries, options)
        ->  Workload(loads=[Load("tencent", "TextTranslateBatch", Amount(calls=212, characters=381402), ...)],
                     on_record=40, assumptions=["a text has 1.4 times its length in ja", ...])

It reckons with characters and texts a call, as the workers pack them, but packs nothing. Nothing is sent.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from producers.workload import NO_CALL, Amount, Load, Workload
from shared import bought, bounds, ledger, prompts, providers, segments, settings
from shared.bought import Route
from shared.dataset import Entry
from shared.jobs import Augmentation
from shared.providers import Usage

FILLED = 0.9  # how full a packed call is
BYTES = 3  # of a Chinese character, which an estimate takes for one token and a budget for so many
LONGER = 2  # at the most, a translation has so many times the tokens of its text

# A text's length by language, that of the Chinese one being 1: in characters, and in tokens.
_LENGTHS = {"zh": (1.0, 1.0), "ja": (1.4, 1.4), "ko": (1.3, 1.3)}
_OTHER_LENGTH = (3.0, 1.5)


@dataclass
class _Way:
    """One direction of a translation: what goes that way, and how many calls it is, each entry by itself."""

    texts: float = 0.0
    characters: float = 0.0
    tokens: float = 0.0
    alone: int = 0


def workload(entries: Iterable[Entry], options: Augmentation) -> Workload:
    """Work out what it takes to translate some entries into another language and back."""
    there, back, known = _Way(), _Way(), 0
    lengths = [_LENGTHS.get(word or "", _OTHER_LENGTH) for word in (options.language, options.pivot)]
    ratio = lengths[1][0] / lengths[0][0], lengths[1][1] / lengths[0][1]
    size = _call_size(options)
    for pieces in ledger.chunks(
        (_pieces(entry, options.language or "", size[0]) for entry in entries), size=50
    ):
        memory = _remembered({text for texts in pieces for text in texts}, options)
        known += sum(memory.values())
        for texts in pieces:
            # What an entry before it in the chunk asks for is in the memory by then.
            ways = [(text, memory.pop(text)) for text in texts if text in memory]
            _add(there, [text for text, found in ways if found < 1], (1.0, 1.0), size)
            _add(back, [text for text, found in ways if found < 2], ratio, size)
    loads = [_translated(there, ratio, options), _translated(back, (1 / ratio[0], 1 / ratio[1]), options)]
    load = Load(
        options.provider or "",
        options.model or "",
        loads[0][0] + loads[1][0],
        loads[0][1] + loads[1][1],
        _largest(there, options) if there.texts or back.texts else NO_CALL,
    )
    grown = f"a text has {ratio[0]:.3g} times its length in {options.pivot}"
    return Workload([load], known, [grown, f"packed calls are {100 * FILLED:.0f} % full"])


def _pieces(entry: Entry, language: str, longest: float) -> list[str]:
    most = None if longest == math.inf else int(longest)
    found = (piece for text in segments.texts(entry) for piece in segments.split(text, language, most))
    return list(dict.fromkeys(piece.text for piece in found if piece.text))


def _remembered(texts: set[str], options: Augmentation) -> dict[str, int]:
    """Tell for each text how many of its two ways are in the memory."""
    ways = bought.routes(options)
    there = _found(texts, ways[0])
    back = _found(set(there.values()), ways[1])
    return {text: (text in there) + (there.get(text) in back) for text in texts}


def _found(texts: set[str], route: Route) -> dict[str, str]:
    # A few at a time: a statement takes only so many values.
    found: dict[str, str] = {}
    for some in ledger.chunks(texts):
        found |= bought.find_translations(some, route)
    return found


def _add(way: _Way, texts: list[str], ratio: tuple[float, float], size: tuple[float, float]) -> None:
    characters = sum(map(len, texts)) * ratio[0]
    way.texts += len(texts)
    way.characters += characters
    way.tokens += sum(map(prompts.tokens, texts)) * ratio[1]
    way.alone += math.ceil(max(characters / size[0], len(texts) / size[1]))


def _call_size(options: Augmentation) -> tuple[float, float]:
    limits = providers.limits(options.provider or "", options.model or "", settings.load().limits)
    if options.prompt is not None:
        return limits.characters or providers.PROMPTED_CHARACTERS, limits.texts or providers.PROMPTED_TEXTS
    # One text a call holds many lines.
    texts = None if limits.texts == 1 else limits.texts
    return limits.characters or math.inf, texts or math.inf


def _translated(way: _Way, ratio: tuple[float, float], options: Augmentation) -> tuple[Amount, Amount]:
    size = _call_size(options)
    calls = math.ceil(max(way.characters / size[0] / FILLED, way.texts / size[1], way.texts > 0))
    most = max(calls, way.alone)
    if options.prompt is None and not _by_tokens(options):
        return Amount(calls, characters=way.characters), Amount(most, characters=way.characters)
    framed = way.tokens + (2 * way.texts if options.prompt else 0)
    frame = prompts.tokens(prompts.translating([], "zh", "ja")) if options.prompt else 0
    characters = 0.0 if options.prompt else way.characters
    return (
        Amount(calls, calls * frame + framed, framed * ratio[1], characters),
        Amount(most, most * bounds.TEMPLATE + BYTES * (most * frame + framed), framed * LONGER, characters),
    )


def _largest(way: _Way, options: Augmentation) -> Usage:
    """Bound one call: it holds all that its service takes a call, or all that there is."""
    characters = math.ceil(min(_call_size(options)[0], way.characters))
    if options.prompt is None and not _by_tokens(options):
        return Usage(characters=characters)
    tokens = BYTES * characters
    frame = bounds.message(prompts.translating([], "zh", "ja") if options.prompt else "")
    return Usage(tokens + frame, LONGER * tokens)


def _by_tokens(options: Augmentation) -> bool:
    # A translation service counts characters; the language models that it offers besides count tokens.
    return options.model != providers.PROVIDERS[options.provider or ""].translation_model
