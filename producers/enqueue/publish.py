"""Enqueue a data set for `infer`; record any run and send its messages.

    infer(Path("test.jsonl"), sampling)  ->  EnqueuedRun("test-9f3c01ab", items=1328, sent=1328, ...)

Nothing is written before all is known to be good and the broker answers; then one transaction, then the
messages. Interrupted anywhere, the same call continues.
"""

import dataclasses
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from producers import console, run_progress
from producers.enqueue import inputs
from producers.enqueue.inputs import DataSource, Examples
from shared import broker, options, prompts, service_pauses, settings
from shared.errors import ServiceUnreachable, UserError
from shared.jobs import DATA_QUEUES, Infer, Job, Reason
from shared.ledger import calls, claims, locks, models, outbox, runs
from shared.ledger.engine import Connection
from shared.ledger.runs import Run
from shared.options import Reasoning, Sampling

LOOKAHEAD = 10_000  # items listed at once for sending
CHUNK = 500  # messages sent between two notes in the ledger
SENDING_LEASE = 15.0  # seconds; what a dead producer did not send, workers send after this
Also = Callable[[Connection], object]  # what is written in the same transaction
_NO_NAME = re.compile(r"[^\w.+@-]+")


@dataclass(frozen=True)
class EnqueuedRun:
    """What an `enqueue` did; ``bad`` lines were left out, ``continued`` says the run was there already."""

    run: str
    items: int
    sent: int
    examples: int
    bad: int
    continued: bool


def infer(
    data: Path,
    sampling: Sampling,
    name: str | None = None,
    examples: str | None = None,
    skip_bad: bool = False,
) -> EnqueuedRun:
    """Enqueue every question of a data set.

    Raises:
        UserError: the data, the examples or the run's name will not do; nothing was enqueued.
        ServiceUnreachable: the broker does not answer.
    """
    source, shown = _look_at(data, examples, skip_bad)
    identity = sampling.model_dump(exclude={"model", "prompt"})
    chosen = name or default_name(data.stem, "infer", source.digest, shown.digest, identity)
    run = Run(chosen, "infer", source.place, source.digest, shown.digest, pinned(sampling).model_dump())

    def write() -> None:
        if shown.digest is not None:
            runs.add_examples(shown.digest, shown.read())
        with console.bar("recording", source.entries, "entries") as advance:
            lines = inputs.counted(source.lines(), advance)
            runs.open_run(run, lines, files=(*source.files, *shown.files))

    continued = begin(_follow_up(run, sampling), write)
    sent = publish(chosen)
    return EnqueuedRun(chosen, run_progress.count_items(chosen), sent, shown.count, source.bad, continued)


def pinned(sampling: Sampling) -> Sampling:
    """Put the generator, the prompt's version, scorer and adapter of this moment into a run's options.

    Raises:
        UserError: a model is named that there is not.
    """
    return sampling.model_copy(
        update={
            "model": settings.load().model,
            "prompt": prompts.version("answering"),
            "scorer": models.pinned("scorer", sampling.scorer),
            "lora": models.pinned("lora", sampling.lora),
        }
    )


def _follow_up(run: Run, sampling: Sampling) -> Run:
    """Take over the models that a run was enqueued with, where the one in use is wanted: it keeps to them."""
    before = runs.find_run(run.name)
    kept = {
        kind: before.options[kind]
        for kind in ("scorer", "lora")
        if before and before.kind == run.kind and getattr(sampling, kind) == models.IN_USE
    }
    for kind, model in kept.items():
        if model not in (run.options[kind], models.IN_USE):
            console.note(f"run {run.name} keeps the {kind} that it was enqueued with: {model}")
    return dataclasses.replace(run, options={**run.options, **kept})


def _look_at(data: Path, examples: str | None, skip_bad: bool) -> tuple[DataSource, Examples]:
    shown = None if examples is None else inputs.find_source(examples, "--examples ")
    # One look at both, so that the bad lines of both are listed; the same file is looked at once.
    files = [data, shown] if isinstance(shown, Path) else [data]
    checked = inputs.check(list(dict.fromkeys(files)), skip_bad)
    if shown is None:
        return checked[0], inputs.NO_EXAMPLES
    return checked[0], inputs.examples_of(checked[-1] if isinstance(shown, Path) else inputs.made_by(shown))


def begin(run: Run, write: Callable[[], object]) -> bool:
    """Record a run unless it is there already; tell whether it was.

    Raises:
        UserError: another run has the name; the message says what differs.
        ServiceUnreachable: the broker does not answer, and nothing was written.
    """
    known = is_known(run)
    broker.ping()
    if not known:
        write()
    return known


def begin_paid(run: Run, write: Callable[[Also], object], budget: float | None) -> bool:
    """Record a run that pays for its calls, with its budget; tell whether it was there already.

    Another budget replaces the one there was, and what a smaller one had stopped goes on. Raises as `begin`.
    """
    continued = begin(run, lambda: write(lambda connection: calls.put_budget(connection, run.name, budget)))
    if continued:
        before = calls.spent(run.name).budget
        calls.set_budget(run.name, budget)
        if budget is None or (before is not None and budget > before):
            outbox.revive(run.name, calls.OVER_BUDGET, recount=True)
    return continued


def is_known(run: Run) -> bool:
    """Tell whether a run is there already, with the same data and options.

    Raises:
        UserError: its name cannot be one, or another run has it; the message says what differs.
    """
    require_name(run.name)
    known = runs.find_run(run.name)
    if known is not None and (differences := list(_differences(known, run))):
        raise UserError(
            f"there is a run {run.name!r} already, and {'; '.join(differences)}: name another with --run"
        )
    return known is not None


# What runs had that are older than an option.
_BEFORE = {
    (kind.queue, name): options.OLDER.get(name, field.default)
    for kind, model in ((Infer, Sampling), (Reason, Reasoning))
    for name, field in model.model_fields.items()
    if not field.is_required()
}


def _differences(known: Run, wanted: Run) -> Iterator[str]:
    if known.kind != wanted.kind:
        yield f"it is for the {known.kind} queue"
        return
    if known.digest != wanted.digest:
        yield f"its data is not the same ({known.source})"
    if known.examples != wanted.examples:
        yield "its examples are " + ("not the same" if known.examples else "none")
    for option in sorted(known.options.keys() | wanted.options.keys()):
        if option in ("model", "prompt") and option not in known.options:
            continue  # it is older than the record of these
        before = known.options.get(option, _BEFORE.get((known.kind, option)))
        now = wanted.options.get(option)
        if before != now:
            yield f"its {option.replace('_', '-')} is {_shown(before)}, not {_shown(now)}"


def _shown(option: object) -> str:
    return ", ".join(map(str, option)) if isinstance(option, list) else str(option)


def default_name(stem: str, *identity: object) -> str:
    """Name a run after its file and everything that makes it the same run."""
    told = json.dumps(identity, sort_keys=True, ensure_ascii=False, default=str)
    plain = _NO_NAME.sub("-", stem)[:100].strip("-") or "run"
    return f"{plain}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def require_name(name: str) -> None:
    """Refuse a run's name that a shell, a task id or a table would trip over.

    Raises:
        UserError: saying what a name may hold.
    """
    if not 1 <= len(name) <= 200 or _NO_NAME.search(name) or name.startswith("-"):
        raise UserError(
            f"{name!r} cannot name a run: 1 to 200 letters, digits and . _ + @ -, not beginning with a dash"
        )


# Sending


def publish(run: str) -> int:
    """Send a message for each item that is due and has none on the way; give how many.

    Raises:
        ServiceUnreachable: the broker went away; what was sent is noted, the same call sends the rest.
    """
    sent = 0
    total = outbox.count_unsent(run)
    if not total:
        return 0
    # While this lock is held, the workers' reconcile loops leave what is not sent yet to us.
    lock, holder = outbox.sending(run), f"producer:{uuid.uuid4().hex}"
    locks.hold(lock, holder, SENDING_LEASE)
    try:
        with console.bar("sending", total, "messages") as advance, broker.sender() as channel:
            while jobs := outbox.unsent(LOOKAHEAD, run):
                for at in range(0, len(jobs), CHUNK):
                    _send_chunk(channel, jobs[at : at + CHUNK])
                    locks.hold(lock, holder, SENDING_LEASE)
                    advance(len(jobs[at : at + CHUNK]))
                sent += len(jobs)
    except ServiceUnreachable as error:
        raise ServiceUnreachable(
            f"{error}; run {run!r} is recorded: the same command, or `votequeue resume {run}`, goes on"
        ) from None
    finally:
        locks.hold(lock, holder, 0)
    return sent


def _send_chunk(channel: broker.Sender, jobs: Sequence[Job]) -> None:
    out: list[Job] = []
    try:
        for job in jobs:
            channel.send(job)
            out.append(job)
    finally:
        outbox.mark_sent(out)


def resume(run: str) -> int:
    """Send again whatever has no answer and is not being worked on; give how many messages went out."""
    found = runs.get_run(run)
    broker.ping()
    if found.kind in DATA_QUEUES:
        _stop_waiting(found)
    claims.expire(settings.load().max_losses)
    outbox.forget_sent(run=run)
    return publish(run)


def _stop_waiting(run: Run) -> None:
    # Whoever resumes says that what a service complained of is mended, or wants to see it complain again.
    provider = run.options.get("provider")
    for note in _lift(provider) if provider else []:
        console.note(note)
    # Other runs wait for the same service, and would wait for ever.
    same = [
        other.name for other in runs.list_runs() if provider and other.options.get("provider") == provider
    ]
    outbox.make_due(run.name, *same)


def _lift(provider: str) -> list[str]:
    """Lift all pauses of a provider's services, for all workers; say what was lifted."""
    # First in Redis: a worker that still saw a long pause there would write it into the ledger again.
    slow = service_pauses.forget(provider)
    paused = {pause.service: pause.reason for pause in calls.pauses(provider)}
    calls.lift(provider)
    reasons = {one.service: one.message for one in slow if one.left} | paused
    notes = [f"{service} is called again; it was paused: {reason}" for service, reason in reasons.items()]
    if any(reason.startswith(calls.OWN_QUOTA) for reason in paused.values()):
        notes.append("what per_day has stopped pauses again unless VOTEQUEUE_LIMITS allows the workers more")
    return notes


def retry_dead(run: str) -> int:
    """Give a run's dead items another chance; give how many messages went out."""
    found = runs.get_run(run)
    broker.ping()
    outbox.revive(run, recount=found.kind in DATA_QUEUES)
    return publish(run)
