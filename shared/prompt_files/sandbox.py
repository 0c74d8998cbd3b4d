"""The templates of prompt files: Jinja2, sandboxed, and restricted so that rendering ends soon.

    Template("{{ problem }}\\n", {"problem"}).render(problem="甲比乙高。")  ->  "甲比乙高。\\n"

A template has text, placeholders, conditions, some filters, and loops over a question's options. It has no
calls, assignments, arithmetic or nested loops, by which a short text could run endlessly or fill the memory.
"""

import traceback
from collections.abc import Collection, Iterator
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST = 1_000_000  # characters of a rendered text
LOOPED = "options"  # the placeholder that a loop may run over
# Filters whose result is no longer than what they are given.
FILTERS = ("trim", "upper", "lower", "capitalize", "title", "length", "first", "last", "default")
_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Tuple,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Slice,
    nodes.For,
    nodes.If,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Neg,
    nodes.Filter,
    nodes.Test,
    nodes.Keyword,
)


class BadTemplateError(Exception):
    """What is wrong with a template, and on which of its lines (from 1)."""

    def __init__(self, message: str, line: int = 1) -> None:
        super().__init__(message)
        self.line = line


def _environment() -> jinja2.Environment:
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True
    )
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in FILTERS}
    return environment


_ENVIRONMENT = _environment()


class Template:
    """A checked template, which uses no other placeholders than the given ones."""

    def __init__(self, source: str, placeholders: Collection[str]) -> None:
        """Compile a template.

        Raises:
            BadTemplateError: for its first fault.
        """
        try:
            _check(_ENVIRONMENT.parse(source), placeholders)
            self._template = _ENVIRONMENT.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise BadTemplateError(error.message or "syntax error", error.lineno) from None
        except (SyntaxError, RecursionError, MemoryError):
            raise BadTemplateError("it is nested too deeply") from None

    def render(self, **values: Any) -> str:
        """Render the template.

        Raises:
            BadTemplateError: the template fails with these values, or the text is too long.
        """
        pieces, size = [], 0
        try:
            for piece in self._template.generate(values):
                pieces.append(piece)
                size += len(piece)
                if size > LONGEST:
                    raise BadTemplateError(f"the text has more than {LONGEST} characters")
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise BadTemplateError(str(error), _line_of(error)) from None
        return "".join(pieces)


def _check(tree: nodes.Template, placeholders: Collection[str]) -> None:
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, _ALLOWED):
            raise BadTemplateError(
                f"{type(node).__name__} is not allowed: use placeholders, if, for, and the filters "
                f"{', '.join(FILTERS)}",
                node.lineno,
            )
    for loop in tree.find_all(nodes.For):
        if not isinstance(loop.iter, nodes.Name) or loop.iter.name != LOOPED or any(loop.find_all(nodes.For)):
            raise BadTemplateError(f"a loop must be over {LOOPED}, and contain no other loop", loop.lineno)
    if unknown := meta.find_undeclared_variables(tree) - set(placeholders):
        line, name = min(_places(tree, unknown))
        known = ", ".join(placeholders) or "none"
        raise BadTemplateError(f"unknown placeholder {name!r}; the placeholders here: {known}", line)


def _places(tree: nodes.Template, names: Collection[str]) -> Iterator[tuple[int, str]]:
    for node in tree.find_all(nodes.Name):
        if node.name in names:
            yield node.lineno, node.name


def _line_of(error: Exception) -> int:
    """Give the template's line that an error is about; Jinja writes it into the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 1 for frame in reversed(frames) if frame.filename == "<template>"), 1)
