"""What OpenAI-compatible services answer in practice, through the real client: which reply, which error."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from shared.errors import (
    LONGEST_PAUSE,
    Barred,
    Exhausted,
    Held,
    NoReply,
    Refused,
    Throttled,
    Unavailable,
    Unreadable,
    UserError,
    VotequeueError,
)
from shared.providers import Limits, Price
from tests.servers.replying import Replying, Sent, completion
from workers.ports import Prompt, Service
from workers.providers.openai import OpenAIChat

KEY = "sk-31d2f0a97c"
PROMPT = Prompt("谁最高？", 64, 0.7)
SERVICE = Service("chat", "m", "1f0c22aa", Limits(), Price())
TEXT = "甲比乙高，所以最高的是甲。\n答案是：B"


def chat(server: Replying, extra: Mapping[str, object] | None = None) -> OpenAIChat:
    return OpenAIChat(SERVICE, server.url, SecretStr(KEY), 5.0, extra or {})


def said(*answers: Sent) -> str:
    with Replying(answers) as server:
        return chat(server).complete(PROMPT).text


def failure(*answers: Sent) -> VotequeueError:
    with Replying(answers) as server, pytest.raises(VotequeueError) as caught:
        chat(server).complete(PROMPT)
    assert len(server.asked) == 1
    assert "\n" not in str(caught.value)
    return caught.value


def error(status: int, message: str, /, headers: Mapping[str, str] | None = None, **fields: Any) -> Sent:
    return Sent(status, {"error": {"message": message, **fields}}, headers or {})


# Replies


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        [{"type": "text", "text": TEXT}],
        [{"type": "output_text", "text": TEXT, "annotations": []}],
        [{"type": "thinking", "thinking": "答案是：A"}, {"type": "text", "text": TEXT}],
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": "答案是：A"}]},
            {"type": "text", "text": TEXT},
        ],
        [{"type": "reasoning", "text": "答案是：A"}, {"type": "text", "text": TEXT[:5]}, {"text": TEXT[5:]}],
        [{"text": "想", "thought": True}, {"text": TEXT}],
        [{"type": "text", "text": {"value": TEXT}}, {"type": "tool_use", "input": {}}, 7, None],
        [TEXT[:5], TEXT[5:]],
        {"type": "text", "text": TEXT},
    ],
)
def test_the_text_of_a_reply_is_read_in_whatever_parts_it_comes(content: object) -> None:
    assert said(Sent(200, completion(content))) == TEXT


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_what_a_model_has_thought_is_no_part_of_its_reply(field: str) -> None:
    assert said(Sent(200, completion(TEXT, message={field: "答案是：A", "refusal": None}))) == TEXT


def test_a_reply_in_an_array_of_one_is_a_reply() -> None:
    assert said(Sent(200, [completion(TEXT)])) == TEXT


def test_errors_that_are_null_are_none() -> None:
    assert said(Sent(200, {**completion(TEXT, error=None), "error": None})) == TEXT


@pytest.mark.parametrize(
    "used",
    [
        {"prompt_tokens": 10**30, "completion_tokens": -7},
        {"prompt_tokens": "12", "completion_tokens": True},
        [],
        "x",
    ],
)
def test_a_count_that_is_none_spoils_no_reply(used: object) -> None:
    with Replying([Sent(200, {**completion(TEXT), "usage": used})]) as server:
        reply = chat(server).complete(PROMPT)
    assert reply.text == TEXT
    assert 0 < reply.usage.input_tokens < 1000
    assert 0 < reply.usage.output_tokens < 1000


# Replies of no use


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (completion(None, finish_reason="length", message={"reasoning_content": "想" * 300}), "thinking"),
        (completion("", finish_reason="length", message={"reasoning": "想" * 300}), "raise the token limit"),
        (
            completion([{"type": "thinking", "thinking": "想"}], finish_reason="length"),
            "switch the model's thinking off",
        ),
        (completion("<think>\n想一想", finish_reason="length"), "all 64 tokens"),
        (completion("<think>想</think>\n", finish_reason="max_tokens"), "all 64 tokens"),
        (completion(None, message={"refusal": "I can't help with that."}), "refuses to answer: I can't help"),
        (completion([{"type": "refusal", "refusal": "no"}]), "refuses to answer: no"),
        (completion("半句", finish_reason="content_filter"), "content filter"),
        (completion(None, finish_reason="SAFETY"), "content filter"),
    ],
)
def test_a_reply_that_would_be_the_same_again_is_refused(body: object, words: str) -> None:
    caught = failure(Sent(200, body))
    assert type(caught) is Refused
    assert words in str(caught)
    assert caught.used == (100, 50)


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (completion(None), Unreadable, "empty"),
        (completion([]), Unreadable, "empty"),
        (completion(7), Unreadable, "empty"),
        (completion("", message={"reasoning_content": "想"}), Unreadable, "thinking, but no answer"),
        ({"choices": []}, Unreadable, "no choices"),
        ({"choices": None}, Unreadable, "no choices"),
        ({"choices": [None]}, Unreadable, "no choices"),
        ({"choices": [{"message": None}]}, Unreadable, "empty"),
        ([], Unreadable, "not a JSON object"),
        ("[" * 100_000, Unreadable, "not a JSON object"),
        ("<html>sign in</html>", Unreadable, "not a JSON object"),
        (
            completion("", finish_reason="error", error={"code": 502, "message": "overloaded"}),
            Unreadable,
            "overloaded",
        ),
        (completion("半句", finish_reason="error"), Unreadable, "ended with 'error'"),
        (
            completion("半句", finish_reason="insufficient_system_resource"),
            Unreadable,
            "insufficient_system_resource",
        ),
        (completion("", finish_reason="error", error="upstream is away"), Unreadable, "upstream is away"),
        (completion("", error={"code": 429, "message": "slow down"}), Throttled, "slow down"),
        (completion("", error={"code": "401", "message": "no auth credentials"}), Barred, "CHAT_API_KEY"),
        ({"error": "model is loading"}, Unavailable, "model is loading"),
        ({"error": {"message": "Provider returned error", "code": 502}}, Unavailable, "says 502"),
        ({**completion(TEXT), "error": {"message": "cut off", "code": 500}}, Unavailable, "cut off"),
        ([{"error": {"code": 503, "message": "UNAVAILABLE", "status": "UNAVAILABLE"}}], Unavailable, "503"),
        (
            {"error": {"message": "Incorrect API key provided", "type": "invalid_request_error"}},
            Barred,
            "401",
        ),
        (
            {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": None},
            Throttled,
            "rate limit",
        ),
        ({"code": "InvalidApiKey", "message": "Invalid API-key provided.", "request_id": "1"}, Barred, "401"),
        ({"success": False, "code": 500, "msg": "404 NOT_FOUND"}, Unavailable, "says 500"),
    ],
)
def test_what_a_200_says_is_wrong_counts(body: object, kind: type[VotequeueError], words: str) -> None:
    caught = failure(Sent(200, body))
    assert type(caught) is kind, repr(caught)
    assert words in str(caught)


# Parameters


PARAMETERS: list[tuple[Sent, str]] = [
    (
        error(400, "enable_thinking has to be false unless streaming", code="invalid_parameter_error"),
        "enable_thinking",
    ),
    (error(400, "parameter.enable_thinking must be set to false for non-streaming calls"), "enable_thinking"),
    (error(400, "parameter.enable_thinking必须设置为false才能进行非流式调用"), "enable_thinking"),
    (error(400, "enable thinking can not be support when `stream=False`."), "stream"),
    (error(400, "This model only support stream mode, please enable the stream parameter."), "stream"),
    (error(400, "This model does not support non-streaming output. 不支持非流式"), "stream"),
    (
        error(
            400,
            "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1).",
            code="unsupported_value",
            param="temperature",
        ),
        "temperature",
    ),
    (
        error(400, "invalid temperature: only 1 is allowed for this model", type="invalid_request_error"),
        "temperature",
    ),
    (error(400, "`temperature` may only be set to 1 when thinking is enabled."), "temperature"),
    (error(400, "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"), "max_tokens"),
    (error(400, "Range of max_tokens should be [1, 8192]", code="InvalidParameter"), "max_tokens"),
    (
        error(400, "max_tokens is too large: 99999. This model supports at most 4096 completion tokens"),
        "max_tokens",
    ),
    (error(400, "Unrecognized request argument supplied: top_p"), "top_p"),
    (error(400, "Unknown parameter: 'foo'.", code="unknown_parameter", param="foo"), "foo"),
    (
        Sent(
            400,
            [{"error": {"code": 400, "message": 'Unknown name "foo": Cannot find field.', "status": "X"}}],
        ),
        "foo",
    ),
    (
        Sent(422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "foo"], "msg": "Extra inputs"}]}),
        "foo",
    ),
    (
        Sent(400, {"object": "error", "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'foo')}]"}),
        "foo",
    ),
    (error(400, "property 'foo' is unsupported"), "foo"),
    (error(400, '"qwen2" does not support thinking'), "thinking"),
    (Sent(400, {"error": "Unsupported param: temperature"}), "temperature"),
    (error(400, "Argument not supported on this model: temperature"), "temperature"),
    (error(400, "temperature 参数非法", code="1214"), "temperature"),
]


@pytest.mark.parametrize(("answer", "name"), PARAMETERS)
def test_a_parameter_that_a_model_does_not_take_stops_the_model(answer: Sent, name: str) -> None:
    with Replying([answer]) as server, pytest.raises(Barred) as caught:
        chat(server, {"foo": 1}).complete(PROMPT)
    assert not caught.value.whole
    assert caught.value.delay is None
    assert name in str(caught.value)
    assert "VOTEQUEUE_CHAT_EXTRA" in str(caught.value)
    assert "resume" in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        error(
            400,
            "This model's maximum context length is 8192 tokens. Please reduce the length of the messages.",
        ),
        error(
            400,
            "'max_tokens' or 'max_completion_tokens' is too large: 64. The maximum context length is 99",
        ),
        error(400, "Range of input length should be [1, 30720]", code="InvalidParameter"),
        error(413, "Request too large"),
        error(400, "Output data may contain inappropriate content.", code="data_inspection_failed"),
        error(400, "The response was filtered due to the prompt", code="content_filter", param="prompt"),
        error(403, "Your input was flagged", metadata={"reasons": ["violence"]}),
    ],
)
def test_what_a_question_is_refused_for_is_its_own_affair(answer: Sent) -> None:
    assert type(failure(answer)) is Refused


RENAMED = error(
    400,
    "Unsupported parameter: 'max_tokens' is not supported with this model. "
    "Use 'max_completion_tokens' instead.",
    param="max_tokens",
    code="unsupported_parameter",
)


def picky(request: dict[str, Any]) -> Sent:
    return RENAMED if "max_tokens" in request else Sent(200, completion(TEXT))


def test_another_name_for_a_parameter_is_used_and_remembered() -> None:
    with Replying([picky]) as server:
        model = chat(server)
        with pytest.raises(Held, match="max_completion_tokens") as caught:
            model.complete(PROMPT)
        assert type(caught.value) is Held
        assert caught.value.delay == 1.0
        assert [model.complete(PROMPT).text for _ in range(2)] == [TEXT, TEXT]
    assert [(one.get("max_tokens"), one.get("max_completion_tokens")) for one in server.asked] == [
        (64, None),
        (None, 64),
        (None, 64),
    ]


def test_a_model_that_takes_neither_name_is_stopped() -> None:
    with Replying([RENAMED]) as server:
        model = chat(server)
        with pytest.raises(Held):
            model.complete(PROMPT)
        with pytest.raises(Barred):
            model.complete(PROMPT)


# Extra fields


def test_extra_fields_are_sent_and_win_and_null_leaves_one_out() -> None:
    extra = {
        "enable_thinking": False,
        "temperature": 1,
        "max_tokens": None,
        "chat_template_kwargs": {"a": [1]},
    }
    with Replying([Sent(200, completion(TEXT))]) as server:
        chat(server, extra).complete(PROMPT)
    (request,) = server.asked
    assert request == {
        "model": "m",
        "messages": [{"role": "user", "content": "谁最高？"}],
        "enable_thinking": False,
        "temperature": 1,
        "chat_template_kwargs": {"a": [1]},
    }


# Refusals that say nothing


def test_a_model_that_refuses_all_alike_is_stopped_and_no_question_is_blamed() -> None:
    with Replying([error(400, "Bad Request")]) as server:
        model = chat(server)
        with pytest.raises(Unavailable):
            model.complete(Prompt("题目一", 64, 0.7))
        with pytest.raises(Barred, match="2 different questions") as caught:
            model.complete(Prompt("题目二", 64, 0.7))
    assert not caught.value.whole


def test_a_question_that_alone_is_refused_is_to_blame() -> None:
    with Replying([Sent(200, completion(TEXT)), error(400, "Bad Request")]) as server:
        model = chat(server)
        model.complete(Prompt("题目一", 64, 0.7))
        with pytest.raises(Refused):
            model.complete(Prompt("题目二", 64, 0.7))
    with Replying([error(400, "Bad Request")]) as server:
        model = chat(server)
        kinds = []
        for _ in range(3):
            with pytest.raises(VotequeueError) as caught:
                model.complete(PROMPT)
            kinds.append(isinstance(caught.value, Refused))
    assert kinds == [False, False, True]


# Credentials


@pytest.mark.parametrize(
    "answer",
    [
        Sent(
            400,
            [
                {
                    "error": {
                        "code": 400,
                        "message": "the key is not valid",
                        "details": [{"reason": "API_KEY_INVALID"}],
                    }
                }
            ],
        ),
        Sent(400, {"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}),
        error(400, "API key expired. Please renew the API key.", status="INVALID_ARGUMENT"),
        error(400, f"Incorrect API key provided: {KEY[:6]}***", code="invalid_api_key"),
        error(401, f"Incorrect API key provided: {KEY[:6]}***"),
        Sent(401, {"message": "Invalid Authentication"}),
        Sent(401, ""),
        error(403, "Permission denied on resource project", status="PERMISSION_DENIED"),
        error(400, "无效的令牌"),
        Sent(404, {"error": {"message": "Unauthorized", "code": "unauthenticated"}}),
    ],
)
def test_a_key_that_is_not_taken_stops_the_account_whatever_the_status(answer: Sent) -> None:
    caught = failure(answer)
    assert isinstance(caught, Barred)
    assert caught.whole
    assert "VOTEQUEUE_CHAT_API_KEY" in str(caught)
    assert KEY[:6] not in str(caught)


# Limits


def quota(name: str, **fields: Any) -> dict[str, Any]:
    violations = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": name}]}
    return {"status": "RESOURCE_EXHAUSTED", "code": 429, "details": [violations, fields]}


MONEY = "You exceeded your current quota, please check your plan and billing details."


@pytest.mark.parametrize(
    ("answer", "delay"),
    [
        (
            error(
                429,
                f"{MONEY} Please retry in 5.4s.",
                **quota("GenerateRequestsPerMinutePerProject", retryDelay="5s"),
            ),
            5.4,
        ),
        (error(429, MONEY, **quota("GenerateContentInputTokensPerModelPerMinute-FreeTier")), None),
        (Sent(429, [{"error": {"message": MONEY, **quota("RequestsPerMinute", retryDelay="17s")}}]), 17.0),
        (
            error(
                429,
                "3 requests a minute reached; again in 2s; a payment method raises the limit",
                code="rate_limit_exceeded",
            ),
            2.0,
        ),
        (error(429, "You have reached 60 RPM. Add a payment method to your billing account"), None),
        (
            error(
                429,
                "Requests have exceeded call rate limit. Please retry after 26 seconds. Upgrade your plan",
            ),
            26.0,
        ),
        (error(429, "limit: 3. Please try again in 6m0s. Visit billing", type="requests"), 360.0),
        (error(429, "quota reached, see billing", headers={"Retry-After": "9"}), 9.0),
        (error(429, "slow down", headers={"Retry-After": "0", "retry-after-ms": "250"}), 0.25),
        (error(429, "slow down", retry_after=12), 12.0),
        (error(429, "请求过于频繁，请在30秒后重试"), 30.0),
        (
            error(
                429,
                "slow down",
                headers={
                    "x-ratelimit-remaining-requests": "0",
                    "x-ratelimit-reset-requests": "1m2.5s",
                    "x-ratelimit-remaining-tokens": "900",
                    "x-ratelimit-reset-tokens": "6m0s",
                },
            ),
            62.5,
        ),
        (error(429, "slow down", headers={"Retry-After": "86400"}), LONGEST_PAUSE),
        (error(429, "slow down", headers={"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}), LONGEST_PAUSE),
        (error(429, "slow down", headers={"Retry-After": "Fri, 31 Dec 9999 23:59:59 -1200"}), LONGEST_PAUSE),
        (error(429, "slow down", headers={"Retry-After": "1" + "0" * 300}), LONGEST_PAUSE),
        (error(429, "slow down", headers={"Retry-After": "99999999h"}), LONGEST_PAUSE),
        (error(429, "slow down", headers={"Retry-After": "inf"}), None),
        (error(429, "slow down", headers={"Retry-After": "NaN"}), None),
        (error(429, "slow down", headers={"Retry-After": "-5"}), None),
        (error(429, "slow down", headers={"Retry-After": "Thu, 99 Foo 2026 99:99:99 GMT"}), None),
        (Sent(429, "busy", {}), None),
        (error(403, "Rate Limit Exceeded", errors=[{"reason": "rateLimitExceeded"}]), None),
    ],
)
def test_a_limit_of_a_minute_is_one_whatever_its_sentence_says(answer: Sent, delay: float | None) -> None:
    caught = failure(answer)
    assert type(caught) is Throttled, repr(caught)
    assert caught.delay == (None if delay is None else pytest.approx(delay, abs=1.0))


@pytest.mark.parametrize(
    "answer",
    [
        error(429, MONEY, **quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")),
        error(429, "Rate limit reached on requests per day (RPD): Limit 200", code="rate_limit_exceeded"),
        error(429, "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock more"),
        error(429, "今日额度已用完"),
    ],
)
def test_a_days_quota_pauses_until_it_is_back(answer: Sent) -> None:
    caught = failure(answer)
    assert type(caught) is Exhausted
    assert caught.delay is not None
    assert 0 < caught.delay <= 90_000


@pytest.mark.parametrize(
    "answer",
    [
        error(429, MONEY, type="insufficient_quota", code="insufficient_quota"),
        error(
            429,
            "Your account is suspended, please check your plan and billing details",
            type="exceeded_current_quota_error",
        ),
        error(429, "余额不足或无可用资源包,请充值。", code="1113"),
        error(429, MONEY),
        error(402, "Insufficient Balance"),
        error(403, "Your account is overdue", code="AccountOverdueError"),
    ],
)
def test_an_account_without_credit_is_stopped(answer: Sent) -> None:
    caught = failure(answer)
    assert isinstance(caught, Barred)
    assert caught.whole
    assert "top up" in str(caught)


def test_a_proxy_that_wants_a_login_is_this_machines_affair() -> None:
    assert isinstance(failure(Sent(407, "Proxy Authentication Required")), UserError)


@pytest.mark.parametrize(
    ("status", "kind"), [(500, Unavailable), (502, Unavailable), (504, NoReply), (408, Unavailable)]
)
@pytest.mark.parametrize(
    "body", ["", "<html>\n</html>", "null", "[[[1]]]", '{"error": {"error": {"error": 1}}}', "[" * 9999]
)
def test_no_body_of_an_error_is_too_odd(status: int, kind: type[VotequeueError], body: str) -> None:
    assert type(failure(Sent(status, body))) is kind
