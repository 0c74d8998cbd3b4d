"""The prompts of `infer`: TOML files with the templates of their parts, and how their votes are read.

    built_in("en").completion(asked, examples)  ->  "You are an expert ...\\n\\n### Problem\\n..."

Built-in prompts are the files beside this module; users bring their own. A run records its prompt by digest,
and the ledger has the file's text. A prompt never contains the gold answer of its question.
"""

import functools
import hashlib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

from shared import answers, prompts, text_files
from shared.answers import ReaderName
from shared.dataset import LETTERS
from shared.errors import Refused, UserError
from shared.prompt_files.sandbox import LOOPED, BadTemplateError, Template
from shared.prompts import FewShotExample, Message, ModelInput, PromptQuestion
from shared.result_reader import RESULT
from shared.voices import PROGRAM, REASONING

MAX_BYTES = 1 << 16
CACHED_EXAMPLES = 4096
CHAT, COMPLETION = "chat", "completion"  # the styles of a prompt
FIRST = "zh"  # the prompt of runs that are older than prompt files
# Versions of the wording that `zh` replaced, as older runs record them, and the digest of the same wording.
FORMER = {"1783896d": "8956389856442c958907964ca9fd65ba5d6c828f27679311a48cf7fbb1b8b4b8"}
# The fields with templates, and their placeholders, by voice.
_COMMON: dict[str, tuple[str, ...]] = {"head": (), "case": ("problem", "question", "options")}
PLACEHOLDERS: dict[str, dict[str, tuple[str, ...]]] = {
    REASONING: {**_COMMON, "solution": ("reasoning", "statement"), "statement": ("answer",)},
    PROGRAM: {**_COMMON, "solution": ("program",), "repair": ("error", "output")},
}
_FOLDER = Path(__file__).parent
_LOOP = "{% for letter, text in options %}{{ letter }}. {{ text }}{% endfor %}"
# Characters of the private use area stand for values in the trial of a template: no filter changes them.
_MARKS = [chr(0xE000 + at) for at in range(4 + 2 * len(LETTERS))]
# A field's name, and what follows up to the first character of its text.
_FIELD = r"^[ \t]*[\"']?{field}[\"']?[ \t]*=[ \t]*(?:'''\n|\"\"\"\n)?"
_TRIED = "B"  # the letter of the trial


class _Fields(BaseModel):
    """The fields of a prompt file; ``stop`` has at most 4 sequences, as many as OpenAI's interface takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    voice: Literal["reasoning", "program"] = "reasoning"
    head: StrictStr
    case: StrictStr
    solution: StrictStr
    statement: StrictStr
    stop: Annotated[list[Annotated[StrictStr, Field(min_length=1)]], Field(max_length=4)]
    reader: ReaderName

    @property
    def worked(self) -> tuple[FewShotExample, ...]:
        return ()


class _WorkedExample(BaseModel):
    """A question with a program that solves it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    problem: StrictStr
    question: StrictStr
    options: tuple[StrictStr, ...]
    program: StrictStr


class _ProgramFields(BaseModel):
    """The fields of a prompt file for programs, which are chats and have no answer statement."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    voice: Literal["program"]
    head: StrictStr
    case: StrictStr
    solution: StrictStr
    repair: StrictStr
    examples: tuple[_WorkedExample, ...] = ()
    stop: ClassVar[tuple[str, ...]] = ()
    reader: ClassVar[str] = RESULT

    @property
    def worked(self) -> tuple[FewShotExample, ...]:
        """Give the examples that every prompt shows."""
        return tuple(
            FewShotExample(
                PromptQuestion(each.problem, each.question, each.options), "", "", program=each.program
            )
            for each in self.examples
        )


_FIELDS: dict[str, type[_Fields] | type[_ProgramFields]] = {REASONING: _Fields, PROGRAM: _ProgramFields}


class PromptTemplate:
    """A checked prompt file; ``digest`` is the SHA-256 of its ``text``."""

    def __init__(self, name: str, text: str, place: str | None = None) -> None:
        """Check a prompt file; ``place`` starts the error messages, by default its name.

        Raises:
            UserError: for its first fault, with its line.
        """
        self.name = name
        self.text = text.replace("\r\n", "\n")
        self._place = place or f"prompt {name}"
        fields = self._parse()
        self.voice: str = fields.voice
        self.stop = tuple(fields.stop)
        self.reader = fields.reader
        self.worked = fields.worked
        self._templates = {
            field: self._compile(field, getattr(fields, field)) for field in PLACEHOLDERS[self.voice]
        }
        self._try_parts()
        self.head = self._render("head")
        # A run shows the same examples again and again; to find the conclusion of one takes milliseconds.
        self.example = functools.lru_cache(maxsize=CACHED_EXAMPLES)(self._example)
        # What a text that continues up to the letter ends with, such as "答案是：".
        told = self.statement(_MARKS[0]) if "statement" in self._templates else ""
        self.opening = told.partition(_MARKS[0])[0]

    @functools.cached_property
    def digest(self) -> str:
        """Identify the prompt file by its text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def completion(self, asked: PromptQuestion, examples: Sequence[FewShotExample] = ()) -> str:
        """Build the prompt for raw completions: head, solved examples, the question's case."""
        solved = (*self.worked, *examples)
        return "".join((self.head, *map(self.example, solved), self.case(asked)))

    def chat(
        self, asked: PromptQuestion, examples: Sequence[FewShotExample] = (), turns: bool = True
    ) -> tuple[Message, ...]:
        """Build the turns of a chat.

        The head begins the first turn, since not every model takes a system role. ``turns``: each solved
        example is a turn of the user and one of the assistant; else all are in one turn of the user, with the
        question.
        """
        if not turns:
            return (Message("user", self.completion(asked, examples).strip()),)
        shown = (*self.worked, *examples)
        said = [text for solved in shown for text in (self.case(solved.asked), self.solution(solved))]
        first, *others = [*said, self.case(asked)]
        texts = [self.head + first, *others]
        return tuple(
            Message("assistant" if place % 2 else "user", text.strip()) for place, text in enumerate(texts)
        )

    def build(
        self, asked: PromptQuestion, examples: Sequence[FewShotExample], style: str, examples_as: str
    ) -> ModelInput:
        """Build the prompt of a run in a style: ``chat`` or ``completion``; see `shared.options.Sampling`."""
        if style == CHAT:
            return self.chat(asked, examples, examples_as == "turns")
        return self.completion(asked, examples)

    def shows(self, solved: FewShotExample) -> bool:
        """Tell whether a solved question can be an example: it needs a text of the prompt's voice."""
        return bool((solved.program if self.voice == PROGRAM else solved.reasoning).strip())

    def _example(self, solved: FewShotExample) -> str:
        return self.case(solved.asked) + self.solution(solved)

    def case(self, asked: PromptQuestion) -> str:
        """Render a question, up to where its reasoning begins.

        Raises:
            Refused: the template fails with this question.
        """
        texts = [text.strip() for text in prompts.without_letters(asked.options)]
        options = list(zip(LETTERS, texts, strict=False))
        return self._render(
            "case", problem=asked.problem.strip(), question=asked.question.strip(), options=options
        )

    def solution(self, solved: FewShotExample) -> str:
        """Render a solved question's reasoning with its statement, or its program. Raises as `case`."""
        if self.voice == PROGRAM:
            return self._render("solution", program=solved.program.strip())
        statement = self.statement(solved.answer)
        return self._render("solution", reasoning=prompts.bare_reasoning(solved), statement=statement)

    def statement(self, answer: str) -> str:
        """Render the answer statement of a letter. Raises as `case`."""
        return self._render("statement", answer=answer)

    def repair(self, error: str, output: str) -> str:
        """Render what is told about a failed program: its error, or else its output. Raises as `case`."""
        return self._render("repair", error=error, output=output).strip()

    def _render(self, field: str, **values: object) -> str:
        try:
            return self._templates[field].render(**values)
        except BadTemplateError as error:
            raise Refused(f"prompt {self.name}: {field}, line {error.line}: {error}") from None

    # Checks

    def _parse(self) -> "_Fields | _ProgramFields":
        try:
            loaded = tomllib.loads(self.text)
            fields = _FIELDS.get(str(loaded.get("voice", REASONING)), _Fields)
            return fields.model_validate(loaded)
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"{self._place} is not TOML: {error}") from None
        except RecursionError:
            raise UserError(f"{self._place} is nested too deeply to be read") from None
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0])
            if first["type"] == "missing":
                within = f" of example {int(first['loc'][1]) + 1}" if len(first["loc"]) > 1 else ""
                missing = first["loc"][-1]
                raise UserError(f"{self._place}: the field {missing!r}{within} is missing") from None
            known = f"the fields are {', '.join(fields.model_fields)}"
            unknown = first["type"] == "extra_forbidden"
            reason = first["msg"].removeprefix("Value error, ")
            message = f"it is no field of a prompt; {known}" if unknown else reason
            raise self._fault(field, message) from None

    def _compile(self, field: str, source: str) -> Template:
        try:
            return Template(source, PLACEHOLDERS[self.voice][field])
        except BadTemplateError as error:
            raise self._fault(field, str(error), error.line) from None

    def _try_parts(self) -> None:
        problem, question, reasoning, statement, *options = _MARKS
        pairs = list(zip(options[::2], options[1::2], strict=True))
        self._try("head")
        # A question has at least two options; a template that names them one by one may show no more.
        for shown in (pairs[:2], pairs):
            self._try("case", problem=problem, question=question, options=shown)
        if self.voice == PROGRAM:
            self._try("solution", program=_MARKS[0])
            return self._try("repair", error=_MARKS[0], output=_MARKS[1])
        self._try("solution", reasoning=reasoning, statement=statement)
        self._try("statement", answer=_MARKS[0])
        told = self._templates["statement"].render(answer=_TRIED)
        if answers.extract(told, len(LETTERS), self.reader) != _TRIED:
            raise self._fault("statement", f"the reader {self.reader!r} reads no {_TRIED} in {told!r}")
        solution = self._templates["solution"].render(reasoning=reasoning, statement=told)
        if cutting := next((stop for stop in self.stop if stop in "\n" + solution), None):
            raise self._fault("stop", f"{cutting!r} is in every solution, so that votes would end early")
        return None

    def _try(self, field: str, **values: object) -> None:
        """Render a template with marks for its values, and require that it shows them all."""
        try:
            shown = self._templates[field].render(**values)
        except BadTemplateError as error:
            raise self._fault(field, str(error), error.line) from None
        for placeholder, value in values.items():
            if not all(mark in shown for mark in _marks_in(value)):
                wanted = _LOOP if placeholder == LOOPED else f"{{{{ {placeholder} }}}}"
                raise self._fault(field, f"it does not show {wanted}")

    def _fault(self, field: str, message: str, line: int = 1) -> UserError:
        return UserError(f"{self._place} line {self._line_of(field) + line - 1}: {field}: {message}")

    def _line_of(self, field: str) -> int:
        """Find the file's line on which a field's text begins."""
        for match in re.finditer(_FIELD.format(field=re.escape(field)), self.text, re.MULTILINE):
            try:
                tomllib.loads(self.text[: match.start()])
            except tomllib.TOMLDecodeError:
                continue  # within the text of another field
            return self.text.count("\n", 0, match.end()) + 1
        return 1


def _marks_in(value: object) -> set[str]:
    """Collect the marks in a trial's value: a mark, or pairs of them."""
    return set().union(*map(_marks_in, value)) if isinstance(value, list | tuple) else {str(value)}


def names() -> list[str]:
    """List the built-in prompts."""
    found = (path.stem for path in _FOLDER.glob("*.toml"))
    return sorted(found, key=lambda name: ("-" in name, not name.startswith(FIRST), name))


@functools.cache
def built_in(name: str) -> PromptTemplate:
    """Give a built-in prompt, one of `names`."""
    return PromptTemplate(name, text_files.read(_FOLDER / f"{name}.toml", MAX_BYTES))


def read(path: Path) -> PromptTemplate:
    """Read a user's prompt file.

    Raises:
        UserError: it cannot be read, or has a fault; the message says on which line.
    """
    return PromptTemplate(path.stem, text_files.read(path, MAX_BYTES), str(path))


def digest_of(version: str | None) -> str:
    """Give the digest of a run's prompt; older runs record another version, or none."""
    return built_in(FIRST).digest if version is None else FORMER.get(version, version)
