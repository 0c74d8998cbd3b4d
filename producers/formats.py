"""Write data sets as Parquet (``.parquet``), a folder of Hugging Face's `datasets` (``.hf``), or text.

    write(entries, Path("train.parquet"), "correct")  ->  WrittenFile(entries=1204, left_out=["source"])

A table of entries has one schema: the documented fields, with ids as text. Other fields are dropped and
listed. A table of rows in another layout has the schema of the run's Parquet file, or of all rows together.
Files are written atomically; `row_writers` writes text.
"""

import contextlib
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

from producers import containers, row_writers
from shared import dataset, json_text, legacy_entries
from shared.dataset import Provenance, TextProvenance
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
    if path.suffix in (PARQUET, FOLDER):
        containers.require_datasets(path.suffix)
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
ADDED = {"confidence": float, "probability": float, "support": int, "outcome": str}


def write(entries: Iterable[dict[str, Any]], path: Path, run: str, added: Sequence[str] = ()) -> WrittenFile:
    """Write entries atomically in the format of the path's suffix, by default JSON Lines.

    ``added`` names the fields of `ADDED` that the questions have.

    Raises:
        UserError: the path or format cannot be written, the disk is full, or a table would be empty.
    """
    require(path)
    if not is_table(path):
        return WrittenFile(row_writers.write(entries, path), [])
    features, left_out = _features(added), set[str]()
    rows = (_fitted(legacy_entries.renamed(entry), features, "", left_out) for entry in entries)
    count = _write_table(_chunks(rows), path, run, features.arrow_schema)
    return WrittenFile(count, sorted(left_out))


def is_table(path: Path) -> bool:
    """Tell whether a file is a table with one schema."""
    return path.suffix in (PARQUET, FOLDER)


def write_table(
    rows: Iterable[dict[str, Any]], columns: Mapping[str, Any], path: Path, run: str
) -> WrittenFile:
    """Write plain rows atomically, like `write`; ``columns`` gives their types."""
    require(path)
    if not is_table(path):
        return WrittenFile(row_writers.write(rows, path), [])
    plain = (
        {name: _text(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in rows
    )
    return WrittenFile(_write_table(_chunks(plain), path, run, _typed(columns)), [])


def write_rows(
    rows: Callable[[], Iterator[Any]], path: Path, run: str, source: Path, added: Sequence[str] = ()
) -> WrittenFile:
    """Write rows of any layout; ``rows`` is called again for a second pass, ``source`` is the run's input.

    ``added`` names the fields of `ADDED` that the rows have, after those of the input.

    Raises:
        UserError: as `write`, or the rows have no common schema.
    """
    require(path)
    if not is_table(path):
        return WrittenFile(row_writers.write(rows(), path), [])
    schema = _schema_of_file(source, rows, added) or _schema_of(rows(), path, added)
    return WrittenFile(_write_table(_chunks(map(_plain, rows())), path, run, schema), [])


def _chunks(rows: Iterator[Any]) -> Rows:
    while chunk := list(itertools.islice(rows, _CHUNK)):
        yield chunk


def _plain(value: Any) -> Any:
    """Convert the numbers that `json_text` keeps as text."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return float(value.text) if isinstance(value, json_text.Number) else value


def _schema_of(rows: Iterator[Any], path: Path, added: Sequence[str]) -> Any:
    import pyarrow

    schema = pyarrow.schema([])
    try:
        for chunk in _chunks(map(_plain, rows)):
            found = pyarrow.Table.from_pylist(chunk).schema
            schema = pyarrow.unify_schemas([schema, found], promote_options="permissive")
    except (pyarrow.ArrowException, AttributeError, OverflowError, TypeError) as error:
        what = "no column names" if isinstance(error, AttributeError) else str(error).splitlines()[0]
        raise UserError(f"{path}: the rows are no table ({what}): write .jsonl, .json or .csv") from None
    # Without a value yet, added fields have no type of their own.
    typed = _typed({name: ADDED[name] for name in added})
    return pyarrow.schema([typed.field(field.name) if field.name in added else field for field in schema])


def _typed(columns: Mapping[str, Any]) -> Any:
    from datasets import Features

    return Features({name: _value(kind) for name, kind in columns.items()}).arrow_schema


def _schema_of_file(source: Path, rows: Callable[[], Iterator[Any]], added: Sequence[str]) -> Any | None:
    """Return the schema of the run's input with its metadata, if the rows come back from it as they are.

    The ``added`` fields follow those of the file.
    """
    from pyarrow import ArrowException

    try:
        schema = containers.arrow_schema(source)
        for field in _typed({name: ADDED[name] for name in added}):
            schema = schema.append(field)
        for chunk in _chunks(map(_plain, rows())):
            read = json.loads(json.dumps(_batch(chunk, schema).to_pylist(), default=str))
            if read != [dict.fromkeys(schema.names) | row for row in chunk]:
                return None
    except (OSError, OverflowError, TypeError, UserError, ArrowException):
        return None
    return schema


def _batch(rows: list[dict[str, Any]], schema: Any) -> Any:
    from pyarrow import RecordBatch

    columns = [_column([row.get(field.name) for row in rows], field.type) for field in schema]
    return RecordBatch.from_arrays(columns, schema=schema)


def _column(values: list[Any], kind: Any) -> Any:
    from pyarrow import ArrowException, array

    try:
        return array(values, kind)
    except ArrowException:
        return array(values).cast(kind)  # dates and decimals are texts in JSON


def _fitted(value: Any, feature: Any, place: str, left_out: set[str]) -> Any:
    """Fit a value to its feature; add the names of the fields that the feature lacks to ``left_out``."""
    from datasets import List

    if isinstance(feature, List):
        return [_fitted(each, feature.feature, place, left_out) for each in value or ()]
    if isinstance(feature, dict) and value is not None:
        left_out |= {place + name for name in value.keys() - feature.keys()}
        return {
            name: _fitted(value.get(name), inner, f"{place}{name}.", left_out)
            for name, inner in feature.items()
        }
    return value if isinstance(feature, dict) or feature.dtype != "string" else _text(value)


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
    plain = dict.fromkeys(("question", "answer", "reasoning", "program"), text)
    sources = {**text_provenance, "program": text_provenance}
    question = {**plain, "options": List(text), "wrong": List(wrong), "votequeue": sources}
    question |= {name: _value(ADDED[name]) for name in added}
    provenance = dict.fromkeys(Provenance.model_fields, text)
    return Features({"id": text, "problem": text, "questions": List(question), "votequeue": provenance})


def _write_table(rows: Rows, path: Path, run: str, schema: Any) -> int:
    if path.suffix == FOLDER:
        return _write_folder(rows, path, run, schema)
    from pyarrow import parquet

    with dataset.writing(path) as file, parquet.ParquetWriter(file.buffer, schema) as out:
        return _write_batches(rows, out, schema)


def _write_batches(rows: Rows, out: Any, schema: Any) -> int:
    count = 0
    for chunk in rows:
        out.write_batch(_batch(chunk, schema))
        count += len(chunk)
    return count


def _write_folder(rows: Rows, path: Path, run: str, schema: Any) -> int:
    path = Path(os.path.realpath(path))  # write to the target of a symbolic link
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as workshop:
            built = Path(workshop, "made")
            count = _save(rows, schema, Path(workshop, "rows.arrow"), built, f"{_MARK} from run {run}.")
            _swap(built, path, Path(workshop, "before"))
            return count
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def _save(rows: Rows, schema: Any, stream: Path, folder: Path, description: str) -> int:
    import datasets
    from pyarrow import ipc

    with stream.open("wb") as file, ipc.new_stream(file, schema) as out:
        count = _write_batches(rows, out, schema)
    data_set = datasets.Dataset.from_file(str(stream), info=datasets.DatasetInfo(description=description))
    if not count:
        raise UserError(f"there is nothing to write yet, and `datasets` cannot load an empty {FOLDER}")
    with _no_bars(datasets):
        data_set.save_to_disk(folder)
    return count


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
