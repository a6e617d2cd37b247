"""From a finding to its event: the stable id, and an example that may be shown to a person.

Pure.
"""

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
"""Characters of an example; the whole record is at its offset."""


def finding_id(finding: DriftFinding) -> str:
    """The id of its shape."""
    what, path, detail = finding.shape
    return drift_id(finding.provider, finding.version, finding.event, path, what.value, detail)


def build_drift_events(
    record: RawRecord, findings: Sequence[DriftFinding], secrets: Sequence[str] = ()
) -> list[SchemaDrift]:
    """The events that tell of what was found in one record; they share its example, which shows
    none of `secrets`.
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
    """A payload as text without what its dialect calls secret, and without `secrets`; in hex where
    it is no text.
    """
    try:
        shown = mask_secrets(redact(provider, value) or b"", secrets)
    except Exception:
        return "(withheld: its secrets could not be told from the rest)"
    try:
        text = shown.decode()
    except UnicodeDecodeError:
        text = "hex:" + shown[: EXAMPLE_MAX // 2].hex()
    # The topic's readers print it: control characters but line breaks have no business there.
    text = "".join(_printable(letter) for letter in text[:EXAMPLE_MAX])
    return text if len(text) < EXAMPLE_MAX else text[: EXAMPLE_MAX - 1] + "…"


def _printable(letter: str) -> str:
    return letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}"
