"""Keys that we hold are hidden wherever they stand in what is shown, whatever surrounds them.

A dialect knows where its provider puts a secret; this knows the secret itself, and so also finds it
in a body that is broken, or of another format than the dialect reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

MASK: Final = "***"
SECRET_LENGTH_MIN: Final = 6
"""Shorter ones are found in too much that is no secret."""


def secrets_of(keyring: Mapping[str, Any]) -> tuple[str, ...]:
    """Every text of a keyring, however it is nested; what is no secret there does no harm when it
    is hidden.
    """
    return tuple(text for text in _texts_of(keyring) if len(text) >= SECRET_LENGTH_MIN)


def _texts_of(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from _texts_of(value)
    elif isinstance(node, Sequence):
        for value in node:
            yield from _texts_of(value)


def mask_secrets(body: bytes, secrets: Iterable[str]) -> bytes:
    """A body without these secrets, in any of the encodings that a body may have."""
    for secret in secrets:
        for spelling in (secret.encode(), secret.encode("utf-16-le"), secret.encode("utf-16-be")):
            body = body.replace(spelling, MASK.encode())
    return body
