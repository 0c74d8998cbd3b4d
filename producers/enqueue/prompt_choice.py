"""Choose the prompt of a run: by name or file, or by the language of the data.

find("my.toml")  ->  PromptTemplate("my", ...)
language_of(["甲比乙高。谁最高？甲", ...])  ->  "zh"
"""

import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from shared import prompt_files
from shared.dataset import Entry
from shared.errors import UserError
from shared.ledger import prompt_store
from shared.prompt_files import PromptTemplate
from shared.voices import VOICES

SURVEYED = 100  # entries whose characters are counted
CHINESE_FROM = 0.1  # share of Chinese characters among letters; formulas and code lower it in Chinese texts
BUILT_IN = "built in"


@dataclass(frozen=True)
class ListedPrompt:
    """A prompt that `--prompt` accepts by ``name`` or ``digest``; ``source``: built in, or the ledger."""

    name: str
    digest: str
    source: str


def find(argument: str) -> PromptTemplate:
    """Find a prompt: a built-in one, a TOML file, or a stored one by its name or the start of its digest.

    Raises:
        UserError: there is none, several stored ones match, or the file has a fault.
    """
    if argument in prompt_files.names():
        return prompt_files.built_in(argument)
    if argument.endswith(".toml") or Path(argument).is_file():
        return prompt_files.read(Path(argument))
    found = [
        prompt
        for prompt in prompt_store.stored()
        if prompt.name == argument or (len(argument) >= 6 and prompt.digest.startswith(argument))
    ]
    if len(found) > 1:
        digests = ", ".join(prompt.digest[:12] for prompt in found)
        raise UserError(f"several stored prompts match {argument!r}: use a digest ({digests})")
    if not found:
        names = ", ".join(dict.fromkeys(prompt.name for prompt in listed()))
        raise UserError(f"no prompt is called {argument!r}; there are: {names}; or name a .toml file")
    return PromptTemplate(found[0].name, found[0].text)


def named(argument: str | None, voices: Collection[str]) -> dict[str, PromptTemplate]:
    """Find the prompts that `--prompt` names, comma-separated, by voice.

    Raises:
        UserError: as `find`; or one is for a voice that another one is for, or that is not asked.
    """
    prompts: dict[str, PromptTemplate] = {}
    parts = [argument] if argument and Path(argument).is_file() else (argument or "").split(",")
    for prompt in (find(part.strip()) for part in parts if part):
        if prompt.voice in prompts or prompt.voice not in voices:
            reason = "has another prompt" if prompt.voice in prompts else "gets no votes: see --voices"
            raise UserError(f"--prompt {prompt.name} is for the voice {prompt.voice}, which {reason}")
        prompts[prompt.voice] = prompt
    return prompts


def completed(
    prompts: dict[str, PromptTemplate], voices: Iterable[str], entries: Iterable[Entry]
) -> tuple[dict[str, PromptTemplate], str | None]:
    """Add the built-in prompts, in the language of the data, of voices without one; give the language too.

    ``None``: no prompt was missing, and the entries were not read.
    """
    missing = [voice for voice in voices if voice not in prompts]
    if not missing:
        return prompts, None
    language = language_of_entries(entries)
    return prompts | by_language(missing, language), language


def by_language(voices: Iterable[str], language: str) -> dict[str, PromptTemplate]:
    """Give the built-in prompts of some voices."""
    return {voice: prompt_files.built_in(VOICES[voice].prompts[language]) for voice in voices}


def listed() -> list[ListedPrompt]:
    """List the built-in prompts, then the other stored ones."""
    own = [prompt_files.built_in(name) for name in prompt_files.names()]
    digests = {prompt.digest for prompt in own}
    rows = [ListedPrompt(prompt.name, prompt.digest, BUILT_IN) for prompt in own]
    others = [prompt for prompt in prompt_store.stored() if prompt.digest not in digests]
    return rows + [ListedPrompt(prompt.name, prompt.digest, "stored with runs") for prompt in others]


def language_of(texts: Iterable[str]) -> str:
    """Tell the language of some texts: ``en`` if they have letters but hardly any Chinese, else ``zh``."""
    letters = chinese = 0
    for text in texts:
        letters += sum(map(str.isalpha, text))
        chinese += sum("\u3400" <= character <= "\u9fff" for character in text)
    return "zh" if chinese >= CHINESE_FROM * letters else "en"


def language_of_entries(entries: Iterable[Entry]) -> str:
    """Tell the language of a data set by its first entries."""
    return language_of(
        text
        for entry in itertools.islice(entries, SURVEYED)
        for question in entry.questions
        for text in (entry.problem, question.question, *question.options)
    )
