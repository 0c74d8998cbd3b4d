"""Parse a chat model's new question, or report its flaw.

'```json\\n{"problem": "甲比乙高。", "question": "谁高？", "options": ["甲", "乙"], "answer": "A",
  "reasoning": "甲比乙高。\\\\n答案是：A"}\\n```'   ->  ParsedVariant("甲比乙高。", Question(...))
"""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from shared import answers, conclusion_reader, dataset_errors, json_text, prompts, thinking
from shared.dataset import LETTERS, Entry, Question
from shared.errors import VotequeueError


class Unfit(VotequeueError):
    """The text contains no usable question; the message gives the reason."""


@dataclass(frozen=True)
class ParsedVariant:
    """A new problem with its one question."""

    problem: str
    question: Question


def read(text: str, reader: str = answers.CONCLUSION) -> ParsedVariant:
    """Extract the question from a chat model's reply.

    ``reader`` names the reader that extracts the letter of its reasoning.

    Raises:
        Unfit: there is no question, or it is incomplete.
    """
    objects = list(json_text.find(thinking.strip(text), "{"))
    if not objects:
        raise Unfit("no JSON object in the reply")
    # Models may write drafts first: the last object is the result.
    value = objects[-1].value
    _check_characters(value)
    new = {"id": "new", "problem": value.get("problem"), "questions": [_plain(value)]}
    try:
        entry = Entry.model_validate(new)
    except ValidationError as error:
        where, problem = dataset_errors.first_problem(error, new)
        raise Unfit(f"{where.removeprefix('questions[0].')}: {problem}") from error
    written = ParsedVariant(entry.problem.strip(), entry.questions[0])
    _check(written, reader)
    return written


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: _stripped(value.get(name)) for name in ("question", "answer", "reasoning")
    }
    fields["options"] = _options(value.get("options"))
    if isinstance(fields["answer"], str):
        # "B", and variants that models write: "B.", "B. 甲", "(B)".
        fields["answer"] = conclusion_reader.letter(f"答案是：{fields['answer']}") or fields["answer"]
    return fields


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _options(value: Any) -> Any:
    if isinstance(value, dict) and "".join(map(str, value)) == LETTERS[: len(value)]:
        value = list(value.values())
    if not isinstance(value, list) or not all(isinstance(option, str) for option in value):
        return value
    # The prompt shows options with their letters, and many models copy this form.
    return [text.strip() for text in prompts.without_letters(value)]


def _check_characters(given: dict[str, Any]) -> None:
    try:
        unfit = b"\\u0000" in json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        unfit = True
    if unfit:
        raise Unfit("it has characters that cannot be stored")


def _check(written: ParsedVariant, reader: str) -> None:
    question = written.question
    if not written.problem or not question.question:
        raise Unfit("the problem or the question is empty")
    if not all(question.options):
        raise Unfit("an option is empty")
    if len(set(question.options)) < len(question.options):
        raise Unfit("two options are the same")
    if question.answer is None:
        raise Unfit("it has no answer")
    letter = answers.extract(question.reasoning or "", len(question.options), reader)
    if letter != question.answer:
        raise Unfit(f"its answer is {question.answer}, its reasoning says {letter or 'no letter'}")
