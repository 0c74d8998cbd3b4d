"""The scorer's features: its input texts, and their hidden states or logits.

    Reader(model, tokenizer, "question+answer", 768).logits(asked, ["A", "B"])  ->  tensor(2, labels)

The question's text is processed once for all votes or options that follow it.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

from shared import prompts
from shared.dataset import LETTERS
from shared.prompts import PromptQuestion
from shared.recipes import INPUTS

BATCH = 16  # continuations read at once


def texts_of(asked: PromptQuestion, texts: Sequence[str], kind: str) -> list[str]:
    """Give the inputs after a question: the texts, or (``question+answer``) the letters of its options."""
    return list(LETTERS[: len(asked.options)]) if INPUTS[kind].answers else list(texts)


def parts(kind: str) -> int:
    """Give the number of parts of a text."""
    return 2 if INPUTS[kind].answers else 1


def parts_of(asked: PromptQuestion, text: str, kind: str) -> list[str]:
    """Give the parts after the question: a vote's text, or (``question+answer``) a letter and its option.

    The states after the letter and after the written option are separate features.
    """
    if not INPUTS[kind].answers:
        return [text.strip()]
    option = prompts.without_letters(asked.options)[LETTERS.index(text)].strip()
    return [f"答案是：{text}", f"，{option.rstrip('。')}。"]


class FeatureExtractor:
    """Runs a sequence classifier; ``max_length`` is in tokens, and parts are truncated at their beginning.

    The conclusion is at the end. A question longer than half of the length is truncated to half, which leaves
    room for the vote.
    """

    def __init__(self, model: Any, tokenizer: Any, kind: str, max_length: int) -> None:
        # The base model of a PEFT wrapper includes the adapters.
        self._model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._tokenizer = tokenizer
        self._kind = kind
        self._max_length = max_length

    def logits(self, asked: PromptQuestion, texts: Sequence[str]) -> Any:
        """Give the classifier's logits, float32 of shape (texts, labels)."""
        return self._read(asked, texts, lambda inputs, _: self._model(**inputs).logits)

    def states(self, asked: PromptQuestion, texts: Sequence[str]) -> Any:
        """Give the states at the ends of a text's parts, float32 of shape (texts, parts x hidden size)."""
        base = getattr(self._model, self._model.base_model_prefix)

        def at_ends(inputs: dict[str, Any], ends: list[list[int]]) -> Any:
            import torch

            last = base(**inputs).last_hidden_state
            rows = torch.arange(len(ends), device=last.device)[:, None]
            return last[rows, torch.tensor(ends, device=last.device)].flatten(1)

        return self._read(asked, texts, at_ends)

    def margins(self, asked: PromptQuestion, texts: Sequence[str]) -> Any:
        """Apply the head to the states: log-odds that each text is right, float32 of shape (texts,)."""
        return self.states(asked, texts) @ self._model.score.weight.detach().float().cpu().flatten()

    def tokens(self, asked: PromptQuestion, text: str) -> list[int]:
        """Give all token ids of a question and a text, as the model receives them."""
        prefix = self._prefix(asked)
        return prefix + self._suffix(asked, text, len(prefix))[0]

    def _read(
        self,
        asked: PromptQuestion,
        texts: Sequence[str],
        run: Callable[[dict[str, Any], list[list[int]]], Any],
    ) -> Any:
        import torch

        prefix = self._prefix(asked)
        suffixes, ends = zip(*(self._suffix(asked, text, len(prefix)) for text in texts), strict=True)
        # Batch texts of similar length, to reduce padding.
        order = sorted(range(len(suffixes)), key=lambda at: len(suffixes[at]))
        rows: list[Any] = [None] * len(suffixes)
        with torch.inference_mode():
            cache = self._cache(prefix)
            for start in range(0, len(order), BATCH):
                places = order[start : start + BATCH]
                inputs = self._inputs([suffixes[at] for at in places], len(prefix), cache)
                states = run(inputs, [ends[at] for at in places]).float().cpu()
                for at, row in zip(places, states, strict=True):
                    rows[at] = row
        return torch.stack(rows)

    def _prefix(self, asked: PromptQuestion) -> list[int]:
        if not INPUTS[self._kind].question:
            return []
        ids: list[int] = self._tokenizer(prompts.case(asked).strip() + "\n")["input_ids"]
        return ids[-(self._max_length // 2) :] if len(ids) > self._max_length // 2 else ids

    def _suffix(self, asked: PromptQuestion, text: str, before: int) -> tuple[list[int], list[int]]:
        """Give the token ids of a text, and the indices of its parts' last tokens."""
        ids: list[int] = []
        lengths = []
        for part in parts_of(asked, text, self._kind):
            ids += self._tokenizer(part)["input_ids"]
            lengths.append(len(ids))
        cut = max(0, len(ids) - (self._max_length - before))
        # An empty vote has no tokens, which a model rejects: it becomes a single padding token.
        ids = ids[cut:] or [self._tokenizer.pad_token_id]
        return ids, [max(0, length - cut - 1) for length in lengths]

    def _cache(self, prefix: list[int]) -> Any:
        import torch

        if not prefix:
            return None
        base = getattr(self._model, self._model.base_model_prefix)
        ids = torch.tensor([prefix], device=self._model.device)
        return base(input_ids=ids, use_cache=True).past_key_values

    def _inputs(self, suffixes: list[list[int]], before: int, cache: Any) -> dict[str, Any]:
        import torch

        longest = max(map(len, suffixes))
        ids = torch.full((len(suffixes), longest), self._tokenizer.pad_token_id)
        mask = torch.zeros(len(suffixes), before + longest, dtype=torch.long)
        mask[:, :before] = 1
        for row, suffix in enumerate(suffixes):
            ids[row, : len(suffix)] = torch.tensor(suffix)
            mask[row, before : before + len(suffix)] = 1
        places = (before + torch.arange(longest)).expand(len(suffixes), -1)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": places}
        inputs = {name: value.to(self._model.device) for name, value in inputs.items()}
        if cache is not None:
            repeated = copy.deepcopy(cache)
            repeated.batch_repeat_interleave(len(suffixes))
            inputs |= {"past_key_values": repeated, "use_cache": True}
        return inputs


def margin(logits: Any) -> Any:
    """Give the log-odds that each text is right, from logits of shape (texts, 1 or 2)."""
    return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]
