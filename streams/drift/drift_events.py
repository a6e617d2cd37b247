"""Conversion of findings to events, with a stable id and a redacted example. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runtime.kafka.records import RawRecord
from schemas.events import Position, SchemaDrift
from schemas.identity import drift_id
from streams.drift.checking import DriftFinding
from streams.providers.redaction import mask_secrets
from streams.providers.registry import redact

EXAMPLE_MAX: Final = 4_000
"""Characters of an example at most; the whole record is at its offset."""


def finding_id(finding: DriftFinding) -> str:
    """Return the drift id of a finding's shape."""
    what, path, detail = finding.shape
    return drift_id(finding.provider, finding.version, finding.event, path, what.value, detail)


def build_drift_events(
    record: RawRecord, findings: Sequence[DriftFinding], secrets: Sequence[str] = ()
) -> list[SchemaDrift]:
    """Return the events for the findings of one record.

    They share its example, which shows none of `secrets`.
    """
    if not findings:
        return []
    example = redacted_example(findings[0].provider, record.value or b"", secrets)
    return [_drift_of(record, finding, example) for finding in findings]


def _drift_of(record: RawRecord, finding: DriftFinding, example: str) -> SchemaDrift:
    what, path, detail = finding.shape
    return SchemaDrift(
        finding_id(finding),
        finding.provider,
        finding.version,
        finding.event,
        finding.schema,
        what.value,
        path,
        detail,
        example,
        Position(record.topic, record.partition, record.offset),
        record.timestamp,
        None if finding.rejected is None else finding.rejected.value,
    )


def redacted_example(provider: str, value: bytes, secrets: Sequence[str] = ()) -> str:
    """Return a payload as text without its dialect's secrets and without `secrets`.

    In hex if not UTF-8.

    It has at most EXAMPLE_MAX characters.
    """
    try:
        shown = mask_secrets(redact(provider, value) or b"", secrets)
    except Exception:  # noqa: BLE001 - what cannot be redacted is not shown
        return "(withheld: its secrets could not be separated from the rest)"
    try:
        text = shown.decode()
    except UnicodeDecodeError:
        text = "hex:" + shown[: EXAMPLE_MAX // 2].hex()
    # Readers of the topic print it, so it has no control characters except line breaks and tabs.
    text = "".join(_printable(letter) for letter in text[:EXAMPLE_MAX])
    return text if len(text) < EXAMPLE_MAX else text[: EXAMPLE_MAX - 1] + "…"


def _printable(letter: str) -> str:
    return letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}"
