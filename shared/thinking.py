"""Split a model's visible thinking (``<think>``) from its answer.

    split("<think>先试 A。</think>\\n乙比甲高。\\n答案是：B")  ->  ("先试 A。", "乙比甲高。\\n答案是：B")

Thinking that is not closed lasts to the end. A closing mark without an opening one closes what the chat
template or the prompt had opened, so all before it is thinking. An opening mark inside thinking is a part of
it.
"""

import re

_WORDS = r"(?:think(?:ing)?|thoughts?|reflection|seed:think)"
# One pair a family: DeepSeek-R1, Qwen3 and most others; OpenThoughts; Magistral; Kimi; Command A; gpt-oss.
_MARKS = re.compile(
    rf"(?P<open><\s?{_WORDS}\s?>|<\|(?:begin_of_thought|start_thinking)\|>|\[think\]|◁think▷"
    r"|<\|channel\|>\s?(?:analysis|commentary)\s?<\|message\|>)"
    rf"|(?P<close><\s?/\s?{_WORDS}\s?>|<\|(?:end_of_thought|end_thinking)\|>|\[/think\]|◁/think▷"
    r"|<\|channel\|>\s?final\s?<\|message\|>)",
    re.IGNORECASE,
)
_CLOSING = (
    ("[", "[/think]"),
    ("◁", "◁/think▷"),
    ("<|begin", "<|end_of_thought|>"),
    ("<|start", "<|end_thinking|>"),
)
_CHANNEL = "<|channel|>"


def split(text: str, opened: bool = False) -> tuple[str, str]:
    """Give a text's thinking and its answer, each without white space around it.

    ``opened``: the prompt ended with an opening mark.
    """
    kept: list[str] = []
    thoughts: list[str] = []
    at, thinking = 0, opened
    for mark in _MARKS.finditer(text):
        part = text[at : mark.start()]
        if mark["open"]:
            if not thinking:
                kept.append(part)
                at = mark.end()
            thinking = True
        else:
            if not thinking:
                part = "".join([*kept, part])
                kept.clear()
            thoughts.append(part)
            at, thinking = mark.end(), False
    (thoughts if thinking else kept).append(text[at:])
    return "\n".join(filter(None, map(str.strip, thoughts))), "".join(kept).strip()


def strip(text: str) -> str:
    """Give a text without its thinking, and without white space around it."""
    return split(text)[1]


def opening_of(prompt: str) -> str | None:
    """Give the mark of thinking that a prompt ends with, so that the model goes on thinking."""
    last = None
    for mark in _MARKS.finditer(prompt):
        last = mark
    return last[0] if last and last["open"] and not prompt[last.end() :].strip() else None


def closing_of(opening: str) -> str:
    """Give the closing mark of an opening one."""
    if opening.startswith(_CHANNEL):
        return f"{_CHANNEL}final<|message|>"
    for start, closing in _CLOSING:
        if opening.lower().startswith(start):
            return closing
    return opening.replace("<", "</", 1)


def first_opening(text: str) -> str | None:
    """Give the mark with which a text begins its thinking, if it does."""
    mark = _MARKS.match(text.lstrip())
    return mark[0] if mark and mark["open"] else None


def is_open(text: str, opened: bool = False) -> bool:
    """Tell whether a text ends within its thinking."""
    thinking = opened
    for mark in _MARKS.finditer(text):
        thinking = bool(mark["open"])
    return thinking
