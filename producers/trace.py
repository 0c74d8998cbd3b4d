"""Collect the history of one question of an `infer` run or one item of a `reason` or `translate` run.

    history("round1", "p1#2")  ->  History(state="done", claims=[...], votes=[...], ...)
    trace_item("correct", "p1#2")  ->  ItemTrace(state="done", claims=[...], calls=[...], result={...}, ...)

Rows are the ledger's. Calls that served several items are not part of any item's trace.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from producers import run_progress
from producers.calibrated_answers import CalibratedAnswers
from shared import prompt_files, prompts, variety
from shared.dataset import Entry
from shared.ledger import item_history, prompt_store, runs, votes
from shared.ledger.item_history import ItemHistory
from shared.ledger.models import GeneratorIdentity
from shared.ledger.runs import Run
from shared.ledger.votes import RecordedVote
from shared.prompts import PromptQuestion
from shared.voices import REASONING


@dataclass(frozen=True)
class ItemTrace:
    """One item: its entry or question, its claims, its calls and its result."""

    run: str
    kind: str
    unit: str
    key: str
    number: int
    state: str
    reason: str | None
    not_before_at: float | None
    problem: str
    questions: list[dict[str, Any]]
    claims: list[dict[str, Any]]
    calls: list[dict[str, Any]]
    result: dict[str, Any] | None


def trace_item(name: str, key: str) -> ItemTrace:
    """Return everything recorded about an item, given its key (``p1#2``, or an entry id) or number.

    Raises:
        UserError: there is no such run or item; the message lists similar names.
    """
    run = runs.get_run(name)
    unit = run_progress.unit(run)
    item = item_history.read(name, key, unit)
    entry = runs.load_entry(name, item.entry)
    questions = [entry.questions[item.question]] if unit == "question" else entry.questions
    return ItemTrace(
        run=name,
        kind=run.kind,
        unit=unit,
        key=item.key,
        number=item.number,
        state=item.state,
        reason=item.reason,
        not_before_at=item.not_before_at,
        problem=entry.problem,
        questions=[question.model_dump(include={"question", "options", "answer"}) for question in questions],
        claims=item.claims,
        calls=item.calls,
        result=item.result,
    )


@dataclass(frozen=True)
class Round:
    """The inputs of a round's sampling of one voice; ``style`` is its prompt's: ``completion`` or ``chat``.

    ``unfinished`` and ``aborted_tokens`` are of a round that was stopped early.
    ``examples`` are the positions of the few-shot examples within the run's. ``prompt`` is the exact prompt
    of the first vote, or None if this version of votequeue would build a different one.
    """

    attempt: int
    generator: GeneratorIdentity | None
    adapter: str | None
    sampling: dict[str, Any]
    seed: int | None
    sampled_at: float
    seconds: float | None
    prompt_tokens: int | None
    examples: Sequence[int]
    style: str
    unfinished: int | None
    aborted_tokens: int | None
    prompt: str | None
    voice: str


@dataclass(frozen=True)
class History:
    """The full history of one question; rows as in the ledger."""

    run: str
    key: str
    number: int
    state: str
    reason: str | None
    problem: str
    question: str
    options: list[str]
    gold: str | None
    claims: list[dict[str, Any]]
    rounds: list[Round]
    votes: list[dict[str, Any]]
    answer: dict[str, Any] | None
    texts_dropped_at: float | None


def history(name: str, key: str) -> History:
    """Return the full history of a question, given its key (``p1#2``) or item number.

    Raises:
        UserError: there is no such run or question; the message lists similar names.
    """
    run = run_progress.require_questions(name)
    item = item_history.read(name, key)
    entry = runs.load_entry(name, item.entry)
    question, asked = entry.questions[item.question], runs.asked(entry, item.question)
    cast = _votes(run, item, asked)
    return History(
        run=name,
        key=item.key,
        number=item.number,
        state=item.state,
        reason=item.reason,
        problem=entry.problem,
        question=question.question,
        options=question.options,
        gold=question.answer,
        claims=item.claims,
        rounds=_rounds(run, item.number, asked, cast),
        votes=cast,
        answer=_answer(run, item, entry),
        texts_dropped_at=run.texts_dropped_at,
    )


def _answer(run: Run, item: ItemHistory, entry: Entry) -> dict[str, Any] | None:
    """Add the probability of an answer, and whether the question abstained, if the run is calibrated."""
    calibrated, answer = CalibratedAnswers(run), item.answer
    if answer is None or calibrated.calibration is None:
        return answer
    names = set(RecordedVote._fields) - {"number"}
    cast = [RecordedVote(item.number, **{name: vote[name] for name in names}) for vote in item.votes]
    known = calibrated.probability(entry, item.question, cast, answer["letter"])
    return {**answer, "probability": known, "abstained": known < calibrated.calibration.threshold}


def _votes(run: Run, item: ItemHistory, asked: PromptQuestion) -> list[dict[str, Any]]:
    """Add to votes the order in which they saw the options, or the run of a combination that they are of."""
    of_runs = [
        source
        for source in run_progress.combined_runs(run.name)
        for _ in votes.last_rounds(source, [item.key]).get(item.key, [])
    ]
    recorded = item.votes
    if run.options.get("vary") == "options":
        recorded = [{**vote, "order": variety.order(asked, vote["place"])} for vote in recorded]
    return [{**vote, "run": source} for vote, source in zip(recorded, of_runs, strict=False)] or recorded


def _rounds(run: Run, number: int, asked: PromptQuestion, cast: Sequence[dict[str, Any]]) -> list[Round]:
    solved = {example.position: example for example in runs.load_examples(run.examples or "")}
    sampling = {name: run.options.get(name) for name in ("votes", "temperature", "top_p", "max_tokens")}
    prompts_of = {REASONING: run.options.get("prompt"), **(run.options.get("voice_prompts") or {})}
    # A record has the prompt of its first vote.
    first = {(vote["attempt"], vote["voice"]): vote for vote in reversed(cast)}
    rounds = []
    for attempt, record, generator in votes.sampled_rounds(run.name, number):
        # A rescoring run shares the examples of the run that sampled the votes.
        template = prompt_store.of_votes(prompts_of.get(record.voice))
        examples = [solved[position] for position in record.examples if position in solved]
        style = record.style or prompt_files.COMPLETION
        order = first.get((attempt, record.voice), {}).get("order")
        seen = variety.reordered(asked, order) if order else asked
        shown = [examples]
        if run.options.get("vary") == "examples":  # those of all votes; the longest may not have fitted
            shown = [examples[:count] for count in range(run.options["num_examples"], -1, -1)]
        built = (template.build(seen, each, style, run.options.get("examples_as", "turns")) for each in shown)
        prompt = next((each for each in built if prompts.digest(each) == record.prompt), None)
        rounds.append(
            Round(
                attempt=attempt,
                generator=generator,
                adapter=record.adapter,
                sampling=sampling,
                seed=record.seed,
                sampled_at=record.sampled_at,
                seconds=record.seconds,
                prompt_tokens=record.prompt_tokens,
                examples=record.examples,
                style=style,
                unfinished=record.unfinished,
                aborted_tokens=record.aborted_tokens,
                prompt=None if prompt is None else prompts.plain_text(prompt),
                voice=record.voice,
            )
        )
    return rounds
