"""A release after this one: its schema of events has a field more, and its readers know both."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from schemas import codec
from schemas.events import WalletTransaction
from schemas.registry import Registry, Schema, released_registry

SUBJECT = "wallet-transaction"
POINT = "of a newer release"
"""What a test's worker is started as."""


class NewerRegistry(Registry):
    """The schemas of the newer release as its readers are upgraded: they write the version of before."""

    def __init__(self) -> None:
        self.released = released_registry()
        last = self.released.latest(SUBJECT)
        fields = copy.deepcopy(last.json)
        assert isinstance(fields, dict)
        added = {"name": "added_later", "type": ["null", "string"], "default": None}
        fields["fields"] = [*fields["fields"], added]
        unused = max(schema.id for schema in self.released) + 1
        self.newer = Schema(SUBJECT, last.version + 1, unused, fields)
        super().__init__({schema.id: schema for schema in (*self.released, self.newer)})

    def latest(self, subject: str) -> Schema:
        return self.released.latest(subject)


newer_registry = cache(NewerRegistry)


def encode_newer(event: WalletTransaction) -> bytes:
    """Return an event as the writers of the newer release encode it: with its field, a null."""
    body = codec.encoder(WalletTransaction)(event)[5:]
    return codec.frame_of(newer_registry().newer.id) + body + b"\0"


def upgrade() -> None:
    """Let the decoders that this process makes from now on be of the newer release."""
    _read_by(newer_registry)


@contextmanager
def upgraded() -> Iterator[None]:
    """Let the decoders that this process makes meanwhile be of the newer release."""
    upgrade()
    try:
        yield
    finally:
        _read_by(released_registry)


def _read_by(registry: Callable[[], Registry]) -> None:
    module: Any = codec
    module.released_registry = registry
    module.decoder.cache_clear()
