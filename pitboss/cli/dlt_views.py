"""Dead letters as `pitboss dlt` shows them: nothing secret without `--reveal-secrets`."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from runtime.dead_letters.before_rebind import topic_today
from runtime.dead_letters.headers import format_position
from runtime.dead_letters.letters import Action, DeadLetterCase, Letter
from runtime.dead_letters.park_store import OpenHold
from schemas.events import DeadLetter
from schemas.topics import provider_of
from streams.providers.redaction import MASK, mask_secrets
from streams.providers.registry import redact

SECRET_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "http-query"}
)
"""Headers in which HTTP, and not a provider's own scheme, carries credentials."""


def case_view(
    case: DeadLetterCase, waiting: int, secrets: Sequence[str], *, is_revealing: bool
) -> dict[str, Any]:
    """Return everything about a case.

    The body is text where it can be, else base64. Without `is_revealing`, `secrets` are masked
    everywhere.
    """
    letter = case.letter
    body = letter.value if is_revealing else _redact(letter, secrets)
    text = None if body is None else _printable(body)
    return {
        "source": format_position(case.source),
        "state": case.state.value,
        "source_at": letter.source_timestamp,
        "waiting": waiting,
        "letters": [_letter_view(one) for one in case.letters],
        "key": None if letter.key is None else _text(letter.key),
        "headers": [
            [one.name, _header(one.name, one.value, is_revealing=is_revealing)]
            for one in letter.headers
        ],
        "value": text,
        "value_base64": (
            None if body is None or text is not None else base64.b64encode(body).decode()
        ),
        "is_redacted": body != letter.value,
        "actions": [action_view(action) for action in case.actions],
    }


def _letter_view(letter: Letter) -> dict[str, Any]:
    content = letter.letter
    return {
        "place": format_position(letter.position),
        "item": content.record_index,
        "code": content.code,
        "detail": content.detail,
        "stage": content.stage,
        "code_version": content.code_version,
        "player": content.player_id,
    }


def case_lines(view: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the view as labelled lines.

    A body that is not text is shown in hex, with its printable bytes beside it.
    """
    yield "source", f"{view['source']}, appended {format_time(view['source_at'])}"
    yield "state", view["state"]
    for one in view["letters"]:
        item = "" if one["item"] is None else f" (item {one['item']})"
        yield "reason", f"{one['code']}{item}: {one['detail']}"
        yield "", f"{one['stage']} {one['code_version']}, dead letter {one['place']}"
        if one["player"] is not None:
            yield "player", one["player"]
    if view["waiting"]:
        yield "waiting", f"{view['waiting']} records of the same key wait behind it"
    yield "key", "none" if view["key"] is None else view["key"]
    for name, value in view["headers"]:
        yield "header", f"{name}: {value}"
    for action in view["actions"]:
        yield action["action"].lower(), _action_text(action)
    yield "body" + (" (redacted)" if view["is_redacted"] else ""), _body_text(view)


def action_view(action: Action) -> dict[str, Any]:
    """Return an action with its positions as text."""
    went_to = "" if action.appended_at is None else format_position(action.appended_at)
    return {
        "id": action.id,
        "action": action.action,
        "source": format_position(action.source),
        "code": action.code,
        "by": action.actor,
        "why": action.reason,
        "at": action.requested_at,
        "is_forced": action.is_forced,
        "is_done": action.is_done,
        "went_to": went_to if action.is_done else "(not known to have been appended)",
    }


def hold_view(hold: OpenHold) -> dict[str, Any]:
    """Return a player whose records wait, with text for keys and positions; times in epoch ms."""
    return {
        "player": _text(hold.key),
        "topic": hold.topic,
        "waits_for": f"{hold.topic}-{hold.partition}@{hold.waits_for}",
        "code": hold.code,
        "since": hold.since_ms,
        "waiting": hold.waiting,
        "waiting_bytes": hold.waiting_bytes,
        "is_full": hold.full_from is not None,
        "first_at": hold.first_ms,
        "last_at": hold.last_ms,
    }


def format_time(epoch_ms: int) -> str:
    """Format a time as UTC to the second."""
    return f"{datetime.fromtimestamp(epoch_ms // 1_000, UTC):%Y-%m-%d %H:%M:%S}"


def _redact(letter: DeadLetter, secrets: Sequence[str]) -> bytes | None:
    """Return the body as its provider's dialects redact it, and without any key that we hold."""
    try:
        body = redact(provider_of(topic_today(letter.source.topic)), letter.value)
    except ValueError:
        body = letter.value  # a record of a topic of ours, which holds no secrets
    if body is None:
        return None
    return mask_secrets(body, secrets)


def _header(name: str, value: bytes | None, *, is_revealing: bool) -> str | None:
    if value is None:
        return None
    return MASK if not is_revealing and name.lower() in SECRET_HEADERS else _text(value)


def _text(raw: bytes) -> str:
    text = _printable(raw)
    return f"0x{raw.hex()}" if text is None else text


def _printable(raw: bytes) -> str | None:
    """Return the bytes as text if nothing in them can disturb a terminal."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return (
        text
        if all(character.isprintable() or character in "\n\r\t" for character in text)
        else None
    )


def _body_text(view: dict[str, Any]) -> str:
    if view["value"] is not None:
        return str(view["value"])
    if view["value_base64"] is None:
        return f"none here; the record is {view['source']}"
    return "\n".join(_hex_lines(base64.b64decode(view["value_base64"])))


def _hex_lines(raw: bytes) -> Iterator[str]:
    for first in range(0, len(raw), 16):
        row = raw[first : first + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{first:08x}  {row.hex(' '):<47}  {shown}"


def _action_text(action: dict[str, Any]) -> str:
    to = f" → {action['went_to']}" if action["went_to"] else ""
    return f"{format_time(action['at'])} by {action['by']}: {action['why']}{to}"
