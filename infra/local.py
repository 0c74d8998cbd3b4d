"""Start and stop the services of one machine: embedded Valkey, workers and Flower under supervisord.

    up(settings, {"infer": 2, "train": 1}, detach=True)  ...  down(settings)

`up` returns, or says that all is well, only when every service answers. `down` leaves no process behind, not
even those of a supervisord that was killed: each program's note (see `parent_death`) says which process
group is ours. `programs` says what the programs are.
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

from infra import health, process_groups, programs
from infra.programs import PYTHON, SUPERVISORD, Layout, Program
from shared import file_permissions, model_store
from shared.errors import UserError
from shared.settings import Settings

ANSWER_SECONDS = 90.0  # for a service to answer after its start; a busy laptop is slow
LOADING_SECONDS = 600.0  # for an engine to load its model
POLL_SECONDS = 0.3
ENDED = ("STOPPED", "EXITED", "FATAL", "UNKNOWN")
START_ATTEMPTS = 4  # that may fail, before `up` takes it that a program does not start


@dataclass(frozen=True)
class Running:
    """What supervisord says of a program; ``ended_at`` is when it last ended, in seconds since the epoch."""

    name: str
    state: str
    pid: int
    ended_at: int = field(default=0, compare=False)


def up(settings: Settings, workers: Mapping[str, int], detach: bool, serve: bool = False) -> None:
    """Start everything; then stay until Ctrl-C and stop it again, or return and leave it running.

    What runs already is looked over: programs that were given up are started again.

    Raises:
        UserError: it runs already, a port is taken, weights are missing, a service does not come up.
    """
    where = programs.layout(settings)
    wanted = programs.programs(settings, workers, serve)
    with file_permissions.only_owner(), stopped_by_signals(), put_plainly(where):
        with alone(where):
            if start_given_up(where):
                tell(settings, where)
                return
            refuse_if_running(where)
            refuse_without_weights(settings, bool(workers.get("infer")) or serve)
            refuse_without_index(settings, workers)
            sweep(where)
            refuse_taken_ports(settings, serve)
            configuration = programs.write(settings, wanted)
            try:
                start(settings, where, configuration, detach)
                bring_up(settings, where, wanted)
            except BaseException:
                with deaf():
                    stop(where)
                raise
        tell(settings, where)
        if not detach:
            stay(where)


def down(settings: Settings) -> None:
    """Stop everything that `up` started and wait until it is gone; nothing running is no error."""
    where = programs.layout(settings)
    if not where.folder.is_dir():
        say("nothing is running")
        return
    with file_permissions.only_owner(), put_plainly(where), alone(where):
        if not process_groups.living(where.notes):
            clear(where)
            say("nothing is running")
            return
        say("stopping")
        stop(where)
        say("stopped")


def running(settings: Settings) -> list[Running]:
    """List the programs with state and pid; empty when no supervisord answers."""
    return ask(programs.layout(settings))


# Before the start


def refuse_if_running(where: Layout) -> None:
    """Stop when this home's services run already; name those that do not."""
    if SUPERVISORD not in process_groups.living(where.notes):
        return
    for program in ask(where):
        if program.state == "BACKOFF":
            raise UserError(
                f"votequeue is up already here, but {program.name} does not start: "
                f"{complaint(where, program.name)}"
            )
    raise UserError("votequeue is up already here: `votequeue down` stops it")


def start_given_up(where: Layout) -> list[str]:
    """Start again what supervisord has given up, or what ended for good; give the names.

    Raises:
        UserError: one of them does not start.
    """
    names = {program.name for program in ask(where) if program.state in ENDED}
    if names:
        say(f"votequeue is up already here; starting again: {', '.join(sorted(names))}")
        with supervisor(where) as server:
            for name in sorted(names):
                server.startProcess(name, False)
        wait_for(where, ", ".join(sorted(names)), lambda: names <= names_of(where, "RUNNING"))
    return sorted(names)


def names_of(where: Layout, state: str) -> set[str]:
    """Name the programs in a state."""
    return {program.name for program in ask(where) if program.state == state}


def refuse_without_weights(settings: Settings, needed: bool) -> None:
    """Stop before an engine finds out by itself."""
    if needed and model_store.find_weights(settings.model, settings.cache) is None:
        raise UserError(f"the weights of {settings.model} are not here: `votequeue weights` gets them")


def refuse_without_index(settings: Settings, workers: Mapping[str, int]) -> None:
    """Stop before an infer worker finds out by itself that its Qdrant server does not answer."""
    if not settings.qdrant_url or not workers.get("infer") or health.leads_through_socks(settings.qdrant_url):
        return
    if (error := health.silence(f"{settings.qdrant_url.rstrip('/')}/readyz")) is not None:
        raise UserError(
            f"Qdrant at {settings.qdrant_url} does not answer ({error}): start it, or mend "
            "VOTEQUEUE_QDRANT_URL (empty: an index in each worker's memory)"
        )


def refuse_taken_ports(settings: Settings, serve: bool) -> None:
    """Stop when someone else listens where Valkey, Flower or the chat server should."""
    broker, flower = programs.embedded_broker(settings), programs.flower(settings)
    if broker and not broker.free():
        raise UserError(
            f"port {broker.port} on {broker.host} is taken: stop what listens there, or put another port "
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


def start(settings: Settings, where: Layout, configuration: Path, detach: bool) -> None:
    """Start supervisord in a session of its own; unless detached, it dies with this process."""
    command = [*PYTHON, "-m", "infra.supervisord", "-c", str(configuration)]
    wrapper = [] if detach else [*PYTHON, "-m", "infra.parent_death", "-", "--"]
    with where.log("supervisord-start").open("w") as log:
        process = subprocess.Popen(  # noqa: S603 - our own words
            [*wrapper, *command],
            cwd=where.home,
            env=programs.environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    threading.Thread(target=process.wait, daemon=True).start()  # no zombie, however it ends
    process_groups.write_note(where.notes / SUPERVISORD, process.pid)


def bring_up(settings: Settings, where: Layout, wanted: list[Program]) -> None:
    """Start the programs in their order and wait until each answers."""
    wait_for(where, "supervisord", lambda: bool(ask(where)))
    if programs.embedded_broker(settings):
        wait_for(where, "Valkey", lambda: ours_answers(settings, where))
    with supervisor(where) as server:
        for program in wanted:
            if not program.first:
                server.startProcess(program.name, False)
    names = {program.name for program in wanted}
    wait_for(where, "workers", lambda: names_of(where, "RUNNING") >= names)
    wait_for(where, "Flower", lambda: health.flower_answers(settings))
    if "serve" in names:
        wait_for(where, "the chat server", lambda: health.chat_answers(settings), LOADING_SECONDS)


def wait_for(where: Layout, name: str, answers: Callable[[], bool], seconds: float = ANSWER_SECONDS) -> None:
    """Wait until a service answers.

    Raises:
        UserError: it has given up, supervisord is gone, or time is.
    """
    say(f"waiting for {name}")
    deadline = time.monotonic() + seconds
    failures: dict[str, set[int]] = {}
    while not answers():
        if SUPERVISORD not in process_groups.living(where.notes):
            raise UserError(f"supervisord ended: {complaint(where, 'supervisord-start', 'supervisord')}")
        for program in ask(where):
            if program.state == "BACKOFF":
                failures.setdefault(program.name, set()).add(program.ended_at)
            # Supervisord itself tries for ever; whoever starts it wants to know what a person must mend.
            if program.state == "FATAL" or len(failures.get(program.name, ())) >= START_ATTEMPTS:
                raise UserError(f"{program.name} does not start: {complaint(where, program.name)}")
        if time.monotonic() > deadline:
            raise UserError(f"{name} does not answer after {seconds:.0f} s: see the logs in {where.logs}")
        time.sleep(POLL_SECONDS)


def ours_answers(settings: Settings, where: Layout) -> bool:
    """Tell whether the Valkey that answers is the one supervisord started."""
    with contextlib.suppress(redis.RedisError):
        client = redis.Redis.from_url(settings.broker, socket_timeout=2, socket_connect_timeout=2)
        with contextlib.closing(client):
            client.ping()
            pid = client.info("server")["process_id"]
            return any(program.pid == pid for program in ask(where))
    return False


def complaint(where: Layout, *names: str) -> str:
    """Give the last line of a program's log, and where the log is."""
    for name in names:
        log = where.log(name)
        if log.is_file() and (lines := log.read_text(errors="replace").split("\n")):
            said = [line.strip() for line in lines[-50:] if line.strip()]
            if said:
                errors = [line for line in said if line.startswith("Error:")]
                return f"{(errors or said)[-1][:300]} (log: {log})"
    return f"it said nothing (logs: {where.logs})"


def tell(settings: Settings, where: Layout) -> None:
    """Say what runs and where to look."""
    for program in ask(where):
        say(f"  {program.name:<12} {program.state:<10} log: {where.log(program.name)}")
    flower = programs.flower(settings)
    say(f"Flower: http://{flower.near}:{flower.port}")


# Staying and stopping


def stay(where: Layout) -> None:
    """Show what changes until Ctrl-C or SIGTERM, then stop everything."""
    say("up; Ctrl-C stops everything")
    known = {program.name: program for program in ask(where)}
    try:
        while SUPERVISORD in process_groups.living(where.notes):
            time.sleep(1)
            now = {program.name: program for program in ask(where)}
            for name, program in now.items():
                if known.get(name) != program:
                    say(f"{name}: {program.state}, log: {where.log(name)}")
            known = now or known
        say("supervisord is gone")
    except KeyboardInterrupt:
        say("stopping")
    finally:
        with deaf(), alone(where):
            stop(where)
    say("stopped")


def stop(where: Layout) -> None:
    """Stop workers and Flower together, then the broker and supervisord, then whatever is left."""
    with silence_tolerated(), supervisor(where) as server:
        for program in ask(where):
            if program.name != "valkey" and program.state not in ENDED:
                with contextlib.suppress(xmlrpc.client.Fault):  # it ended by itself
                    server.stopProcess(program.name, False)
        until(lambda: all(program.state in ENDED for program in ask(where) if program.name != "valkey"))
        server.shutdown()
        until(lambda: SUPERVISORD not in process_groups.living(where.notes))
    sweep(where)
    clear(where)


def until(true: Callable[[], bool]) -> None:
    """Wait for something that a stop brings about; what takes too long is swept afterwards."""
    deadline = time.monotonic() + programs.STOP_SECONDS + 5
    while not true() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def sweep(where: Layout) -> None:
    """End every process that a note points at: supervisord first, since it would start others anew."""
    process_groups.end(process_groups.living(where.notes).get(SUPERVISORD, []))
    process_groups.end(
        [process for group in process_groups.living(where.notes).values() for process in group]
    )


def clear(where: Layout) -> None:
    """Remove what only a running supervisord needs."""
    for leftover in (*where.notes.glob("*"), where.socket, where.folder / "supervisord.pid"):
        leftover.unlink(missing_ok=True)


# Supervisord's own interface


@contextlib.contextmanager
def supervisor(where: Layout) -> Iterator[Any]:
    """Open supervisord's interface over its socket."""
    from supervisor.xmlrpc import SupervisorTransport  # an extra

    transport = SupervisorTransport(None, None, serverurl=f"unix://{where.socket}")
    with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
        try:
            yield server.supervisor
        finally:
            transport.close()


def silence_tolerated() -> contextlib.suppress:
    """Bear with a supervisord that is gone, not there yet, or going."""
    return contextlib.suppress(OSError, xmlrpc.client.Error, http.client.HTTPException)


def ask(where: Layout) -> list[Running]:
    """Ask supervisord for its programs; none when it does not answer."""
    if not where.socket.exists():
        return []
    with silence_tolerated(), supervisor(where) as server:
        answer = server.getAllProcessInfo()
        return [Running(entry["name"], entry["statename"], entry["pid"], entry["stop"]) for entry in answer]
    return []


# Around it


@contextlib.contextmanager
def alone(where: Layout) -> Iterator[None]:
    """Let one `up` or `down` at a time change this home."""
    file_permissions.make_folder(where.folder)
    try:
        with filelock.FileLock(where.folder / "lock", timeout=60):
            yield
    except filelock.Timeout:
        raise UserError(f"another votequeue up or down is busy with {where.home}: try again later") from None


@contextlib.contextmanager
def put_plainly(where: Layout) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write below {where.home}: {error.strerror or error}; make room or set VOTEQUEUE_HOME"
        ) from error


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with handled(interrupt, signal.SIGTERM, signal.SIGHUP):
        yield


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Finish stopping, however often Ctrl-C is pressed."""
    with handled(signal.SIG_IGN, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        yield


@contextlib.contextmanager
def handled(handler: Any, *signals: signal.Signals) -> Iterator[None]:
    """Handle signals in this way for a while; only the main thread can."""
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
    """Show a line at once."""
    print(text, flush=True)
