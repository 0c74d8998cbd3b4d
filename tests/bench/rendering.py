"""What a prompt costs to build: prompt files (Jinja2) against `str.format`, as it was before.

    python -m tests.bench.rendering [DATA]

prints CPU time in microseconds per prompt with two examples, and the ratio: with examples seen for the first
time, and with examples seen before, as is usual in a run. Without DATA, generated puzzles.
"""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

from producers import sample
from producers.enqueue import inputs
from shared import dataset, prompt_files, prompts
from shared.dataset import Entry, Line
from shared.ledger import runs
from shared.prompts import FewShotExample, PromptQuestion

QUESTIONS = 200
Build = Callable[[PromptQuestion, Sequence[FewShotExample]], str]


def formatted(asked: PromptQuestion, examples: Sequence[FewShotExample]) -> str:
    """Build a prompt as it was built before prompt files."""
    shown = "".join(
        f"{prompts.case(each.asked)}{prompts.bare_reasoning(each)}\n答案是：{each.answer}\n"
        for each in examples
    )
    return prompts.HEAD + shown + prompts.case(asked)


def microseconds(build: Build, asked: Sequence[PromptQuestion], solved: Sequence[FewShotExample]) -> float:
    """Measure the CPU time of one prompt."""
    begun = time.thread_time()
    for at, question in enumerate(asked):
        build(question, [solved[at % len(solved)], solved[(at + 1) % len(solved)]])
    return (time.thread_time() - begun) / len(asked) * 1e6


def entries(data: str | None) -> Iterable[Entry]:
    """Read a data set, or make puzzles."""
    if data is None:
        return (Entry.model_validate(entry) for entry in sample.generate(QUESTIONS, seed=7))
    return (line.entry for line in dataset.scan(Path(data)) if isinstance(line, Line))


def main(data: str | None) -> None:
    """Print the figures."""
    read = list(islice(entries(data), QUESTIONS))
    asked = [runs.asked(entry, at) for entry in read for at in range(len(entry.questions))]
    solved = [example for entry in read for example in inputs.solved_questions(entry)]
    solved = solved or [FewShotExample(each, "因为如此。\n答案是：A", "A") for each in asked]
    template = prompt_files.built_in("zh")
    assert template.completion(asked[0], solved[:2]) == formatted(asked[0], solved[:2])
    before = microseconds(formatted, asked, solved)
    template.example.cache_clear()
    uncached = microseconds(
        lambda question, shown: (
            template.head + "".join(map(template._example, shown)) + template.case(question)
        ),
        asked,
        solved,
    )
    microseconds(template.completion, asked, solved)
    cached = microseconds(template.completion, asked, solved)
    print(f"str.format {before:.0f} us a prompt, of {len(asked)}")
    print(f"prompt file, new examples {uncached:.0f} us: ratio {uncached / before:.2f}")
    print(f"prompt file, examples seen before {cached:.0f} us: ratio {cached / before:.2f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
