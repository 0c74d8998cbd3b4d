"""How fast and how small reading each kind of file is: `python -m tests.bench.inputs [ROWS] [KIND ...]`.

ceval.csv: 100000 questions, 13.4 s of CPU to check, 12.9 s to read again (1.1 x); peak 87 MiB (1.0 x)

The ratios are to our own JSON Lines, which are read first. Of a million rows, measure JSON Lines only:
`python -m tests.bench.inputs 1000000 votequeue.jsonl`.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from producers.enqueue import inputs
from tests import format_fixtures
from tests.integration import run_fixtures

PROBLEM = "有一群人和一些食物类型。下列是关于这些个体和食物的已知信息：" * 8
OWN = [run_fixtures.entry("p1", "AB")]
CONTAINERS = {
    "mmlu": (".jsonl", ".json", ".jsonl.gz", ".jsonl.zst", ".parquet", ".hf"),
    "cmmlu": (".csv", ".tsv"),
    "ceval": (".csv",),
    "mmlu-csv": (".csv",),
    "logiqa-text": (".txt",),
    "ar-lsat": (".json",),
    "lsat": (".json",),
}


def rows(layout: str, count: int) -> Iterator[Any]:
    """Make different rows of one layout."""
    samples = [sample.before[0] for sample in format_fixtures.SAMPLES if sample.layout == layout]
    made = samples[0] if samples else OWN[0]
    return (renamed(made, at) for at in range(count))


def write(path: Path, made: Iterator[Any]) -> Path:
    """Write rows; those of JSON Lines one by one, since a million take gigabytes together."""
    if path.suffix != ".jsonl":
        return format_fixtures.write(path, list(made))
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
    return path


def renamed(row: Any, at: int) -> Any:
    """Give a copy of a row with another id, and a problem or question as long as real ones."""
    if isinstance(row, list):
        return [f"{PROBLEM}{at}" if text == format_fixtures.QUESTION else text for text in row]
    texts = dict.fromkeys(("problem", "passage", "context", "article", "text", "Question"), f"{PROBLEM}{at}")
    texts |= {} if texts.keys() & row.keys() else {"question": f"{PROBLEM}{at}"}
    ids = {"id": f"m{at}", "id_string": f"2000_{at}-G_1_1", "": str(at)}
    new = {**texts, **ids}
    return {name: new.get(name, value) if isinstance(value, str) else value for name, value in row.items()}


def measure(path: Path) -> None:
    """Check a file and read it again, as `enqueue` does; print questions, seconds, seconds and peak MiB."""
    begun = time.process_time()
    (source,) = inputs.check([path])
    checked = time.process_time()
    deque(source.lines(), maxlen=0)
    again = time.process_time() - checked
    # Of this program alone; `resource` counts what it was forked from too.
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    peak = int(line.split()[1]) / 1024
    print(json.dumps([source.questions, checked - begun, again, peak]))


def main(count: int, chosen: list[str]) -> None:
    """Measure each kind of file in a process of its own."""
    reference = None
    with tempfile.TemporaryDirectory() as folder:
        for layout in ("votequeue", *(sample.layout for sample in format_fixtures.SAMPLES)):
            for suffix in CONTAINERS.get(layout, (".jsonl",)):
                name = f"{layout}{suffix}"
                if reference and chosen and name not in chosen:
                    continue
                path = write(Path(folder, name), rows(layout, count))
                own = [sys.executable, "-m", "tests.bench.inputs", "--measure", str(path)]
                ended = subprocess.run(own, check=True, stdout=subprocess.PIPE)
                questions, check, again, peak = figures = json.loads(ended.stdout)
                reference = reference or figures
                time_ratio = (check + again) / (reference[1] + reference[2])
                print(
                    f"{name}: {questions} questions, {check:.1f} s of CPU to check, "
                    f"{again:.1f} s to read again ({time_ratio:.1f} x); peak {peak:.0f} MiB "
                    f"({peak / reference[3]:.1f} x)",
                    flush=True,
                )
                shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, sys.argv[2:])
