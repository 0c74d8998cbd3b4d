"""Limits and prices: what is documented, and what a setting changes of it."""

import pytest
from pydantic import ValidationError

from shared import providers, settings
from shared.errors import UserError
from shared.providers import Limits, Price, Usage
from shared.settings import Settings


def test_a_setting_changes_the_limits_it_names_and_no_other() -> None:
    documented = providers.limits("tencent", "TextTranslateBatch", {})
    changed = providers.limits("tencent", "TextTranslateBatch", {"tencent": Limits(per_second=2)})
    assert changed.per_second == 2
    assert changed.characters == documented.characters


def test_a_model_s_own_setting_wins_over_its_provider_s() -> None:
    chosen = {"chat": Limits(per_second=2, max_concurrency=3), "chat/m": Limits(per_second=9)}
    assert providers.limits("chat", "m", chosen).per_second == 9
    assert providers.limits("chat", "m", chosen).max_concurrency == 3
    assert providers.limits("chat", "n", chosen).per_second == 2


def test_a_limit_set_to_null_is_none() -> None:
    assert providers.limits("chat", "m", {}).per_minute is not None
    assert providers.limits("chat", "m", {"chat": Limits(per_minute=None)}).per_minute is None


def test_a_price_is_for_a_million() -> None:
    price = providers.price("chat", "m", {"chat/m": Price(input=2, output=8), "chat": Price(input=100)})
    assert providers.cost(price, Usage(500_000, 250_000)) == 3.0
    assert providers.cost(Price(characters=58), Usage(characters=1000)) == pytest.approx(0.058)
    assert providers.cost(providers.price("local", "m", {}), Usage(10, 10)) == 0


def test_limits_and_prices_come_from_the_environment_as_json(
    home: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTEQUEUE_LIMITS", '{"chat/m": {"per_second": 2.5}}')
    monkeypatch.setenv("VOTEQUEUE_PRICES", '{"chat": {"input": 1}}')
    loaded = settings.load()
    assert loaded.limits == {"chat/m": Limits(per_second=2.5)}
    assert loaded.prices == {"chat": Price(input=1)}


@pytest.mark.parametrize(
    "value", ['{"chat": {"per_secnd": 2}}', '{"chat": {"per_second": 0}}', "{", '{"chat": 5}', '{"caht": {}}']
)
def test_limits_that_make_no_sense_are_named(
    value: str, home: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTEQUEUE_LIMITS", value)
    with pytest.raises(UserError, match="VOTEQUEUE_LIMITS"):
        settings.load()


def test_a_misspelt_provider_in_code_is_refused_too() -> None:
    with pytest.raises(ValidationError):
        Settings(_env_file=None, limits={"caht": Limits()})
