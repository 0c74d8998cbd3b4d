"""What a sweep costs, by how much is pending: `python -m tests.bench.sweep [QUESTIONS]`.

1000 pending: 32.0 ms; 400000 pending: 46.9 ms; ratio 1.5 (two cores busy with other work)
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from shared import settings
from shared.ledger import claims, engine, locks, outbox, schema
from shared.ledger.schema import State

BASELINE, SWEEPS = 1000, 50


def main(questions: int) -> None:
    """Print the cost beside few questions, beside many, and the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VOTEQUEUE_HOME"] = folder
        settings.load.cache_clear()
        engine.engine.cache_clear()
        fill("few", BASELINE)
        few = measure()
        fill("many", questions)
        many = measure()
        engine.engine().dispose()
        engine.engine.cache_clear()
    print(f"{BASELINE} pending: {few:.1f} ms; {questions} pending: {many:.1f} ms; ratio {many / few:.1f}")


def fill(run: str, questions: int) -> None:
    """Write a run whose questions all have a message on the way, and some were claimed before."""
    with engine.writing() as connection:
        now = engine.now(connection)
        connection.execute(
            schema.runs.insert().values(
                name=run, kind="infer", source=str(Path("x")), digest="d", options={}, created_at=now
            )
        )
        for numbers in engine.chunks(range(questions)):
            rows = [
                {"run": run, "number": at, "key": f"p{at}", "entry": at, "question": 0, "sent_at": now}
                | {"state": State.PENDING, "fence": int(at % 1000 == 0)}
                for at in numbers
            ]
            connection.execute(schema.items.insert(), rows)


def measure() -> float:
    """Give the median of a sweep's reads and writes on the ledger, in milliseconds."""
    seconds = []
    for _ in range(SWEEPS):
        begun = time.perf_counter()
        locks.hold("reconcile", "bench", 3)
        claims.expire(8)
        for queue in ("infer", "train", "reason", "translate"):
            outbox.forget_sent(older_than=10, queue=queue)
        outbox.unsent(2000)
        outbox.left_over(["infer"], 64, 0.5)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds) * 1000


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
