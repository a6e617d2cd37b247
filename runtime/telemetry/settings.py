"""Settings of a worker's telemetry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class TelemetrySettings:
    """Settings of a worker's telemetry; without a port and a collector it is off."""

    port: int | None = None
    """Port of the pages on the loopback address; 0 is any that is free; None: no pages."""

    @property
    def is_on(self) -> bool:
        """Whether anything is to be recorded."""
        return self.port is not None


TELEMETRY_OFF: Final = TelemetrySettings()
"""Nothing is recorded."""
