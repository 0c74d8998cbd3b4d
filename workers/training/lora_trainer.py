"""Train a LoRA adapter for the generator on prompts with right continuations.

    train(examples, options, weights, context)  ->  TrainedModel(name="lora-3f9c01ab12cd", ...)

TRL's SFTTrainer trains with PEFT; the loss covers the completion only. An example contributes the texts that
end in its right letter. A program is the reply in a chat, as in runs.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shared import model_store
from shared.errors import Refused
from shared.ledger import prompt_store, runs
from shared.prompt_files import PromptTemplate
from shared.prompts import FewShotExample, PromptQuestion
from shared.recipes import LoraTraining
from shared.training_examples import Text, TrainingExample
from shared.voices import PROGRAM, REASONING, VOICES
from workers.models.chat_template import ChatTemplate
from workers.ports import CANDIDATES_PER_EXAMPLE, Retriever, TrainingContext
from workers.training import splits, trainer_setup
from workers.training.callbacks import EVALUATIONS
from workers.training.ipc import TrainedModel

log = logging.getLogger(__name__)
EXAMPLES = "examples"  # the name of a training's examples at the retriever


def train(
    examples: Sequence[TrainingExample],
    options: LoraTraining,
    weights: str,
    context: TrainingContext,
    index: Callable[[list[FewShotExample]], Retriever],
) -> TrainedModel:
    """Train one adapter; ``index`` builds the retriever of few-shot examples.

    Raises:
        Refused: the data or the options do not allow it.
        Interrupted: the listener asked to stop.
    """
    from transformers import AutoTokenizer

    trainer_setup.require_reports(options.report_to)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    _require_chats(options, tokenizer)
    parts = splits.split(examples, options.held_out, options.seed)
    shown = [example for digest in options.examples for example in runs.load_examples(digest)]
    retriever = index(shown or _solved(parts.learned))
    rows = [_rows(part, options, tokenizer, retriever) for part in (parts.learned, parts.held_out)]
    for name, part in zip(("training", "held-out"), rows, strict=True):
        if not part:
            raise Refused(
                f"the {name} part has no right text that fits {options.max_length} tokens with its question: "
                "give more data, a larger --max-length, or another share to hold out"
            )
    trainer = _trainer(options, weights, tokenizer, rows, context)
    before = trainer.evaluate()["eval_loss"]
    result = trainer_setup.run(trainer, context)
    metrics = {
        "loss_before": before,
        "loss": trainer.evaluate()["eval_loss"],
        **trainer_setup.account(result, rows[0]),
        "held_out": len(rows[1]),
    }
    folder = context.output_folder()
    trainer.model.save_pretrained(folder, safe_serialization=True)
    model_store.describe(folder, {"kind": "lora", "options": options.model_dump(mode="json")})
    return TrainedModel(
        name=model_store.name_of("lora", folder),
        folder=folder,
        metrics=metrics,
        rule=None,
        comparison=None,
        problems=sorted({example.asked.problem_identity for example in parts.learned}),
    )


def _require_chats(options: LoraTraining, tokenizer: Any) -> None:
    for voice in options.voice_prompts:
        if VOICES[voice].chats and not tokenizer.chat_template:
            raise Refused(
                f"texts of the voice {voice} need a model with a chat template: train another model, or "
                "leave them out"
            )


def _trainer(
    options: LoraTraining,
    weights: str,
    tokenizer: Any,
    rows: list[list[dict[str, Any]]],
    context: TrainingContext,
) -> Any:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    try:
        model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.bfloat16)
        arguments = SFTConfig(
            **trainer_setup.arguments(options, context),
            eval_strategy="steps",
            eval_steps=1 / EVALUATIONS,
            # Rows are tokenized already and never truncated: few-shot examples are dropped instead.
            max_length=None,
            completion_only_loss=True,
        )
    except (OSError, ValueError) as error:
        raise Refused(f"no adapter can be trained with these settings: {error}") from error
    return SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(rows[0]),
        eval_dataset=Dataset.from_list(rows[1]),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules=list(options.targets),
            task_type="CAUSAL_LM",
        ),
    )


def _rows(
    examples: Sequence[TrainingExample], options: LoraTraining, tokenizer: Any, retriever: Retriever
) -> list[dict[str, Any]]:
    """Tokenize prompts and completions, dropping the farthest few-shot examples until both fit."""
    asked = [example.asked for example in examples]
    # As in runs, each voice shows the nearest ones with a text of its own.
    count = CANDIDATES_PER_EXAMPLE * options.num_examples
    near = retriever.nearest(EXAMPLES, asked, count, same_problem=False) if asked else []
    rows: list[dict[str, Any]] = []
    left_out = 0
    templates = {
        voice: _template(digest)
        for voice, digest in {REASONING: options.prompt, **options.voice_prompts}.items()
    }
    for example, solved in zip(examples, near, strict=True):
        for text in _right_texts(example, options.per_question):
            template = templates[text.voice]
            shown = list(filter(template.shows, solved))[: options.num_examples]
            row = _row(example, text, shown, template, options.max_length, tokenizer)
            left_out += row is None
            rows += [row] if row else []
    if left_out:
        log.warning(
            "%d texts do not fit %d tokens with their questions: left out", left_out, options.max_length
        )
    return rows


def _solved(examples: Sequence[TrainingExample]) -> list[FewShotExample]:
    """Give each solved question with its first right texts; augmented questions are excluded."""
    solved: dict[PromptQuestion, FewShotExample] = {}
    for example in examples:
        for text in [] if example.augmented else _right_texts(example, 1):
            new = _with_text(example, text)
            known = solved.setdefault(example.asked, new)
            solved[example.asked] = dataclasses.replace(
                known, reasoning=known.reasoning or new.reasoning, program=known.program or new.program
            )
    return list(solved.values())


def _with_text(example: TrainingExample, text: Text) -> FewShotExample:
    reasoning, program = ("", text.text) if text.voice == PROGRAM else (text.text, "")
    return FewShotExample(example.asked, reasoning, example.answer, program=program)


def _right_texts(example: TrainingExample, most: int) -> list[Text]:
    """List the distinct right texts, at most ``most`` of each voice."""
    distinct: dict[str, dict[str, Text]] = {}
    for text in example.texts:
        if example.is_right(text) and text.text.strip():
            distinct.setdefault(text.voice, {}).setdefault(text.text, text)
    return [text for texts in distinct.values() for text in list(texts.values())[:most]]


def _template(digest: str | None) -> PromptTemplate:
    template = prompt_store.find(digest)
    if template is None:
        raise Refused("the training is for the prompt of another version of votequeue: enqueue it again")
    return template


def _row(
    example: TrainingExample,
    text: Text,
    shown: Sequence[FewShotExample],
    template: PromptTemplate,
    longest: int,
    tokenizer: Any,
) -> dict[str, Any] | None:
    solution = template.solution(_with_text(example, text))
    chats = VOICES[template.voice].chats
    # Tokenized separately, as at inference: the prompt ends where the completion begins.
    completion = tokenizer(solution.strip() if chats else solution)["input_ids"] + [tokenizer.eos_token_id]
    for count in range(len(shown), -1, -1):
        asked, solved = example.asked, shown[:count]
        if chats:
            rendered = ChatTemplate(tokenizer, Path()).render(template.chat(asked, solved), {})
            prompt = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        else:
            prompt = tokenizer(template.completion(asked, solved))["input_ids"]
        if len(prompt) + len(completion) <= longest:
            mask = [0] * len(prompt) + [1] * len(completion)
            return {"input_ids": prompt + completion, "completion_mask": mask}
    return None
