"""Tencent's translation API as documented, on this machine: signature, limits and errors, all checked.

    with TencentServer(per_second=5) as server: ...; server.arrivals.most_in(1.0)  ->  5

Signature method v3: cloud.tencent.com/document/api/551/30636. The two actions: 551/40566, 1729/113395.
"""

import contextlib
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from shared.settings import Settings
from tests.servers import Harness
from tests.servers.wire import JSON, Answer, Arrival, Asked, Wire, as_json
from workers.ports import Translator

SECRET_ID, SECRET_KEY = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3", "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA"
VERSIONS = {"TextTranslateBatch": ("tmt", "2018-03-21"), "ChatTranslations": ("hunyuan", "2023-09-01")}
CLOCK_SKEW = 300  # seconds
MARKS = {"zh": "译", "ja": "訳", "en": "譯"}
CODES = {
    "throttled": "RequestLimitExceeded",
    "credentials": "AuthFailure.SecretIdNotFound",
    "refused": "UnsupportedOperation.UnsupportedLanguage",
}


def marked(text: str, source: str, target: str) -> str:
    """Translate: a mark of the language at the end, instead of the one that was there."""
    return text.removesuffix(MARKS.get(source, "?")) + MARKS.get(target, "?")


class Refusal(Exception):
    """An error as the envelope has it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


class TencentServer(Wire):
    """Both translation actions of one account.

    ``refused`` counts, by code, what was refused; ``characters`` has those of each call's texts. A fault may
    also be any of Tencent's codes ("InternalError"), "wrong count" or "sensitive". ``content_type`` is that
    of errors; ``seconds`` is how long a good call takes.
    """

    def __init__(
        self,
        *,
        per_second: float = 1000,
        characters: int = 2000,
        at_once: int = 1000,
        seconds: float = 0.0,
        translate: Callable[[str, str, str], str] = marked,
    ) -> None:
        super().__init__()
        self.per_second, self.limit, self.at_once, self.seconds = per_second, characters, at_once, seconds
        self.characters: list[int] = []
        self.asked: list[dict[str, Any]] = []
        self.refused: dict[str, int] = {}
        self.content_type = JSON
        self._translate = translate
        self._lock = threading.Lock()

    def answer(self, asked: Asked) -> Answer:
        """Check a call as Tencent does, and answer it."""
        with self.arrivals.one() as arrival:
            kind = self.fault(arrival.number)
            try:
                action = self._checked(asked)
                self._keep_limits(action, arrival)
                return self.break_off(kind, lambda: self._good(action, asked, kind))
            except Refusal as refusal:
                return self._envelope(refusal)

    def _envelope(self, refusal: Refusal) -> Answer:
        with self._lock:
            self.refused[refusal.code] = self.refused.get(refusal.code, 0) + 1
        error = {"Code": refusal.code, "Message": refusal.message}
        envelope = {"Response": {"Error": error, "RequestId": "7a1c0f6e"}}
        return as_json(envelope, headers={"Content-Type": self.content_type})

    def _checked(self, asked: Asked) -> str:
        action = asked.headers.get("X-TC-Action", "")
        if asked.method != "POST" or asked.headers.get("Content-Type") != "application/json":
            raise Refusal("UnsupportedProtocol", "POST and application/json only")
        if action not in VERSIONS:
            raise Refusal("InvalidAction", f"no action {action}")
        service, version = VERSIONS[action]
        if asked.headers.get("X-TC-Version") != version:
            raise Refusal("NoSuchVersion", "no such version")
        if service == "tmt" and not asked.headers.get("X-TC-Region"):
            raise Refusal("MissingParameter", "X-TC-Region is missing")
        check_signature(asked, service)
        return action

    def _keep_limits(self, action: str, arrival: Arrival) -> None:
        if self.arrivals.until(arrival, 1.0) > self.per_second:
            raise Refusal("RequestLimitExceeded", f"more than {self.per_second} in 1 second(s)")
        if action == "ChatTranslations" and arrival.inside > self.at_once:
            raise Refusal("LimitExceeded", f"more than {self.at_once} at once")

    def _good(self, action: str, asked: Asked, kind: str) -> Answer:
        if code := CODES.get(kind, kind if re.match(r"[A-Z]", kind) else None):
            raise Refusal(code, f"as the test said; {asked.headers.get('Authorization')}")
        body = json.loads(asked.body)
        batch = action == "TextTranslateBatch"
        texts = body["SourceTextList"] if batch else [body["Text"]]
        with self._lock:
            self.asked.append(body)
            self.characters.append(sum(map(len, texts)))
        if sum(map(len, texts)) > self.limit:
            raise Refusal("UnsupportedOperation.TextTooLong", f"more than {self.limit} characters")
        time.sleep(self.seconds)
        made = [self._translate(text, body["Source"], body["Target"]) for text in texts]
        reply = _batch(body, made) if batch else _chat(body, made[0])
        if kind == "wrong count":
            reply = {**reply, "TargetTextList": made[1:], "Choices": []}
        if kind == "sensitive":
            reply["Choices"][0]["FinishReason"] = "sensitive"
        return as_json({"Response": {**reply, "RequestId": "7a1c0f6e"}})


def _batch(body: dict[str, Any], made: list[str]) -> dict[str, Any]:
    used = sum(map(len, body["SourceTextList"]))
    return {
        "Source": body["Source"],
        "Target": body["Target"],
        "TargetTextList": made,
        "UsedAmount": used,
    }


def _chat(body: dict[str, Any], made: str) -> dict[str, Any]:
    prompt, completion = 20 + len(body["Text"]), len(made)
    usage = {"PromptTokens": prompt, "CompletionTokens": completion, "TotalTokens": prompt + completion}
    message = {"Role": "assistant", "Content": made}
    return {
        "Id": "1",
        "Choices": [{"Index": 0, "FinishReason": "stop", "Message": message}],
        "Usage": usage,
        "ErrorMsg": None,
    }


def check_signature(asked: Asked, service: str) -> None:
    """Compute signature v3 from the account's key, and compare.

    Raises:
        Refusal: it is missing, old, of another account, or wrong.
    """
    form = (
        r"TC3-HMAC-SHA256 Credential=([^/]+)/([\d-]+)/(\w+)/tc3_request, "
        r"SignedHeaders=([\w;-]+), Signature=(\w+)"
    )
    found = re.fullmatch(form, asked.headers.get("Authorization", ""))
    if found is None:
        raise Refusal("AuthFailure.InvalidAuthorization", "no such Authorization")
    identity, date, scope, names, signature = found.groups()
    stamp = int(asked.headers.get("X-TC-Timestamp", "0"))
    if abs(time.time() - stamp) > CLOCK_SKEW:
        raise Refusal("AuthFailure.SignatureExpire", "too old")
    if identity != SECRET_ID:
        raise Refusal("AuthFailure.SecretIdNotFound", "The SecretId is not found")
    day = datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%d")
    if (date, scope) != (day, service) or not {"content-type", "host"} <= set(names.split(";")):
        raise Refusal("AuthFailure.SignatureFailure", "the scope is wrong")
    wanted = _signature(asked, service, str(stamp), day, names)
    if not hmac.compare_digest(signature, wanted):
        raise Refusal("AuthFailure.SignatureFailure", "The provided credentials could not be validated")


def _signature(asked: Asked, service: str, stamp: str, day: str, names: str) -> str:
    lines = "".join(f"{name}:{asked.headers[name].strip().lower()}\n" for name in names.split(";"))
    request = "\n".join([asked.method, asked.path, "", lines, names, hashlib.sha256(asked.body).hexdigest()])
    scope = f"{day}/{service}/tc3_request"
    text = "\n".join(["TC3-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"TC3{SECRET_KEY}".encode()
    for part in (day, service, "tc3_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def translator(server: TencentServer, model: str = "TextTranslateBatch", **changes: Any) -> Translator:
    """Give the real translator, talking to a server; ``changes`` are settings."""
    from workers import wiring

    values = {"tencent_secret_id": SECRET_ID, "tencent_secret_key": SECRET_KEY, "tencent_url": server.url}
    return wiring.translator("tencent", model, Settings(_env_file=None, **{**values, **changes}))


# For the conformance test


@contextlib.contextmanager
def harnesses() -> Iterator[list[Harness]]:
    """Give what the conformance test drives, while their servers run."""
    with TencentServer() as batches, TencentServer() as chats:
        yield [_harness(batches, "TextTranslateBatch"), _harness(chats, "hunyuan-translation")]


def _harness(server: TencentServer, model: str) -> Harness:
    ours = translator(server, model, call_timeout=2.0)
    return Harness(
        f"tencent {model}",
        call=lambda: ours.translate(["甲比乙高。"], "zh", "ja"),
        fail_with=server.fail_with,
        received=lambda: len(server.arrivals),
        secrets=(SECRET_ID, SECRET_KEY),
        # Tencent names no delay, and no quota of its translators comes back by itself within a day.
        lacks=frozenset({"throttled with delay", "exhausted"}),
    )
