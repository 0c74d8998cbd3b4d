"""Enqueueing: one message a question, all or nothing, and the same command continues."""

import base64
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from producers.enqueue import inputs, publish
from shared import broker, settings
from shared.errors import ServiceUnreachable, UserError
from shared.jobs import Job
from shared.ledger import claims, engine, progress, runs, schema
from shared.ledger.schema import State
from shared.options import Sampling
from tests.conftest import Command
from tests.integration import run_fixtures

pytestmark = pytest.mark.usefixtures("on_broker")
SAMPLING = Sampling(
    votes=5,
    max_attempts=5,
    batch=16,
    max_tokens=64,
    temperature=0.7,
    top_p=0.9,
    seed=None,
    num_examples=2,
    same_problem=False,
    fallback="majority",
)


@pytest.fixture
def data(home: Path) -> Path:
    return run_fixtures.write(
        home / "测试.jsonl", run_fixtures.entry("p1", "AB"), run_fixtures.entry("p2", "C-")
    )


def messages() -> list[tuple[str, dict[str, object]]]:
    """Read the messages that wait: each one's task, and its arguments."""
    raw = broker.client().lrange(broker.KEY_PREFIX + "infer", 0, -1)
    assert isinstance(raw, list)
    read = [json.loads(one) for one in raw]
    return [(one["headers"]["task"], json.loads(base64.b64decode(one["body"]))[1]) for one in reversed(read)]


def test_every_question_gets_one_message_that_says_only_where_to_look(data: Path) -> None:
    done = run_fixtures.infer(data, SAMPLING, "r")
    assert (done.items, done.sent, done.continued) == (4, 4, False)
    assert messages() == [("infer", {"run": "r", "item": number}) for number in range(4)]


def test_the_same_command_continues_its_run(data: Path) -> None:
    first = run_fixtures.infer(data, SAMPLING)
    second = run_fixtures.infer(data, SAMPLING)
    assert second.run == first.run
    assert first.run.startswith("测试-")
    assert (second.sent, second.continued) == (0, True)
    assert len(messages()) == 4


def test_a_run_that_is_older_than_an_option_continues_with_what_it_had(data: Path) -> None:
    run_fixtures.infer(data, SAMPLING, "r")
    options = {name: value for name, value in runs.get_run("r").options.items() if name != "reader"}
    with engine.writing() as connection:
        connection.execute(schema.runs.update().values(options=options))
    assert run_fixtures.infer(data, SAMPLING.model_copy(update={"reader": "reference"}), "r").continued
    with pytest.raises(UserError, match="its reader is reference, not conclusion"):
        run_fixtures.infer(data, SAMPLING.model_copy(update={"reader": "conclusion"}), "r")


def test_options_have_their_older_spellings_and_older_records_their_older_names(
    data: Path, votequeue: Command
) -> None:
    said = votequeue("enqueue", "infer", data, "--run", "r", "--neighbours", 1, "--siblings")
    assert said.code == 0, said.err
    options = runs.get_run("r").options
    assert (options["num_examples"], options["same_problem"]) == (1, True)
    older = {"neighbours": options.pop("num_examples"), "siblings": options.pop("same_problem")}
    with engine.writing() as connection:
        connection.execute(schema.runs.update().values(options=options | older))
    assert Sampling.of_record(options | older).num_examples == 1
    again = votequeue("enqueue", "infer", data, "--run", "r", "--num-examples", 1, "--same-problem")
    assert "run r continued" in again.out, again.err


def test_other_options_make_another_run(data: Path) -> None:
    names = {run_fixtures.infer(data, SAMPLING.model_copy(update={"votes": n})).run for n in (3, 4, 5)}
    assert len(names) == 3


def test_a_run_whose_sending_was_cut_short_sends_only_the_rest(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sent = broker.send, []

    def breaking(jobs: Sequence[Job]) -> int:
        if sent:
            raise KeyboardInterrupt
        sent.extend(jobs)
        return real(jobs)

    monkeypatch.setattr(publish, "CHUNK", 3)
    with monkeypatch.context() as patched:
        patched.setattr(broker, "send", breaking)
        with pytest.raises(KeyboardInterrupt):
            run_fixtures.infer(data, SAMPLING, "r")
    assert run_fixtures.infer(data, SAMPLING, "r").sent == 1
    assert len(messages()) == 4


def test_another_file_under_the_same_name_is_refused(data: Path, home: Path) -> None:
    run_fixtures.infer(data, SAMPLING, "r")
    other = run_fixtures.write(home / "other.jsonl", run_fixtures.entry("p9"))
    with pytest.raises(UserError, match=r"run 'r' exists already, but its data is not the same"):
        run_fixtures.infer(other, SAMPLING, "r")


def test_other_options_under_the_same_name_are_named(data: Path) -> None:
    run_fixtures.infer(data, SAMPLING, "r")
    changed = SAMPLING.model_copy(update={"votes": 7, "max_tokens": 99})
    with pytest.raises(UserError) as caught:
        run_fixtures.infer(data, changed, "r")
    assert "its votes is 5, not 7" in str(caught.value)
    assert "its max-tokens is 64, not 99" in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-r", "x" * 201])
def test_a_name_that_would_trip_something_is_refused(name: str, data: Path) -> None:
    with pytest.raises(UserError, match="invalid run name"):
        publish.require_name(name)


# Bad lines


def test_a_bad_line_stops_everything(data: Path, votequeue: Command) -> None:
    with data.open("a", encoding="utf-8") as file:
        file.write("{\n" + json.dumps(run_fixtures.entry("p3", "F"), ensure_ascii=False) + "\n")
    ended = votequeue("enqueue", "infer", data)
    assert ended.code == 1
    assert f"{data} line 3: not JSON" in ended.err
    assert f'{data} line 4, questions[0].answer: found "F", expected a letter A–C\n' in ended.err
    assert ended.err.splitlines()[-1].startswith("votequeue: 2 bad lines, nothing was enqueued")
    assert runs.list_runs() == []
    assert messages() == []


def test_skip_bad_enqueues_the_good_lines_and_lists_the_others(data: Path, votequeue: Command) -> None:
    with data.open("a", encoding="utf-8") as file:
        file.write("[]\n")
    ended = votequeue("enqueue", "infer", data, "--skip-bad", "--json")
    assert ended.code == 0
    assert "line 3: found [], expected a JSON object" in ended.err
    assert json.loads(ended.out)["items"] == 4
    assert json.loads(ended.out)["bad"] == 1


def test_of_very_many_bad_lines_the_first_are_listed(home: Path, votequeue: Command) -> None:
    bad = home / "bad.jsonl"
    run_fixtures.write(bad, *(run_fixtures.entry(f"p{at}", "F") for at in range(70)))
    ended = votequeue("enqueue", "infer", bad)
    assert ended.err.count('found "F"') == inputs.REPORTED_BAD_LINES
    assert "and 20 more bad lines" in ended.err


def test_with_no_good_line_left_there_is_nothing_to_enqueue(home: Path, votequeue: Command) -> None:
    bad = home / "bad.jsonl"
    bad.write_text("x\n", encoding="utf-8")
    ended = votequeue("enqueue", "infer", bad, "--skip-bad")
    assert ended.code == 1
    assert "has no valid line" in ended.err


def test_a_file_that_changes_while_it_is_read_leaves_nothing_behind(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow() -> None:
        with data.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run_fixtures.entry("p3")) + "\n")

    monkeypatch.setattr(broker, "ping", grow)
    with pytest.raises(UserError, match="changed while it was being read"):
        run_fixtures.infer(data, SAMPLING, "r")
    assert runs.find_run("r") is None


# Examples


def test_the_examples_are_the_solved_questions_of_original_entries(data: Path, home: Path) -> None:
    solved = run_fixtures.write(
        home / "solved.jsonl",
        run_fixtures.solved("s1", "AB"),
        run_fixtures.entry("s2"),
        run_fixtures.solved("s3", "C", votequeue={"origin": "back-translation"}),
        run_fixtures.solved("s4", "C", votequeue={"origin": "original"}),
    )
    done = run_fixtures.infer(data, SAMPLING, "r", str(solved))
    assert done.examples == 3
    kept = runs.load_examples(str(runs.get_run("r").examples))
    assert [one.answer for one in kept] == ["A", "B", "C"]


def test_a_runs_own_data_can_be_the_examples(data: Path, home: Path) -> None:
    run_fixtures.infer(
        run_fixtures.write(home / "s.jsonl", run_fixtures.solved("s1", "AB")), SAMPLING, "labelled"
    )
    assert run_fixtures.infer(data, SAMPLING, "r", "labelled").examples == 2


def test_the_data_itself_can_be_the_examples(home: Path) -> None:
    data = run_fixtures.write(home / "s.jsonl", run_fixtures.solved("s1", "AB"))
    assert run_fixtures.infer(data, SAMPLING, "r", str(data)).examples == 2


def test_other_examples_under_the_same_name_are_refused(data: Path, home: Path) -> None:
    run_fixtures.infer(data, SAMPLING, "r")
    solved = run_fixtures.write(home / "s.jsonl", run_fixtures.solved("s1"))
    with pytest.raises(UserError, match="its examples are none"):
        run_fixtures.infer(data, SAMPLING, "r", str(solved))


def test_examples_must_be_one_file_or_one_run(data: Path, home: Path) -> None:
    with pytest.raises(UserError, match="no such file and no such run"):
        run_fixtures.infer(data, SAMPLING, "r", "nothing")
    run_fixtures.infer(data, SAMPLING, "both")
    run_fixtures.write(home / "both", run_fixtures.solved("s1"))
    with pytest.raises(UserError, match=r"\./both for the file"):
        run_fixtures.infer(data, SAMPLING, "r", "both")
    assert run_fixtures.infer(data, SAMPLING, "r", "./both").examples == 1


def test_examples_without_a_solved_question_are_refused(data: Path) -> None:
    with pytest.raises(UserError, match="no question in it has both"):
        run_fixtures.infer(data, SAMPLING, "r", str(data))


def test_a_bad_line_in_the_examples_stops_everything(data: Path, home: Path) -> None:
    (home / "s.jsonl").write_text("x\n", encoding="utf-8")
    with pytest.raises(UserError, match="1 bad line, nothing was enqueued"):
        run_fixtures.infer(data, SAMPLING, "r", "s.jsonl")
    with data.open("a", encoding="utf-8") as file:
        file.write("x\n")
    with pytest.raises(UserError, match="2 bad lines, nothing was enqueued"):
        run_fixtures.infer(data, SAMPLING, "r", "s.jsonl")
    assert runs.list_runs() == []


def test_prompts_without_examples_are_said_to_be_so(data: Path, votequeue: Command) -> None:
    assert "the prompts contain no solved questions" in votequeue("enqueue", "infer", data).err


# The broker


def test_with_no_broker_nothing_is_written(
    home: Path, data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTEQUEUE_BROKER_URL", "redis://127.0.0.1:1/0")
    for made in (broker.client, settings.load):
        made.cache_clear()
    ended = votequeue("enqueue", "infer", data)
    assert ended.code == 1
    assert "the broker at 127.0.0.1:1/0 does not answer" in ended.err
    assert "`votequeue up`" in ended.err
    assert runs.list_runs() == []


def test_a_broker_that_goes_away_while_sending_leaves_a_run_to_go_on_with(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(jobs: object) -> None:
        raise ServiceUnreachable("the broker does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(broker, "send", gone)
        with pytest.raises(ServiceUnreachable, match="run 'r' is recorded: repeat the command"):
            run_fixtures.infer(data, SAMPLING, "r")
    assert run_fixtures.infer(data, SAMPLING, "r").sent == 4


# Sending again


def test_resume_sends_what_is_not_answered_and_not_held(data: Path, votequeue: Command) -> None:
    run_fixtures.infer(data, SAMPLING, "r")
    run_fixtures.answer_all("r", 1)
    held = run_fixtures.claim("r", 1)
    broker.client().flushall()
    ended = votequeue("resume", "r")
    assert ended.out == "run r: 2 messages sent\n"
    run_fixtures.vote(held[0], [run_fixtures.ballot("B")])
    assert runs.count_states("r")[State.DONE] == 2


def test_resume_takes_back_what_a_dead_worker_held(data: Path) -> None:
    run_fixtures.infer(data, SAMPLING, "r")
    run_fixtures.claim("r", 0, 1, lease=0.01)
    time.sleep(0.05)
    assert publish.resume("r") == 4


def test_failed_lists_what_died_and_replay_sends_it_again(data: Path, votequeue: Command) -> None:
    run_fixtures.infer(data, SAMPLING, "r")
    claims.bury(run_fixtures.claim("r", 2)[0], "the prompt is too long: 9000 tokens, 8192 fit")
    ended = votequeue("failed", "r")
    assert ended.code == 0
    assert "p2#1" in ended.out
    assert "the prompt is too long" in ended.out
    assert json.loads(votequeue("failed", "r", "--json").out)["dead"][0]["key"] == "p2#1"
    assert "1 message sent" in votequeue("failed", "r", "--retry").out
    assert progress.dead("r") == []
    assert "no dead items" in votequeue("failed", "r").out


# As a process


def test_ctrl_c_ends_with_130_and_a_line(data: Path, on_broker: str) -> None:
    run_fixtures.infer(data, SAMPLING, "r")
    command = [sys.executable, "-m", "producers.cli", "collect", "r", "-o", "out.jsonl", "--wait"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        first = waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        rest = waiting.stderr.read()
    assert first.startswith("r: 0/4 settled")
    assert waiting.returncode == 130
    assert rest.splitlines()[-1].startswith("votequeue: interrupted")
    assert not Path("out.jsonl").exists()


def test_a_module_is_a_script_too(data: Path) -> None:
    command = [sys.executable, "-m", "producers.enqueue", "infer", str(data), "--run", "r"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == "run r enqueued: 4 questions, 4 messages sent\n"
