"""The declaration of how servers are reached, and the options that each library gets from it."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

import faust
import pytest
from confluent_kafka import Consumer

from runtime.certificates import AuthorityWithoutKeyUsage, CertificateExpired
from runtime.security import BrokerAddress, DatabaseSecurity, SecurityProtocol
from schemas.errors import UsageError
from tests.support.certificates import Authority, Defect

SASL = SecurityProtocol.SASL_SSL
URL = "postgresql://u:p%40ss@h:5432/postgres"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture
def login(authority, tmp_path) -> BrokerAddress:
    password = tmp_path / "password"
    password.write_text("a secret\n")
    return BrokerAddress(
        "a:1,b:2", SASL, authority.file, sasl_user="pitboss", sasl_password_file=str(password)
    )


def test_plain_text_is_servers_and_nothing_else():
    plain = BrokerAddress("a:1,b:2")
    assert plain.aiokafka_options() == {"bootstrap_servers": "a:1,b:2"}
    assert plain.librdkafka_options() == {"bootstrap.servers": "a:1,b:2"}
    assert plain.faust_options() == {"broker": ["kafka://a:1", "kafka://b:2"]}


def test_aiokafka_checks_the_chain_strictly_and_the_host_and_logs_in(login):
    options = login.aiokafka_options()
    context = options.pop("ssl_context")
    assert options == {
        "bootstrap_servers": "a:1,b:2",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "pitboss",
        "sasl_plain_password": "a secret",
    }
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1, "the machine's authorities are not trusted too"


def test_librdkafka_gets_the_same_and_takes_it(login):
    options = login.librdkafka_options()
    assert options["ssl.endpoint.identification.algorithm"] == "https"
    assert options["sasl.password"] == "a secret"
    assert options["ssl.ca.location"] == login.ca_file
    Consumer({**options, "group.id": "g", "log_level": 0}).close()


def test_faust_gets_credentials(login):
    credentials = login.faust_options()["broker_credentials"]
    assert isinstance(credentials, faust.SASLCredentials)
    assert (credentials.username, credentials.password) == ("pitboss", "a secret")
    tls = BrokerAddress("a:1", SecurityProtocol.SSL, login.ca_file).faust_options()
    assert isinstance(tls["broker_credentials"], faust.SSLCredentials)


def test_mutual_tls_shows_our_certificate(authority):
    own = authority.issue("client")
    address = BrokerAddress("a:1", SecurityProtocol.SSL, authority.file, own.certificate, own.key)
    assert address.librdkafka_options()["ssl.key.location"] == own.key
    assert "sasl.mechanism" not in address.librdkafka_options()
    assert address.aiokafka_options().keys() == {
        *("bootstrap_servers", "security_protocol", "ssl_context")
    }


def test_a_password_is_read_when_a_client_is_made(login, tmp_path):
    (tmp_path / "password").write_text("another")
    assert login.aiokafka_options()["sasl_plain_password"] == "another"
    (tmp_path / "password").unlink()
    with pytest.raises(UsageError, match=r"password file .* cannot be read"):
        login.librdkafka_options()


def test_a_password_is_not_in_a_representation():
    address = BrokerAddress("a:1", SASL, sasl_user="u", sasl_password="a secret")
    assert "a secret" not in repr(address) + str(address)


@pytest.mark.parametrize("make", ["aiokafka_options", "librdkafka_options", "faust_options"])
def test_no_client_is_made_with_files_that_cannot_work(make, tmp_path):
    def options(ca: str, certificate: str | None = None) -> object:
        return getattr(BrokerAddress("a:1", SecurityProtocol.SSL, ca, certificate), make)()

    weak = Authority(tmp_path / "weak", defect=Defect.NO_KEY_USAGE)
    with pytest.raises(AuthorityWithoutKeyUsage, match=r"CN=weak has no key usage .*keyCertSign"):
        options(weak.file)
    old = Authority(tmp_path / "old", valid=-timedelta(hours=1))
    with pytest.raises(CertificateExpired, match=r"CN=old is valid from .* renew it"):
        options(old.file)
    good = Authority(tmp_path / "good")
    with pytest.raises(CertificateExpired, match="CN=server is valid from"):
        options(good.file, good.issue("client", valid=-timedelta(hours=1)).certificate)
    with pytest.raises(UsageError, match="absent"):
        options(str(tmp_path / "absent"))
    (tmp_path / "rubbish").write_text("rubbish")
    with pytest.raises(UsageError, match="rubbish cannot be read as PEM"):
        options(str(tmp_path / "rubbish"))


def test_an_authority_in_reserve_may_have_expired(tmp_path):
    old = Authority(tmp_path / "old", valid=-timedelta(hours=1))
    new = Authority(tmp_path / "new")
    both = tmp_path / "both.pem"
    both.write_text(Path(old.file).read_text() + Path(new.file).read_text())
    BrokerAddress("a:1", SecurityProtocol.SSL, str(both)).ssl_context()


def test_a_bundle_may_hold_an_authority_that_cannot_sign_beside_others(tmp_path):
    """As that of a machine does, where a few old roots have no key usage."""
    weak = Authority(tmp_path / "weak", defect=Defect.NO_KEY_USAGE)
    good = Authority(tmp_path / "good")
    both = tmp_path / "both.pem"
    both.write_text(Path(weak.file).read_text() + Path(good.file).read_text())
    BrokerAddress("a:1", SecurityProtocol.SSL, str(both)).ssl_context()
    both.write_text(Path(weak.file).read_text() * 2)
    with pytest.raises(AuthorityWithoutKeyUsage):
        BrokerAddress("a:1", SecurityProtocol.SSL, str(both)).ssl_context()


def by_setting(ca: str) -> str:
    return DatabaseSecurity(ca_file=ca).secure_url(URL)


def in_the_url(ca: str) -> str:
    return DatabaseSecurity().secure_url(f"{URL}?sslmode=verify-full&sslrootcert={ca}")


@pytest.mark.parametrize("secure", [by_setting, in_the_url])
@pytest.mark.parametrize("defect", [Defect.NO_KEY_USAGE, Defect.SIGNS_NOTHING])
def test_the_database_is_not_reached_by_an_authority_that_may_not_sign(secure, defect, tmp_path):
    weak = Authority(tmp_path / "weak", defect=defect)
    with pytest.raises(AuthorityWithoutKeyUsage, match=r"CN=weak has no key usage .*keyCertSign"):
        secure(weak.file)
    assert secure(Authority(tmp_path / "good").file).endswith("/good/ca.pem")


@pytest.mark.parametrize("secure", [by_setting, in_the_url])
def test_the_files_of_the_database_are_read_however_they_are_named(secure, tmp_path):
    with pytest.raises(CertificateExpired, match="CN=old is valid from"):
        secure(Authority(tmp_path / "old", valid=-timedelta(hours=1)).file)
    with pytest.raises(UsageError, match="absent cannot be read as PEM"):
        secure(str(tmp_path / "absent"))


def test_a_certificate_of_ours_in_the_url_is_read_too(authority):
    old = authority.issue("client", valid=-timedelta(hours=1))
    with pytest.raises(CertificateExpired, match="CN=server is valid from"):
        DatabaseSecurity().secure_url(f"{URL}?sslcert={old.certificate}&sslkey={old.key}")


def test_the_authorities_of_the_machine_are_left_to_libpq():
    url = f"{URL}?sslmode=verify-full&sslrootcert=system"
    assert DatabaseSecurity().secure_url(url) == url


def test_the_url_of_the_database_says_how_it_is_reached(authority, tmp_path):
    assert DatabaseSecurity().secure_url(URL) == URL
    secured = DatabaseSecurity(ca_file=authority.file).secure_url(f"{URL}?connect_timeout=3")
    assert secured == (f"{URL}?connect_timeout=3&sslmode=verify-full&sslrootcert={authority.file}")
    spaced = tmp_path / "a b.pem"
    spaced.write_text(Path(authority.file).read_text())
    assert "a%20b.pem" in DatabaseSecurity(ca_file=str(spaced)).secure_url(URL)


def test_a_parameter_of_the_database_is_given_once(authority):
    with pytest.raises(UsageError, match="PITBOSS_DATABASE holds sslmode"):
        DatabaseSecurity("require").secure_url(f"{URL}?sslmode=disable")
