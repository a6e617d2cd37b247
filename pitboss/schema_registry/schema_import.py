"""Import of our schemas into a Confluent-compatible registry under the ids that our records carry.

A record names its schema by id, so an id that the registry assigned itself would be useless: the
registry's IMPORT mode takes ours. Everything is compared before anything is written; a difference
writes nothing. Source: Confluent's "Schema Registry API Reference" and "Migrate Schemas" (mode
IMPORT, explicit id and version).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, encode_basic_auth

from pitboss.schema_registry.server import CONTENT_TYPE
from schemas.compatibility import checksum
from schemas.errors import Unavailable, UsageError
from schemas.registry import Schema

TIMEOUT_S: Final = 20.0
_NOT_FOUND: Final = 404


class ImportStatus(StrEnum):
    """Status of one of our versions in the registry."""

    THERE = "THERE"
    MISSING = "MISSING"
    IMPORTED = "IMPORTED"
    DIFFERENT = "DIFFERENT"


class SchemaImport(msgspec.Struct, frozen=True):
    """One version under one subject, and its status in the registry."""

    subject: str
    version: int
    id: int
    standing: ImportStatus
    detail: str = ""


class RegistryClient:
    """Client for the calls that the import needs.

    Its methods raise Unavailable, and UsageError for an answer that is not a registry's.
    """

    def __init__(self, session: ClientSession, url: str) -> None:
        """Use a session for the registry at `url`.

        The URL holds no credentials: they are the session's.
        """
        self._session = session
        self._url = url.rstrip("/")

    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, Any]:
        """Send a request and return the answer's status and JSON."""
        headers = {"Accept": CONTENT_TYPE, "Content-Type": CONTENT_TYPE}
        data = None if body is None else json.dumps(body).encode()
        try:
            async with self._session.request(
                method, self._url + path, data=data, headers=headers
            ) as answer:
                return answer.status, await answer.json(content_type=None)
        except (ClientError, TimeoutError) as error:
            raise Unavailable(f"the registry at {self._url} does not answer: {error!r}") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{self._url}{path} answered without JSON: is this a schema registry?"
            ) from error

    async def get_or_none(self, path: str) -> Any:
        """Return the JSON under a path, or None for a 404."""
        status, body = await self.request("GET", path)
        if status == _NOT_FOUND:
            return None
        self.raise_for_error(status, body, path)
        return body

    async def write(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """Send a write. Raises UsageError with the registry's own words where it refuses."""
        status, answer = await self.request(method, path, body)
        self.raise_for_error(status, answer, path)
        return answer

    def raise_for_error(self, status: int, body: Any, path: str) -> None:
        """Raise UsageError unless the answer reports success."""
        if status >= 300:
            message = body.get("message") if isinstance(body, dict) else body
            raise UsageError(f"the registry refuses {path}: {status} {message}")


def connect(user: str | None, password: str | None) -> ClientSession:
    """Open a session with the credentials of the registry's URL."""
    headers = None if user is None else {"Authorization": encode_basic_auth(user, password or "")}
    return ClientSession(headers=headers, timeout=ClientTimeout(total=TIMEOUT_S))


async def compare_versions(
    client: RegistryClient, subjects: Mapping[str, tuple[Schema, ...]]
) -> list[SchemaImport]:
    """Return the status of each of our versions in the registry; nothing is written."""
    standings = []
    for subject, versions in subjects.items():
        standings += [await _compare_version(client, subject, schema) for schema in versions]
    return standings


async def import_schemas(
    client: RegistryClient, subjects: Mapping[str, tuple[Schema, ...]], *, dry_run: bool
) -> list[SchemaImport]:
    """Import what is missing, unless anything differs; a dry run only compares.

    Raises Unavailable, UsageError.
    """
    standings = await compare_versions(client, subjects)
    if dry_run or any(one.standing is ImportStatus.DIFFERENT for one in standings):
        return standings
    missing = {one.subject for one in standings if one.standing is ImportStatus.MISSING}
    for subject in sorted(missing):
        await _import(
            client,
            subject,
            subjects[subject],
            {one.version for one in standings if _is(one, subject)},
        )
    return [
        msgspec.structs.replace(one, standing=ImportStatus.IMPORTED)
        if one.standing is ImportStatus.MISSING
        else one
        for one in standings
    ]


def _is(one: SchemaImport, subject: str) -> bool:
    return one.subject == subject and one.standing is ImportStatus.MISSING


async def _compare_version(client: RegistryClient, subject: str, schema: Schema) -> SchemaImport:
    def standing(word: ImportStatus, detail: str = "") -> SchemaImport:
        return SchemaImport(subject, schema.version, schema.id, word, detail)

    remote = await client.get_or_none(
        f"/subjects/{quote(subject, safe='')}/versions/{schema.version}"
    )
    if remote is not None:
        if remote["id"] != schema.id:
            return standing(ImportStatus.DIFFERENT, f"there it has the id {remote['id']}")
        if _checksum(remote["schema"]) != checksum(schema.json):
            return standing(ImportStatus.DIFFERENT, "there it has another content")
        return standing(ImportStatus.THERE)
    id_holder = await client.get_or_none(f"/schemas/ids/{schema.id}")
    if id_holder is not None and _checksum(id_holder["schema"]) != checksum(schema.json):
        return standing(ImportStatus.DIFFERENT, f"the id {schema.id} is another schema's there")
    return standing(ImportStatus.MISSING)


async def _import(
    client: RegistryClient, subject: str, versions: tuple[Schema, ...], missing: set[int]
) -> None:
    name = quote(subject, safe="")
    before = await client.get_or_none(f"/mode/{name}")
    # A subject with versions takes IMPORT mode only by force; its content was compared and is ours.
    await client.write("PUT", f"/mode/{name}?force=true", {"mode": "IMPORT"})
    try:
        for schema in versions:
            if schema.version not in missing:
                continue
            text = json.dumps(schema.json, separators=(",", ":"), ensure_ascii=False)
            answer = await client.write(
                "POST",
                f"/subjects/{name}/versions",
                {"schema": text, "schemaType": "AVRO", "id": schema.id, "version": schema.version},
            )
            if answer.get("id") != schema.id:
                raise UsageError(
                    f"{subject} v{schema.version}: the registry assigned the id {answer.get('id')}"
                )
    finally:
        if before is None:  # the subject had no mode of its own
            await client.write("DELETE", f"/mode/{name}", {})
        else:
            await client.write("PUT", f"/mode/{name}?force=true", before)
    await client.write("PUT", f"/config/{name}", {"compatibility": "FULL_TRANSITIVE"})


def _checksum(text: str) -> str:
    try:
        return checksum(json.loads(text))
    except json.JSONDecodeError:
        return ""
