"""Settings of TLS and access: what cannot be meant is refused, naming the file and the row."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from gateway.decisions.access import ProviderAccess
from pitboss.gateway_settings import read_gateway_settings
from pitboss.settings import read_settings, show_values
from schemas.errors import UsageError

ALL = """
proxies = ["10.0.0.5", "fd00::/8"]
[hub88]
addresses = ["192.0.2.0/24"]
[playngo]
certificates = ["playngo.example"]
"""


def environ_of(tmp_path: Path, text: str, **more: str) -> dict[str, str]:
    file = tmp_path / "access.toml"
    file.write_text(text)
    return {"PITBOSS_GATEWAY_ACCESS_FILE": str(file)} | more


TLS = {
    "PITBOSS_GATEWAY_TLS_CERT": "/c.pem",
    "PITBOSS_GATEWAY_TLS_KEY": "/c.key",
    "PITBOSS_GATEWAY_TLS_CLIENT_CA": "/ca.pem",
}


def test_the_file_is_read(tmp_path: Path):
    door = read_gateway_settings(environ_of(tmp_path, ALL, **TLS))
    assert door.access.proxies == (ip_network("10.0.0.5/32"), ip_network("fd00::/8"))
    assert door.access.providers == {
        "hub88": ProviderAccess((ip_network("192.0.2.0/24"),)),
        "playngo": ProviderAccess((), frozenset({"playngo.example"})),
    }
    assert door.tls is not None
    assert door.tls.client_authority == Path("/ca.pem")
    plain = read_gateway_settings({})
    assert (plain.tls, plain.access.providers) == (None, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[hub89]\naddresses=['192.0.2.1']", "did you mean 'hub88'"),
        ("[camt]\naddresses=['192.0.2.1']", "not a provider that calls over HTTP"),
        ("[hub88]\naddresses=['192.0.2.1/24']", "has host bits set"),
        ("[hub88]\naddresses=['example.org']", "hub88: addresses"),
        ("[hub88]\naddresses='192.0.2.1'", "expected a list"),
        ("[hub88]\naddresses=[]", "would allow anyone"),
        ("[hub88]\naddress=['192.0.2.1']", "nothing else"),
        ("[hub88]\ncertificates=['']", "expected a list of names"),
        ("[hub88]\ncertificates=['hub88.example']", "PITBOSS_GATEWAY_TLS_CLIENT_CA"),
        ("hub88 = 1", "give a table"),
        ("proxies = 'all'", "proxies: expected a list"),
        ("?", "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str):
    with pytest.raises(UsageError, match=message) as raised:
        read_gateway_settings(environ_of(tmp_path, text))
    assert "access.toml" in str(raised.value)


@pytest.mark.parametrize("left_out", TLS)
def test_certificate_and_key_belong_together(left_out: str):
    environ = {name: value for name, value in TLS.items() if name != left_out}
    if left_out == "PITBOSS_GATEWAY_TLS_CLIENT_CA":
        assert read_gateway_settings(environ).tls is not None
        return
    with pytest.raises(UsageError, match="set both"):
        read_gateway_settings(environ)


def test_an_authority_of_clients_needs_tls():
    with pytest.raises(UsageError, match="PITBOSS_GATEWAY_TLS_CERT"):
        read_gateway_settings({"PITBOSS_GATEWAY_TLS_CLIENT_CA": "/ca.pem"})


def test_a_copy_of_the_database_is_that_of_the_namespace_and_shows_no_password():
    environ = {
        "PITBOSS_GATEWAY_DATABASE": "postgresql://p:geheim@standby:5432/postgres",
        "PITBOSS_NAMESPACE": "t1",
    }
    door = read_gateway_settings(environ)
    assert door.read_database is not None
    assert "/pitboss_t1" in door.read_database
    assert "geheim" not in repr(door)
    assert "geheim" not in str(show_values(read_settings(environ)))
    with pytest.raises(UsageError, match="PITBOSS_GATEWAY_DATABASE") as raised:
        read_gateway_settings({"PITBOSS_GATEWAY_DATABASE": "mysql://p:geheim@h/d"})
    assert "geheim" not in str(raised.value)
