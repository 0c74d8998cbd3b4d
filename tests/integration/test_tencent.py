"""Tencent's own SDK against a server that checks signatures, counts, and knows Tencent's errors."""

import logging
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import (
    Barred,
    NoReply,
    Refused,
    Throttled,
    Unavailable,
    Unreadable,
    UserError,
    VotequeueError,
)
from shared.providers import Usage
from tests.servers import tencent
from tests.servers.tencent import SECRET_ID, SECRET_KEY, TencentServer
from workers.ports import Translator

HUNYUAN = "hunyuan-translation-lite"
CODES = {
    "RequestLimitExceeded": Throttled,
    "RequestLimitExceeded.UinLimitExceeded": Throttled,
    "LimitExceeded": Throttled,
    "LimitExceeded.LimitedAccessFrequency": Throttled,
    "FailedOperation.EngineServerLimitExceeded": Throttled,
    "FailedOperation.NoFreeAmount": Barred,
    "FailedOperation.ServiceIsolate": Barred,
    "FailedOperation.UserNotRegistered": Barred,
    "FailedOperation.ServiceNotActivated": Barred,
    "FailedOperation.ResourcePackExhausted": Barred,
    "AuthFailure.SignatureExpire": Barred,
    "AuthFailure.UnauthorizedOperation": Barred,
    "UnauthorizedOperation.ActionNotFound": Barred,
    "ResourceUnavailable.InArrears": Barred,
    "ResourceInsufficient.ChargeResourceExhaust": Barred,
    "InternalError": Unavailable,
    "InternalError.BackendTimeout": Unavailable,
    "FailedOperation.EngineRequestTimeout": Unavailable,
    "FailedOperation.RequestAiLabErr": Unavailable,
    "SomethingNew.OfThisYear": Unavailable,
    "UnsupportedOperation.TextTooLong": Refused,
    "UnsupportedOperation.UnsupportedLanguage": Refused,
    "InvalidParameter": Refused,
    "InvalidParameterValue.Model": Refused,
    "OperationDenied.TextIllegalDetected": Refused,
}
ENDS = {
    "timeout": NoReply,
    "reset": NoReply,
    "server error": Unavailable,
    "garbled": Unreadable,
    "empty": Unreadable,
    "wrong count": Unreadable,
}

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def server() -> Iterator[TencentServer]:
    with TencentServer() as server:
        yield server


def failure(translator: Translator, *texts: str) -> VotequeueError:
    with pytest.raises(VotequeueError) as caught:
        translator.translate(texts or ("甲比乙高。",), "zh", "ja")
    return caught.value


def test_a_batch_is_translated_in_one_signed_call_and_in_order(server: TencentServer) -> None:
    texts = ["甲比乙高。", "A 与 B 相差 3 岁", "甲比乙高。"]
    made = tencent.translator(server).translate(texts, "zh", "ja")
    assert made.texts == ["甲比乙高。訳", "A 与 B 相差 3 岁訳", "甲比乙高。訳"]
    assert made.usage == Usage(characters=sum(map(len, texts)))
    assert (len(server.arrivals), server.refused) == (1, {})
    assert server.asked[0]["SourceTextList"] == texts


def test_hunyuan_translates_one_text_a_call_and_tells_its_tokens(server: TencentServer) -> None:
    translator = tencent.translator(server, HUNYUAN)
    made = translator.translate(["甲比乙高。訳"], "ja", "zh")
    assert made.texts == ["甲比乙高。译"]
    assert made.usage == Usage(input_tokens=26, output_tokens=6)
    assert server.asked[0]["Model"] == HUNYUAN
    assert isinstance(failure(translator, "一", "二"), UserError)
    assert len(server.arrivals) == 1


@pytest.mark.parametrize("model", ["TextTranslateBatch", HUNYUAN])
def test_what_a_call_uses_is_within_its_estimate(server: TencentServer, model: str) -> None:
    translator = tencent.translator(server, model)
    most = translator.estimate(["甲比乙高。"]).most
    used = translator.translate(["甲比乙高。"], "zh", "ja").usage
    assert (used.characters, used.tokens) <= (most.characters, most.tokens)
    assert most.characters or most.tokens


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("tencent_secret_key", "AuthFailure.SignatureFailure"),
        ("tencent_secret_id", "AuthFailure.SecretIdNotFound"),
    ],
)
def test_a_wrong_credential_is_refused_and_named(server: TencentServer, setting: str, code: str) -> None:
    error = failure(tencent.translator(server, **{setting: "wrong"}))
    assert isinstance(error, Barred)
    assert "VOTEQUEUE_TENCENT_SECRET_KEY" in str(error)
    assert server.refused == {code: 1}


@pytest.mark.parametrize("model", ["TextTranslateBatch", HUNYUAN])
@pytest.mark.parametrize(("code", "kind"), CODES.items())
def test_every_code_has_its_class(
    server: TencentServer, model: str, code: str, kind: type[VotequeueError]
) -> None:
    server.fail_with(code)
    error = failure(tencent.translator(server, model))
    assert type(error) is kind
    assert code in str(error)
    assert len(server.arrivals) == 1
    assert not isinstance(error, Barred) or str(error).endswith("then `votequeue resume` the run")


@pytest.mark.parametrize("model", ["TextTranslateBatch", HUNYUAN])
@pytest.mark.parametrize(("end", "kind"), ENDS.items())
def test_every_broken_call_has_its_class(
    server: TencentServer, model: str, end: str, kind: type[VotequeueError]
) -> None:
    server.fail_with(end)
    assert (
        type(failure(tencent.translator(server, model, call_timeout=0.8 if end == "timeout" else 30.0)))
        is kind
    )
    assert len(server.arrivals) == 1


def test_a_service_that_is_not_there_was_never_called() -> None:
    with TencentServer() as server:
        translator = tencent.translator(server)
    assert type(failure(translator)) is Unavailable


def test_an_error_counts_whatever_its_content_type(server: TencentServer) -> None:
    server.content_type = "application/json; charset=utf-8"
    server.fail_with("RequestLimitExceeded")
    assert type(failure(tencent.translator(server))) is Throttled


def test_what_the_filter_stops_is_not_asked_again(server: TencentServer) -> None:
    server.fail_with("sensitive")
    assert type(failure(tencent.translator(server, HUNYUAN))) is Refused


def test_an_empty_translation_is_none() -> None:
    with TencentServer(translate=lambda text, *_: text.replace("空", "")) as server:
        assert type(failure(tencent.translator(server), "甲", "空")) is Unreadable


def test_a_request_over_the_character_limit_is_refused(server: TencentServer) -> None:
    translator = tencent.translator(server)
    limit = translator.service.limits.characters
    assert limit
    translator.translate(["甲" * limit], "zh", "ja")
    assert type(failure(translator, "甲" * limit, "乙")) is Refused
    assert server.characters == [limit, limit + 1]


def test_the_server_keeps_the_limit_of_a_second() -> None:
    with TencentServer(per_second=3) as server:
        translator = tencent.translator(server)
        ends = [_end(translator) for _ in range(5)]
        assert ends == ["ok"] * 3 + ["Throttled"] * 2
        assert (server.arrivals.most_in(1.0), server.refused) == (5, {"RequestLimitExceeded": 2})


def test_the_server_keeps_the_limit_of_calls_at_once() -> None:
    with TencentServer(at_once=2, seconds=0.5) as server:
        translator = tencent.translator(server, HUNYUAN)
        ends: list[str] = []
        callers = [threading.Thread(target=lambda: ends.append(_end(translator))) for _ in range(3)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert sorted(ends) == ["Throttled", "ok", "ok"]
        assert server.arrivals.most_at_once == 3


def _end(translator: Translator) -> str:
    try:
        translator.translate(["甲"], "zh", "ja")
    except VotequeueError as error:
        return type(error).__name__
    return "ok"


def test_one_connection_serves_many_calls(server: TencentServer) -> None:
    translator = tencent.translator(server)
    for _ in range(5):
        translator.translate(["甲"], "zh", "ja")
    assert (len(server.arrivals), server.connections) == (5, 1)


@pytest.mark.parametrize("end", ["ok", "AuthFailure.SignatureFailure", "server error", "reset", "empty"])
def test_no_credential_is_logged_or_told(
    server: TencentServer, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.fail_with(end)
    translator = tencent.translator(server)
    told = ""
    if end == "ok":
        translator.translate(["甲"], "zh", "ja")
    else:
        error = failure(translator)
        told = "".join(traceback.format_exception(error)) + repr(error.__cause__) + repr(error.__context__)
    assert not [secret for secret in (SECRET_ID, SECRET_KEY) if secret in told + caplog.text]


@pytest.mark.parametrize("missing", ["tencent_secret_id", "tencent_secret_key"])
def test_a_missing_setting_is_named(server: TencentServer, missing: str) -> None:
    with pytest.raises(UserError, match=f"VOTEQUEUE_{missing.upper()}"):
        tencent.translator(server, **{missing: " "})


def test_nothing_is_written_where_it_runs(server: TencentServer, home: Path) -> None:
    tencent.translator(server).translate(["甲"], "zh", "ja")
    assert list(home.iterdir()) == []
