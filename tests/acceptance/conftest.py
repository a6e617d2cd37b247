"""An installation that the acceptance tests share: real servers, real workers, no key configured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from lab.sandbox.actions import PROVIDERS
from pitboss.demo.environment import running_workers
from pitboss.ops.provision import provision
from pitboss.settings import Runtime
from tests.support.fix_stack import Servers
from tests.support.operator_limits import set_limit

PARTITIONS = 6

note = logging.getLogger(__name__).info
"""Takes the lines of supervisors: printed, they would be among what the commands of a test print."""


@pytest.fixture(scope="package")
def installation(
    stack: Servers,
    namespaces: Callable[[], str],
    leftovers: list[Runtime],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Runtime]:
    """A namespace with its workers running; every test uses players of its own.

    One operator may move 50.00 EUR alone.

    Of the package, not of the session: its workers end with the last test that may need them.
    """
    runtime = stack.runtime(namespaces())
    provision(
        runtime,
        partitions=PARTITIONS,
        raw_partitions=PARTITIONS,
        providers=(*PROVIDERS, "hundredhp"),
    )
    with running_workers(runtime, tmp_path_factory.mktemp("installation"), note):
        set_limit(runtime, "EUR", "50")
        yield runtime
    leftovers.append(runtime)
