"""Providers behind the environment's proxies: outside services through them, this machine's never."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from shared.errors import UserError, VotequeueError
from shared.providers import Limits, Price
from shared.settings import Settings
from tests.servers import proxy, qianfan, socks, tencent
from tests.servers.replying import Replying, Sent, completion
from tests.valkey import free_port
from workers import wiring
from workers.ports import Prompt, Service
from workers.providers import proxies
from workers.providers.openai import OpenAIChat

PROMPT = Prompt("谁最高？", 64, 0.7)
SERVICE = Service("chat", "m", "1f0c22aa", Limits(), Price())
KEY = SecretStr("sk-31d2f0a97c")


@pytest.fixture(autouse=True)
def _no_proxies(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[Replying]:
    with Replying([Sent(200, completion("答案是：B"))]) as started:
        yield started


def port(url: str) -> int:
    return urlsplit(url).port or 0


def ask(url: str, timeout: float = 5.0) -> str:
    return OpenAIChat(SERVICE, url, KEY, timeout).complete(PROMPT).text


# Through a proxy


@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_chat_goes_through_a_socks_proxy(
    server: Replying, variable: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socks.running(port(server.url)) as (place, asked):
        monkeypatch.setenv(variable, f"{scheme}://{place}")
        assert ask("http://chat.invalid/v1") == "答案是：B"
    assert asked == ["chat.invalid:80"]


def test_chat_goes_through_an_http_proxy(server: Replying, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy.running(server.url.removesuffix("/v1")) as (url, asked):
        monkeypatch.setenv("HTTP_PROXY", url)
        assert ask("http://chat.invalid/v1") == "答案是：B"
    assert asked == ["POST http://chat.invalid/v1/chat/completions"]


def test_tencent_goes_through_a_socks_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with tencent.TencentServer() as server, socks.running(port(server.url)) as (place, asked):
        monkeypatch.setenv("ALL_PROXY", f"socks5h://{place}")
        translator = wiring.translator("tencent", "TextTranslateBatch", _tencent("http://tmt.invalid"))
        translator.translate(["甲比乙高。"], "zh", "ja")
    assert asked == ["tmt.invalid:80"]


def test_qianfan_goes_through_a_socks_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with qianfan.QianfanServer() as server, socks.running(port(server.url)) as (place, asked):
        monkeypatch.setenv("ALL_PROXY", f"socks5h://{place}")
        wiring.chat_model("qianfan", "Yi-34B-Chat", _qianfan("http://qianfan.invalid")).complete(PROMPT)
    assert set(asked) == {"qianfan.invalid:80"}


# This machine


@pytest.mark.parametrize(
    "dead", ["socks5://127.0.0.1:9", "http://127.0.0.1:9", "foo://u:S3cret@h", "http://[", "nonsense"]
)
def test_what_is_on_this_machine_is_called_whatever_the_proxy_is(
    server: Replying, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, dead)
    assert ask(server.url) == "答案是：B"
    assert ask(server.url.replace("127.0.0.1", "localhost")) == "答案是：B"
    with tencent.TencentServer() as gateway:
        translator = wiring.translator("tencent", "TextTranslateBatch", _tencent(gateway.url))
        translator.translate(["甲比乙高。"], "zh", "ja")
    with qianfan.QianfanServer() as gateway:
        wiring.chat_model("qianfan", "Yi-34B-Chat", _qianfan(gateway.url)).complete(PROMPT)


# What does not work is said, and is no question's fault


def chats(url: str) -> Callable[[], object]:
    return lambda: ask(url, 2.0)


def translates() -> object:
    translator = wiring.translator("tencent", "TextTranslateBatch", _tencent("http://tmt.invalid"))
    return translator.translate(["甲"], "zh", "ja")


def reasons() -> object:
    return wiring.chat_model("qianfan", "Yi-34B-Chat", _qianfan("http://qianfan.invalid")).complete(PROMPT)


@pytest.mark.parametrize("call", [chats("http://chat.invalid/v1"), translates, reasons])
@pytest.mark.parametrize(
    "dead",
    [
        "socks5://u:S3cret@127.0.0.1:9",
        "http://u:S3cret@127.0.0.1:9",
        "foo://u:S3cret@127.0.0.1:9",
        "http://u:S3cret@[",
        "socks://u:S3cret@127.0.0.1:9",
    ],
)
def test_a_proxy_that_does_not_work_is_said_in_a_sentence(
    call: Callable[[], object], dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", dead)
    with pytest.raises(UserError, match=r"cannot be called from this machine .*HTTP_PROXY") as caught:
        call()
    assert "\n" not in str(caught.value)
    assert "S3cret" not in repr(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "ftp://chat.invalid/v1",
        "http://例\x00/v1",
    ],
)
def test_an_address_that_is_none_is_said_in_a_sentence(url: str) -> None:
    with pytest.raises(UserError, match="cannot be called from this machine"):
        ask(url)


def test_a_service_without_tls_is_said_in_a_sentence(server: Replying) -> None:
    with pytest.raises(UserError, match="certificates"):
        ask(server.url.replace("http:", "https:"))


def test_a_package_that_is_missing_is_said_in_a_sentence() -> None:
    def build() -> None:
        raise ModuleNotFoundError("No module named 'openai'", name="openai")

    with pytest.raises(UserError, match=r"package openai is missing: pip install"):
        proxies.build_client("chat.invalid", build)


def test_a_service_that_is_away_is_not_this_machines_fault() -> None:
    with pytest.raises(VotequeueError, match="cannot connect") as caught:
        ask(f"http://127.0.0.1:{free_port()}/v1")
    assert not isinstance(caught.value, UserError)


def test_a_connection_that_ends_is_no_certificate() -> None:
    from workers.providers import openai

    assert not openai._is_tls_error(ssl.SSLEOFError())
    assert openai._is_tls_error(ssl.SSLCertVerificationError())


def _tencent(url: str) -> Settings:
    keys = {"tencent_secret_id": tencent.SECRET_ID, "tencent_secret_key": tencent.SECRET_KEY}
    given = {**keys, "tencent_url": url, "call_timeout": 2}
    return Settings(_env_file=None, **given)  # type: ignore[call-arg, arg-type]


def _qianfan(url: str) -> Settings:
    given = {**qianfan.KEYS, "qianfan_url": url, "call_timeout": 2}
    return Settings(_env_file=None, **given)  # type: ignore[call-arg, arg-type]
