"""Tencent's translation through its SDK: `TextTranslateBatch`, or Hunyuan's `ChatTranslations`.

    TencentTranslator(service, settings).translate(["甲比乙高。"], "zh", "ja")
        ->  Translated(texts=["甲は乙より背が高い。"], usage=Usage(characters=5))

The SDK signs and sends; its retries stay off.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from shared import prompts, token_bounds, urls
from shared.errors import Barred, Refused, Throttled, Unavailable, Unreadable, UserError, VotequeueError
from shared.providers import Usage
from shared.settings import PREFIX, Settings
from workers.ports import Needs, Service, Translated
from workers.providers import openai_errors, proxies, requests_errors

NAME = "Tencent"
OWN_URL = "https://tencentcloudapi.com"  # the parent domain of all its services
BATCH = "TextTranslateBatch"
SDK_LOGGER = "tencentcloud_sdk_common"
_TMT, _HUNYUAN = ("tmt", "2018-03-21"), ("hunyuan", "2023-09-01")
_ANSWERS_PREAMBLE = 64  # tokens that the service may count around a text

# Error codes by their longest known prefix, since sub-codes change
# (cloud.tencent.com/document/api/551/30640 and 1729/101842, and the SDKs' lists of them).
_PAY = "top up the account or buy quota in Tencent's console"
_BARRED = {
    "AuthFailure": "check VOTEQUEUE_TENCENT_SECRET_ID and VOTEQUEUE_TENCENT_SECRET_KEY",
    "AuthFailure.SignatureExpire": "set this machine's clock, which is minutes off",
    "UnauthorizedOperation": "allow this user the action in Tencent's access management (CAM)",
    "UnauthorizedOperation.ActionNotFound": "Tencent has no such action any more: choose another model",
    "ActionOffline": "Tencent has no such action any more: choose another model",
    "InvalidAction": "Tencent has no such action any more: choose another model",
    "UnsupportedRegion": "set VOTEQUEUE_TENCENT_REGION to a region that has the service",
    "FailedOperation.ErrorUserArea": "set VOTEQUEUE_TENCENT_REGION to the account's own region",
    "FailedOperation.NoFreeAmount": "the month's free characters are used up: allow paid use in the console",
    "FailedOperation.FreeResourcePackExhausted": _PAY,
    "FailedOperation.ResourcePackExhausted": _PAY,
    "FailedOperation.ServiceIsolate": _PAY,
    "FailedOperation.ServiceStopArrears": _PAY,
    "FailedOperation.ServiceStop": "switch the service on again in Tencent's console",
    "FailedOperation.StopUsing": "switch the service on again in Tencent's console",
    "FailedOperation.UserNotRegistered": "switch the service on in Tencent's console first",
    "FailedOperation.ServiceNotActivated": "switch the service on in Tencent's console first",
    "FailedOperation.UserUnAuthError": "the account's owner must verify their identity in Tencent's console",
    "FailedOperation.PartnerAccountUnSupport": "use another account: this one may not use the service",
    "ResourceInsufficient": _PAY,
    "ResourceUnavailable": _PAY,
}
_OTHERS: dict[str, type[VotequeueError]] = {
    "RequestLimitExceeded": Throttled,
    "LimitExceeded": Throttled,
    "FailedOperation.EngineServerLimitExceeded": Throttled,
    "UnsupportedOperation": Refused,
    "UnsupportedProtocol": Refused,
    "InvalidParameter": Refused,
    "InvalidRequest": Refused,
    "MissingParameter": Refused,
    "UnknownParameter": Refused,
    "OperationDenied": Refused,
    "NoSuchVersion": Refused,
}


class TencentTranslator:
    """Translates texts with Tencent, in one request per call."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self._service = service
        self._secrets = (
            _secret(settings.tencent_secret_id, "TENCENT_SECRET_ID"),
            _secret(settings.tencent_secret_key, "TENCENT_SECRET_KEY"),
        )
        api = _TMT if service.model == BATCH else _HUNYUAN
        self._url = settings.tencent_url or OWN_URL
        self._client = proxies.build_client(NAME, lambda: _client(api, self._secrets, settings))

    @property
    def service(self) -> Service:
        """Give the service."""
        return self._service

    def estimate(self, texts: Sequence[str]) -> Needs:
        """Estimate the usage of a translation, which is at most about twice as long as its text."""
        if self._service.model == BATCH:
            exact = Usage(characters=sum(map(len, texts)))
            return Needs(exact, exact)
        likely = sum(prompts.tokens(text) + _ANSWERS_PREAMBLE for text in texts)
        most = sum(map(token_bounds.message, texts))
        return Needs(Usage(likely, 2 * likely), Usage(most, 2 * most))

    def translate(self, texts: Sequence[str], source: str, target: str) -> Translated:
        """Translate some texts, in one call; raises as `ports.Translator.translate`.

        Raises:
            UserError: several texts for a model that takes one per call.
        """
        if self._service.model == BATCH:
            translated = self._batch(texts, source, target)
        elif len(texts) == 1:
            translated = self._chat(texts[0], source, target)
        else:
            raise UserError(
                f"{self._service.model} takes one text per call: remove `texts` from VOTEQUEUE_LIMITS"
            )
        if len(translated.texts) != len(texts):
            raise Unreadable(f"{NAME} sent {len(translated.texts)} translations for {len(texts)} texts")
        pairs = zip(texts, translated.texts, strict=True)
        if any(text.strip() and not result.strip() for text, result in pairs):
            raise Unreadable(f"{NAME} sent an empty translation")
        return translated

    def _batch(self, texts: Sequence[str], source: str, target: str) -> Translated:
        answer = self._call(
            BATCH, {"Source": source, "Target": target, "ProjectId": 0, "SourceTextList": list(texts)}
        )
        result = answer.get("TargetTextList")
        if not isinstance(result, list) or not all(isinstance(text, str) for text in result):
            raise Unreadable(f"{NAME}'s answer has no list of translations")
        used = answer.get("UsedAmount")
        characters = used if isinstance(used, int) and used > 0 else sum(map(len, texts))
        return Translated(result, Usage(characters=characters))

    def _chat(self, text: str, source: str, target: str) -> Translated:
        fields = {"Model": self._service.model, "Stream": False, "Source": source, "Target": target}
        answer = self._call("ChatTranslations", {**fields, "Text": text})
        try:
            choice = answer["Choices"][0]
            result = choice["Message"]["Content"]
        except (KeyError, IndexError, TypeError):
            raise Unreadable(f"{NAME}'s answer has no translation") from None
        if choice.get("FinishReason") == "sensitive":
            raise Refused(f"{NAME}'s content filter stopped this text")
        if not isinstance(result, str):
            raise Unreadable(f"{NAME}'s answer has no translation")
        return Translated([result], _tokens(answer.get("Usage")) or self.estimate([text]).most)

    def _call(self, action: str, request: dict[str, Any]) -> dict[str, Any]:
        answer = requests_errors.map_errors(
            lambda: self._client.call_json(action, request)["Response"], self._failure
        )
        if not isinstance(answer, dict):
            raise Unreadable(f"{NAME}'s answer is not as documented")
        # The SDK detects errors only if the content type is exactly `application/json`, without a charset.
        if isinstance(refusal := answer.get("Error"), dict):
            raise self._refusal(str(refusal.get("Code")), refusal.get("Message"))
        return answer

    def _failure(self, error: Exception) -> VotequeueError:
        from tencentcloud.common.exception import TencentCloudSDKException

        # The SDK does not wrap failures while it reads the answer, nor those of the answer's format.
        if not isinstance(error, TencentCloudSDKException):
            return requests_errors.failure(error, NAME, self._url)
        if error.code == "ClientNetworkError":
            return requests_errors.failure(error.__context__ or error, NAME, self._url)
        if error.code == "ServerNetworkError":
            return Unavailable(f"{NAME} answered with an HTTP error")
        return self._refusal(str(error.code), error.message)

    def _refusal(self, code: str, message: object) -> VotequeueError:
        problem = f"{NAME}: {code}: {openai_errors.quoted(requests_errors.hidden(message, self._secrets))}"
        family = _family(code)
        if family in _BARRED:
            return Barred(f"{problem}; {_BARRED[family]}, {openai_errors.AGAIN}")
        return _OTHERS.get(family, Unavailable)(problem)


def _family(code: str) -> str:
    prefixes = [begin for begin in (*_BARRED, *_OTHERS) if code.startswith(begin)]
    return max(prefixes, key=len, default="")


def _secret(value: SecretStr | None, name: str) -> str:
    if value is None or not value.get_secret_value().strip():
        raise UserError(f"provider tencent needs the setting {PREFIX}{name}")
    return value.get_secret_value().strip()


def _client(api: tuple[str, str], secrets: tuple[str, str], settings: Settings) -> Any:
    from tencentcloud.common.common_client import CommonClient
    from tencentcloud.common.credential import Credential
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile

    requests_errors.silence(SDK_LOGGER)
    url = urlsplit(settings.tencent_url or "https:")
    http = HttpProfile(
        protocol=url.scheme,
        endpoint=url.netloc or None,
        reqTimeout=settings.call_timeout,
        keepAlive=True,
    )
    # No retryer: the SDK's own one repeats a call after a success (FACTS.md).
    profile = ClientProfile(httpProfile=http, language="en-US", retryer=None)
    client = CommonClient(*api, Credential(*secrets), settings.tencent_region, profile)
    if urls.stays_here(url.geturl()):
        client.request.conn.proxy = requests_errors.DIRECT
    requests_errors.widen(client.request.conn._session, settings.calls_in_flight)
    return client


def _tokens(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    counts = (usage.get("PromptTokens"), usage.get("CompletionTokens"))
    if not all(isinstance(count, int) for count in counts):
        return None
    return Usage(*counts)  # type: ignore[arg-type]
