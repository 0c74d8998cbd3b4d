"""What an engine's death or silence means; `tests/e2e` and `tests/chaos/engine.py` use real engines."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared import vllm_environment
from shared.errors import EngineDied, OutOfMemory, Policy, UserError
from tests import waiting
from workers.models import engine_faults, vllm_engine
from workers.models.engine_faults import HANGS_AFTER, SILENT_AFTER, ErrorFile, Watchdog
from workers.models.vllm_engine import EngineOptions, RawVote, VllmEngine

SPINNING = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 22.03 GiB"


# The watchdog


def seconds_until_hang(watchdog: Watchdog, cpu_share: float, outputs_each: float = 1e9, **kind: bool) -> int:
    """Give when it calls an engine hanging that takes a share of a core and gives outputs now and then."""
    for second in range(1, 1000):
        outputs, cpu = int(second / outputs_each), 50 + second * cpu_share
        if watchdog.hangs(True, outputs, cpu, 100.0 + second, **kind):
            return second
    return 0


def test_an_engine_without_output_and_cpu_time_hangs() -> None:
    assert abs(seconds_until_hang(Watchdog(), 0.0) - HANGS_AFTER) <= 2
    assert abs(seconds_until_hang(Watchdog(), 0.001) - HANGS_AFTER) <= 2, "some thread wakes up"


def test_a_long_prefill_uses_cpu_time_and_outputs_show_life() -> None:
    assert seconds_until_hang(Watchdog(), 1.0) == 0
    assert seconds_until_hang(Watchdog(), 0.0, outputs_each=HANGS_AFTER / 2) == 0


def test_on_a_gpu_a_process_may_wait_in_a_busy_loop() -> None:
    assert abs(seconds_until_hang(Watchdog(), 1.0, on_gpu=True) - SILENT_AFTER) <= 2
    assert seconds_until_hang(Watchdog(), 1.0, outputs_each=SILENT_AFTER / 2, on_gpu=True) == 0


def test_an_idle_engine_and_one_whose_worker_was_stopped_too_do_not_hang() -> None:
    watchdog = Watchdog()
    assert not any(watchdog.hangs(False, 7, 50.0, float(second)) for second in range(200))
    watchdog.hangs(True, 7, 50.0, 200.0)
    assert not watchdog.hangs(True, 7, 50.0, 900.0), "both were stopped for ten minutes"


def test_cpu_time_is_that_of_all_processes_below() -> None:
    with subprocess.Popen([sys.executable, "-c", SPINNING], start_new_session=True) as process:
        try:
            begun = engine_faults.cpu_seconds(process.pid)
            waiting.until(lambda: engine_faults.cpu_seconds(process.pid) > begun + 0.5)
            os.killpg(process.pid, signal.SIGSTOP)
            time.sleep(0.2)
            stopped = engine_faults.cpu_seconds(process.pid)
            time.sleep(0.3)
            assert engine_faults.cpu_seconds(process.pid) == stopped
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert engine_faults.cpu_seconds(process.pid) == 0


# Why it died


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[ErrorFile]:
    """Give a file into which this process records, as an engine's process does."""
    monkeypatch.setenv(engine_faults.ERRORS, "")
    file = ErrorFile()
    file.clear()
    logger = logging.getLogger("vllm")
    before = list(logger.handlers)
    engine_faults.record()
    yield file
    for handler in [handler for handler in logger.handlers if handler not in before]:
        logger.removeHandler(handler)
        handler.close()


def fail(error: Exception) -> None:
    """Log an error as the engine's process does."""
    try:
        raise error  # noqa: TRY301
    except Exception:
        logging.getLogger("vllm.v1.engine.core").exception("EngineCore encountered a fatal error.")


@pytest.mark.parametrize(
    ("error", "out_of_memory"),
    [
        (type("OutOfMemoryError", (RuntimeError,), {})(CUDA), True),
        (RuntimeError(f"Worker failed with error '{CUDA}', please check the stack trace above"), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"
            ),
            True,
        ),
        (RuntimeError("CPU Generator does not use offset"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
    ],
)
def test_an_engine_out_of_memory_is_told_from_one_that_a_prompt_crashes(
    error: Exception, out_of_memory: bool, errors: ErrorFile
) -> None:
    fail(error)
    reason, told = errors.read()
    assert (str(error) in reason, told) == (True, out_of_memory)
    errors.clear()
    assert errors.read() == ("", False)


def test_warnings_and_errors_without_an_exception_are_no_cause(errors: ErrorFile) -> None:
    logging.getLogger("vllm.x").error("a request was refused: out of memory budget")
    assert errors.read() == ("", False)


# The engine


class Dead(Exception):
    """Stands for vLLM's EngineDeadError."""


class FakeEngine:
    """An engine that answers, or is dead."""

    def __init__(self) -> None:
        self.dead = False
        self.shut_down = 0

    def get_tokenizer(self) -> str:
        return "tokenizer"

    def shutdown(self) -> None:
        self.shut_down += 1

    async def generate(self, *_: Any, **__: Any) -> Any:
        await asyncio.sleep(0.01)
        if self.dead:
            raise Dead
        yield SimpleNamespace(outputs=[])


class Engine(VllmEngine):
    """An engine whose `_build` is scripted: each exception is raised once."""

    def __init__(self, sequences: int = 8, script: tuple[Exception, ...] = ()) -> None:
        super().__init__(EngineOptions("weights", "weights", Path("trained"), max_sequences=sequences))
        self.built: list[FakeEngine] = []
        self.script = list(script)

    def _build(self) -> FakeEngine:
        if self.script:
            raise self.script.pop(0)
        self.built.append(FakeEngine())
        return self.built[-1]

    async def ask(self, count: int = 1) -> list[object]:
        parameters = SimpleNamespace(n=1)
        asked = (self.asking(None, lambda ask: ask("甲", parameters, None)) for _ in range(count))
        return await asyncio.gather(*asked, return_exceptions=True)


@pytest.fixture(autouse=True)
def _without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules,
        "vllm.v1.engine.exceptions",
        SimpleNamespace(EngineDeadError=Dead),  # type: ignore[arg-type]
    )
    monkeypatch.setattr(vllm_environment, "set_defaults", lambda _: None)
    monkeypatch.setattr(vllm_engine, "ChatTemplate", lambda *_: None)
    monkeypatch.setenv(engine_faults.ERRORS, "")


async def after_death(engine: Engine, count: int = 3) -> list[object]:
    assert await engine.ask() == [[RawVote()]]
    engine.built[-1].dead = True
    return await engine.ask(count)


def test_a_death_is_one_line_in_the_log_and_the_next_batch_has_a_new_engine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Engine()

    async def play() -> None:
        died = await after_death(engine)
        assert [(type(error), error.policy) for error in died if isinstance(error, EngineDied)] == [
            (EngineDied, Policy.CHARGE)
        ] * 3
        assert await engine.ask() == [[RawVote()]]

    asyncio.run(play())
    assert [record.getMessage() for record in caplog.records] == [
        "the engine's process died (it was killed; death 1): the next batch starts it again"
    ]
    assert caplog.records[0].exc_info is None
    assert [each.shut_down for each in engine.built] == [1, 0]


def test_vllm_does_not_log_a_stack_for_a_death_that_is_known(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("for_this_test")
    logger.addFilter(vllm_engine._tells_no_death)
    for kind in ("EngineDeadError", "KeyError"):
        try:
            raise type(kind, (Exception,), {})  # noqa: TRY301
        except Exception:
            logger.exception("AsyncLLM output_handler failed.")
    assert [type(record.exc_info[1]).__name__ for record in caplog.records if record.exc_info] == ["KeyError"]


def test_out_of_memory_blames_no_question_and_halves_the_sequences(
    errors: ErrorFile, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(sequences=8)

    async def play() -> None:
        assert await engine.ask() == [[RawVote()]]
        engine.built[-1].dead = True
        engine_faults.record()
        fail(RuntimeError(CUDA))
        died = await engine.ask(3)
        assert [(type(error), error.policy) for error in died if isinstance(error, EngineDied)] == [
            (OutOfMemory, Policy.AGAIN)
        ] * 3
        assert engine.options.max_sequences == 4
        assert await engine.ask() == [[RawVote()]]

    asyncio.run(play())
    assert "at most 4 sequences" in caplog.text
    assert "VOTEQUEUE_GPU_MEMORY" in caplog.text


def test_one_sequence_that_needs_too_much_memory_ends_the_worker(errors: ErrorFile) -> None:
    engine = Engine(sequences=1)

    async def play() -> list[object]:
        assert await engine.ask() == [[RawVote()]]
        engine.built[-1].dead = True
        engine_faults.record()
        fail(RuntimeError(CUDA))
        return await engine.ask()

    (error,) = asyncio.run(play())
    assert type(error) is UserError
    assert "one sequence alone" in str(error)


FAILED = "Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': -9}"


def test_a_process_that_is_killed_while_it_loads_is_started_again_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Engine(script=(RuntimeError(FAILED),))
    assert asyncio.run(engine.ask()) == [[RawVote()]]
    assert "was killed while it loaded the model: it is started again" in caplog.text
    (error,) = asyncio.run(Engine(script=(RuntimeError(FAILED),) * 2).ask())
    assert type(error) is UserError
    assert "was killed while it loaded the model" in str(error)
    assert "Traceback" not in caplog.text


def test_a_load_that_fails_names_the_cause_from_the_engines_process(
    errors: ErrorFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine()

    def build() -> FakeEngine:
        engine_faults.record()
        fail(RuntimeError(CUDA))
        raise RuntimeError(FAILED)

    monkeypatch.setattr(engine, "_build", build)
    (error,) = asyncio.run(engine.ask())
    assert type(error) is UserError
    assert CUDA in str(error)
    assert "lower VOTEQUEUE_GPU_MEMORY" in str(error)
