"""The house's own API as an OpenAPI 3.1 document, made from the types that read its messages.

Source of the form: spec.openapis.org/oas/v3.1.0. The schemas are those of JSON Schema 2020-12 that
msgspec writes, so a field that is added to a message is in the document.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from schemas.events import Outcome
from streams.providers.house import SIGNATURE_HEADER
from streams.providers.house_messages import MESSAGES, BalanceQuestion
from streams.providers.questions import UNKNOWN_PLAYER

VERSION: Final = "1"
_JSON: Final = "application/json"
_REF: Final = "#/components/schemas/{name}"


class Decided(msgspec.Struct, frozen=True, omit_defaults=True):
    """The ledger's decision; `outcome` and `reason` are its own words, RECORDED of a heartbeat."""

    outcome: str
    reason: str
    message: str
    event_id: str = ""
    currency: str | None = None
    balance: str | None = None


class Refused(msgspec.Struct, frozen=True):
    """A message that was not taken: why, and what is wrong with it."""

    outcome: Literal["REJECTED", "UNAVAILABLE"]
    reason: str
    message: str


class Balance(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a player may bet; `outcome` is OK, or why a bet would be refused."""

    outcome: str
    message: str
    player_id: str
    currency: str | None = None
    balance: str | None = None


BALANCE_OUTCOMES: Final = (
    "OK",
    Outcome.REFUSED_BLOCKED.value,
    Outcome.REFUSED_LIMIT.value,
    Outcome.REFUSED_CURRENCY.value,
    UNKNOWN_PLAYER,
)

AMOUNT_FORM: Final = "Decimal text in major units, at most the currency's decimals: 12.50"
_EXAMPLES: Final[dict[str, dict[str, str]]] = {
    "deposit.opened": {"amount": "50.00", "currency": "EUR", "psp": "adyen"},
    "withdrawal.requested": {"amount": "20.00", "currency": "EUR"},
    "adjustment": {
        "amount": "-1.50",
        "currency": "EUR",
        "actor": "ann",
        "reason": "a round that was paid twice",
    },
    "player.blocked": {"actor": "ann", "reason": "asked to be excluded"},
    "player.limited": {"actor": "ann", "reason": "asked", "amount": "5.00", "currency": "EUR"},
}


def make_document(base_url: str) -> dict[str, Any]:
    """Return the document; `base_url` is what stands before the provider's paths."""
    types = (*MESSAGES, BalanceQuestion, Decided, Refused, Balance)
    refs, components = msgspec.json.schema_components(types, ref_template=_REF)
    schemas = {name.lstrip("_"): _rename(schema) for name, schema in components.items()}
    messages = [_rename(ref) for ref in refs[: len(MESSAGES)]]
    schemas["Message"] = {
        "oneOf": messages,
        "discriminator": {
            "propertyName": "operation",
            "mapping": {
                str(message.__struct_config__.tag): ref["$ref"]
                for message, ref in zip(MESSAGES, messages, strict=True)
            },
        },
    }
    schemas["Balance"]["properties"]["outcome"] = {"enum": list(BALANCE_OUTCOMES)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pitboss: the house's API",
            "version": VERSION,
            "description": (
                "Deposits, withdrawals, adjustments, bonuses, player states and balances, from "
                "the casino's own cashier and CRM. Amounts are decimal text in major units, times "
                "RFC 3339. The same message may be sent again: it is decided once."
            ),
        },
        "servers": [{"url": base_url}],
        "paths": {"/v1": {"post": _message_call()}, "/v1/balance": {"post": _balance_call()}},
        "components": {"schemas": schemas, "securitySchemes": _security()},
        "security": [{"signature": []}],
    }


def _security() -> dict[str, Any]:
    return {
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": SIGNATURE_HEADER,
            "description": "Hex HMAC-SHA256 of the raw body under the installation's `hmac_hex`.",
        }
    }


def _message_call() -> dict[str, Any]:
    common = {"id": "c-1", "player_id": "p-1001", "at": "2026-11-22T10:15:30Z"}
    return {
        "operationId": "sendMessage",
        "summary": "Report what happened, and learn how the ledger decided it",
        "requestBody": _body(
            {"$ref": _REF.format(name="Message")},
            {
                operation: {"value": {"operation": operation, **common, **fields}}
                for operation, fields in _EXAMPLES.items()
            },
        ),
        "responses": {
            "200": _answer("Decided, also where it is refused", "Decided"),
            **_failures(),
        },
    }


def _balance_call() -> dict[str, Any]:
    example = {"player_id": "p-1001", "at": "2026-11-22T10:15:30Z", "currency": "EUR"}
    return {
        "operationId": "askBalance",
        "summary": "Ask what a player may bet now",
        "description": "`at` is within five minutes of the receipt, so that a message that was "
        "seen on its way tells nothing later.",
        "requestBody": _body(
            {"$ref": _REF.format(name="BalanceQuestion")}, {"balance": {"value": example}}
        ),
        "responses": {
            "200": _answer("The balance of the wallet that is meant", "Balance"),
            "404": _answer("Nothing is known of this player, and no currency is named", "Balance"),
            **_failures(),
        },
    }


def _failures() -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "400": _answer("Not a message of this API", "Refused"),
        "401": _answer("Not signed with the installation's key", "Refused"),
        "403": {"description": "Called from elsewhere than the house", "content": text},
        "408": {"description": "The body came too slowly", "content": text},
        "413": {"description": "The body is too large", "content": text},
        "503": _answer("Not decided in time: send the same message again", "Refused"),
    }


def _body(schema: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {_JSON: {"schema": schema, "examples": examples}}}


def _answer(description: str, name: str) -> dict[str, Any]:
    schema = {"$ref": _REF.format(name=name)}
    return {"description": description, "content": {_JSON: {"schema": schema}}}


def _rename(schema: Any) -> Any:
    """Return a schema whose names have no leading underscore, and whose amounts have a form."""
    if isinstance(schema, dict):
        made = {key: _rename(value) for key, value in schema.items()}
        for name in {"amount", "wagering_amount"} & made.get("properties", {}).keys():
            made["properties"][name]["description"] = AMOUNT_FORM
        for key, prefix in (("$ref", "#/components/schemas/"), ("title", "")):
            if isinstance(made.get(key), str):
                made[key] = prefix + made[key].removeprefix(prefix).lstrip("_")
        return made
    return [_rename(item) for item in schema] if isinstance(schema, list) else schema
