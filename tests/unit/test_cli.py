"""The command line: exit codes, one line for an error, help for everything, and a quick start."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from producers import cli, console
from producers.commands import training_options
from producers.enqueue import option_checks
from shared import settings
from shared.errors import UserError
from shared.jobs import KINDS
from shared.options import Sampling
from shared.recipes import LoraTraining, ScorerTraining
from shared.settings import Settings
from tests.conftest import Command

pytestmark = pytest.mark.usefixtures("home")
COMMANDS = [
    ["enqueue", "infer"],
    ["enqueue", "train", "scorer"],
    ["enqueue", "train", "lora"],
    ["models"],
    *(["models", word] for word in ("show", "use", "add")),
    *([word] for word in ("resume", "status", "trace", "failed", "collect", "report")),
    *([word] for word in ("sample", "weights", "up", "down", "worker")),
]
LINE = (
    '{"id": "p1", "problem": "甲比乙高。", "questions": [{"question": "谁高？", "options": ["甲", "乙"]}]}\n'
)


@pytest.mark.parametrize("words", [[], ["enqueue"], ["enqueue", "train"], *COMMANDS])
def test_every_command_has_help(words: list[str], votequeue: Command) -> None:
    ended = votequeue(*words, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "Usage: votequeue" in ended.out


@pytest.mark.parametrize("words", COMMANDS)
def test_an_option_that_is_none_is_no_command(words: list[str], votequeue: Command) -> None:
    ended = votequeue(*words, "--no-such-option")
    assert (ended.code, ended.out) == (2, "")


@pytest.mark.parametrize(
    "words",
    [
        ["enqueue", "infer", "x.jsonl", "--votes", "0"],
        ["enqueue", "infer", "x.jsonl", "--votes", "many"],
        ["enqueue", "infer", "x.jsonl", "--fallback", "coin"],
        ["enqueue", "infer", "x.jsonl", "--top-p", "1.5"],
        ["enqueue", "train", "scorer", "--data", "x.jsonl", "--input", "answer"],
        ["enqueue", "train", "scorer", "--data", "x.jsonl", "--objective", "listwise"],
        ["enqueue", "train", "scorer"],
        ["enqueue", "train", "lora"],
        ["enqueue", "train", "lora", "--data", "x.jsonl", "--rank", "0"],
        ["report", "x", "--scorer", "s"],
        ["worker", "inference"],
        ["worker", "infer", "--concurrency", "0"],
        ["status", "--watch"],
        ["sample", "-n", "0", "-o", "x.jsonl"],
        ["nothing"],
    ],
)
def test_a_value_that_cannot_be_is_no_command(words: list[str], votequeue: Command) -> None:
    ended = votequeue(*words)
    assert (ended.code, ended.out) == (2, "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["enqueue", "infer", "no.jsonl"], "no.jsonl: there is no such file and no such run"),
        (["enqueue", "infer", "."], ". is a folder: name the file in it"),
        (["enqueue", "infer", "empty.jsonl"], "empty.jsonl is empty: it should hold one JSON object a line"),
        (["enqueue", "infer", "/dev/null"], "/dev/null is not a regular file"),
        (["enqueue", "infer", "good.jsonl", "--run", "a b"], "invalid run name 'a b'"),
        (["enqueue", "infer", "good.jsonl", "--examples", "x"], "there is no such file and no such run"),
        (["enqueue", "infer", "good.jsonl"], "does not answer"),
        (["enqueue", "train", "scorer", "--data", "good.jsonl"], "no labelled question to train on"),
        (["enqueue", "train", "scorer", "--from", "r"], "no run is called 'r'; there are: none yet"),
        (["resume", "r"], "no run is called 'r'; there are: none yet"),
        (["status", "r"], "no run is called 'r'; there are: none yet"),
        (["trace", "r", "p1#1"], "no run is called 'r'; there are: none yet"),
        (["failed", "r"], "no run is called 'r'; there are: none yet"),
        (["collect", "r", "-o", "out.jsonl"], "no run is called 'r'; there are: none yet"),
        (["report", "r"], "no run is called 'r'; there are: none yet"),
        (["sample", "-o", "out.jsonl", "--family", "x"], "no puzzle family is called 'x'"),
        (["sample", "-o", "out.jsonl", "--language", "x"], "no puzzle is written in language 'x'"),
        (["weights", "no-such-model"], "no weights at no-such-model"),
    ],
)
def test_what_a_person_can_mend_is_one_line_and_exit_1(
    words: list[str], message: str, home: Path, votequeue: Command
) -> None:
    (home / "good.jsonl").write_text(LINE, encoding="utf-8")
    (home / "empty.jsonl").touch()
    ended = votequeue(*words)
    complaints = [line for line in ended.err.splitlines() if line.startswith("votequeue: ")]
    assert (ended.code, ended.out, len(complaints)) == (1, "", 1)
    assert message in complaints[0]
    assert "Traceback" not in ended.err
    assert not (home / "out.jsonl").exists()


def test_a_misspelt_setting_is_one_line(votequeue: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOTEQUEUE_VOTE", "3")
    ended = votequeue("status")
    assert ended.err == "votequeue: no setting is called VOTEQUEUE_VOTE; did you mean VOTEQUEUE_VOTES?\n"


def test_a_ledger_that_cannot_be_made_is_one_line(
    home: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").touch()
    monkeypatch.setenv("VOTEQUEUE_HOME", str(home / "file"))
    settings.load.cache_clear()
    ended = votequeue("status")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "cannot make the ledger's folder" in ended.err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "var/x"), "votequeue: No space left on device (var/x)\n"),
        (UserError("one\ntwo"), "votequeue: one two\n"),
    ],
)
def test_an_unforeseen_error_is_one_line(
    error: Exception, line: str, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> None:
        raise error

    monkeypatch.setattr("shared.ledger.progress.overview", failing)
    ended = votequeue("status")
    assert (ended.code, ended.err) == (1, line)


def test_ctrl_c_is_130_and_one_line(votequeue: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shared.ledger.progress.overview", interrupted)
    ended = votequeue("status")
    assert (ended.code, ended.err.count("\n")) == (130, 1)


def test_no_runs_are_said_to_be_none(votequeue: Command) -> None:
    assert votequeue("status").out.startswith("no runs yet: `votequeue enqueue infer DATA`")
    assert votequeue("status", "--json").out == "[]\n"


# Options and settings


def test_what_is_left_out_comes_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOTEQUEUE_VOTES", "7")
    settings.load.cache_clear()
    sampling = option_checks.sampling({"seed": 3})
    assert (sampling.votes, sampling.max_attempts, sampling.batch, sampling.seed) == (7, 5, 16, 3)
    training = training_options.scorer({"epochs": 1})
    assert (training.layers, training.epochs, training.base) == (0.67, 1, Settings().model)


def test_what_is_not_given_is_the_recipes() -> None:
    assert training_options.scorer({}).optimizer == "adamw_torch"
    reference = training_options.scorer({"recipe": "reference"})
    assert (reference.optimizer, reference.input, reference.epochs) == ("lomo", "reasoning", 3)
    assert training_options.deviations(reference) == []
    changed = training_options.scorer({"recipe": "reference", "layers": 6, "epochs": 1})
    assert training_options.deviations(changed) == ["epochs 1.0, not 3", "layers 6.0, not none"]


def test_the_reference_is_the_recipe_to_the_number() -> None:
    found = training_options.scorer({"recipe": "reference"}).model_dump()
    wanted = {
        "input": "reasoning",
        "objective": "classification",
        "tune": "all",
        "layers": None,
        "max_length": 512,
        "epochs": 3,
        "learning_rate": 1e-4,
        "optimizer": "lomo",
        "seed": 42,
        "balance": False,
        "calibrate": False,
    }
    assert {name: found[name] for name in wanted} == wanted


def test_an_adapter_is_trained_by_the_recipes_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = training_options.lora({"max_steps": 3})
    assert (found.learning_rate, found.epochs, found.batch_size, found.accumulation) == (2e-4, 12, 1, 2)
    assert (found.max_length, found.num_examples, found.max_steps) == (1024, 2, 3)
    assert training_options.lora({"targets": "q_proj, v_proj"}).targets == ("q_proj", "v_proj")
    monkeypatch.setenv("VOTEQUEUE_REPORT_TO", "wandb, tensorboard")
    settings.load.cache_clear()
    assert training_options.lora({}).report_to == ("wandb", "tensorboard")
    assert training_options.lora({}, "").report_to == ()


def test_every_field_of_a_run_is_an_option(votequeue: Command) -> None:
    runs: list[tuple[tuple[str, ...], type[BaseModel]]] = [
        (COMMANDS[0], Sampling),
        (COMMANDS[1], ScorerTraining),
        (COMMANDS[2], LoraTraining),
    ]
    # These follow from what is trained on, or from the data argument.
    derived = {"target", "examples", "votes_of", "redo_of", "weights"}
    for words, model in runs:
        shown = votequeue(*words, "--help").out
        # What else a sampling pins follows from the settings and the program.
        pinned = {
            Sampling: {
                *("language", "voice_prompts", "kind_weights", "agreement", "gains", "prices"),
                "calibration",
            },
            LoraTraining: {"prompt", "voice_prompts"},
        }.get(model, set())
        for name in set(model.model_fields) - derived - pinned:
            assert f"--{name.replace('_', '-')} " in shown


@pytest.mark.parametrize(
    ("command", "old"),
    [
        ("infer", "--neighbours"),
        ("infer", "--siblings"),
        ("translate", "--from"),
        ("train lora", "--neighbours"),
    ],
)
def test_an_older_spelling_is_not_listed(votequeue: Command, command: str, old: str) -> None:
    assert f"{old} " not in votequeue("enqueue", *command.split(), "--help").out


def test_help_gives_units_and_defaults(votequeue: Command) -> None:
    shown = re.sub(r"[\s│]+", " ", votequeue("enqueue", "infer", "--help").out)
    assert "maximum length of a vote, in tokens [default: (1024; VOTEQUEUE_MAX_TOKENS)]" in shown


# The worker


def test_a_worker_is_celery_under_the_queues_word(
    votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: started.append([program, *arguments]))
    for queue in KINDS:
        assert votequeue("worker", queue).code == 0
    infer, train, *data = (" ".join(command) for command in started)
    queues = "infer,infer.Qwen2.5-Coder-0.5B-Instruct"
    assert f"{sys.executable} -m celery -A workers.infer worker --queues {queues} --pool threads" in infer
    assert "--concurrency 64 " in infer
    assert "--concurrency 1 " in train
    assert re.search(r"--hostname train-[0-9a-f]{8}@%h --loglevel INFO$", train)
    assert ["--concurrency 16 " in command for command in data] == [True, True]


def test_a_worker_for_a_generator_or_a_model_takes_only_their_runs(
    home: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: started.append(" ".join(arguments)))
    for name in ("GENERATOR", "PROVIDER", "MODEL"):  # what the command sets is undone
        monkeypatch.setenv(f"VOTEQUEUE_{name}", "")
    assert votequeue("worker", "infer", "--model", "org/m").code == 0
    assert "--queues infer.org-m --pool" in started[-1]
    assert "--concurrency 64 " in started[-1]
    assert votequeue("worker", "infer", "--generator", "openai", "--provider", "chat").code == 0
    assert "--queues infer.openai.chat.org-m --pool" in started[-1]
    assert "--concurrency 16 " in started[-1]
    assert os.environ["VOTEQUEUE_GENERATOR"] == "openai"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reason", "--model", "m"], "applies to the queue infer only"),
        (["infer", "--generator", "openai"], "generator openai needs one"),
        (["infer", "--generator", "openai", "--provider", "chat"], "name the model of provider chat"),
        (["infer", "--generator", "none"], "'vllm' or 'openai'"),
    ],
)
def test_a_worker_that_lacks_an_option_says_which(
    home: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    for name in ("GENERATOR", "PROVIDER", "MODEL"):
        monkeypatch.setenv(f"VOTEQUEUE_{name}", "")
    ended = votequeue("worker", *arguments)
    assert ended.code in (1, 2)
    assert said in " ".join(ended.err.replace("│", " ").split())


# Starting


def test_help_needs_none_of_the_heavy_libraries() -> None:
    program = (
        "import sys; from producers import cli; cli.main(['--help']); "
        "heavy = {'celery', 'sqlalchemy', 'matplotlib', 'torch', 'workers'}; "
        "print(heavy & sys.modules.keys())"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "set()"


def test_where_chinese_cannot_be_shown_there_is_no_traceback(home: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "producers.cli", "enqueue", "infer", "无.jsonl"]
    ended = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (ended.returncode, b"Traceback" in ended.stderr) == (1, False)
    assert rb"\u65e0.jsonl" in ended.stderr


def test_a_pipe_that_closes_early_is_no_traceback() -> None:
    command = f"{sys.executable} -m producers.cli enqueue infer --help | head -n 1"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "3 s"), (89, "89 s"), (600, "10 min"), (12_000, "3 h 20 min")]
)
def test_lengths_of_time_are_written_for_people(seconds: float, words: str) -> None:
    assert console.span(seconds) == words


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert console.printable("甲\x1b[2J\x9b\r\n\t乙") == "甲\ufffd[2J\ufffd\ufffd\n\t乙"


def test_a_finished_command_is_exit_0() -> None:
    assert cli.main(["status"]) == 0
