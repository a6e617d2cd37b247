"""Identity checks at Sumsub: one application until a final rejection, and another that passes."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from lab.conformance.examples.fill import Example, Expected, Fill
from lab.conformance.examples.written import ExampleWriter, sending_of
from lab.conformance.intents import Intent, Verb
from lab.conformance.writers.sumsub import (
    DIGESTS,
    REVIEWED,
    WRITER,
    applicant_of,
    head_of,
    print_body,
    wrap_body,
)
from lab.conformance.writers.writer import Message
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {"secret": "sumsub-5b1e7c90d2f84a36"}

_SUMSUB: Final = ExampleWriter(WRITER, KEYS)
_STATES: Final = {Verb.CHECK_REJECTED: "player.blocked", Verb.CHECK_PASSED: "player.released"}
_LEVEL_CHANGED: Final = "applicantLevelChanged"


def examples(fill: Fill) -> list[Example]:
    """Return the messages of a check.

    It is started, pending, rejected with another try, rejected finally, and passed; then come an
    older spelling, another level, a check that waits, and a verdict on a transaction.
    """
    write = partial(_example, fill)
    return [
        write(100, Verb.CHECK_STARTED),
        write(101, Verb.CHECK_PENDING),
        write(102, Verb.CHECK_FAILED),
        write(103, Verb.CHECK_REJECTED),
        write(104, Verb.CHECK_PASSED),
        _older(fill),
        _level_changed(fill),
        _awaiting_service(fill),
        _transaction_rejected(fill),
    ]


def rebatch(fill: Fill) -> list[Example]:
    """Return the same messages, the last one first.

    A message is one applicant's, so there is nothing to cut.
    """
    return examples(fill)[::-1]


def _example(fill: Fill, n: int, verb: Verb) -> Example:
    intent = _SUMSUB.intent(fill, verb, fill.uuid(n))
    message = WRITER.write([intent], sending_of(fill), KEYS)
    return _wrap(fill, intent, message, verb.value, intent.tx_id)


def _older(fill: Fill) -> Example:
    """Return an older message: without correlation id, and with whole seconds and an offset."""
    intent = _SUMSUB.intent(fill, Verb.CHECK_PASSED, "")
    at = f"{datetime.fromtimestamp(fill.first_at_ms // 1000, UTC):%Y-%m-%d %H:%M:%S}+0000"
    result = {"reviewStatus": "completed", "reviewResult": {"reviewAnswer": "GREEN"}}
    message = _sign(intent, head_of(intent) | {"createdAt": at} | result, DIGESTS[2])
    return _wrap(fill, intent, message, f"{REVIEWED}, an older spelling", at)


def _level_changed(fill: Fill) -> Example:
    more = {"previousLevelName": "basic", "levelName": "enhanced"}
    intent, message = _typed(fill, 106, _LEVEL_CHANGED, more)
    return _wrap(fill, intent, message, _LEVEL_CHANGED, intent.tx_id)


def _awaiting_service(fill: Fill) -> Example:
    """Return a message that says GREEN before the end of the check."""
    more = {"reviewStatus": "awaitingService", "reviewResult": {"reviewAnswer": "GREEN"}}
    intent, message = _typed(fill, 107, "applicantAwaitingService", more)
    return _wrap(fill, intent, message, intent.operation, intent.tx_id)


def _transaction_rejected(fill: Fill) -> Example:
    """Return the verdict on a transaction, which is not the player's."""
    result = {"reviewAnswer": "RED", "reviewRejectType": "FINAL"}
    transaction_id = fill.uuid(109)
    more = {"reviewStatus": "completed", "reviewResult": result, "kytDataTxnId": transaction_id}
    intent, message = _typed(fill, 108, "applicantKytTxnRejected", more)
    return _wrap(fill, intent, message, intent.operation, f"{transaction_id}:{intent.tx_id}")


def _typed(fill: Fill, n: int, operation: str, more: dict[str, Any]) -> tuple[Intent, Message]:
    """Return a message of another type than the verb's, with further fields."""
    intent = _SUMSUB.intent(fill, Verb.CHECK_STARTED, fill.uuid(n))
    intent = replace(intent, identity=(*intent.identity[:2], operation, intent.tx_id))
    at = datetime.fromtimestamp(fill.first_at_ms / 1000, UTC)
    fields = {
        "correlationId": intent.tx_id,
        "createdAtMs": f"{at:%Y-%m-%d %H:%M:%S}.{fill.first_at_ms % 1000:03d}",
        **more,
    }
    return intent, _sign(intent, head_of(intent) | fields, DIGESTS[1])


def _sign(intent: Intent, fields: dict[str, Any], digest: str) -> Message:
    return wrap_body(intent.player or "", print_body(fields), KEYS, digest)


def _wrap(fill: Fill, intent: Intent, message: Message, name: str, message_id: str) -> Example:
    """Return a message with its player event, and the player's state where it decides one."""
    event_id = f"{applicant_of(fill.player)}:{message_id}"
    expects = [Expected.event(intent.operation, event_id, fill.player)]
    state = _STATES.get(intent.verb)
    if state is not None:
        expects.append(Expected(state, event_id, fill.player, (("PLAYER_STATE", None),)))
    return _SUMSUB.wrap(fill, message, *expects, name=name, schema="webhook")
