"""Read a text's conclusion: the letter of the last statement that says which option is right.

    "题目给出的答案是：B。但条件二排除了乙。\\n\\n**因此，答案是：A**"  ->  "A"

A statement is a marker, a gap, a letter, and what follows the letter:

    因此，答案是     ：**     A        。
    context marker gap      letter   follow

- Markers: 答案是, 答案：, 应选, 故选, 正确选项是, 更正：, a box, "the answer is", a key of a JSON object, and
  their kind; "B 是正确答案" begins with its letter. A gap holds marks and words such as 选项, but never a
  sentence's end.
- The context may withhold the statement: a condition (如果答案是A), an echo (题目给出的答案是), a doubt, a
  negation. So may a question mark behind it.
- What follows may take it back: a contradiction (，但这与条件3矛盾), a second letter (A或B), an operator
  (A = 3).
- The last statement counts. If it names no letter, or several, or was taken back, the text has none.
- A last line that is a bare letter is a statement. If it contradicts the others, the text has no letter.
- If there is no statement, "因此选项B正确" is a weak one; all weak statements must agree.

If a text continues with another problem after its answer, it is cut there. Reading takes linear time.
"""

import re
import unicodedata
from dataclasses import dataclass

from shared import conclusion_patterns, json_text, thinking

WINDOW = 80  # characters around a statement that are looked at
LONGEST = 200  # characters of a line that only names an answer
_TRADITIONAL = str.maketrans(
    "選應該確為擇項終題問對錯無還這設與個結論綜則給說當須從認誤證",
    "选应该确为择项终题问对错无还这设与个结论综则给说当须从认误证",
)
# NFKC knows circled letters, but not those that are white on black.
_BLACK = {base + at: 65 + at for base in (0x1F150, 0x1F170) for at in range(26)}
# Zero-width and control characters, and the marks of Markdown.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufe0e\ufe0f\u20dd-\u20e3*_`]")
_MARKUP = [
    (re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])|<answer>|<\|begin_?of_?box\|>"), conclusion_patterns.BOX),
    # A line break that was escaped once too often, and those of HTML.
    (re.compile(r"\\n(?![a-z])|</answer>|<(?:br|/?(?:p|div|li|tr|h[1-6]))\s?/?>"), "\n"),
    (re.compile(r"\\[A-Za-z]{1,20}|<\|[^<>|\n]{1,40}\|>"), ""),
    (re.compile(r"</?(?:b|strong|em|i|u|s|mark|code|span|font)(?:\s[^<>]{0,200})?>"), ""),
]
# Markers, and what has to follow the letter; ``None``: what is tied firmly may be followed by anything.
_MARKERS = [
    (conclusion_patterns.ANSWER, None),
    (conclusion_patterns.BOXED, None),
    (conclusion_patterns.CHOSEN, conclusion_patterns.END),
    (conclusion_patterns.PICKED, conclusion_patterns.STOP),
    (conclusion_patterns.NAMED, None),
]
_Marker = tuple[re.Match[str], re.Pattern[str] | None]


@dataclass(frozen=True)
class _Statement:
    """What a text states at a place: a letter, or (``None``) an answer that is none of the letters."""

    at: int
    end: int
    letter: str | None


def letter(text: str) -> str | None:
    """Read the letter, A to Z, that a text concludes with."""
    return _conclusion(_plain(_replace_json_answers(thinking.strip(text))))


def _plain(text: str) -> str:
    """Normalise a text: NFKC, simplified characters, no decoration; boxes become one mark."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    text = text.translate(_BLACK).translate(_TRADITIONAL)
    for pattern, instead in _MARKUP:
        text = pattern.sub(instead, text)
    return text.strip()


def _conclusion(text: str) -> str | None:
    text, markers = _own(text, _markers(text))
    bare = _bare_line(text)
    last = next(filter(None, (_statement(text, *marker) for marker in reversed(markers))), None)
    if last is None:
        return bare or _option(text) or _weak_statement(text)
    return last.letter if bare in (None, last.letter) else None


def is_statement(line: str) -> bool:
    """Tell whether a line only names an answer: "**因此，答案是：B. 乙**"."""
    if len(line) > LONGEST:
        return False
    text = _plain(line)
    if (bare := conclusion_patterns.BARE.fullmatch(text)) and bare[1].isupper():
        return True
    first = next(iter(_markers(text)), None)
    return bool(
        first
        and _statement(text, *first)
        and conclusion_patterns.LEAD.fullmatch(text[: first[0].start()])
        and conclusion_patterns.SHORT.fullmatch(text[first[0].end() :])
    )


# Statements


def _markers(text: str) -> list[_Marker]:
    markers = [(marker, follow) for pattern, follow in _MARKERS for marker in pattern.finditer(text)]
    return sorted(markers, key=lambda marker: marker[0].start())


def _own(text: str, markers: list[_Marker]) -> tuple[str, list[_Marker]]:
    """Cut off another problem that follows the answer of a text."""
    if not conclusion_patterns.NEXT_PROBLEM.search(text):
        return text, markers
    stated = filter(None, (_statement(text, *marker) for marker in markers))
    answer = next((statement for statement in stated if statement.letter), None)
    following = answer and conclusion_patterns.NEXT_PROBLEM.search(text, answer.end)
    if not following:
        return text, markers
    own = text[: following.start()].rstrip()
    return own, [marker for marker in markers if marker[0].start() < len(own)]


def _statement(text: str, marker: re.Match[str], follow: re.Pattern[str] | None) -> _Statement | None:
    if "letter" in marker.re.groupindex:
        return _lettered(text, marker)
    statement = _read(text, marker, follow)
    return statement if statement and not _withheld(text, statement.at) else None


def _read(text: str, marker: re.Match[str], follow: re.Pattern[str] | None) -> _Statement | None:
    """Read the text after a marker; ``None``: it is not a statement."""
    tail = conclusion_patterns.TAIL.match(text, marker.end())
    if tail is None:  # never happens: all parts of the pattern may be empty
        return None
    at, run = tail.end("gap"), tail["run"] or ""
    boxed = marker[0] == conclusion_patterns.BOX
    firm = boxed or not conclusion_patterns.FIRM.isdisjoint(tail["gap"])
    none = _Statement(marker.start(), at, None)
    if len(run) != 1:
        several = run.isupper() and len(run) <= 5
        stated = firm and follow is None and not boxed
        return none if stated or several or conclusion_patterns.NONE.match(text, at) else None
    rest = text[tail.end() : tail.end() + WINDOW]
    if conclusion_patterns.ASKED.match(rest):
        return None
    if _taken_back(run, rest):
        return none
    if _fits(run, rest, firm, marker, follow):
        return _Statement(marker.start(), tail.end(), run.upper())
    return none if firm and follow is None else None


def _withheld(text: str, at: int) -> bool:
    """Tell whether the text before a marker makes the statement conditional or uncertain."""
    before = conclusion_patterns.ENDS.split(text[max(0, at - WINDOW) : at])[-1]
    since = conclusion_patterns.THEN.split(before)[-1]
    conditional = conclusion_patterns.CONDITION.search(since) and not conclusion_patterns.THEN.match(text, at)
    return bool(conditional or conclusion_patterns.UNSURE.search(since.rpartition(",")[2]))


def _taken_back(letter: str, rest: str) -> bool:
    listed = conclusion_patterns.ALSO_BELOW.match(rest)
    return bool(
        (listed and letter not in (listed["next"], listed["bare"]))
        or (letter.isupper() and conclusion_patterns.ALSO.match(rest))
        or any(
            pattern.match(rest)
            for pattern in (
                conclusion_patterns.OPERATOR,
                conclusion_patterns.REJECTED,
                conclusion_patterns.NAME,
            )
        )
    )


def _fits(run: str, rest: str, firm: bool, marker: re.Match[str], follow: re.Pattern[str] | None) -> bool:
    """Tell from the context whether a single letter is an option's letter."""
    if run.islower():
        # "The answer is a" may be the beginning of a longer sentence.
        return bool(conclusion_patterns.END.match(rest)) and (firm or run != "a")
    if run in "AI" and conclusion_patterns.ARTICLE.match(rest):
        return False
    if follow is not None:
        return bool(follow.match(rest))
    if firm:
        return True
    return bool((conclusion_patterns.END if marker.lastgroup else conclusion_patterns.STOP).match(rest))


def _lettered(text: str, marker: re.Match[str]) -> _Statement | None:
    """Read a statement that begins with its letter: "B 是正确答案"."""
    at, end = marker.start("letter"), marker.end()
    if conclusion_patterns.ASKED.match(text[end : end + WINDOW]) or _withheld(text, at):
        return None
    several = conclusion_patterns.ALSO_BEFORE.search(text[max(0, at - 20) : at])
    return _Statement(at, end, None if several else marker["letter"])


# Texts without a statement


def _bare_line(text: str) -> str | None:
    """Read the letter of a last or first line that consists of a letter only."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and (only := conclusion_patterns.BARE.fullmatch(lines[0])):
        return only[1].upper()
    for line, neighbour in [(lines[-1], lines[-2]), (lines[0], lines[1])] if len(lines) > 1 else []:
        bare, other = conclusion_patterns.BARE.fullmatch(line), conclusion_patterns.BARE.fullmatch(neighbour)
        if bare and bare[1].isupper():
            return bare[1] if other is None or other[1] == bare[1] else None
    return None


def _option(text: str) -> str | None:
    """Read the letter of a last line that is an option, "B. 乙", if no other line is one."""
    lines = [line for line in text.splitlines() if line.strip()]
    matches = [conclusion_patterns.OPTION.match(line) for line in lines]
    return matches[-1][1] if matches and matches[-1] and not any(matches[:-1]) else None


def _weak_statement(text: str) -> str | None:
    """Read the only letter that is called right, after "therefore" or in the last sentence."""
    last = max((end.end() for end in conclusion_patterns.ENDS.finditer(text.rstrip("。.!;\n "))), default=0)
    markers = conclusion_patterns.WEAK.finditer(text)
    weak = [statement for marker in markers if (statement := _lettered(text, marker))]
    letters = {statement.letter for statement in weak}
    concluded = any(
        statement.at >= last
        or conclusion_patterns.SOLE.search(
            conclusion_patterns.ENDS.split(text[max(0, statement.at - WINDOW) : statement.at])[-1]
        )
        for statement in weak
    )
    return letters.pop() if concluded and len(letters) == 1 else None


# JSON


def _replace_json_answers(text: str) -> str:
    """Replace each JSON object that contains an answer by a statement."""
    parts, at = [], 0
    for match in json_text.find(text, "{"):
        for key, value in match.value.items():
            if conclusion_patterns.KEY.fullmatch(key.strip()):
                answer = "、".join(map(str, value)) if isinstance(value, list) else str(value)
                parts += [text[at : match.start], f"\n答案：{answer}\n"]
                at = match.end
                break
    return "".join([*parts, text[at:]])
