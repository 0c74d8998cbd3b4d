"""Which class stands behind a provider's name, and translation by a chat model that is asked for it."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from shared.errors import Unreadable, UserError
from shared.providers import Limits, Price
from shared.settings import Settings
from tests.servers.openai import ChatServer
from workers import wiring
from workers.ports import Service
from workers.providers import prompted
from workers.providers.openai import OpenAIChat
from workers.providers.prompted import PromptedTranslator

KEY = "sk-31d2f0a97c"
SERVICE = Service("chat", "m", "1f0c22aa", Limits(), Price())


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(key=KEY) as started:
        yield started


# Translation by a prompted model


def translating(server: ChatServer) -> PromptedTranslator:
    return PromptedTranslator(OpenAIChat(SERVICE, server.url, SecretStr(KEY), 5.0))


def test_a_prompted_model_translates_in_one_call(server: ChatServer) -> None:
    server.reply = lambda _: '```json\n["甲は乙より高い。", "誰が一番高い？"]\n```'
    made = translating(server).translate(["甲比乙高。", "谁最高？"], "zh", "ja")
    assert made.texts == ["甲は乙より高い。", "誰が一番高い？"]
    assert made.usage.output_tokens > 0
    assert "从中文译成日文" in server.requests[0].prompt


def test_a_wrong_number_of_translations_is_unreadable(server: ChatServer) -> None:
    server.fail_with("wrong number")
    with pytest.raises(Unreadable, match="asked for 3 translations, got 2"):
        translating(server).translate(["一", "二", "三"], "zh", "ja")


@pytest.mark.parametrize(
    "reply",
    [
        '["a", "b"]',
        '译文如下：\n["a", "b"]\n希望有帮助。',
        '<think>原文是 ["甲", "乙"]</think>\n["a", "b"]',
        '[1] 译文：["a", "b"]',
        '```\n["a",\n "b"]\n```',
        '原文 ["甲", "乙"]，译文 ["a", "b"]',
    ],
)
def test_an_array_is_found_whatever_stands_around_it(reply: str) -> None:
    assert prompted.read(reply, 2) == ["a", "b"]


def test_a_line_break_in_a_text_is_a_line_break() -> None:
    assert prompted.read('["a\nb"]', 1) == ["a\nb"]


@pytest.mark.parametrize("reply", ["", "没有", "[]", '["a", 1]', '["a", "b"', '["a", " "]', '{"a": "b"}'])
def test_what_is_not_as_many_texts_is_unreadable(reply: str) -> None:
    with pytest.raises(Unreadable, match="asked for 2 translations"):
        prompted.read(reply, 2)


def test_a_prompted_translators_calls_have_a_size(server: ChatServer) -> None:
    limits = translating(server).service.limits
    assert (limits.characters, limits.texts) == (2000, 50)
    assert translating(server).service.name == SERVICE.name


def test_an_estimate_is_the_most_that_a_call_may_use(server: ChatServer) -> None:
    texts = ["甲比乙高，乙比丙高。" * 20, "谁最高？"]
    translator = translating(server)
    estimate = translator.estimate(texts).likely
    used = translator.translate(texts, "zh", "ja").usage
    assert used.input_tokens <= estimate.input_tokens
    assert used.output_tokens <= estimate.output_tokens


# Wiring


def settings(**chosen: object) -> Settings:
    return Settings(_env_file=None, **chosen)  # type: ignore[arg-type]


@pytest.mark.usefixtures("home")
def test_a_missing_setting_is_named() -> None:
    with pytest.raises(UserError, match="VOTEQUEUE_CHAT_BASE_URL and VOTEQUEUE_CHAT_API_KEY"):
        wiring.chat_model("chat", "m", settings(chat_base_url="https://h/v1"))


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("provider", ["tencent", "nobody"])
def test_a_provider_that_does_not_chat_is_said(provider: str) -> None:
    with pytest.raises(UserError, match="no chat models; these have: local, chat, qianfan"):
        wiring.chat_model(provider, "m", settings())


@pytest.mark.usefixtures("home")
def test_local_needs_no_key_and_chosen_limits_count() -> None:
    chosen = settings(limits={"local/m": {"at_once": 3}}, prices={"local": {"input": 1.0}})
    service = wiring.chat_model("local", "m", chosen).service
    assert (service.provider, service.model, service.limits.max_concurrency) == ("local", "m", 3)
    assert service.price.input == 1.0


@pytest.mark.usefixtures("home")
def test_an_account_is_told_apart_and_tells_nothing() -> None:
    names = {
        wiring.chat_model("chat", "m", settings(chat_base_url=url, chat_api_key=key)).service.name
        for url in ("https://a/v1", "https://b/v1")
        for key in (KEY, KEY + "x")
    }
    assert len(names) == 4
    assert not [name for name in names if KEY in name]
    assert wiring.account("ab", "c") != wiring.account("a", "bc")
