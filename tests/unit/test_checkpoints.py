"""Checkpoints: whole or not there, whoever wrote them."""

from pathlib import Path

from workers.training import checkpoints


def write(folder: Path, fence: int, step: int, *, sealed: bool = True) -> Path:
    made = folder / str(fence) / f"checkpoint-{step}"
    (made / "inner").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(b"weights" * step)
    (made / "inner" / "state.json").write_text("{}")
    (made / checkpoints.PICKLED).write_bytes(b"pickle")
    if sealed:
        checkpoints.seal(made)
    return made


def test_the_one_with_the_most_steps_counts_whichever_claim_wrote_it(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path) is None
    last = write(tmp_path, 1, 120)
    write(tmp_path, 2, 20)
    assert checkpoints.newest(tmp_path) == last


def test_one_that_was_never_finished_does_not_count(tmp_path: Path) -> None:
    good = write(tmp_path, 1, 5)
    write(tmp_path, 1, 10, sealed=False)
    (tmp_path / "1" / "checkpoint-15").mkdir()
    assert checkpoints.newest(tmp_path) == good


def test_one_whose_file_is_missing_or_cut_off_does_not_count(tmp_path: Path) -> None:
    for at, spoil in enumerate((Path.unlink, lambda path: path.write_bytes(b"wei"))):
        made = write(tmp_path / str(at), 1, 5)
        assert checkpoints.is_whole(made)
        spoil(made / "model.safetensors")
        assert not checkpoints.is_whole(made)
        assert checkpoints.newest(tmp_path / str(at)) is None


def test_a_seal_that_is_no_seal_does_not_count(tmp_path: Path) -> None:
    made = write(tmp_path, 1, 5)
    for text in ("", "{}", "[", '{"gone": 3}'):
        (made / checkpoints.SEAL).write_text(text)
        assert not checkpoints.is_whole(made)


def test_nothing_that_is_pickled_stays_in_it_but_what_the_trainer_reads_without_unpickling(
    tmp_path: Path,
) -> None:
    made = write(tmp_path, 1, 5)
    assert {path.name for path in made.rglob("*") if path.is_file()} == {
        "model.safetensors",
        "state.json",
        checkpoints.SEAL,
    }
