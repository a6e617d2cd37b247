"""One TOML file of settings: what wins over what, what is refused and where, and the page that lists all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitboss.setting_table import SETTINGS
from pitboss.setting_types import SettingType, format_reference
from pitboss.settings import (
    OperatorSettings,
    WorkerSettings,
    read_operator_settings,
    read_settings,
    read_values,
    read_worker_settings,
    show_values,
    unknown_variables,
)
from schemas.errors import UsageError

# Of each type one value as the environment has it, as TOML has it, and one that TOML has in another type.
FORMS = {
    SettingType.TEXT: ("one", '"one"', "1"),
    SettingType.URL: ("postgresql://u@h:1/x", '"postgresql://u@h:1/x"', "1"),
    SettingType.NUMBER: ("7", "7", '"7"'),
    SettingType.SHARE: ("0.5", "0.5", '"0.5"'),
    SettingType.PATH: ("/a/b", '"/a/b"', "[]"),
    SettingType.LEVEL: ("debug", '"debug"', "10"),
    SettingType.NAMES: ("hub88,house", '["house", "hub88"]', '"hub88"'),
    SettingType.AMOUNTS: ("EUR:100,BTC:0.01", '{EUR = 100, BTC = "0.01"}', '"EUR:100"'),
    SettingType.BRANDS: (
        "hub88:acme|zeta,*:acme",
        '{hub88 = ["zeta", "acme"], "*" = ["acme"]}',
        '{hub88 = "acme"}',
    ),
}
IN_FILE = [setting for setting in SETTINGS if setting.is_in_file]
every_setting = pytest.mark.parametrize("setting", IN_FILE, ids=lambda one: one.name)


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "pitboss.toml"

    def write(text: str, **environ: str) -> dict[str, str]:
        file.write_text(text)
        return {"PITBOSS_CONFIG": str(file), **environ}

    return write


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(UsageError) as refused:
        read_values(environ)
    return str(refused.value)


@every_setting
def test_the_environment_wins_over_the_file_and_the_file_over_the_default(config, setting):
    text, toml, _ = FORMS[setting.type]
    from_file = read_values(config(f"# a comment\n{setting.name} = {toml}\n"))[setting.name]
    from_environment = read_values({setting.variable: text})[setting.name]
    assert from_file.value == from_environment.value != setting.default
    assert from_file.source.endswith("pitboss.toml, line 2")
    assert from_environment.source == setting.variable
    both = config(f"{setting.name} = {toml}", **{setting.variable: setting.example})
    assert read_values(both)[setting.name].source == setting.variable
    empty = config(f"{setting.name} = {toml}", **{setting.variable: ""})
    assert read_values(empty)[setting.name].is_default, "a variable that is empty is the default"
    assert read_values({})[setting.name].is_default


@every_setting
def test_a_value_of_another_type_is_refused_with_its_place(config, setting):
    _, _, wrong = FORMS[setting.type]
    message = refusal(config(f"\n{setting.name} = {wrong}\n"))
    assert f"pitboss.toml, line 2: {setting.name} is " in message
    assert ": give " in message
    for other in ("true", "2026-11-30", "[[1]]"):
        assert f"line 1: {setting.name} is " in refusal(config(f"{setting.name} = {other}\n"))


@every_setting
def test_the_example_of_each_setting_can_be_read(setting):
    assert read_values({setting.variable: setting.example})[setting.name].value is not None


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ('namespace = "a"\nkeysfile = "k"\n', "line 2: 'keysfile'", "did you mean 'keys_file'?"),
        ("[park]\nproviders = []\n", "line 1: park is a table", "give a list of strings"),
        ("[workers]\nkafka = 1\n", "line 1: 'workers'", "is not a setting"),
        ('config = "x"\n', "line 1: 'config'", "is not a setting"),
        ("adjust_alone = {EUR = 1.5}", "adjust_alone.EUR is 1.5", "in quotes"),
        ("adjust_alone = {euro = 1}", "adjust_alone.euro is 1", "a currency code"),
        ("drift_sample = 2", "drift_sample is 2", "0 to 1"),
        ("park_records_max = -1", "park_records_max is -1", "a whole number of records"),
        ('log_level = "loud"', "log_level is 'loud'", "INFO"),
        ("kafka = \nhome = 'x'", "cannot be read", "line 1"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_its_place(config, text, place, hint):
    message = refusal(config(text))
    assert place in message
    assert hint in message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@h/x",
        "postgresql://u@h/x?password=hunter2",
        "postgresql://u@h/x?sslpassword=hunter2",
    ],
)
def test_a_secret_is_refused_in_the_file_and_not_shown(config, url):
    message = refusal(config(f'database = "{url}"'))
    assert "passfile" in message
    assert "hunter2" not in message
    assert "hunter2" not in refusal(config(f'maven = "{url}"'))
    by_path = 'database = "postgresql://u@h/x?passfile=/run/secrets/pgpass"\nkafka = "b:1"'
    assert "passfile" in str(read_settings(config(by_path)).database)


def test_paths_are_relative_to_the_file(config, tmp_path):
    assert (
        read_worker_settings(config('keys_file = "keys.json"')).keys_file == tmp_path / "keys.json"
    )
    assert read_settings(config('home = "~/pitboss"')).home == Path.home() / "pitboss"


@pytest.mark.parametrize(
    "text",
    [
        'kafka = "b:x"\ndatabase = "postgresql://h/x"',
        'namespace = "A-1"',
        'kafka = "b:1"\ndatabase = "h"',
    ],
)
def test_a_value_that_its_reader_refuses_is_named_with_its_place(config, text):
    with pytest.raises(UsageError, match=r"pitboss\.toml, line \d: "):
        read_settings(config(text))


def test_a_file_that_is_missing_is_named(tmp_path):
    assert "nowhere.toml cannot be read" in refusal(
        {"PITBOSS_CONFIG": str(tmp_path / "nowhere.toml")}
    )


def test_the_defaults_of_the_table_are_those_of_the_classes():
    assert read_worker_settings({}) == WorkerSettings()
    assert read_operator_settings({}) == OperatorSettings()


def test_every_setting_is_shown_and_no_password(config, tmp_path):
    database = "postgresql://u:hunter2@h:1/x"
    settings = read_settings(
        config(
            "park = []\nadjust_alone = {EUR = 5}", PITBOSS_KAFKA="b:1", PITBOSS_DATABASE=database
        )
    )
    shown = show_values(settings)
    assert shown.keys() == {setting.name for setting in SETTINGS}
    assert shown["database"] == "postgresql://u:***@h:1/x"
    assert (shown["park"], shown["adjust_alone"]) == ("none", "EUR:5")
    assert all(shown.values())


def test_a_variable_that_no_setting_has_is_found():
    environ = {
        "PITBOSS_KEYFILE": "x",
        "PITBOSS_TEST_SEED": "1",
        "PITBOSS_IMAGE": "i",
        "PITBOSS_PARK": "a",
    }
    assert unknown_variables(environ) == {"PITBOSS_KEYFILE": ": did you mean 'PITBOSS_KEYS_FILE'?"}


def test_the_table_of_the_reference_page_has_a_row_for_each_setting():
    rows = format_reference(SETTINGS).splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [setting.variable for setting in SETTINGS]
    assert all(row.count("|") == 7 for row in rows), "a bar in a cell would be a column"
