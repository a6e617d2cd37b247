"""An installation of its own: what is done to it would be in the way of other tests."""

from __future__ import annotations

from tests.acceptance.conftest import installation

__all__ = ["installation"]
