"""The bound of a text's tokens: never below what a tokenizer makes of it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import settings, token_bounds
from tests import fakes, tiny
from workers import wiring
from workers.models import token_counter

TEXTS = [
    "甲比乙高，乙比丙高。谁最高？",
    "1234567890 3.14159 -- 0x7f",
    "∧∨¬→↔∀∃≤≥⊢⊨∎",
    "| A | B |\n|---|---|\n| 1 | 2 |",
    "🙂👩‍👩‍👧‍👦🇨🇳",
    "𠮷𡈽𣏌 龘 ㍿ ﷺ 𝅘𝅥𝅮",
    "한국어 ไทย العربية क़",
    "a" * 50,
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_has_no_more_tokens_than_bytes(text: str) -> None:
    assert token_bounds.tokens(text) >= len(text.encode())


@given(st.text())
def test_any_text_has_a_bound_that_covers_its_characters_and_bytes(text: str) -> None:
    assert token_bounds.tokens(text) >= len(text.encode(errors="surrogatepass")) >= len(text)
    assert token_bounds.message(text) == token_bounds.tokens(text) + token_bounds.TEMPLATE


def test_what_a_tokenizer_makes_longer_before_it_cuts_is_bounded_as_it_becomes() -> None:
    assert token_bounds.tokens("ﷺ") == 33  # three bytes, as compatible characters eighteen of them


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny._tokenizer()


def test_a_byte_level_tokenizer_keeps_within_the_bound(tokenizer: Any) -> None:
    @given(st.text(max_size=200))
    def check(text: str) -> None:
        assert len(tokenizer(text)["input_ids"]) <= token_bounds.tokens(text)

    check()


def test_a_model_s_own_tokenizer_counts_its_template_too(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.chat_template = "user: {{ messages[0].content }}{% if add_generation_prompt %} A: {% endif %}"
    tokenizer.save_pretrained(tmp_path)
    count = token_counter.counter(tmp_path)
    assert count is not None
    assert count("谁最高？") == len(tokenizer("user: 谁最高？ A: ")["input_ids"])


def test_weights_without_a_template_or_a_tokenizer_count_nothing(
    tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "plain")
    assert token_counter.counter(tmp_path / "plain") is None
    (tmp_path / "empty").mkdir()
    assert token_counter.counter(tmp_path / "empty") is None
    assert "prompts are bounded by bytes" in caplog.text


def test_the_workers_count_with_the_weights_that_are_here(
    tokenizer: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.chat_template = "{{ messages[0].content }}"
    tokenizer.save_pretrained(home / "cache" / "models" / "own")
    (home / "cache" / "models" / "own" / "config.json").write_text('{"model_type": "qwen2"}')
    monkeypatch.setenv("VOTEQUEUE_CACHE", str(home / "cache"))
    settings.load.cache_clear()
    counter = wiring.counters(settings.load())
    count = counter(fakes.service("local", "own"))
    assert count is not None
    assert count("甲") == len(tokenizer("甲")["input_ids"])
    assert counter(fakes.service("chat", "deepseek-chat")) is None
