"""Chats, thinking and letters with a real engine, on a model that knows nothing."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from producers import Client, vote_rows
from tests.e2e.conftest import Start
from tests.integration import run_fixtures

ENGINE = {"kv_cache_gib": 1, "max_model_len": 2048}
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n"
    "{% if thinks is not defined or thinks %}<think>\n{% endif %}{% endif %}"
)
QUESTIONS = 3


@pytest.fixture
def chatting(weights: Path, tmp_path: Path) -> Path:
    """Give the weights with a chat template that opens thinking."""
    folder = Path(shutil.copytree(weights, tmp_path / "chatting"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def answered(client: Client, data: Path, run: str, **options: Any) -> list[dict[str, Any]]:
    own = {"votes": 2, "max_tokens": 24, "max_attempts": 1, "num_examples": 0, **options}
    client.enqueue_infer(data, run=run, **own)
    client.wait(run, timeout=300)
    return list(vote_rows.of_run(run))


@pytest.mark.slow
@pytest.mark.usefixtures("on_broker")
def test_a_chat_is_thought_about_within_its_limit_and_every_vote_gets_a_letter(
    home: Path, chatting: Path, start_worker: Start
) -> None:
    data = run_fixtures.write(home / "data.jsonl", *(run_fixtures.entry(f"p{at}") for at in range(QUESTIONS)))
    start_worker("infer", model=chatting, **ENGINE).await_ready()
    client = Client()

    thought = answered(client, data, "thought", prompt_style="auto", max_thinking=16, ask_letter="last")
    assert len(thought) == 2 * QUESTIONS
    assert all(vote["letter"] in "ABC" for vote in thought)
    # A model that knows nothing closes no thinking: that is done for it, and it answers after that.
    assert any(vote["thinking"] and vote["tokens"] > 16 for vote in thought)
    assert all(vote["tokens"] <= 16 + 24 for vote in thought)

    plain = answered(client, data, "plain", prompt_style="chat", template_arg=["thinks=false"])
    assert [vote["thinking"] for vote in plain] == [None] * len(plain)

    raw = answered(client, data, "raw", prompt_style="completion", ask_letter="always", max_tokens=1)
    assert all(vote["letter"] in "ABC" for vote in raw)
    assert {vote["letter_source"] for vote in raw} <= {"read", "forced"}
    assert "forced" in {vote["letter_source"] for vote in raw}
    assert json.loads(json.dumps(raw[0]))["finish_reason"] == "length"
