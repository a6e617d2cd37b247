"""Settings that every process of an installation must have alike, stored with the installation.

A normaliser that knows a currency which its ledger lacks, two normalisers with other brands, two
ledgers with other policies: each would book what the other refuses. So `pitboss provision` stores
these settings, a process without one of them takes what is stored, and one whose setting differs
refuses to start and names the difference. `pitboss provision --accept-settings` changes them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import orjson

from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements
from pitboss.ops.stored_rows import query_if_provisioned
from pitboss.setting_files import read_currencies, read_dialect_settings
from pitboss.settings import Runtime, WorkerSettings
from runtime.postgres.roles import Role
from schemas.errors import UsageError
from schemas.money import configure_currencies
from streams.providers.registry import DIALECTS, policies

_SQL: Final = statements("shared_settings")
_APPLICATION: Final = "pitboss.shared_settings"
_OF_RELEASE: Final = "policies"
"""The section that no setting gives: a release may add policies and fields of policies."""
_NOTHING: Final = "nothing"

Sections = Mapping[str, Any]
"""Brands, currencies, dialects and policies, as JSON has them; None for what is not set here."""


@dataclass(frozen=True)
class StoredSettings:
    """The settings that apply, with who has accepted them."""

    sections: Sections
    digest: str
    accepted_by: str


def collect(worker: WorkerSettings) -> Sections:
    """Return the settings of this process. Raises UsageError for a file that cannot be read."""
    brands = {name: sorted(names) for name, names in worker.brands.items()} or None
    currencies = dict(read_currencies(worker)) if worker.currencies_file else None
    dialects = dict(read_dialect_settings(worker)) if worker.dialects_file else None
    sections = {
        "brands": brands,
        "currencies": currencies,
        "dialects": dialects,
        _OF_RELEASE: {name: msgspec.structs.asdict(policy) for name, policy in policies().items()},
    }
    read: Sections = orjson.loads(orjson.dumps(sections, default=str))
    return read


def digest_of(sections: Sections) -> str:
    """Return the digest of settings: equal for equal ones, in whatever order."""
    complete = {name: given or {} for name, given in sections.items()}
    return hashlib.sha256(orjson.dumps(complete, option=orjson.OPT_SORT_KEYS)).hexdigest()


def list_differences(stored: Sections, ours: Sections, *, is_exact: bool = False) -> list[str]:
    """Return one line for each setting that differs, as in `brands.hub88: stored …, here …`.

    What is not set here does not differ, unless `is_exact`. A policy that only one of two releases
    knows does not differ either.
    """
    # Without a file of its own a process takes the stored settings of dialects, and their policies.
    of_file = () if is_exact or ours["dialects"] is not None else stored.get("dialects", ())
    lines = []
    for name in sorted(ours):
        given = ours[name]
        if given is None and not is_exact:
            continue
        before = dict(_flatten(name, stored.get(name) or {}))
        now = dict(_flatten(name, given or {}))
        keys = before.keys() | now.keys()
        if name == _OF_RELEASE:
            common = before.keys() & now.keys()
            keys = {key for key in common if key.split(".")[1] not in of_file}
        lines += [
            f"{key}: stored {before.get(key, _NOTHING)}, here {now.get(key, _NOTHING)}"
            for key in sorted(keys)
            if before.get(key) != now.get(key)
        ]
    return lines


def _flatten(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(f"{name}.{key}", inner)
    else:
        yield name, orjson.dumps(value).decode()


def check(stored: StoredSettings | None, ours: Sections) -> None:
    """Raise UsageError, naming each difference, where settings differ from what is stored."""
    differences = [] if stored is None else list_differences(stored.sections, ours)
    if differences:
        raise UsageError(
            "settings that all processes of an installation share differ from what is stored: "
            f"{'; '.join(differences)}. Correct them here (a setting that is unset takes what is "
            "stored), or change what is stored by `pitboss provision --accept-settings --by NAME` "
            "and restart all workers"
        )


async def fetch_stored(runtime: Runtime, role: Role = Role.WRITER) -> StoredSettings | None:
    """Return what is stored; None in an installation that this release has not provisioned.

    Raises Unavailable, RightsMissing.
    """
    rows = await query_if_provisioned(runtime, _APPLICATION, _SQL["current"], role)
    return next((StoredSettings(*row[:3]) for row in rows or ()), None)


def read_stored(runtime: Runtime, role: Role = Role.WRITER) -> StoredSettings | None:
    """Do as `fetch_stored` outside an event loop."""
    return asyncio.run(fetch_stored(runtime, role))


def store(runtime: Runtime, sections: Sections, by: str, *, is_first: bool) -> None:
    """Add a row that applies from now on, with who has accepted it.

    The first one may be written by a worker's login, a change only by the tables' owner. Raises
    Unavailable, RightsMissing.
    """
    complete = {name: given or {} for name, given in sections.items()}
    columns = {
        "digest": digest_of(sections),
        "settings": orjson.dumps(complete).decode(),
        "by": by,
    }

    async def write() -> None:
        role = Role.WRITER if is_first else Role.MIGRATOR
        database = LedgerDatabase(runtime.database_url, _APPLICATION, role=role)
        try:
            await database.query(_SQL["accept"], columns)
        finally:
            await database.close()

    asyncio.run(write())


async def adopt_stored(runtime: Runtime, worker: WorkerSettings) -> WorkerSettings:
    """Return a worker's settings, with what is stored where it sets nothing itself.

    Currencies and settings of dialects are put into force for the whole process. Raises UsageError
    where a setting differs from what is stored, Unavailable, RightsMissing.
    """
    stored = await fetch_stored(runtime)
    if stored is None:
        return worker
    sections = stored.sections
    if worker.currencies_file is None:
        configure_currencies(sections["currencies"])
    if worker.dialects_file is None and sections["dialects"]:
        DIALECTS.configure(sections["dialects"])
    check(stored, collect(worker))
    if worker.brands:
        return worker
    brands = {name: frozenset(names) for name, names in sections["brands"].items()}
    return replace(worker, brands=brands)
