"""Sensitivity of the fields of our records: which hold personal data or secrets.

`avro/tags.json` tags every text, binary and map field of each subject's latest version. It stands
beside the schema files, which are never edited, and a test compares both: a new field needs a tag.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Final


class FieldTag(StrEnum):
    """Sensitivity of a field."""

    PLAIN = "plain"
    PERSONAL = "personal"
    """Says something about a person beyond the casino's own id of them."""
    SECRET = "secret"  # noqa: S105 - a word, not a password
    """May hold credentials, or what a provider has not published yet."""


RAW_TAGS: Final[Mapping[str, FieldTag]] = {"value": FieldTag.SECRET}
"""Of a record without a schema: providers' bytes hold session tokens, names and card digits."""

PLAIN_HEADERS: Final = frozenset(
    {
        "brand",
        "connector",
        "content-type",
        "http-method",
        "received-at",
        "region",
        "traceparent",
    }
)
"""Names of record headers whose values are shown; any other may carry a signature or a token."""


@cache
def field_tags(subject: str | None) -> Mapping[str, FieldTag]:
    """Return the tag of each field of a subject by its path, as in `cause.actor`.

    None stands for records without a schema. Raises KeyError for an unknown subject.
    """
    if subject is None:
        return RAW_TAGS
    text = files("schemas").joinpath("avro", "tags.json").read_text(encoding="utf-8")
    return {path: FieldTag(word) for path, word in json.loads(text)[subject].items()}


def sensitive_fields(subject: str | None) -> tuple[str, ...]:
    """Return the paths of the fields that hold personal data or secrets, sorted."""
    tags = field_tags(subject)
    return tuple(sorted(path for path, tag in tags.items() if tag is not FieldTag.PLAIN))
