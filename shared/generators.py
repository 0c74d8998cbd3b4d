"""The registry of generators: what samples votes, and the queue of the workers that serve a run.

    GENERATORS["openai"]  ->  Generator("openai", "workers.openai_generator:make", calls_provider=True, ...)
    queue_of("infer", {"generator": "openai", "provider": "chat", "model": "qwen-max"})
        ->  "infer.openai.chat.qwen-max"

A run that names no model goes to the plain queue, whatever model its workers have. Every other run goes to a
queue of its own kind, which only workers with its generator and model consume.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.registry import Registry

INFER, VLLM = "infer", "vllm"
# Retrievers. Another name is PROVIDER:MODEL (`providers.embedding_service`) or a sentence-transformers model.
LEXICAL, STATIC = "lexical", "static"
ENTRY_POINTS = (
    "votequeue.generators"  # the group in which an installed package names a `Generator` of its own
)
_NO_NAME = re.compile(r"[^\w.@+-]+")  # a comma would separate two queues on Celery's command line


@dataclass(frozen=True)
class Generator:
    """A way to sample votes.

    ``build`` names, as ``module:name``, a function of ``(settings, stopping)`` that gives a generator as in
    `workers.ports`; only a worker imports it. ``torch``: its workers have torch, and so scorers, adapters and
    embeddings. ``calls_provider``: it samples through a provider (`shared.providers`), call by call.
    """

    name: str
    build: str
    torch: bool = False
    calls_provider: bool = False


GENERATORS = Registry(
    ENTRY_POINTS,
    Generator,
    (
        Generator(VLLM, build="workers.wiring:vllm_generator", torch=True),
        Generator("openai", build="workers.openai_generator:make", calls_provider=True),
    ),
)


def queue_of(kind: str, options: Mapping[str, Any]) -> str:
    """Name the queue of a run by its kind and its options."""
    # Recorded votes are not sampled, but scored: by any worker with torch.
    if kind != INFER or options.get("votes_of"):
        return kind
    generator = options.get("generator") or VLLM
    names = [None if generator == VLLM else generator, options.get("provider"), options.get("model")]
    return ".".join([kind, *(_NO_NAME.sub("-", name) for name in names if name)])


def queues_of(generator: str, provider: str | None, model: str, named: bool) -> list[str]:
    """Name the queues that a worker consumes; ``named``: it was started for this generator or model alone."""
    own = queue_of(INFER, {"generator": generator, "provider": provider, "model": model})
    return [own] if named or generator != VLLM else [INFER, own]


def worker_command(kind: str, options: Mapping[str, Any]) -> str:
    """Give the command that starts a worker for a run."""
    words = ["votequeue", "worker", kind]
    if queue_of(kind, options) != kind:
        generator = options.get("generator") or VLLM
        chosen = {"generator": None if generator == VLLM else generator}
        chosen |= {name: options.get(name) for name in ("provider", "model")}
        words += [word for name, value in chosen.items() if value for word in (f"--{name}", value)]
    return shlex.join(words)
