"""The product's worker command, unchanged but for its generator: `python -m tests.chaos.worker infer`.

`votequeue worker infer` ends by becoming Celery with `-A workers.infer`. Here it becomes Celery with
`-A tests.chaos.fast_infer`, which puts a fast generator behind the port and then is `workers.infer`.
"""

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from producers import cli

become = os.execv
# What a worker imports, but for the modules that hold something of one process.
PRELOADED = (
    "celery.__main__",
    "celery.bin.celery",
    "celery.bin.worker",
    "celery.apps.worker",
    "celery.concurrency.thread",
    "celery.worker.consumer",
    "celery.worker.worker",
    "celery.events.state",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "shared.redis_transport",
    "tests.fakes",
    "workers.inference.rounds",
    "workers.wiring",
)


def with_fast_generator(then: Callable[[str, list[str]], object]) -> Callable[[str, list[str]], NoReturn]:
    """Give an `os.execv` that puts the fast generator behind the port."""

    def execute(program: str, arguments: list[str]) -> NoReturn:
        then(program, ["tests.chaos.fast_infer" if word == "workers.infer" else word for word in arguments])
        raise AssertionError("exec does not return")

    return execute


def preload() -> None:
    """Import what workers need, so that those forked from this process start at once."""
    for name in PRELOADED:
        importlib.import_module(name)


def fork(queue: str, log: Path) -> int:
    """Start a worker as a fork of this process, which must have no threads; give its pid.

    A storm restarts workers faster than two cores can import Celery. All but the imports is as in a process
    of its own.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        _redirect(log)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        importlib.import_module("infra.parent_death").fasten()
        os.execv = with_fast_generator(_run_celery)
        cli.main(["worker", queue])
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)


def _redirect(log: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _run_celery(program: str, arguments: list[str]) -> NoReturn:
    from celery.__main__ import main

    sys.argv = ["celery", *arguments[arguments.index("celery") + 1 :]]
    main()
    sys.exit(0)


if __name__ == "__main__":
    os.execv = with_fast_generator(become)
    sys.exit(cli.main(["worker", *sys.argv[1:]]))
