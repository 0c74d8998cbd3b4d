"""How fast and how small enqueueing is: `python -m tests.bench.enqueue [QUESTIONS]`.

100000 questions: 87.2 s, 1147/s in all; peak 97 MiB
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from tests import valkey

PROBLEM = "有一群人和一些食物类型。下列是关于这些个体和食物的已知信息：" * 8
OPTIONS = ["甲比乙高，乙比丙高", "乙比甲高", "丙最高", "以上都不对"]


def write(path: Path, questions: int) -> None:
    """Write a data set with two questions an entry, about as long as real ones."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(questions // 2):
            asked = [{"question": f"选择题 {at}：谁最高？", "options": OPTIONS} for at in (1, 2)]
            entry = {"id": f"p{number}", "problem": PROBLEM, "questions": asked}
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def main(questions: int) -> int:
    """Enqueue once in a process of its own, and tell its peak memory."""
    with tempfile.TemporaryDirectory() as folder, valkey.running() as url:
        data = Path(folder) / "data.jsonl"
        write(data, questions)
        os.environ.update(VOTEQUEUE_HOME=folder, VOTEQUEUE_BROKER_URL=url)
        begun = time.monotonic()
        code, peak = _enqueue(data)
        seconds = time.monotonic() - begun
    print(f"{questions} questions: {seconds:.1f} s, {questions / seconds:.0f}/s in all; peak {peak:.0f} MiB")
    return code


def _enqueue(data: Path) -> tuple[int, float]:
    child = os.fork()
    if child == 0:
        command = [sys.executable, "-m", "producers.cli", "enqueue", "infer", str(data), "--run", "bench"]
        os.execv(sys.executable, command)
    _pid, status, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
