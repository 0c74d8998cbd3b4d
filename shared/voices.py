"""Voices: the ways in which a vote is asked for and read.

    parse("reasoning=3,program=2")  ->  {"reasoning": 3, "program": 2}

A reasoning is read by its words. A program is executed, and its output is read. Each voice has prompt files
of its own (`shared.prompt_files`).
"""

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared import answers, result_reader
from shared.errors import UserError
from shared.registry import Registry
from shared.result_reader import Execution

REASONING, PROGRAM = "reasoning", "program"
ENTRY_POINTS = "votequeue.voices"  # group of other packages' `Voice` entries
MOST_VOTES = 1000


# The letter of a vote, or none, and how a program ended (`shared.result_reader`).
Reading = tuple[str | None, str | None]


@dataclass(frozen=True)
class Voice:
    """A way to ask for votes and to read them.

    ``prompts`` names its built-in prompt of each language. ``read`` gets the vote's text and execution, the
    options' texts and the name of the run's reader. ``executor`` names, as ``module:name``, a function of the
    settings that gives an `Executor` as in `workers.ports`; only a worker imports it. ``package`` must be
    installed, with ``extra``. ``chats``: its prompt is always a chat. ``explains``: a model can be asked for
    a text about a given letter; otherwise a text is asked for without showing any letter.
    """

    name: str
    prompts: Mapping[str, str]
    read: Callable[[str, Execution | None, Sequence[str], str], Reading]
    executor: str | None = None
    package: str | None = None
    extra: str | None = None
    chats: bool = False
    explains: bool = False

    def require_package(self) -> None:
        """Check that the package of its executor is installed.

        Raises:
            UserError: it is not.
        """
        if self.package and importlib.util.find_spec(self.package) is None:
            raise UserError(
                f"the voice {self.name} needs the package {self.package}: "
                f"pip install 'votequeue[{self.extra}]'"
            )


def _read_reasoning(text: str, _: Execution | None, options: Sequence[str], reader: str) -> Reading:
    return answers.extract(text, len(options), reader), None


def _read_program(_: str, execution: Execution | None, options: Sequence[str], _reader: str) -> Reading:
    return result_reader.read(execution, options) if execution else (None, None)


VOICES = Registry(
    ENTRY_POINTS,
    Voice,
    (
        Voice(REASONING, {"zh": "zh", "en": "en"}, _read_reasoning, explains=True),
        Voice(
            PROGRAM,
            {"zh": "zh-program", "en": "en-program"},
            _read_program,
            executor="workers.program_executor:MontyExecutor",
            package="pydantic_monty",
            extra="programs",
            chats=True,
        ),
    ),
)


def kind(voice: str, outcome: str | None) -> str:
    """Name the kind of a vote, which its weight depends on: ``reasoning``, ``program result``."""
    return voice if outcome is None else f"{voice} {outcome}"


def agreed(votes: Iterable[tuple[str, str | None]]) -> str | None:
    """Give the letter on which the first votes of all voices agree, of votes as voices and letters.

    ``None``: they do not agree, one has no letter, or there is only one voice.
    """
    first: dict[str, str | None] = {}
    for voice, letter in votes:
        first.setdefault(voice, letter)
    letters = set(first.values())
    return letters.pop() if len(first) > 1 and len(letters) == 1 else None


def parse(text: str) -> dict[str, int]:
    """Parse the votes of each voice: ``reasoning=3,program=2``.

    Raises:
        ValueError: a voice is unknown or named twice, or a number of votes is missing or out of range.
    """
    votes: dict[str, int] = {}
    for part in text.split(","):
        name, _, count = map(str.strip, part.partition("="))
        if name not in VOICES:
            raise ValueError(f"{name!r} is no voice; the voices are: {', '.join(VOICES)}")
        if name in votes or not count.isdecimal() or not 1 <= int(count) <= MOST_VOTES:
            raise ValueError(f"give each voice once, with 1 to {MOST_VOTES} votes, as in {name}=2")
        votes[name] = int(count)
    return votes


def check_name(name: str) -> str:
    """Check the name of a voice.

    Raises:
        ValueError: there is no such voice.
    """
    if name not in VOICES:
        raise ValueError(f"there is no such voice; the voices are: {', '.join(VOICES)}")
    return name


def check(text: str) -> str:
    """Check the votes of each voice, and write them in one form. Raises as `parse`."""
    return ",".join(f"{name}={count}" for name, count in parse(text).items())
