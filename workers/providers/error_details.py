"""Extract message, codes and quotas from a service's error, whatever its form.

    read(Answer(400, {}, '[{"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}}]'))
        ->  Complaint(status=400, codes="400 INVALID_ARGUMENT", message="bad", ...)

Errors come as an object, as a string, in an array, as a validation report, or as JSON within a string.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.providers import retry_after

LONGEST_QUOTE = 200  # characters of a quoted message
LONGEST_READ = 4000  # characters of a message that are examined
_DEEPEST = 8  # levels of objects, arrays, and JSON within strings
_CODES = ("code", "type", "status", "reason", "error_code", "status_code")
_QUOTAS = ("quotaid", "quotametric", "quota_id", "limit_type")
_MESSAGES = ("message", "msg", "error_msg", "status_msg", "detail", "error_description", "error")
_DELAYS = ("retrydelay", "retry_delay", "retry_after", "retryafter", "retry_after_seconds")
_PARAMETERS = ("param", "parameter", "loc", "field")


@dataclass(frozen=True)
class ErrorAnswer:
    """A service's answer without credentials; the headers' names are in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(frozen=True)
class Complaint:
    """A service's error.

    ``codes``, ``quotas`` and ``parameters`` come from structured fields. ``message`` is its sentence,
    ``text`` is everything, and ``delay`` is the seconds until the next call is allowed.
    """

    status: int
    codes: str
    message: str
    quotas: str = ""
    parameters: tuple[str, ...] = ()
    text: str = ""
    delay: float | None = None


@dataclass
class _Fields:
    codes: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    quotas: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    delays: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


def read(answer: ErrorAnswer) -> Complaint:
    """Parse an error answer; without a message, the whole text is the message."""
    fields = _Fields()
    body = parsed(answer.text[:100_000])
    for name, value in _walk(body, 0):
        _sort(fields, name, value)
    message = next(iter(fields.messages), "") or answer.text
    codes = " ".join(dict.fromkeys(fields.codes))
    text = " ".join((codes, *fields.quotas, *dict.fromkeys(fields.messages or [answer.text])))[:LONGEST_READ]
    status = answer.status
    if status < 400:  # some gateways answer 200 and put the status in the body
        status = next(iter(fields.statuses), status)
    delay = retry_after.delay({**fields.headers, **answer.headers}, fields.delays, text)
    quotas, parameters = " ".join(fields.quotas), tuple(fields.parameters)
    return Complaint(
        status, codes, quoted(message) or quoted(codes) or "nothing", quotas, parameters, text, delay
    )


def is_error(body: dict[str, Any]) -> bool:
    """Tell whether a body without a reply describes an error."""
    return any(body.get(name) for name in ("error", "errors", "base_resp", *_MESSAGES, "error_code"))


def parsed(text: str) -> Any:
    """Parse JSON; ``None`` where it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def quoted(text: str) -> str:
    """Shorten a service's message to one line."""
    line = " ".join(text[:LONGEST_READ].split())
    return line if len(line) <= LONGEST_QUOTE else line[:LONGEST_QUOTE] + "…"


def _walk(value: Any, depth: int, name: str = "") -> Iterator[tuple[str, Any]]:
    if depth > _DEEPEST:
        return
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "[") and (inner := parsed(value)) is not None:
        value = inner
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(inner, depth + 1, str(key).lower())
    elif isinstance(value, list):
        for inner in value[:50]:
            yield from _walk(inner, depth + 1, name)
    elif value is not None:
        yield name, value


def _sort(fields: _Fields, name: str, value: Any) -> None:
    text = str(value)[:LONGEST_READ]
    if name in _CODES and not isinstance(value, bool):
        fields.codes.append(text)
        if text.isascii() and text.isdigit() and len(text) == 3 and 400 <= int(text) < 600:
            fields.statuses.append(int(text))
    elif name in _QUOTAS:
        fields.quotas.append(text)
    elif name in _MESSAGES and isinstance(value, str):
        fields.messages.append(text)
    elif name in _DELAYS:
        fields.delays.append(text)
    elif name in _PARAMETERS and isinstance(value, str):
        fields.parameters.append(text)
    elif name.startswith(("x-ratelimit", "retry-after")):
        fields.headers[name] = text
