"""Plug points: one entry in a registry is all that a new one takes."""

import importlib.metadata
import pkgutil
from typing import Any

import pytest

from producers.commands import service_options
from shared import providers, settings
from shared.errors import UserError
from shared.options import Sampling
from shared.providers import PROVIDERS, Limits, Provider
from shared.voting import SCORED, VotingMode
from tests.conftest import Command
from workers import wiring
from workers.models import calibration

MINE = Provider("mine", chat="tests.unit.test_registries:build", limits={"": Limits(per_second=3)})

THEIRS = Provider("tencent", chat="tests.unit.test_registries:build")


def build(service: Any, _: settings.Settings) -> Any:
    """Build a client of the provider that a test adds."""
    return ("a client", service)


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=str)
def test_every_provider_has_a_client(provider: Provider) -> None:
    named = [place for place in (provider.chat, provider.translator) if place]
    assert named
    assert all(callable(pkgutil.resolve_name(place)) for place in named)


def test_a_provider_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROVIDERS, "mine", MINE)
    chosen = service_options.reasoning("correct", None, "mine", ["m"], {})
    client, service = wiring.chat_model(chosen.provider, "m", settings.load())
    assert (client, service.limits.per_second) == ("a client", 3)


def test_a_package_may_bring_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_point = importlib.metadata.EntryPoint(
        "mine", "tests.unit.test_registries:MINE", providers.ENTRY_POINTS
    )
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [entry_point])
    assert MINE.name in [provider.name for provider in providers._installed()]


def test_a_package_can_neither_replace_a_provider_nor_stop_a_command(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    named = [
        importlib.metadata.EntryPoint("tencent", "tests.unit.test_registries:THEIRS", providers.ENTRY_POINTS),
        importlib.metadata.EntryPoint("broken", "no.such.module:IT", providers.ENTRY_POINTS),
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: named)
    found = {provider.name: provider for provider in providers._installed()}
    assert found["tencent"] is PROVIDERS["tencent"]
    assert "provider broken of an installed package cannot be loaded" in caplog.text


def test_an_unknown_provider_is_refused_rather_than_taken_for_another() -> None:
    with pytest.raises(
        UserError, match=r"provider 'mine' has no chat models; these have: local, chat, qianfan"
    ):
        wiring.chat_model("mine", "m", settings.load())
    with pytest.raises(UserError, match="provider 'mine'"):
        wiring.translator("mine", "m", settings.load())


def test_every_voting_mode_is_an_option_and_is_calibrated(votequeue: Command) -> None:
    shown = " ".join(votequeue("enqueue", "infer", "--help").out.replace("│", " ").split())
    for mode in VotingMode:
        assert f"{mode} (" in shown
        assert Sampling(use=mode).use is mode
    assert set(calibration.USES) == set(SCORED) == set(VotingMode) - {VotingMode.MAJORITY}
