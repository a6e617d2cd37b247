"""Asks the servers and the adapters for what an integration log tells."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from lab.conformance.adapters import all_adapters
from lab.conformance.suite import run_suite
from pitboss.embedded.state import NoStack, resolve_runtime
from pitboss.integration_log.drift_log import read_drift
from pitboss.integration_log.model import (
    EarlierLog,
    IntegrationLog,
    assemble_log,
    read_rejected,
    version_lines,
)
from pitboss.ops.provider_traffic import read_traffic
from pitboss.settings import Runtime, read_settings
from schemas.errors import PitbossError
from streams.providers.registry import DIALECTS

T = TypeVar("T")


def gather_log(since: int, until: int, earlier: Mapping[str, EarlierLog]) -> IntegrationLog:
    """The log of a period (epoch ms).

    What cannot be asked for is left out and named; raises UsageError only.
    """
    unknown: list[str] = []
    runtime: Runtime | None = None
    try:
        runtime = resolve_runtime(read_settings())
    except NoStack as error:
        unknown.append(f"Traffic, drift and rejected records are not known: {error}")

    def asked(what: str, ask: Callable[[Runtime], Awaitable[T]]) -> T | None:
        """What the servers say; one that is down leaves out its own section only."""
        if runtime is None:
            return None
        try:
            return asyncio.run(_awaited(ask(runtime)))
        except PitbossError as error:
            unknown.append(f"{what} not known: {error.code} {error}")
            return None

    traffic = asked("Traffic is", lambda at: read_traffic(at, since))
    drift = asked("Drift is", lambda at: read_drift(at, from_ms=since))
    rejected = asked("Rejected records are", lambda at: read_rejected(at, since))
    today = datetime.fromtimestamp(until // 1000, tz=UTC).date()
    versions = version_lines(DIALECTS.rows, traffic, today)
    return assemble_log(
        since, until, versions, drift, rejected, run_suite(all_adapters()), earlier, unknown
    )


async def _awaited(answer: Awaitable[T]) -> T:
    return await answer
