"""A tiny Qwen2 with random weights: loads and runs like a real model, in seconds, and knows nothing.

    tiny.make(tmp_path_factory.mktemp("weights"))  ->  the folder, for transformers and for vLLM

Its tokenizer has tokens for whole closings ("答案是：A"), so that about half of what it writes can be read.
"""

from pathlib import Path
from typing import Any

SENTENCES = [
    "甲比乙高，乙比丙高。谁最高？",
    "因为甲比乙高，乙比丙高，所以甲最高。",
    "这个推理是错误的，所以选乙。",
    "下列选项中，哪一个是正确的？",
    "Alice is taller than Bob; Bob is taller than Carol.",
    "### 题目\n### 问题\n### 推理\nA. 是\nB. 否\nC. 以上都不对\n",
]
CLOSINGS = [f"答案是：{letter}\n" for letter in "ABCDE"]
END = "<|endoftext|>"
VOCABULARY = 384


def make(folder: Path) -> Path:
    """Write config, weights (0.5 MB) and tokenizer into ``folder``; give it."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, set_seed

    _tokenizer().save_pretrained(folder)
    set_seed(42)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        # Heads of 64 are what the attention of vLLM's CPU build takes.
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    # Without the usual splitting into words, whole closings grow together into one token each.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CLOSINGS * 50 + SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
