"""Training objectives of a scorer: classification or pairwise.

    OBJECTIVES["pairwise"].trainer(model, tokenizer, rows, arguments)  ->  a TRL RewardTrainer

Both have one interface: training rows from a question's texts, and a Trainer for them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from shared.errors import Refused
from shared.recipes import ScorerTraining
from workers.training import pairs
from workers.training.pairs import Item

Ids = Callable[[Item, str], list[int]]
MULTIPLE = 8  # texts are padded to a multiple of this length


class Objective(Protocol):
    """An objective; ``labels`` is the number of logits its model gives a text."""

    labels: int

    def rows(self, items: Sequence[Item], ids: Ids, options: ScorerTraining) -> list[dict[str, Any]]:
        """Give the training rows."""

    def trainer(
        self,
        model: Any,
        tokenizer: Any,
        rows: list[dict[str, Any]],
        arguments: dict[str, Any],
        collator: Any = None,
        adapter: Any = None,
    ) -> Any:
        """Set up a Trainer; ``collator`` makes batches of rows that are not token ids.

        Raises:
            Refused: the Trainer rejects its settings.
        """


class Classification:
    """Two-class cross-entropy, right or wrong (Cobbe et al. 2021, without the token-level values)."""

    labels = 2

    def rows(self, items: Sequence[Item], ids: Ids, options: ScorerTraining) -> list[dict[str, Any]]:
        """Give one row a text; with ``options.balance``, each question has as many right as wrong ones."""
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
        """Set up transformers' Trainer: TRL's SFTTrainer cannot train a classifier."""
        from datasets import Dataset
        from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

        if adapter is not None:
            from peft import get_peft_model

            model = get_peft_model(model, adapter)
        # Token ids are batched by similar length; indices of cached states have no length.
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
    """Rank the right text of a pair above the wrong one (Bradley and Terry 1952), as for reward models."""

    labels = 1

    def rows(self, items: Sequence[Item], ids: Ids, options: ScorerTraining) -> list[dict[str, Any]]:
        """Give one row a pair of a question's texts; a question with only one kind has none."""
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

        # Rows are tokenized and truncated already.
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
        raise Refused(f"transformers rejects these settings: {error}") from error
