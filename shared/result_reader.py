"""Read the letter of a program's output: what it printed last is a letter, or the value of one option.

    read(Execution("最大的是 3.0\\n"), ["1 人", "3 人"])  ->  ("B", "result")
    read(Execution("4\\n"), ["1 人", "3 人"])             ->  (None, "no option")

Values match as numbers (with units, within rounding), lists and sets (whatever their brackets and
separators), words for yes and no, and texts. Exactly one option must match. The program's own text is never
read.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from shared import prompts
from shared.dataset import LETTERS

# How a program's vote ended. Any other outcome is the class of the program's error, such as NameError.
LETTER, RESULT, SILENT, NO_OPTION = "letter", "result", "silent", "no option"
OUT_OF_TIME, OUT_OF_MEMORY, TOO_MUCH_OUTPUT, CRASHED = "time", "memory", "output", "crash"
READ = {LETTER, RESULT, SILENT, NO_OPTION}  # outcomes of programs that ran to their end
_LONGEST = 2000  # characters of a value
_MOST_LINES = 20  # of a list that is printed line by line


@dataclass(frozen=True)
class Execution:
    """What a program printed; if it failed, ``failure`` is its outcome, and ``detail`` says more."""

    output: str
    failure: str | None = None
    detail: str | None = None


def read(execution: Execution, options: Sequence[str]) -> tuple[str | None, str]:
    """Read the letter of a program's output among a question's options; say how the vote ended."""
    if execution.failure is not None:
        return None, execution.failure
    lines = [line for line in map(_plain, execution.output.splitlines()) if line]
    if not lines:
        return None, SILENT
    values = [_plain(text) for text in prompts.without_letters(options)]
    tested = _only_true("\n".join(lines[-len(values) :]), len(values)) or _only_true(lines[-1], len(values))
    if tested:
        return tested, LETTER
    letters = _letters(lines[-1], values)
    matching = letters or _results(lines[-1], values)
    if 1 < len(lines) <= _MOST_LINES:
        # A list may be printed line by line, and so may all options that pass a test.
        each = [_letters(line, values) or _results(line, values) for line in lines]
        matching = matching.union(_results(",".join(lines), values, whole=True), *(each if all(each) else ()))
    if len(matching) != 1:
        return None, NO_OPTION
    return min(matching), LETTER if letters else RESULT


# Letters

_FIRST_LABEL = re.compile(r"[^:=]*[:=]\s*(?=[^\s:=])")
_LABEL = re.compile(
    r"^.*(?:[:=]|(?<!不)是|为|选|\b(?:is|are|answer|option|result)\b)\s*(?=[^\s:=])", re.IGNORECASE
)
_LONE = re.compile(r"(?:选项|选|option\s)?\s*[(\[{]?\s*([A-Z])\s*[)\]}]?\s*[.,、:]?", re.IGNORECASE)
_WITH_TEXT = re.compile(r"[(\[]?([A-Z])[)\]]?\s*[.、:)]\s*(.+)")
_TEST = re.compile(r"\(?([A-Z])\)?\W{1,4}((?i:true|false))")


def _letters(line: str, values: Sequence[str]) -> set[str]:
    """Collect the letters that a line names; an option whose own text is a letter may be meant as well."""
    known = LETTERS[: len(values)]
    for text in _candidates(line):
        lone = _LONE.fullmatch(text)
        if lone and lone[1] in known:
            return {lone[1]} | {known[at] for at, value in enumerate(values) if value == lone[1]}
        told = _WITH_TEXT.fullmatch(text)
        if told and told[1] in known and _results(told[2], values) == {told[1]}:
            return {told[1]}
    return set()


def _only_true(text: str, options: int) -> str | None:
    """Give the only option that a table of tests finds true: ``A: False, B: True``."""
    tests = _TEST.findall(text)
    true = [letter for letter, truth in tests if truth.lower() == "true"]
    whole = sorted(letter for letter, _ in tests) == list(LETTERS[:options])
    return true[0] if whole and len(true) == 1 else None


# Values


def _results(line: str, values: Sequence[str], whole: bool = False) -> set[str]:
    """Collect the letters of the options that match a line, by the strictest comparison that any matches."""
    if line == "None":  # what a function without a result prints
        return set()
    for text in [line] if whole else _candidates(line):
        for same in _COMPARISONS[1:] if whole else _COMPARISONS:
            found = {LETTERS[at] for at, value in enumerate(values) if same(text, value)}
            if found:
                return found
        polarity = None if whole else _polarity(text)
        if not whole and polarity is None and sorted(map(_polarity, values), key=bool) == [False, True]:
            polarity = _affirmed(text)
        if polarity is not None:
            found = {LETTERS[at] for at, truth in enumerate(_polarities(values)) if truth is polarity}
            if found:
                return found
    return set()


def _candidates(line: str) -> Iterator[str]:
    """Give a line, and what follows its label: ``最大的是：3`` -> ``3``."""
    yield line
    for label in (_FIRST_LABEL.match(line), _LABEL.match(line)):
        if label:
            yield line[label.end() :].strip()


def _plain(text: str) -> str:
    """Normalise widths, spaces, quotes, Markdown and closing punctuation."""
    text = unicodedata.normalize("NFKC", text[-_LONGEST:])
    text = re.sub(r"(?:\s|\\n)+$", "", text)  # also line breaks that an option's text spells out
    text = re.sub(r"[\"'`“”‘’*$\\]", "", text)
    return re.sub(r"\s+", " ", text).strip(" 。.;!")


def _same_text(printed: str, value: str) -> bool:
    return _tight(printed) == _tight(value) or _same_number(printed, value)


def _tight(text: str) -> str:
    return re.sub(r"\s", "", text).casefold()


# Lists

_TYPE = re.compile(r"\b(?:frozenset|set|list|tuple|deque|dict(?:_\w+)?)(?=\()")
_OPENING, _CLOSING = re.compile(r"[(\[{【《「]"), re.compile(r"[)\]}】》」]")
_SEPARATOR = re.compile(r"\s*(?:[,、;|]|->|→|>|\band\b|以及|和|与|及)\s*")
_EMPTY = ("", "空", "空列表", "空集", "空集合", "无", "没有", "没有人", "none", "∅", "empty")


def _structure(text: str) -> str:
    """Write a list in one notation: ``（1、 2.0）`` and ``[1, 2]`` -> ``1,2``; inner brackets stay."""
    text = _CLOSING.sub("]", _OPENING.sub("[", _TYPE.sub("", text)))
    text = re.sub(r"\s*[:=]\s*", "=", text)
    parts = [_number_text(part) for part in re.split(r"([\[\],])", _SEPARATOR.sub(",", text))]
    joined = re.sub(r"\s*([\[\],])\s*", r"\1", "".join(parts)).strip()
    joined = re.sub(r"[.。](?=\]|$)", "", joined)
    while joined.startswith("[") and _closes_at_end(joined):
        joined = joined[1:-1]
    return "[]" if _tight(joined) in _EMPTY else joined.rstrip(",").casefold()


def _closes_at_end(text: str) -> bool:
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth == 0:
            return at == len(text) - 1
    return False


def _number_text(part: str) -> str:
    number = _number(part)
    exact = number is not None and not number.unit and number.value.denominator == 1
    return str(number.value) if exact and number else part.strip()


def _same_structure(printed: str, value: str) -> bool:
    return _structure(printed) == _structure(value)


def _items(text: str) -> list[str]:
    parts = re.split(r"[\[\],]", _structure(text))
    items = [part for part in map(str.strip, parts) if part]
    return items[0].split() if len(items) == 1 else items


def _same_items(printed: str, value: str) -> bool:
    ours, theirs = _items(printed), _items(value)
    return len(ours) == len(theirs) > 0 and all(map(_same_text, ours, theirs))


def _same_set(printed: str, value: str) -> bool:
    return len(_items(value)) > 1 and sorted(_items(printed)) == sorted(_items(value))


# Numbers

_NUMBER = re.compile(
    r"(?:约|大约|[¥€£])?\s*([-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?(?:e([-+]?\d{1,3}))?)"
    r"(?:\s*/\s*(\d{1,9}))?\s*(%|[^\W\d_]{0,12}|[^\W\d_]{1,8}/[^\W\d_]{1,8})"
)


@dataclass(frozen=True)
class _Number:
    """A number with its unit; ``places`` are its decimals, ``None`` if it is exact."""

    value: Fraction
    places: int | None
    unit: str


def _number(text: str) -> _Number | None:
    found = _NUMBER.fullmatch(text.strip().replace("−", "-").casefold())
    if found is None or len(found[1]) > 100:
        return None
    value, places = Fraction(found[1].replace(",", "")), None
    if found[2] and found[2].strip("0"):
        places = max(0, len(found[2]) - int(found[3] or 0))
    if found[4]:
        if not int(found[4]):
            return None
        value /= int(found[4])
    return _Number(value, places, found[5])


def _same_number(printed: str, value: str) -> bool:
    """Compare two numbers: units must not differ, and the more precise number is rounded."""
    ours, theirs = _number(printed), _number(value)
    if ours is None or theirs is None or (ours.unit and theirs.unit and ours.unit != theirs.unit):
        return False
    if theirs.unit == "%" and not ours.unit:
        hundredth = _Number(theirs.value / 100, theirs.places and theirs.places + 2, "")
        return _equal(ours, theirs) or _equal(ours, hundredth)
    return _equal(ours, theirs)


def _equal(printed: _Number, value: _Number) -> bool:
    slack = abs(value.value) / 10**9  # a float's error
    # An option may be rounded at any decimal, a result only with two decimals or more: 2.5 is not 2.53.
    places = [value.places] if value.places else []
    places += [printed.places] if printed.places and printed.places >= 2 else []
    if places:
        slack = max(slack, Fraction(1, 2 * 10 ** min(places)))
    return abs(printed.value - value.value) <= slack


# Yes and no

_YES = "是 是的 对 对的 正确 真 成立 能 会 可以 有 存在 属于 相等 yes true correct right"
_NO = (
    "否 不 不是 错 错误 不对 不正确 假 不成立 不能 不会 不可以 没有 无 不存在 不属于 不相等 "
    "no false incorrect wrong"
)
_WORDS = {**dict.fromkeys(_YES.split(), True), **dict.fromkeys(_NO.split(), False)}
_DENIAL = re.compile(r"不|没|未|并非|无|not? ", re.IGNORECASE)
_AFFIRMATION = re.compile(r"是(?!否)|能(?!否)|可以|会|有|存在|属于")
_NEGATION = re.compile(r"不|没|未|非|无|not |no ")


def _polarity(text: str) -> bool | None:
    """Tell whether a text says yes or no, as a word of its own or before further words."""
    first = re.split(r"[,;:(]", text.casefold(), maxsplit=1)[0].strip()
    return _WORDS.get(first)


def _affirmed(sentence: str) -> bool | None:
    """Tell whether a sentence affirms or denies, by its first word: ``不是英国人``."""
    if _DENIAL.match(sentence):
        return False
    return True if _AFFIRMATION.match(sentence) else None


def _polarities(values: Sequence[str]) -> list[bool | None]:
    """Tell which options say yes or no; ``喜欢`` does, where ``不喜欢`` is another option."""
    said = [_polarity(value) for value in values]
    if any(truth is not None for truth in said) or len(values) != 2:
        return said
    tight = [_tight(value) for value in values]
    for at, other in ((0, 1), (1, 0)):
        if tight[other] != tight[at] and _NEGATION.sub("", tight[other], count=1) == tight[at]:
            return [place == at for place in (0, 1)]
    return said


_COMPARISONS: tuple[Callable[[str, str], bool], ...] = (_same_text, _same_structure, _same_items, _same_set)
