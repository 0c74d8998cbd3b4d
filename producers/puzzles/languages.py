"""The languages of the puzzles: what all families' texts have in common, and the grammar of templates.

    LANGUAGES["en"].listed(["Ann", "Ben", "Leo"])  ->  "Ann, Ben and Leo"
    "{n:# day|# days}, {n:th}".format(n=Count(2))  ->  "2 days, 2nd"

A family is written once. Its texts are one dataclass per language, by the code of the language.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_SUFFIXES = {1: "st", 2: "nd", 3: "rd"}


class Count(int):
    """A number in a template: ``{n:ONE|MORE}`` chooses one text (``#``: the number), ``{n:th}`` gives 2nd."""

    def __format__(self, spec: str) -> str:
        if spec == "th":
            return f"{int(self)}{'th' if self // 10 % 10 == 1 else _SUFFIXES.get(self % 10, 'th')}"
        if "|" in spec:
            one, more = spec.split("|")
            return (one if self == 1 else more).replace("#", str(int(self)))
        return format(int(self), spec)


@dataclass(frozen=True)
class Language:
    """The texts and the punctuation that all families share."""

    code: str
    ids: str
    """The beginning of all ids, so that files in two languages can be joined."""
    question: str
    leads: tuple[str, ...]
    rules: tuple[str, ...]
    outros: tuple[str, ...]
    yes: str
    no: str
    same: str
    different: str
    in_all: str
    includes: str
    excludes: str
    stop: str
    comma: str
    last_comma: str
    """Before the last word of a list."""
    clause: str
    last_clause: str
    space: str
    """Between two sentences."""
    capitals: bool

    def listed(self, words: Sequence[str]) -> str:
        """Join words: ``甲、乙``, ``Ann and Ben``."""
        return _join(words, self.comma, self.last_comma)

    def clauses(self, parts: Sequence[str]) -> str:
        """Join parts of a sentence."""
        return _join(parts, self.clause, self.last_clause)

    def sentence(self, text: str) -> str:
        """Begin a sentence with a capital where the language has them."""
        return text[:1].upper() + text[1:] if self.capitals else text


def _join(words: Sequence[str], comma: str, last: str) -> str:
    return last.join([part for part in (comma.join(words[:-1]), *words[-1:]) if part])


_ALL = (
    Language(
        code="zh",
        ids="sample",
        question="选择题 {place}：\n{ask}",
        leads=("以下是已知信息：", "已知信息如下：", "下面是全部已知的信息："),
        rules=("规则如下：", "另外有以下规则："),
        outros=(
            "根据以上信息，回答以下选择题：",
            "请根据以上信息，回答下面的选择题：",
            "根据上述信息，回答以下问题：",
        ),
        yes="是",
        no="否",
        same="算出的结果与题中所说的{claimed}相同。",
        different="算出的结果与题中所说的{claimed}不同。",
        in_all="{conclusion}，共{n}个。",
        includes="{conclusion}，其中有{member}。",
        excludes="{conclusion}，其中没有{member}。",
        stop="。",
        comma="、",
        last_comma="、",
        clause="，",
        last_clause="，",
        space="",
        capitals=False,
    ),
    Language(
        code="en",
        ids="sample-en",
        question="Question {place}:\n{ask}",
        leads=("The following is known:", "Here is what is known:", "Here is everything that is known:"),
        rules=("The rules are:", "These rules apply as well:"),
        outros=(
            "Use this information to answer the following multiple-choice question:",
            "Use the information above to answer the multiple-choice question below:",
            "Answer this question using the information above:",
        ),
        yes="Yes",
        no="No",
        same="this result is the same as the one in the question, {claimed}.",
        different="this result is different from the one in the question, {claimed}.",
        in_all="{conclusion}, {n} in all.",
        includes="{conclusion}; for {member}, the answer is yes.",
        excludes="{conclusion}; for {member}, the answer is no.",
        stop=".",
        comma=", ",
        last_comma=" and ",
        clause=", ",
        last_clause=" and ",
        space=" ",
        capitals=True,
    ),
)
LANGUAGES = {language.code: language for language in _ALL}
DEFAULT = "zh"
