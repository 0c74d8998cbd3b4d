"""The environment: what is set, what is misspelt, and what .env.example says about it."""

import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from shared import settings
from shared.errors import UserError
from shared.settings import PREFIX, Settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"
SETTING = re.compile(rf"^# (?P<description>.+)\n#{PREFIX}(?P<name>\w+)=(?P<value>.*)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Start from no variable and no .env file, and forget what was read."""
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    settings.load.cache_clear()
    yield
    settings.load.cache_clear()


def shown(default: object) -> str:
    """Write a default as .env.example does: nothing for "none", and for what depends on the machine."""
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if default is None or (isinstance(default, Path) and default.is_absolute()):
        return ""
    return default.model_dump_json() if isinstance(default, BaseModel) else str(default)


def test_a_variable_sets_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOTEQUEUE_VOTES", "7")
    assert settings.load().votes == 7


def test_the_environment_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings.load()
    monkeypatch.setenv("VOTEQUEUE_VOTES", "7")
    assert settings.load() is before


def test_the_environment_wins_over_the_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("VOTEQUEUE_VOTES=7\nVOTEQUEUE_MAX_ATTEMPTS=9\n", "utf-8")
    monkeypatch.setenv("VOTEQUEUE_VOTES", "3")
    assert (settings.load().votes, settings.load().max_attempts) == (3, 9)


def test_a_variable_replaces_a_line_of_the_env_file_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {
        "CHAT_EXTRA": '{"enable_thinking": false}',
        "LIMITS": '{"chat": {"max_concurrency": 2}}',
        "QDRANT_URL": "http://qdrant.lan:6333",
        "PRICES": '{"chat": {"input": 1}}',
    }
    Path(".env").write_text("".join(f"VOTEQUEUE_{name}={value}\n" for name, value in lines.items()))
    variables = {"CHAT_EXTRA": "{}", "LIMITS": '{"chat": {"per_minute": 9}}', "QDRANT_URL": ""}
    for name, value in variables.items():
        monkeypatch.setenv(f"VOTEQUEUE_{name}", value)
    found = settings.load()
    assert (found.chat_extra, found.qdrant_url, found.prices["chat"].input) == ({}, None, 1.0)
    assert found.limits["chat"].model_dump(exclude_unset=True) == {"per_minute": 9.0}


def test_a_folder_may_begin_with_the_users_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    Path(".env").write_text("VOTEQUEUE_HOME=~/vq\nVOTEQUEUE_TRAINED=~/trained\nVOTEQUEUE_CACHE=~/c\n")
    found = settings.load()
    assert [str(each) for each in (found.home, found.trained, found.cache)] == [
        "/home/me/vq",
        "/home/me/trained",
        "/home/me/c",
    ]


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOTEQUEUE_VOTES", "")
    monkeypatch.setenv("VOTEQUEUE_LEDGER_URL", "")
    assert settings.load().votes == 5
    assert settings.load().ledger_url is None


def test_a_misspelt_variable_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOTEQUEUE_BROKERURL", "redis://elsewhere")
    with pytest.raises(UserError, match=r"VOTEQUEUE_BROKERURL; did you mean VOTEQUEUE_BROKER_URL\?"):
        settings.load()


def test_a_variable_like_no_setting_is_refused_with_the_place_of_the_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VOTEQUEUE_ABRACADABRA_ABRACADABRA", "1")
    with pytest.raises(UserError, match=r"VOTEQUEUE_ABRACADABRA_ABRACADABRA; \.env\.example"):
        settings.load()


@pytest.mark.parametrize(
    ("name", "value"),
    [("VOTES", "0"), ("VOTES", "many"), ("TOP_P", "1.5"), ("FALLBACK", "coin"), ("FLOWER_PORT", "70000")],
)
def test_a_bad_value_is_refused_with_its_settings_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(UserError, match=rf"^setting {PREFIX}{name}: .*'{value}'") as caught:
        settings.load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER_URL", "redis://:S3cret#w@h:6379/0"),
        ("BROKER_URL", "redis://:S3cret@h:port"),
        ("LEDGER_URL", "postgresql://u:S3c@ret@h/d"),
        ("QDRANT_URL", "http://u:S3cret@h:6333"),
        ("CHAT_BASE_URL", "https://h/v1?key=S3cret"),
        ("LOCAL_URL", "S3cret@h"),
        ("QIANFAN_URL", "ftp://u:S3cret@h"),
        ("TENCENT_URL", "https://S3cret@h"),
    ],
)
def test_a_bad_url_is_refused_with_its_settings_name_and_no_part_of_a_secret(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(UserError, match=f"^setting {PREFIX}{name}: it") as caught:
        settings.load()
    shown = "".join(traceback.format_exception(caught.value))
    assert "S3" not in shown
    assert "ret@" not in shown


def test_a_settings_own_error_quotes_no_value() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(_env_file=None, broker_url=SecretStr("redis://:S3cret#w@h"), qdrant_url="http://S3cret@h")
    assert "S3" not in str(caught.value)


def test_a_byte_order_mark_hides_no_setting() -> None:
    Path(".env").write_bytes(b"\xef\xbb\xbfVOTEQUEUE_VOTES=7\r\n")
    assert settings.load().votes == 7


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("VOTEQUEUE_VOTES=7\n".encode("utf-16"), r"\.env is UTF-16"),
        ("VOTEQUEUE_VOTES=7\n# 票数\n".encode("gbk"), r"\.env line 2 is not UTF-8"),
        (b"VOTEQUEUE_VOTES=7\0\n", r"\.env line 1 has a NUL"),
        (b"VOTEQUEUE_VOTES=7\n\nsome words\n", r"\.env line 3 is not NAME=VALUE"),
        (b"#\n" * 600_000, r"\.env is too large: it has 1200000 bytes"),
    ],
)
def test_an_env_file_that_cannot_be_read_is_said_with_its_line(content: bytes, said: str) -> None:
    Path(".env").write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        settings.load()
    assert caught.value.__cause__ is None


def test_a_folder_is_no_env_file_unless_it_is_a_virtual_environment() -> None:
    Path(".env").mkdir()
    with pytest.raises(UserError, match=r"\.env cannot be read"):
        settings.load()
    Path(".env/pyvenv.cfg").touch()
    assert settings.load().votes == 5


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings.load().votes = 3


@pytest.mark.parametrize("name", ["BROKER_URL", "LEDGER_URL", "QDRANT_API_KEY", "FLOWER_AUTH"])
def test_secrets_are_not_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = "postgresql" if name == "LEDGER_URL" else "redis"
    monkeypatch.setenv(PREFIX + name, f"{scheme}://me:sesame@host/0")
    read = settings.load()
    assert "sesame" not in f"{read!r} {read} {read.model_dump()} {read.model_dump_json()}"


def test_the_ledger_is_a_file_under_home_unless_it_is_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load().ledger == f"sqlite:///{Path('var/ledger.db').resolve()}"
    settings.load.cache_clear()
    monkeypatch.setenv("VOTEQUEUE_LEDGER_URL", "postgresql+psycopg://me:sesame@db/votequeue")
    assert settings.load().ledger == "postgresql+psycopg://me:sesame@db/votequeue"


def test_trained_models_lie_under_home_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load().trained_folder == Path("var/trained")
    settings.load.cache_clear()
    monkeypatch.setenv("VOTEQUEUE_TRAINED", "/trained")
    assert settings.load().trained_folder == Path("/trained")


def test_the_example_lists_every_setting_with_its_description_and_default() -> None:
    listed = {found["name"]: (found["description"], found["value"]) for found in SETTING.finditer(example())}
    assert listed == {
        name.upper(): (field.description, shown(field.default))
        for name, field in Settings.model_fields.items()
    }


def test_the_example_names_each_setting_once_and_sets_nothing() -> None:
    names = re.findall(rf"^#?({PREFIX}\w+)=", example(), re.MULTILINE)
    assert len(names) == len(set(names)) == len(Settings.model_fields)
    assert not re.search(r"^[^#\n]", example(), re.MULTILINE)


def test_the_example_uncommented_changes_nothing() -> None:
    before = settings.load()
    settings.load.cache_clear()
    Path(".env").write_text(re.sub(r"^#(?=\w+=)", "", example(), flags=re.MULTILINE), "utf-8")
    assert settings.load() == before


def example() -> str:
    return EXAMPLE.read_text("utf-8")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('{"stream": true}', "'stream' cannot be set"),
        ('{"messages": []}', "'messages' cannot be set"),
        ('{"temperature": NaN}', "not JSON compliant"),
        ("[1]", "VOTEQUEUE_CHAT_EXTRA"),
        ("enable_thinking=false", "not JSON"),
    ],
)
def test_extra_fields_that_no_request_can_have_are_refused_at_the_start(
    value: str, words: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTEQUEUE_CHAT_EXTRA", value)
    with pytest.raises(UserError, match=words):
        settings.load()


def test_extra_fields_are_json(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOTEQUEUE_CHAT_EXTRA", '{"enable_thinking": false, "temperature": null}')
    assert settings.load().chat_extra == {"enable_thinking": False, "temperature": None}


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("SCORER_LAYERS", "train scorer"),
        ("LORA_RANK", "train lora"),
        ("REASON_ASKS", "reason"),
        ("PIVOT", "translate"),
    ],
)
def test_a_setting_that_is_an_option_of_runs_now_says_of_which_command(
    name: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + name, "6")
    said = rf"{PREFIX}{name} is no longer a setting: .*enqueue {command} --help"
    with pytest.raises(UserError, match=said):
        settings.load()


def test_settings_are_no_more_than_a_person_can_oversee() -> None:
    assert len(Settings.model_fields) <= 70
