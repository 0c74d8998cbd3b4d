"""Extract how long a service asks to wait: from headers, body fields or message texts.

    delay({"retry-after": "7"}, [], "")                     ->  7.0
    delay({}, [], "Quota exceeded. Please retry in 5.4s.")  ->  5.4

The result is always a finite, non-negative number of seconds, or None.
"""

import email.utils
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_CHINESE = {"毫秒": 0.001, "秒": 1.0, "分": 60.0, "小时": 3600.0, "天": 86_400.0}
_EPOCH, _EPOCH_MS = 1e9, 1e12  # larger numbers are dates, in seconds or milliseconds since the epoch
_PART = (
    r"\d{1,12}(?:\.\d{1,12})?\s?(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)"
)
_SPAN = re.compile(rf"\s*((?:{_PART}(?![A-Za-z])[\s,]{{0,2}}){{1,5}})\s*", re.IGNORECASE)
_PARTS = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)\s?([a-z]+)", re.IGNORECASE)
_IN_MESSAGE = re.compile(
    rf"\b(?:retry|again|wait|available|resets?)\b\D{{0,24}}?((?:{_PART}(?![A-Za-z])[\s,]{{0,2}}){{1,5}})",
    re.IGNORECASE,
)
_IN_CHINESE_MESSAGE = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)\s?(毫秒|秒|分|小时|天)钟?(?:之|以)?后")


def delay(headers: Mapping[str, str], fields: Iterable[str], message: str) -> float | None:
    """Give the seconds to wait: by Retry-After, else by the body, else by the rate limit headers."""
    seconds = retry_after(headers)
    if seconds:
        return seconds
    # A field is often a rounded form of the time in the message.
    hints = [hint for hint in (*map(span, fields), parse_message(message)) if hint]
    return max(hints, default=None) or _reset(headers) or seconds


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Give the seconds of a Retry-After header: a number, a time span or a date (RFC 9110, 10.2.3)."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    return span(headers.get("retry-after", "")) if milliseconds is None else milliseconds / 1000


def span(text: str) -> float | None:
    """Parse a time span (``7``, ``5.4s``, ``6m0s``), or a date as the time until it."""
    seconds = _number(text)
    if seconds is not None:
        return _until_epoch(seconds) if seconds >= _EPOCH else seconds
    if _SPAN.fullmatch(text):
        return _sum(text)
    return _until_date(text)


def parse_message(message: str) -> float | None:
    """Find the waiting time in a message."""
    if match := _IN_MESSAGE.search(message):
        return _sum(match[1])
    if match := _IN_CHINESE_MESSAGE.search(message):
        return float(match[1]) * _CHINESE[match[2]]
    return None


def _reset(headers: Mapping[str, str]) -> float | None:
    resets: dict[str, float] = {}
    for name, text in headers.items():
        if "ratelimit" in name and "reset" in name and (seconds := span(text)) is not None:
            resets[name] = seconds
    # Services also report limits that are not reached.
    reached = [seconds for name, seconds in resets.items() if _number(headers.get(_remaining(name), "")) == 0]
    if reached:
        return max(reached)
    has_remaining = any(_remaining(name) in headers for name in resets)
    return (min if has_remaining else max)(resets.values(), default=None)


def _remaining(reset: str) -> str:
    return reset.replace("reset", "remaining")


def _sum(text: str) -> float:
    return sum(float(number) * _unit(word.lower()) for number, word in _PARTS.findall(text))


def _unit(word: str) -> float:
    short = "ms" if word.startswith(("ms", "milli")) else word[0]
    return _UNITS[short]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _until_epoch(epoch: float) -> float:
    seconds = epoch / 1000 if epoch >= _EPOCH_MS else epoch
    return max(0.0, seconds - datetime.now(UTC).timestamp())


def _until_date(text: str) -> float | None:
    for read in (email.utils.parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = read(text.strip())
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            # Conversion to UTC may overflow in the year 9999.
            return max(0.0, (aware - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None
