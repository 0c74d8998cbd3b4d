"""Small files of every layout, each with the row as it looks once its questions are answered with B.

"arc.jsonl"  ->  {"id": "m1", "question": "……", "choices": {...}, "answerKey": "2"}
"""

import csv
import gzip
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPTIONS = ["甲最高", "乙最高", "丙最高", "丁最高"]
PROBLEM, QUESTION = "甲比乙高，乙比丙高。", "谁最高？"


@dataclass(frozen=True)
class Sample:
    """Rows in one layout, as they go in and as they come out, and the letters that they come with."""

    layout: str
    before: list[Any]
    after: list[Any]
    letters: str
    entries: int = 0


def _rows(layout: str, answer: str, gold: Any, filled: Any, **fields: Any) -> Sample:
    """Make two rows, one labelled A and one unlabelled."""
    before = [{**fields, "id": f"m{at}", answer: value} for at, value in enumerate((gold, None), 1)]
    return Sample(layout, before, [{**row, answer: filled} for row in before], "A-")


_LETTERED = dict(zip("ABCD", OPTIONS, strict=True))
_LSAT = {"context": PROBLEM, "question": QUESTION, "answers": OPTIONS}
_BLOCKS = [
    [letter, PROBLEM, QUESTION, *(f"{key}.{text}" for key, text in _LETTERED.items())] for letter in "ac"
]

SAMPLES = [
    _rows("agieval", "label", "A", "B", passage=None, question=QUESTION, options=OPTIONS),
    _rows("mmlu", "answer", 0, 1, question=QUESTION, subject="logic", choices=OPTIONS),
    _rows("ceval", "answer", "A", "B", question=QUESTION, **_LETTERED, explanation=""),
    _rows(
        "arc",
        "answerKey",
        "1",
        "2",
        question=QUESTION,
        choices={"text": OPTIONS, "label": ["1", "2", "3", "4"]},
    ),
    _rows(
        "arc-original",
        "answerKey",
        "1",
        "2",
        question={
            "stem": QUESTION,
            "choices": [{"text": text, "label": str(at)} for at, text in enumerate(OPTIONS, 1)],
        },
    ),
    _rows("logiqa2", "answer", 0, 1, text=PROBLEM, question=QUESTION, options=OPTIONS, type={}),
    _rows("logiqa-index", "correct_option", 0, 1, context=PROBLEM, query=QUESTION, options=OPTIONS),
    _rows("logiqa-letter", "label", "a", "b", context=PROBLEM, question=QUESTION, options=OPTIONS),
    _rows("race", "answer", "A", "B", article=PROBLEM, question=QUESTION, options=OPTIONS),
    Sample(
        "lsat",
        [{**_LSAT, "label": 0, "id_string": f"2000_1-G_1_{at}"} for at in (1, 2)],
        [{**_LSAT, "label": 1, "id_string": f"2000_1-G_1_{at}"} for at in (1, 2)],
        "AA",
        entries=1,
    ),
    Sample(
        "ar-lsat",
        [
            {
                "id": "g1",
                "passage": PROBLEM,
                "questions": [{"question": QUESTION, "options": OPTIONS, "answer": "A"}],
            }
        ],
        [
            {
                "id": "g1",
                "passage": PROBLEM,
                "questions": [{"question": QUESTION, "options": OPTIONS, "answer": "B"}],
            }
        ],
        "A",
    ),
    Sample(
        "race-article",
        [
            {
                "id": "h1",
                "article": PROBLEM,
                "questions": [QUESTION] * 2,
                "options": [OPTIONS] * 2,
                "answers": ["A", "C"],
            }
        ],
        [
            {
                "id": "h1",
                "article": PROBLEM,
                "questions": [QUESTION] * 2,
                "options": [OPTIONS] * 2,
                "answers": ["B", "B"],
            }
        ],
        "AC",
    ),
    Sample(
        "cmmlu",
        [{"": "0", "Question": QUESTION, **_LETTERED, "Answer": "A"}],
        [{"": "0", "Question": QUESTION, **_LETTERED, "Answer": "B"}],
        "A",
    ),
    Sample("mmlu-csv", [[QUESTION, *OPTIONS, "A"]], [[QUESTION, *OPTIONS, "B"]], "A"),
    Sample("logiqa-text", _BLOCKS, [["b", *lines[1:]] for lines in _BLOCKS], "AC"),
]


def lines(rows: list[Any]) -> str:
    """Write rows as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows: list[Any], delimiter: str = ",") -> str:
    """Write rows as a table, with a header if they have names."""
    file = io.StringIO()
    out = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    out.writerows([list(rows[0]), *(row.values() for row in rows)] if isinstance(rows[0], dict) else rows)
    return file.getvalue()


def blocks(rows: list[list[str]]) -> str:
    """Write rows as LogiQA's blocks of text."""
    return "".join("\n" + "".join(f"{line}\n" for line in row) for row in rows)


def write(path: Path, rows: list[Any]) -> Path:
    """Write rows by the file's ending."""
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".hf":
        import datasets

        datasets.disable_progress_bars()
        datasets.Dataset.from_list(rows).save_to_disk(path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines(rows).encode()))
    elif path.suffix == ".zst":
        import pyarrow

        with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
            file.write(lines(rows).encode())
    else:
        made = {".json": json.dumps(rows, indent=1), ".txt": "", ".csv": "", ".tsv": ""}.get(path.suffix)
        if made == "":
            made = (
                blocks(rows) if path.suffix == ".txt" else table(rows, "\t" if path.suffix == ".tsv" else ",")
            )
        path.write_text(lines(rows) if made is None else made, "utf-8")
    return path


def read(path: Path) -> list[Any]:
    """Read the rows of a file that `collect` wrote, by its ending."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        rows: list[Any] = parquet.read_table(path).to_pylist()
        return rows
    if path.suffix == ".hf":
        import datasets

        return list(datasets.load_from_disk(str(path)))
    if path.suffix == ".zst":
        import pyarrow

        with pyarrow.input_stream(str(path), compression="zstd") as stream:
            text = stream.read().decode()
    elif path.suffix == ".gz":
        text = gzip.decompress(path.read_bytes()).decode()
    else:
        text = path.read_text("utf-8")
    if path.suffix == ".json":
        loaded: list[Any] = json.loads(text)
        return loaded
    return [json.loads(line) for line in text.splitlines()]
