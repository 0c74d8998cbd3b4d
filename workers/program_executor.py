"""Run programs that a model wrote in the sandbox of pydantic-monty.

    MontyExecutor(settings).run("print(2 + 3)")  ->  Execution("5\\n")
    MontyExecutor(settings).run("print(x)")      ->  Execution("", "NameError", "name 'x' is not defined")

The interpreter reaches no file, network or environment. It runs in processes of its own: a program that
crashes one ends without a result, and the next program gets a new process.
"""

import datetime
import threading
from typing import TYPE_CHECKING, Any

from shared.result_reader import CRASHED, OUT_OF_MEMORY, OUT_OF_TIME, TOO_MUCH_OUTPUT, Execution
from shared.settings import Settings

if TYPE_CHECKING:
    from pydantic_monty import Monty

# The same program prints the same, whenever it runs.
_SEED = 0
_NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_PROGRAMS_PER_PROCESS = 1000
_DETAIL = 500  # characters
_OF_LIMITS = {"TimeoutError": OUT_OF_TIME, "MemoryError": OUT_OF_MEMORY}


class MontyExecutor:
    """A pool of interpreter processes, started with the first program."""

    def __init__(self, settings: Settings) -> None:
        self._limits = settings.program_limits
        self._pool: Monty | None = None
        self._starting = threading.Lock()

    def run(self, program: str) -> Execution:
        """Run a program in a session of its own.

        As at Python's prompt, the value of its last expression is output, unless it printed something.
        """
        import pydantic_monty as monty

        printed = _Printed(self._limits.output)
        value, failure, detail = None, None, None
        try:
            with self._started().checkout(**self._session()) as session:
                value = session.feed_run(program, print_callback=printed)
        except (monty.MontySyntaxError, monty.MontyRuntimeError) as error:
            kind, _, detail = error.display("type-msg").partition(": ")
            failure = _OF_LIMITS.get(kind, kind)
        except monty.MontyError as error:
            killed = isinstance(error, monty.MontyCrashedError) and error.timed_out
            failure, detail = OUT_OF_TIME if killed else CRASHED, str(error)
        if value is not None and not printed.text:
            printed("stdout", str(value))
        if printed.full:
            failure, detail = TOO_MUCH_OUTPUT, f"more than {self._limits.output} characters"
        return Execution(printed.text, failure, detail and detail[:_DETAIL])

    def _started(self) -> "Monty":
        from pydantic_monty import Monty

        with self._starting:
            if self._pool is None:
                self._pool = Monty(max_checkouts_per_worker=_PROGRAMS_PER_PROCESS).__enter__()
            return self._pool

    def _session(self) -> dict[str, Any]:
        limits = self._limits
        return {
            "limits": {
                "max_feed_duration_secs": limits.seconds,
                "max_memory": limits.memory_mib << 20,
                "max_recursion_depth": limits.recursion,
            },
            "os_policy": {"datetime": _NOW, "random_start": {"seed": _SEED}, "sleep": "zero"},
        }


class _Printed:
    """Collects up to ``limit`` characters of what a program prints."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.text = ""
        self.full = False

    def __call__(self, stream: str, text: str) -> None:
        if stream == "stdout":
            room = self._limit - len(self.text)
            self.text += text[:room]
            self.full |= len(text) > room
