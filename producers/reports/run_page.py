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
_CHARACTERS = 21_000_000  # of votes: 10,000 questions then take less than 30 MB
_CUT = 18_000_000  # if there are more: texts without their middle repeat less
_ASKED = 2  # times the space of votes, which repeat their problem's words, that other texts take
_LEAST_SHOWN = 100  # characters of a text
_TEXTS = "text", "thinking", "output", "first_text"
_OF_QUESTION = "key", "state", "reason", "gold", "claims", "answer", "texts_dropped_at"
_OF_CALL = (
    *("step", "provider", "model", "begun_at", "outcome", "detail"),
    *("input_tokens", "output_tokens", "cost"),
)
_FOLDER = Path(__file__).parent


def write(name: str, file: TextIO) -> int:
    """Write the page of an infer run in pieces; return the number of its questions.

    Raises:
        UserError: there is no such run, or it is not an infer run.
    """
    run = run_progress.require_questions(name)
    figures = PageFigures(run)
    histories = trace.Histories(run)
    before, after = _template(run).split("<!-- texts -->")
    file.write(before)
    longest = _longest(name, histories)
    file.write(_packed("summary", {**figures.summary, "chunk": _CHUNK, "longest": longest}))
    file.write(_packed("rows", figures.rows))
    file.write(f"<script>{_part('js')}</script>\n")
    shared = _SharedTexts(histories, longest)
    for at, items in enumerate(item_history.chunks(name, _CHUNK)):
        records = [shared.record(each) for each in histories.of(items)]
        file.write(_packed(f"questions-{at}", records))
    for at in range(0, len(shared.texts), _CHUNK):
        texts = [_shortened(text, longest) for text in shared.texts[at : at + _CHUNK]]
        file.write(_packed(f"shared-{at // _CHUNK}", texts))
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


def _longest(run: str, histories: Histories) -> int | None:
    """Give how many characters of a text are shown, where not all of them fit a page."""
    lengths, asked = votes.text_lengths(run)
    solved = (histories.solved.get(position) for position in votes.shown_examples(run))
    asked.update(len(each.asked.problem) + len(each.reasoning) for each in solved if each)
    for length, times in asked.items():
        lengths[length] += _ASKED * times
    fits = sum(length * times for length, times in lengths.items()) <= _CHARACTERS
    left, texts = _CHARACTERS if fits else _CUT, lengths.total()
    for length, times in sorted(lengths.items()):
        if length * texts > left:
            return max(_LEAST_SHOWN, left // texts)
        left -= length * times
        texts -= times
    return None


def _shortened(text: str, longest: int | None) -> str:
    """Leave out the middle of a long text: its end has the answer."""
    if longest is None or len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters are left out ...]\n{text[-half:]}"


def _rendered(template: PromptTemplate, solved: FewShotExample) -> tuple[str, str]:
    return template.case(solved.asked), template.solution(solved)


class _SharedTexts:
    """Texts that many prompts show, such as solved examples, by their numbers on the page."""

    def __init__(self, histories: Histories, longest: int | None) -> None:
        self._histories = histories
        self._longest = longest
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}
        self._of_example: dict[tuple[str, int], list[int]] = {}

    def record(self, history: History) -> dict[str, Any]:
        """Give what the page shows of an opened question."""
        return {
            **{name: getattr(history, name) for name in _OF_QUESTION},
            "problem": _shortened(history.problem, self._longest),
            "question": _shortened(history.question, self._longest),
            "options": [_shortened(option, self._longest) for option in history.options],
            "calls": [{name: call[name] for name in _OF_CALL} for call in history.calls],
            "votes": [
                {**vote, **{name: _shortened(vote[name] or "", self._longest) for name in _TEXTS}}
                for vote in history.votes
            ],
            "rounds": [self._round(each, history.problem) for each in history.rounds],
        }

    def _round(self, sampled: Round, problem: str) -> dict[str, Any]:
        examples = [(position, self._example(sampled.voice, position)) for position in sampled.examples]
        generator = dataclasses.asdict(sampled.generator) if sampled.generator else None
        prompt = self._split(sampled, problem, [each for _, each in examples])
        return {**vars(sampled), "generator": generator, "examples": examples, "prompt": prompt}

    def _example(self, voice: str, position: int) -> list[int]:
        key = voice, position
        if key not in self._of_example:
            solved, template = self._histories.solved.get(position), self._histories.template(voice)
            self._of_example[key] = self._numbered(_rendered(template, solved)) if solved else []
        return self._of_example[key]

    def _split(
        self, sampled: Round, problem: str, examples: Sequence[list[int]]
    ) -> list[str | int | None] | None:
        """Split a prompt into its own texts, the numbers of shared ones, and None for the problem."""
        if sampled.prompt is None:
            return None
        template = self._histories.template(sampled.voice)
        worked = [text for each in template.worked for text in _rendered(template, each)]
        parts: list[str | int | None] = []
        rest = sampled.prompt
        for number in [*self._numbered((template.head, *worked)), *(at for each in examples for at in each)]:
            before, found, after = rest.partition(self.texts[number])
            if found:
                parts += [before, number]
                rest = after
        before, found, after = rest.partition(problem or "\0")
        parts += [before, None, after] if found else [rest]
        return [_shortened(part, self._longest) if isinstance(part, str) else part for part in parts]

    def _numbered(self, texts: Sequence[str]) -> list[int]:
        numbers = []
        for text in filter(None, map(str.strip, texts)):
            if text not in self._numbers:
                self._numbers[text] = len(self.texts)
                self.texts.append(text)
            numbers.append(self._numbers[text])
        return numbers
