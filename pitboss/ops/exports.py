"""What an installation lets out as files, and the record of sensitive fields that left it."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

import msgspec
import psycopg

from ledger_sink.store.statements import statements
from pitboss.settings import Runtime, read_values
from runtime.postgres.roles import Role, take_role_sync
from schemas.errors import PitbossError, Unavailable, UsageError

POLICIES: Final = ("on", "masked", "off")
_SQL: Final = statements("exports")


class ExportForbidden(PitbossError):
    """The installation does not let this out."""

    code: ClassVar[str] = "EXPORT_FORBIDDEN"
    exit_code: ClassVar[int] = 2


def check_export_policy(*, unmasked: bool) -> None:
    """Raise ExportForbidden where the setting forbids it; UsageError if it is wrong."""
    given = read_values()["export"]
    if given.value not in POLICIES:
        raise UsageError(f"{given.place} is {given.value!r}: give one of {', '.join(POLICIES)}")
    if given.value == "off":
        raise ExportForbidden(f"{given.place} is 'off': this installation exports nothing")
    if unmasked and given.value == "masked":
        raise ExportForbidden(
            f"{given.place} is 'masked': personal and secret fields do not leave this installation;"
            " leave out --unmask"
        )


@contextmanager
def missing_packages(command: str) -> Iterator[None]:
    """Say what to install where a package of an extra is missing. Raises UsageError."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        extra = "analysis" if name == "matplotlib" else "replay"
        if name not in {"pyarrow", "numpy", "duckdb", "fsspec", "matplotlib"}:
            raise
        raise UsageError(
            f"`pitboss {command}` needs the package {name}: pip install 'pitboss[{extra}]'"
        ) from error


class UnmaskedExport:
    """The record of one export of personal or secret fields, in the ledger's database."""

    def __init__(self, runtime: Runtime, topic: str, request: object, reason: str) -> None:
        self._url = runtime.database_url
        self._columns = {
            "operator": getpass.getuser(),
            "topic": topic,
            "request": msgspec.json.encode(request).decode(),
            "reason": reason,
        }

    def begin(self) -> None:
        """Record that it begins. Raises Unavailable: without a record nothing is exported."""
        self._insert("BEGUN", None, None)

    def end(self, rows: int, sha256: str | None) -> None:
        """Record what left. Raises Unavailable."""
        self._insert("FINISHED", rows, sha256)

    def _insert(self, stage: str, rows: int | None, sha256: str | None) -> None:
        columns = {**self._columns, "stage": stage, "rows": rows, "sha256": sha256}
        try:
            with psycopg.connect(
                self._url, connect_timeout=10, application_name="pitboss.export"
            ) as connection:
                take_role_sync(connection, Role.WRITER)
                connection.execute(_SQL["record"], columns)
        except psycopg.Error as error:
            raise Unavailable(f"the export cannot be recorded: {error}") from error
