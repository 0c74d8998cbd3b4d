"""Write data sets as JSON Lines, Parquet (``.parquet``) or a folder of Hugging Face's `datasets` (``.hf``).

    write(entries, Path("train.parquet"), "correct")  ->  WrittenFile(entries=1204, left_out=["source"])

A table has one schema: the documented fields, with ids as text. Other fields are dropped and listed. Files
are written atomically.
"""

import contextlib
import importlib.util
import itertools
import json
import os
import shutil
import tempfile
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import dataset, legacy_entries
from shared.dataset import Entry, Provenance, Question, TextProvenance, WrongReasoning
from shared.errors import UserError

PARQUET, FOLDER = ".parquet", ".hf"
_CHUNK = 500  # entries written at once
_MARK = "WrittenFile by votequeue collect"
Rows = Iterator[list[dict[str, Any]]]


@dataclass(frozen=True)
class WrittenFile:
    """The number of entries in a file, and the fields that its schema lacks."""

    entries: int
    left_out: list[str]


def require(path: Path) -> None:
    """Refuse a path or format that cannot be written.

    Raises:
        UserError: the path is not writable, or a package is missing.
    """
    if path.suffix in (PARQUET, FOLDER) and importlib.util.find_spec("datasets") is None:
        raise UserError(f"{path.suffix} needs the package datasets: pip install 'votequeue[collect]'")
    if not path.parent.is_dir():
        raise UserError(f"folder {path.parent} does not exist: create it first")
    if path.suffix != FOLDER:
        dataset.require_writable(path)
    elif path.exists() and not _is_ours(path):
        raise UserError(f"{path} exists and was not written by `votequeue collect`: choose another path")


def _is_ours(folder: Path) -> bool:
    try:
        info = json.loads((folder / "dataset_info.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(info, dict) and str(info.get("description")).startswith(_MARK)


# Fields that `collect --fields` adds to questions, with their types in tables.
ADDED = {"confidence": float, "support": int, "outcome": str}


def write(entries: Iterable[dict[str, Any]], path: Path, run: str, added: Sequence[str] = ()) -> WrittenFile:
    """Write entries atomically in the format of the path's suffix, by default JSON Lines.

    ``added`` names the fields of `ADDED` that the questions have.

    Raises:
        UserError: the path or format cannot be written, the disk is full, or a table would be empty.
    """
    require(path)
    if path.suffix not in (PARQUET, FOLDER):
        return WrittenFile(dataset.write(entries, path), [])
    counted = _Table(entries, added)
    _write_table(counted.rows(), _features(added), path, run)
    return WrittenFile(counted.count, sorted(counted.left_out))


def write_table(
    rows: Iterable[dict[str, Any]], columns: Mapping[str, Any], path: Path, run: str
) -> WrittenFile:
    """Write plain rows atomically, like `write`; ``columns`` gives their types."""
    require(path)
    if path.suffix not in (PARQUET, FOLDER):
        return WrittenFile(dataset.write(rows, path), [])
    from datasets import Features

    counted = _Rows(rows)
    features = Features({name: _value(kind) for name, kind in columns.items()})
    _write_table(counted.rows(), features, path, run)
    return WrittenFile(counted.count, [])


def _write_table(rows: Rows, features: Any, path: Path, run: str) -> None:
    (_write_parquet if path.suffix == PARQUET else _write_folder)(rows, features, path, run)


class _Rows:
    """Streams plain rows in chunks and counts them."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self._rows = iter(rows)
        self.count = 0

    def rows(self) -> Rows:
        while chunk := list(itertools.islice(self._rows, _CHUNK)):
            self.count += len(chunk)
            yield [
                {name: _text(value) if isinstance(value, str) else value for name, value in row.items()}
                for row in chunk
            ]


class _Table:
    """Streams entries as rows of one schema and records dropped fields."""

    def __init__(self, entries: Iterable[dict[str, Any]], added: Sequence[str]) -> None:
        self._entries, self._added = iter(entries), added
        self.count = 0
        self.left_out: set[str] = set()

    def rows(self) -> Rows:
        while chunk := [self._row(entry) for entry in itertools.islice(self._entries, _CHUNK)]:
            self.count += len(chunk)
            yield chunk

    def _row(self, entry: dict[str, Any]) -> dict[str, Any]:
        entry = legacy_entries.renamed(entry)
        questions = [self._question(question) for question in entry["questions"]]
        row = self._known({**entry, "questions": None}, Entry.model_fields)
        note = self._note(entry.get("votequeue"), Provenance.model_fields, "votequeue.")
        plain = {name: _text(value) for name, value in row.items()}
        return plain | {"questions": questions, "votequeue": note}

    def _question(self, question: dict[str, Any]) -> dict[str, Any]:
        row = self._known(question, (*Question.model_fields, *self._added), "questions.")
        nested = {
            "options": [_text(option) for option in question["options"]],
            "wrong": [self._wrong(wrong) for wrong in question.get("wrong") or ()],
            "votequeue": self._note(
                question.get("votequeue"), TextProvenance.model_fields, "questions.votequeue."
            ),
        }
        nested |= {name: row[name] for name in self._added}
        return {name: _text(value) for name, value in row.items() if name not in nested} | nested

    def _wrong(self, wrong: dict[str, Any]) -> dict[str, Any]:
        row = self._known(wrong, WrongReasoning.model_fields, "questions.wrong.")
        note = self._note(wrong.get("votequeue"), TextProvenance.model_fields, "questions.wrong.votequeue.")
        return {name: _text(value) for name, value in row.items()} | {"votequeue": note}

    def _note(self, note: dict[str, Any] | None, fields: Iterable[str], prefix: str) -> dict[str, Any] | None:
        if note is None:
            return None
        return {name: _text(value) for name, value in self._known(note, fields, prefix).items()}

    def _known(self, record: dict[str, Any], fields: Iterable[str], prefix: str = "") -> dict[str, Any]:
        names = set(fields)
        self.left_out |= {prefix + name for name in record.keys() - names}
        return {name: record.get(name) for name in names}


def _text(value: Any) -> str | None:
    # A lone surrogate has no UTF-8 encoding; escape it as JSON Lines does.
    return None if value is None else str(value).encode("utf-8", "backslashreplace").decode()


def _value(kind: Any) -> Any:
    from datasets import Value

    names = {int: "int64", float: "float64", bool: "bool"}
    kinds = {*typing.get_args(kind), kind}
    return Value(next((name for type_, name in names.items() if type_ in kinds), "string"))


def _features(added: Sequence[str] = ()) -> Any:
    from datasets import Features, List, Value

    text = Value("string")
    text_provenance = dict.fromkeys(TextProvenance.model_fields, text)
    wrong = {"answer": text, "reasoning": text, "votequeue": text_provenance}
    plain = dict.fromkeys(("question", "answer", "reasoning"), text)
    question = {**plain, "options": List(text), "wrong": List(wrong), "votequeue": text_provenance}
    question |= {name: _value(ADDED[name]) for name in added}
    provenance = dict.fromkeys(Provenance.model_fields, text)
    return Features({"id": text, "problem": text, "questions": List(question), "votequeue": provenance})


def _write_parquet(rows: Rows, features: Any, path: Path, run: str) -> None:
    from pyarrow import RecordBatch, parquet

    schema = features.arrow_schema
    with dataset.writing(path) as file, parquet.ParquetWriter(file.buffer, schema) as out:
        for chunk in rows:
            out.write_batch(RecordBatch.from_pylist(chunk, schema=schema))


def _write_folder(rows: Rows, features: Any, path: Path, run: str) -> None:
    path = Path(os.path.realpath(path))  # write to the target of a symbolic link
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as workshop:
            built = Path(workshop, "made")
            _save(rows, features, Path(workshop, "rows.arrow"), built, f"{_MARK} from run {run}.")
            _swap(built, path, Path(workshop, "before"))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def _save(rows: Rows, features: Any, stream: Path, folder: Path, description: str) -> None:
    import datasets
    from pyarrow import RecordBatch, ipc

    schema = features.arrow_schema
    with stream.open("wb") as file, ipc.new_stream(file, schema) as out:
        for chunk in rows:
            out.write_batch(RecordBatch.from_pylist(chunk, schema=schema))
    data_set = datasets.Dataset.from_file(str(stream), info=datasets.DatasetInfo(description=description))
    if not len(data_set):
        raise UserError(f"there is nothing to write yet, and `datasets` cannot load an empty {FOLDER}")
    with _no_bars(datasets):
        data_set.save_to_disk(folder)


@contextlib.contextmanager
def _no_bars(datasets: Any) -> Iterator[None]:
    enabled: bool = datasets.is_progress_bar_enabled()
    set_back: Callable[[], None] = (
        datasets.enable_progress_bars if enabled else datasets.disable_progress_bars
    )
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        set_back()


def _swap(built: Path, path: Path, before: Path) -> None:
    if not path.exists():
        built.rename(path)
        return
    path.rename(before)
    try:
        built.rename(path)
    except OSError:
        before.rename(path)
        raise
    shutil.rmtree(before)
