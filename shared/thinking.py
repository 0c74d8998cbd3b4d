"""Remove a model's visible thinking (``<think>``) from its text.

    "<think>先试 A。</think>\\n乙比甲高。\\n答案是：B"  ->  "乙比甲高。\\n答案是：B"

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


def strip(text: str) -> str:
    """Give a text without its thinking, and without white space around it."""
    kept: list[str] = []
    at, thinking = 0, False
    for mark in _MARKS.finditer(text):
        if mark["open"]:
            if not thinking:
                kept.append(text[at : mark.start()])
            thinking = True
        else:
            if not thinking:
                kept.clear()
            at, thinking = mark.end(), False
    return "".join(kept if thinking else [*kept, text[at:]]).strip()
