"""How vLLM's server is told what the settings say; `tests/e2e/test_serve.py` starts a real one."""

import json
from pathlib import Path

import pytest

from infra import serve
from shared import model_store
from shared.errors import UserError
from shared.settings import Settings


@pytest.fixture
def weights(home: Path) -> Path:
    folder = home / "weights"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "chat_template.jinja"):
        (folder / name).write_text("{}")
    return folder


def chosen(weights: Path, **others: object) -> Settings:
    return Settings(_env_file=None, model=str(weights), **others)  # type: ignore[arg-type]


def option(command: list[str], name: str) -> str | None:
    return command[command.index(name) + 1] if name in command else None


def test_it_listens_where_provider_local_calls(weights: Path) -> None:
    command = serve.command(chosen(weights, local_url="http://127.0.0.1:8500/v1/"))
    assert (option(command, "--host"), option(command, "--port")) == ("127.0.0.1", "8500")
    assert option(command, "--served-model-name") == str(weights)
    assert option(serve.command(chosen(weights), 8600), "--port") == "8600"


def test_a_setting_that_is_not_set_is_not_told(weights: Path) -> None:
    assert option(serve.command(chosen(weights)), "--quantization") is None
    assert option(serve.command(chosen(weights, quantization="fp8")), "--quantization") == "fp8"


@pytest.mark.parametrize("url", ["http://gpu.example:8399/v1", "http://127.0.0.1:8399/"])
def test_an_address_that_it_cannot_listen_at_is_refused(weights: Path, url: str) -> None:
    with pytest.raises(UserError, match="VOTEQUEUE_LOCAL_URL"):
        serve.command(chosen(weights, local_url=url))


def test_a_template_may_stand_in_the_tokenizers_settings(weights: Path) -> None:
    (weights / "chat_template.jinja").unlink()
    assert not model_store.has_chat_template(weights)
    (weights / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert model_store.has_chat_template(weights)


def test_what_the_caller_has_set_for_vllm_stays(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    given = serve.environment(chosen(weights, kv_cache_gib=3))
    assert (given["VLLM_LOGGING_LEVEL"], given["VLLM_CPU_KVCACHE_SPACE"]) == ("DEBUG", "3")
