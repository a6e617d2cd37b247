"""Rendering of an integration log as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from pitboss.integration_log.model import IntegrationLog
from schemas.events import SchemaDrift

_UNKNOWN: Final = "Not known, see above."
_DETAIL_MAX: Final = 120


def render_markdown(log: IntegrationLog) -> str:
    """Render the log as one Markdown document."""
    parts = [
        f"# Integration log, {_time(log.since)} to {_time(log.until)}",
        *[f"> {reason}" for reason in log.unknown],
        *["## Versions and their traffic", _versions(log)],
        *["## Drift found", _drift(log.drift)],
        *["## Schema changes", _changes(log)],
        *["## Rejected records by code", _rejected(log)],
        *["## Conformance of the adapters", _conformance(log)],
    ]
    return "\n\n".join(parts) + "\n"


def _versions(log: IntegrationLog) -> str:
    rows = [
        (
            line.provider,
            line.version,
            line.state or "not in the registry",
            line.retires_on or "",
            "" if line.days_to_retirement is None else line.days_to_retirement,
            "not known" if line.events is None else f"{line.events:,}",
        )
        for line in log.versions
    ]
    return _table(("provider", "version", "state", "retires on", "days left", "events"), rows)


def _drift(drift: Sequence[SchemaDrift] | None) -> str:
    if drift is None:
        return _UNKNOWN
    if not drift:
        return "None was found."
    rows = [
        (
            _time(one.seen_at),
            one.provider,
            one.provider_version,
            one.event,
            one.what,
            _code(one.path),
            _code(one.detail[:_DETAIL_MAX]),
            _code(f"{one.source.topic}-{one.source.partition}@{one.source.offset}"),
            one.rejected or "",
        )
        for one in drift
    ]
    heads = (
        "first seen",
        "provider",
        "version",
        "message",
        "what",
        "where",
        "detail",
        "record",
        "refused",
    )
    return _table(heads, rows)


def _changes(log: IntegrationLog) -> str:
    if log.schema_changes is None:
        count = len(log.schemas)
        return f"No earlier log to compare with; {count} schemas are noted in this one."
    if not log.schema_changes:
        return f"None since {_code(log.compared_with or '')}."
    rows = [(_code(change.name), change.change) for change in log.schema_changes]
    return f"Since {_code(log.compared_with or '')}:\n\n{_table(('schema', 'change'), rows)}"


def _rejected(log: IntegrationLog) -> str:
    if log.rejected is None:
        return _UNKNOWN
    if not log.rejected:
        return "None was rejected."
    rows = [
        (line.provider, line.code, f"{line.records:,}", f"{line.open:,}") for line in log.rejected
    ]
    return _table(("provider", "code", "records", "still open"), rows)


def _conformance(log: IntegrationLog) -> str:
    rows = [
        (
            one.adapter,
            "passed" if one.has_passed else "FAILED",
            one.examples,
            one.fuzzed,
            len(one.faults),
        )
        for one in log.conformance
    ]
    text = _table(("adapter", "result", "examples", "fuzzed messages", "faults"), rows)
    for one in log.conformance:
        if one.faults:
            text += f"\n\n### {one.adapter}\n\n" + "\n".join(
                f"- {_code(fault)}" for fault in one.faults
            )
    return text


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [
        " | ".join(heads),
        " | ".join("---" for _ in heads),
        *[" | ".join(map(str, row)) for row in rows],
    ]
    return "\n".join(f"| {line} |" for line in lines)


def _code(text: str) -> str:
    """Format a provider's text as code in a table: no character may end the code or the cell."""
    flat = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{flat}`" if flat else ""


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
