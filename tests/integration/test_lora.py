"""LoRA fine-tuning on tiny weights: which prompts and completions, and what comes of it."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from producers.commands import training_options
from shared import dataset, model_store, prompt_files, prompts
from shared.errors import Refused
from shared.ledger import runs
from shared.prompts import FewShotExample, PromptQuestion
from shared.recipes import LoraTraining
from shared.training_examples import Text, TrainingExample
from tests import tiny, training_fixtures
from tests.training_fixtures import RIGHT, RecordingListener
from workers.models.lora_adapters import Adapters
from workers.training import lora_trainer
from workers.training.ipc import TrainedModel

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("weights"))


class Index:
    """Remembers what it indexed, and gives the first few that are about other problems."""

    def __init__(self) -> None:
        self.solved: list[FewShotExample] = []

    def __call__(self, solved: list[FewShotExample]) -> "Index":
        self.solved = solved
        return self

    def nearest(
        self, _: str, asked: Sequence[PromptQuestion], count: int, same_problem: bool
    ) -> list[list[FewShotExample]]:
        assert not same_problem
        return [[one for one in self.solved if one.asked.problem != q.problem][:count] for q in asked]


def options(base: Path, **changes: Any) -> LoraTraining:
    quick = {"max_steps": 4, "max_length": 512, "learning_rate": 1e-2, "held_out": 0.25, "batch_size": 2}
    return training_options.lora({"base": str(base), **quick, "accumulation": 1, **changes})


def train(
    folder: Path,
    training: LoraTraining,
    found: Sequence[TrainingExample],
    index: Index | None = None,
    listener: RecordingListener | None = None,
) -> TrainedModel:
    place = training_fixtures.context(folder, listener)
    return lora_trainer.train(found, training, training.base, place, index or Index())


def rows(training: LoraTraining, found: Sequence[TrainingExample], index: Index) -> list[dict[str, Any]]:
    from transformers import AutoTokenizer

    return lora_trainer._rows(found, training, AutoTokenizer.from_pretrained(training.base), index)


def texts(base: Path, row: dict[str, Any]) -> tuple[str, str]:
    """Give a row's prompt and completion, as they are read."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    at = row["completion_mask"].index(1)
    assert row["completion_mask"] == [0] * at + [1] * (len(row["input_ids"]) - at)
    return tokenizer.decode(row["input_ids"][:at]), tokenizer.decode(row["input_ids"][at:])


def test_a_row_is_the_inference_prompt_with_two_others_solved_and_the_loss_is_on_what_follows(
    base: Path,
) -> None:
    found = training_fixtures.examples(4)
    index = Index()(lora_trainer._solved(found))
    first, *_ = rows(options(base, max_length=4096), found, index)
    prompt, completion = texts(base, first)
    shown = [solved for solved in index.solved if solved.asked.problem != found[0].problem][:2]
    assert prompt == prompt_files.built_in("zh").completion(found[0].asked, shown)
    assert found[0].problem not in prompt.removesuffix(prompts.case(found[0].asked))
    assert completion == f"{RIGHT}\n答案是：A\n{tiny.END}"


def test_only_right_texts_are_learned_each_once_and_not_too_many_of_one_question(base: Path) -> None:
    example = training_fixtures.example(0, letters="ABABA")
    several = example.model_copy(
        update={
            "texts": tuple(
                one.model_copy(update={"text": f"{at}{one.text}"}) for at, one in enumerate(example.texts)
            )
        }
    )
    again = several.model_copy(update={"texts": several.texts * 2})
    for most, learned in ((4, ["0", "2", "4"]), (2, ["0", "2"])):
        found = rows(options(base, max_length=4096, per_question=most), [again], Index())
        assert [texts(base, row)[1][0] for row in found] == learned


def test_examples_are_left_out_from_the_far_end_until_it_fits(base: Path) -> None:
    found = training_fixtures.examples(4)
    index = Index()(lora_trainer._solved(found))
    whole = len(rows(options(base, max_length=4096), found[:1], index)[0]["input_ids"])
    (shorter,) = rows(options(base, max_length=whole - 1), found[:1], index)
    assert len(shorter["input_ids"]) < whole
    assert index.solved[1].asked.problem in texts(base, shorter)[0]
    assert index.solved[2].asked.problem not in texts(base, shorter)[0]


def test_what_does_not_fit_at_all_is_left_out_and_told(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert rows(options(base, max_length=20), training_fixtures.examples(2), Index()) == []
    assert "2 texts do not fit 20 tokens" in caplog.text
    with pytest.raises(Refused, match="the training part has no right text that fits 20 tokens"):
        train(Path("work"), options(base, max_length=20), training_fixtures.examples(8))


def test_no_paraphrase_is_an_example_nor_anything_that_is_held_out(base: Path) -> None:
    found = training_fixtures.examples(12)
    paraphrase = found[0].model_copy(update={"augmented": True, "problem": "换了说法"})
    index = Index()
    made = train(Path("work"), options(base, max_steps=1), [*found, paraphrase], index)
    shown = {solved.asked.problem for solved in index.solved}
    learned = {dataset.identity(one.problem) for one in found} & set(made.problems)
    assert "换了说法" not in shown
    assert {dataset.identity(problem) for problem in shown} == learned
    assert 0 < len(learned) < 12


def test_what_prompts_showed_when_votes_were_sampled_is_shown_again(base: Path) -> None:
    known = FewShotExample(PromptQuestion("丙比丁高。", "谁高？", ("丙", "丁")), "因为丙比丁高。", "A")
    runs.add_examples("shown", [known])
    index = Index()
    train(
        Path("work"),
        options(base, max_steps=1).model_copy(update={"examples": ("shown",)}),
        training_fixtures.examples(8),
        index,
    )
    assert index.solved == [known]


def test_an_adapter_learns_and_is_found_by_its_name(base: Path, tmp_path: Path) -> None:
    listener = RecordingListener()
    made = train(
        tmp_path / "work",
        options(base, max_steps=12, rank=4),
        training_fixtures.examples(16),
        listener=listener,
    )
    assert made.metrics["loss"] < made.metrics["loss_before"]
    assert len(listener.curve("loss")) >= 2
    assert len(listener.curve("eval_loss")) >= 6
    assert (made.rule, made.comparison) == (None, None)
    name = training_fixtures.shelved(made, tmp_path / "trained")
    found = Adapters(tmp_path / "trained").find(name)
    assert (found.name, found.rank, found.number) == (name, 8, model_store.number_of(name))


def test_an_adapter_is_small_and_safe(base: Path) -> None:
    made = train(
        Path("work"), options(base, max_steps=1, targets="q_proj,v_proj"), training_fixtures.examples(8)
    )
    assert not [path for path in made.folder.rglob("*") if path.suffix in {".bin", ".pt", ".pkl", ".pth"}]
    from safetensors.torch import load_file

    adapted = {name.split(".")[-3] for name in load_file(made.folder / "adapter_model.safetensors")}
    assert adapted == {"q_proj", "v_proj"}


# Programs

TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}[end]{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
PROGRAMS = prompt_files.built_in("zh-program")
WITH_PROGRAMS = {"voice_prompts": {"program": PROGRAMS.digest}}


def programs(count: int) -> list[TrainingExample]:
    """Make questions with votes, every second one with a right program."""
    found = training_fixtures.examples(count)
    return [
        example.model_copy(
            update={
                "texts": (*example.texts, Text(text=f"print({at})", letter=example.answer, voice="program"))
            }
        )
        if at % 2
        else example
        for at, example in enumerate(found)
    ]


@pytest.fixture(scope="module")
def chatting(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Have tiny weights with a chat template."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("chatting") / "weights"
    shutil.copytree(base, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def test_a_program_is_the_reply_in_a_chat_with_others_programs_as_examples(chatting: Path) -> None:
    found = programs(8)
    index = Index()(lora_trainer._solved(found))
    training = options(chatting, max_length=8192, num_examples=2).model_copy(update=WITH_PROGRAMS)
    row = rows(training, [found[1]], index)[-1]
    prompt, completion = texts(chatting, row)
    shown = [solved for solved in index.solved if solved.program and solved.asked != found[1].asked][:2]
    assert [solved.program for solved in shown] == ["print(3)", "print(5)"]
    assert [bool(solved.reasoning) for solved in shown] == [True, True]
    chat = PROGRAMS.chat(found[1].asked, shown)
    assert prompt == "".join(f"[{turn.role}]{turn.content}[end]" for turn in chat) + "[assistant]"
    assert completion == f"```python\nprint(1)\n```{tiny.END}"


def test_reasonings_and_programs_are_learned_together(chatting: Path) -> None:
    found = programs(12)
    training = options(chatting, max_length=4096, per_question=1, num_examples=0)
    mixed = training.model_copy(update=WITH_PROGRAMS)
    ends = [texts(chatting, row)[1] for row in rows(mixed, found, Index())]
    assert sum(end.startswith("```python") for end in ends) == 6
    assert len(ends) == 12 + 6
    made = train(Path("work"), mixed.model_copy(update={"max_steps": 1}), found)
    assert made.metrics["held_out"] > 0


def test_programs_need_a_model_with_a_chat_template(base: Path) -> None:
    training = options(base).model_copy(update=WITH_PROGRAMS)
    with pytest.raises(Refused, match="texts of the voice program need a model with a chat template"):
        train(Path("work"), training, programs(8))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"optimizer": "nonsense"}, "nonsense"), ({"learning_rate": 1e30}, "lower --learning-rate")],
)
def test_settings_that_will_not_do_are_refused(changes: dict[str, Any], reason: str, base: Path) -> None:
    with pytest.raises(Refused, match=reason):
        train(Path("work"), options(base, max_steps=10, **changes), training_fixtures.examples(16))
