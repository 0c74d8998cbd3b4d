"""Enqueue a data set for `infer`; record any run and send its messages.

    place(prepare(Path("test.jsonl"), sampling))  ->  EnqueuedRun("test-9f3c01ab", items=1328, ...)

All input is checked and the broker pinged first; then one transaction records the run, and messages are sent.
An interrupted call can be repeated and continues.
"""

import dataclasses
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from producers import console, run_progress
from producers.enqueue import estimate, inputs, prompt_choice, service_checks
from producers.enqueue.inputs import DataSource, Examples
from shared import broker, options, prompt_files, service_pauses, settings
from shared.errors import ServiceUnreachable, UserError
from shared.jobs import Infer, Reason, Train
from shared.ledger import calls, claims, controls, locks, models, outbox, prompt_store, runs
from shared.ledger.engine import Connection
from shared.ledger.runs import Run
from shared.ledger.schema import Control
from shared.options import Reading, Reasoning, Sampling
from shared.prompt_files import PromptTemplate
from shared.voices import REASONING

CHUNK = 500  # messages sent between two updates of the ledger
SENDING_LEASE = 15.0  # seconds, after which workers send what a dead producer did not
# Options that the default names of all runs depend on, as in the oldest versions. Others count only where
# they differ from their defaults: then new options leave the names of ordinary runs as they are.
IN_ALL_NAMES = frozenset(
    {
        *("votes", "max_attempts", "max_tokens", "temperature", "top_p", "seed", "fallback", "reader"),
        *("scorer", "lora", "use", "threshold", "num_examples", "same_problem", "batch", "votes_of"),
    }
)
Also = Callable[[Connection], object]  # what is written in the same transaction
_NO_NAME = re.compile(r"[^\w.+@-]+")


@dataclass(frozen=True)
class EnqueuedRun:
    """The result of an `enqueue`; ``bad`` lines were skipped; ``continued``: the run existed already."""

    run: str
    items: int
    sent: int
    examples: int
    bad: int
    continued: bool


@dataclass(frozen=True)
class Prepared:
    """A checked `infer` run that is not recorded yet, with the prompts of its voices.

    ``keys`` are its questions, by default all.
    """

    run: Run
    source: DataSource
    few_shot: Examples
    prompts: dict[str, PromptTemplate]
    keys: frozenset[str] | None = None


def prepare(
    data: Path,
    sampling: Sampling,
    name: str | None = None,
    examples: str | None = None,
    skip_bad: bool = False,
    reading: Reading = inputs.AS_IT_IS,
) -> Prepared:
    """Check a data set and its examples; nothing is written.

    Raises:
        UserError: the data or the examples are invalid.
    """
    voices = prompted_voices(sampling)
    prompts = prompt_choice.named(sampling.prompt, voices)
    source, few_shot = _check_data(data, examples, skip_bad, reading)
    prompts, language = prompt_choice.completed(prompts, voices, (line.entry for line in source.lines()))
    identity = _identity(sampling) | _named(prompts)
    chosen = name or default_name(data.stem, "infer", source.digest, few_shot.digest, identity)
    record = pinned(sampling, prompts).model_copy(update={"language": language}).model_dump(mode="json")
    run = Run(chosen, "infer", source.place, source.digest, few_shot.digest, record)
    return Prepared(_keep_pinned(run, sampling), source, few_shot, prompts)


def prompted_voices(sampling: Sampling) -> list[str]:
    """List the voices whose prompts a run records: its own, and always that of reasonings."""
    return list(dict.fromkeys((REASONING, *sampling.votes_by_voice)))


def place(prepared: Prepared, budget: float | None = None) -> EnqueuedRun:
    """Record a prepared run and send its messages; an existing run is continued.

    ``budget`` is the most that a run with a provider may cost.

    Raises:
        UserError: the run's name is invalid, another run has it, the data have changed, or the budget lacks a
            price.
        ServiceUnreachable: the broker does not answer.
    """
    run, source, few_shot = prepared.run, prepared.source, prepared.few_shot

    def write(also: Also = lambda _: None) -> None:
        for prompt in prepared.prompts.values():
            prompt_store.put(prompt)
        if few_shot.digest is not None:
            runs.add_examples(few_shot.digest, few_shot.read())
        with console.bar("recording", source.entries, "entries") as advance:
            lines = inputs.counted(source.lines(), advance)
            runs.open_run(run, lines, keys=prepared.keys, files=(*source.files, *few_shot.files), also=also)

    if run.calls_services:
        check_services(run, budget)
        continued = begin_paid(run, write, budget)
    else:
        continued = begin(run, write)
    if not continued and run.options["language"] not in (None, prompt_files.FIRST):
        names = ", ".join(prompt.name for prompt in prepared.prompts.values())
        console.note(f"prompt {names}, by the language of the data: --prompt chooses another")
    sent = publish(run.name)
    items = run_progress.count_items(run.name)
    return EnqueuedRun(run.name, items, sent, few_shot.count, source.bad, continued)


def _identity(sampling: Sampling) -> dict[str, object]:
    """Give what the default name of a run depends on, beside its data and prompt."""
    options = sampling.model_dump(exclude={"prompt"})
    fields = Sampling.model_fields
    return {
        name: value
        for name, value in options.items()
        if name in IN_ALL_NAMES or value != fields[name].get_default(call_default_factory=True)
    }


def _named(prompts: Mapping[str, PromptTemplate]) -> dict[str, object]:
    """Give what the prompts add to a run's identity: nothing for the first one, as in older runs."""
    first = prompt_files.built_in(prompt_files.FIRST).digest
    prompt, others = prompts[REASONING].digest, _others(prompts)
    return ({} if prompt == first else {"prompt": prompt}) | ({"voice_prompts": others} if others else {})


def _others(prompts: Mapping[str, PromptTemplate]) -> dict[str, str] | None:
    return {voice: each.digest for voice, each in prompts.items() if voice != REASONING} or None


def check_services(run: Run, budget: float | None) -> None:
    """Print notes about a run's providers on stderr.

    Raises:
        UserError: a budget is set, and a model has no price.
    """
    estimate.require_price(run, budget)
    for provider in run.providers:
        for note in service_checks.notes(provider):
            console.note(note)


def pinned(sampling: Sampling, prompts: Mapping[str, PromptTemplate]) -> Sampling:
    """Pin the model, the retriever, the prompts, the reader, scorer and adapter in a run's options.

    A reader that the user chose replaces the prompt's. The model is pinned only where the command or this
    machine's settings name one: elsewhere, the workers' settings do.

    Raises:
        UserError: a named model does not exist.
    """
    loaded, prompt = settings.load(), prompts[REASONING]
    return sampling.model_copy(
        update={
            "model": sampling.model or (loaded.model if "model" in loaded.model_fields_set else None),
            "retriever": sampling.retriever or loaded.embedding,
            "prompt": prompt.digest,
            "voice_prompts": _others(prompts),
            "reader": sampling.reader if "reader" in sampling.model_fields_set else prompt.reader,
            "scorer": models.pinned("scorer", sampling.scorer),
            "lora": models.pinned("lora", sampling.lora),
        }
    )


def _keep_pinned(run: Run, sampling: Sampling) -> Run:
    """Keep what an existing run was enqueued with: models where the one in use is requested, the prompt."""
    before = runs.find_run(run.name)
    kept = {
        kind: before.options[kind]
        for kind in ("scorer", "lora")
        if before and before.kind == run.kind and getattr(sampling, kind) == models.IN_USE
    }
    for kind, model in kept.items():
        if model not in (run.options[kind], models.IN_USE):
            console.note(f"run {run.name} keeps its pinned {kind}: {model}")
    if before and before.kind == run.kind and sampling.prompt is None:
        kept |= {option: before.options.get(option) for option in ("prompt", "voice_prompts", "language")}
        if "reader" not in sampling.model_fields_set:
            kept["reader"] = prompt_store.of_votes(kept["prompt"]).reader
    return dataclasses.replace(run, options={**run.options, **kept})


def _check_data(
    data: Path, examples: str | None, skip_bad: bool, reading: Reading
) -> tuple[DataSource, Examples]:
    examples_source = None if examples is None else inputs.find_source(examples, "--examples ")
    # Check both together to list the bad lines of both; check the same file only once.
    files = [data, examples_source] if isinstance(examples_source, Path) else [data]
    files = list(dict.fromkeys(files)) if reading == inputs.AS_IT_IS else files
    checked = inputs.check(files, skip_bad, reading)
    if examples_source is None:
        return checked[0], inputs.NO_EXAMPLES
    return checked[0], inputs.examples_of(
        checked[-1] if isinstance(examples_source, Path) else inputs.from_run(examples_source)
    )


def begin(run: Run, write: Callable[[], object]) -> bool:
    """Record a run unless it exists; return whether it did.

    Raises:
        UserError: another run has the name; the message says what differs.
        ServiceUnreachable: the broker does not answer, and nothing was written.
    """
    continued = exists(run)
    broker.ping()
    if not continued:
        write()
    return continued


def begin_paid(run: Run, write: Callable[[Also], object], budget: float | None) -> bool:
    """Record a run with a budget unless it exists; return whether it did.

    A new budget replaces the old one. If it is larger, stopped items resume. Raises as `begin`.
    """
    continued = begin(run, lambda: write(lambda connection: calls.put_budget(connection, run.name, budget)))
    if continued:
        before = calls.spent(run.name).budget
        calls.set_budget(run.name, budget)
        if budget is None or (before is not None and budget > before):
            outbox.revive(run.name, calls.OVER_BUDGET)
    return continued


def exists(run: Run) -> bool:
    """Return whether a run exists already with the same data and options.

    Raises:
        UserError: its name is invalid, or another run has it; the message says what differs.
    """
    require_name(run.name)
    recorded = runs.find_run(run.name)
    if recorded is not None and (differences := list(_differences(recorded, run))):
        raise UserError(
            f"run {run.name!r} exists already, but {'; '.join(differences)}: choose another name with --run"
        )
    if recorded is not None:
        runs.require_open(run.name)
    return recorded is not None


# Defaults for runs that are older than an option.
_BEFORE = {
    (kind.queue, name): options.OLDER.get(name, field.default)
    for kind, model in ((Infer, Sampling), (Reason, Reasoning))
    for name, field in model.model_fields.items()
    if not field.is_required()
}


def _differences(recorded: Run, requested: Run) -> Iterator[str]:
    if recorded.kind != requested.kind:
        yield f"it is for the {recorded.kind} queue"
        return
    if recorded.digest != requested.digest:
        yield f"its data is not the same ({recorded.source})"
    if recorded.examples != requested.examples:
        yield "its examples are " + ("not the same" if recorded.examples else "none")
    options_before = options.renamed(recorded.options)
    for option in sorted(options_before.keys() | requested.options.keys()):
        before = options_before.get(option, _BEFORE.get((recorded.kind, option)))
        now = requested.options.get(option)
        if option == "prompt" and recorded.kind in (Infer.queue, Train.queue):
            before, now = prompt_files.digest_of(before), prompt_files.digest_of(now)
        elif option in ("model", "prompt", "retriever") and None in (before, now):
            continue  # not pinned, or the run predates these options
        elif option in ("language", "calibration") and recorded.kind == Infer.queue:
            continue  # the one only chose the prompt, the other is recorded later
        elif option in ("gains", "prices"):
            continue  # they were learned from the runs that budget_from names
        if before != now:
            yield f"its {option.replace('_', '-')} is {_format_option(before)}, not {_format_option(now)}"


def _format_option(option: object) -> str:
    return ", ".join(map(str, option)) if isinstance(option, list) else str(option)


def default_name(stem: str, *identity: object) -> str:
    """Derive a run's name from its file and a hash of its identity."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, default=str)
    plain = _NO_NAME.sub("-", stem)[:100].strip("-") or "run"
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def require_name(name: str) -> None:
    """Refuse a run's name that is unsafe in shells, task ids or tables.

    Raises:
        UserError: stating the allowed characters.
    """
    if not 1 <= len(name) <= 200 or _NO_NAME.search(name) or name.startswith("-"):
        raise UserError(
            f"invalid run name {name!r}: use 1 to 200 letters, digits and . _ + @ -, not starting with a dash"
        )


# Sending


def publish(run: str) -> int:
    """Send messages for due items without one, as many as the queue has room for; return their number.

    Workers send the others as the queue empties.

    Raises:
        ServiceUnreachable: the broker is gone; sent messages are recorded, and the same call sends the rest.
    """
    total = outbox.count_unsent(run)
    if not total:
        return 0
    record = runs.get_run(run)
    queue = record.queue
    room = max(0, settings.load().window - broker.waiting(queue))
    # While this lock is held, the reconcile loops do not send this run's messages.
    lock, holder = outbox.sending(run), f"producer:{uuid.uuid4().hex}"
    locks.hold(lock, holder, SENDING_LEASE)
    try:
        jobs = outbox.unsent(room, run)
        with console.bar("sending", len(jobs), "messages") as advance:
            for at in range(0, len(jobs), CHUNK):
                chunk = jobs[at : at + CHUNK]
                broker.send(chunk)
                outbox.mark_sent(chunk)
                locks.hold(lock, holder, SENDING_LEASE)
                advance(len(chunk))
    except ServiceUnreachable as error:
        raise ServiceUnreachable(
            f"{error}; run {run!r} is recorded: repeat the command, or run `votequeue resume {run}`"
        ) from None
    finally:
        locks.hold(lock, holder, 0)
        outbox.put_in_turn(run, queue)
    if record.control == Control.PAUSED:
        console.note(f"run {run} is paused: `votequeue resume {run}` sends its messages")
    elif len(jobs) == room < total:
        console.note(f"the queue holds {settings.load().window:,} messages: the others follow as it empties")
    return len(jobs)


def resume(name: str) -> int:
    """Lift the pauses of a run and its services, and requeue its unfinished items that no worker holds.

    Return the number of messages.

    Raises:
        UserError: there is no such run, or it is cancelled.
        ServiceUnreachable: the broker does not answer.
    """
    run = runs.require_open(name)
    broker.ping()
    controls.resume(name)
    if run.calls_services:
        _stop_waiting(run)
    claims.expire(settings.load().max_losses)
    outbox.forget_sent(run=name)
    return publish(name)


def _stop_waiting(run: Run) -> None:
    # Resuming means that the cause of the pause is fixed, or should be tested again.
    for provider in run.providers:
        for note in _lift(provider):
            console.note(note)
    # Other runs of these providers wait for the same pause.
    same = [other.name for other in runs.list_runs() if set(other.providers) & set(run.providers)]
    outbox.make_due(run.name, *same)


def _lift(provider: str) -> list[str]:
    """Lift all pauses of a provider's services for all workers; return a note for each."""
    # Redis first: a worker that still saw a long pause there would record it in the ledger again.
    slow = service_pauses.forget(provider)
    paused = {pause.service: pause.reason for pause in calls.pauses(provider)}
    calls.lift(provider)
    reasons = {slowdown.service: slowdown.message for slowdown in slow if slowdown.left} | paused
    notes = [f"{service} is called again; it was paused: {reason}" for service, reason in reasons.items()]
    if any(reason.startswith(calls.OWN_QUOTA) for reason in paused.values()):
        notes.append("calls stopped by per_day pause again unless the workers' VOTEQUEUE_LIMITS is raised")
    return notes


def retry_dead(name: str) -> int:
    """Reset a run's dead items and requeue them; return the number of messages."""
    runs.require_open(name)
    broker.ping()
    outbox.revive(name)
    return publish(name)
