"""What a run came to, read from the ledger's tables with SQL of its own: nothing of the product is asked.

read(engine, "calm", deaths, ...)  ->  Figures(questions=4000, answered=4000, lost=0, twice=0, ...)
"""

import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
import sqlalchemy as sa

from shared.ledger.schema import Death
from tests.chaos import fleet, questions
from workers import admission_control

TRACEBACK = b"Traceback (most recent call last)"
TOO_LATE = b"too late: another worker has it"
ENOUGH = 30  # that were in play again after a death, to tell anything
AFTER_KILL = 0.2  # seconds: a commit that was on its way when its worker was killed


@dataclass
class Figures:
    """The figures of one scenario; those of ``faults`` must be 0."""

    scenario: str = ""
    ledger: str = ""
    seconds: float = 0.0
    kills: int = 0
    ended_by_themselves: int = 0
    questions: int = 0
    answered: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    wrongly_charged: int = 0
    buried: int = 0
    poison: str = "none"
    poison_deaths: int = 0
    late_refused: int = 0
    losses: int = 0
    recoveries: list[float] = field(default_factory=list)
    given_back: list[float] = field(default_factory=list)
    stops: list[float] = field(default_factory=list)
    kept: int = 0
    plays: int = 0
    died_in_play: int = 0
    chance_of_burial: float = 0.0
    deadlocks: int = 0
    left_queue: int = 0
    left_unacked: int = 0
    log_megabytes_a_minute: float = 0.0
    tracebacks: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def bad(self) -> list[str]:
        """Say which promises were broken."""
        promised = {
            "lost": self.lost,
            "answered twice": self.twice,
            "answered wrongly": self.wrong,
            "wrongly charged": self.wrongly_charged,
            "buried innocents": self.buried,
            "poison not set aside": int(self.poison == "open"),
            "kept by workers that were told to stop": self.kept,
        }
        return [f"{name}: {count}" for name, count in promised.items() if count]

    def rows(self) -> list[tuple[str, str]]:
        """Give the table's rows."""
        return [
            ("seconds", f"{self.seconds:.0f}"),
            ("kills", str(self.kills)),
            ("workers that ended by themselves", str(self.ended_by_themselves)),
            ("questions", str(self.questions)),
            ("answered", str(self.answered)),
            ("**lost**", str(self.lost)),
            ("**answered twice**", str(self.twice)),
            ("**answered wrongly**", str(self.wrong)),
            ("**wrongly charged**", str(self.wrongly_charged)),
            ("**buried innocents**", str(self.buried)),
            ("poison", f"{self.poison} ({self.poison_deaths} deaths)" if self.poison != "none" else "-"),
            ("late writers refused", str(self.late_refused)),
            ("losses", str(self.losses)),
            ("recovery p50 / p99 / max, s, another worker ready", spread(self.recoveries, 1)),
            ("SIGTERM to given back p50 / p99 / max, s", spread(self.given_back, 2)),
            ("SIGTERM to the process's end p50 / p99 / max, s", spread(self.stops, 2)),
            ("**kept by workers that were told to stop**", str(self.kept)),
            ("innocents in play / died so", f"{self.plays} / {self.died_in_play}"),
            ("innocents buried a million, estimated", f"{1e6 * self.chance_of_burial:.2g}"),
            ("deadlocks", str(self.deadlocks)),
            ("messages left: queue / unacked", f"{self.left_queue} / {self.left_unacked}"),
            ("log, MB a minute", f"{self.log_megabytes_a_minute:.2f}"),
            ("tracebacks", str(self.tracebacks)),
            ("answers a second", f"{self.answered / max(self.seconds, 1e-9):.0f}"),
        ]


def quantile(ordered: Sequence[float], share: float) -> float:
    """Give a quantile of sorted values: the smallest that so large a share is not above."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(seconds: Sequence[float], digits: int) -> str:
    """Give median, 99th percentile and maximum, and of how many."""
    taken = sorted(seconds)
    shares = [f"{quantile(taken, share):.{digits}f}" for share in (0.5, 0.99, 1.0)] if taken else ["-"]
    return f"{' / '.join(shares)} ({len(taken)})"


def table(columns: Iterable[Figures]) -> str:
    """Lay several scenarios side by side, as Markdown."""
    told = list(columns)
    lines = [f"| | {' | '.join(f'{each.scenario}, {each.ledger}' for each in told)} |"]
    lines.append("|---|" + "---|" * len(told))
    for row in zip(*(each.rows() for each in told), strict=True):
        lines.append(f"| {row[0][0]} | {' | '.join(value for _, value in row)} |")
    return "\n".join(lines)


# From the ledger


def read_ledger(engine: sa.Engine, figures: Figures, run: str, poison: Collection[int]) -> None:
    """Count what became of a run's questions."""
    with engine.connect() as connection:

        def rows(query: str) -> list[Any]:
            return list(connection.execute(sa.text(query), {"run": run}))

        items = rows("SELECT number, state, attempt, reason FROM items WHERE run = :run")
        answers = rows("SELECT number, letter, attempt FROM answers WHERE run = :run")
        votes = rows(
            "SELECT number, attempt, count(*), count(letter), min(letter), max(letter) FROM votes "
            "WHERE run = :run GROUP BY number, attempt"
        )
        attempts = rows("SELECT number, fence, attempt, outcome FROM attempts WHERE run = :run")
    answered = [row.number for row in answers]
    open_items = {row.number for row in items if row.state not in ("done", "dead")}
    unanswered = {row.number for row in items if row.state == "done"} - set(answered)
    dead = {row.number: row.reason for row in items if row.state == "dead"}
    figures.questions, figures.answered = len(items), len(set(answered))
    figures.lost = len(open_items - set(poison)) + len(unanswered)
    figures.buried = len(set(dead) - set(poison))
    figures.losses = sum(str(row.outcome).startswith("lost") for row in attempts)
    figures.twice = _twice(answered, votes, attempts, figures.notes)
    figures.wrong = _wrong(answers, votes)
    figures.wrongly_charged = _charged(items, votes, figures.notes)
    for number in poison:
        figures.poison = "dead" if number in dead else "open" if number in open_items else "answered"
        figures.poison_deaths = sum(
            row.number == number and str(row.outcome).startswith("lost") for row in attempts
        )
        figures.notes.append(f"poison: {dead.get(number)}")
    figures.notes += [f"buried: question {number}: {dead[number]}" for number in set(dead) - set(poison)][:5]


def _twice(answered: list[int], votes: list[Any], attempts: list[Any], notes: list[str]) -> int:
    """Count rounds that wrote more than once, or wrote although their claim had been lost."""
    extra = len(answered) - len(set(answered))
    written: dict[int, int] = {}
    for row in votes:
        written[row.number] = written.get(row.number, 0) + 1
    ended: dict[int, int] = {}
    finals: dict[int, int] = {}
    for row in attempts:
        outcome = str(row.outcome)
        if re.match(r"[A-Z]: |again: none", outcome):
            ended[row.number] = ended.get(row.number, 0) + 1
        if re.match(r"[A-Z]: ", outcome):
            finals[row.number] = finals.get(row.number, 0) + 1
    for number, rounds in written.items():
        if rounds != ended.get(number, 0) or finals.get(number, 0) > 1:
            extra += 1
            notes.append(f"question {number}: {rounds} rounds of votes, {ended.get(number, 0)} ends")
    return extra


def _wrong(answers: list[Any], votes: list[Any]) -> int:
    """Count answers and rounds of votes with a letter that is another question's."""
    wrong = sum(
        letter is not None and letter != questions.letter(row.number)
        for row in votes
        for letter in (row[4], row[5])
    )
    readable = {row.number for row in votes if row[3]}
    return wrong + sum(
        row.letter != questions.letter(row.number) for row in answers if row.number in readable
    )


def _charged(items: list[Any], votes: list[Any], notes: list[str]) -> int:
    """Count questions whose attempts are not the rounds that they have votes of."""
    rounds: dict[int, set[int]] = {}
    for row in votes:
        rounds.setdefault(row.number, set()).add(row.attempt)
    wrongly = [
        row
        for row in items
        if row.state in ("done", "dead") and rounds.get(row.number, set()) != set(range(1, row.attempt + 1))
    ]
    notes += [f"charged: question {row.number}: attempt {row.attempt}" for row in wrongly[:5]]
    return len(wrongly)


def read_plays(engine: sa.Engine, figures: Figures, run: str, poison: Collection[int], needed: int) -> None:
    """Estimate the chance that kills from outside bury an innocent question.

    ``needed`` deaths with nothing else in play set one aside. The first death comes to any question in play;
    how likely another one is after it, those tell that were in play again. While the number of questions
    beside it is halved with each death, few deaths find it alone; after that, all do.
    """
    with engine.connect() as connection:
        query = "SELECT number, fence, death FROM begun_claims WHERE run = :run ORDER BY number, fence"
        rows = [row for row in connection.execute(sa.text(query), {"run": run}) if row.number not in poison]
    again = [
        row
        for before, row in itertools.pairwise(rows)
        if before.number == row.number and before.death is not None
    ]
    deaths = [row.death for row in rows if row.death is not None]
    figures.plays, figures.died_in_play = len(rows), len(deaths)
    # One more death than was seen, so that none seen is no proof that there is none.
    first, another = (
        (sum(row.death is not None for row in seen) + 1) / (len(seen) + 1)
        for seen in (rows, again if len(again) >= ENOUGH else rows)
    )
    alone = (deaths.count(Death.ALONE) + 1) / (len(deaths) + 1)
    halvings = round(math.log2(admission_control.MOST))
    # A death that does not find it alone does not count, and takes another one.
    figures.chance_of_burial = first * another ** (needed - 1) * (alone + (1 - alone) * another) ** halvings


def recoveries(engine: sa.Engine, run: str, deaths: Iterable[fleet.Death]) -> list[tuple[float, float]]:
    """Give, for each claim that was lost with its killed worker, (time of the kill, seconds to the next)."""
    killed = {death.pid: death.at for death in deaths if death.code == -9}
    with engine.connect() as connection:
        query = "SELECT number, fence, worker, claimed_at, outcome FROM attempts WHERE run = :run"
        rows = list(connection.execute(sa.text(query), {"run": run}))
    claimed = {(row.number, row.fence): row.claimed_at for row in rows}
    found = []
    for row in rows:
        at = killed.get(pid_of(row.worker))
        after = claimed.get((row.number, row.fence + 1))
        if at is None or after is None or row.claimed_at > at + AFTER_KILL:
            continue
        if str(row.outcome).startswith(("lost", "None")):
            found.append((at, after - at))
    return found


def holders(url: str) -> set[int]:
    """Give the pids of the workers that hold claims now."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        query = sa.text("SELECT DISTINCT holder FROM items WHERE state = 'leased'")
        return {pid_of(worker) for worker in connection.scalars(query)}


def given_back(engine: sa.Engine, run: str, told: Mapping[int, float]) -> tuple[list[float], list[str]]:
    """Give the seconds from SIGTERM until each worker held no claim, of those that held some then.

    Beside it, what became of the claims that were not ended by their worker.
    """
    with engine.connect() as connection:
        query = "SELECT worker, ended_at, outcome FROM attempts WHERE run = :run"
        rows = list(connection.execute(sa.text(query), {"run": run}))
    last: dict[int, float] = {}
    kept: list[str] = []
    for row in rows:
        pid = pid_of(row.worker)
        if pid not in told or (row.ended_at is not None and row.ended_at < told[pid]):
            continue
        if row.ended_at is None or str(row.outcome).startswith("lost"):
            kept.append(str(row.outcome))
        else:
            last[pid] = max(last.get(pid, 0.0), row.ended_at - told[pid])
    return list(last.values()), kept


def uncovered(begun: float, ended: float, ready: Iterable[tuple[int, float, float]]) -> float:
    """Give for how much of a time no worker was ready, in seconds: nobody can recover anything then."""
    idle, until = 0.0, begun
    for _, since, end in sorted(ready, key=lambda window: window[1]):
        if end <= until:
            continue
        if since >= ended:
            break
        idle += max(0.0, since - until)
        until = end
    return idle + max(0.0, ended - until)


def pid_of(worker: str) -> int:
    """Read the pid in a worker's name."""
    return int(worker.split(":")[1])


def deadlocks(log: str) -> int:
    """Count the deadlocks in a PostgreSQL server's log; its statistics do not survive a crash."""
    return len(re.findall(r"ERROR: +deadlock detected", log))


# From the rest


def read_broker(url: str, figures: Figures) -> None:
    """Count the messages that are left."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        keys = client.scan_iter("votequeue:infer*", _type="list")
        figures.left_queue = sum(client.llen(key) for key in keys)  # type: ignore[misc]
        figures.left_unacked = client.hlen("votequeue:unacked")  # type: ignore[assignment]


def read_logs(folder: Path, figures: Figures) -> None:
    """Measure the workers' logs."""
    texts = [file.read_bytes() for file in folder.glob("infer-*.log")]
    figures.late_refused = sum(text.count(TOO_LATE) for text in texts)
    figures.tracebacks = sum(text.count(TRACEBACK) for text in texts)
    size = sum(map(len, texts)) / 1e6
    figures.log_megabytes_a_minute = size / max(figures.seconds / 60, 1e-9)
