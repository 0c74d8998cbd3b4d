"""What an OpenAI-compatible service's "no" means to us: from status, codes and message to an error of ours.

    judge(Answer(429, {"retry-after": "7"}, '{"error": {...}}'), service, "api.deepseek.com")
        ->  Throttled("chat (api.deepseek.com) says 429: ...", delay=7.0)

The services disagree on statuses, so their codes and words count too: OpenAI (platform.openai.com, "Error
codes"), DashScope (help.aliyun.com/zh/model-studio/error-code), DeepSeek (api-docs.deepseek.com,
"Error Codes"), Gemini (ai.google.dev/gemini-api/docs/troubleshooting), and vLLM. What stands in a field of
its own beats what a sentence says. How an answer came about is not known here.
"""

import re
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
from workers.providers import complaints, parameters, proxies, wordings
from workers.providers.complaints import Answer, Complaint, quoted

__all__ = ["AGAIN", "Answer", "Unclear", "judge", "quoted", "until_midnight"]
AGAIN = "then `votequeue resume` the run"
SENT = ("max_tokens", "temperature")  # what every request has, beside the model and the message
_NO_EXTRA: Mapping[str, object] = {}


class Unclear(Refused):
    """A request was refused, and it is not said whether its text or its form is at fault."""


def judge(
    answer: Answer,
    service: Service,
    host: str,
    extra: Mapping[str, object] = _NO_EXTRA,
    sent: Iterable[str] = SENT,
) -> VotequeueError:
    """Turn an answer that is no reply into the error that says what becomes of the call.

    ``sent`` names the parameters of the request, ``extra`` those that a setting has added.
    """
    complaint = complaints.read(answer)
    if complaint.status < 400:
        complaint = replace(complaint, status=_status(complaint))
    said = f"{service.provider} ({host}) says {complaint.status}: {complaint.said}"
    status = complaint.status
    if status == 429 or (status == 403 and wordings.LIMITED.search(complaint.codes)):
        return _slow_down(complaint, service, host, said)
    if status == 402 or wordings.CREDIT.search(complaint.codes):
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
        (401, wordings.KEY),
        (402, wordings.CREDIT),
        (429, wordings.LIMITED),
        (503, wordings.OVERLOADED),
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
    if wordings.DAILY.search(quotas):
        return daily
    if wordings.RATE.search(quotas):
        return Throttled(said, complaint.delay)
    free = "free" in complaint.said.lower()
    of_a_minute = (
        host.endswith(wordings.MINUTE_QUOTA_HOSTS) and wordings.MINUTE_QUOTA.search(codes) and not free
    )
    if wordings.CREDIT.search(words) and not of_a_minute:
        return _no_credit(said)
    if wordings.DAILY.search(words):
        return daily
    limited = complaint.delay is not None or of_a_minute or wordings.RATE.search(words)
    if wordings.MONEY.search(words) and not limited:
        return _no_credit(said)
    return Throttled(said, complaint.delay)


def _no_credit(said: str) -> Barred:
    return Barred(f"{said}; top up the account or raise its quota, {AGAIN}")


def _no_entry(complaint: Complaint, service: Service, host: str, said: str) -> VotequeueError | None:
    status, words = complaint.status, complaint.words
    if status == 407:
        return proxies.trouble(host, "a proxy on the way wants a login, 407")
    if status == 403 and (wordings.CREDIT.search(words) or wordings.MONEY.search(words)):
        return _no_credit(said)
    if status == 401 or (not _is_filtered(complaint) and (status == 403 or wordings.KEY.search(words))):
        # A service may quote a part of the key that it does not know, so only a 403 is quoted.
        unknown = f"{service.provider} does not accept our credentials ({status})"
        mend = (
            "check VOTEQUEUE_CHAT_API_KEY and what it may do" if service.provider == "chat" else "check them"
        )
        return Barred(f"{said if status == 403 else unknown}; {mend}, {AGAIN}")
    if wordings.NOT_HERE.search(words):
        return Barred(f"{said}; mend that, {AGAIN}")
    return None


def _our_fault(
    complaint: Complaint, service: Service, said: str, extra: Mapping[str, object], sent: Iterable[str]
) -> VotequeueError:
    status, words = complaint.status, complaint.words
    if _is_filtered(complaint):
        return Refused(f"its content filter refuses the request: {said}")
    if parameters.too_long(complaint):
        return Refused(said)
    parameter = parameters.complained_of(complaint, (*sent, *extra))
    no_model = status in (404, 405, 410) or (status in (400, 422) and wordings.NO_MODEL.search(words))
    if no_model and not parameter:
        mend = f"there may be no model {service.model!r} there: check --model and the base URL (with its /v1)"
        return Barred(f"{said}; {mend}, {AGAIN}", whole=False)
    if parameter is not None:
        return Barred(f"{said}; {parameters.mend(parameter, extra, service.provider)}, {AGAIN}", whole=False)
    return Unclear(said)


def _is_filtered(complaint: Complaint) -> bool:
    return bool(wordings.FILTERED.search(complaint.words) and not wordings.NO_MODEL.search(complaint.words))
