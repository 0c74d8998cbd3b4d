"""What an OpenAI-compatible service's "no" means to us: from status, code and message to an error of ours.

    judge(Answer(429, {"retry-after": "7"}, '{"error": {...}}'), service, "api.deepseek.com")
        ->  Throttled("chat (api.deepseek.com) says 429: ...", delay=7.0)

The services disagree on statuses, so their codes and words count too: OpenAI (platform.openai.com, "Error
codes"), DashScope (help.aliyun.com/zh/model-studio/error-code), DeepSeek (api-docs.deepseek.com,
"Error Codes"), and vLLM. How an answer came about is not known here.
"""

import email.utils
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from shared import providers
from shared.errors import Barred, Exhausted, NoReply, Refused, Throttled, Unavailable, VotequeueError
from workers.ports import Service

LONGEST_QUOTE = 200  # characters of what the service said that go on record
AGAIN = "then `votequeue resume` the run"

_CREDIT = re.compile(
    r"insufficient[ _](quota|balance|funds|credit)|arrearage|overdue|billing|not ?purchased"
    r"|free[ _]?(allocated[ _]|trial[ _])?(quota|tier)|余额不足|欠费|免费额度",
    re.IGNORECASE,
)
_DAILY = re.compile(r"per[ _]day|daily|\b[RT]PD\b|每日|每天|当日|今日", re.IGNORECASE)
_FILTERED = re.compile(
    r"content[_ ](filter|policy)|data_?inspection|inappropriate content|content exists risk", re.IGNORECASE
)
_NO_MODEL = re.compile(r"model_not_found|model\b.{0,80}\bnot (exist|found)|does not exist", re.IGNORECASE)
# At DashScope the words that mean "no credit" elsewhere mean "too many tokens this minute".
_MINUTE_QUOTA_HOSTS = "aliyuncs.com"
_MINUTE_QUOTA = re.compile(r"Throttling|insufficient_quota")


@dataclass(frozen=True)
class Answer:
    """A service's answer as it came, no credential in it; the headers' names are in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(frozen=True)
class _Complaint:
    """What is wrong, in the service's words."""

    status: int
    code: str
    said: str
    delay: float | None

    @property
    def words(self) -> str:
        return f"{self.code} {self.said}"


def judge(answer: Answer, service: Service, host: str) -> VotequeueError:
    """Turn an answer that is no reply into the error that says what becomes of the call."""
    complaint = _read(answer)
    words = complaint.said or complaint.code or "nothing"
    said = f"{service.provider} ({host}) says {complaint.status}: {words}"
    if complaint.status == 429:
        return _slow_down(complaint, service, host, said)
    if complaint.status == 402 or _CREDIT.search(complaint.code):
        return _no_credit(said)
    if 400 <= complaint.status < 500 and complaint.status not in (408, 409, 425):
        return _our_fault(complaint, service, said)
    if complaint.status == 503 and complaint.delay is not None:
        return Throttled(said, complaint.delay)
    if complaint.status in (504, 524):  # a gateway gave up on a service that may have worked on
        return NoReply(said)
    return Unavailable(said)


def until_midnight(timezone: str) -> float:
    """Tell how many seconds a day still has in a time zone."""
    now = datetime.now(ZoneInfo(timezone))
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), now.tzinfo)
    # As moments, since a day is not always 24 hours long.
    return max(1.0, (midnight.astimezone(UTC) - now.astimezone(UTC)).total_seconds())


def quoted(text: str) -> str:
    """Give what a service said in one short line."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_QUOTE else line[:LONGEST_QUOTE] + "…"


def _slow_down(complaint: _Complaint, service: Service, host: str, said: str) -> VotequeueError:
    free = "free" in complaint.said.lower()
    of_a_minute = host.endswith(_MINUTE_QUOTA_HOSTS) and _MINUTE_QUOTA.search(complaint.code) and not free
    if _CREDIT.search(complaint.words) and not of_a_minute:
        return _no_credit(said)
    if _DAILY.search(complaint.words):
        timezone = providers.PROVIDERS[service.provider].timezone
        return Exhausted(said, complaint.delay or until_midnight(timezone))
    return Throttled(said, complaint.delay)


def _no_credit(said: str) -> Barred:
    return Barred(f"{said}; top up the account or raise its quota, {AGAIN}")


def _our_fault(complaint: _Complaint, service: Service, said: str) -> VotequeueError:
    status = complaint.status
    if status == 401 or (status == 403 and not _CREDIT.search(complaint.words)):
        return _no_entry(complaint, service, said)
    if status == 403:
        return _no_credit(said)
    if _FILTERED.search(complaint.words) and not _NO_MODEL.search(complaint.words):
        return Refused(f"its content filter refuses the request: {said}")
    if status in (404, 405, 410) or (status == 400 and _NO_MODEL.search(complaint.words)):
        mend = f"there may be no model {service.model!r} there: check --model and the base URL (with its /v1)"
        return Barred(f"{said}; {mend}, {AGAIN}", whole=False)
    return Refused(said)


def _no_entry(complaint: _Complaint, service: Service, said: str) -> Barred:
    # A service may quote a part of the key that it does not know, so a 401 is not quoted.
    who = said if complaint.status == 403 else f"{service.provider} does not accept our credentials (401)"
    mend = "check VOTEQUEUE_CHAT_API_KEY and what it may do" if service.provider == "chat" else "check them"
    return Barred(f"{who}; {mend}, {AGAIN}")


def _read(answer: Answer) -> _Complaint:
    found = _details(answer.text)
    status = answer.status
    if status < 400 and isinstance(found.get("code"), int):
        status = found["code"]  # some gateways answer 200, and put the status into the body
    code = " ".join(str(found[key]) for key in ("code", "type") if found.get(key) is not None)
    said = found.get("message")
    return _Complaint(
        status, code, quoted(said if isinstance(said, str) else answer.text), retry_after(answer.headers)
    )


def _details(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    found = body.get("error", body) if isinstance(body, dict) else {}
    return found if isinstance(found, dict) else {"message": str(found)}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Give the seconds of a Retry-After header, be it a number or a date (RFC 9110, 10.2.3)."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        seconds = _number(headers.get(name, ""), unit)
        if seconds is not None:
            return seconds
    try:
        moment = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _number(text: str, unit: float) -> float | None:
    try:
        seconds = float(text) / unit
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
