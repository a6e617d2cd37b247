"""Peers of the measurements: processes without our code, or with as little of it as they need."""

from __future__ import annotations

from typing import Final

BARE_HOPS: Final = "bare hops"
