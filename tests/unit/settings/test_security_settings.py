"""The settings of TLS and logins: what fits together, what is shown, and what a worker gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pitboss.embedded.checkup import list_settings
from pitboss.settings import (
    StackSettings,
    read_settings,
    runtime_of,
    without_password,
    worker_environment,
)
from runtime.security import BrokerAddress, SecurityProtocol
from schemas.errors import UsageError
from tests.support.certificates import Authority

SERVERS = {
    "PITBOSS_KAFKA": "broker:9093",
    "PITBOSS_DATABASE": "postgresql://u:a-password@db:5432/postgres",
}
LOGIN = {
    "PITBOSS_KAFKA_SECURITY": "SASL_SSL",
    "PITBOSS_KAFKA_SASL_USER": "pitboss",
    "PITBOSS_KAFKA_SASL_PASSWORD": "a secret",
}


def read(**variables: str) -> StackSettings:
    return read_settings(SERVERS | variables)


def test_without_settings_clients_speak_plain_text():
    assert read().kafka == BrokerAddress("broker:9093")
    assert read().database == SERVERS["PITBOSS_DATABASE"]


def test_a_login_over_tls():
    broker = read(**LOGIN, PITBOSS_KAFKA_CA="/run/ca.pem").kafka
    assert broker == BrokerAddress(
        "broker:9093",
        SecurityProtocol.SASL_SSL,
        ca_file="/run/ca.pem",
        sasl_user="pitboss",
        sasl_password="a secret",
    )
    assert read(**LOGIN, PITBOSS_KAFKA_SASL_MECHANISM="scram-sha-256").kafka is not None


def test_the_file_names_everything_but_the_password(tmp_path):
    file = tmp_path / "pitboss.toml"
    file.write_text(
        'kafka = "broker:9093"\ndatabase = "postgresql://u@db:5432/postgres"\n'
        'kafka_security = "sasl_ssl"\nkafka_sasl_user = "pitboss"\n'
        'kafka_sasl_password_file = "secret"\n'
    )
    broker = read_settings({"PITBOSS_CONFIG": str(file)}).kafka
    assert broker is not None
    assert broker.sasl_password_file == str(tmp_path / "secret")
    file.write_text('kafka_sasl_password = "a secret"\n')
    with pytest.raises(UsageError, match="'kafka_sasl_password' is not a setting"):
        read_settings({"PITBOSS_CONFIG": str(file)})


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"PITBOSS_KAFKA_SECURITY": "TLS"}, "is 'TLS': give one of PLAINTEXT, SSL, SASL_SSL"),
        ({"PITBOSS_KAFKA_CA": "ca"}, "set that to SSL or SASL_SSL"),
        (
            {"PITBOSS_KAFKA_SECURITY": "SSL", "PITBOSS_KAFKA_SASL_USER": "u"},
            "PITBOSS_KAFKA_SECURITY is SSL: set that to SASL_SSL",
        ),
        (
            {"PITBOSS_KAFKA_SECURITY": "SSL", "PITBOSS_KAFKA_CERT": "c"},
            "PITBOSS_KAFKA_KEY is not: set both",
        ),
        ({"PITBOSS_KAFKA_SECURITY": "SASL_SSL"}, "set PITBOSS_KAFKA_SASL_USER too"),
        (
            {"PITBOSS_KAFKA_SECURITY": "SASL_SSL", "PITBOSS_KAFKA_SASL_USER": "u"},
            "set one of PITBOSS_KAFKA_SASL_PASSWORD_FILE and",
        ),
        (LOGIN | {"PITBOSS_KAFKA_SASL_PASSWORD_FILE": "f"}, "set one of"),
        (LOGIN | {"PITBOSS_KAFKA_SASL_MECHANISM": "PLAIN"}, "SCRAM-SHA-512, SCRAM-SHA-256"),
        ({"PITBOSS_DATABASE_SSLMODE": "on"}, "give one of disable, .*verify-full"),
        ({"PITBOSS_DATABASE_KEY": "k"}, "PITBOSS_DATABASE_CERT is not: set both"),
        ({"PITBOSS_DATABASE_CA": "absent"}, "absent cannot be read"),
    ],
)
def test_what_does_not_fit_together_is_refused(variables, sentence):
    with pytest.raises(UsageError, match=sentence):
        read(**variables)


@pytest.mark.parametrize("name", ["PITBOSS_KAFKA_SECURITY", "PITBOSS_DATABASE_CA"])
def test_security_is_of_servers_that_are_named(name):
    with pytest.raises(UsageError, match=r"pitboss up --secure"):
        read_settings({name: "SSL"})


def test_an_authority_of_the_database_means_verify_full(tmp_path):
    authority = Authority(tmp_path / "authority")
    url = read(PITBOSS_DATABASE_CA=authority.file).database
    assert url is not None
    assert url.endswith(f"?sslmode=verify-full&sslrootcert={authority.file}")
    weaker = read(PITBOSS_DATABASE_CA=authority.file, PITBOSS_DATABASE_SSLMODE="verify-ca").database
    assert weaker is not None
    assert "sslmode=verify-ca" in weaker


@pytest.mark.parametrize("secret_in", ["variable", "file"])
def test_a_worker_reaches_the_servers_as_we_do(secret_in, tmp_path):
    authority = Authority(tmp_path / "authority")
    own = authority.issue("client")
    secret = {"PITBOSS_KAFKA_SASL_PASSWORD": "a secret"}
    if secret_in == "file":
        secret = {"PITBOSS_KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "secret")}
    settings = read(
        PITBOSS_KAFKA_SECURITY="SASL_SSL",
        PITBOSS_KAFKA_SASL_USER="pitboss",
        PITBOSS_KAFKA_CA=authority.file,
        PITBOSS_KAFKA_CERT=own.certificate,
        PITBOSS_KAFKA_KEY=own.key,
        PITBOSS_DATABASE_CA=authority.file,
        PITBOSS_DATABASE_CERT=own.certificate,
        PITBOSS_DATABASE_KEY=own.key,
        **secret,
    )
    assert settings.kafka is not None
    assert settings.database is not None
    runtime = runtime_of(settings.kafka, settings.database, "ns")
    again = read_settings(worker_environment(runtime))
    assert again.kafka == settings.kafka
    assert again.database == runtime.database_url


def test_doctor_shows_sources_and_no_secret():
    settings = read(**LOGIN)
    rows = {row["name"]: row for row in list_settings(settings)}
    assert rows["kafka_sasl_password"]["value"] == "***"
    assert rows["kafka_sasl_password"]["source"] == "PITBOSS_KAFKA_SASL_PASSWORD"
    assert rows["kafka_security"]["value"] == "SASL_SSL"
    assert "a secret" not in json.dumps([*rows.values()]) + repr(settings)
    assert "a-password" not in json.dumps([*rows.values()])


def test_a_password_in_the_query_of_a_url_is_not_shown():
    shown = without_password("postgresql://u@h/d?password=p%26q&sslrootcert=/a%20b.pem")
    assert shown == "postgresql://u@h/d?password=***&sslrootcert=/a%20b.pem"


def test_paths_are_those_of_this_process(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    broker = read(**LOGIN, PITBOSS_KAFKA_CA="ca.pem").kafka
    assert broker is not None
    assert broker.ca_file == str(Path(tmp_path) / "ca.pem")
