"""Run a vLLM engine (AsyncLLM), on GPUs or on vLLM's CPU build.

    engine.asking("lora-3f9c01ab12cd", lambda ask: ask("...### 推理\\n", parameters, None))
        ->  [RawVote("甲……\\n答案是：A", 31, "stop"), ...]

The engine runs in the event loop that started it, its model in a separate process (`EngineCore`). LoRA
support costs time for every token. So the engine is built without it, and rebuilt between two batches when a
run first needs an adapter.
"""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import multiprocessing
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shared import model_store, vllm_environment
from shared.errors import EngineDied, OutOfMemory, Refused, UserError
from shared.ledger.models import GeneratorIdentity
from workers.models import engine_faults
from workers.models.chat_template import ChatTemplate
from workers.models.lora_adapters import Adapter, Adapters
from workers.periodic import Periodic
from workers.ports import Progress

log = logging.getLogger(__name__)
LESS_MEMORY = ": lower VOTEQUEUE_GPU_MEMORY, VOTEQUEUE_MAX_MODEL_LEN or VOTEQUEUE_BATCHES_IN_FLIGHT"
_R = TypeVar("_R")


@dataclass(frozen=True)
class EngineOptions:
    """The options of an engine; ``gpu_memory`` is a share, ``kv_cache_gib`` applies to CPUs only.

    ``model`` is the folder of the weights, ``name`` their name; ``trained`` is the folder of trained models,
    including LoRA adapters. ``metrics``: vLLM counts in the default registry of prometheus_client.
    """

    model: str
    name: str
    trained: Path
    quantization: str | None = None
    gpu_memory: float = 0.7
    tensor_parallel: int = 1
    max_model_len: int = 8192
    kv_cache_gib: int = 2
    max_sequences: int = 320
    metrics: bool = False


@dataclass(frozen=True)
class RawVote:
    """A text as the engine gives it: with its thinking; ``logprob`` is the sum over its tokens."""

    text: str = ""
    tokens: int = 0
    finish_reason: str | None = None
    stop_reason: str | None = None
    logprob: float | None = None
    last_token: int = -1

    def joined(self, bridge: str, rest: "RawVote") -> "RawVote":
        """Add a continuation."""
        total = None if self.logprob is None or rest.logprob is None else self.logprob + rest.logprob
        return dataclasses.replace(
            rest, text=self.text + bridge + rest.text, tokens=self.tokens + rest.tokens, logprob=total
        )


Ask = Callable[[str | list[int], Any, Progress | None], Awaitable[list[RawVote]]]


class VllmEngine:
    """One vLLM engine, which is rebuilt after its death, and killed if it hangs."""

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self._adapters = Adapters(options.trained)
        self._engine: Any = None
        self.tokenizer: Any = None
        self._rank = 0  # the maximum rank of adapters in the engine; 0: no adapters
        self._seeds = True
        self._dtype = ""
        self._identity: GeneratorIdentity | None = None
        self._building = asyncio.Lock()
        self._errors = engine_faults.ErrorFile()
        self._death: type[EngineDied] = EngineDied
        self._watchdog = engine_faults.Watchdog()
        self._watching = Periodic("engine watchdog", engine_faults.EVERY, self._watch)
        self._loading = False
        self._outputs = self._in_flight = self._deaths = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Load the model; half a minute for 0.5 billion parameters on a CPU.

        Raises:
            UserError: vLLM cannot load it; the message has the reason.
        """
        self._watching.start()
        async with self._building:
            await self._ensure(0)
        self._identity = await asyncio.to_thread(self._identify)

    @property
    def identity(self) -> GeneratorIdentity:
        """Give the weights and engine; available once the generator has started."""
        if self._identity is None:
            raise RuntimeError("the generator has not started")
        return self._identity

    def _identify(self) -> GeneratorIdentity:
        import vllm

        options = self.options
        engine = " ".join(filter(None, ("vllm", vllm.__version__, self._dtype, options.quantization)))
        return GeneratorIdentity(options.name, model_store.weights_version(Path(options.model)), engine)

    async def asking(self, adapter: str | None, work: Callable[[Ask], Awaitable[_R]]) -> _R:
        """Do some work with an engine that supports an adapter, and map its errors."""
        lora = await asyncio.to_thread(self._adapters.find, adapter) if adapter else None
        from vllm.v1.engine.exceptions import EngineDeadError

        async with self._using(lora.rank if lora else 0) as engine:
            try:
                request = _lora_request(lora) if lora else None
                return await work(functools.partial(self._generate, engine, request))
            except EngineDeadError as error:
                await self._note_death(engine)
                raise self._death("the engine's process died") from error
            except ValueError as error:
                raise Refused(f"vLLM refuses the prompt: {error}") from error

    def usable_seed(self, seed: int | None) -> int | None:
        """Drop a seed that would kill the engine, with one warning."""
        if seed is not None and not self._seeds:
            _warn_of_seeds()
            return None
        return seed

    async def stop(self) -> None:
        """Stop the engine and its processes."""
        self._watching.stop()
        await self._bury(self._engine)

    @contextlib.asynccontextmanager
    async def _using(self, rank: int) -> AsyncIterator[Any]:
        """Use an engine that supports adapters of a rank; it is not shut down while in use."""
        async with self._building:
            await self._ensure(rank)
            engine = self._engine
            self._in_flight += 1
            self._idle.clear()
        try:
            yield engine
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def _ensure(self, rank: int) -> None:
        if self._engine is not None and rank <= self._rank:
            return
        if self._engine is not None:
            # Two engines do not fit a GPU: wait for the requests in flight.
            log.info("rebuilding the engine with support for LoRA adapters of rank %d", rank)
            await self._idle.wait()
            await self._bury(self._engine)
        self._rank = max(rank, self._rank)
        vllm_environment.set_defaults(self.options.kv_cache_gib)
        await self._load()

    async def _load(self, again: bool = True) -> None:
        self._errors.clear()
        self._loading = True
        try:
            self._engine = self._build()
            self.tokenizer = self._engine.get_tokenizer()
            if asyncio.iscoroutine(self.tokenizer):
                self.tokenizer = await self.tokenizer
            self.template = ChatTemplate(self.tokenizer, Path(self.options.model))
        # vLLM passes on all exceptions of its parts, from OSError to RuntimeError.
        except Exception as error:
            reason, out_of_memory = self._errors.read()
            if not reason and "initialization failed" in str(error):
                reason = "its process was killed while it loaded the model"
                if again:
                    log.warning("%s: it is started again", reason)
                    return await self._load(again=False)
            elif not reason:
                log.exception("the engine did not start")
                reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            advice = LESS_MEMORY if out_of_memory else ""
            raise UserError(f"vLLM cannot load {self.options.model}: {reason}{advice}") from error
        finally:
            self._loading = False

    async def _note_death(self, engine: Any) -> None:
        """Shut a dead engine down at the first of its requests that fails, and log why it died."""
        if engine is not self._engine:
            return
        reason, out_of_memory = self._errors.read()
        self._death = OutOfMemory if out_of_memory else EngineDied
        self._deaths += 1
        # The number makes each death another message: the log drops those that repeat within a minute.
        told = reason or "it was killed", self._deaths
        log.error("the engine's process died (%s; death %d): the next batch starts it again", *told)
        fewest = self.options.max_sequences == 1
        if out_of_memory and not fewest:
            fewer = self.options.max_sequences // 2
            log.warning("at most %d sequences are sampled at a time from now on%s", fewer, LESS_MEMORY)
            self.options = dataclasses.replace(self.options, max_sequences=fewer)
        await self._bury(engine)
        if out_of_memory and fewest:
            raise UserError(f"one sequence alone needs more memory than there is{LESS_MEMORY}")

    def _watch(self) -> None:
        """Kill the processes of an engine that hangs: its requests then fail as at any death."""
        processes = []
        if self._loading or self._in_flight > 0:
            children = multiprocessing.active_children()
            processes = [child for child in children if child.name.startswith("EngineCore")]
        cpu = sum(engine_faults.cpu_seconds(process.pid or 0) for process in processes)
        on_gpu = not self._loading and not self._dtype
        if self._watchdog.hangs(bool(processes), self._outputs, cpu, time.monotonic(), on_gpu):
            log.error("the engine hangs: its process is killed")
            for process in processes:
                process.kill()

    async def _bury(self, engine: Any) -> None:
        # Many requests fail at one death; the first of them shuts the engine down.
        if engine is None or engine is not self._engine:
            return
        self._engine = None
        await asyncio.to_thread(engine.shutdown)

    def _build(self) -> Any:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        options = self.options
        arguments: dict[str, Any] = {
            "model": options.model,
            "quantization": options.quantization,
            "gpu_memory_utilization": options.gpu_memory,
            "tensor_parallel_size": options.tensor_parallel,
            "max_model_len": options.max_model_len,
            "max_num_seqs": options.max_sequences,
            "enable_prefix_caching": True,
            # Defaults in a model's folder would silently override the run's settings.
            "generation_config": "vllm",
            "disable_log_stats": not options.metrics,
        }
        if current_platform.is_cpu():
            # vLLM 0.32 rewinds the random generator of a seeded request after a chunk of its prompt. torch's
            # CPU generator does not support that: the engine dies ("CPU Generator does not use offset").
            self._seeds = False
            self._dtype = vllm_environment.cpu_dtype()
            arguments |= {"dtype": self._dtype, "enforce_eager": True}
        if self._rank:
            arguments |= {"enable_lora": True, "max_lora_rank": self._rank}
        # vLLM logs a death with its own stack, which says nothing of the cause.
        logging.getLogger("vllm.v1.engine.async_llm").addFilter(_tells_no_death)
        return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))

    async def _generate(
        self, engine: Any, lora: Any, source: str | list[int], parameters: Any, progress: Progress | None
    ) -> list[RawVote]:
        votes = [RawVote()] * parameters.n
        request = uuid.uuid4().hex
        prompt = source if isinstance(source, str) else {"prompt_token_ids": source}
        async for output in engine.generate(prompt, parameters, request, lora_request=lora):
            self._outputs += 1
            for part in output.outputs:
                before = votes[part.index]
                ids = part.token_ids
                vote = votes[part.index] = RawVote(
                    before.text + part.text,
                    before.tokens + len(ids),
                    part.finish_reason,
                    part.stop_reason if isinstance(part.stop_reason, str) else None,
                    part.cumulative_logprob,
                    ids[-1] if ids else before.last_token,
                )
                if progress is not None:
                    progress.count(part.index, vote.tokens, part.finished())
        return votes


def _tells_no_death(record: logging.LogRecord) -> bool:
    return not (record.exc_info and type(record.exc_info[1]).__name__ == "EngineDeadError")


@functools.cache
def _warn_of_seeds() -> None:
    log.warning("vLLM's CPU build cannot sample with a seed: the run's seed is not used here")


def _lora_request(adapter: Adapter) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest(adapter.name, adapter.number, str(adapter.folder))
