"""Settings of a worker's telemetry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from runtime.telemetry.traces import SAMPLE_DEFAULT


@dataclass(frozen=True)
class TelemetrySettings:
    """Settings of a worker's telemetry; without a port and a collector it is off."""

    port: int | None = None
    """Port of the pages on the loopback address; 0 is any that is free; None: no pages."""

    otlp: str = ""
    """URL of a collector that takes OTLP over HTTP; empty: no traces."""
    trace_share: float = SAMPLE_DEFAULT
    """Share of traces that are kept though nothing about them is remarkable."""

    @property
    def is_on(self) -> bool:
        """Whether anything is to be recorded."""
        return self.port is not None or bool(self.otlp)


TELEMETRY_OFF: Final = TelemetrySettings()
"""Nothing is recorded."""
