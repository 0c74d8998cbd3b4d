"""Checks that a new wording keeps numbers, names and letters, and has a sensible length.

    question(old, new, Bounds("zh", 0.4, 2.5))  ->  ["option B: the number 7 is gone"]

Comparisons:

- Numbers in digits, by value. 三 may become 3, and 4万 may become 40000, but no number may appear, disappear
  or change. In a reasoning, its count may change. Numbers that stay spelt out are not compared.
- Latin words and letters (names, variables, code), by exact spelling: none may be lost or new. Their counts
  may change, since languages omit implied words; in an option they may not.
- Options: the same number, none empty, none newly equal. The right option must differ from each other option
  in more than punctuation, if it did before.
- Lengths: within bounds; a difference of a few characters is always allowed.
- A reasoning must yield the same letter, and must not name its answer more often.
"""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from shared import answers, prompts, segments
from shared.dataset import Question

SLACK = 6  # characters by which any text may be shorter or longer
SHOWN = 3  # missing or new words that a reason names
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]+")
_CHOICE = re.compile(r"答案是\s*[:：]")
_Thing = TypeVar("_Thing", str, Decimal)


@dataclass(frozen=True)
class Bounds:
    """The data's language, and the bounds of a new text's length, as shares of the old length."""

    language: str
    shortest: float
    longest: float


@dataclass(frozen=True)
class _Kind:
    """Whether the counts of numbers and words must stay the same, or only their presence."""

    numbers: bool
    words: bool


_PROSE, _OPTION, _REASONING = _Kind(True, False), _Kind(True, True), _Kind(False, False)


def problem(old: str, new: str, bounds: Bounds) -> list[str]:
    """List the flaws of a problem's new wording."""
    return list(_text(old, new, bounds, _PROSE))


def question(old: Question, new: Question, bounds: Bounds) -> list[str]:
    """List the flaws of a question's new wording, including its options and reasonings."""
    if len(old.options) != len(new.options):
        return [f"there were {len(old.options)} options, now there are {len(new.options)}"]
    return [
        *_named("the question", _text(old.question, new.question, bounds, _PROSE)),
        *_options(old, new, bounds),
        *_reasonings(old, new, bounds),
    ]


def _named(name: str, reasons: Iterable[str]) -> Iterator[str]:
    for reason in reasons:
        yield f"{name}: {reason}"


# Options


def _options(old: Question, new: Question, bounds: Bounds) -> Iterator[str]:
    for letter, before, after in zip(old.letters, old.options, new.options, strict=True):
        yield from _named(f"option {letter}", _text(before, after, bounds, _OPTION))
    merged = _merged(old, new, str.strip)
    if old.answer is not None:
        right = old.letters.index(old.answer)
        merged |= {pair for pair in _merged(old, new, _bare) if right in pair}
    for first, second in sorted(merged):
        yield f"options {old.letters[first]} and {old.letters[second]} are now the same"


def _merged(old: Question, new: Question, form: Callable[[str], str]) -> set[tuple[int, int]]:
    return _pairs(new.options, form) - _pairs(old.options, form)


def _pairs(options: Sequence[str], form: Callable[[str], str]) -> set[tuple[int, int]]:
    forms = [form(option) for option in options]
    pairs = itertools.combinations(range(len(forms)), 2)
    return {(first, second) for first, second in pairs if forms[first] == forms[second]}


def _bare(option: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", option).casefold()))


# Reasonings


def _reasonings(old: Question, new: Question, bounds: Bounds) -> Iterator[str]:
    both = zip(_all_reasonings(old), _all_reasonings(new), strict=True)
    for number, (before, after) in enumerate(both):
        name = f"wrong reasoning {number}" if number else "the reasoning"
        yield from _named(name, _reasoning(before, after, len(old.options), bounds))


def _all_reasonings(question: Question) -> list[str]:
    return [question.reasoning or "", *(wrong.reasoning for wrong in question.wrong)]


def _reasoning(old: str, new: str, options: int, bounds: Bounds) -> Iterator[str]:
    # Of the closing line, only the letter is compared.
    yield from _text(prompts.without_closing(old), prompts.without_closing(new), bounds, _REASONING)
    was, now = answers.extract(old, options), answers.extract(new, options)
    if was != now:
        yield f"it was read as {was or 'no letter'} and is now read as {now or 'none'}"
    if len(_CHOICE.findall(new)) > max(1, len(_CHOICE.findall(old))):
        yield "it names its answer more often than it did"


# Any text


def _text(old: str, new: str, bounds: Bounds, kind: _Kind) -> Iterator[str]:
    if old.strip() and not new.strip():
        yield "it came back empty"
        return
    yield from _numbers(old, new, kind.numbers)
    if not segments.is_latin(bounds.language):
        before, after = _words(old, kind.words), _words(new, kind.words)
        yield from _lost("the name or word", before - after, after)
        yield from _added("the name or word", after - before, before)
    yield from _length(len(old.strip()), len(new.strip()), bounds)


def _numbers(old: str, new: str, counted: bool) -> Iterator[str]:
    before, after = digits(old), digits(new)
    spelt_before, spelt_after = spelt(old), spelt(new)
    if counted:
        # A number that changed between digits and words is neither new nor missing.
        gone = before - after - (spelt_after - spelt_before)
        come = after - before - (spelt_before - spelt_after)
    else:
        gone = _presence(before.keys() - after.keys() - spelt_after.keys())
        come = _presence(after.keys() - before.keys() - spelt_before.keys())
    yield from _lost("the number", gone, after)
    yield from _added("the number", come, before)


def _words(text: str, counted: bool) -> Counter[str]:
    counts = Counter(_LATIN.findall(unicodedata.normalize("NFKC", text)))
    return counts if counted else _presence(counts)


def _presence(things: Iterable[_Thing]) -> Counter[_Thing]:
    return Counter(dict.fromkeys(things, 1))


def _lost(what: str, gone: Counter[_Thing], after: Counter[_Thing]) -> Iterator[str]:
    for thing in sorted(gone)[:SHOWN]:
        yield f"{what} {thing} is {'said less often' if thing in after else 'gone'}"


def _added(what: str, come: Counter[_Thing], before: Counter[_Thing]) -> Iterator[str]:
    for thing in sorted(come)[:SHOWN]:
        yield f"{what} {thing} is {'said more often' if thing in before else 'new'}"


def _length(old: int, new: int, bounds: Bounds) -> Iterator[str]:
    if not bounds.shortest * old - SLACK <= new <= bounds.longest * old + SLACK:
        yield f"it had {old} characters and came back with {new}"


_DIGITS = re.compile(r"((?<![\dA-Za-z)\]])[-−])?(\d{1,3}(?:,\d{3})+(?!\d)|\d+)(\.\d+)?([十百千万亿]*)")
_SPELT = re.compile(r"[〇零一二两三四五六七八九十百千万亿]+")
_ONES = {character: value for value, character in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_TENS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "亿": 10**8}


def digits(text: str) -> Counter[Decimal]:
    """Count the numbers written in digits, including full-width ones and those before 万."""
    return Counter(
        Decimal(whole.replace(",", "") + part) * (-1 if sign else 1) * _unit(unit)
        for sign, whole, part, unit in _DIGITS.findall(unicodedata.normalize("NFKC", text))
    )


def spelt(text: str) -> Counter[Decimal]:
    """Count the numbers spelt in Chinese, without those that are units of digits (4万)."""
    plain = _DIGITS.sub(" ", unicodedata.normalize("NFKC", text))
    return Counter(Decimal(_value(run)) for run in _SPELT.findall(plain))


def _unit(units: str) -> int:
    value = 1
    for unit in units:
        value *= _TENS.get(unit) or _MYRIADS[unit]
    return value


def _value(run: str) -> int:
    if all(character in _ONES for character in run):
        return int("".join(str(_ONES[character]) for character in run))
    total = section = digit = 0
    for character in run:
        if character in _ONES:
            digit = _ONES[character]
        elif character in _TENS:
            # 十 alone is ten: a missing digit before it means one.
            section, digit = section + (digit or 1) * _TENS[character], 0
        else:
            # 亿 multiplies all before it, 万 only what follows the last 亿.
            section += digit
            scale = _MYRIADS[character]
            if scale > 10**4:
                total, section = (total + section or 1) * scale, 0
            else:
                total, section = total + (section or 1) * scale, 0
            digit = 0
    return total + section + digit
