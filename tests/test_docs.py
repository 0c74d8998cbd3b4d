"""The documents against the code: what they tell a reader to type exists, and what exists is told."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from producers import Client, cli
from shared import broker
from shared.dataset import Entry
from shared.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh.md")
TRAINING = ("docs/training.md", "docs/log.md")
DOCUMENTS = (
    *READMES,
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/data.md",
    "docs/cluster.md",
    "docs/kubernetes.md",
    "docs/runs.md",
    "docs/prompts.md",
    "docs/generators.md",
    "docs/monitoring.md",
    *TRAINING,
)
GENERATED = {"var"}  # in the tree of the README, but made by running
COMMENT = re.compile(r"\s+# .*$")
PROGRAM = "votequeue"


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(name: str, language: str) -> list[str]:
    """Give a document's code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text(name), re.MULTILINE | re.DOTALL)


def prose(name: str) -> str:
    return re.sub(r"^```.*?^```$", "", text(name), flags=re.MULTILINE | re.DOTALL)


def plain_lines(block: str) -> list[str]:
    """Give a block's lines without their comments, which each language writes for itself."""
    return [COMMENT.sub("", line).rstrip() for line in block.splitlines()]


def typed(line: str) -> list[list[str]]:
    """Find the calls of votequeue in a line as one would type it; square brackets mark what is optional."""
    calls = []
    for part in re.split(r"\s*&&\s*", COMMENT.sub("", line)):
        words = shlex.split(re.sub(r"[][]", " ", part))
        if words[:3] == ["docker", "compose", "run"]:
            words = [word for word in words[3:] if word != "--rm"]
            # The service called votequeue has the command as its entrypoint; others take any command.
            words = words if words[0] == PROGRAM else words[1:]
        if words[:1] == [PROGRAM]:
            calls.append(words[1:])
    return calls


def calls(name: str) -> list[list[str]]:
    """Find every call of votequeue in a document: in blocks, in the table and within sentences."""
    lines = [line for block in blocks(name, "sh") for line in block.splitlines()]
    lines += re.findall(rf"`({PROGRAM} [^`]+)`", prose(name))
    return [call for line in lines for call in typed(line)]


def commands(group: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Give all commands below a group, by the words that lead there, and itself if it is one."""
    found: dict[tuple[str, ...], Any] = {}
    for word, command in group.commands.items():
        below = (*path, word)
        found |= commands(command, below) if hasattr(command, "commands") else {below: command}
    return {**found, path: group} if path and group.invoke_without_command else found


COMMANDS = commands(typer.main.get_command(cli.app))
del COMMANDS[("explain",)]  # the old word for `trace`
CALLS = sorted({(name, tuple(call)) for name in DOCUMENTS for call in calls(name)})


def command_of(call: tuple[str, ...]) -> tuple[str, ...] | None:
    found = next((path for path in COMMANDS if call[: len(path)] == path), None)
    # A group takes no words of its own: what follows it would have to be a command.
    lost = hasattr(COMMANDS.get(found or ()), "commands") and call[len(found or ()) :]
    return None if lost and not lost[0].startswith("-") else found


def parse(call: tuple[str, ...]) -> None:
    """Let click read a call as it would on the command line, without running it."""
    path = command_of(call)
    assert path, f"there is no command `{PROGRAM} {' '.join(call)}`"
    values = {"N": "1", "NAME": "name"}  # stand for numbers and names in the table
    words = [values.get(word, word) for word in call[len(path) :]]
    COMMANDS[path].make_context(" ".join(path), words)


@pytest.mark.parametrize(("name", "call"), CALLS, ids=str)
def test_every_command_in_the_documents_is_one_that_can_be_typed(name: str, call: tuple[str, ...]) -> None:
    try:
        parse(call)
    except Exception as error:
        # The changelog speaks of commands without their arguments. (Typer's click is a private copy.)
        if name in READMES or "Missing parameter" not in str(error):
            raise


def test_the_guides_enqueue_runs_of_one_name_in_one_way() -> None:
    """Else a reader who follows two of them is told that the run exists already, with other options."""
    of_other_ledgers = {"CHANGELOG.md", "docs/cluster.md", "docs/kubernetes.md"}
    ways: dict[str, set[tuple[str, ...]]] = {}
    for name, call in CALLS:
        if call[0] == "enqueue" and "--run" in call and name not in of_other_ledgers:
            ways.setdefault(call[call.index("--run") + 1], set()).add(call)
    assert {run: calls for run, calls in ways.items() if len(calls) > 1} == {}
    assert len(ways) > 10


def test_the_parser_of_these_tests_notices_what_does_not_exist() -> None:
    assert typed("make venv && votequeue sample -o x  # more") == [["sample", "-o", "x"]]
    assert typed("docker compose run --rm votequeue status [RUN]") == [["status", "RUN"]]
    assert typed("docker compose run --rm infer votequeue weights") == [["weights"]]
    assert typed("cp .env.example .env") == []
    wrong = [("stat", "RUN"), ("status", "RUN", "--wach"), ("trace", "RUN"), ("enqueue", "infer")]
    for call in [*wrong, ("models", "shwo")]:
        with pytest.raises(Exception, match=r"no command|No such option|Missing"):
            parse(call)


@pytest.mark.parametrize("name", READMES)
def test_every_command_is_shown(name: str) -> None:
    assert {command_of(tuple(call)) for call in calls(name)} == set(COMMANDS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_target_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    code = "\n".join([*blocks(name, "sh"), *re.findall(r"`([^`]+)`", prose(name))])
    assert set(re.findall(r"^make ([a-z]+)", code, re.MULTILINE)) <= targets


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_setting_exists(name: str) -> None:
    named = set(re.findall(rf"{PREFIX}\w+", text(name)))
    assert named <= {PREFIX + field.upper() for field in Settings.model_fields}


@pytest.mark.parametrize("name", READMES)
def test_a_readme_is_read_in_one_sitting(name: str) -> None:
    assert len(text(name).splitlines()) <= 150


@pytest.mark.parametrize("language", ["sh", "json", "text"])
def test_both_readmes_show_the_same_code(language: str) -> None:
    first, second = ([plain_lines(block) for block in blocks(name, language)] for name in READMES)
    assert first == second
    assert first


def test_both_readmes_have_the_same_sections_and_settings() -> None:
    def skeleton(name: str) -> tuple[int, list[str], list[str]]:
        table = re.findall(r"^\|", text(name), re.MULTILINE)
        names = sorted(set(re.findall(rf"{PREFIX}\w+", text(name))))
        return len(table), re.findall(r"^#+(?= )", prose(name), re.MULTILINE), names

    assert skeleton(READMES[0]) == skeleton(READMES[1])


@pytest.mark.parametrize("name", READMES)
def test_the_example_lines_are_good_ones(name: str) -> None:
    for line in "".join(blocks(name, "json")).splitlines():
        entry = Entry.model_validate_json(line)
        assert all(question.answer and question.reasoning for question in entry.questions)


def tree(name: str) -> set[str]:
    (block,) = blocks(name, "text")
    return {line.split()[0].removesuffix("/") for line in block.splitlines()}


def tracked_folders() -> set[str]:
    """Give the top-level folders that git has; a reader's own folders beside them are no matter."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    return {file.split("/")[0] for file in done.stdout.split("\0") if "/" in file and (ROOT / file).exists()}


@pytest.mark.parametrize("name", READMES)
def test_the_tree_names_every_top_level_folder_and_no_other(name: str) -> None:
    assert tracked_folders() <= tree(name)
    assert [folder for folder in tree(name) - GENERATED if not (ROOT / folder).is_dir()] == []


def workers() -> set[str]:
    """Give the modules of `workers` that register a task."""
    files = (ROOT / "workers").glob("*.py")
    return {file.stem for file in files if re.search(r"^@app\.task\(", file.read_text("utf-8"), re.MULTILINE)}


def test_a_queue_is_one_word_all_the_way() -> None:
    queues = set(broker.QUEUES)
    services: dict[str, dict[str, Any]] = yaml.safe_load(text("docker-compose.yml"))["services"]
    assert workers() == queues
    assert {path[1] for path in COMMANDS if path[0] == "enqueue"} == queues
    assert {name for name, service in services.items() if "worker" in service.get("command", [])} == queues
    assert queues <= set(project()["optional-dependencies"])
    assert {f"--{queue}" for queue in queues} <= {name for p in COMMANDS[("up",)].params for name in p.opts}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_to_a_file_of_ours_leads_there(name: str) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(name))
    local = [target.split("#")[0] for target in targets if "://" not in target]
    assert [target for target in local if not (ROOT / name).parent.joinpath(target).exists()] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_of_ours_in_a_sentence_exists(name: str) -> None:
    said = re.findall(r"`((?:\.ci|docs|infra|producers|shared|tests|workers)/[\w./-]*)`", prose(name))
    assert [file for file in said if not (ROOT / file).exists() and file != "workers/polish.py"] == []


def project() -> dict[str, Any]:
    read: dict[str, Any] = tomllib.loads(text("pyproject.toml"))["project"]
    return read


def test_every_method_of_the_client_is_documented_and_no_other() -> None:
    methods = {name for name in vars(Client) if not name.startswith("_")}
    table = re.findall(r"^\| (`.*?) \|", text("docs/runs.md").partition("## From Python")[2], re.MULTILINE)
    assert {name for row in table for name in re.findall(r"`(\w+)\(", row)} == methods
    called = re.findall(r"client\.(\w+)\(", "".join(blocks("docs/runs.md", "python")))
    assert called
    assert set(called) <= methods


def test_the_changelog_begins_with_this_version() -> None:
    found = re.search(r"^## \[(.+?)\] - (unreleased|\d{4}-\d{2}-\d{2})$", text("CHANGELOG.md"), re.MULTILINE)
    assert found
    assert found[1] == project()["version"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_figure_is_still_to_be_filled_in(name: str) -> None:
    assert re.findall(r"MEASURED_\w+", text(name)) == []
