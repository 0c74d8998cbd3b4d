"""The Python API: what the commands do, as methods that return values.

    client = Client()
    run = client.enqueue_infer("test.jsonl", examples="solved.jsonl", votes=9).run
    client.wait(run)
    next(client.collect(run))  ->  RecordedAnswer(key="p1#1", letter="B", outcome="majority", support=7, ...)

The commands parse their arguments, call these methods and print the results. Progress and notes go to stderr.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from producers import collect, hub_push, merged_answers, retention, run_progress, watch
from producers.collect import ANSWERS, Collected, Contents, Exported
from producers.enqueue import calibrate, dry_run, infer_order, option_checks, publish
from producers.enqueue.dry_run import Forecast
from producers.enqueue.publish import EnqueuedRun
from producers.reports import paired_comparison, report_files, revote, summaries
from producers.reports.combination import Combination
from producers.reports.generation_report import GenerationReport
from producers.reports.inference_report import Figures
from producers.reports.paired_comparison import Comparison
from producers.reports.revote import Revote
from producers.reports.summaries import Summary
from producers.reports.training_report import TrainingReport
from producers.run_progress import RunProgress
from shared import settings
from shared.errors import InvalidOption
from shared.ledger import controls
from shared.ledger.controls import Deleted
from shared.ledger.retention import Dropped
from shared.ledger.votes import RecordedAnswer
from shared.options import Calibration


class Client:
    """The ledger and the broker of one installation, as the settings name them.

    Settings come from the environment (``VOTEQUEUE_*``) and from `.env` in the working directory. They are
    read once in a process, so set them before the first client is made. All clients of a process are equal.

    Every method raises a `shared.errors.UserError` where its command would end with an error, such as for a
    run that does not exist. Messages spell options as the command line does: ``--max-tokens``.
    """

    def __init__(self) -> None:
        """Read the settings; a `UserError` if one is invalid."""
        self.settings = settings.load()

    def enqueue_infer(
        self,
        data: Path | str,
        *,
        run: str | None = None,
        examples: Path | str | None = None,
        append_to: str | None = None,
        budget: float | None = None,
        deadline: str | None = None,
        skip_bad: bool = False,
        **options: Any,
    ) -> EnqueuedRun:
        """Enqueue the questions of a data set; the same call continues the run.

        ``data`` may also be a run: its votes are then scored or read again, or, with ``only``, some of its
        questions are asked again. ``examples`` is a data set or a run. ``budget`` is in the currency of the
        settings. ``deadline`` is a time from now (``4h``) or an ISO time. ``options`` are the fields of
        `shared.options.Sampling` and `shared.options.Reading`, such as ``votes=9`` or ``limit=20``; ``None``
        is the default of an option.

        Raises:
            UserError: the data or an option are invalid, or another run has the name; nothing was written.
            ServiceUnreachable: the broker does not answer; it is a `UserError` too.
        """
        order = infer_order.check(
            data,
            run=run,
            examples=examples,
            append_to=append_to,
            budget=budget,
            deadline=deadline,
            skip_bad=skip_bad,
            **options,
        )
        return infer_order.place(order)

    def combine(
        self, runs: Sequence[str], *, run: str | None = None, **options: Any
    ) -> tuple[EnqueuedRun, Combination | None]:
        """Enqueue a vote over the recorded votes of several finished runs on the same questions.

        Of the ``options``, ``combine`` is ``plain`` or ``learned``; the others apply to scoring (``scorer``,
        ``use``, ``threshold``, ``fallback``, ``batch``). The second value compares the combination with its
        runs on labelled questions; it is ``None`` if a scorer must score the votes first.

        Raises:
            UserError: the runs cannot be combined, or another run has the name; nothing was written.
            ServiceUnreachable: the broker does not answer.
        """
        return infer_order.combine(runs, run=run, **options)

    def forecast(self, data: Path | str, **arguments: Any) -> Forecast:
        """Estimate the run that `enqueue_infer` would make of the same arguments; nothing is written or sent.

        Raises:
            UserError: as `enqueue_infer`; also with ``append_to``, or if recorded votes would be used.
        """
        order = infer_order.check(data, True, **arguments)
        return dry_run.forecast(infer_order.prepare(order), order.budget)

    def progress(self, run: str) -> RunProgress:
        """Return a run's progress: items by state, rate in items per minute, time left in seconds."""
        return run_progress.progress_of(run)

    def wait(self, run: str, timeout: float | None = None, poll: float | None = None) -> RunProgress:
        """Wait until no item of a run is open; return its final progress.

        ``timeout`` and ``poll``, the time between two looks at the ledger, are in seconds. By default, there
        is no time-out, and ``poll`` is 1 second, or 5 for large runs.

        Raises:
            UserError: items are still open at the time-out.
        """
        return watch.follow(run, timeout, poll)

    def pause(self, run: str) -> None:
        """Let workers take no more items of a run; what is being sampled is finished."""
        controls.pause(run)

    def resume(self, run: str) -> int:
        """Lift a pause of a run or its services, and requeue its unfinished items; give the messages sent.

        Raises:
            UserError: the run is cancelled.
            ServiceUnreachable: the broker does not answer.
        """
        return publish.resume(run)

    def cancel(self, run: str) -> int:
        """End all open items of a run without a result; give their number. What is done stays.

        A run without open items stays as it is.
        """
        return controls.cancel(run)

    def delete(self, run: str) -> Deleted:
        """Delete all rows of a run; its name cannot be used again.

        Raises:
            UserError: items are open and the run is not cancelled, or another run needs it.
        """
        return controls.delete(run)

    def priority(self, run: str, priority: int) -> None:
        """Put a run before all runs of its queue with a lower priority; runs have 0 at first.

        Raises:
            UserError: it is no whole number or too large, or the run is cancelled.
        """
        controls.set_priority(run, priority)

    def retention(self, older_than: str, *, run: str | None = None, dry_run: bool = False) -> list[Dropped]:
        """Drop the texts of the votes of finished runs, or of one run, whose last result is older.

        ``older_than`` is a time such as ``30d`` or ``12h``. Figures and answers stay.

        Raises:
            UserError: the time is invalid, or the named run must keep its texts.
        """
        return retention.drop(option_checks.seconds("--older-than", older_than), run, dry_run)

    def calibrate(self, run: str, labelled: Sequence[str], **options: Any) -> Calibration:
        """Learn on ``labelled`` runs how probably each answer of a finished run is right, and record it.

        ``options`` are the fields of `shared.options.Abstention`; see `calibrate.calibrate`.

        Raises:
            UserError: an option is invalid, or the runs cannot calibrate this one.
        """
        return calibrate.calibrate(run, labelled, options)

    @overload
    def collect(self, run: str, *, wait: bool = False) -> Iterator[RecordedAnswer]: ...

    @overload
    def collect(
        self,
        run: str,
        output: Path | str,
        *,
        fields: Sequence[str] = (),
        votes: bool = False,
        format: str | None = None,
        wait: bool = False,
        force: bool = False,
    ) -> Collected | Exported: ...

    def collect(
        self,
        run: str,
        output: Path | str | None = None,
        *,
        fields: Sequence[str] = (),
        votes: bool = False,
        format: str | None = None,  # noqa: A002  as the command names it
        wait: bool = False,
        force: bool = False,
    ) -> Iterator[RecordedAnswer] | Collected | Exported:
        """Write a run's results to a file, or, without one, yield the answers of its questions.

        An answer's letter is ``None`` while there is none, and that of a question that abstains is the
        calibration's ``abstain_as``. The answers of a run that asks questions again
        are merged into those of its origin. The file is written even if results are missing: see ``open``
        and ``dead`` of the returned counts. The options are those of `votequeue collect`; without a file,
        only ``wait`` applies.

        Raises:
            UserError: the run has nothing to collect, or the file cannot be written.
        """
        contents = Contents(tuple(fields), votes, format)
        if output is not None:
            return collect.collect(run, Path(output), wait, force, contents)
        if contents != ANSWERS or force:
            raise InvalidOption("--output", "a file is needed for other options than wait")
        record = run_progress.require_questions(run)
        if wait:
            self.wait(run)
        collect.answer_overdue(record)
        entries = merged_answers.of_run(record, confidence=True)
        return (each.answer for _, answers in entries for each in answers)

    def push(
        self,
        run: str,
        target: str,
        *,
        fields: Sequence[str] = (),
        votes: bool = False,
        format: str | None = None,  # noqa: A002  as the command names it
        wait: bool = False,
    ) -> tuple[Collected | Exported, str]:
        """Write a run's results to a data set of the hub (``hf://OWNER/NAME``); give its address too.

        The options are those of `collect`.

        Raises:
            UserError: as `collect`, or the hub refuses or does not answer.
        """
        return hub_push.push(run, target, wait, Contents(tuple(fields), votes, format))

    def report(self, run: str) -> Figures | GenerationReport | TrainingReport:
        """Compute a run's report: `Figures` for an infer run."""
        return summaries.of_run(run)

    def revote(self, run: str, scorer: str | None = None) -> Revote:
        """Compare all voting modes on the recorded votes of a labelled run; nothing is sampled.

        ``scorer`` is by default the one that scored most votes.
        """
        return revote.revote(run, scorer)

    def compare(self, *runs: str) -> Comparison:
        """Compare runs with the first of them, on the questions that all of them share and have answered."""
        return paired_comparison.compare(runs)

    def save(self, report: Summary | Comparison, folder: Path | str, force: bool = False) -> list[Path]:
        """Write a report or a comparison to a folder, as a page, JSON and plots; return the paths.

        Raises:
            UserError: the folder cannot be written, or a run reads one of the files and ``force`` is false.
        """
        return report_files.save(report, Path(folder), force)

    def save_page(self, run: str, file: Path | str, force: bool = False) -> int:
        """Write an infer run as one HTML page, which needs no network; return the number of its questions.

        Raises:
            UserError: it is not an infer run, the file cannot be written, or a run reads it and ``force`` is
                false.
        """
        return report_files.save_page(run, Path(file), force)
