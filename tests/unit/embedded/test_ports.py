"""Ports that are chosen before they are listened on: two choices never meet."""

from __future__ import annotations

import secrets

import pytest

from pitboss.embedded import ports
from pitboss.embedded.errors import StackError
from pitboss.embedded.ports import PORTS, choose_port


@pytest.fixture
def drawn(monkeypatch):
    """Have the first port drawn again and again, and then another one; all are free."""
    numbers = iter([0, 0, 0, 1])
    monkeypatch.setattr(ports, "_chosen", set())
    monkeypatch.setattr(ports, "is_free", lambda _: True)
    monkeypatch.setattr(secrets, "randbelow", lambda _: next(numbers, 1))


def test_no_port_is_chosen_twice(drawn):
    # A broker and its controller, or a gateway and a worker's page: neither listens yet.
    assert (choose_port(), choose_port()) == (PORTS[0], PORTS[1])
    with pytest.raises(StackError, match="no free port"):
        choose_port()


def test_a_port_that_was_chosen_before_stays_its_servers_own(drawn):
    assert choose_port() == choose_port(PORTS[0]) == PORTS[0]
