"""Split a text into segments to translate and text to keep, and join the translations again.

    split("1. 甲比乙高。\\n2. [a, b]", "zh", 2000)
        ->  [Segment("1. ", "甲比乙高。", ""), Segment("\\n2. [a, b]", "", "")]

A text is split by lines. Numbered premises therefore keep their lines, whatever the service does to line
breaks. A premise that a reasoning quotes is the same text as in the problem, so it is paid for once and gets
the same translation. Calls are packed by characters, so short texts need no more calls than long ones. This
module also defines which texts of an entry are translated. It does not depend on the service.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shared import prompts
from shared.dataset import Entry, Question

# Line prefixes that are not part of the sentence: bullets, numbers, "A. ", "选择题 1：".
_LEAD = re.compile(
    r"""\s*(?:
        (?:[-*+•·]|\#{1,6})\s+
        | \d{1,3}[.．)）](?!\d)\s*
        | [（(](?:\d{1,3}|[一二三四五六七八九十]{1,3})[)）]\s*
        | (?:\d{1,3}|[一二三四五六七八九十]{1,3})、(?!\s*[\d一二三四五六七八九十])\s*
        | [A-Z][.．)）](?![A-Za-z\d])\s*
        | (?:选择题|问题|题目)\s*\d{1,3}\s*[:：]\s*
    )*""",
    re.VERBOSE,
)
# Where to cut a text that is too long for one call, best first.
_ENDS = (re.compile(r"[。！？!?；;]+[”’」』）)]*\s*"), re.compile(r"[，,、：:]\s*|\s+"))
# The prefixes of the Unicode names of a language's letters; all other languages use Latin letters.
_SCRIPTS = {
    "zh": ("CJK",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA"),
    "ko": ("HANGUL", "CJK"),
    "ru": ("CYRILLIC",),
    "ar": ("ARABIC",),
    "th": ("THAI",),
    "hi": ("DEVANAGARI",),
}
_LATIN = ("LATIN",)


def texts(entry: Entry) -> Iterator[str]:
    """Yield all texts of an entry to translate; reasonings come without the line that states the answer."""
    yield entry.problem
    for question in entry.questions:
        yield from question_texts(question)


def question_texts(question: Question) -> Iterator[str]:
    """Yield the texts of one question to translate."""
    yield question.question
    yield from question.options
    for reasoning in (question.reasoning, *(wrong.reasoning for wrong in question.wrong)):
        yield prompts.without_closing(reasoning or "")


@dataclass(frozen=True)
class Segment:
    """A piece of a text: the part to translate, which may be empty, and the text around it."""

    before: str
    text: str
    after: str


def is_latin(language: str) -> bool:
    """Tell whether a language (``zh``, ``zh-TW``) is written in Latin letters."""
    return _script(language) == _LATIN


def _script(language: str) -> tuple[str, ...]:
    return _SCRIPTS.get(language.lower().partition("-")[0], _LATIN)


def split(text: str, language: str, longest: int | None) -> list[Segment]:
    """Split a text into segments of at most ``longest`` characters to translate; joined they are the text.

    Text without a letter of ``language`` (numbers, code, names in another script) is not translated.
    """
    letters = _script(language)
    return [
        segment if _has(segment.text, letters) else Segment(_whole(segment), "", "")
        for segment in cut(text, longest)
    ]


def cut(text: str, longest: int | None) -> list[Segment]:
    """Split a text as `split` does, and translate all of it."""
    lines = text.splitlines(keepends=True)
    return [segment for line in lines for segment in _segments(line, longest)]


def join(segments: Sequence[Segment], translated: Mapping[str, str]) -> str:
    """Join segments into a text, with their translations."""
    return "".join(
        segment.before + (translated[segment.text] if segment.text else "") + segment.after
        for segment in segments
    )


def _segments(line: str, longest: int | None) -> Iterator[Segment]:
    lead = _LEAD.match(line)
    at = lead.end() if lead else 0
    for number, piece in enumerate(_pieces(line[at:], longest)):
        text = piece.strip()
        start = piece.find(text)
        yield Segment((line[:at] if number == 0 else "") + piece[:start], text, piece[start + len(text) :])


def _pieces(text: str, longest: int | None) -> Iterator[str]:
    while longest is not None and len(text.strip()) > longest:
        at = _place(text, longest)
        yield text[:at]
        text = text[at:]
    yield text


def _place(text: str, longest: int) -> int:
    # Leading spaces are not translated, so they do not count.
    room = len(text) - len(text.lstrip()) + longest
    for ends in _ENDS:
        places = [match.end() for match in ends.finditer(text[:room])]
        if places:
            return places[-1]
    return room


def _has(text: str, letters: tuple[str, ...]) -> bool:
    return any(unicodedata.name(character, "").startswith(letters) for character in text)


def _whole(segment: Segment) -> str:
    return segment.before + segment.text + segment.after
