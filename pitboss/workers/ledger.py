"""The ledger worker: events of the log to bookings, balances and outcomes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from mode import Service

from ledger_sink.booking.handler import create_ledger_app
from ledger_sink.booking.settings import LedgerSettings
from ledger_sink.store.database import LedgerDatabase
from pitboss.settings import Runtime, WorkerSettings
from runtime.kafka.app import PitbossApp
from runtime.postgres.roles import Role
from runtime.postgres.statements import statements_of
from runtime.telemetry.samples import MetricSample
from schemas.errors import PitbossError
from streams.providers.registry import policies

if TYPE_CHECKING:
    from runtime.telemetry.worker import WorkerTelemetry

CHECK_PAUSE_MIN_S: Final = 60.0
CHECK_SHARE_MAX: Final = 0.01
"""Share of the time that summing all accounts may take: with a longer journal it is rarer."""


def create_app(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    """Create the app, with the rollback policies of the providers' dialects."""
    settings = LedgerSettings(
        runtime.broker,
        runtime.database_url,
        runtime.namespace,
        version("pitboss"),
        group_instance_id=worker.worker_id or None,
    )
    app = create_ledger_app(settings, policies())

    def check_balance(telemetry: WorkerTelemetry) -> None:
        check = app.supervise(BalanceCheck(runtime.database_url))
        telemetry.meters.add_source(check.samples)

    app.when_observed(check_balance)
    return app


class BalanceCheck(Service):
    """Service that sums all accounts of each currency, and keeps how many do not sum to zero."""

    def __init__(self, database_url: str) -> None:
        """Prepare without connecting."""
        super().__init__()
        self._database = LedgerDatabase(database_url, "pitboss.balance", role=Role.AUDITOR)
        self._statement = statements_of("replay.audit", "checks")["conserved"]
        self.unbalanced: int | None = None
        """Currencies that did not sum to zero at the last check; None before the first."""

    @Service.task
    async def _check(self) -> None:
        while not self.should_stop:
            began_s = time.monotonic()
            try:
                self.unbalanced = len(await self._database.query(self._statement))
            except PitbossError as error:
                # Where the database is away, the ledger's own connection says so.
                self.log.debug("the accounts were not summed: %s", error)
            took_s = time.monotonic() - began_s
            await self.sleep(max(CHECK_PAUSE_MIN_S, took_s / CHECK_SHARE_MAX))

    async def on_shutdown(self) -> None:
        """Close the connection."""
        await self._database.close()

    def samples(self) -> Iterator[MetricSample]:
        """Yield the result of the last check as a metric."""
        if self.unbalanced is not None:
            yield MetricSample("pitboss.ledger.imbalance", (), self.unbalanced)
