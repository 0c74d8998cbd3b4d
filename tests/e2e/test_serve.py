"""`votequeue serve` on real weights of a tiny model, called as provider `local` calls it."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from infra import health
from shared import settings
from shared.errors import Barred, Unavailable, VotequeueError
from tests import tiny, waiting
from tests.conftest import Command
from tests.valkey import free_port
from workers import wiring
from workers.ports import Prompt

pytestmark = pytest.mark.slow
# As the Qwen2 family writes a chat down; a tiny model's tokenizer comes without.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def answers() -> bool:
    return health.chat_answers(settings.load())


def test_a_local_model_answers_as_a_service_does_and_goes_when_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, votequeue: Command
) -> None:
    folder = home / "weights"
    monkeypatch.setenv("VOTEQUEUE_MODEL", str(folder))
    monkeypatch.setenv("VOTEQUEUE_LOCAL_URL", f"http://127.0.0.1:{free_port()}/v1")
    monkeypatch.setenv("VOTEQUEUE_KV_CACHE_GIB", "1")
    monkeypatch.setenv("VOTEQUEUE_MAX_MODEL_LEN", "2048")
    settings.load.cache_clear()

    ended = votequeue("serve")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "votequeue weights" in ended.err
    tiny.make(folder)
    assert "has no chat template" in votequeue("serve").err
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")

    log = home / "serve.log"
    with log.open("wb") as file:
        server = subprocess.Popen([sys.executable, "-m", "producers.cli", "serve"], stdout=file, stderr=file)
    family = [psutil.Process(server.pid)]
    try:
        waiting.until(lambda: answers() or server.poll() is not None, log)
        assert server.poll() is None, log.read_text()[-3000:]
        family += family[0].children(recursive=True)
        model = wiring.chat_model("local", str(folder), settings.load())
        reply = model.complete(Prompt("谁最高？", 24, 0.7))
        assert reply.text.strip()
        assert reply.usage.input_tokens > 5
        assert 0 < reply.usage.output_tokens <= 24
        refusal = failure(model.service.model, Prompt("谁" * 4000, 24, 0.7))
        assert "says 400" in str(refusal)
        assert "context length" in str(refusal)
        assert isinstance(failure("another", Prompt("谁最高？", 24, 0.7)), Barred)
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)
        gone, left = psutil.wait_procs(family, timeout=10)
        assert not left, left
        assert len(gone) == len(family)
    finally:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGKILL) if process.is_running() else None
        server.wait(timeout=60)
    assert isinstance(failure(str(folder), Prompt("谁最高？", 24, 0.7)), Unavailable)


def failure(model: str, prompt: Prompt) -> VotequeueError:
    with pytest.raises(VotequeueError) as caught:
        wiring.chat_model("local", model, settings.load()).complete(prompt)
    return caught.value
