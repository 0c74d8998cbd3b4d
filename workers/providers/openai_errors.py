"""Map errors of OpenAI-compatible services to ours, by status, codes and message.

    judge(Answer(429, {"retry-after": "7"}, '{"error": {...}}'), service, "api.deepseek.com")
        ->  Throttled("chat (api.deepseek.com) says 429: ...", delay=7.0)

The services disagree on statuses, so their codes and words count too: OpenAI (platform.openai.com, "Error
codes"), DashScope (help.aliyun.com/zh/model-studio/error-code), DeepSeek (api-docs.deepseek.com, "Error
Codes"), Gemini (ai.google.dev/gemini-api/docs/troubleshooting), and vLLM. What stands in a field of its own
beats what a sentence says.
"""

import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from shared import providers
from shared.errors import (
    Barred,
    Exhausted,
    NoReply,
    Refused,
    Throttled,
    Unavailable,
    VotequeueError,
)
from workers.ports import Service
from workers.providers import error_details, error_patterns, proxies, unsupported_parameters
from workers.providers.error_details import Complaint, ErrorAnswer, quoted

__all__ = ["AGAIN", "ErrorAnswer", "Unclear", "judge", "quoted", "until_midnight"]
AGAIN = "then `votequeue resume` the run"
SENT = ("max_tokens", "temperature")  # what every request has, beside the model and the message
_NO_EXTRA: Mapping[str, object] = {}


class Unclear(Refused):
    """A request was refused, and it is not said whether its text or its form is at fault."""


def judge(
    answer: ErrorAnswer,
    service: Service,
    host: str,
    extra: Mapping[str, object] = _NO_EXTRA,
    sent: Iterable[str] = SENT,
) -> VotequeueError:
    """Turn an answer that is no reply into the error that says what becomes of the call.

    ``sent`` names the parameters of the request, ``extra`` those that a setting has added.
    """
    complaint = error_details.read(answer)
    if complaint.status < 400:
        complaint = replace(complaint, status=_status(complaint))
    said = f"{service.provider} ({host}) says {complaint.status}: {complaint.said}"
    status = complaint.status
    if status == 429 or (status == 403 and error_patterns.LIMITED.search(complaint.codes)):
        return _slow_down(complaint, service, host, said)
    if status == 402 or error_patterns.CREDIT.search(complaint.codes):
        return _no_credit(said)
    if 400 <= status < 500 and status not in (408, 409, 425):
        return _no_entry(complaint, service, host, said) or _our_fault(complaint, service, said, extra, sent)
    if status == 503 and complaint.delay is not None:
        return Throttled(said, complaint.delay)
    # A gateway that gave up on a service: that may have worked on.
    return NoReply(said) if status in (504, 524) else Unavailable(said)


def until_midnight(timezone: str) -> float:
    """Tell how many seconds a day still has in a time zone."""
    now = datetime.now(ZoneInfo(timezone))
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), now.tzinfo)
    # As moments, since a day is not always 24 hours long.
    return max(1.0, (midnight.astimezone(UTC) - now.astimezone(UTC)).total_seconds())


def _status(complaint: Complaint) -> int:
    """Give the status that an error would have had which came with another one."""
    words = complaint.words
    for status, sign in (
        (401, error_patterns.KEY),
        (402, error_patterns.CREDIT),
        (429, error_patterns.LIMITED),
        (503, error_patterns.OVERLOADED),
    ):
        if sign.search(words):
            return status
    if re.search(r"invalid|INVALID_ARGUMENT|unsupported", complaint.codes, re.IGNORECASE):
        return 400
    return (
        429
        if re.search(r"rate limit|too many requests|限流|频率", words, re.IGNORECASE)
        else complaint.status
    )


def _slow_down(complaint: Complaint, service: Service, host: str, said: str) -> VotequeueError:
    quotas, codes, words = complaint.quotas, complaint.codes, complaint.words
    daily = Exhausted(said, complaint.delay or until_midnight(providers.PROVIDERS[service.provider].timezone))
    if error_patterns.DAILY.search(quotas):
        return daily
    if error_patterns.RATE.search(quotas):
        return Throttled(said, complaint.delay)
    free = "free" in complaint.said.lower()
    of_a_minute = (
        host.endswith(error_patterns.MINUTE_QUOTA_HOSTS)
        and error_patterns.MINUTE_QUOTA.search(codes)
        and not free
    )
    if error_patterns.CREDIT.search(words) and not of_a_minute:
        return _no_credit(said)
    if error_patterns.DAILY.search(words):
        return daily
    limited = complaint.delay is not None or of_a_minute or error_patterns.RATE.search(words)
    if error_patterns.MONEY.search(words) and not limited:
        return _no_credit(said)
    return Throttled(said, complaint.delay)


def _no_credit(said: str) -> Barred:
    return Barred(f"{said}; top up the account or raise its quota, {AGAIN}")


def _no_entry(complaint: Complaint, service: Service, host: str, said: str) -> VotequeueError | None:
    status, words = complaint.status, complaint.words
    if status == 407:
        return proxies.trouble(host, "a proxy on the way wants a login, 407")
    if status == 403 and (error_patterns.CREDIT.search(words) or error_patterns.MONEY.search(words)):
        return _no_credit(said)
    if status == 401 or (not _is_filtered(complaint) and (status == 403 or error_patterns.KEY.search(words))):
        # A service may quote a part of the key that it does not know, so only a 403 is quoted.
        unknown = f"{service.provider} does not accept our credentials ({status})"
        mend = (
            "check VOTEQUEUE_CHAT_API_KEY and what it may do" if service.provider == "chat" else "check them"
        )
        return Barred(f"{said if status == 403 else unknown}; {mend}, {AGAIN}")
    if error_patterns.NOT_HERE.search(words):
        return Barred(f"{said}; mend that, {AGAIN}")
    return None


def _our_fault(
    complaint: Complaint, service: Service, said: str, extra: Mapping[str, object], sent: Iterable[str]
) -> VotequeueError:
    status, words = complaint.status, complaint.words
    if _is_filtered(complaint):
        return Refused(f"its content filter refuses the request: {said}")
    if unsupported_parameters.too_long(complaint):
        return Refused(said)
    parameter = unsupported_parameters.complained_of(complaint, (*sent, *extra))
    no_model = status in (404, 405, 410) or (status in (400, 422) and error_patterns.NO_MODEL.search(words))
    if no_model and not parameter:
        mend = f"there may be no model {service.model!r} there: check --model and the base URL (with its /v1)"
        return Barred(f"{said}; {mend}, {AGAIN}", whole=False)
    if parameter is not None:
        return Barred(
            f"{said}; {unsupported_parameters.mend(parameter, extra, service.provider)}, {AGAIN}", whole=False
        )
    return Unclear(said)


def _is_filtered(complaint: Complaint) -> bool:
    return bool(
        error_patterns.FILTERED.search(complaint.words)
        and not error_patterns.NO_MODEL.search(complaint.words)
    )


ALONE = 3  # refusals of one question, with no other refused, after which it is its own fault


class Refusals:
    """What was refused for reasons that are not clear, by a model that has not answered anything yet.

    A request whose form is at fault is refused for all prompts alike: then it is the model that must be
    stopped, not one question after the other that must be set aside.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[str, int] = {}
        self._answered = False

    def forget(self) -> None:
        """Hear that the model has answered: what it refuses from now on is the prompt's own fault."""
        self._answered = True

    def weigh(self, error: Unclear, prompt: str, service: Service) -> VotequeueError:
        """Say whether a refusal is the prompt's fault, the model's, or not known yet."""
        with self._lock:
            if self._answered:
                return error
            times = self._times[prompt] = self._times.get(prompt, 0) + 1
            others = len(self._times)
        if others > 1:
            mend = unsupported_parameters.mend("", (), service.provider)
            why = f"it has refused {others} different questions and answered none"
            return Barred(f"{error}; {why}: {mend}, {AGAIN}", whole=False)
        return (
            error
            if times > 2
            else Unavailable(f"{error} (it is not clear yet whether this question is at fault)")
        )
