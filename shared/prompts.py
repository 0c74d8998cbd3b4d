"""Questions and solved examples as prompts show them, and the prompts for chat models, versioned by digest.

    ### 题目 / ### 问题 / options / ### 推理

A prompt never contains the gold answer of its question. The prompts of `infer` are in `shared.prompt_files`.
"""

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from shared import conclusion_reader, dataset
from shared.dataset import LETTERS

HEAD = (
    "你是一位逻辑推理专家。下面每道题都是单项选择题，只有一个选项正确。"
    "推理遵循闭世界假设：题目没有给出、也无法由已知条件推出的，一律视为假。"
    "请根据已知条件一步一步推理，最后一行只写“答案是：X”，X 是所选选项的字母。\n"
)
_OPENING = "\n### 推理\n"
_CASE = "\n### 题目\n{problem}\n\n### 问题\n{question}\n{options}\n" + _OPENING
# An answer at the end of a longer line, with at most an option's text after it.
_CLOSING = re.compile(
    r"(?:因此|所以|故)?[，,]?\s{0,4}[*_]{0,3}答案是\s{0,4}[:：](?!.*(?:因为|由于|答案是))[^。]{0,80}+。?[\s*_]{0,8}$"
)
_NO_WORDS = re.compile(r"[\W_]*+")
# An option's letter followed by another separate letter: both may be names of people.
_OTHER_NAME = re.compile(r"([A-Z])(?!\1)[A-ZＡ-Ｚ](?![A-Za-zＡ-Ｚａ-ｚ])")


@dataclass(frozen=True)
class PromptQuestion:
    """A question as a prompt shows it, without its answer."""

    problem: str
    question: str
    options: tuple[str, ...]

    @property
    def text(self) -> str:
        """Join problem and question: the text to embed, and the identity of a question."""
        return f"{self.problem.strip()}\n{self.question.strip()}"

    @property
    def problem_identity(self) -> str:
        """Give the identity of its problem; see `dataset.problem_identity`."""
        return dataset.problem_identity(self.problem, self.question, self.options)


@dataclass(frozen=True)
class FewShotExample:
    """A solved question with its reasoning, or a program; ``position`` is its index in its data set."""

    asked: PromptQuestion
    reasoning: str
    answer: str
    position: int = field(default=0, compare=False)
    program: str = ""


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: Literal["user", "assistant"]
    content: str


# What a model is asked: a text that it continues, or the turns of a chat.
ModelInput = str | tuple[Message, ...]


def plain_text(prompt: ModelInput) -> str:
    """Give a prompt as one text: of a chat, the turns under their roles."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"[{message.role}]\n{message.content}" for message in prompt)


def case(asked: PromptQuestion) -> str:
    """Render a question for chat models and scorers, up to where the reasoning begins.

    Trained scorers depend on this wording, so it does not follow the prompt of a run.
    """
    options = "\n".join(
        f"{letter}. {text.strip()}"
        for letter, text in zip(LETTERS, without_letters(asked.options), strict=False)
    )
    return _CASE.format(problem=asked.problem.strip(), question=asked.question.strip(), options=options)


def without_letters(options: Sequence[str]) -> list[str]:
    """Strip leading letters from options that all have them in order: ``A. 甲``, ``B. 乙`` -> ``甲``, ``乙``.

    ``A、B`` may name two people, and ``A：骗子`` may describe one: ambiguous options stay unchanged.
    """
    leads = [_lead(at).match(text) for at, text in enumerate(options[: len(LETTERS)])]
    if len(leads) < len(options) or not all(leads):
        return list(options)
    texts = [text[lead.end() :].strip() for lead, text in zip(leads, options, strict=True) if lead]
    sure = all(lead["sure"] for lead in leads if lead)
    named = any(_OTHER_NAME.match(f"{LETTERS[at]}{text}") for at, text in enumerate(texts))
    distinct = len(set(texts)) == len(texts)
    return texts if all(texts) and (sure or (distinct and not named)) else list(options)


@functools.cache
def _lead(at: int) -> re.Pattern[str]:
    letter = f"[{LETTERS[at]}{LETTERS[at].lower()}{chr(0xFF21 + at)}{chr(0xFF41 + at)}]"
    bracketed = rf"[(（\[【]\s*{letter}\s*[)）\]】]\s*[.．、:：]?"
    return re.compile(rf"\s*(?:(?P<sure>{bracketed}|{letter}\s*[.．。)）])|{letter}\s*[、:：])\s*")


def bare_reasoning(solved: FewShotExample) -> str:
    """Give a reasoning without the lines that state its answer, at its beginning and its end."""
    lines = without_closing(solved.reasoning).split("\n")
    # Some models answer before they reason; training texts need the reverse order.
    return "\n".join(lines[_answers(lines) :]).strip()


def without_closing(reasoning: str) -> str:
    """Remove the closing lines that state the answer; the rest of the reasoning is unchanged."""
    lines = reasoning.strip().split("\n")
    kept = lines[: len(lines) - _answers(lines[::-1])]
    if kept and (closing := _CLOSING.search(kept[-1])):
        kept[-1] = kept[-1][: closing.start()]
    return "\n".join(kept).rstrip()


def _answers(lines: Sequence[str]) -> int:
    """Count the leading lines that only state an answer, with the blank lines and rules after them."""
    count = 0
    for place, line in enumerate(lines, start=1):
        wordless = _NO_WORDS.fullmatch(line)
        if conclusion_reader.is_statement(line) or (wordless and count):
            count = place
        elif not wordless:
            break
    return count


def answering(asked: PromptQuestion) -> str:
    """Ask a chat model for the answer to a question."""
    return HEAD + case(asked)


def digest(prompt: ModelInput) -> str:
    """Give the SHA-256 of a prompt, which identifies it without storing it."""
    if not isinstance(prompt, str):
        prompt = json.dumps([[turn.role, turn.content] for turn in prompt], ensure_ascii=False)
    return hashlib.sha256(prompt.encode()).hexdigest()


def judged(asked: PromptQuestion, reasoning: str) -> str:
    """Build the text a scorer reads under ``question+reasoning``."""
    return f"{case(asked).strip()}\n{reasoning.strip()}"


# Prompts for chat models: one message each, which every service accepts

EXPLAINING = (
    "你是一位逻辑推理专家。下面是一道单项选择题和它的答案。请用小学生也能听懂的话，一步一步说明怎样从题目的条件推出这个答案。"
    "推理遵循闭世界假设：题目没有给出、也无法由已知条件推出的，一律视为假。不要说答案是事先知道的。"
    "最后一行只写“答案是：X”，X 是答案的字母。\n"
)
_EXPLAINED = "这道题的答案是：{letter}。请写出推理过程。"
TRANSLATING = (
    "把下面 JSON 数组里的每一段文字从{source}译成{target}。"
    "人名、字母、数字、代码、算式和记号原样保留，不解释，不增删。"
    "只输出一个 JSON 数组，段数和顺序与原来相同。\n{texts}"
)
VARYING = (
    "你是逻辑题的出题人。请模仿下面这道单项选择题，另出一道同类的新题：换人物、事物和数字，推理的方式和难度相近，"
    "条件要完整，有且只有一个选项正确。只输出一个 JSON 对象，格式是 "
    '{{"problem": "题目", "question": "问题", "options": ["选项", "选项"], "answer": "正确选项的字母", '
    '"reasoning": "一步一步的推理，最后一行写 答案是：X"}}。\n{case}正确答案：{answer}\n'
)
_LANGUAGES = {
    "zh": "中文",
    "ja": "日文",
    "en": "英文",
    "ko": "韩文",
    "fr": "法文",
    "de": "德文",
    "ru": "俄文",
}


@dataclass(frozen=True)
class Template:
    """A prompt's wording: its own text, and the other ``parts`` that it includes."""

    text: str
    parts: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Give the version, a digest of the wording."""
        return hashlib.sha256("".join((self.text, *self.parts)).encode()).hexdigest()[:8]


PROMPTS = {
    "explaining": Template(EXPLAINING, (_CASE, _EXPLAINED)),
    "translating": Template(TRANSLATING),
    # A variant must also be answered before it is kept.
    "varying": Template(VARYING, (HEAD, _CASE)),
}


def version(name: str) -> str:
    """Give a prompt's version, which a run records; workers with another wording refuse the run."""
    return PROMPTS[name].digest


def explaining(asked: PromptQuestion, letter: str) -> str:
    """Ask for the reasoning for a letter; the prompt does not reveal whether the letter is right."""
    return EXPLAINING + case(asked) + _EXPLAINED.format(letter=letter)


def translating(texts: Sequence[str], source: str, target: str) -> str:
    """Ask for the translations of some texts, as a JSON array."""
    named = {"source": _LANGUAGES.get(source, source), "target": _LANGUAGES.get(target, target)}
    return TRANSLATING.format(**named, texts=json.dumps(list(texts), ensure_ascii=False))


def varying(solved: FewShotExample) -> str:
    """Ask for a new question similar to a solved one, as a JSON object."""
    # Without the reasoning's heading, which small models would copy into their reply.
    shown = case(solved.asked).removesuffix(_OPENING)
    return VARYING.format(case=shown, answer=solved.answer)


def tokens(text: str) -> int:
    """Estimate a text's tokens conservatively: one per Chinese character, one per two other characters."""
    wide = sum(character > "\u2e7f" for character in text)
    return wide + (len(text) - wide + 1) // 2
