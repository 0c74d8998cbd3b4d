"""Baidu's own SDK against a server that gives tokens, checks signatures, counts, and knows the errors."""

import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

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
from shared.providers import Usage
from tests.servers import qianfan
from tests.servers.qianfan import ACCESS_KEYS, KEYS, SECRETS, QianfanServer
from workers.ports import ChatModel, Prompt, Reply
from workers.providers import qianfan_sdk

V2 = {**ACCESS_KEYS, "qianfan_api": "v2"}
WAYS = {"keys": KEYS, "access keys": ACCESS_KEYS, "v2": V2}
TOKEN_PAGES = {"keys": "/oauth/2.0/token", "v2": "/v1/BCE-BEARER/token"}
LIST = "/wenxinworkshop/service/list"
PROMPT = Prompt("谁最高？", 64, 0.7)
ANSWER = "一步一步推理。\n答案是：A"
CODES = {
    **dict.fromkeys([4, 18, 336501, 336502], Throttled),
    **dict.fromkeys([1, 2, 336000, 336100, 500000, 987654], Unavailable),
    **dict.fromkeys([6, 13, 14, 15, 19, 100], Barred),
    **dict.fromkeys([3, *range(336001, 336008), *range(336101, 336106)], Refused),
    17: Exhausted,
}
V2_ENDS = {
    "throttled": Throttled,
    "throttled with delay": Throttled,
    "code in 200": Throttled,
    "credentials": Barred,
    "arrears": Barred,
    "refused": Refused,
    "unsafe": Refused,
    "daily": Exhausted,
    "internal": Unavailable,
}
ENDS = {
    "timeout": NoReply,
    "reset": NoReply,
    "server error": Unavailable,
    "garbled": Unreadable,
    "empty": Unreadable,
    "no result": Unreadable,
    "flagged": Refused,
}

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def server() -> Iterator[QianfanServer]:
    with QianfanServer() as server:
        yield server


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a token be renewed as soon as it is refused, however young it is."""
    monkeypatch.setattr(qianfan_sdk, "TOKENS_LAST", 0.0)


def failure(model: ChatModel, prompt: Prompt = PROMPT) -> VotequeueError:
    with pytest.raises(VotequeueError) as caught:
        model.complete(prompt)
    return caught.value


@pytest.mark.parametrize("way", WAYS)
def test_a_question_is_one_call_and_tells_its_tokens(server: QianfanServer, way: str) -> None:
    reply = qianfan.chat(server, **WAYS[way]).complete(PROMPT)
    assert reply == Reply(ANSWER, Usage(4, 12))
    assert len(server.arrivals) == 1
    assert server.asked[0][1]["messages"] == [{"role": "user", "content": PROMPT.text}]


def test_a_token_is_fetched_once_for_many_calls(server: QianfanServer) -> None:
    for way in ("keys", "v2"):
        model = qianfan.chat(server, **WAYS[way])
        for _ in range(3):
            model.complete(PROMPT)
    assert server.exchanges == dict.fromkeys(TOKEN_PAGES.values(), 1)


def test_the_sdk_finds_a_model_s_endpoint_by_its_name(server: QianfanServer) -> None:
    qianfan.chat(server, "yi-34b-chat", **KEYS).complete(PROMPT)
    # One that only Baidu's list has, which is asked for with access keys alone.
    model = qianfan.chat(server, "Puzzler-7B", **ACCESS_KEYS)
    model.complete(PROMPT)
    model.complete(PROMPT)
    assert [name for name, _ in server.asked] == ["yi_34b_chat", "puzzler_7b", "puzzler_7b"]
    assert server.exchanges == {TOKEN_PAGES["keys"]: 1, LIST: 1}


def test_a_model_that_nobody_knows_is_refused_without_a_call(server: QianfanServer) -> None:
    error = failure(qianfan.chat(server, "Yi-35B-Chat", **KEYS))
    assert type(error) is Refused
    assert "Yi-35B-Chat" in str(error)
    assert len(server.arrivals) == 0


def test_building_a_model_calls_nobody(server: QianfanServer) -> None:
    for way in WAYS.values():
        qianfan.chat(server, **way)
    assert (len(server.arrivals), server.exchanges) == (0, {})


def test_only_what_a_model_takes_is_sent(server: QianfanServer) -> None:
    for name in ("Yi-34B-Chat", "ERNIE-Speed-8K"):
        qianfan.chat(server, name, **KEYS).complete(Prompt("谁最高？", 64, 0.0))
        qianfan.chat(server, name, **KEYS).complete(Prompt("谁最高？", 1, 1.4))
    told = [(body["temperature"], body.get("max_output_tokens")) for _, body in server.asked]
    assert told == [(0.01, None), (1.0, None), (0.01, 64), (1.0, 2)]
    qianfan.chat(server, **V2).complete(Prompt("谁最高？", 64, 0.3))
    model, body = server.asked[-1]
    assert (model, body["max_tokens"], body["temperature"]) == ("Yi-34B-Chat", 64, 0.3)


# What goes wrong


@pytest.mark.parametrize("way", ["keys", "access keys"])
@pytest.mark.parametrize(("code", "kind"), CODES.items())
def test_every_code_has_its_class(
    server: QianfanServer, way: str, code: int, kind: type[VotequeueError]
) -> None:
    server.fail_with(str(code))
    error = failure(qianfan.chat(server, **WAYS[way]))
    assert type(error) is kind
    assert str(code) in str(error)
    assert len(server.arrivals) == 1
    assert not isinstance(error, Barred) or str(error).endswith("then `votequeue resume` the run")


@pytest.mark.parametrize(("end", "kind"), V2_ENDS.items())
def test_every_status_of_version_2_has_its_class(
    server: QianfanServer, end: str, kind: type[VotequeueError]
) -> None:
    server.fail_with(end)
    error = failure(qianfan.chat(server, **V2))
    assert isinstance(error, kind)
    assert len(server.arrivals) == 1
    assert not isinstance(error, Throttled) or error.delay == (2 if "delay" in end else None)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("end", "kind"), ENDS.items())
def test_every_broken_call_has_its_class(
    server: QianfanServer, way: str, end: str, kind: type[VotequeueError]
) -> None:
    model = qianfan.chat(server, call_timeout=0.8 if end == "timeout" else 30.0, **WAYS[way])
    server.fail_with(end)
    assert type(failure(model)) is kind
    assert len(server.arrivals) == 1


def test_a_limit_s_error_counts_as_the_documents_show_it(server: QianfanServer) -> None:
    server.fail_with("undressed")
    assert type(failure(qianfan.chat(server, **KEYS))) is Throttled


def test_a_day_s_quota_is_waited_for_until_midnight(server: QianfanServer) -> None:
    server.fail_with("exhausted")
    error = failure(qianfan.chat(server, **KEYS))
    assert isinstance(error, Exhausted)
    assert error.delay is not None
    assert 0 < error.delay <= 86_400
    assert "Asia/Shanghai" in str(error)


@pytest.mark.parametrize("way", WAYS)
def test_a_service_that_is_not_there_was_never_called(way: str) -> None:
    with QianfanServer() as server:
        model = qianfan.chat(server, **WAYS[way])
    assert type(failure(model)) is Unavailable


# Credentials


@pytest.mark.parametrize("name", [*KEYS, *ACCESS_KEYS])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_wrong_credential_is_refused_and_named(server: QianfanServer, name: str, version: str) -> None:
    way = KEYS if name in KEYS else ACCESS_KEYS
    if way is KEYS and version == "v2":
        return
    error = failure(qianfan.chat(server, qianfan_api=version, **{**way, name: "wrong" * 4}))
    assert type(error) is Barred
    assert f"VOTEQUEUE_{name.upper()}" in str(error)
    assert "wrongw" not in str(error)
    assert not server.asked


@pytest.mark.parametrize(("way", "version"), [({}, "v1"), ({"qianfan_ak": "a"}, "v1"), (KEYS, "v2")])
def test_a_missing_credential_is_named(server: QianfanServer, way: dict[str, str], version: str) -> None:
    with pytest.raises(UserError, match="VOTEQUEUE_QIANFAN_ACCESS_KEY and VOTEQUEUE_QIANFAN_SECRET_KEY"):
        qianfan.chat(server, qianfan_api=version, **way)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("way", TOKEN_PAGES)
def test_a_refused_token_is_replaced_and_the_call_is_not_repeated(server: QianfanServer, way: str) -> None:
    model = qianfan.chat(server, **WAYS[way])
    model.complete(PROMPT)
    server.revoke()
    assert type(failure(model)) is Unavailable
    assert (len(server.arrivals), len(server.tokens)) == (2, 2)
    assert model.complete(PROMPT).text == ANSWER
    assert (len(server.arrivals), len(server.tokens)) == (3, 2)


@pytest.mark.parametrize("way", TOKEN_PAGES)
def test_a_token_that_is_refused_at_once_stops_the_provider(server: QianfanServer, way: str) -> None:
    model = qianfan.chat(server, **WAYS[way])
    server.lifetime = -1.0 if way == "keys" else 3600.0
    server.fail_with("111" if way == "keys" else "invalid_iam_token")
    error = failure(model)
    assert type(error) is Barred
    assert "VOTEQUEUE_QIANFAN_" in str(error)
    assert len(server.arrivals) == 1


@pytest.mark.usefixtures("eager")
def test_a_bearer_token_is_renewed_before_it_ends(server: QianfanServer) -> None:
    server.lifetime = 5.0  # the SDK renews ten seconds before
    model = qianfan.chat(server, **V2)
    model.complete(PROMPT)
    model.complete(PROMPT)
    assert (len(server.arrivals), len(server.tokens)) == (2, len(server.tokens))
    assert len(server.tokens) > 1


@pytest.mark.parametrize("way", TOKEN_PAGES)
@pytest.mark.parametrize("end", ["server error", "garbled", "empty", "reset", "timeout"])
def test_without_a_token_nothing_is_asked_and_nothing_charged(
    server: QianfanServer, way: str, end: str
) -> None:
    server.exchange_fault = end
    model = qianfan.chat(server, call_timeout=0.8 if end == "timeout" else 30.0, **WAYS[way])
    assert type(failure(model)) is Unavailable
    assert len(server.arrivals) == 0
    server.exchange_fault = "ok"
    assert model.complete(PROMPT).text == ANSWER


def test_a_list_of_models_that_fails_keeps_no_known_model_from_answering(server: QianfanServer) -> None:
    server.exchange_fault = "server error"
    assert qianfan.chat(server, **ACCESS_KEYS).complete(PROMPT).text == ANSWER


# What the SDK must not do


@pytest.mark.parametrize("way", WAYS)
def test_the_sdk_keeps_no_limits_of_its_own(server: QianfanServer, way: str) -> None:
    model = qianfan.chat(server, **WAYS[way])
    for _ in range(20):
        model.complete(PROMPT)
    # The server's replies speak of 60 a minute, and 100 tokens: the SDK would wait for minutes.
    assert len(server.arrivals) == 20


def test_the_server_keeps_its_limits() -> None:
    with QianfanServer(per_second=2) as server:
        model = qianfan.chat(server, **KEYS)
        model.complete(PROMPT)
        model.complete(PROMPT)
        assert "code 18" in str(failure(model))
    with QianfanServer(per_minute=1) as server:
        model = qianfan.chat(server, **V2)
        model.complete(PROMPT)
        assert type(failure(model)) is Throttled
    with QianfanServer(tokens_per_minute=10) as server:
        model = qianfan.chat(server, **ACCESS_KEYS)
        model.complete(PROMPT)
        assert "code 336502" in str(failure(model))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ["ok", "credentials", "throttled", "server error", "reset", "token"])
def test_no_credential_is_logged_or_told(
    server: QianfanServer,
    way: str,
    end: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    model = qianfan.chat(server, **WAYS[way])
    told = ""
    if end == "token":
        server.exchange_fault = "reset"
    else:
        server.fail_with(end)
    if end == "ok" or (end, way) == ("token", "access keys"):
        model.complete(PROMPT)
    else:
        error = failure(model)
        told = "".join(traceback.format_exception(error)) + repr(error.__cause__) + repr(error.__context__)
    printed = capfd.readouterr()
    seen = "\n".join([told, caplog.text, printed.out, printed.err])
    assert not [secret for secret in (*SECRETS, *server.tokens) if secret in seen]
    assert "urllib3" in caplog.text


def test_the_sdk_reads_no_settings_but_ours(
    server: QianfanServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QIANFAN_AK", "a stranger's")
    monkeypatch.setenv("QIANFAN_ACCESS_TOKEN", "a stranger's")
    monkeypatch.setenv("QIANFAN_BASE_URL", "http://127.0.0.1:9")
    (home / ".env").write_text("QIANFAN_SK=a stranger's\nQIANFAN_NO_AUTH=true\nQIANFAN_QPS_LIMIT=0.001\n")
    for way in WAYS.values():
        assert qianfan.chat(server, **way).complete(PROMPT).text == ANSWER
        assert qianfan.chat(server, **way).complete(PROMPT).text == ANSWER


def test_the_sdk_leaves_the_process_and_the_disk_alone(server: QianfanServer, home: Path) -> None:
    program = (
        "import os, sys\n"
        "from tests.servers import qianfan\n"
        "before = dict(os.environ), sys.meta_path[:]\n"
        "class Server: url = sys.argv[1]\n"
        "for way in (qianfan.KEYS, qianfan.ACCESS_KEYS):\n"
        "    qianfan.chat(Server, **way).complete(qianfan.Prompt('谁最高？', 64, 0.7))\n"
        "ours = [one for one in sys.meta_path if 'qianfan' in type(one).__module__]\n"
        "assert not ours, ours\n"
        "assert dict(os.environ) == before[0]\n"
    )
    place = {**os.environ, "HOME": str(home), "PYTHONPATH": str(Path(qianfan.__file__).parents[2])}
    subprocess.run([sys.executable, "-W", "error", "-c", program, server.url], check=True, env=place)
    assert [path for path in home.rglob("*") if path.is_file()] == []
    assert len(server.arrivals) == 2
