"""Warnings in a normalising worker's log about versions that are soon retired and still sent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from mode import Service

from streams.providers.retirement import find_retiring, format_warnings
from streams.providers.versions import VersionRow

_LOG = logging.getLogger(__name__)
_INTERVAL_S = 10.0


def today_utc() -> date:
    """Return the day by this machine's clock."""
    return datetime.now(UTC).date()


class RetirementWatch(Service):
    """Service that warns about retiring versions: at the first event, and then once a day."""

    def __init__(
        self,
        rows: Sequence[VersionRow],
        seen: Mapping[tuple[str, str], int],
        today: Callable[[], date] = today_utc,
        interval_s: float = _INTERVAL_S,
        **kwargs: Any,
    ) -> None:
        """Watch `seen`: events by (provider, version), which the worker counts up."""
        super().__init__(**kwargs)
        self._rows = rows
        self._seen = seen
        self._today = today
        self._interval_s = interval_s
        self._warned_on: dict[tuple[str, str], date] = {}
        self._warned_count: dict[tuple[str, str], int] = {}

    @Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            self.warn_new()
            await self.sleep(self._interval_s)

    def warn_new(self) -> None:
        """Warn about versions with events since their last warning, at most once a day."""
        today = self._today()
        for row in find_retiring(self._rows, today):
            version = row.provider, row.version
            fresh = self._seen.get(version, 0) - self._warned_count.get(version, 0)
            if fresh and self._warned_on.get(version) != today:
                for warning in format_warnings(
                    self._rows, {version: fresh}, today, "to this worker"
                ):
                    _LOG.warning("%s", warning)
                self._warned_on[version] = today
                self._warned_count[version] = self._seen[version]
