"""What the environment may say, what is refused, and what a namespace turns into."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitboss.embedded.processes import ProcessId
from pitboss.embedded.state import (
    NoStack,
    StackState,
    forget_state,
    read_state,
    resolve_runtime,
    write_state,
)
from pitboss.setting_files import read_currencies
from pitboss.settings import (
    NAMESPACE_PATTERN,
    check_namespace,
    read_operator_settings,
    read_settings,
    read_worker_settings,
    runtime_of,
    without_password,
    worker_environment,
)
from runtime.security import BrokerAddress
from schemas.errors import UsageError

GIVEN = {
    "PITBOSS_KAFKA": "broker:9092",
    "PITBOSS_DATABASE": "postgresql://u:p%40ss@db:5432/postgres?sslmode=require",
}


def test_defaults_are_the_embedded_stack_under_the_working_directory(tmp_path):
    settings = read_settings({}, cwd=tmp_path)
    assert settings.home == tmp_path / ".pitboss"
    assert not settings.uses_given_servers
    assert settings.namespace == ""
    assert {value.source for value in settings.values.values()} == {"default"}


def test_the_environment_overrides_and_is_named_as_the_source(tmp_path):
    settings = read_settings(
        {**GIVEN, "PITBOSS_HOME": str(tmp_path), "PITBOSS_NAMESPACE": "load_1"}
    )
    assert (settings.home, settings.namespace) == (tmp_path, "load_1")
    assert settings.values["kafka"].source == "PITBOSS_KAFKA"
    assert settings.uses_given_servers


@pytest.mark.parametrize("lonely", sorted(GIVEN))
def test_half_of_the_servers_is_refused_with_the_name_of_the_other(lonely):
    (other,) = set(GIVEN) - {lonely}
    with pytest.raises(UsageError, match=f"{lonely} is set but {other} is not"):
        read_settings({lonely: GIVEN[lonely]})


def test_a_database_that_is_no_url_is_refused():
    with pytest.raises(UsageError, match="postgresql://"):
        read_settings({**GIVEN, "PITBOSS_DATABASE": "host=db dbname=x"})


@pytest.mark.parametrize("bad", ["A", "1a", "a-b", "a.b", "a" * 32, "_a", "a\n", 'a"; DROP'])
def test_namespaces_that_cannot_name_a_topic_and_a_database_are_refused(bad):
    with pytest.raises(UsageError, match="namespace"):
        check_namespace(bad)


@given(st.from_regex(NAMESPACE_PATTERN, fullmatch=True))
def test_a_namespace_prefixes_topics_and_groups_and_names_the_database(namespace):
    runtime = runtime_of(BrokerAddress("b:1"), GIVEN["PITBOSS_DATABASE"], namespace)
    assert runtime.topic("wallet.transactions.v1") == f"{namespace}.wallet.transactions.v1"
    assert runtime.group("ledger") == f"{namespace}.ledger"
    assert (
        runtime.database_url == f"postgresql://u:p%40ss@db:5432/pitboss_{namespace}?sslmode=require"
    )
    assert runtime.maintenance_url == GIVEN["PITBOSS_DATABASE"]
    assert len(runtime.database) <= 63, (
        "PostgreSQL cuts longer names off, and two namespaces would share one"
    )


def test_without_a_namespace_nothing_is_prefixed():
    runtime = runtime_of(BrokerAddress("b:1"), GIVEN["PITBOSS_DATABASE"], "")
    assert (runtime.topic("x"), runtime.database) == ("x", "pitboss")


def test_a_worker_resolves_the_very_runtime_that_it_was_given():
    runtime = runtime_of(BrokerAddress("b:1"), GIVEN["PITBOSS_DATABASE"], "load")
    environ = worker_environment(runtime, "ledger-1")
    assert resolve_runtime(read_settings(environ)) == runtime
    assert "PATH" in environ


def test_workers_of_one_name_on_two_hosts_have_different_ids(monkeypatch):
    """Kafka fences one of two members with the same id, and its partitions go back and forth."""
    runtime = runtime_of(BrokerAddress("b:1"), GIVEN["PITBOSS_DATABASE"], "load")

    def id_on(host: str, ours: str = "", worker: str = "ledger-1") -> str:
        monkeypatch.setattr("socket.gethostname", lambda: host)
        monkeypatch.setenv("PITBOSS_WORKER_ID", ours)
        return read_worker_settings(worker_environment(runtime, worker)).worker_id

    assert id_on("a.example") == id_on("a.example") == "a.example-ledger-1"
    assert id_on("b.example") != id_on("a.example")
    assert id_on("örtlich host") == "_rtlich_host-ledger-1", "Kafka takes no other characters"
    assert id_on("localhost", ours="rack-7") == "rack-7-ledger-1"
    assert id_on("a.example", ours="rack-7", worker="") == "", (
        "without a name it is not a static member"
    )


def test_no_stack_says_what_to_do(tmp_path):
    with pytest.raises(NoStack, match="run `pitboss up`"):
        resolve_runtime(read_settings({"PITBOSS_HOME": str(tmp_path)}))


def test_a_state_file_counts_only_while_its_processes_run(tmp_path):
    settings = read_settings({"PITBOSS_HOME": str(tmp_path)})
    ourselves = ProcessId.of(_own_pid())
    assert ourselves is not None
    recycled = ProcessId(ourselves.pid, "another start")
    url = "postgresql://postgres:x@127.0.0.1:1/postgres"
    write_state(
        tmp_path, StackState(BrokerAddress("127.0.0.1:2"), url, kafka=ourselves, postgres=ourselves)
    )
    assert resolve_runtime(settings).broker == BrokerAddress("127.0.0.1:2")
    write_state(
        tmp_path, StackState(BrokerAddress("127.0.0.1:2"), url, kafka=ourselves, postgres=recycled)
    )
    with pytest.raises(NoStack, match="not running"):
        resolve_runtime(settings)
    assert oct((tmp_path / "stack.json").stat().st_mode)[-3:] == "600", "it holds a password"
    forget_state(tmp_path)
    assert read_state(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kafka": 1}'])
def test_a_broken_state_file_is_no_state(tmp_path, content):
    (tmp_path / "stack.json").write_text(content)
    assert read_state(tmp_path) is None


def test_a_password_is_not_shown():
    assert without_password("postgresql://u:secret@h:1/d") == "postgresql://u:***@h:1/d"
    assert without_password("postgresql://h/d") == "postgresql://h/d"


def test_only_settings_reads_the_environment():
    root = Path(__file__).parents[3]
    packages = (
        "schemas",
        "runtime",
        "streams",
        "ledger_sink",
        "fraud_agents",
        "replay",
        "lab",
        "pitboss",
    )
    readers = {
        str(file.relative_to(root))
        for package in packages
        for file in (root / package).rglob("*.py")
        if "os.environ" in (text := file.read_text()) or "getenv(" in text
    }
    assert readers == {"pitboss/settings.py"}


def _own_pid() -> int:
    import os

    return os.getpid()


def test_what_one_operator_may_adjust_alone_is_set_by_currency():
    assert read_operator_settings({}).adjust_alone == {}
    assert read_operator_settings({"PITBOSS_ADJUST_ALONE": "EUR:100, BTC:0.01"}).adjust_alone == {
        "EUR": "100",
        "BTC": "0.01",
    }
    for wrong in ("100", "EUR", "EUR:", "EUR:-1", "eur:1", "EUR:1e3"):
        with pytest.raises(UsageError, match="PITBOSS_ADJUST_ALONE"):
            read_operator_settings({"PITBOSS_ADJUST_ALONE": wrong})


def test_currencies_of_an_installation_are_read_from_a_file(tmp_path):
    file = tmp_path / "currencies.json"
    file.write_text('{"KVND": 0}')
    assert read_currencies(read_worker_settings({"PITBOSS_CURRENCIES_FILE": str(file)})) == {
        "KVND": 0
    }
    assert read_currencies(read_worker_settings({})) == {}
    file.write_text("[]")
    with pytest.raises(UsageError, match="currencies to decimals, got a list"):
        read_currencies(read_worker_settings({"PITBOSS_CURRENCIES_FILE": str(file)}))


@pytest.mark.parametrize(
    ("text", "providers"),
    [
        (None, None),
        ("", None),
        ("none", frozenset()),
        ("hub88", frozenset({"hub88"})),
        (" hub88, house,", frozenset({"hub88", "house"})),
    ],
)
def test_whose_players_wait_is_a_list_of_providers(text, providers):
    env = {} if text is None else {"PITBOSS_PARK": text}
    assert read_worker_settings(env).park_providers == providers


@pytest.mark.parametrize(
    "name", ["PITBOSS_PARK_RECORDS_MAX", "PITBOSS_PARK_AGE_MAX_MS", "PITBOSS_RESOLVE_MIN_AGE_MS"]
)
def test_a_number_that_is_none_is_named(name):
    with pytest.raises(UsageError, match=name):
        read_worker_settings({name: "an hour"})
