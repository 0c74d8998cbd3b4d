"""Collect the history of one question of an `infer` run or one item of a `reason` or `translate` run.

    history("round1", "p1#2")  ->  History(state="done", claims=[...], votes=[...], ...)
    Histories(get_run("round1")).of(items)  ->  [History(...), ...]
    trace_item("correct", "p1#2")  ->  ItemTrace(state="done", claims=[...], calls=[...], result={...}, ...)

Rows are the ledger's. Calls that served several items are not part of any item's trace.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from producers import run_progress
from producers.calibrated_answers import CalibratedAnswers
from shared import dataset, prompt_files, prompts, variety, voices, vote_weights, voting
from shared.dataset import Entry
from shared.errors import UserError
from shared.ledger import item_history, models, prompt_store, runs, votes
from shared.ledger.claims import RoundRecord
from shared.ledger.item_history import ItemHistory
from shared.ledger.models import GeneratorIdentity
from shared.ledger.runs import Run
from shared.ledger.votes import RecordedVote
from shared.options import Sampling
from shared.prompt_files import PromptTemplate
from shared.prompts import PromptQuestion
from shared.voices import REASONING
from shared.voting import Rule


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
    """The full history of one question; rows as in the ledger.

    A vote has its ``weight`` too: what it counted, or None if its scorer is unknown here or it is void.
    """

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
    calls: list[dict[str, Any]]
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
    return Histories(run).of([item_history.read(name, key)])[0]


class Histories:
    """The histories of an infer run's questions; what they have in common is read once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._calibrated = CalibratedAnswers(run)
        self._combined = run_progress.combined_runs(run.name)
        self.solved = {example.position: example for example in runs.load_examples(run.examples or "")}

    def of(self, found: Sequence[ItemHistory]) -> list[History]:
        """Give the histories of some of the run's questions."""
        name, numbers = self._run.name, [item.number for item in found]
        entries = runs.load_entries_at(name, (item.entry for item in found))
        sampled = votes.sampled_rounds_of(name, numbers)
        keys = [item.key for item in found]
        recorded = {source: votes.last_rounds(source, keys) for source in self._combined}
        histories = []
        for item in found:
            entry = entries[item.entry]
            question, asked = entry.questions[item.question], runs.asked(entry, item.question)
            sources = [source for source in recorded for _ in recorded[source].get(item.key, [])]
            cast = self._votes(item, entry, asked, sources)
            histories.append(
                History(
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
                    calls=item.calls,
                    rounds=[self._round(asked, cast, *each) for each in sampled.get(item.number, [])],
                    votes=cast,
                    answer=self._answer(item, entry),
                    texts_dropped_at=self._run.texts_dropped_at,
                )
            )
        return histories

    def template(self, voice: str) -> PromptTemplate:
        """Give the prompt by which the votes of a voice are read."""
        options = self._run.options
        prompts_of = {REASONING: options.get("prompt"), **(options.get("voice_prompts") or {})}
        # A rescoring run shares the examples of the run that sampled the votes.
        return prompt_store.of_votes(prompts_of.get(voice))

    @functools.cached_property
    def _counting(self) -> tuple[Sampling, Rule] | None:
        """Give what votes count by; None if its options or its scorer are unknown here."""
        try:
            sampling = Sampling.of_record(self._run.options)
            model = models.chosen("scorer", sampling.scorer)
        except UserError:
            return None
        return model.weighing(sampling) if model else sampling, models.rule_of(sampling, model)

    def _weight(self, vote: dict[str, Any], source: str | None, fold: int) -> float | None:
        if self._counting is None or not vote["accepted"]:
            return None
        sampling, rule = self._counting
        kind = voices.kind(vote["voice"], vote["outcome"])
        weight = sampling.weight(source, fold) if source else sampling.kind_weight(kind, fold)
        scored = rule.use.weighs and vote["score"] is not None
        return weight * voting.odds(vote["score"]) if scored else weight

    def _votes(
        self, item: ItemHistory, entry: Entry, asked: PromptQuestion, sources: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Add what votes counted, the order in which they saw the options, and the combined run of each."""
        moved = self._run.options.get("vary") == "options"
        fold = vote_weights.fold(dataset.unit(entry), entry.questions[item.question].answer is not None)
        cast = []
        for vote, source in itertools.zip_longest(item.votes, sources[: len(item.votes)]):
            order = {"order": variety.order(asked, vote["place"])} if moved else {}
            of_run = {"run": source} if source else {}
            cast.append({**vote, **order, **of_run, "weight": self._weight(vote, source, fold)})
        return cast

    def _answer(self, item: ItemHistory, entry: Entry) -> dict[str, Any] | None:
        """Add the probability of an answer, and whether the question abstained, if the run is calibrated."""
        calibrated, answer = self._calibrated, item.answer
        if answer is None or calibrated.calibration is None:
            return answer
        names = set(RecordedVote._fields) - {"number"}
        cast = [RecordedVote(item.number, **{name: vote[name] for name in names}) for vote in item.votes]
        known = calibrated.probability(entry, item.question, cast, answer["letter"])
        return {**answer, "probability": known, "abstained": known < calibrated.calibration.threshold}

    def _round(
        self,
        asked: PromptQuestion,
        cast: Sequence[dict[str, Any]],
        attempt: int,
        record: RoundRecord,
        generator: GeneratorIdentity | None,
    ) -> Round:
        options = self._run.options
        template = self.template(record.voice)
        examples = [self.solved[position] for position in record.examples if position in self.solved]
        style = record.style or prompt_files.COMPLETION
        # A record has the prompt of its first vote.
        of_record = (vote for vote in cast if (vote["attempt"], vote["voice"]) == (attempt, record.voice))
        order = next(of_record, {}).get("order")
        seen = variety.reordered(asked, order) if order else asked
        shown = [examples]
        if options.get("vary") == "examples":  # those of all votes; the longest may not have fitted
            shown = [examples[:count] for count in range(options["num_examples"], -1, -1)]
        built = (template.build(seen, each, style, options.get("examples_as", "turns")) for each in shown)
        prompt = next((each for each in built if prompts.digest(each) == record.prompt), None)
        return Round(
            attempt=attempt,
            generator=generator,
            adapter=record.adapter,
            sampling={name: options.get(name) for name in ("votes", "temperature", "top_p", "max_tokens")},
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
