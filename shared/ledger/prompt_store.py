"""The prompt files of runs, stored by digest, so that any worker builds any run's prompts.

find("5f2c...")  ->  PromptTemplate("my", ...)
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from shared import answers, prompt_files, prompts, thinking
from shared.errors import Refused, UserError
from shared.ledger import engine, schema
from shared.options import Sampling
from shared.prompt_files import PromptTemplate
from shared.prompts import PromptQuestion

_columns = schema.prompts.c


@dataclass(frozen=True)
class StoredPrompt:
    """A stored prompt file; ``name`` is that of the file when it was stored."""

    digest: str
    name: str
    text: str


def put(prompt: PromptTemplate) -> None:
    """Store a prompt file, once."""
    row: dict[str, object] = {"digest": prompt.digest, "name": prompt.name, "text": prompt.text}
    with engine.writing() as connection:
        engine.insert_missing(connection, schema.prompts, [row])


def stored() -> list[StoredPrompt]:
    """List the stored prompt files by name."""
    with engine.reading() as connection:
        # A read-only ledger of an older version lacks this table.
        if not sa.inspect(connection).has_table(schema.prompts.name):
            return []
        rows = connection.execute(sa.select(schema.prompts).order_by(_columns.name, _columns.digest))
        return [StoredPrompt(**row._mapping) for row in rows]


def find(version: str | None) -> PromptTemplate | None:
    """Find the prompt of a run; None if it is unknown here, or from another version of votequeue."""
    try:
        return _load(prompt_files.digest_of(version))
    except LookupError:
        return None


def of_votes(version: str | None) -> PromptTemplate:
    """Give the prompt by which recorded votes are read: the run's, else the first one that there was."""
    return find(version) or prompt_files.built_in(prompt_files.FIRST)


def generating(version: str, asked: PromptQuestion, letter: str) -> str:
    """Build the prompt of a `reason` run: for a letter's reasoning, or for a program, without the letter.

    Raises:
        Refused: the prompt is unknown here.
    """
    explaining = prompts.version("explaining")
    if version == explaining:
        return prompts.explaining(asked, letter)
    template = find(version)
    if template is None:
        raise Refused(f"the run wants prompt {version}, this votequeue has {explaining}: enqueue it again")
    # One message, which every chat service accepts.
    return template.chat(asked, turns=False)[0].content


def stops(sampling: Sampling) -> Sequence[str]:
    """List the stop sequences of a run's raw completions: its reader's, then its prompt's."""
    return (*answers.READERS[sampling.reader].stops, *of_votes(sampling.prompt).stop)


def answer_text(vote: str, sampling: Sampling) -> str:
    """Give the text of a run's vote that its letter is read from, without thinking and following problems.

    A model ends its own turn of a chat, which may contain what ends a raw completion.
    """
    if sampling.prompt_style != prompt_files.COMPLETION:
        return thinking.strip(vote)
    return answers.READERS[sampling.reader].cut(vote, of_votes(sampling.prompt).stop)


@functools.lru_cache(maxsize=64)
def _load(digest: str) -> PromptTemplate:
    for name in prompt_files.names():
        if prompt_files.built_in(name).digest == digest:
            return prompt_files.built_in(name)
    with engine.reading() as connection:
        row = connection.execute(sa.select(schema.prompts).where(_columns.digest == digest)).one_or_none()
    if row is None:
        raise LookupError(digest)
    try:
        return PromptTemplate(row.name, row.text)
    except UserError as error:
        raise LookupError(digest) from error
