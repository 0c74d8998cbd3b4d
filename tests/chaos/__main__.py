"""The kill harness: `python -m tests.chaos [--scenario storm] [--ledger postgresql] [--seconds 120] [...]`.

The product's own workers answer questions over a fast generator, while they are killed and stopped, the
broker is flushed and restarted, and the database goes away. At the end everything is counted from the
ledger. Exit 1: something was lost, doubled, wrongly charged or wrongly buried.
"""

import argparse
import sys
from pathlib import Path

from tests.chaos import figures, stage
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.stage import Order


def main() -> int:
    """Play what is asked for, and print one table."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="repeatable")
    parser.add_argument(
        "--ledger", action="append", choices=["sqlite", "postgresql"], help="default: as suits the scenario"
    )
    parser.add_argument("--seconds", type=float, help="how long faults happen; default: the scenario's own")
    parser.add_argument("--questions", type=int, help="questions of the run; default: the scenario's own")
    parser.add_argument("--workers", type=int, default=4, help="worker processes (default 4)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same faults (default 1)")
    parser.add_argument("--keep", type=Path, help="folder to keep ledgers and logs in")
    parser.add_argument(
        "--cold", action="store_true", help="start workers as `votequeue up` does; default: by fork, at once"
    )
    chosen = parser.parse_args()
    played = []
    for name in chosen.scenario or [name for name, each in SCENARIOS.items() if each.usual]:
        for ledger in chosen.ledger or SCENARIOS[name].ledgers:
            order = ordered(chosen, name, ledger)
            print(f"{name}, {ledger}: {order.questions} questions", file=sys.stderr)
            played.append(stage.play(order))
            for note in played[-1].notes:
                print(f"    {note}", file=sys.stderr)
    print(figures.table(played))
    broken = [f"{each.scenario}, {each.ledger}: {'; '.join(each.bad)}" for each in played if each.bad]
    print("\n".join(broken) or "every promise was kept")
    return int(bool(broken))


def ordered(chosen: argparse.Namespace, name: str, ledger: str) -> Order:
    """Give what one run is to be."""
    scenario = SCENARIOS[name]
    seconds = chosen.seconds or scenario.seconds
    count = chosen.questions or round(seconds * scenario.rate)
    return Order(
        name=name,
        scenario=scenario,
        ledger=ledger,
        seconds=seconds,
        questions=count,
        workers=chosen.workers,
        seed=chosen.seed,
        poison=count // 20 if scenario.poison else None,
        keep=chosen.keep / f"{name}-{ledger}" if chosen.keep else None,
        cold=chosen.cold,
    )


if __name__ == "__main__":
    sys.exit(main())
