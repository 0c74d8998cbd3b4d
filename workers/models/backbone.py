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
    """Load tokenizer and model, with an untrained head.

    Raises:
        Refused: the weights cannot be loaded.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, set_seed

    # transformers would report the removed layers and the missing head, which are intended.
    logging.getLogger("transformers.modeling_utils").setLevel(logging.ERROR)
    set_seed(options.seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(weights)
        config = AutoConfig.from_pretrained(weights, num_labels=labels)
        if options.layers is not None:
            _cut(config, options.layers)
        tokenizer.pad_token = tokenizer.eos_token
        # The conclusion is at the end, so texts are truncated at the beginning.
        tokenizer.truncation_side = "left"
        config.pad_token_id = tokenizer.pad_token_id
        # Frozen weights have the data type of inference; trained weights need the precision of float32.
        dtype = torch.bfloat16 if options.tune == "head" else torch.float32
        model = AutoModelForSequenceClassification.from_pretrained(weights, config=config, dtype=dtype)
    except (OSError, ValueError) as error:
        raise Refused(f"the scorer's base {weights} cannot be loaded: {error}") from error
    # With zero weights, the initial loss is ln 2. With random weights on the large states of a truncated
    # backbone, it is about 16, and training does little but reduce it.
    torch.nn.init.zeros_(model.score.weight)
    if options.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu")


def adapter() -> Any:
    """Give the LoRA configuration of a scorer whose layers are adapted; its head is trained in full."""
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
    """Merge the adapters of a trained model into its layers; give the model without the wrapper."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def _cut(config: Any, layers: float) -> None:
    depth = config.num_hidden_layers
    config.num_hidden_layers = min(max(1, round(layers if layers >= 1 else layers * depth)), depth)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: config.num_hidden_layers]
