"""Start and stop the services of one machine: embedded Valkey, workers and Flower under supervisord.

    up(settings, {"infer": 2, "train": 1}, detach=True)  ...  down(settings)

`up` succeeds only when every service answers. `down` leaves no process behind, not even those of a killed
supervisord: each program's note (see `parent_death`) identifies its process group.
"""

import contextlib
import http.client
import signal
import subprocess
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import filelock
import redis

from infra import health, monitoring, process_groups, programs
from infra.programs import PYTHON, SUPERVISORD, Layout, Program
from shared import file_permissions, model_store
from shared.errors import UserError
from shared.settings import Settings

ANSWER_SECONDS = 90.0  # for a service to answer after its start; a busy laptop is slow
LOADING_SECONDS = 600.0  # for an engine to load its model
POLL_SECONDS = 0.3
ENDED = ("STOPPED", "EXITED", "FATAL", "UNKNOWN")
START_ATTEMPTS = 4  # failures after which `up` reports that a program does not start


@dataclass(frozen=True)
class Running:
    """A program's state in supervisord; ``ended_at`` is its last end, in seconds since the epoch."""

    name: str
    state: str
    pid: int
    ended_at: int = field(default=0, compare=False)


def up(
    settings: Settings, workers: Mapping[str, int], detach: bool, serve: bool = False, metrics: bool = False
) -> None:
    """Start everything; then run until Ctrl-C and stop it, or return if detached.

    If it runs already, failed programs are started again.

    Raises:
        UserError: it runs already, a port is taken, weights are missing, or a service does not start.
    """
    layout = programs.layout(settings)
    selected = programs.programs(settings, workers, serve)
    if metrics:
        selected = monitoring.monitored(settings, selected)
    with file_permissions.only_owner(), stopped_by_signals(), disk_errors_explained(layout):
        with exclusive(layout):
            if start_given_up(layout):
                print_status(settings, layout)
                return
            refuse_if_running(layout)
            refuse_without_weights(settings, needs_weights(settings, workers) or serve)
            refuse_without_index(settings, workers)
            sweep(layout)
            refuse_taken_ports(settings, serve)
            monitoring.refuse_taken_ports(settings, selected)
            configuration = programs.write(settings, selected)
            if metrics:
                monitoring.write(settings, selected)
            try:
                start(settings, layout, configuration, detach)
                bring_up(settings, layout, selected)
            except BaseException:
                with signals_ignored():
                    stop(layout)
                raise
        print_status(settings, layout)
        if not detach:
            stay_up(layout)


def down(settings: Settings) -> None:
    """Stop everything that `up` started, and wait for its end; no error if nothing runs."""
    layout = programs.layout(settings)
    if not layout.folder.is_dir():
        say("nothing is running")
        return
    with file_permissions.only_owner(), disk_errors_explained(layout), exclusive(layout):
        if not process_groups.living(layout.notes):
            clear(layout)
            say("nothing is running")
            return
        say("stopping")
        stop(layout)
        say("stopped")


def running(settings: Settings) -> list[Running]:
    """List the programs with state and pid; empty when no supervisord answers."""
    return list_programs(programs.layout(settings))


# Before the start


def refuse_if_running(layout: Layout) -> None:
    """Fail if this home's services run already; name one that does not start."""
    if SUPERVISORD not in process_groups.living(layout.notes):
        return
    for program in list_programs(layout):
        if program.state == "BACKOFF":
            raise UserError(
                f"votequeue is already running here, but {program.name} does not start: "
                f"{last_error(layout, program.name)}"
            )
    raise UserError("votequeue is already running here: `votequeue down` stops it")


def start_given_up(layout: Layout) -> list[str]:
    """Restart failed and ended programs; return their names.

    Raises:
        UserError: one of them does not start.
    """
    names = {program.name for program in list_programs(layout) if program.state in ENDED}
    if names:
        say(f"votequeue is already running here; restarting: {', '.join(sorted(names))}")
        with supervisor(layout) as server:
            for name in sorted(names):
                server.startProcess(name, False)
        wait_for(layout, ", ".join(sorted(names)), lambda: names <= names_of(layout, "RUNNING"))
    return sorted(names)


def names_of(layout: Layout, state: str) -> set[str]:
    """Return the names of the programs in a state."""
    return {program.name for program in list_programs(layout) if program.state == state}


def needs_weights(settings: Settings, workers: Mapping[str, int]) -> bool:
    """Return whether an infer worker would load weights, rather than call a provider."""
    return bool(workers.get("infer")) and not settings.calls_provider


def refuse_without_weights(settings: Settings, needed: bool) -> None:
    """Fail early if an engine would find no weights."""
    if needed and model_store.find_weights(settings.model, settings.cache) is None:
        raise UserError(
            f"the weights of {settings.model} are not on this machine: get them with `votequeue weights`"
        )


def refuse_without_index(settings: Settings, workers: Mapping[str, int]) -> None:
    """Fail early if the Qdrant server of the infer workers does not answer."""
    if needs_weights(settings, workers):
        health.require_index(settings)


def refuse_taken_ports(settings: Settings, serve: bool) -> None:
    """Fail if a port of Valkey, Flower or the chat server is taken."""
    broker, flower = programs.embedded_broker(settings), programs.flower(settings)
    if broker and not broker.free():
        raise UserError(
            f"port {broker.port} on {broker.host} is taken: stop its listener, or set another port "
            "in VOTEQUEUE_BROKER_URL"
        )
    if not flower.free():
        raise UserError(
            f"port {flower.port} on {flower.host} is taken: stop what listens there, or set "
            "VOTEQUEUE_FLOWER_PORT"
        )
    if serve and not (chat := programs.chat_server(settings)).free():
        raise UserError(
            f"port {chat.port} on {chat.host} is taken: stop what listens there, or put another port in "
            "VOTEQUEUE_LOCAL_URL"
        )


# Starting


def start(settings: Settings, layout: Layout, configuration: Path, detach: bool) -> None:
    """Start supervisord in a session of its own; unless detached, it dies with this process."""
    command = [*PYTHON, "-m", "infra.supervisord", "-c", str(configuration)]
    wrapper = [] if detach else [*PYTHON, "-m", "infra.parent_death", "-", "--"]
    with layout.log("supervisord-start").open("w") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*wrapper, *command],
            cwd=layout.home,
            env=programs.environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    threading.Thread(target=process.wait, daemon=True).start()  # reaps the process
    process_groups.write_note(layout.notes / SUPERVISORD, process.pid)


def bring_up(settings: Settings, layout: Layout, selected: list[Program]) -> None:
    """Start the programs in their order and wait until each answers."""
    wait_for(layout, "supervisord", lambda: bool(list_programs(layout)))
    if programs.embedded_broker(settings):
        wait_for(layout, "Valkey", lambda: own_broker_answers(settings, layout))
    with supervisor(layout) as server:
        for program in selected:
            if not program.first:
                server.startProcess(program.name, False)
    names = {program.name for program in selected}
    wait_for(layout, "workers", lambda: names_of(layout, "RUNNING") >= names)
    wait_for(layout, "Flower", lambda: health.flower_answers(settings))
    if monitoring.PROMETHEUS in names:
        prometheus = f"{monitoring.url(settings)}/-/ready"
        wait_for(layout, "Prometheus", lambda: health.probe_error(prometheus) is None)
    if "serve" in names:
        wait_for(layout, "the chat server", lambda: health.chat_answers(settings), LOADING_SECONDS)


def wait_for(layout: Layout, name: str, answers: Callable[[], bool], seconds: float = ANSWER_SECONDS) -> None:
    """Wait until a service answers.

    Raises:
        UserError: it failed to start, supervisord ended, or the time-out passed.
    """
    say(f"waiting for {name}")
    deadline = time.monotonic() + seconds
    failures: dict[str, set[int]] = {}
    while not answers():
        if SUPERVISORD not in process_groups.living(layout.notes):
            raise UserError(f"supervisord ended: {last_error(layout, 'supervisord-start', 'supervisord')}")
        for program in list_programs(layout):
            if program.state == "BACKOFF":
                failures.setdefault(program.name, set()).add(program.ended_at)
            # supervisord retries forever; the user needs to see the error.
            if program.state == "FATAL" or len(failures.get(program.name, ())) >= START_ATTEMPTS:
                raise UserError(f"{program.name} does not start: {last_error(layout, program.name)}")
        if time.monotonic() > deadline:
            raise UserError(f"{name} does not answer after {seconds:.0f} s: see the logs in {layout.logs}")
        time.sleep(POLL_SECONDS)


def own_broker_answers(settings: Settings, layout: Layout) -> bool:
    """Return whether the Valkey that answers is the one supervisord started."""
    with contextlib.suppress(redis.RedisError):
        client = redis.Redis.from_url(settings.broker, socket_timeout=2, socket_connect_timeout=2)
        with contextlib.closing(client):
            client.ping()
            pid = client.info("server")["process_id"]
            return any(program.pid == pid for program in list_programs(layout))
    return False


def last_error(layout: Layout, *names: str) -> str:
    """Return the last error in a program's log, and the path of the log."""
    for name in names:
        log = layout.log(name)
        if log.is_file() and (lines := log.read_text(errors="replace").split("\n")):
            # A usage error stands in a frame.
            messages = [text for line in lines[-50:] if (text := line.strip(" \t\r│╭╮╰╯─"))]
            if messages:
                errors = [line for line in messages if line.startswith("Error:")]
                return f"{(errors or messages)[-1][:300]} (log: {log})"
    return f"no output (logs: {layout.logs})"


def print_status(settings: Settings, layout: Layout) -> None:
    """Print the programs with their states and logs."""
    for program in list_programs(layout):
        say(f"  {program.name:<12} {program.state:<10} log: {layout.log(program.name)}")
    flower = programs.flower(settings)
    say(f"Flower: http://{flower.url_host}:{flower.port}")
    if monitoring.PROMETHEUS in names_of(layout, "RUNNING"):
        say(f"Prometheus: {monitoring.url(settings)}")


# Staying and stopping


def stay_up(layout: Layout) -> None:
    """Print state changes until Ctrl-C or SIGTERM, then stop everything."""
    say("up; Ctrl-C stops everything")
    last_seen = {program.name: program for program in list_programs(layout)}
    try:
        while SUPERVISORD in process_groups.living(layout.notes):
            time.sleep(1)
            now = {program.name: program for program in list_programs(layout)}
            for name, program in now.items():
                if last_seen.get(name) != program:
                    say(f"{name}: {program.state}, log: {layout.log(name)}")
            last_seen = now or last_seen
        say("supervisord is gone")
    except KeyboardInterrupt:
        say("stopping")
    finally:
        with signals_ignored(), exclusive(layout):
            stop(layout)
    say("stopped")


def stop(layout: Layout) -> None:
    """Stop workers and Flower, then broker and supervisord, then remaining processes."""
    with silence_tolerated(), supervisor(layout) as server:
        for program in list_programs(layout):
            if program.name != "valkey" and program.state not in ENDED:
                with contextlib.suppress(xmlrpc.client.Fault):  # already ended
                    server.stopProcess(program.name, False)
        longest = max(each["stopwaitsecs"] for each in server.getAllConfigInfo())
        if longest > programs.STOP_SECONDS:
            say(f"calls in flight to services may end; this takes at most {longest} s")
        until(
            lambda: {each.name for each in list_programs(layout) if each.state not in ENDED} <= {"valkey"},
            longest,
        )
        server.shutdown()
        until(lambda: SUPERVISORD not in process_groups.living(layout.notes))
    sweep(layout)
    clear(layout)


def until(true: Callable[[], bool], seconds: int = programs.STOP_SECONDS) -> None:
    """Wait for a condition with a time-out; remaining processes are killed afterwards."""
    deadline = time.monotonic() + seconds + 5
    while not true() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def sweep(layout: Layout) -> None:
    """Kill all noted processes; supervisord first, because it restarts the others."""
    process_groups.end(process_groups.living(layout.notes).get(SUPERVISORD, []))
    process_groups.end(
        [process for group in process_groups.living(layout.notes).values() for process in group]
    )


def clear(layout: Layout) -> None:
    """Remove the runtime files of supervisord."""
    for leftover in (*layout.notes.glob("*"), layout.socket, layout.folder / "supervisord.pid"):
        leftover.unlink(missing_ok=True)


# supervisord's XML-RPC interface


@contextlib.contextmanager
def supervisor(layout: Layout) -> Iterator[Any]:
    """Open supervisord's XML-RPC interface over its socket."""
    from supervisor.xmlrpc import SupervisorTransport  # an extra

    transport = SupervisorTransport(None, None, serverurl=f"unix://{layout.socket}")
    with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
        try:
            yield server.supervisor
        finally:
            transport.close()


def silence_tolerated() -> contextlib.suppress:
    """Ignore a supervisord that is not running, or stopping."""
    return contextlib.suppress(OSError, xmlrpc.client.Error, http.client.HTTPException)


def list_programs(layout: Layout) -> list[Running]:
    """List supervisord's programs; empty if it does not answer."""
    if not layout.socket.exists():
        return []
    with silence_tolerated(), supervisor(layout) as server:
        answer = server.getAllProcessInfo()
        return [Running(entry["name"], entry["statename"], entry["pid"], entry["stop"]) for entry in answer]
    return []


# Locks, errors and signals


@contextlib.contextmanager
def exclusive(layout: Layout) -> Iterator[None]:
    """Lock this home, so that only one `up` or `down` changes it."""
    file_permissions.make_folder(layout.folder)
    try:
        with filelock.FileLock(layout.folder / "lock", timeout=60):
            yield
    except filelock.Timeout:
        raise UserError(f"another votequeue up or down is busy with {layout.home}: try again later") from None


@contextlib.contextmanager
def disk_errors_explained(layout: Layout) -> Iterator[None]:
    """Turn a full disk or an unwritable folder into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write below {layout.home}: {error.strerror or error}; free space or set VOTEQUEUE_HOME"
        ) from error


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP like Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with handled(interrupt, signal.SIGTERM, signal.SIGHUP):
        yield


@contextlib.contextmanager
def signals_ignored() -> Iterator[None]:
    """Ignore signals, so that stopping completes."""
    with handled(signal.SIG_IGN, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        yield


@contextlib.contextmanager
def handled(handler: Any, *signals: signal.Signals) -> Iterator[None]:
    """Install a signal handler temporarily; a no-op outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def say(text: str) -> None:
    """Print a line and flush it."""
    print(text, flush=True)
