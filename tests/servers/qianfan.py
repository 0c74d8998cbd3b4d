"""Baidu Qianfan as documented, on this machine: tokens, signatures, chat in both versions, limits, errors.

    with QianfanServer(per_minute=300) as server: ...; server.arrivals.most_in(60.0)  ->  300

Signatures: cloud.baidu.com/doc/Reference/s/Njwvz1wot (BCE auth, version 1). `arrivals` counts calls of models
only; tokens and lists of models are in `exchanges`.
"""

import contextlib
import hmac
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from shared import prompts
from shared.settings import Settings
from tests.servers import Harness
from tests.servers.openai import oblige
from tests.servers.wire import Answer, Arrival, Asked, Wire, as_json
from workers.ports import ChatModel, Prompt

AK, SK = "fQ3yLq8ZbXW1s0aVtR7mKd2c", "9uJ4hT6nGx0PzC5wEoBvYr1kSfDaMi8q"
ACCESS_KEY, SECRET_KEY = "ALTAKx7c2f0e9b4d1a8c6e3f5", "c41d8cd98f00b204e9800998ecf8427e"
CHAT = "/rpc/2.0/ai_custom/v1/wenxinworkshop/chat/"
V2 = "/v2/chat/completions"
MODELS = {"Yi-34B-Chat": "yi_34b_chat", "ERNIE-Speed-8K": "ernie_speed", "Puzzler-7B": "puzzler_7b"}
RETRY_AFTER = 2  # seconds, where a fault has one

# Version 1: an error is an answer of status 200 with one of these.
CODES = {"throttled": 336501, "credentials": 6, "exhausted": 17, "refused": 336003}
MESSAGES = {
    6: "No permission to access data",
    14: "IAM Certification failed",
    17: "Open api daily request limit reached",
    18: "Open api qps request limit reached",
    110: "Access token invalid or no longer valid",
    111: "Access token expired",
    336501: "Rate limit reached for RPM",
    336502: "Rate limit reached for TPM",
}
# Version 2: a status, a code, and a type.
STATUSES = {
    "throttled": (429, "rpm_rate_limit_exceeded", "rate_limit_exceeded"),
    "throttled with delay": (429, "tpm_rate_limit_exceeded", "rate_limit_exceeded"),
    "credentials": (401, "no_parameter_permission", "access_denied"),
    "invalid_iam_token": (401, "invalid_iam_token", "invalid_request_error"),
    "refused": (400, "tokens_too_long", "invalid_request_error"),
    "unsafe": (403, "user_setting_unsafe", "unsafe_request"),
    "daily": (429, "QUOTA_USER_DAILY_REQUEST", "rate_limit_exceeded"),
    "arrears": (429, "BILLING_INSUFFICIENT_BALANCE", "rate_limit_exceeded"),
    "internal": (500, "dispatch_internal_error", "internal_error"),
}


class Refusal(Exception):
    """An error of version 1."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Stopped(Exception):
    """An error of version 2, by its name in `STATUSES`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class QianfanServer(Wire):
    """One account: an application's keys and access keys.

    A fault may also be a code of version 1 ("336502"), a name of `STATUSES`, "flagged" or "no result". Tokens
    last ``lifetime`` seconds. ``exchanges`` counts what is no call of a model, by path.
    """

    def __init__(
        self,
        *,
        per_second: float = 1000,
        per_minute: float = 100_000,
        tokens_per_minute: float = 1e9,
        lifetime: float = 2_592_000.0,
        seconds: float = 0.0,
        reply: Callable[[str], str] = oblige,
    ) -> None:
        super().__init__()
        self.per_second, self.per_minute, self.tokens_per_minute = per_second, per_minute, tokens_per_minute
        self.lifetime, self.seconds = lifetime, seconds
        self.exchanges: Counter[str] = Counter()
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.exchange_fault = "ok"
        self._reply = reply
        self._tokens: dict[str, float] = {}
        self._used: list[tuple[float, int]] = []
        self._lock = threading.Lock()

    @property
    def tokens(self) -> list[str]:
        """List the tokens that it gave, latest last."""
        return list(self._tokens)

    def revoke(self) -> None:
        """Let no token be good any more."""
        self._tokens = dict.fromkeys(self._tokens, 0.0)

    def answer(self, asked: Asked) -> Answer:
        """Answer what was asked, wherever."""
        if asked.path == V2:
            return self._chat_v2(asked)
        if asked.path.startswith(CHAT):
            return self._chat_v1(asked)
        self.exchanges[asked.path] += 1
        pages = {
            "/oauth/2.0/token": self._access_token,
            "/v1/BCE-BEARER/token": self._bearer_token,
            "/wenxinworkshop/service/list": self._list,
        }
        page = pages.get(asked.path)
        if page is None:
            return as_json({"error_code": 3, "error_msg": "Unsupported openapi method"})
        return self.break_off(self.exchange_fault, lambda: page(asked))

    # Tokens

    def _access_token(self, asked: Asked) -> Answer:
        if asked.query.get("client_id") != AK:
            return as_json({"error": "invalid_client", "error_description": "unknown client id"}, 401)
        if asked.query.get("client_secret") != SK:
            return as_json(
                {"error": "invalid_client", "error_description": "Client authentication failed"}, 401
            )
        return as_json({"access_token": self._token(self.lifetime), "expires_in": int(self.lifetime)})

    def _bearer_token(self, asked: Asked) -> Answer:
        if not signed(asked):
            error = {"code": "SignatureDoesNotMatch", "message": "Signature does not match", "requestId": "1"}
            return as_json(error, 400, {"X-Bce-Error-Code": "SignatureDoesNotMatch"})
        lasts = min(self.lifetime, float(asked.query["expireInSeconds"]))
        now = time.time()
        times = {"createTime": _utc(now), "expireTime": _utc(now + lasts)}
        return as_json({"userId": "1", "token": self._token(lasts), "status": "enable", **times})

    def _list(self, asked: Asked) -> Answer:
        if not signed(asked):
            return as_json({"error_code": 14, "error_msg": MESSAGES[14], "log_id": "1"})
        common = [
            {"name": name, "url": f"https://aip.baidubce.com{CHAT}{endpoint}"}
            for name, endpoint in MODELS.items()
        ]
        return as_json({"log_id": "1", "result": {"common": common, "custom": []}})

    def _token(self, lasts: float) -> str:
        with self._lock:
            token = f"24.{len(self._tokens):03}a6f1d09c7e5b"
            self._tokens[token] = time.time() + lasts
        return token

    # Version 1

    def _chat_v1(self, asked: Asked) -> Answer:
        with self.arrivals.one() as arrival:
            kind = self.fault(arrival.number)
            try:
                self._entitle(asked)
                self._keep_limits(arrival)
                return self.break_off(kind, lambda: self._good_v1(asked, kind))
            except Refusal as refusal:
                said = f"{MESSAGES.get(refusal.code, 'as the test said')} {asked.query.get('access_token')}"
                return as_json({"error_code": refusal.code, "error_msg": said, "id": "as-1"})

    def _entitle(self, asked: Asked) -> None:
        token = asked.query.get("access_token")
        if token is None:
            if not signed(asked):
                raise Refusal(14)
        elif token not in self._tokens:
            raise Refusal(110)
        elif self._tokens[token] <= time.time():
            raise Refusal(111)

    def _good_v1(self, asked: Asked, kind: str) -> Answer:
        if code := CODES.get(kind, int(kind) if kind.isdigit() else None):
            raise Refusal(code)
        endpoint, body = asked.path.removeprefix(CHAT), json.loads(asked.body)
        if endpoint not in MODELS.values():
            raise Refusal(3)
        if len(body["messages"]) % 2 == 0 or not 0 < body.get("temperature", 0.5) <= 1:
            raise Refusal(336003)
        text, usage = self._answered(endpoint, body)
        extra: dict[str, Any] = {"need_clear_history": True, "ban_round": -1} if kind == "flagged" else {}
        if kind == "no result":
            return as_json({"id": "as-1", "usage": usage})
        if kind == "undressed":
            return as_json({"code": 336501, "msg": MESSAGES[336501]})
        reply = {"id": "as-1", "object": "chat.completion", "result": text, "need_clear_history": False}
        # Real replies have it; it switches the SDK's own limiter on.
        limit = {"X-Ratelimit-Limit-Requests": "60", "X-Ratelimit-Limit-Tokens": "100"}
        return as_json({**reply, "usage": usage, **extra}, headers=limit)

    # Version 2

    def _chat_v2(self, asked: Asked) -> Answer:
        with self.arrivals.one() as arrival:
            kind = self.fault(arrival.number)
            try:
                token = asked.headers.get("Authorization", "").removeprefix("Bearer ")
                if self._tokens.get(token, 0.0) <= time.time():
                    raise Stopped("invalid_iam_token")  # noqa: TRY301
                self._keep_limits(arrival)
                return self.break_off(kind, lambda: self._good_v2(asked, kind))
            except Refusal:
                return self._stopped("throttled", asked)
            except Stopped as stopped:
                return self._stopped(stopped.name, asked)

    def _good_v2(self, asked: Asked, kind: str) -> Answer:
        if kind in STATUSES:
            raise Stopped(kind)
        body = json.loads(asked.body)
        text, usage = self._answered(body["model"], body)
        flag = 1 if kind == "flagged" else 0
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "flag": flag}
        if kind == "code in 200":
            return as_json({"error": {"code": "rpm_rate_limit_exceeded", "message": "Rate limit reached"}})
        return as_json({"id": "as-1", "choices": [] if kind == "no result" else [choice], "usage": usage})

    def _stopped(self, name: str, asked: Asked) -> Answer:
        status, code, kind = STATUSES[name]
        error = {"code": code, "message": f"as the test said {asked.headers['Authorization']}", "type": kind}
        delay = {"Retry-After": str(RETRY_AFTER)} if name == "throttled with delay" else {}
        return as_json({"error": error, "id": "as-1"}, status, delay)

    # Both

    def _keep_limits(self, arrival: Arrival) -> None:
        if self.arrivals.until(arrival, 1.0) > self.per_second:
            raise Refusal(18)
        if self.arrivals.until(arrival, 60.0) > self.per_minute:
            raise Refusal(336501)
        with self._lock:
            used = sum(tokens for moment, tokens in self._used if moment > arrival.at - 60.0)
        if used > self.tokens_per_minute:
            raise Refusal(336502)

    def _answered(self, model: str, body: dict[str, Any]) -> tuple[str, dict[str, int]]:
        prompt = body["messages"][-1]["content"]
        text = self._reply(prompt)
        counts = (prompts.tokens(prompt), prompts.tokens(text))
        with self._lock:
            self.asked.append((model, body))
            self._used.append((time.monotonic(), sum(counts)))
        time.sleep(self.seconds)
        return text, {"prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": sum(counts)}


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def signed(asked: Asked) -> bool:
    """Compute BCE's signature from the account's key, and compare."""
    found = re.fullmatch(
        r"(bce-auth-v1/([^/]+)/([^/]+)/(\d+))/([^/]*)/(\w+)", asked.headers.get("Authorization", "")
    )
    if found is None or found[2] != ACCESS_KEY:
        return False
    began = datetime.strptime(found[3], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    names = found[5].split(";")
    if not began - 60 <= time.time() <= began + int(found[4]) or "host" not in names:
        return False
    headers = sorted(f"{_escaped(name)}:{_escaped(asked.headers[name].strip())}" for name in names)
    query = "&".join(sorted(f"{_escaped(name)}={_escaped(value)}" for name, value in asked.query.items()))
    text = "\n".join([asked.method, quote(asked.path, safe="/-_.~"), query, "\n".join(headers)])
    key = hmac.digest(SECRET_KEY.encode(), found[1].encode(), "sha256").hex()
    return hmac.compare_digest(hmac.digest(key.encode(), text.encode(), "sha256").hex(), found[6])


def _escaped(text: str) -> str:
    return quote(text, safe="-_.~")


KEYS = {"qianfan_ak": AK, "qianfan_sk": SK}
ACCESS_KEYS = {"qianfan_access_key": ACCESS_KEY, "qianfan_secret_key": SECRET_KEY}
SECRETS = (AK, SK, ACCESS_KEY, SECRET_KEY)


def chat(server: QianfanServer, model: str = "Yi-34B-Chat", **changes: Any) -> ChatModel:
    """Give the real chat model, talking to a server; ``changes`` are settings, credentials among them."""
    from workers import wiring

    return wiring.chat_model("qianfan", model, Settings(_env_file=None, qianfan_url=server.url, **changes))


# For the conformance test


@contextlib.contextmanager
def harnesses() -> Iterator[list[Harness]]:
    """Give what the conformance test drives, while their servers run."""
    with QianfanServer() as first, QianfanServer() as second, QianfanServer() as third:
        yield [
            # Version 1 has no word for a delay, version 2 none for a quota of a day.
            _harness("AK/SK", first, KEYS, "throttled with delay"),
            _harness("access key", second, ACCESS_KEYS, "throttled with delay"),
            _harness("v2", third, {**ACCESS_KEYS, "qianfan_api": "v2"}, "exhausted"),
        ]


def _harness(name: str, server: QianfanServer, way: dict[str, str], lacks: str) -> Harness:
    ours = chat(server, call_timeout=2.0, **way)
    return Harness(
        f"qianfan {name}",
        call=lambda: ours.complete(Prompt("谁最高？", 64, 0.7)),
        fail_with=server.fail_with,
        received=lambda: len(server.arrivals),
        secrets=SECRETS,
        lacks=frozenset({lacks}),
    )
