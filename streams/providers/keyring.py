"""A provider's keys over time: one entry, or several with the windows in which each is valid.

A window is checked against the time when the record was seen (`fields.seen_at`: the broker's
append, or a receipt shortly before), never against a clock of ours: read again after a rotation, or
in a replay, a record gets the same verdict. Only a key that is revoked was never valid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from typing import Any, Final, TypeAlias, cast

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected, UsageError
from streams.providers.dialect import Dialect, Headers, Item, KeyMaterial, Reader
from streams.providers.fields import seen_at
from streams.providers.questions import QuestionReader
from streams.providers.registry import Dialects
from streams.providers.times import ms_of_text
from streams.providers.versions import VersionState

KeyEntry: TypeAlias = KeyMaterial | Sequence[Any]
"""One provider's entry in the keyring: its key material, or a list of such.

In a list each has an `id` of its own and, where it is not valid for ever, `valid_from` (included)
and `valid_until` (not included), RFC 3339 or a date, UTC without a zone. With `revoked: true` a key
signs nothing, whenever it was seen.
"""

Keyring: TypeAlias = Mapping[str, KeyEntry]
_MakeReader: TypeAlias = Callable[[KeyMaterial | None], Reader]

_OURS: Final = frozenset({"id", "valid_from", "valid_until", "revoked"})
_EVER: Final = 2**63 - 1


@dataclass(frozen=True)
class _Key:
    id: str
    from_ms: int
    until_ms: int
    read: Reader
    is_revoked: bool = False

    def is_valid(self, at: int) -> bool:
        return not self.is_revoked and self.from_ms <= at < self.until_ms


def reader_of(dialect: Dialect, entry: KeyEntry | None) -> Reader:
    """Return the dialect's reader under its entry of the keyring.

    Without an entry nothing is checked (NOT_CHECKED). With several keys those are tried that were
    valid when the record was first seen, the newest first; a record or item that only another key
    signs is BAD_SIGNATURE, and its detail names that key. Raises UsageError for an entry that
    cannot be used, never showing what it holds.
    """
    return _with_keys(dialect.provider, dialect.reader, entry)


def question_reader_of(dialect: Dialect, entry: KeyEntry | None) -> QuestionReader:
    """Return the dialect's reader of questions, under the same keys as `reader_of`."""
    make = cast("_MakeReader", dialect.question_reader)
    return cast("QuestionReader", _with_keys(dialect.provider, make, entry))


def _with_keys(provider: str, make: _MakeReader, entry: KeyEntry | None) -> Reader:
    if entry is None or isinstance(entry, Mapping):
        return make(entry)
    keys = sorted(_keys(provider, make, entry), key=lambda key: (-key.from_ms, key.id))
    return partial(_read, keys)


def requires_key(dialect: Dialect) -> bool:
    """Return whether the dialect checks signatures: without its key material it has no reader."""
    try:
        dialect.reader({})
    except UsageError:
        return True
    return False


def check_keyring(keyring: Keyring, dialects: Mapping[str, Dialect], place: str) -> None:
    """Check every entry of a keyring whose names are known.

    Raises UsageError that names `place`, where the keyring is from, and the provider; no key.
    """
    for provider, entry in keyring.items():
        try:
            reader_of(dialects[provider], entry)
        except UsageError as error:
            raise UsageError(f"{place}: {provider}: {error}") from error


def unchecked_providers(keyring: Keyring, dialects: Dialects) -> list[str]:
    """Return the providers with a live version that sign and have no entry, in alphabetical order.

    Their records are booked unchecked.
    """
    live = {row.provider for row in dialects.rows if row.state is VersionState.LIVE}
    return sorted(name for name in live - keyring.keys() if requires_key(dialects[name]))


def _keys(provider: str, make: _MakeReader, entry: Sequence[Any]) -> list[_Key]:
    whose = f"the keyring's entry for {provider!r}"
    if (
        isinstance(entry, str | bytes)
        or not entry
        or not all(isinstance(key, Mapping) for key in entry)
    ):
        raise UsageError(
            f"{whose} must be an object, or a list of objects with id, valid_from and valid_until"
        )
    keys = []
    for number, given in enumerate(entry, 1):
        name = given.get("id")
        if not isinstance(name, str) or not name or not name.isprintable():
            raise UsageError(f'{whose}: key {number} needs an id, as in "2026-11"')
        since, until = (
            _time(given.get(bound), f"{whose}: key {name!r}: {bound}")
            for bound in ("valid_from", "valid_until")
        )
        window = 0 if since is None else since, _EVER if until is None else until
        if window[0] >= window[1]:
            raise UsageError(
                f"{whose}: key {name!r} is never valid: valid_from must come before valid_until"
            )
        revoked = given.get("revoked", False)
        if not isinstance(revoked, bool):
            raise UsageError(f"{whose}: key {name!r}: revoked must be true or false")
        read = make({k: v for k, v in given.items() if k not in _OURS})
        keys.append(_Key(name, *window, read, revoked))
    if len({key.id for key in keys}) < len(keys):
        raise UsageError(f"{whose}: two keys have the same id")
    return keys


def _time(text: object, field: str) -> int | None:
    if text is None:
        return None
    try:
        return ms_of_text(str(text), UTC, field=field)
    except Rejected as error:
        raise UsageError(f"{field} must be a time as in 2026-11-22T00:00:00Z") from error


def _read(keys: Sequence[_Key], record: RawRecord, headers: Headers) -> list[Item]:
    at = seen_at(record, headers)
    valid = [key for key in keys if key.is_valid(at)]
    items = _first_right(valid, record, headers)
    if items is not None and not _has_forged(items):
        return items
    for key in keys:
        others = None if key in valid else _first_right([key], record, headers)
        if others is None:
            continue
        why = "is revoked" if key.is_revoked else "was not valid then"
        untimely = Rejected(RejectCode.BAD_SIGNATURE, f"signed with key {key.id!r}, which {why}")
        if items is not None:
            items = _mark_untimely(items, others, untimely)
        elif not _has_forged(others):
            raise untimely
    if items is not None:
        return items
    tried = ", ".join(repr(key.id) for key in valid) or "none was valid then"
    raise Rejected(RejectCode.BAD_SIGNATURE, f"no key signs this record: {tried}")


def _first_right(keys: Sequence[_Key], record: RawRecord, headers: Headers) -> list[Item] | None:
    """Return the items as read with the first keys that fit, in the order of `keys`.

    Items of a batch may be signed with different ones. None where no key signs any.
    """
    best: list[Item] | None = None
    for key in keys:
        try:
            items = key.read(record, headers)
        except Rejected as error:
            if error.reason is not RejectCode.BAD_SIGNATURE:
                raise
            continue
        best = items if best is None else _merge(best, items)
        if not _has_forged(best):
            break
    return best


def _merge(one: list[Item], other: list[Item]) -> list[Item]:
    if len(one) != len(other):
        return min(one, other, key=lambda items: sum(map(_is_forged, items)))
    return [
        second if _is_forged(first) else first for first, second in zip(one, other, strict=True)
    ]


def _mark_untimely(items: list[Item], others: list[Item], untimely: Rejected) -> list[Item]:
    """Return the items, marking `untimely` those that only another key signs.

    An item that a valid key read stays as it is.
    """
    if len(items) != len(others):
        return items
    return [
        untimely if _is_forged(item) and not _is_forged(other) else item
        for item, other in zip(items, others, strict=True)
    ]


def _is_forged(item: Item) -> bool:
    return isinstance(item, Rejected) and item.reason is RejectCode.BAD_SIGNATURE


def _has_forged(items: list[Item]) -> bool:
    return any(map(_is_forged, items))
