"""Masking of the keys that we hold, wherever they occur in what is shown.

A dialect knows where its provider puts a secret; this module knows the secret itself, and so also
finds it in a body that is broken, or of another format than the dialect reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

MASK: Final = "***"
SECRET_LENGTH_MIN: Final = 6
"""The fewest characters of a text that is masked.

Shorter ones occur too often in text that is not a secret.
"""


def secrets_of(keyring: Mapping[str, Any]) -> tuple[str, ...]:
    """Return every text of a keyring, however it is nested.

    Masking one that is not a secret does no harm.
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
    """Mask these secrets in a body, in UTF-8 and both byte orders of UTF-16."""
    for secret in secrets:
        for spelling in (secret.encode(), secret.encode("utf-16-le"), secret.encode("utf-16-be")):
            body = body.replace(spelling, MASK.encode())
    return body
