"""What goes wrong with a training, in words that help."""

import errno
from pathlib import Path

import pytest

from shared.errors import Refused
from workers.training import training_errors


def chained(cause: Exception, error: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: not enough memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        chained(MemoryError(), ValueError("something else")),
    ],
)
def test_a_want_of_memory_is_told_with_what_to_do(error: Exception, tmp_path: Path) -> None:
    said = training_errors.explained(error, tmp_path)
    assert said is not None
    assert "--batch-size" in said


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
    ],
)
def test_a_full_disk_is_told_with_its_place(error: Exception, tmp_path: Path) -> None:
    said = training_errors.explained(error, tmp_path)
    assert said is not None
    assert "the disk is full" in said
    assert str(tmp_path) in said


def test_what_nobody_can_mend_is_not_explained_away(tmp_path: Path) -> None:
    assert training_errors.explained(ZeroDivisionError("division by zero"), tmp_path) is None
    assert training_errors.explained(OSError(errno.EACCES, "Permission denied"), tmp_path) is None


def test_too_little_room_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    training_errors.require_room(tmp_path, 1)
    with pytest.raises(Refused, match=r"the disk is full: 1073741824 MiB are needed below .*, \d+ are free"):
        training_errors.require_room(tmp_path, 2**50)
