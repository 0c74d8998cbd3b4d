"""The demo uses its scorer only where it beat the majority, and says so; its puzzles are in one language."""

import os
import re
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest

from infra import demo
from infra.scenario import Stage

ROOT = Path(__file__).parents[2]

TRIED = {"questions": 19, "majority": 0.36, "best": 0.42}


def test_a_scorer_that_beat_the_majority_answers() -> None:
    scorer, why = demo._choose_scorer({"model": "scorer-1f", "answers": TRIED})
    assert scorer == "scorer-1f"
    assert why.startswith("the scorer is used: on 19 held-out questions 42 % right, the plain majority 36 %")
    assert "too few questions for a reliable comparison" in why


def test_a_scorer_that_is_no_better_is_left_out() -> None:
    scorer, why = demo._choose_scorer({"model": "scorer-1f", "answers": {**TRIED, "best": 0.36}})
    assert scorer == "none"
    assert why.startswith("the scorer is not used: ")


def test_a_training_that_came_to_nothing_is_no_scorer() -> None:
    for result in (None, {}, {"model": "scorer-1f"}):
        scorer, why = demo._choose_scorer(result)
        assert scorer == "none"
        assert "every readable vote counts" in why


class Refused(Exception):
    pass


class RecordedStage:
    """A stage that records the commands, up to the first that is no `sample`."""

    run = "demo-1"
    folder = Path("var/demo")

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def step(self, name: str, log: str | None = None) -> Any:
        return nullcontext()

    def votequeue(self, *words: Any, watched: bool = False) -> None:
        if words[0] != "sample":
            raise Refused
        self.commands.append([str(word) for word in words])


@pytest.mark.parametrize("language", ["zh", "en"])
def test_all_puzzles_are_in_the_language_of_the_demo(language: str) -> None:
    stage = RecordedStage()
    with pytest.raises(Refused):
        demo.play(cast(Stage, stage), language)
    assert [words[words.index("--language") + 1] for words in stage.commands] == [language] * 3


def _made(*words: str, **environment: str) -> str:
    """Give what `make demo` would run."""
    done = subprocess.run(
        ["make", "--dry-run", "--assume-old=venv", "demo", *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = re.findall("infra.demo.*", done.stdout)
    return line.strip()


def test_make_takes_the_language_from_its_command_line_and_not_from_the_environment() -> None:
    assert _made("LANGUAGE=en") == 'infra.demo --language "en"'
    assert _made(LANGUAGE="en_GB:en") == "infra.demo"
