"""The scorer, really trained on tiny weights: what a version holds, and how it judges."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shared.errors import Refused, UserError
from shared.jobs import ScorerTraining
from shared.prompts import Asked
from tests import tiny
from workers.models import scorer, scorer_training
from workers.models.scorer import SoundnessScorer
from workers.models.scorer_training import Example, Interrupted

QUESTION = Asked("甲比乙高。", "谁高？", ("甲", "乙"))
OTHER = Asked("Alice is taller than Bob.", "谁最高？", ("是", "否", "以上都不对"))
SOUND, UNSOUND = "所以甲最高。", "推理是错误的，选乙。"
THRESHOLD = 0.5


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("weights"))


def options(base: Path, /, **changes: Any) -> ScorerTraining:
    values: dict[str, Any] = {
        "base": str(base),
        "input": "question+reasoning",
        "layers": None,
        "freeze_embeddings": False,
        "epochs": 6,
        "learning_rate": 5e-3,
        "batch_size": 8,
        "max_length": 64,
        "optimizer": "adamw_torch",
        "held_out": 0.3,
        "seed": 42,
    }
    return ScorerTraining(**{**values, **changes})


def texts(entries: int, kind: str = "question+reasoning") -> list[Example]:
    """Make one sound and one unsound text an entry, of many lengths, in an order that tells nothing."""
    made = []
    for at in range(entries):
        for sound, closing in ((True, SOUND), (False, UNSOUND)):
            text = scorer.fed(QUESTION, "因为" * (at * 7 % 5) + closing, kind)
            made.append(Example(text, sound, f"p{at}"))
    return made


def train(
    folder: Path, training: ScorerTraining, examples: Sequence[Example], **more: Any
) -> tuple[str, Any]:
    return scorer_training.train(examples, training, training.base, folder, **more)


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train one version with the question, by AdamW; give the folder of versions."""
    folder = tmp_path_factory.mktemp("scorers")
    train(folder, options(base), texts(24))
    return folder


def judge(folder: Path, wanted: str = "newest", batch: int = 16) -> SoundnessScorer:
    made = SoundnessScorer(folder, wanted, batch)
    assert made.refresh()
    return made


# A version


def test_a_version_is_complete_and_knows_how_it_was_trained(base: Path, trained: Path) -> None:
    (name,) = scorer.versions(trained)
    folder = trained / name
    held = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "training.json", "metrics.json"} <= held
    assert not [path for path in folder.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]
    assert [path.name for path in trained.iterdir()] == [name]
    assert ScorerTraining.model_validate_json((folder / "training.json").read_text("utf-8")) == options(base)
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert {"loss", "accuracy", "auc"} <= metrics.keys()
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["Qwen2ForSequenceClassification"]
    assert config["dtype"] == "bfloat16"


def test_it_learns_to_tell_sound_from_unsound_and_its_metrics_say_so(trained: Path) -> None:
    metrics = json.loads((trained / scorer.versions(trained)[0] / "metrics.json").read_text("utf-8"))
    assert metrics["loss"] < 0.3
    assert metrics["auc"] > 0.95
    assert metrics["trained_on"] + metrics["held_out"] == 48
    sound, unsound = judge(trained).score([(QUESTION, SOUND), (QUESTION, UNSOUND)])
    assert 0 <= unsound < 0.3 < 0.7 < sound <= 1


def test_the_metrics_are_those_of_the_held_out_texts(base: Path, trained: Path) -> None:
    from sklearn.metrics import roc_auc_score

    metrics = json.loads((trained / scorer.versions(trained)[0] / "metrics.json").read_text("utf-8"))
    training = options(base)
    _, kept = scorer_training.split(texts(24), training.held_out, training.seed)
    # The text was fed already: what a question adds to it here is cut off by taking it as it is.
    made = judge(trained)
    rows = [made._tokens(example.text) for example in kept]
    scores = [made._forward([row])[0] for row in rows]
    labels = [example.sound for example in kept]
    right = [(score >= THRESHOLD) == label for score, label in zip(scores, labels, strict=True)]
    assert metrics["held_out"] == len(kept)
    assert metrics["accuracy"] == pytest.approx(sum(right) / len(right))
    assert metrics["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=0.05)


def test_lomo_trains_a_version_too_with_layers_cut_and_embeddings_frozen(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    training = options(
        base,
        optimizer="lomo",
        learning_rate=1e-2,
        epochs=1,
        layers=1,
        freeze_embeddings=True,
        input="reasoning",
    )
    name, metrics = train(tmp_path, training, texts(12, "reasoning"))
    assert name == scorer.versions(tmp_path)[0]
    assert metrics["training_loss"] > 0
    config = json.loads((tmp_path / name / "config.json").read_text("utf-8"))
    assert config["num_hidden_layers"] == 1
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / name / "model.safetensors")
    changed = {name for name in after.keys() & before.keys() if not after[name].equal(before[name])}
    assert changed
    assert not any("embed_tokens" in name for name in changed)
    assert all(0 <= score <= 1 for score in judge(tmp_path).score([(QUESTION, SOUND), (OTHER, UNSOUND)]))


# What it is fed


@pytest.fixture(scope="module")
def blind(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a version like `trained` whose stored input is the reasoning alone."""
    folder = tmp_path_factory.mktemp("blind")
    name = scorer.versions(trained)[0]
    shutil.copytree(trained / name, folder / name)
    path = folder / name / "training.json"
    stored = {**json.loads(path.read_text("utf-8")), "input": "reasoning"}
    path.write_text(json.dumps(stored), encoding="utf-8")
    return folder


def test_whether_the_question_is_seen_is_stored_with_the_model(trained: Path, blind: Path) -> None:
    both = [(QUESTION, SOUND), (OTHER, SOUND)]
    first, second = judge(blind).score(both)
    assert first == pytest.approx(second, abs=0.01)
    seen = judge(trained)
    assert seen._tokens(scorer.fed(QUESTION, "是", "question+reasoning")) != seen._tokens("是")
    assert scorer.fed(QUESTION, "是", "question+reasoning") != scorer.fed(OTHER, "是", "question+reasoning")


def test_micro_batches_score_as_one_by_one_would(trained: Path) -> None:
    batch = [
        (asked, "因为" * (at * 3) + closing)
        for at in range(3)
        for asked in (QUESTION, OTHER)
        for closing in (SOUND, UNSOUND, "")
    ]
    alone = judge(trained)
    single = [alone.score([one])[0] for one in batch]
    assert judge(trained, batch=4).score(batch) == pytest.approx(single, abs=0.02)
    assert max(single) - min(single) > 0.3


@pytest.mark.parametrize("text", ["", " \n", "？" * 5000, "🙂\x00"])
def test_no_text_chokes_it(text: str, trained: Path, blind: Path) -> None:
    for folder in (trained, blind):
        scores = judge(folder).score([(QUESTION, text), (QUESTION, SOUND)])
        assert all(0 <= score <= 1 for score in scores)
    assert judge(trained).score([]) == []


def test_of_a_long_text_the_end_is_judged(trained: Path) -> None:
    made = judge(trained)
    long, short = made._tokens("甲比乙高，" * 200 + SOUND), made._tokens(SOUND)
    assert len(long) == 64
    assert long[-len(short) :] == short


# Which version


def test_the_newest_is_taken_or_the_one_named_and_a_newer_one_as_it_appears(
    trained: Path, tmp_path: Path
) -> None:
    made = scorer.versions(trained)[0]
    for name in ("20260101-000000-aaaaaa", "20260301-000000-bbbbbb"):
        shutil.copytree(trained / made, tmp_path / name)
    newest, named = SoundnessScorer(tmp_path), SoundnessScorer(tmp_path, "20260101-000000-aaaaaa")
    assert newest.refresh() == "20260301-000000-bbbbbb"
    assert named.refresh() == "20260101-000000-aaaaaa"
    (tmp_path / ".training-1" / "version").mkdir(parents=True)
    (tmp_path / "20260501-000000-unfinished").mkdir()
    shutil.copytree(trained / made, tmp_path / "20260401-000000-cccccc")
    assert newest.refresh() == "20260401-000000-cccccc"
    assert named.refresh() == "20260101-000000-aaaaaa"
    assert len(newest.score([(QUESTION, SOUND)])) == 1


def test_before_any_is_trained_it_says_so_once_and_takes_the_first(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "scorers"
    waiting = SoundnessScorer(folder)
    with caplog.at_level(logging.WARNING, "workers.models.scorer"):
        assert [waiting.refresh() for _ in range(3)] == [None] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "no scorer is trained yet: every readable vote is accepted"
    ]
    shutil.copytree(trained, folder)
    assert waiting.refresh() == scorer.versions(trained)[0]


def test_a_version_that_is_not_there_or_is_damaged_is_said_so(trained: Path, tmp_path: Path) -> None:
    name = scorer.versions(trained)[0]
    with pytest.raises(
        UserError, match=f"no scorer is called 's9' in .*there are: {name}: .*VOTEQUEUE_SCORER"
    ):
        SoundnessScorer(trained, "s9").refresh()
    shutil.copytree(trained / name, tmp_path / name)
    (tmp_path / name / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        SoundnessScorer(tmp_path).refresh()


# The split


def test_an_entry_is_held_out_as_a_whole_and_the_same_ones_every_time() -> None:
    examples = texts(200)
    learned, kept = scorer_training.split(examples, 0.2, 42)
    assert {one.group for one in learned}.isdisjoint(one.group for one in kept)
    assert sorted(map(id, learned + kept)) == sorted(map(id, examples))
    assert 0.1 < len(kept) / len(examples) < 0.3
    # Whatever else is in the data, and in whatever order.
    _, again = scorer_training.split(examples[::-1][:300], 0.2, 42)
    assert {one.group for one in again} <= {one.group for one in kept}
    _, other = scorer_training.split(examples, 0.2, 43)
    assert {one.group for one in other} != {one.group for one in kept}


@pytest.mark.parametrize("sound", [True, False])
def test_data_of_one_class_is_refused(sound: bool, base: Path, tmp_path: Path) -> None:
    examples = [example for example in texts(24) if example.sound == sound]
    with pytest.raises(Refused, match="both are needed: give more data"):
        train(tmp_path, options(base), examples)
    assert list(tmp_path.iterdir()) == []


def test_too_little_data_to_hold_any_out_is_refused(base: Path, tmp_path: Path) -> None:
    for examples in (texts(1), []):
        with pytest.raises(Refused, match="both are needed"):
            train(tmp_path, options(base), examples)


# What does not come to its end


def test_an_interrupted_training_leaves_nothing(base: Path, tmp_path: Path) -> None:
    asked: list[int] = []

    def stopping() -> bool:
        asked.append(1)
        return len(asked) >= 2

    with pytest.raises(Interrupted):
        train(tmp_path, options(base), texts(24), stopping=stopping)
    assert len(asked) <= 4  # it did not go on to the end first
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"learning_rate": 1e8}, "diverged.*lower the learning rate"),
        ({"optimizer": "nonsense"}, "nonsense"),
        ({"base": "/nowhere"}, "/nowhere cannot be loaded"),
    ],
)
def test_a_training_that_cannot_succeed_is_refused_and_leaves_nothing(
    changes: dict[str, Any], reason: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=reason):
        train(tmp_path, options(base, **changes), texts(12))
    assert list(tmp_path.iterdir()) == []
