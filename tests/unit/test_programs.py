"""What `up` runs, and with which environment; `tests/integration/test_local.py` really starts it."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from infra import programs
from shared import settings
from shared.errors import UserError
from shared.providers import Limits, Price
from shared.settings import ProgramLimits, Settings


def test_every_worker_wanted_runs_and_the_chat_server_only_if_asked_for() -> None:
    chosen = Settings(_env_file=None, broker_url=SecretStr("redis://elsewhere/0"))
    wanted = {"infer": 0, "reason": 2, "translate": 1}
    names = [program.name for program in programs.programs(chosen, wanted)]
    assert names == ["reason-1", "reason-2", "translate-1", "flower"]
    served = programs.programs(chosen, {}, serve=True)
    assert [program.command[-1] for program in served if program.name == "serve"] == ["serve"]


def test_programs_get_the_very_settings_through_their_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = Settings(
        _env_file=None,
        home=home / "var",
        chat_api_key=SecretStr("sk-1"),
        limits={"chat": Limits(per_second=2.5, per_minute=None)},
        prices={"chat/m": Price(input=1)},
        chat_extra={"enable_thinking": False, "seed": None, "options": {"top_k": 20}},
        program_limits=ProgramLimits(seconds=2.5),
        qianfan_api="v2",
        quantization=None,
        metrics_port=9464,
    )
    for name, value in programs.environment(chosen).items():
        monkeypatch.setenv(name, value)
    settings.load.cache_clear()
    read = settings.load()
    assert read.limits["chat"].model_fields_set == {"per_second", "per_minute"}
    names = chosen.model_fields_set - {"metrics_port"}  # each program has its own
    assert {name: getattr(read, name) for name in names} == {name: getattr(chosen, name) for name in names}


def test_workers_that_call_services_have_time_to_end_their_calls() -> None:
    chosen = Settings(_env_file=None, broker_url=SecretStr("redis://elsewhere/0"), call_timeout=119.5)
    wanted = {"infer": 1, "train": 1, "reason": 1, "translate": 1}
    found = {each.name: each.stop_seconds for each in programs.programs(chosen, wanted)}
    assert found == {"infer-1": 20, "train-1": 20, "reason-1": 130, "translate-1": 130, "flower": 20}
    remote = chosen.model_copy(update={"generator": "openai", "provider": "chat", "model": "m"})
    (infer, _) = programs.programs(remote, {"infer": 1})
    assert infer.stop_seconds == 130


def test_a_login_that_flower_cannot_compare_is_refused() -> None:
    with pytest.raises(UserError, match="ASCII"):
        programs.flower_login(Settings(_env_file=None, flower_auth=SecretStr("me:密码")))


def test_the_chat_server_of_another_machine_is_not_started_here() -> None:
    chosen = Settings(_env_file=None, local_url="http://gpu.lan:8399/v1")
    with pytest.raises(UserError, match="not this machine"):
        programs.chat_server(chosen)
