"""The scorer, really trained on tiny weights: what it learns, what a model holds, and how it judges."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy.special import logit

from shared import answers, dataset, model_store, recipes
from shared.dataset import LETTERS
from shared.errors import NotServedHere, Refused
from shared.ledger.models import Model
from shared.prompts import PromptQuestion
from shared.recipes import ScorerTraining
from shared.training_examples import Text, TrainingExample
from shared.vote_weights import UNLABELLED
from shared.voting import GATE, VotingMode
from tests import tiny, training_fixtures
from tests.training_fixtures import RIGHT, WRONG, RecordingListener
from workers.models.scorer import SoundnessScorer
from workers.ports import Interrupted, TrainingContext
from workers.training import checkpoints, scorer_trainer
from workers.training.ipc import TrainedModel
from workers.training.promotion import ScorerInUse

ANSWER, VOTE, BLIND = "question+answer", "question+reasoning", "reasoning"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("weights"))


def options(base: Path, /, **changes: Any) -> ScorerTraining:
    """Give what tiny weights learn by in seconds: all layers, from question and reasoning."""
    values = {
        **recipes.load("verifier", ScorerTraining),
        "recipe": "verifier",
        "base": str(base),
        "report_to": (),
        "tune": "all",
        "input": VOTE,
        "layers": None,
        "epochs": 4,
        "learning_rate": 5e-3,
        "batch_size": 8,
        "max_length": 64,
        "held_out": 0.25,
    }
    return ScorerTraining(**{**values, **changes})


def train(
    folder: Path,
    training: ScorerTraining,
    found: Sequence[TrainingExample],
    listener: RecordingListener | None = None,
) -> TrainedModel:
    return scorer_trainer.train(found, training, training.base, training_fixtures.context(folder, listener))


@pytest.fixture(scope="module")
def listener() -> RecordingListener:
    """Remember what the training of `trained` told."""
    return RecordingListener()


@pytest.fixture(scope="module")
def made(base: Path, listener: RecordingListener, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Train one scorer that reads votes with their questions."""
    return train(tmp_path_factory.mktemp("work"), options(base), training_fixtures.examples(40), listener)


@pytest.fixture(scope="module")
def trained(made: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of trained models that it is in."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(made.folder, folder / made.name)
    return folder


def read(votes: Sequence[str]) -> list[Text]:
    return [Text(text=vote, letter=answers.extract(vote, 4)) for vote in votes]


def score(trained: Path, name: str, asked: PromptQuestion, *votes: str) -> list[float]:
    (found,) = SoundnessScorer(trained).score(name, [(asked, read(votes))])
    return found


# What is learned


@pytest.mark.parametrize("objective", ["classification", "pairwise"])
@pytest.mark.parametrize("tune", ["all", "lora"])
def test_votes_that_are_read_are_told_apart_whatever_is_trained_and_how(
    tune: str, objective: str, base: Path, tmp_path: Path
) -> None:
    training = options(base, tune=tune, objective=objective)
    made = train(tmp_path / "work", training, training_fixtures.examples(40))
    assert made.metrics["auc"] > 0.95
    name = training_fixtures.shelved(made, tmp_path / "trained")
    right, wrong = score(tmp_path / "trained", name, training_fixtures.example(90).asked, RIGHT, WRONG)
    assert 0 <= wrong < 0.3 < 0.7 < right <= 1
    config = json.loads((tmp_path / "trained" / name / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["Qwen2ForSequenceClassification"]
    # Merged into the layers: a scorer is one model, whatever it was trained by.
    assert not (tmp_path / "trained" / name / "adapter_config.json").exists()


@pytest.mark.parametrize("objective", ["classification", "pairwise"])
@pytest.mark.parametrize("kind", [ANSWER, VOTE])
def test_a_head_on_frozen_layers_learns_too(kind: str, objective: str, base: Path, tmp_path: Path) -> None:
    listener = RecordingListener()
    training = options(
        base,
        tune="head",
        input=kind,
        objective=objective,
        layers=0.5,
        epochs=30,
        batch_size=16,
        learning_rate=0.02,
    )
    made = train(tmp_path / "work", training, training_fixtures.examples(40), listener)
    assert made.metrics["auc"] > 0.8
    assert made.metrics["folds"] == 4
    config = json.loads((made.folder / "config.json").read_text("utf-8"))
    assert config["num_hidden_layers"] == 1
    # Every question was read, as a step of the whole, before the steps of the head.
    steps, totals = zip(*[(step, of) for step, of, _ in listener.steps], strict=True)
    assert min(steps) <= 10
    assert set(totals) == {max(steps)}
    assert max(steps) > 40
    assert listener.checkpoints[0] == (40, max(steps))


def test_a_head_is_tried_on_every_entry_by_one_that_never_saw_it(base: Path, tmp_path: Path) -> None:
    # Each question has its own truth: whatever is known of one says nothing of another.
    by_heart = [
        training_fixtures.example(at).model_copy(
            update={"answer": "AB"[(at * 7919) % 13 % 2], "problem": f"第{at}题"}
        )
        for at in range(40)
    ]
    training = options(base, tune="head", input=ANSWER, epochs=60, batch_size=16, learning_rate=0.05)
    made = train(tmp_path / "work", training, by_heart)
    name = training_fixtures.shelved(made, tmp_path / "trained")
    told = [score(tmp_path / "trained", name, one.asked, f"答案是：{one.answer}")[0] for one in by_heart]
    assert sum(score > 0.5 for score in told) >= 36  # the head that saw them all knows them
    assert made.metrics["auc"] < 0.75
    assert made.metrics["answers"]["questions"] == 40


def test_a_frozen_model_scores_as_it_was_measured(base: Path, tmp_path: Path) -> None:
    training = options(
        base, tune="head", input=ANSWER, layers=1, epochs=30, batch_size=16, learning_rate=0.02
    )
    made = train(tmp_path / "work", training, training_fixtures.examples(40))
    name = training_fixtures.shelved(made, tmp_path / "trained")
    told = [training_fixtures.example(at) for at in (90, 91)]
    for example in told:
        a, b, none = score(tmp_path / "trained", name, example.asked, "答案是：A", "答案是：B", "我不知道")
        assert a + b == pytest.approx(1, abs=1e-5)
        assert none == 0
        assert (a > b) == (example.answer == "A")


def test_a_scorer_that_reads_letters_scores_them_before_any_vote_as_it_scores_votes(
    base: Path, tmp_path: Path
) -> None:
    training = options(base, tune="head", input=ANSWER, layers=0.5, epochs=2)
    made = train(tmp_path / "work", training, training_fixtures.examples(40))
    name = training_fixtures.shelved(made, tmp_path / "trained")
    asked = training_fixtures.example(90).asked
    letters = LETTERS[: len(asked.options)]
    judge = SoundnessScorer(tmp_path / "trained")
    (known,) = judge.score(name, [(asked, [Text(text="", letter=letter) for letter in letters])])
    votes = [Text(text=f"因为如此。\n答案是：{letter}", letter=letter) for letter in "BAB"]
    (scores,) = judge.score(name, [(asked, [*votes, Text(text="我不知道。", letter=None)])])
    assert scores == [*(known[letters.index(letter)] for letter in "BAB"), 0.0]
    assert len(set(known)) > 1


def test_lomo_trains_a_scorer_too_with_layers_cut_and_embeddings_frozen(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    listener = RecordingListener()
    training = options(
        base, optimizer="lomo", learning_rate=1e-2, epochs=1, layers=1, freeze_embeddings=True, input=BLIND
    )
    made = train(tmp_path, training, training_fixtures.examples(24), listener)
    assert made.metrics["training_loss"] > 0
    assert set(listener.curve("grad_norm")) == {0.0}
    config = json.loads((made.folder / "config.json").read_text("utf-8"))
    assert config["num_hidden_layers"] == 1
    before, after = load_file(base / "model.safetensors"), load_file(made.folder / "model.safetensors")
    changed = {name for name in after.keys() & before.keys() if not after[name].equal(before[name])}
    assert changed
    assert not any("embed_tokens" in name for name in changed)


def test_the_reference_learns_from_texts_alone_and_judges_as_the_recipe_does(
    base: Path, tmp_path: Path
) -> None:
    reference = {**recipes.load("reference", ScorerTraining), "base": str(base), "report_to": ()}
    training = ScorerTraining(**{**reference, "held_out": 0.25, "max_length": 64})
    made = train(tmp_path / "work", training, training_fixtures.examples(24, kind="texts"))
    assert (made.rule, made.comparison) == (GATE, None)
    assert (made.metrics["temperature"], made.metrics["bias"]) == (1.0, 0.0)
    assert "answers" not in made.metrics
    name = training_fixtures.shelved(made, tmp_path / "trained")
    one, other = (
        score(tmp_path / "trained", name, training_fixtures.example(at).asked, RIGHT) for at in (0, 1)
    )
    assert one == pytest.approx(other, abs=1e-3)


# What is found out


@pytest.mark.usefixtures("made")
def test_the_curve_has_loss_rate_and_the_held_out_figures(listener: RecordingListener) -> None:
    assert len(listener.curve("loss")) > 3
    assert len(listener.curve("learning_rate")) == len(listener.curve("loss"))
    assert len(listener.curve("eval_auc")) >= 8
    assert listener.curve("eval_auc")[-1] > 0.95
    assert listener.curve("eval_loss")[-1] < listener.curve("eval_loss")[0]
    assert listener.checkpoints[-1] == listener.steps[-1][:2]


def test_the_best_use_of_the_scores_is_found_and_beats_the_majority(made: TrainedModel) -> None:
    answers = made.metrics["answers"]
    # Of votes ABAAB the majority is A, which is right for every other question.
    assert answers["best"] == 1.0 > answers["majority"]
    assert answers["oracle"] == 1.0
    assert made.comparison is not None
    assert made.comparison.over_majority.gain == 1.0 - answers["majority"]
    assert made.comparison.is_better(0.05)
    assert made.comparison.in_use is None
    assert made.rule is not None
    assert made.rule.use is VotingMode.WEIGHTED
    assert set(made.metrics["thresholds"]) == {"gate", "gate-weighted"}
    assert sum(votes for _, _, votes in made.metrics["calibration"]) == made.metrics["held_out"]


def test_test_votes_decide_and_their_entries_are_never_learned_from(base: Path, tmp_path: Path) -> None:
    # The tests' votes are all right: no scorer can beat their majority.
    tests = [
        training_fixtures.example(at, letters="AB"[at % 2] * 5, test=True).model_copy(
            update={"problem": f"试{at}", "group": f"t{at}"}
        )
        for at in range(4)
    ]
    copies = [example.model_copy(update={"test": False, "source": "copy"}) for example in tests]
    made = train(tmp_path, options(base), [*training_fixtures.examples(40), *copies, *tests])
    assert made.metrics["answers"]["best"] > made.metrics["answers"]["majority"]
    assert made.metrics["test"]["answers"]["majority"] == 1.0
    assert made.comparison is not None
    assert (made.comparison.questions, made.comparison.over_majority.gain) == (4, 0.0)
    assert not made.comparison.is_better(0.05)
    assert made.metrics["dropped"] == 4
    assert not {dataset.identity(example.problem) for example in tests} & set(made.problems)


def test_it_is_compared_with_the_scorer_in_use_on_what_neither_was_trained_on(
    base: Path, made: TrainedModel, trained: Path, tmp_path: Path
) -> None:
    assert made.rule is not None
    model = Model(made.name, "scorer", "judge", "base", "votes", "digest", {}, "0.1.0", {}, made.rule)
    used = ScorerInUse(model, set(made.problems), SoundnessScorer(trained))
    examples, work = training_fixtures.examples(60), training_fixtures.context(tmp_path)
    again = scorer_trainer.train(examples, options(base), str(base), work, lambda: used)
    found = again.comparison
    assert found is not None
    learned = set(made.problems)
    unknown = {dataset.identity(each.problem) for each in examples} - learned - set(again.problems)
    assert (found.questions, found.in_use) == (len(unknown), made.name)
    # Both are right on all of these questions, and the majority on about half.
    assert found.over_in_use is not None
    assert (found.over_in_use.gain, found.over_in_use.p) == (0.0, 1.0)
    assert found.over_majority.gain > 0.3
    assert not found.is_better(0.05)
    assert again.metrics["promotion"] == found.model_dump()


def test_it_is_known_which_problems_were_learned_from(made: TrainedModel) -> None:
    every = {dataset.identity(example.problem) for example in training_fixtures.examples(40)}
    assert set(made.problems) < every
    assert len(made.problems) == 40 - made.metrics["answers"]["questions"]


def test_what_programs_count_is_learned_and_stored_with_the_model(base: Path, tmp_path: Path) -> None:
    found = [
        example.model_copy(
            update={
                "texts": (
                    *example.texts,
                    Text(text="print(1)", letter=example.answer, place=5, voice="program", outcome="result"),
                )
            }
        )
        for example in training_fixtures.examples(40)
    ]
    made = train(tmp_path, options(base, epochs=1), found)
    weights = made.metrics["kind_weights"]
    assert set(weights) == {"program result", "reasoning"}
    assert weights["program result"][UNLABELLED] > weights["reasoning"][UNLABELLED]
    # Of the votes A, B, A, A, B and a right program, the majority is right if the first vote is.
    assert made.metrics["answers"]["weights by kind"] == 1.0 > made.metrics["answers"]["majority"]
    facts = model_store.described(made.folder)
    assert facts["kind_weights"] == {kind: list(values) for kind, values in weights.items()}
    assert facts["agreement"] == list(made.metrics["agreement"])


# A model


def test_a_model_is_complete_safe_and_knows_how_it_was_trained(base: Path, made: TrainedModel) -> None:
    held = {path.name for path in made.folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", model_store.MANIFEST} <= held
    assert not [path for path in made.folder.rglob("*") if path.suffix in {".bin", ".pt", ".pkl", ".pth"}]
    facts = model_store.described(made.folder)
    assert ScorerTraining.model_validate(facts["options"]) == options(base)
    assert facts["temperature"] == made.metrics["temperature"]
    assert made.name == model_store.name_of("scorer", made.folder)


# Judging


def test_whether_the_question_is_seen_is_stored_with_the_model(
    made: TrainedModel, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / made.name, tmp_path / "made")
    facts = model_store.described(tmp_path / "made")
    model_store.describe(tmp_path / "made", {**facts, "options": {**facts["options"], "input": BLIND}})
    blind = model_store.name_of("scorer", tmp_path / "made")
    (tmp_path / "made").rename(tmp_path / blind)
    asked = [training_fixtures.example(at).asked for at in (0, 1)]
    first, second = (logit(score(tmp_path, blind, one, "所以")[0]) for one in asked)
    assert first == pytest.approx(second, abs=1e-3)
    first, second = (logit(score(trained, made.name, one, "所以")[0]) for one in asked)
    assert first != pytest.approx(second, abs=1e-2)


def test_many_votes_score_as_one_by_one_would(made: TrainedModel, trained: Path) -> None:
    asked = [training_fixtures.example(at).asked for at in (0, 1)]
    votes = ["因为" * (at * 3) + closing for at in range(12) for closing in (RIGHT, WRONG, "")]
    together = SoundnessScorer(trained).score(made.name, [(one, read(votes)) for one in asked])
    for one, found in zip(asked, together, strict=True):
        single = [score(trained, made.name, one, vote)[0] for vote in votes]
        assert found == pytest.approx(single, abs=0.03)
    assert max(together[0]) - min(together[0]) > 0.3


@pytest.mark.parametrize("text", ["", " \n", "？" * 5000, "🙂\x00"])
def test_no_text_chokes_it(text: str, made: TrainedModel, trained: Path) -> None:
    scores = score(trained, made.name, training_fixtures.example(0).asked, text, RIGHT)
    assert all(0 <= found <= 1 for found in scores)
    assert SoundnessScorer(trained).score(made.name, []) == []
    assert score(trained, made.name, training_fixtures.example(0).asked) == []


def test_a_long_problem_leaves_room_for_the_vote(made: TrainedModel, trained: Path) -> None:
    asked = PromptQuestion("甲比乙高，" * 500, "谁最高？", ("甲", "乙"))
    right, wrong = score(trained, made.name, asked, RIGHT, WRONG)
    assert right > wrong + 0.3


def test_a_scorer_is_loaded_when_it_is_named_and_not_again(
    made: TrainedModel, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    judge = SoundnessScorer(trained)
    with caplog.at_level(logging.INFO, "workers.models.scorer"):
        for _ in range(3):
            judge.score(made.name, [(training_fixtures.example(0).asked, read([RIGHT]))])
    said = [record.getMessage() for record in caplog.records if record.name == "workers.models.scorer"]
    assert said == [f"scorer {made.name} is loaded"]


def test_a_scorer_that_is_not_there_or_not_whole_is_said_so(
    made: TrainedModel, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotServedHere, match=r"the scorer scorer-0 is not in .*VOTEQUEUE_TRAINED"):
        score(trained, "scorer-0", training_fixtures.example(0).asked, RIGHT)
    shutil.copytree(trained / made.name, tmp_path / made.name)
    (tmp_path / made.name / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(NotServedHere, match="is not what was trained"):
        score(tmp_path, made.name, training_fixtures.example(0).asked, RIGHT)


# What cannot be trained


@pytest.mark.parametrize("letters", ["AA", "BB"])
def test_data_of_one_class_is_refused(letters: str, base: Path, tmp_path: Path) -> None:
    one = [training_fixtures.example(2 * at, letters) for at in range(24)]
    with pytest.raises(Refused, match="both are needed: give more data"):
        train(tmp_path, options(base), one)


def test_too_little_data_to_hold_any_out_is_refused(base: Path, tmp_path: Path) -> None:
    for few in (training_fixtures.examples(1), []):
        for tune in ("all", "head"):
            with pytest.raises(Refused, match=r"both are needed|one of \d+ folds"):
                train(tmp_path, options(base, tune=tune, input=VOTE), few)


def test_votes_that_are_never_both_right_and_wrong_on_one_question_are_refused(
    base: Path, tmp_path: Path
) -> None:
    apart = [training_fixtures.example(at, letters="AA") for at in range(24)]
    with pytest.raises(Refused, match="no question has both right and wrong texts"):
        train(tmp_path, options(base), apart)
    made = train(tmp_path, options(base, balance=False, epochs=1), apart)
    assert made.metrics["trained_on"] > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"learning_rate": 1e8}, "--learning-rate"),
        ({"optimizer": "nonsense"}, "nonsense"),
        ({"base": "/nowhere"}, "/nowhere cannot be loaded"),
        ({"report_to": ("nobody",)}, "--report-to nobody: no such integration, or not installed here"),
    ],
)
def test_a_training_that_cannot_succeed_is_refused_and_makes_nothing(
    changes: dict[str, Any], reason: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=reason):
        train(tmp_path, options(base, **changes), training_fixtures.examples(24))
    assert list(tmp_path.rglob("made")) == []


# Stopping and going on


@pytest.mark.parametrize("tune", ["all", "head"])
def test_a_training_that_is_stopped_goes_on_from_its_checkpoint_and_comes_to_the_same_end(
    tune: str, base: Path, tmp_path: Path
) -> None:
    training = options(base, tune=tune)
    found = training_fixtures.examples(40)
    straight = train(tmp_path / "straight", training, found)
    stopped = RecordingListener(stop=lambda listener: len(listener.curve("loss")) >= 3)
    with pytest.raises(Interrupted):
        train(tmp_path / "work", training, found, stopped)
    last = checkpoints.newest(tmp_path / "work" / "own")
    assert last is not None
    assert stopped.checkpoints[-1][0] == stopped.steps[-1][0]
    again = RecordingListener()
    made = scorer_trainer.train(
        found, training, training.base, training_fixtures.context(tmp_path / "work", again, 2)
    )
    assert again.steps[0][0] > stopped.checkpoints[-1][0] - 1
    assert made.metrics["auc"] == pytest.approx(straight.metrics["auc"], abs=1e-6)
    assert made.metrics["loss"] == pytest.approx(straight.metrics["loss"], rel=1e-3)


def test_what_was_read_of_the_questions_is_not_read_again(base: Path, tmp_path: Path) -> None:
    training = options(base, tune="head", input=ANSWER)
    stopped = RecordingListener(stop=lambda listener: len(listener.steps) >= 1)
    with pytest.raises(Interrupted, match="while it computed hidden states"):
        train(tmp_path, training, training_fixtures.examples(40), stopped)
    assert stopped.checkpoints == [(10, stopped.steps[0][1])]
    again = RecordingListener()
    scorer_trainer.train(
        training_fixtures.examples(40),
        training,
        training.base,
        training_fixtures.context(tmp_path, again, fence=2),
    )
    assert [step for step, _, told in again.steps if not told] == [20, 30, 40]
    # Nor by another training, which reads what is new to it.
    other = RecordingListener()
    place = tmp_path / "other"
    place.mkdir()
    reseeded = options(base, tune="head", input=ANSWER, seed=7)
    scorer_trainer.train(
        training_fixtures.examples(50), reseeded, training.base, TrainingContext(place, 1, 300, other)
    )
    assert [step for step, _, told in other.steps if not told] == [50]


def test_checkpoints_come_by_the_clock(base: Path, tmp_path: Path) -> None:
    listener = RecordingListener()
    context = training_fixtures.context(tmp_path, listener, every=0)
    scorer_trainer.train(training_fixtures.examples(40), options(base, max_steps=7), str(base), context)
    assert [step for step, _ in listener.checkpoints] == [1, 2, 3, 4, 5, 6, 7]
    kept = sorted(tmp_path.glob("own/1/checkpoint-*"))
    assert [path.name for path in kept] == ["checkpoint-6", "checkpoint-7"]
    assert all(map(checkpoints.is_whole, kept))
