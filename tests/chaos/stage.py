"""One scenario from its start to its figures.

play(Scenario(...), ledger="sqlite", seconds=60, ...)  ->  Figures(...)
"""

import contextlib
import functools
import heapq
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import redis
import sqlalchemy as sa

from shared.settings import PREFIX, Settings
from tests import waiting
from tests.chaos import figures, questions, servers
from tests.chaos.figures import Figures
from tests.chaos.fleet import Fleet
from tests.chaos.scenarios import Scenario
from tests.integration import postgres

RUN = "chaos"
TICK = 0.02  # seconds
LOOK_EVERY = 2.0  # seconds between two looks at how far the run is
PATIENCE = 180.0  # seconds for the rest of the questions, once the faults are over


@dataclass(frozen=True)
class Order:
    """What is to be played, and how."""

    name: str
    scenario: Scenario
    ledger: str
    seconds: float
    questions: int
    workers: int
    seed: int
    poison: int | None = None
    keep: Path | None = None
    cold: bool = False


@dataclass
class Stage:
    """The servers, the workers, and what is to be done next."""

    order: Order
    home: Path
    broker: servers.Broker
    ledger: servers.Ledger
    fleet: Fleet
    chance: random.Random
    away: list[tuple[float, float]] = field(default_factory=list)
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _frozen: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    _ties: "itertools.count[int]" = field(default_factory=itertools.count)

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Do something later; ``moment`` is of the monotonic clock."""
        heapq.heappush(self._due, (moment, next(self._ties), action))

    def plan(self, begun: float) -> None:
        """Draw all faults."""
        for at, what, lasts in self.order.scenario.faults(self.chance, self.order.seconds):
            self.at(begun + at, lambda what=what, lasts=lasts: self._befall(what, lasts))  # type: ignore[misc]

    def tick(self) -> None:
        """Look after the workers and do what is due."""
        self.fleet.watch()
        while self._due and self._due[0][0] <= time.monotonic():
            heapq.heappop(self._due)[2]()
        time.sleep(TICK)

    @property
    def busy(self) -> bool:
        """Tell whether a fault is still to come or to be undone."""
        return bool(self._due)

    def drop_faults(self) -> None:
        """Undo at once whatever is to be undone, and let nothing else happen."""
        while self._due:
            action = heapq.heappop(self._due)[2]
            if getattr(action, "undoes", False):
                action()

    def _befall(self, what: str, lasts: float) -> None:
        match what:
            case "kill":
                self.fleet.kill(self.chance.choice(self.fleet.awake() or [1]))
            case "tell":
                self._tell()
            case "stop":
                if awake := self.fleet.awake():
                    slot = self.chance.choice(awake)
                    self.fleet.freeze(slot)
                    self._undo(lasts, lambda: self.fleet.thaw(slot))
            case "flush":
                with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.broker.url) as client:
                    client.flushall()
            case "broker" | "broker away":
                # Half of the restarts keep the messages, half lose them.
                self.broker.kill(forget=self.chance.random() < 0.5)
                self._away(lasts, self.broker.start)
            case "ledger":
                self.ledger.kill()
                self._away(lasts, self.ledger.start)
            case "ledger dark":
                self.ledger.freeze()
                self._away(lasts, self.ledger.thaw)
            case "frozen sweep" | "frozen items":
                command = [sys.executable, "-m", "tests.chaos.frozen", what.split()[1]]
                process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
                self._frozen.append(process)
                self._undo(lasts, process.kill)

    def _tell(self) -> None:
        """Tell a worker to stop that holds claims, as soon as there is one."""
        holders = figures.holders(self.ledger.url)
        if busy := [slot for slot in self.fleet.awake() if self.fleet.pid(slot) in holders]:
            self.fleet.tell(self.chance.choice(busy))
        else:
            self.at(time.monotonic() + 0.2, self._tell)

    def _away(self, lasts: float, back: Callable[[], None]) -> None:
        self.away.append((time.time(), time.time() + lasts))
        self._undo(lasts, back)

    def _undo(self, lasts: float, action: Callable[[], None]) -> None:
        def undo() -> None:
            action()

        undo.undoes = True  # type: ignore[attr-defined]
        self.at(time.monotonic() + lasts, undo)


def play(order: Order) -> Figures:
    """Play one scenario."""
    with contextlib.ExitStack() as stack:
        folder = order.keep
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
            folder.chmod(0o755)  # PostgreSQL's own user looks in
        folder.mkdir(parents=True, exist_ok=True)
        stage = stack.enter_context(_set_up(order, folder))
        begun, began_at = time.monotonic(), time.time()
        stage.plan(begun)
        took = _run(stage, begun)
        stage.drop_faults()
        _settle(stage)
        stubborn = stage.fleet.end()
        found = _figures(stage, took, began_at)
        found.notes += [f"worker {pid} did not stop" for pid in stubborn]
        return found


@contextlib.contextmanager
def _set_up(order: Order, folder: Path) -> Iterator[Stage]:
    enqueue = functools.partial(_enqueue, order, folder)
    settings = order.scenario.settings
    with set_up(folder, order.ledger, order.workers, settings, enqueue, order.cold) as (
        broker,
        ledger,
        fleet,
    ):
        yield Stage(order, folder / "var", broker, ledger, fleet, random.Random(order.seed))


@contextlib.contextmanager
def set_up(
    folder: Path,
    kind: str,
    workers: int,
    settings: Mapping[str, str],
    enqueue: Callable[[], None] = lambda: None,
    cold: bool = False,
) -> Iterator[tuple[servers.Broker, servers.Ledger, Fleet]]:
    """Start a broker, a ledger of a kind, and workers, which `enqueue` precedes; end them all.

    ``settings`` are those of this process and the workers, below ``folder``.
    """
    broker = servers.Broker(folder / "valkey")
    ledger = ledger_of(kind, folder)
    before = dict(os.environ)
    _settings(settings, folder / "var", broker.url, ledger.url)
    fleet = Fleet(folder / "var", workers, cold)
    try:
        ledger.start()
        broker.start(wait=True)
        enqueue()
        fleet.start()
        _await_ready(fleet)
        yield broker, ledger, fleet
    finally:
        fleet.end()
        broker.kill()
        with contextlib.suppress(Exception):
            ledger.thaw()
        with contextlib.suppress(Exception):
            ledger.kill()
        os.environ.clear()
        os.environ.update(before)


def ledger_of(kind: str, folder: Path) -> servers.Ledger:
    """Give a ledger of a kind, ``sqlite`` or ``postgresql``, below a folder."""
    if kind == "sqlite":
        return servers.Sqlite(folder / "var" / "ledger.db")
    programs = postgres.binaries()
    if programs is None:
        raise SystemExit("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    return servers.Postgres(folder / "postgresql", programs)


def _settings(own: Mapping[str, str], home: Path, broker: str, ledger: str) -> None:
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        del os.environ[name]
    chosen = {"HOME": str(home), "BROKER_URL": broker, "LEDGER_URL": ledger, **own}
    os.environ.update({f"{PREFIX}{name}": value for name, value in chosen.items()})


def _enqueue(order: Order, folder: Path) -> None:
    data = folder / "data.jsonl"
    questions.write(data, order.questions, [] if order.poison is None else [order.poison])
    command = [sys.executable, "-m", "producers.cli", "enqueue", "infer", str(data), "--run", RUN]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _await_ready(fleet: Fleet) -> None:
    deadline = time.monotonic() + waiting.PATIENCE
    while not fleet.all_ready():
        fleet.watch()
        if fleet.deaths and any(death.code >= 0 for death in fleet.deaths):
            logs = [log.read_text()[-2000:] for log in fleet.logs.glob("*.log")]
            raise SystemExit("a worker does not start:\n" + "\n".join(logs))
        if time.monotonic() > deadline:
            raise SystemExit(f"no {fleet.size} workers are ready: see {fleet.logs}")
        time.sleep(0.1)


def _run(stage: Stage, begun: float) -> float:
    """Let the faults happen until they are over and the run is through; give how long the run took."""
    over = begun + stage.order.seconds
    look = begun + LOOK_EVERY
    while True:
        stage.tick()
        now = time.monotonic()
        if now < look:
            continue
        look = now + LOOK_EVERY
        if (still_open := count_open(stage.ledger.url)) == 0:
            return now - begun
        if now > over and not stage.busy and now > over + PATIENCE:
            print(f"    {still_open} questions are open: given up", file=sys.stderr)
            return now - begun


def count_open(url: str) -> int | None:
    """Count the open questions; None while the ledger does not tell."""
    arguments = {"connect_timeout": 2, "options": "-c statement_timeout=2000"} if "postgres" in url else {}
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments)
    query = sa.text("SELECT count(*) FROM items WHERE state NOT IN ('done', 'dead', 'cancelled')")
    try:
        with engine.connect() as connection:
            return int(connection.scalar(query) or 0)
    except sa.exc.SQLAlchemyError:
        return None


def _settle(stage: Stage) -> None:
    """Give the workers a while to clear the broker: once everything is settled, nothing should be left."""
    deadline = time.monotonic() + stage.order.scenario.settle
    left = Figures()
    while time.monotonic() < deadline:
        stage.tick()
        with contextlib.suppress(redis.RedisError):
            figures.read_broker(stage.broker.url, left)
            if left.left_queue == left.left_unacked == 0:
                return


def _figures(stage: Stage, took: float, began_at: float) -> Figures:
    order, deaths = stage.order, stage.fleet.deaths
    found = Figures(scenario=order.name, ledger=order.ledger, seconds=took)
    found.kills = sum(death.ours and death.code == -9 for death in deaths)
    found.ended_by_themselves = sum(death.code != -9 and not death.ours for death in deaths)
    engine = sa.create_engine(stage.ledger.url, poolclass=sa.NullPool)
    poison = [] if order.poison is None else [order.poison]
    figures.read_ledger(engine, found, RUN, poison)
    figures.read_plays(engine, found, RUN, poison, Settings.model_fields["max_losses"].default)
    # What cannot be recovered while a server is away says nothing of how recovery works.
    found.recoveries = [
        seconds - figures.uncovered(at, at + seconds, stage.fleet.ready)
        for at, seconds in figures.recoveries(engine, RUN, deaths)
        if not any(gone - 1 < at + seconds and at < back + 1 for gone, back in stage.away)
    ]
    ends = {death.pid: death.at for death in deaths}
    found.stops = [ends[pid] - at for pid, at in stage.fleet.told.items() if pid in ends]
    found.given_back, kept = figures.given_back(engine, RUN, stage.fleet.told)
    found.kept = len(kept)
    found.notes += [f"kept: {outcome}" for outcome in kept[:5]]
    found.deadlocks = figures.deadlocks(stage.ledger.log())
    figures.read_broker(stage.broker.url, found)
    figures.read_logs(stage.fleet.logs, found)
    return found
