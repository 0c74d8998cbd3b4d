"""The product's worker command, unchanged but for its generator: `python -m tests.chaos.worker infer`.

`votequeue worker infer` ends by becoming Celery with `-A workers.infer`. Here it becomes Celery with
`-A tests.chaos.fast_infer`, which puts a fast generator behind the port and then is `workers.infer`.
"""

import os
import sys
from typing import NoReturn

from producers import cli

become = os.execv


def with_fast_generator(program: str, arguments: list[str]) -> NoReturn:
    """Become the same Celery worker with the fast generator behind the port."""
    become(program, ["tests.chaos.fast_infer" if word == "workers.infer" else word for word in arguments])
    raise AssertionError("exec does not return")


if __name__ == "__main__":
    os.execv = with_fast_generator
    sys.exit(cli.main(["worker", *sys.argv[1:]]))
