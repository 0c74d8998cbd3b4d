"""Write a run as one HTML page: figures, charts, and every question with its votes, prompts and history.

    write("round1", file)  ->  1328 questions; the file opens without a network

Texts are untrusted. The page holds them as base64 of compressed JSON, in chunks that its script unpacks when
a question is opened, and shows as text only. Its `policy` allows its own script and style, and nothing else.
"""

import base64
import dataclasses
import functools
import gzip
import hashlib
import html
import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from producers import run_progress, trace
from producers.reports.page_figures import PageFigures
from producers.trace import Histories, History, Round
from shared.ledger import item_history, votes
from shared.ledger.runs import Run
from shared.prompt_files import PromptTemplate
from shared.prompts import FewShotExample

_CHUNK = 40  # questions, or shared texts, that are unpacked together
_CHARACTERS = 24_000_000  # of votes: about 20 MB of a page
_LEAST_SHOWN = 400  # characters of a vote
_TEXTS = "text", "thinking", "output", "first_text"
_FOLDER = Path(__file__).parent


def write(name: str, file: TextIO) -> int:
    """Write the page of an infer run in pieces; return the number of its questions.

    Raises:
        UserError: there is no such run, or it is not an infer run.
    """
    run = run_progress.require_questions(name)
    figures = PageFigures(run)
    before, after = _template(run).split("<!-- texts -->")
    file.write(before)
    longest = _longest(name)
    file.write(_packed("summary", {**figures.summary, "chunk": _CHUNK, "longest": longest}))
    file.write(_packed("rows", figures.rows))
    file.write(f"<script>{_part('js')}</script>\n")
    shared = _SharedTexts(trace.Histories(run))
    for at, items in enumerate(item_history.chunks(name, _CHUNK)):
        records = [shared.record(each, longest) for each in shared.histories.of(items)]
        file.write(_packed(f"questions-{at}", records))
    for at in range(0, len(shared.texts), _CHUNK):
        file.write(_packed(f"shared-{at // _CHUNK}", shared.texts[at : at + _CHUNK]))
    file.write(after)
    return len(figures.rows)


def policy() -> str:
    """Give the content security policy of every page."""
    script, style = (_digest(_part(kind)) for kind in ("js", "css"))
    return f"default-src 'none'; script-src {script}; style-src {style}; base-uri 'none'; form-action 'none'"


def _template(run: Run) -> str:
    title = html.escape(f"votequeue run {run.name}")
    return string.Template(_part("html")).substitute(policy=policy(), title=title, style=_part("css"))


@functools.cache
def _part(kind: str) -> str:
    return (_FOLDER / f"run_page.{kind}").read_text("utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _packed(name: str, value: object) -> str:
    """Pack a value into an element that is no markup, whatever its texts are."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:  # scores may be NaN, for which JSON has no number
        return _packed(name, json.loads(json.dumps(value), parse_constant=lambda _: None))
    # A lone surrogate is no UTF-8; its backslash form is what JSON writes for it anyway.
    packed = gzip.compress(text.encode("utf-8", "backslashreplace"), 6, mtime=0)
    return (
        f'<script type="application/octet-stream" id="{name}">{base64.b64encode(packed).decode()}</script>\n'
    )


def _longest(run: str) -> int | None:
    """Give how many characters of a vote's text are shown, where not all of them fit a page."""
    count, characters = votes.count_characters(run)
    return max(_LEAST_SHOWN, _CHARACTERS // count) if characters > _CHARACTERS else None


def _shortened(text: str | None, longest: int | None) -> str | None:
    """Leave out the middle of a long text: its end has the answer."""
    if text is None or longest is None or len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters are left out ...]\n{text[-half:]}"


def _rendered(template: PromptTemplate, solved: FewShotExample) -> tuple[str, str]:
    return template.case(solved.asked), template.solution(solved)


class _SharedTexts:
    """Texts that many prompts show, such as solved examples, by their numbers on the page."""

    def __init__(self, histories: Histories) -> None:
        self.histories = histories
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}
        self._of_example: dict[tuple[str, int], list[int]] = {}

    def record(self, history: History, longest: int | None) -> dict[str, Any]:
        """Give what the page shows of an opened question."""
        cast = [
            {**vote, **{name: _shortened(vote[name], longest) for name in _TEXTS}} for vote in history.votes
        ]
        rounds = [self._round(each) for each in history.rounds]
        return {**vars(history), "votes": cast, "rounds": rounds}

    def _round(self, sampled: Round) -> dict[str, Any]:
        examples = [(position, self._example(sampled.voice, position)) for position in sampled.examples]
        generator = dataclasses.asdict(sampled.generator) if sampled.generator else None
        prompt = None if sampled.prompt is None else self._split(sampled, [each for _, each in examples])
        return {**vars(sampled), "generator": generator, "examples": examples, "prompt": prompt}

    def _example(self, voice: str, position: int) -> list[int]:
        key = voice, position
        if key not in self._of_example:
            solved, template = self.histories.solved.get(position), self.histories.template(voice)
            self._of_example[key] = self._numbered(_rendered(template, solved)) if solved else []
        return self._of_example[key]

    def _split(self, sampled: Round, examples: Sequence[list[int]]) -> list[str | int]:
        """Split a prompt into its own texts and the numbers of shared ones."""
        template = self.histories.template(sampled.voice)
        worked = [text for each in template.worked for text in _rendered(template, each)]
        parts: list[str | int] = []
        rest = sampled.prompt or ""
        for number in [*self._numbered((template.head, *worked)), *(at for each in examples for at in each)]:
            before, found, after = rest.partition(self.texts[number])
            if found:
                parts += [before, number]
                rest = after
        return [*parts, rest]

    def _numbered(self, texts: Sequence[str]) -> list[int]:
        numbers = []
        for text in filter(None, map(str.strip, texts)):
            if text not in self._numbers:
                self._numbers[text] = len(self.texts)
                self.texts.append(text)
            numbers.append(self._numbers[text])
        return numbers
