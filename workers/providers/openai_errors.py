"""Map errors of OpenAI-compatible services to ours, by status, codes and message.

    judge(Answer(429, {"retry-after": "7"}, '{"error": {...}}'), service, "api.deepseek.com")
        ->  Throttled("chat (api.deepseek.com) says 429: ...", delay=7.0)

The services disagree on statuses, so their codes and words count too: OpenAI (platform.openai.com, "Error
codes"), DashScope (help.aliyun.com/zh/model-studio/error-code), DeepSeek (api-docs.deepseek.com, "Error
Codes"), Gemini (ai.google.dev/gemini-api/docs/troubleshooting), and vLLM. Structured fields take
precedence over sentences.
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
SENT = ("max_tokens", "temperature")  # parameters of every request, beside model and message
_NO_EXTRA: Mapping[str, object] = {}


class Unclear(Refused):
    """A request was refused without saying whether its text or its form is at fault."""


def judge(
    answer: ErrorAnswer,
    service: Service,
    host: str,
    extra: Mapping[str, object] = _NO_EXTRA,
    sent: Iterable[str] = SENT,
) -> VotequeueError:
    """Map an error answer to the exception that decides what happens with the call.

    ``sent`` names the parameters of the request, ``extra`` those that a setting has added.
    """
    complaint = error_details.read(answer)
    if complaint.status < 400:
        complaint = replace(complaint, status=_status(complaint))
    message = f"{service.provider} ({host}) says {complaint.status}: {complaint.message}"
    status = complaint.status
    if status == 429 or (status == 403 and error_patterns.LIMITED.search(complaint.codes)):
        return _slow_down(complaint, service, host, message)
    if status == 402 or error_patterns.CREDIT.search(complaint.codes):
        return _no_credit(message)
    if 400 <= status < 500 and status not in (408, 409, 425):
        return _access_error(complaint, service, host, message) or _request_error(
            complaint, service, message, extra, sent
        )
    if status == 503 and complaint.delay is not None:
        return Throttled(message, complaint.delay)
    # The gateway timed out, but the service may have completed the call.
    return NoReply(message) if status in (504, 524) else Unavailable(message)


def until_midnight(timezone: str) -> float:
    """Give the seconds until midnight in a time zone."""
    now = datetime.now(ZoneInfo(timezone))
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), now.tzinfo)
    # In UTC, since a day is not always 24 hours long.
    return max(1.0, (midnight.astimezone(UTC) - now.astimezone(UTC)).total_seconds())


def _status(complaint: Complaint) -> int:
    """Infer the status of an error that came with a success status."""
    text = complaint.text
    for status, sign in (
        (401, error_patterns.KEY),
        (402, error_patterns.CREDIT),
        (429, error_patterns.LIMITED),
        (503, error_patterns.OVERLOADED),
    ):
        if sign.search(text):
            return status
    if re.search(r"invalid|INVALID_ARGUMENT|unsupported", complaint.codes, re.IGNORECASE):
        return 400
    return (
        429 if re.search(r"rate limit|too many requests|限流|频率", text, re.IGNORECASE) else complaint.status
    )


def _slow_down(complaint: Complaint, service: Service, host: str, message: str) -> VotequeueError:
    quotas, codes, text = complaint.quotas, complaint.codes, complaint.text
    daily = Exhausted(
        message, complaint.delay or until_midnight(providers.PROVIDERS[service.provider].timezone)
    )
    if error_patterns.DAILY.search(quotas):
        return daily
    if error_patterns.RATE.search(quotas):
        return Throttled(message, complaint.delay)
    free = "free" in complaint.message.lower()
    is_per_minute = (
        host.endswith(error_patterns.MINUTE_QUOTA_HOSTS)
        and error_patterns.MINUTE_QUOTA.search(codes)
        and not free
    )
    if error_patterns.CREDIT.search(text) and not is_per_minute:
        return _no_credit(message)
    if error_patterns.DAILY.search(text):
        return daily
    limited = complaint.delay is not None or is_per_minute or error_patterns.RATE.search(text)
    if error_patterns.MONEY.search(text) and not limited:
        return _no_credit(message)
    return Throttled(message, complaint.delay)


def _no_credit(message: str) -> Barred:
    return Barred(f"{message}; top up the account or raise its quota, {AGAIN}")


def _access_error(complaint: Complaint, service: Service, host: str, message: str) -> VotequeueError | None:
    status, text = complaint.status, complaint.text
    if status == 407:
        return proxies.unreachable(host, "a proxy requires a login, 407")
    if status == 403 and (error_patterns.CREDIT.search(text) or error_patterns.MONEY.search(text)):
        return _no_credit(message)
    if status == 401 or (not _is_filtered(complaint) and (status == 403 or error_patterns.KEY.search(text))):
        # A service may quote a part of the key that it does not know, so only a 403 is quoted.
        unknown = f"{service.provider} does not accept our credentials ({status})"
        remedy = (
            "check VOTEQUEUE_CHAT_API_KEY and its permissions" if service.provider == "chat" else "check them"
        )
        return Barred(f"{message if status == 403 else unknown}; {remedy}, {AGAIN}")
    if error_patterns.NOT_HERE.search(text):
        return Barred(f"{message}; fix that, {AGAIN}")
    return None


def _request_error(
    complaint: Complaint, service: Service, message: str, extra: Mapping[str, object], sent: Iterable[str]
) -> VotequeueError:
    status, text = complaint.status, complaint.text
    if _is_filtered(complaint):
        return Refused(f"its content filter refuses the request: {message}")
    if unsupported_parameters.too_long(complaint):
        return Refused(message)
    parameter = unsupported_parameters.rejected_parameter(complaint, (*sent, *extra))
    no_model = status in (404, 405, 410) or (status in (400, 422) and error_patterns.NO_MODEL.search(text))
    if no_model and not parameter:
        remedy = (
            f"there may be no model {service.model!r} there: check --model and the base URL (with its /v1)"
        )
        return Barred(f"{message}; {remedy}, {AGAIN}", whole=False)
    if parameter is not None:
        remedy = unsupported_parameters.remedy(parameter, extra, service.provider)
        return Barred(f"{message}; {remedy}, {AGAIN}", whole=False)
    return Unclear(message)


def _is_filtered(complaint: Complaint) -> bool:
    return bool(
        error_patterns.FILTERED.search(complaint.text) and not error_patterns.NO_MODEL.search(complaint.text)
    )


ALONE = 3  # refusals of the same question alone, after which the question is at fault


class Refusals:
    """Refusals with unclear reasons, by a model that has not answered any question yet.

    A malformed request is refused for every prompt. Then the model must be stopped, or all questions of a
    run would be set aside one by one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[str, int] = {}
        self._answered = False

    def forget(self) -> None:
        """Record that the model has answered: later refusals are the prompt's fault."""
        self._answered = True

    def weigh(self, error: Unclear, prompt: str, service: Service) -> VotequeueError:
        """Decide whether a refusal is the prompt's fault, the model's fault, or still unclear."""
        with self._lock:
            if self._answered:
                return error
            times = self._times[prompt] = self._times.get(prompt, 0) + 1
            prompts = len(self._times)
        if prompts > 1:
            remedy = unsupported_parameters.remedy("", (), service.provider)
            reason = f"it has refused {prompts} different questions and answered none"
            return Barred(f"{error}; {reason}: {remedy}, {AGAIN}", whole=False)
        return (
            error
            if times > 2
            else Unavailable(f"{error} (it is not clear yet whether this question is at fault)")
        )
