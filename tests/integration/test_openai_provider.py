"""The OpenAI-compatible wire beyond what all providers share: other words for the same failures."""

import email.utils
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from shared import token_bounds
from shared.errors import (
    Barred,
    Exhausted,
    NoReply,
    Refused,
    Throttled,
    Unavailable,
    Unreadable,
    UserError,
    VotequeueError,
)
from shared.providers import Limits, Price, Usage
from tests.servers.openai import Arrival, ChatServer
from tests.valkey import free_port
from workers.ports import Prompt, Reply, Service
from workers.providers import openai_errors, retry_after
from workers.providers.openai import OpenAIChat, usage
from workers.providers.openai_errors import ErrorAnswer

KEY = "sk-31d2f0a97c"
PROMPT = Prompt("谁最高？", 64, 0.7)
SERVICE = Service("chat", "m", "1f0c22aa", Limits(), Price())


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(key=KEY) as started:
        yield started


def chat(server: ChatServer, timeout: float = 5.0) -> OpenAIChat:
    return OpenAIChat(SERVICE, server.url, SecretStr(KEY), timeout)


# Replies


def test_a_reply_carries_the_usage_that_the_service_tells(server: ChatServer) -> None:
    server.reply = lambda prompt: f"你问：{prompt}"
    assert chat(server).complete(PROMPT) == Reply("你问：谁最高？", Usage(4, 7))


def test_usage_that_is_not_told_is_bounded(server: ChatServer) -> None:
    server.usage, server.reply = False, lambda _: "甲最高。"
    assert chat(server).complete(PROMPT).usage == Usage(12 + token_bounds.TEMPLATE, 12)


@pytest.mark.parametrize(("fault", "kind"), [("thought", Refused), ("empty", Unreadable)])
def test_an_empty_reply_tells_what_it_used(
    server: ChatServer, fault: str, kind: type[VotequeueError]
) -> None:
    server.fail_with(fault)
    with pytest.raises(kind) as raised:
        chat(server).complete(PROMPT)
    assert raised.value.used == (4, 12)
    server.usage = False
    with pytest.raises(kind) as raised:
        chat(server).complete(PROMPT)
    assert raised.value.used is None


@pytest.mark.parametrize(
    ("told", "used"),
    [
        ({"prompt_tokens": 4, "completion_tokens": 7}, Usage(4, 7)),
        ({"prompt_tokens": 4, "completion_tokens": 7, "total_tokens": 11}, Usage(4, 7)),
        # Thinking is charged, and some services count it in the total only.
        ({"prompt_tokens": 4, "completion_tokens": 7, "total_tokens": 511}, Usage(4, 507)),
        ({"prompt_tokens": 4.0, "completion_tokens": 7}, Usage(4, 7)),
        (
            {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
            Usage(12 + token_bounds.TEMPLATE, 12),
        ),
        ({"prompt_tokens": -4, "completion_tokens": 1e300}, Usage(12 + token_bounds.TEMPLATE, 12)),
        ({"prompt_tokens": "4", "completion_tokens": None}, Usage(12 + token_bounds.TEMPLATE, 12)),
        ({"prompt_tokens": 10**30, "completion_tokens": float("nan")}, Usage(12 + token_bounds.TEMPLATE, 12)),
        ([4, 7], Usage(12 + token_bounds.TEMPLATE, 12)),
    ],
)
def test_usage_is_what_is_told_and_a_bound_of_what_is_not(told: object, used: Usage) -> None:
    assert usage(told, "谁最高？", "甲最高。") == used


def test_threads_share_connections_and_keep_them(server: ChatServer) -> None:
    server.latency = 0.02
    model = chat(server)

    def ask() -> None:
        for _ in range(5):
            model.complete(PROMPT)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 20
    assert server.connections <= 4
    assert server.most_at_once <= 4
    assert all(arrival.authorized for arrival in server.requests)


def test_a_service_without_a_key_gets_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ChatServer(key=KEY) as server:
        model = OpenAIChat(SERVICE, server.url, None, 5.0)
        with pytest.raises(Barred):
            model.complete(PROMPT)
    assert [arrival.authorized for arrival in server.requests] == [False]


# Failures


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("reset", NoReply, "broke off"),
        ("timeout", NoReply, "timed out"),
        ("truncated", Unreadable, "not a JSON object"),
        ("empty", Unreadable, "empty"),
        ("thought", Refused, "64 tokens were used up"),
        ("no choices", Unreadable, "no choices"),
        ("no object", Unreadable, "not a JSON object"),
        ("error inside", Throttled, "says 429: rate limited upstream"),
        ("filtered", Refused, "content filter"),
        ("refused", Refused, "content filter"),
        ("too long", Refused, "context length"),
        ("no model", Barred, "'m'"),
        ("no balance", Barred, "top up"),
        ("exhausted", Barred, "top up"),
        ("credentials", Barred, "VOTEQUEUE_CHAT_API_KEY"),
    ],
)
def test_a_fault_of_the_wire_is_told_by_its_class_and_its_words(
    server: ChatServer, fault: str, kind: type[VotequeueError], words: str
) -> None:
    server.fail_with(fault)
    with pytest.raises(kind, match=words) as caught:
        # Only where a time-out is the fault is it short: a busy machine delays the other replies.
        chat(server, 0.3 if fault == "timeout" else 5.0).complete(PROMPT)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert len(server.requests) == 1


def test_a_days_quota_comes_back_at_midnight(server: ChatServer) -> None:
    server.fail_with("daily")
    with pytest.raises(Exhausted, match="per day") as caught:
        chat(server).complete(PROMPT)
    assert caught.value.delay is not None
    assert abs(caught.value.delay - openai_errors.until_midnight("Asia/Shanghai")) < 5


@pytest.mark.parametrize("timezone", ["Asia/Shanghai", "America/New_York", "UTC"])
def test_midnight_is_at_most_a_day_away(timezone: str) -> None:
    assert 0 < openai_errors.until_midnight(timezone) <= 25 * 3600


def test_a_delay_may_be_a_date(server: ChatServer) -> None:
    server.retry_after = email.utils.formatdate(time.time() + 60, usegmt=True)
    server.fail_with("throttled with delay")
    with pytest.raises(Throttled) as caught:
        chat(server).complete(PROMPT)
    assert caught.value.delay is not None
    assert 55 < caught.value.delay <= 60


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "9", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Fri, 01 Jan 2021 00:00:00 GMT"}, 0.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
    ],
)
def test_a_delay_is_what_can_be_waited_for(headers: dict[str, str], delay: float | None) -> None:
    assert retry_after.retry_after(headers) == delay


def test_nobody_there_is_not_a_call_that_was_made() -> None:
    model = OpenAIChat(SERVICE, f"http://127.0.0.1:{free_port()}/v1", SecretStr(KEY), 5.0)
    with pytest.raises(Unavailable, match="cannot connect") as caught:
        model.complete(PROMPT)
    assert not isinstance(caught.value, NoReply)


def test_blank_lines_without_end_are_no_reply() -> None:
    # What DeepSeek sends while its queue is long: the connection lives, and no read ever times out.
    import http.server

    class Blank(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"\n")
                    time.sleep(0.02)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blank) as page:
        thread = threading.Thread(target=page.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        model = OpenAIChat(SERVICE, f"http://127.0.0.1:{page.server_address[1]}/v1", SecretStr(KEY), 2.0)
        with pytest.raises(NoReply, match="did not finish"):
            model.complete(PROMPT)
        page.shutdown()
        thread.join()


def answer(status: int, text: str, **headers: str) -> ErrorAnswer:
    return ErrorAnswer(status, {name.replace("_", "-"): value for name, value in headers.items()}, text)


def dashscope(code: str, message: str) -> str:
    return f'{{"error": {{"message": "{message}", "type": "{code}", "code": "{code}"}}, "request_id": "1"}}'


@pytest.mark.parametrize(
    ("host", "told", "kind"),
    [
        # At DashScope this is tokens a minute; at OpenAI it is money.
        ("dashscope.aliyuncs.com", (429, "insufficient_quota", "You exceeded your current quota"), Throttled),
        ("api.openai.com", (429, "insufficient_quota", "You exceeded your current quota"), Barred),
        (
            "dashscope.aliyuncs.com",
            (429, "Throttling.AllocationQuota", "Allocated quota exceeded"),
            Throttled,
        ),
        (
            "dashscope.aliyuncs.com",
            (429, "Throttling.AllocationQuota", "Free allocated quota exceeded."),
            Barred,
        ),
        (
            "dashscope.aliyuncs.com",
            (403, "AllocationQuota.FreeTierOnly", "The free tier is exhausted."),
            Barred,
        ),
        (
            "dashscope.aliyuncs.com",
            (400, "Arrearage", "Access denied, is your account in good standing?"),
            Barred,
        ),
        ("dashscope.aliyuncs.com", (400, "data_inspection_failed", "Output data may contain ..."), Refused),
        (
            "dashscope.aliyuncs.com",
            (429, "limit_requests", "You exceeded your current requests list."),
            Throttled,
        ),
        ("api.deepseek.com", (400, "invalid_request_error", "Model Not Exist"), Barred),
        ("api.deepseek.com", (400, "invalid_request_error", "Content Exists Risk"), Refused),
        ("api.deepseek.com", (422, "invalid_request_error", "max_tokens is too large"), Barred),
        ("api.deepseek.com", (403, "forbidden", "no access to this model"), Barred),
        ("api.deepseek.com", (408, "timeout", "request timeout"), Unavailable),
        ("api.deepseek.com", (409, "conflict", "try again"), Unavailable),
        ("api.deepseek.com", (503, "overloaded", "Service overloaded"), Unavailable),
        ("api.deepseek.com", (504, "gateway", "upstream timed out"), NoReply),
        ("api.deepseek.com", (413, "too_large", "request entity too large"), Refused),
    ],
)
def test_services_have_their_own_words(
    host: str, told: tuple[int, str, str], kind: type[VotequeueError]
) -> None:
    status, code, message = told
    error = openai_errors.judge(answer(status, dashscope(code, message)), SERVICE, host)
    assert type(error) is kind, repr(error)


def test_a_busy_service_that_says_when_to_come_back_slows_all_down() -> None:
    error = openai_errors.judge(answer(503, "busy", retry_after="3"), SERVICE, "h")
    assert isinstance(error, Throttled)
    assert error.delay == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>\n<body>502</body></html>",
        '"what"',
        "[1]",
        '{"error": "no"}',
        '{"error": null}',
        '{"error": []}',
    ],
)
def test_an_error_in_any_shape_is_said_in_one_line(text: str) -> None:
    error = openai_errors.judge(answer(502, text), SERVICE, "h")
    assert type(error) is Unavailable
    assert "\n" not in str(error)


def test_a_long_complaint_is_cut() -> None:
    assert len(str(openai_errors.judge(answer(400, "x" * 5000), SERVICE, "h"))) < 300


def test_a_key_that_a_service_repeats_is_hidden(server: ChatServer) -> None:
    server.reply = lambda _: f"your key is {KEY}"
    assert chat(server).complete(PROMPT).text == "your key is ***"


def test_a_key_may_have_a_line_break_behind_it(server: ChatServer) -> None:
    OpenAIChat(SERVICE, server.url, SecretStr(KEY + "\n"), 5.0).complete(PROMPT)
    assert server.requests[0].authorized


@pytest.mark.parametrize("key", [KEY + "钥", f"{KEY}\nX-Other: 1"])
def test_a_key_that_cannot_be_one_is_said_and_not_told(key: str) -> None:
    with pytest.raises(UserError, match="VOTEQUEUE_CHAT_API_KEY") as caught:
        OpenAIChat(SERVICE, "http://127.0.0.1:9/v1", SecretStr(key), 5.0)
    assert KEY not in str(caught.value)


# What the other tests count with


def test_the_fullest_window_is_found_wherever_it_begins(server: ChatServer) -> None:
    moments = [0.0, 0.75, 1.0, 1.125, 1.75, 3.0]
    server.requests = [Arrival(at, "", True, 1, 10, "ok") for at in moments]
    assert server.most_in(1.0) == 3  # a window does not have its end: neither 0 to 1 nor 0.75 to 1.75
    assert server.most_in(0.25) == 2
    assert server.most_tokens_in(60.0) == 60


def test_a_call_that_its_caller_gave_up_is_in_flight_no_more(server: ChatServer) -> None:
    server.fail_with("timeout")
    for _ in range(3):
        with pytest.raises(NoReply):
            chat(server, 0.1).complete(PROMPT)
    assert server.most_at_once == 1


def test_midnight_is_the_start_of_a_day() -> None:
    from datetime import timedelta
    from zoneinfo import ZoneInfo

    moment = datetime.now(UTC) + timedelta(seconds=openai_errors.until_midnight("Asia/Shanghai") + 1)
    assert moment.astimezone(ZoneInfo("Asia/Shanghai")).hour == 0
