"""Dropping a database whose sessions take long to end: PostgreSQL itself waits for them for five seconds only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from pitboss.embedded import databases
from pitboss.settings import Runtime, runtime_of
from runtime.security import BrokerAddress


@pytest.fixture
def runtime() -> Runtime:
    return runtime_of(BrokerAddress("b:1"), "postgresql://u@127.0.0.1:1/postgres", "busy")


@pytest.fixture
def refusals(monkeypatch) -> list[bool]:
    """A server on which the sessions have not ended at each of these tries, and have at the next one."""
    left = [True] * 3

    class Session:
        def execute(self, _: object) -> None:
            if left:
                left.pop()
                raise psycopg.errors.ObjectInUse("database is being accessed by other users")

    @contextmanager
    def connect(_: Runtime) -> Iterator[Session]:
        yield Session()

    monkeypatch.setattr(databases, "_connect", connect)
    return left


def test_sessions_that_take_long_to_end_are_waited_for(runtime, refusals):
    databases.drop_database(runtime)
    assert refusals == []


def test_they_are_not_waited_for_without_end(runtime, refusals, monkeypatch):
    monkeypatch.setattr(databases, "_DROP_S", 0.0)
    with pytest.raises(psycopg.errors.ObjectInUse):
        databases.drop_database(runtime)
