"""Train heads on frozen hidden states: one for each fold, and one on everything.

    CrossFitted(states=tensor(1800, 896), folds=tensor(1800), count=10)

With the layers below frozen, a text's state never changes. It is computed once, and a head trains on all
states in seconds. Each fold is evaluated by the head that was trained without it, so that every text gets an
out-of-sample score and no data is set aside (cross-fitting; Stone 1974).
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class HeadsConfig(PretrainedConfig):
    """The number of heads, and the size of a state."""

    model_type = "votequeue-heads"

    def __init__(self, heads: int = 1, size: int = 1, **more: Any) -> None:
        super().__init__(**{"num_labels": 1, **more})
        self.heads = heads
        self.size = size


class CrossFitted(PreTrainedModel):
    """All heads as one model: logits of shape (texts, heads), 0 where a head excludes the text's fold."""

    config_class = HeadsConfig

    def __init__(self, config: HeadsConfig) -> None:
        super().__init__(config)
        self.score = torch.nn.Linear(config.size, config.heads, bias=False)
        self.post_init()
        # With zero weights, every score starts at probability 0.5.
        torch.nn.init.zeros_(self.score.weight)

    def forward(
        self,
        states: Any,
        folds: Any,
        labels: Any = None,
        attention_mask: Any = None,
        use_cache: bool | None = None,
    ) -> SequenceClassifierOutput:
        """Give logits and, with labels, the mean cross-entropy over the heads."""
        logits = self.score(states)
        trained_on = folds[:, None] != torch.arange(logits.shape[1], device=logits.device)
        logits = logits * trained_on
        loss = None
        if labels is not None:
            targets = labels[:, None].to(logits.dtype).expand_as(logits)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class Table:
    """Standardised states of texts and the fold of each.

    Training rows hold a text's index in this table in place of token ids.
    """

    def __init__(self, states: Any, folds: Sequence[int]) -> None:
        deviation = states.std(0).clamp(min=1e-6)
        self.scale = 1 / deviation
        self.states = states * self.scale
        self.folds = torch.tensor(folds)

    def model(self, count: int) -> CrossFitted:
        """Create heads for ``count`` folds and one for all data, with zero weights."""
        return CrossFitted(HeadsConfig(heads=count + 1, size=self.states.shape[1]))

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate rows into a batch; pairs have the chosen texts first, as in TRL."""
        if "chosen_ids" in rows[0]:
            places = [row["chosen_ids"][0] for row in rows] + [row["rejected_ids"][0] for row in rows]
        else:
            places = [row["input_ids"][0] for row in rows]
        batch = {"states": self.states[places], "folds": self.folds[places]}
        batch["attention_mask"] = torch.ones(len(places), 1, dtype=torch.long)
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch

    def blind_margins(self, model: CrossFitted) -> Any:
        """Give each text's log-odds by the head that was trained without its fold."""
        with torch.no_grad():
            logits = self.states.to(model.device) @ model.score.weight.T
        return logits.cpu()[torch.arange(len(self.folds)), self.folds]

    def head(self, model: CrossFitted) -> Any:
        """Give the head trained on all folds, scaled for raw states, of shape (size,)."""
        return (model.score.weight[-1].detach().cpu() * self.scale).float()
