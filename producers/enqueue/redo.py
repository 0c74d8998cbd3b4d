"""Enqueue some questions of a finished run again: those that went wrong in a way that options can change.

    prepare(run, {"only": "truncated,below-agreement=0.6", "max_tokens": 2048})  ->  Prepared(Run(...), ...)

The new run has its own items, named by the same keys, and the data and examples of its origin. `collect`
writes the origin's data with the new answers in place.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from producers import run_progress
from producers.enqueue import inputs, prompt_choice, publish
from producers.enqueue.inputs import NO_EXAMPLES, DataSource
from producers.enqueue.publish import Prepared
from shared.dataset import Line
from shared.errors import UserError
from shared.ledger import prompt_store, votes
from shared.ledger.runs import Run
from shared.ledger.votes import QuestionResult, RecordedVote
from shared.options import Sampling
from shared.registry import Registry
from shared.voices import REASONING
from shared.voting import DEFAULTS


@dataclass(frozen=True)
class Selection:
    """A reason to ask a question again.

    ``applies`` tells whether a question has it, given a share from 0 to 1. ``share`` is the default share;
    ``None``: it must be given. ``shares`` is false if there is nothing to give.
    """

    name: str
    applies: Callable[[QuestionResult, float], bool]
    share: float | None = 0.0
    shares: bool = True


def _votes(which: Callable[[RecordedVote], bool]) -> Callable[[QuestionResult, float], bool]:
    def applies(result: QuestionResult, share: float) -> bool:
        count = sum(map(which, result.votes))
        return count > 0 and count >= share * len(result.votes) - _EPSILON

    return applies


def _disagree(result: QuestionResult, share: float) -> bool:
    return result.agreement is not None and result.agreement < share - _EPSILON


def _is_default(result: QuestionResult, _share: float) -> bool:
    return result.how in DEFAULTS


_EPSILON = 1e-9
_BUILT_IN = (
    Selection("truncated", _votes(lambda vote: vote.finish_reason == "length")),
    Selection("unread", _votes(lambda vote: vote.letter is None)),
    Selection("default", _is_default, shares=False),
    Selection("below-agreement", _disagree, share=None),
)
SELECTIONS = Registry("votequeue.selections", Selection, _BUILT_IN)


def prepare(source: Run, changes: dict[str, Any], name: str | None = None) -> Prepared:
    """Choose the questions of a finished run that are asked again; nothing is written.

    ``changes`` are sampling options; ``only`` names the selections.

    Raises:
        UserError: the run is unfinished, a selection is unknown, or no question is selected.
    """
    wanted = parse(changes["only"])
    run_progress.require_questions(source.name)
    run_progress.require_finished(source.name)
    if combined := run_progress.combined_runs(source.name):
        raise UserError(
            f"run {source.name!r} combines the votes of {', '.join(combined)}: "
            "ask questions of one of those again"
        )
    if any(selection.applies is _disagree for selection, _ in wanted):
        run_progress.require_whole_rounds(source.name, "--only below-agreement")
    # The finish reason is read with the texts only.
    results = votes.of_run(source.name, texts=True)
    selected = {result.key: result.entry.id for result in results if _is_wanted(result, wanted)}
    if not selected:
        raise UserError(f"run {source.name!r} has no question to ask again: none is {changes['only']}")
    data = _restricted(inputs.from_run(source), selected)
    before = Sampling.of_record(source.options)
    unpinned = {**changes, "redo_of": source.name, "votes_of": None, "language": None, "calibration": None}
    sampling = before.model_copy(update=unpinned)
    # What the origin had pinned is kept, unless it is changed.
    recorded = {REASONING: before.prompt, **(before.voice_prompts or {})}
    voices = publish.prompted_voices(sampling)
    prompts = {voice: prompt_store.of_votes(recorded[voice]) for voice in voices if voice in recorded}
    prompts |= prompt_choice.named(changes.get("prompt"), voices)
    prompts, _ = prompt_choice.completed(prompts, voices, (line.entry for line in data.lines()))
    options = publish.pinned(sampling, prompts).model_dump(mode="json")
    chosen = name or publish.default_name(source.name, "infer", data.digest, sorted(selected), options)
    run = Run(chosen, "infer", f"questions of {source.name}", data.digest, source.examples, options)
    return Prepared(run, data, NO_EXAMPLES, prompts, frozenset(selected))


def parse(only: str) -> list[tuple[Selection, float]]:
    """Parse selections such as ``truncated,below-agreement=0.6``, each with its share.

    Raises:
        UserError: a selection is unknown, or its share is missing or not a number from 0 to 1.
    """
    return [_parse(part.strip()) for part in only.split(",")]


def _parse(part: str) -> tuple[Selection, float]:
    name, _, text = part.partition("=")
    selection = SELECTIONS.get(name)
    if selection is None:
        raise UserError(f"--only {part}: no such selection; there are: {', '.join(SELECTIONS)}")
    if text and not selection.shares:
        raise UserError(f"--only {part}: {name} takes no share")
    try:
        share = float(text) if text else selection.share
    except ValueError:
        share = None
    if share is None or not 0 <= share <= 1:
        raise UserError(f"--only {part}: give a share from 0 to 1, as in {name}=0.6")
    return selection, share


def _is_wanted(result: QuestionResult, wanted: list[tuple[Selection, float]]) -> bool:
    return any(selection.applies(result, share) for selection, share in wanted)


def _restricted(data: DataSource, selected: Mapping[str, str | int]) -> DataSource:
    """Restrict data to the entries of the selected questions, given their ids by key."""
    ids = set(selected.values())

    def lines() -> Iterator[Line]:
        return (line for line in data.lines() if line.entry.id in ids)

    return replace(data, entries=len(ids), questions=len(selected), lines=lines)
