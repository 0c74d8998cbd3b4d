"""Show the prompt that a worker would send for the first question of a data set, with token counts.

preview(Path("test.jsonl"), None, "en", 2)  ->  Preview(prompt="en", text="You are ...", tokens=412, ...)
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from producers.enqueue import inputs, prompt_choice
from shared import dataset, model_store, prompt_files, prompts, settings
from shared.errors import UserError
from shared.ledger import runs
from shared.options import Reading
from shared.prompts import FewShotExample
from shared.voices import VOICES


@dataclass(frozen=True)
class Preview:
    """A rendered prompt; ``tokenizer`` counted the tokens, or None if they are estimated.

    ``language`` is that of the data. ``head``, ``solved`` and ``question`` are the tokens of the parts.
    """

    key: str
    prompt: str
    digest: str
    language: str
    text: str
    tokens: int
    head: int
    solved: int
    question: int
    tokenizer: str | None
    examples: int
    stop: tuple[str, ...]
    reader: str
    style: str


def preview(
    data: Path,
    examples: str | None,
    prompt: str | None,
    num_examples: int,
    reading: Reading = inputs.AS_IT_IS,
    style: str = prompt_files.COMPLETION,
    examples_as: str = "turns",
) -> Preview:
    """Render the prompt of a data set's first question, with the first ``num_examples`` solved questions.

    ``style`` and ``examples_as`` are the run's `prompt_style` and `examples_as`. The tokens of a chat do not
    include those of the model's chat template.

    Raises:
        UserError: the data have no valid line, or there is no such prompt or example.
    """
    template = prompt_choice.find(prompt) if prompt else None
    entries = list(itertools.islice(inputs.entries(data, reading), prompt_choice.SURVEYED))
    if not entries:
        raise UserError(f"{data} has no valid line")
    language = prompt_choice.language_of_entries(entries)
    template = template or prompt_files.built_in(language)
    asked = runs.asked(entries[0], 0)
    # As by default in runs, no example is about the question's own problem.
    others = (
        each
        for each in _solved(examples or "")
        if each.asked.problem != asked.problem and template.shows(each)
    )
    shown = list(itertools.islice(others, num_examples)) if examples else []
    style = prompt_files.CHAT if VOICES[template.voice].chats else style
    prompt_input = template.build(asked, shown, style, examples_as)
    text = prompts.plain_text(prompt_input)
    count, tokenizer = counter()
    head, question = count(template.head), count(template.case(asked))
    solved = sum(
        count(template.case(example.asked) + template.solution(example))
        for example in (*template.worked, *shown)
    )
    return Preview(
        key=dataset.key(entries[0].id, 0),
        prompt=template.name,
        digest=template.digest,
        language=language,
        text=text,
        tokens=count(text),
        head=head,
        solved=solved,
        question=question,
        tokenizer=tokenizer,
        examples=len(shown),
        stop=template.stop if style == prompt_files.COMPLETION else (),
        reader=template.reader,
        style=style,
    )


def counter() -> tuple[Callable[[str], int], str | None]:
    """Give a function that counts tokens, and the name of the model whose tokenizer it uses.

    It estimates, and there is no name, if the tokenizer of `VOTEQUEUE_MODEL` is not on this machine.
    """
    loaded = settings.load()
    folder = model_store.find_tokenizer(loaded.model, loaded.cache)
    file = folder / "tokenizer.json" if folder else None
    if file is None or not file.is_file():
        return prompts.tokens, None
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return prompts.tokens, None
    tokenizer = Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text).ids), loaded.model


def _solved(argument: str) -> Iterator[FewShotExample]:
    source = inputs.find_source(argument, "--examples ")
    if isinstance(source, Path):
        for entry in inputs.entries(source):
            yield from inputs.solved_questions(entry)
    else:
        yield from inputs.examples_of(inputs.from_run(source)).read()
