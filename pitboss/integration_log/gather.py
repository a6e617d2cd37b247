"""Gathering of an integration log from servers and adapters, and its files in a folder."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from pitboss.embedded.state import NoStack, resolve_runtime
from pitboss.integration_log.drift_log import read_drift
from pitboss.integration_log.markdown import render_markdown
from pitboss.integration_log.model import (
    EarlierLog,
    IntegrationLog,
    RejectedLine,
    assemble_log,
    file_stamp,
    rejected_lines,
    version_lines,
)
from pitboss.lab_package import LabMissing, requiring_lab
from pitboss.ops.dead_letters import load_snapshot
from pitboss.ops.provider_traffic import read_traffic
from pitboss.settings import Runtime, read_settings
from schemas.errors import PitbossError, UsageError
from streams.providers.registry import DIALECTS

if TYPE_CHECKING:
    from lab.conformance.suite import Conformance

T = TypeVar("T")

FILE_PREFIX: Final = "integration-log-"


def gather_log(since: int, until: int, earlier: Mapping[str, EarlierLog]) -> IntegrationLog:
    """Gather the log of a period (epoch ms).

    A section that cannot be gathered is left out and named in `unknown`. Raises UsageError only.
    """
    unknown: list[str] = []
    runtime: Runtime | None = None
    try:
        runtime = resolve_runtime(read_settings())
    except NoStack as error:
        unknown.append(f"Traffic, drift and rejected records are not known: {error}")

    def query(what: str, ask: Callable[[Runtime], Awaitable[T]]) -> T | None:
        """Query the servers; one that is down leaves out its own section only."""
        if runtime is None:
            return None
        try:
            return asyncio.run(_as_coroutine(ask(runtime)))
        except PitbossError as error:
            unknown.append(f"{what} not known: {error.code} {error}")
            return None

    traffic = query("Traffic is", lambda at: read_traffic(at, since))
    drift = query("Drift is", lambda at: read_drift(at, from_ms=since))
    rejected = query("Rejected records are", lambda at: read_rejected(at, since))
    today = datetime.fromtimestamp(until // 1000, tz=UTC).date()
    versions = version_lines(DIALECTS.rows, traffic, today)
    conformance: list[Conformance] = []
    try:
        conformance = _check_conformance()
    except LabMissing as error:
        unknown.append(str(error))
    return assemble_log(since, until, versions, drift, rejected, conformance, earlier, unknown)


def _check_conformance() -> list[Conformance]:
    with requiring_lab("The conformance of the adapters is not known: it"):
        from lab.conformance.adapters import all_adapters
        from lab.conformance.suite import run_suite
    return run_suite(all_adapters())


async def _as_coroutine(answer: Awaitable[T]) -> T:
    return await answer


async def read_rejected(runtime: Runtime, from_ms: int) -> list[RejectedLine]:
    """Count the rejected records since `from_ms` (epoch ms). Raises Unavailable, UsageError."""
    return rejected_lines((await load_snapshot(runtime, lambda _: False)).cases, from_ms)


def read_earlier_logs(folder: Path) -> dict[str, EarlierLog]:
    """Read the earlier logs of a folder by file name. Raises UsageError for an unreadable one."""
    found = {}
    for file in sorted(folder.glob(f"{FILE_PREFIX}*.json")):
        try:
            found[file.name] = msgspec.json.decode(file.read_bytes(), type=EarlierLog)
        except (OSError, msgspec.DecodeError) as error:
            raise UsageError(
                f"{file} is not an integration log to compare with: {error}; move it away"
            ) from error
    return found


def render_files(log: IntegrationLog, folder: Path) -> dict[Path, bytes]:
    """Return the log's files by path, Markdown and JSON, named by the end of its period."""
    stem = f"{FILE_PREFIX}{file_stamp(log.until)}"
    return {
        folder / f"{stem}.md": render_markdown(log).encode(),
        folder / f"{stem}.json": msgspec.json.format(msgspec.json.encode(log)),
    }
