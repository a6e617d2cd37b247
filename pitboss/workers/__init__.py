"""Worker processes: `python -m pitboss.workers ROLE` runs one, composed by its role's module."""

from __future__ import annotations

from typing import Final

ROLES: Final = ("normalise", "ledger", "resolve", "fraud", "drift")
"""Roles of a worker process that every installation needs, at least one of each."""

GATEWAY: Final = "gateway"
"""The role that answers providers over HTTP: where connectors do so, it is not needed."""

ARCHIVE: Final = "archive"
"""The role that copies topics into files; it runs where an archive is set."""

ALL_ROLES: Final = (*ROLES, GATEWAY, ARCHIVE)
"""Every role of a worker process."""

ONE_PROCESS: Final = frozenset({GATEWAY, ARCHIVE})
"""Roles that run once in an installation."""

READS_RAW: Final = frozenset({"normalise", "drift", "resolve", GATEWAY})
"""Roles that need to know whose raw topics are read."""

READS_KEYS: Final = frozenset({"normalise", "drift", GATEWAY})
"""Roles that read the keys file; the others may run where it cannot be read."""
