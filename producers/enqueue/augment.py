"""Enqueue entries for augmentation (`translate` queue): one item an entry.

    order("train.jsonl", options)  ->  Plan(run=Run("train-51d0c9aa", "translate", ...), items=640, ...)

Some strategies use one item a labelled question. Generated entries are left out, and back-translation also
leaves out translation tasks.
"""

import collections
import pkgutil
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from producers import console
from producers.enqueue import estimate, inputs, publish
from producers.enqueue.inputs import DataSource
from producers.enqueue.plan import LeftOut, Plan
from producers.enqueue.workload import Workload
from shared.dataset import Entry, Line
from shared.errors import UserError
from shared.ledger.runs import Run
from shared.options import Augmentation, Reading
from shared.strategies import STRATEGIES


@dataclass
class _Sieve:
    """Filters the entries that a run can use, and counts the others."""

    options: Augmentation
    entries: int = 0
    questions: int = 0
    labelled: int = 0
    augmented: int = 0
    tasks: list[str | int] = field(default_factory=list)

    def keep(self, lines: Iterable[Line]) -> Iterator[Line]:
        return (line for line in lines if not line.entry.augmented and not self._is_task(line.entry))

    def count(self, lines: Iterable[Line]) -> Iterator[Entry]:
        for line in lines:
            entry = line.entry
            if entry.augmented:
                self.augmented += 1
            elif self._is_task(entry):
                self.tasks.append(entry.id)
            else:
                self.entries += 1
                self.questions += len(entry.questions)
                self.labelled += sum(question.answer is not None for question in entry.questions)
                yield entry

    def _is_task(self, entry: Entry) -> bool:
        # Back-translation would change a translation task.
        texts = (entry.problem, *(question.question for question in entry.questions))
        return bool(self.options.skip) and any(re.search(self.options.skip or "", text) for text in texts)

    @property
    def left_out(self) -> LeftOut:
        unlabelled = self.questions - self.labelled if self.options.per_question else 0
        return LeftOut(unlabelled, self.augmented, self.tasks)


def order(
    argument: str,
    options: Augmentation,
    name: str | None = None,
    skip_bad: bool = False,
    reading: Reading = inputs.AS_IT_IS,
) -> Plan:
    """Plan a run that generates new entries from a data set or a run; nothing is written.

    Raises:
        UserError: the data do not exist, or no entry can be used.
    """
    source = _source(argument, skip_bad, reading)
    sieve = _Sieve(options)
    with console.bar("estimating", source.entries, "entries") as advance:
        lines = inputs.counted(source.lines(), advance)
        work = _work(sieve.count(lines), options)
    _require_some(source, sieve)
    record = options.model_dump(mode="json")
    chosen = name or publish.default_name(source.stem, "translate", source.digest, record)
    return Plan(
        run=Run(chosen, "translate", source.place, source.digest, None, record),
        items=sieve.labelled if options.per_question else sieve.entries,
        entries=sieve.entries,
        bad=source.bad,
        left_out=sieve.left_out,
        estimate=estimate.of(work),
        lines=lambda: sieve.keep(source.lines()),
        files=source.files,
        per_entry=not options.per_question,
    )


def _source(argument: str, skip_bad: bool, reading: Reading) -> DataSource:
    data = inputs.find_source(argument)
    if isinstance(data, Path):
        return inputs.check([data], skip_bad, reading)[0]
    if reading != inputs.AS_IT_IS:
        raise UserError(f"{argument} is a run: --format, --map, --limit and --sample are for data sets")
    if data.kind != "infer":
        inputs.note_open_items(data.name)
    return inputs.from_run(data)


def _work(entries: Iterator[Entry], options: Augmentation) -> Workload:
    estimator = STRATEGIES[options.strategy].workload
    work: Workload = pkgutil.resolve_name(estimator)(entries, options) if estimator else Workload()
    # Consume the entries even without an estimator, because the sieve counts them.
    collections.deque(entries, maxlen=0)
    return work


def _require_some(source: DataSource, sieve: _Sieve) -> None:
    if not sieve.entries:
        reasons = [
            f"{count} {kind}"
            for count, kind in [
                (sieve.augmented, "generated"),
                (len(sieve.tasks), "translation tasks"),
            ]
            if count
        ]
        raise UserError(
            f"{source.name}: none of its {source.entries} entries can be used: {', '.join(reasons)}"
        )
    if sieve.options.per_question and not sieve.labelled:
        product = f"{sieve.options.strategy}s"
        raise UserError(f"{source.name}: it has no labelled question, which {product} require")
