"""The scorer's backbone: a language model's weights as a sequence classifier, whole or truncated.

    load("Qwen2.5-0.5B-Instruct", options, labels=1)  ->  (tokenizer, Qwen2ForSequenceClassification)

The training objectives are in `objectives`.
"""

import logging
from typing import Any

from shared.errors import Refused
from shared.recipes import ScorerTraining

ADAPTED = "all-linear"  # layers that get LoRA adapters
RANK, ALPHA, DROPOUT = 16, 32, 0.05


def load(weights: str, options: ScorerTraining, labels: int) -> tuple[Any, Any]:
    """Load tokenizer and model, with a head that knows nothing yet.

    Raises:
        Refused: the weights cannot be loaded.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, set_seed

    # Cutting layers and adding a head is what we are here for: no report of what the weights lack.
    logging.getLogger("transformers.modeling_utils").setLevel(logging.ERROR)
    set_seed(options.seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(weights)
        config = AutoConfig.from_pretrained(weights, num_labels=labels)
        if options.layers is not None:
            _cut(config, options.layers)
        tokenizer.pad_token = tokenizer.eos_token
        # The conclusion is at the end: what does not fit is cut from the beginning.
        tokenizer.truncation_side = "left"
        config.pad_token_id = tokenizer.pad_token_id
        # Frozen weights are read as they will be served; trained ones want the finer steps.
        dtype = torch.bfloat16 if options.tune == "head" else torch.float32
        model = AutoModelForSequenceClassification.from_pretrained(weights, config=config, dtype=dtype)
    except (OSError, ValueError) as error:
        raise Refused(f"the scorer's base {weights} cannot be loaded: {error}") from error
    # From zero the head begins at a guess (ln 2); from random weights, on the large states of a cut backbone,
    # it begins at a loss of 16 and spends its training on coming down.
    torch.nn.init.zeros_(model.score.weight)
    if options.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu")


def adapter() -> Any:
    """Give the LoRA configuration of a scorer whose layers are adapted; its head is trained whole."""
    from peft import LoraConfig

    return LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=DROPOUT,
        target_modules=ADAPTED,
        modules_to_save=["score"],
        task_type="SEQ_CLS",
    )


def plain(model: Any) -> Any:
    """Give a trained model without the wrapping of its adapters, which are merged into its layers."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def _cut(config: Any, layers: float) -> None:
    depth = config.num_hidden_layers
    config.num_hidden_layers = min(max(1, round(layers if layers >= 1 else layers * depth)), depth)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: config.num_hidden_layers]
