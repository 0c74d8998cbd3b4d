"""Training objectives of a scorer: classification or pairwise.

    OBJECTIVES["pairwise"].trainer(model, tokenizer, rows, arguments)  ->  a TRL RewardTrainer

One interface for both: rows from a question's texts, a Trainer over them, and one number a text, a margin in
log-odds, from what the model gives.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from shared.errors import Refused
from shared.recipes import ScorerTraining
from workers.training import pairs
from workers.training.pairs import Item

Ids = Callable[[Item, str], list[int]]
MULTIPLE = 8  # that texts are padded to


class Objective(Protocol):
    """An objective; ``labels`` is how many logits its model gives a text."""

    labels: int

    def rows(self, items: Sequence[Item], ids: Ids, options: ScorerTraining) -> list[dict[str, Any]]:
        """Give the rows to train on."""

    def trainer(
        self,
        model: Any,
        tokenizer: Any,
        rows: list[dict[str, Any]],
        arguments: dict[str, Any],
        collator: Any = None,
        adapter: Any = None,
    ) -> Any:
        """Set up a Trainer; ``collator`` makes batches of rows where they are not token ids.

        Raises:
            Refused: the Trainer refuses its settings.
        """


class Classification:
    """Two-class cross-entropy, right or wrong (Cobbe et al. 2021, without the token-level values)."""

    labels = 2

    def rows(self, items: Sequence[Item], ids: Ids, options: ScorerTraining) -> list[dict[str, Any]]:
        """Give one row a text, as many right as wrong ones of each question where balance is wanted."""
        return [
            {"input_ids": ids(item, text), "labels": int(right)}
            for item in items
            for text, right in pairs.singles(item, options.balance)
        ]

    def trainer(
        self,
        model: Any,
        tokenizer: Any,
        rows: list[dict[str, Any]],
        arguments: dict[str, Any],
        collator: Any = None,
        adapter: Any = None,
    ) -> Any:
        """Set up transformers' Trainer: TRL's SFTTrainer can no longer train a classifier."""
        from datasets import Dataset
        from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

        if adapter is not None:
            from peft import get_peft_model

            model = get_peft_model(model, adapter)
        # Where rows are token ids, those of like length make a batch; what stands for states has no length.
        sampling = "random" if collator else "group_by_length"
        return Trainer(
            model=model,
            args=_accepted(
                TrainingArguments,
                {**arguments, "train_sampling_strategy": sampling, "remove_unused_columns": collator is None},
            ),
            train_dataset=Dataset.from_list(rows),
            data_collator=collator or DataCollatorWithPadding(tokenizer, pad_to_multiple_of=MULTIPLE),
        )


class Pairwise:
    """The right text of two above the wrong one (Bradley and Terry 1952), as reward models are trained."""

    labels = 1

    def rows(self, items: Sequence[Item], ids: Ids, options: ScorerTraining) -> list[dict[str, Any]]:
        """Give one row a pair of the same question; what has only one kind gives none."""
        return [
            {"chosen_ids": ids(item, right), "rejected_ids": ids(item, wrong)}
            for item in items
            for right, wrong in pairs.pairs(item)
        ]

    def trainer(
        self,
        model: Any,
        tokenizer: Any,
        rows: list[dict[str, Any]],
        arguments: dict[str, Any],
        collator: Any = None,
        adapter: Any = None,
    ) -> Any:
        """Set up TRL's RewardTrainer."""
        from datasets import Dataset
        from trl import RewardConfig, RewardTrainer

        # Rows come tokenised and cut.
        settings = {**arguments, "max_length": None, "gradient_checkpointing": False}
        return RewardTrainer(
            model=model,
            args=_accepted(RewardConfig, {**settings, "pad_to_multiple_of": MULTIPLE}),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            data_collator=collator,
            peft_config=adapter,
        )


OBJECTIVES: dict[str, Objective] = {"classification": Classification(), "pairwise": Pairwise()}


def _accepted(kind: Any, settings: dict[str, Any]) -> Any:
    try:
        return kind(**settings)
    except (ValueError, TypeError, ImportError) as error:
        raise Refused(f"transformers refuses these settings: {error}") from error
