"""The files of a secured embedded stack."""

from __future__ import annotations

import ssl
from dataclasses import replace

import pytest

from pitboss.embedded.stack import Stack
from pitboss.embedded.tls import StackTls
from pitboss.settings import read_settings
from runtime.certificates import check_authority
from runtime.connection_faults import find_broker_fault
from runtime.security import BrokerAddress, SecurityProtocol
from schemas.errors import UsageError
from tests.support.certificates import Issued
from tests.unit.runtime.test_connection_faults import tls_server


def test_the_files_are_made_once_and_for_their_owner_alone(tmp_path):
    tls = StackTls(tmp_path / "tls")
    assert not tls.exists
    tls.make()
    before = {file.name: file.read_text() for file in tls.folder.iterdir()}
    tls.make()
    assert {file.name: file.read_text() for file in tls.folder.iterdir()} == before
    assert {oct(file.stat().st_mode)[-3:] for file in tls.folder.iterdir()} == {"600"}
    assert oct(tls.folder.stat().st_mode)[-3:] == "700"
    assert len(set(tls.read_users().values())) == 2


def test_its_certificates_pass_the_strict_check(tmp_path):
    tls = StackTls(tmp_path / "tls")
    tls.make()
    check_authority(str(tls.ca_file))
    own = Issued(str(tmp_path / "own.pem"), str(tmp_path / "own.key"))
    for file, text in zip((own.certificate, own.key), tls.issue("kafka"), strict=True):
        with open(file, "w") as out:  # noqa: PTH123
            out.write(text)
    with tls_server(own, maximum=ssl.TLSVersion.TLSv1_3) as address:
        trusting = BrokerAddress(address, SecurityProtocol.SSL, str(tls.ca_file))
        assert find_broker_fault(trusting) is None


def test_a_stack_with_data_is_not_secured_afterwards(tmp_path):
    stack = Stack.open(replace(read_settings({}), home=tmp_path))
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    with pytest.raises(UsageError, match="made without TLS and keeps that"):
        stack.up(secure=True)
    assert not Stack.open(stack.settings).is_secured


def test_clients_get_the_login_by_a_file(tmp_path):
    tls = StackTls(tmp_path / "tls")
    tls.make()
    address = tls.broker_address(9093)
    assert address.read_password() == tls.read_users()["pitboss"]
    assert tls.read_users()["pitboss"] not in repr(address)
    assert "sslmode=verify-full" in tls.database_url("postgresql://u@127.0.0.1:1/postgres")
